//! The memtable: one writer at a time, readers without locks. The real code, with an index that grows at every new key and
//! records that each open a chunk; reads of a record that no publication put behind its writing are errors.
//!
//! The writer is the first thread: `loom` remembers one access of each atomic, and a load of the writer's own would hide that
//! of a reader which ran before it.

use crate::{check, spawn};
use base::checksum::key_hash;
use base::{InternalIterator, InternalKey, SeqNo, ValueKind};
use memtable::Memtable;
use std::sync::Arc;

/// Longer than half a first chunk, so that the next record opens another.
const LONG: [u8; 400] = [7; 400];

fn insert(table: &Memtable, key: &[u8], seq: u64) {
    table.insert(key_hash(key), InternalKey::new(key, SeqNo(seq), ValueKind::Put), &LONG);
}

fn seq_of(table: &Memtable, key: &[u8], snapshot: u64) -> Option<u64> {
    let found = table.get(key_hash(key), key, SeqNo(snapshot))?;
    assert_eq!(found.value, LONG);
    Some(found.seq.0)
}

#[test]
fn a_read_beside_inserts_of_new_keys() {
    check("memtable: new keys", 3, || {
        let table = Arc::new(Memtable::new(0));
        let reader = Arc::clone(&table);
        let reader = spawn(move || {
            let second = seq_of(&reader, b"b", 9);
            let first = seq_of(&reader, b"a", 9);
            assert!(second.is_none() || first.is_some(), "the later key without the earlier");
        });
        insert(&table, b"a", 1);
        insert(&table, b"b", 2);
        reader.join().expect("the reader");
        assert_eq!((seq_of(&table, b"a", 9), seq_of(&table, b"b", 9)), (Some(1), Some(2)));
    });
}

#[test]
fn a_read_beside_inserts_of_versions_out_of_order() {
    check("memtable: versions", 3, || {
        let table = Arc::new(Memtable::new(0));
        insert(&table, b"a", 2);
        let reader = Arc::clone(&table);
        let reader = spawn(move || {
            let old = seq_of(&reader, b"a", 4);
            assert!(matches!(old, Some(2 | 4)), "{old:?}");
            let new = seq_of(&reader, b"a", 9);
            let known = matches!(new, Some(2 | 5));
            assert!(known && (old != Some(4) || new == Some(5)), "{old:?} {new:?}");
            assert_eq!(seq_of(&reader, b"a", 2), Some(2));
        });
        insert(&table, b"a", 5);
        insert(&table, b"a", 4);
        reader.join().expect("the reader");
        assert_eq!(seq_of(&table, b"a", 4), Some(4));
    });
}

#[test]
fn an_iterator_beside_inserts() {
    check("memtable: iterator", 3, || {
        let table = Arc::new(Memtable::new(0));
        insert(&table, b"a", 1);
        let reader = Arc::clone(&table);
        let reader = spawn(move || {
            let least = reader.entries();
            let mut iter = reader.iter();
            let mut seqs = Vec::new();
            iter.seek_to_first().expect("in memory");
            while iter.valid() {
                assert_eq!(iter.value(), LONG);
                seqs.push(iter.key().seq.0);
                iter.next().expect("in memory");
            }
            assert!(seqs.len() >= least, "{seqs:?} of {least}");
            assert!([&[1][..], &[1, 2], &[1, 3, 2]].contains(&&seqs[..]), "{seqs:?}");
        });
        insert(&table, b"c", 2);
        insert(&table, b"b", 3);
        reader.join().expect("the reader");
        assert_eq!(table.iter_count(), 3);
    });
}

#[test]
fn two_writers_and_a_reader() {
    check("memtable: two writers, a reader", 2, || {
        let table = Arc::new(Memtable::new(0));
        let reader = Arc::clone(&table);
        let reader = spawn(move || {
            assert!(matches!(seq_of(&reader, b"a", 9), None | Some(1)));
            if let Some((min, max)) = reader.seq_range() {
                assert!(min <= max && max.0 <= 2);
            }
        });
        let writer = Arc::clone(&table);
        let writer = spawn(move || insert(&writer, b"a", 1));
        insert(&table, b"b", 2);
        assert_eq!(seq_of(&table, b"b", 9), Some(2));
        writer.join().expect("the writer");
        reader.join().expect("the reader");
        assert_eq!(seq_of(&table, b"a", 9), Some(1));
        assert_eq!(table.seq_range(), Some((SeqNo(1), SeqNo(2))));
    });
}

trait Count {
    fn iter_count(&self) -> usize;
}

impl Count for Arc<Memtable> {
    fn iter_count(&self) -> usize {
        let mut iter = self.iter();
        iter.seek_to_last().expect("in memory");
        let mut count = 0;
        while iter.valid() {
            count += 1;
            iter.prev().expect("in memory");
        }
        count
    }
}
