//! A table whose blocks are compressed and written by whoever comes first: the real writer, with groups of one block of which
//! one may wait, over `MemFs`.

use crate::{Mutex, check, spawn};
use base::{InternalKey, SeqNo, ValueKind};
use sstable::{Compression, Helper, TableOptions, TableWriter};
use std::path::Path;
use std::sync::Arc;
use vfs::MemFs;

const PATH: &str = "/000001.sst";

/// Five blocks, written with `helper` or without.
fn write(helper: Option<Helper>) -> Vec<u8> {
    let fs = MemFs::new();
    let options = TableOptions { compression: Compression::None, ..TableOptions::default() };
    let mut table = TableWriter::create(&fs, Path::new(PATH), 1, options).expect("a file");
    if let Some(helper) = helper {
        table = table.helped_by(helper);
    }
    for n in 0..5u8 {
        let value = vec![n; 5_000];
        table.add(InternalKey::new(&[n], SeqNo(1), ValueKind::Put), &value).expect("no failure");
    }
    table.finish().expect("no failure");
    vfs::read_all(&fs, Path::new(PATH), u64::MAX).expect("a file")
}

/// A helper that has emptied the queue right behind the look at it is no thread that died.
#[test]
fn a_helper_changes_nothing_whenever_it_runs() {
    check("tables: a helper beside the writer", 3, || {
        let threads = Arc::new(Mutex::new(Vec::new()));
        let started = Arc::clone(&threads);
        // Not more threads than `loom` has; what is not begun the writer does itself.
        let helper = move |work| {
            let mut started = started.lock();
            if started.len() < 2 {
                started.push(spawn(work));
            }
        };
        let helped = write(Some(Arc::new(helper)));
        assert!(helped == write(None), "the file depends on who wrote it");
        let threads = std::mem::take(&mut *threads.lock());
        threads.into_iter().for_each(|thread| thread.join().expect("the helper"));
    });
}
