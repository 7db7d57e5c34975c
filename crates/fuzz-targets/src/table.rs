//! Whole tables.

use crate::blocks::{any_key, any_rows};
use crate::damage::{UNREPAIRED_BYTES_MAX, edit};
use crate::source::Source;
use base::checksum::{block_checksum, key_hash};
use base::{Fragments, InternalIterator, InternalKey, RangeTombstone, Result, SeqNo};
use sstable::fuzzing::{Row, blocks};
use sstable::{
    BlockCache, CacheHint, Compression, FOOTER_LEN, TableOptions, TableReader, TableWriter,
};
use std::io;
use std::path::Path;
use std::sync::Arc;
use vfs::{MemFs, RandomAccessFile};

const ID: u64 = 42;
const PATH: &str = "/000042.sst";
/// Bytes of a block behind its payload: tag and checksum.
const TRAILER_LEN: usize = 5;

/// A file whose bytes lie in memory.
#[derive(Debug)]
struct Bytes(Vec<u8>);

impl RandomAccessFile for Bytes {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let from = self.0.get(start..).unwrap_or_default();
        let n = from.len().min(buf.len());
        buf[..n].copy_from_slice(&from[..n]);
        Ok(n)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }
}

fn open(bytes: Vec<u8>, cache_bytes: usize) -> Result<Arc<TableReader>> {
    let cache = Arc::new(BlockCache::new(cache_bytes));
    TableReader::open(Arc::new(Bytes(bytes)), Path::new(PATH), ID, cache).map(Arc::new)
}

/// A table made of entries, damaged in one block or in the footer, the checksum right again or not. Or bytes alone.
pub fn table(data: &[u8]) {
    crate::cap::decoding(data, || {
        let mut source = Source::new(data);
        let selector = source.u8();
        if selector & 3 == 0 {
            if let Ok(table) = open(source.rest().to_vec(), 0) {
                exercise(&table);
            }
            return;
        }
        let (rows, mut bytes) = made(&mut source);
        let sound = open(bytes.clone(), 1 << 16).expect("own bytes");
        sound.verify().expect("own bytes");
        assert_eq!(exercise(&sound).as_ref(), Some(&rows), "the table is not what was put in");
        let repair = selector & 1 == 1;
        let original = bytes.clone();
        damage(&mut source, &sound, &mut bytes, repair);
        let Ok(table) = open(bytes.clone(), if selector & 4 == 0 { 0 } else { 1 << 16 }) else {
            return;
        };
        let found = exercise(&table);
        if !repair {
            let verified = table.verify().is_ok();
            assert!(!verified || found.as_ref() == Some(&rows), "damage goes unnoticed");
            assert!(found.is_none_or(|found| found == rows), "wrong entries");
            assert!(!verified || bytes == original, "verify misses damage");
        }
    });
}

fn made(source: &mut Source<'_>) -> (Vec<Row>, Vec<u8>) {
    let options = TableOptions {
        block_size_bytes: source.pick(&[64, 100, 300, 4096]),
        restart_interval: 1 + source.below(6),
        compression: source.pick(&[Compression::None, Compression::Lz4]),
        filter_bits_per_key: source.pick(&[0, 1, 10]),
        index_block_size_bytes: source.pick(&[64, 200]),
        keyspace: None,
    };
    let rows = any_rows(source, 60);
    let mut tombstones = Vec::new();
    for seq in 0..source.below(5) {
        let (start, end) = (any_key(source), any_key(source));
        tombstones.push(RangeTombstone { start, end, seq: SeqNo(seq as u64) });
    }
    let fs = MemFs::new();
    let mut writer = TableWriter::create(&fs, Path::new(PATH), ID, options).expect("in memory");
    for row in &rows {
        let key = InternalKey::new(&row.key, row.seq, row.kind);
        writer.add(key, &row.value).expect("ascending");
    }
    writer.add_range_tombstones(&Fragments::new(tombstones)).expect("once");
    writer.finish().expect("in memory");
    (rows, vfs::read_all(&fs, Path::new(PATH), u64::MAX).expect("in memory"))
}

