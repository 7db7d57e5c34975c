//! Crash images: what a power cut may leave of unsynced changes.
//!
//! | change | what may be found afterwards |
//! | --- | --- |
//! | bytes of a page | any version since the last sync; two versions mixed by 512-byte sectors; zeros or stale bytes if the page was never synced |
//! | pages of one write | each on its own |
//! | length after appends | anything between the synced and the current one, whatever became of the data |
//! | preallocation, truncation | done or not |
//! | names | per profile a prefix or a subset of the changes; a rename wholly or not at all |
//!
//! Each file and the names draw a mood first (keep all, lose all, lose one, any), because uniform draws
//! over many changes would hardly ever show the extremes, and extremes find bugs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::content::{Content, PAGE, Page, PageWrite, SECTOR};
use super::disk::{DirNode, DirOp, Disk, Ino, NameChange, Names, Node, ROOT};
use super::file::{Effect, FileNode};
use crate::rng::Rng;

/// Which promises the disk and its file system keep beyond those of [`Fs`](crate::Fs) in a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum CrashProfile {
    /// POSIX by the letter: any subset of the unsynced changes, pages torn at sectors, stale bytes, lengths
    /// and data in any order; a synced file without a synced name may be gone.
    Strict,
    /// A journal in ordered mode (ext4): a prefix of the name changes survives, and any sync commits those
    /// before it; a length never shows bytes that were not written; pages inside the file are free.
    Ordered,
    /// Metadata first (XFS before a file's first sync, ext4 in writeback mode): all names and lengths
    /// survive, bytes need not.
    SizeFirst,
    /// Only what was synced.
    DropAll,
    /// Everything, as after a kill of the process alone. Pages that a failed sync marked clean are still lost.
    KeepAll,
    /// Each change survives whole or not at all, by a fair coin; only lengths are cut anywhere.
    Random50,
    /// The disk acknowledges syncs and ignores them: any file, and the tree of names, may be as before one
    /// of the latest syncs or as at the start of this system. Nothing can be promised but detection.
    LyingDisk,
}

impl CrashProfile {
    /// Every profile.
    pub const ALL: [CrashProfile; 7] = [
        CrashProfile::Strict,
        CrashProfile::Ordered,
        CrashProfile::SizeFirst,
        CrashProfile::DropAll,
        CrashProfile::KeepAll,
        CrashProfile::Random50,
        CrashProfile::LyingDisk,
    ];
}

/// The disk after a power cut; `past` holds the states that a lying disk may fall back to.
pub(crate) fn image(disk: &Disk, past: &[Disk], profile: CrashProfile, seed: u64) -> Disk {
    let mut rng = Rng::new(seed ^ ((profile as u64) << 56));
    match profile {
        CrashProfile::LyingDisk => lying_image(disk, past, &mut rng),
        _ => Resolver { disk, profile, rng: &mut rng, stale: None }.image(),
    }
}

/// Mixes the honest image with that of an earlier moment: the tree from one of them, each file from one.
fn lying_image(disk: &Disk, past: &[Disk], rng: &mut Rng) -> Disk {
    let honest = Resolver { disk, profile: CrashProfile::Strict, rng, stale: None }.image();
    let Some(earlier) = past.get(rng.index(past.len())) else { return honest };
    let earlier =
        Resolver { disk: earlier, profile: CrashProfile::Strict, rng, stale: None }.image();
    let (tree, other) = if rng.coin() { (honest, earlier) } else { (earlier, honest) };
    let lose_bytes = rng.coin();
    let mut nodes = (*tree.nodes).clone();
    for (ino, node) in &mut nodes {
        if let (true, Node::File(_), Some(lie)) =
            (lose_bytes && rng.coin(), &**node, other.nodes.get(ino))
        {
            *node = Arc::clone(lie);
        }
    }
    finish(nodes, disk)
}

/// What becomes of a group of changes.
#[derive(Clone, Copy)]
enum Mood {
    KeepAll,
    DropAll,
    /// All but the one at this position.
    LoseOne(usize),
    /// Those before this position.
    Prefix(usize),
    Any,
}

impl Mood {
    fn draw(rng: &mut Rng, len: usize) -> Self {
        match rng.below(8) {
            0 => Mood::KeepAll,
            1 => Mood::DropAll,
            2 => Mood::LoseOne(rng.index(len)),
            3 => Mood::Prefix(rng.index(len + 1)),
            _ => Mood::Any,
        }
    }

