//! Tables written without sequence numbers show the one they are opened with.
#![expect(clippy::unwrap_used, reason = "a test")]

use base::checksum::key_hash;
use base::{InternalIterator, InternalKey, SeqNo, ValueKind};
use sstable::{BlockCache, CacheHint, TableOptions, TableReader, TableWriter};
use std::path::Path;
use std::sync::Arc;
use vfs::{Fs, MemFs};

const SEQ: SeqNo = SeqNo(50);

/// Keys `0, 2, .. 198` as three digits, in blocks of a few entries.
fn table(seq: SeqNo) -> Arc<TableReader> {
    let (fs, path) = (MemFs::new(), Path::new("/t.sst"));
    let options = TableOptions { block_size_bytes: 64, ..TableOptions::default() };
    let mut writer = TableWriter::create(&fs, path, 7, options).unwrap();
    for i in (0..200).step_by(2) {
        let key = format!("{i:03}");
        writer.add(InternalKey::new(key.as_bytes(), seq, ValueKind::Put), key.as_bytes()).unwrap();
    }
    writer.finish().unwrap();
    let file = fs.open(path).unwrap();
    let reader = TableReader::open(file, path, 7, Arc::new(BlockCache::new(1 << 20))).unwrap();
    Arc::new(reader.with_sequence(SEQ))
}

#[test]
fn reads_see_the_given_sequence_number() {
    let table = table(SeqNo(0));
    let get = |snapshot| table.get(key_hash(b"100"), b"100", SeqNo(snapshot)).unwrap();
    assert!(get(49).is_none());
    assert_eq!(get(50).unwrap().seq, SEQ);
    assert_eq!(get(99).unwrap().value, b"100");
}

#[test]
fn seeks_compare_with_the_given_sequence_number() {
    // The same walk over a table whose entries really have the number.
    let (plain, given) = (table(SEQ), table(SeqNo(0)));
    let (mut a, mut b) = (plain.iter(CacheHint::Fill), given.iter(CacheHint::Fill));
    for user_key in 0..201 {
        let user_key = format!("{user_key:03}");
        for seq in [0, 1, 49, 50, 51, SeqNo::MAX.0] {
            for kind in [ValueKind::Delete, ValueKind::Put, ValueKind::MAX] {
                let target = InternalKey::new(user_key.as_bytes(), SeqNo(seq), kind);
                a.seek(target).unwrap();
                b.seek(target).unwrap();
                assert_eq!(at(&a), at(&b), "seek {target:?}");
                a.seek_for_prev(target).unwrap();
                b.seek_for_prev(target).unwrap();
                assert_eq!(at(&a), at(&b), "seek_for_prev {target:?}");
            }
        }
    }
}

fn at(it: &impl InternalIterator) -> Option<String> {
    it.valid().then(|| format!("{:?}", it.key()))
}

#[test]
fn other_tables_keep_their_own() {
    let table = table(SeqNo(3));
    assert_eq!(table.get(key_hash(b"002"), b"002", SEQ).unwrap().unwrap().seq, SeqNo(3));
    assert!(table.get(key_hash(b"002"), b"002", SeqNo(2)).unwrap().is_none());
}
