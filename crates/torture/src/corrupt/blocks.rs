//! Blocks of tables in the place of others: the bytes are right, but not there.

use super::base::Base;
use super::mutate::Sweep;
use crate::store::DIR;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vfs::Fs;

/// Tag and checksum behind the bytes of a block.
const TRAILER_LEN: u64 = 5;
/// Exchanges of blocks of one length.
const PAIRS_MAX: usize = 60;

/// A block as it is stored.
struct Stored {
    path: PathBuf,
    offset: usize,
    len: usize,
}

/// Exchanges blocks of the same length, within a table and between tables, and puts one over another.
///
/// # Panics
/// If an undamaged table does not open.
pub(super) fn exchanged_blocks(sweep: &mut Sweep<'_>) {
    let files: BTreeMap<PathBuf, Vec<u8>> = sweep.base.files().into_iter().collect();
    let bytes = |block: &Stored| &files[&block.path][block.offset..block.offset + block.len];
    let mut by_len: BTreeMap<usize, Vec<Stored>> = BTreeMap::new();
    for block in blocks(sweep.base) {
        by_len.entry(block.len).or_default().push(block);
    }
    for same in by_len.values() {
        // Neighbours first, then those farther apart.
        let apart = (1..same.len()).flat_map(|by| (by..same.len()).map(move |at| (at - by, at)));
        for (a, b) in apart.map(|(a, b)| (&same[a], &same[b])).take(PAIRS_MAX) {
            if bytes(a) == bytes(b) {
                continue;
            }
            let what =
                format!("block at {} of {} with that at {}", a.offset, b.path.display(), b.offset);
            sweep.try_one(&format!("exchange {what}"), &a.path, |fs| {
                put(fs, a, bytes(b));
                put(fs, b, bytes(a));
            });
            sweep.try_one(&format!("misdirect {what}"), &a.path, |fs| put(fs, a, bytes(b)));
        }
    }
}

fn put(fs: &vfs::MemFs, block: &Stored, new: &[u8]) {
    for (at, byte) in new.iter().enumerate() {
        let set = fs.corrupt(&block.path, (block.offset + at) as u64, |b| *b = *byte);
        set.expect("a file in memory");
    }
}

fn blocks(base: &Base) -> Vec<Stored> {
    let options = manifest::ManifestOptions { read_only: true, ..Default::default() };
    let fs: Arc<dyn Fs> = Arc::new(base.copy());
    let (_, state) = manifest::Manifest::recover(Arc::clone(&fs), Path::new(DIR), options)
        .expect("an undamaged manifest");
    let cache = Arc::new(sstable::BlockCache::new(0));
    let mut found = Vec::new();
    for (_, _, table) in state.keyspaces.values().flat_map(|k| k.version.tables()) {
        let path = base::FileName::Table(table.file).in_dir(Path::new(DIR));
        let file = fs.open(&path).expect("a table");
        let reader = sstable::TableReader::open(file, &path, table.table_id, Arc::clone(&cache))
            .expect("an undamaged table");
        let all = sstable::fuzzing::blocks(&reader).expect("an undamaged index");
        found.extend(all.into_iter().map(|(offset, len)| Stored {
            path: path.clone(),
            offset: offset as usize,
            len: (len + TRAILER_LEN) as usize,
        }));
    }
    found
}