/// Changes bytes of some blocks or of the footer.
fn damage(source: &mut Source<'_>, table: &TableReader, bytes: &mut [u8], repair: bool) {
    let all = blocks(table).expect("own bytes");
    let (rounds, each) = if repair { (1 + source.below(3), 9) } else { (1, 1) };
    let footer = bytes.len() - FOOTER_LEN;
    for _ in 0..rounds {
        let edits = 1 + source.below(UNREPAIRED_BYTES_MAX);
        let Some(&(offset, len)) = all.get(source.below(all.len() + 1)) else {
            edit(source, bytes, footer..footer + FOOTER_LEN, edits, each);
            continue;
        };
        let (start, end) = (offset as usize, (offset + len) as usize + TRAILER_LEN);
        edit(source, bytes, start..end, edits, each);
        if repair {
            let checksum = block_checksum(&bytes[start..end - 4], ID, offset);
            bytes[end - 4..end].copy_from_slice(&checksum.to_le_bytes());
        }
    }
    if repair {
        let checksum = block_checksum(&bytes[footer..footer + 76], ID, footer as u64);
        bytes[footer + 76..footer + 80].copy_from_slice(&checksum.to_le_bytes());
    }
}

/// Uses the table in every way; its entries, if all could be read.
fn exercise(table: &Arc<TableReader>) -> Option<Vec<Row>> {
    let verified = table.verify().is_ok();
    let forward = walk(table, true, CacheHint::Fill);
    let backward = walk(table, false, CacheHint::Fill);
    let ahead = walk(table, true, CacheHint::NoFill);
    assert!(forward.is_some() || !verified, "verified, but it does not read");
    if verified {
        let mut backward = backward.expect("verified");
        backward.reverse();
        assert_eq!(forward.as_ref(), Some(&backward), "the directions differ");
        assert_eq!(forward, ahead, "reading ahead differs");
    }
    let rows = forward.as_deref().unwrap_or_default();
    let probes = rows.iter().map(|row| (&row.key[..], row.seq)).step_by(1 + rows.len() / 24);
    for (key, seq) in
        probes.chain([(&b"k"[..], SeqNo(9)), (&b""[..], SeqNo(0)), (&[0xff; 12][..], SeqNo::MAX)])
    {
        check_probe(table, rows, key, seq, verified);
    }
    assert!(table.memory_bytes() < 4 << 20);
    forward
}

fn check_probe(table: &Arc<TableReader>, rows: &[Row], key: &[u8], seq: SeqNo, verified: bool) {
    let hash = key_hash(key);
    let found = table.get(hash, key, seq);
    let lent = table.get_with(hash, key, seq, |seq, kind, value| (seq, kind, value.to_vec()));
    match (&found, &lent) {
        (Ok(found), Ok(lent)) => {
            let owned = found.as_ref().map(|e| (e.seq, e.kind, e.value.to_vec()));
            assert_eq!(&owned, lent);
        }
        (found, lent) => assert_eq!(found.is_err(), lent.is_err()),
    }
    assert!(table.approximate_offset(key) <= table.size_bytes());
    let target = InternalKey::seek_at(key, seq);
    let mut after = table.iter(CacheHint::Fill);
    let at_or_after =
        after.seek(target).map(|()| after.valid().then(|| after.key().user_key.to_vec()));
    if after.valid() {
        drop(after.prev());
    }
    let mut before = table.iter(CacheHint::NoFill);
    let at_or_before = before
        .seek_for_prev(target)
        .map(|()| before.valid().then(|| before.key().user_key.to_vec()));
    if before.valid() {
        drop(before.next());
    }
    if verified {
        let newest = rows.iter().find(|row| row.key == key && row.seq <= seq);
        let entry = found.expect("verified");
        assert_eq!(
            entry.map(|e| (e.seq, e.kind, e.value.to_vec())),
            newest.map(|r| (r.seq, r.kind, r.value.clone()))
        );
        let place = |row: &Row| InternalKey::new(&row.key, row.seq, row.kind).cmp(&target);
        let split = rows.partition_point(|row| place(row).is_lt());
        assert_eq!(at_or_after.expect("verified"), rows.get(split).map(|r| r.key.clone()));
        let last = rows[..rows.partition_point(|row| place(row).is_le())].last();
        assert_eq!(at_or_before.expect("verified"), last.map(|r| r.key.clone()));
    }
}

/// All entries, or `None` if a read failed on the way.
fn walk(table: &Arc<TableReader>, forward: bool, hint: CacheHint) -> Option<Vec<Row>> {
    let entries_max = table.size_bytes() as usize * 255;
    let (mut rows, mut iter) = (Vec::new(), table.iter(hint));
    let mut step = if forward { iter.seek_to_first() } else { iter.seek_to_last() };
    while step.is_ok() && iter.valid() {
        let key = iter.key();
        let (seq, kind, value) = (key.seq, key.kind, iter.value().to_vec());
        rows.push(Row { key: key.user_key.to_vec(), seq, kind, value });
        assert!(rows.len() <= entries_max, "more entries than the file can hold");
        step = if forward { iter.next() } else { iter.prev() };
    }
    assert!(!iter.valid());
    step.is_ok().then_some(rows)
}