    fn keeps(self, at: usize, rng: &mut Rng) -> bool {
        match self {
            Mood::KeepAll => true,
            Mood::DropAll => false,
            Mood::LoseOne(lost) => at != lost,
            Mood::Prefix(end) => at < end,
            Mood::Any => rng.coin(),
        }
    }
}

struct Resolver<'a> {
    disk: &'a Disk,
    profile: CrashProfile,
    rng: &'a mut Rng,
    /// Pages of all files, from which stale bytes are taken; found when first needed.
    stale: Option<Vec<Arc<Page>>>,
}

impl Resolver<'_> {
    fn image(mut self) -> Disk {
        let names = self.names();
        let mut nodes = BTreeMap::new();
        let mut todo = vec![ROOT];
        let mut seen = BTreeSet::new();
        while let Some(ino) = todo.pop() {
            if !seen.insert(ino) {
                continue;
            }
            if let Some(children) = names.get(&ino) {
                todo.extend(children.values());
            }
        }
        for ino in seen {
            match self.disk.nodes.get(&ino).map(|node| &**node) {
                Some(Node::File(file)) => {
                    let content = self.content(file);
                    let file = FileNode {
                        durable: content.clone(),
                        current: content,
                        ..FileNode::default()
                    };
                    nodes.insert(ino, Arc::new(Node::File(file)));
                }
                Some(Node::Dir(_)) => {
                    let names = Arc::new(names.get(&ino).cloned().unwrap_or_default());
                    let dir = DirNode { durable: Arc::clone(&names), current: names };
                    nodes.insert(ino, Arc::new(Node::Dir(dir)));
                }
                None => {}
            }
        }
        finish(nodes, self.disk)
    }

    // --- names ---

    /// The names of every directory: the durable ones with the surviving changes applied in order.
    fn names(&mut self) -> BTreeMap<Ino, Names> {
        let mut names: BTreeMap<Ino, Names> = BTreeMap::new();
        for (ino, node) in self.disk.nodes.iter() {
            if let Node::Dir(dir) = &**node {
                names.insert(*ino, (*dir.durable).clone());
            }
        }
        for op in self.surviving_changes() {
            apply(&mut names, &op);
        }
        names
    }

    fn surviving_changes(&mut self) -> Vec<Arc<DirOp>> {
        let ops = &self.disk.dir_ops;
        let mut kept: Vec<bool> = match self.profile {
            CrashProfile::DropAll => vec![false; ops.len()],
            CrashProfile::KeepAll | CrashProfile::SizeFirst => vec![true; ops.len()],
            CrashProfile::Ordered => {
                let committed = ops.iter().filter(|op| op.seq < self.disk.journal_floor).count();
                let end = committed + self.rng.index(ops.len() - committed + 1);
                (0..ops.len()).map(|at| at < end).collect()
            }
            CrashProfile::Random50 => ops.iter().map(|_| self.rng.coin()).collect(),
            CrashProfile::Strict | CrashProfile::LyingDisk => {
                let mood = Mood::draw(self.rng, ops.len());
                (0..ops.len()).map(|at| mood.keeps(at, self.rng)).collect()
            }
        };
        keep_rename_chains(ops, &mut kept);
        ops.iter().zip(kept).filter(|(_, kept)| *kept).map(|(op, _)| Arc::clone(op)).collect()
    }

    // --- bytes ---

    fn content(&mut self, file: &FileNode) -> Content {
        let effects = file.pending.oldest_first();
        match self.profile {
            CrashProfile::KeepAll => kept_content(file),
            CrashProfile::DropAll => file.durable.clone(),
            _ if effects.is_empty() => file.durable.clone(),
            _ => self.torn_content(file, &effects),
        }
    }

    fn torn_content(&mut self, file: &FileNode, effects: &[&Effect]) -> Content {
        let (mut content, effects) = self.draw_truncation(file, effects);
        let synced_len = content.len;
        let len = self.draw_len(synced_len, effects);
        let mut versions: BTreeMap<u64, Vec<&PageWrite>> = BTreeMap::new();
        for effect in effects {
            if let Effect::Write(write) = effect {
                versions.entry(write.page).or_default().push(write);
            }
        }
        let mood = Mood::draw(self.rng, versions.len());
        for (at, (number, writes)) in versions.iter().enumerate() {
            // Bytes appended in order are on the disk before the length that shows them.
            let appended = number * PAGE as u64 >= synced_len && !preallocated(effects);
            let page = if self.profile == CrashProfile::Ordered && appended {
                version(content.pages.get(*number), writes, writes.len())
            } else {
                let fresh = appended && content.pages.get(*number).is_none();
                let keep = mood.keeps(at, self.rng);
                self.draw_page(content.pages.get(*number), writes, keep, mood, fresh)
            };
            content.pages.set(*number, Some(Arc::new(page)));
        }
        if self.profile == CrashProfile::Ordered && !preallocated(effects) {
            self.fill_appended_tail(&mut content, synced_len, &versions);
        }
        // First up to where data may lie, then back: pages past the drawn length must not show up.
        content.len = u64::MAX;
        content.set_len(len);
        content
    }

    /// In ordered mode the page that held the old end shows the appended bytes too.
    fn fill_appended_tail(
        &self,
        content: &mut Content,
        synced_len: u64,
        versions: &BTreeMap<u64, Vec<&PageWrite>>,
    ) {
        let (number, start) = (synced_len / PAGE as u64, (synced_len % PAGE as u64) as usize);
        if let (true, Some(writes)) = (start > 0, versions.get(&number)) {
            let newest = version(content.pages.get(number), writes, writes.len());
            content.pages.page_mut(number)[start..].copy_from_slice(&newest[start..]);
        }
    }

    /// Draws how many truncations survived; the effects after the last of them apply to what it left.
    fn draw_truncation<'e>(
        &mut self,
        file: &FileNode,
        effects: &'e [&'e Effect],
    ) -> (Content, &'e [&'e Effect]) {
        let cuts: Vec<usize> =
            (0..effects.len()).filter(|at| matches!(effects[*at], Effect::Truncate)).collect();
        let done = match self.profile {
            CrashProfile::SizeFirst => cuts.len(),
            _ if self.rng.coin() => cuts.len(),
            _ => self.rng.index(cuts.len() + 1),
        };
        let start = if done == 0 { 0 } else { cuts[done - 1] + 1 };
        let end = cuts.get(done).copied().unwrap_or(effects.len());
        let base = if done == 0 { file.durable.clone() } else { Content::default() };
        (base, &effects[start..end])
    }

    fn draw_len(&mut self, synced: u64, effects: &[&Effect]) -> u64 {
        let steps: Vec<(u64, u64)> = effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Grow { from, to } => Some((from + 1, *to)),
                Effect::Allocate { to } => Some((*to, *to)),
                Effect::Truncate | Effect::Write(_) => None,
            })
            .collect();
        let Some((_, newest)) = steps.last().copied() else { return synced };
        if self.profile == CrashProfile::SizeFirst {
            return newest;
        }
        match self.rng.below(4) {
            0 => synced,
            1 => newest,
            _ => {
                let (low, high) = steps[self.rng.index(steps.len())];
                if self.rng.coin() { high } else { low + self.rng.below(high - low + 1) }
            }
        }
    }

    /// One page: a version, a mix of two by sectors, or, if it never reached the disk, zeros or stale bytes.
    fn draw_page(
        &mut self,
        old: Option<&Arc<Page>>,
        writes: &[&PageWrite],
        keep: bool,
        mood: Mood,
        fresh: bool,
    ) -> Page {
        let newest = writes.len();
        if self.profile == CrashProfile::Random50 {
            let shown = if self.rng.coin() { newest } else { self.rng.index(newest + 1) };
            return version(old, writes, shown);
        }
        match mood {
            Mood::KeepAll => return version(old, writes, newest),
            Mood::DropAll if !fresh || self.rng.coin() => return version(old, writes, 0),
            Mood::DropAll => return self.stale_page(),
            Mood::LoseOne(_) | Mood::Prefix(_) if keep => return version(old, writes, newest),
            _ => {}
        }
        if fresh && self.rng.one_in(4) {
            return self.stale_page();
        }
        let to = if self.rng.coin() { newest } else { self.rng.index(newest + 1) };
        let from = self.rng.index(to + 1);
        match self.rng.below(4) {
            0 => version(old, writes, from),
            1 => version(old, writes, to),
            torn => {
                let sectors = (PAGE / SECTOR) as u64;
                let mask = if torn == 2 {
                    (1 << self.rng.below(sectors + 1)) - 1
                } else {
                    self.rng.next()
                };
                mix(&version(old, writes, from), &version(old, writes, to), mask)
            }
        }
    }

    /// What a block held before it was given to the file: noise, or a page of some file, maybe of this one.
    fn stale_page(&mut self) -> Page {
        let disk = self.disk;
        let pages = self.stale.get_or_insert_with(|| {
            let files = disk.nodes.values().filter_map(|node| match &**node {
                Node::File(file) => Some(file),
                Node::Dir(_) => None,
            });
            files
                .flat_map(|file| file.current.pages.iter().map(|(_, page)| Arc::clone(page)))
                .collect()
        });
        if !pages.is_empty() && self.rng.coin() {
            return *pages[self.rng.index(pages.len())];
        }
        let mut page = [0; PAGE];
        for word in page.chunks_exact_mut(8) {
            word.copy_from_slice(&self.rng.next().to_le_bytes());
        }
        page
    }
}

