//! Bytes of one in-memory file: a sparse, copy-on-write table of pages.

use std::sync::Arc;

/// The unit of sharing and of write-back.
pub(crate) const PAGE: usize = 4096;
/// The unit that a disk writes as a whole.
pub(crate) const SECTOR: usize = 512;
/// Pages in a leaf of the table.
const LEAF: usize = 64;

pub(crate) type Page = [u8; PAGE];
type Leaf = [Option<Arc<Page>>; LEAF];

const NO_PAGE: Option<Arc<Page>> = None;

/// Pages by number in two levels; an absent page is all zero. A clone costs one pointer.
#[derive(Debug, Clone, Default)]
pub(crate) struct PageTable {
    leaves: Arc<Vec<Option<Arc<Leaf>>>>,
}

impl PageTable {
    pub(crate) fn get(&self, number: u64) -> Option<&Arc<Page>> {
        let (leaf, slot) = place(number);
        self.leaves.get(leaf)?.as_ref()?[slot].as_ref()
    }

    pub(crate) fn set(&mut self, number: u64, page: Option<Arc<Page>>) {
        if page.is_none() && self.get(number).is_none() {
            return;
        }
        *self.slot_mut(number) = page;
    }

    pub(crate) fn page_mut(&mut self, number: u64) -> &mut Page {
        Arc::make_mut(self.slot_mut(number).get_or_insert_with(|| Arc::new([0; PAGE])))
    }

    /// Drops the pages from `first` on.
    fn drop_from(&mut self, first: u64) {
        let (leaf, slot) = place(first);
        if self.leaves.len() <= leaf {
            return;
        }
        let leaves = Arc::make_mut(&mut self.leaves);
        leaves.truncate(leaf + 1);
        if let Some(last) = &mut leaves[leaf]
            && last[slot..].iter().any(Option::is_some)
        {
            Arc::make_mut(last)[slot..].fill(NO_PAGE);
        }
    }

    /// The pages that are present, by rising number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Arc<Page>)> {
        self.leaves
            .iter()
            .enumerate()
            .filter_map(|(at, leaf)| leaf.as_ref().map(|leaf| (at, leaf)))
            .flat_map(|(at, leaf)| {
                let pages = leaf.iter().enumerate();
                pages.filter_map(move |(slot, page)| {
                    page.as_ref().map(|page| ((at * LEAF + slot) as u64, page))
                })
            })
    }

    fn slot_mut(&mut self, number: u64) -> &mut Option<Arc<Page>> {
        let (leaf, slot) = place(number);
        let leaves = Arc::make_mut(&mut self.leaves);
        if leaves.len() <= leaf {
            leaves.resize(leaf + 1, None);
        }
        let leaf = leaves[leaf].get_or_insert_with(|| Arc::new([NO_PAGE; LEAF]));
        &mut Arc::make_mut(leaf)[slot]
    }
}

fn place(number: u64) -> (usize, usize) {
    ((number / LEAF as u64) as usize, (number % LEAF as u64) as usize)
}

/// Part of a page that one write replaced.
#[derive(Debug, Clone)]
pub(crate) struct PageWrite {
    pub(crate) page: u64,
    start: usize,
    bytes: Stored,
}

#[derive(Debug, Clone)]
enum Stored {
    Part(Arc<[u8]>),
    Whole(Arc<Page>),
}

impl PageWrite {
    pub(crate) fn apply(&self, page: &mut Page) {
        match &self.bytes {
            Stored::Part(bytes) => {
                page[self.start..self.start + bytes.len()].copy_from_slice(bytes)
            }
            Stored::Whole(bytes) => *page = **bytes,
        }
    }
}

/// Pages and length of a file.
///
/// Invariant: no byte at or past `len` differs from zero; a file that grows shows zeros.
#[derive(Debug, Clone, Default)]
pub(crate) struct Content {
    pub(crate) pages: PageTable,
    pub(crate) len: u64,
}

impl Content {
    pub(crate) fn read_at(&self, buf: &mut [u8], offset: u64) -> usize {
        let left = self.len.saturating_sub(offset);
        let count = usize::try_from(left).map_or(buf.len(), |left| left.min(buf.len()));
        let mut done = 0;
        while done < count {
            let (page, start) = split(offset + done as u64);
            let step = (PAGE - start).min(count - done);
            let target = &mut buf[done..done + step];
            match self.pages.get(page) {
                Some(page) => target.copy_from_slice(&page[start..start + step]),
                None => target.fill(0),
            }
            done += step;
        }
        count
    }

    pub(crate) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.len).unwrap_or(usize::MAX)];
        self.read_at(&mut bytes, 0);
        bytes
    }

    /// Writes `bytes` at `offset`, growing the file if needed, and tells `written` each page's part.
    pub(crate) fn write_at(
        &mut self,
        offset: u64,
        bytes: &[u8],
        mut written: impl FnMut(PageWrite),
    ) {
        let mut done = 0;
        while done < bytes.len() {
            let (page, start) = split(offset + done as u64);
            let step = (PAGE - start).min(bytes.len() - done);
            let part = &bytes[done..done + step];
            self.pages.page_mut(page)[start..start + step].copy_from_slice(part);
            let bytes = match self.pages.get(page) {
                Some(whole) if step == PAGE => Stored::Whole(Arc::clone(whole)),
                _ => Stored::Part(part.into()),
            };
            written(PageWrite { page, start, bytes });
            done += step;
        }
        self.len = self.len.max(offset + bytes.len() as u64);
    }

    /// Cuts the file or lets it grow by zeros.
    pub(crate) fn set_len(&mut self, len: u64) {
        if len < self.len {
            let (page, start) = split(len);
            match start {
                0 => self.pages.drop_from(page),
                _ => {
                    self.pages.drop_from(page + 1);
                    if self.pages.get(page).is_some() {
                        self.pages.page_mut(page)[start..].fill(0);
                    }
                }
            }
        }
        self.len = len;
    }
}

/// Page number and offset within the page.
fn split(offset: u64) -> (u64, usize) {
    (offset / PAGE as u64, (offset % PAGE as u64) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_and_regrown_bytes_read_as_zeros() {
        let mut content = Content::default();
        content.write_at(0, &[7; 3 * PAGE], |_| {});
        content.set_len(PAGE as u64 + 10);
        content.set_len(3 * PAGE as u64);
        let bytes = content.to_vec();
        assert!(bytes[..PAGE + 10].iter().all(|byte| *byte == 7));
        assert!(bytes[PAGE + 10..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_clone_keeps_its_bytes() {
        let mut content = Content::default();
        content.write_at(5000, b"old", |_| {});
        let copy = content.clone();
        content.write_at(5000, b"new", |_| {});
        assert_eq!(&copy.to_vec()[5000..], b"old");
        assert_eq!(&content.to_vec()[5000..], b"new");
    }

    #[test]
    fn far_pages_cost_no_memory() {
        let mut content = Content::default();
        content.set_len(5 << 30);
        content.write_at((5 << 30) - 3, b"end", |_| {});
        assert_eq!(content.pages.iter().count(), 1);
        let mut buf = [1; 6];
        assert_eq!(content.read_at(&mut buf, (5 << 30) - 6), 6);
        assert_eq!(&buf, b"\0\0\0end");
    }
}