/// What a kill of the process leaves: all but the pages that a failed sync dropped.
fn kept_content(file: &FileNode) -> Content {
    let mut content = file.current.clone();
    for page in file.unwritten.iter() {
        content.pages.set(*page, file.durable.pages.get(*page).cloned());
    }
    content
}

/// True if the file got its length in one step: its blocks read as zeros, never as stale bytes.
fn preallocated(effects: &[&Effect]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::Allocate { .. }))
}

/// The page after the first `count` of `writes`.
fn version(old: Option<&Arc<Page>>, writes: &[&PageWrite], count: usize) -> Page {
    let mut page = old.map_or([0; PAGE], |old| **old);
    for write in &writes[..count] {
        write.apply(&mut page);
    }
    page
}

/// `from` with the sectors of `mask` taken out of `to`.
fn mix(from: &Page, to: &Page, mask: u64) -> Page {
    let mut page = *from;
    for sector in (0..PAGE / SECTOR).filter(|sector| mask >> sector & 1 == 1) {
        let range = sector * SECTOR..(sector + 1) * SECTOR;
        page[range.clone()].copy_from_slice(&to[range]);
    }
    page
}

/// A surviving rename implies the renames that had put the file where it was: else one file would be
/// found under its first and its last name.
fn keep_rename_chains(ops: &[Arc<DirOp>], kept: &mut [bool]) {
    for at in (0..ops.len()).rev() {
        let NameChange::Rename(from, _) = &ops[at].change else { continue };
        if !kept[at] {
            continue;
        }
        let cause = ops[..at].iter().rposition(|op| {
            op.ino == ops[at].ino && matches!(&op.change, NameChange::Rename(_, to) if to == from)
        });
        if let Some(cause) = cause {
            kept[cause] = true;
        }
    }
}

fn apply(names: &mut BTreeMap<Ino, Names>, op: &DirOp) {
    let (gone, new) = match &op.change {
        NameChange::Link(entry) => (None, Some(entry)),
        NameChange::Unlink(entry) => (Some(entry), None),
        NameChange::Rename(from, to) => (Some(from), Some(to)),
    };
    if let Some(entry) = gone
        && let Some(dir) = names.get_mut(&entry.dir)
        && dir.get(&entry.name) == Some(&op.ino)
    {
        dir.remove(&entry.name);
    }
    if let Some(entry) = new
        && let Some(dir) = names.get_mut(&entry.dir)
    {
        dir.insert(entry.name.clone(), op.ino);
    }
}

/// A disk of `nodes` with all its counts right; names that lead nowhere are dropped.
fn finish(mut nodes: BTreeMap<Ino, Arc<Node>>, from: &Disk) -> Disk {
    let present: BTreeSet<Ino> = nodes.keys().copied().collect();
    let mut links: BTreeMap<Ino, u32> = BTreeMap::new();
    for node in nodes.values_mut() {
        if let Node::Dir(dir) = &**node {
            let names: Names = dir
                .current
                .iter()
                .filter(|(_, ino)| present.contains(ino))
                .map(|(n, i)| (n.clone(), *i))
                .collect();
            for ino in names.values() {
                *links.entry(*ino).or_default() += 1;
            }
            let names = Arc::new(names);
            *node = Arc::new(Node::Dir(DirNode { current: Arc::clone(&names), durable: names }));
        }
    }
    let mut used = 0;
    for (ino, node) in &mut nodes {
        if let Node::File(file) = Arc::make_mut(node) {
            file.links = links.get(ino).copied().unwrap_or(0);
            if file.links > 0 {
                used += file.current.len;
            }
        }
    }
    let mut disk = Disk::from_nodes(nodes, from.next_ino(), from.capacity());
    disk.set_used(used);
    disk
}
