//! Tests that look inside: damage, crafted bytes, edges of the format, caches.

mod caches;
mod crafted;
mod damage;
mod edges;
mod golden;
mod pipeline;
mod remains;

use crate::{
    BlockCache, CacheHint, Compression, TableOptions, TableReader, TableSummary, TableWriter,
};
use base::checksum::key_hash;
use base::{
    Error, Fragments, InternalIterator, InternalKey, RangeTombstone, Result, SeqNo, ValueKind,
};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use vfs::{MemFs, RandomAccessFile};

const ID: u64 = 42;
const PATH: &str = "/000042.sst";

type Row = (Vec<u8>, u64, ValueKind, Vec<u8>);

/// A file in memory whose bytes the test chose, and which fails reads on demand.
#[derive(Debug)]
struct Bytes {
    bytes: Vec<u8>,
    /// Reads that still succeed.
    reads_left: AtomicU64,
}

impl Bytes {
    fn new(bytes: Vec<u8>) -> Arc<Bytes> {
        Arc::new(Bytes { bytes, reads_left: AtomicU64::new(u64::MAX) })
    }
}

impl RandomAccessFile for Bytes {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = self.reads_left.load(Ordering::SeqCst);
        if left == 0 {
            return Err(io::Error::other("injected"));
        }
        self.reads_left.store(left - 1, Ordering::SeqCst);
        let from = self.bytes.get(offset as usize..).unwrap_or_default();
        let n = from.len().min(buf.len());
        buf[..n].copy_from_slice(&from[..n]);
        Ok(n)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.len() as u64)
    }
}

fn open_bytes(bytes: Vec<u8>) -> Result<Arc<TableReader>> {
    open_file(Bytes::new(bytes), 0)
}

fn open_file(file: Arc<Bytes>, cache_bytes: usize) -> Result<Arc<TableReader>> {
    let cache = Arc::new(BlockCache::new(cache_bytes));
    TableReader::open(file, Path::new(PATH), ID, cache).map(Arc::new)
}

fn write_rows(
    rows: &[Row],
    tombstones: &Fragments,
    options: &TableOptions,
    id: u64,
) -> (Vec<u8>, TableSummary) {
    let fs = MemFs::new();
    let mut writer =
        TableWriter::create(&fs, Path::new(PATH), id, options.clone()).expect("create");
    for (key, seq, kind, value) in rows {
        writer.add(InternalKey::new(key, SeqNo(*seq), *kind), value).expect("add");
    }
    writer.add_range_tombstones(tombstones).expect("tombstones");
    let summary = writer.finish().expect("finish");
    (vfs::read_all(&fs, Path::new(PATH), u64::MAX).expect("read back"), summary)
}

/// Sixty keys of up to three versions over many small blocks.
fn sample_rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for n in 0..60u32 {
        let key = format!("key{:02}/{}", n / 4, n).into_bytes();
        let key = if n % 7 == 0 { [&key[..], &[0xff; 9]].concat() } else { key };
        for version in 0..=n % 3 {
            let kind = if (n + version) % 5 == 0 { ValueKind::Delete } else { ValueKind::Put };
            let value = format!("value {n} {}", "abcd".repeat(n as usize % 6));
            let value = if kind == ValueKind::Put { value.into_bytes() } else { Vec::new() };
            rows.push((key.clone(), u64::from(100 * (3 - version) + n), kind, value));
        }
    }
    rows.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
    rows
}

fn sample_tombstones() -> Fragments {
    let range = |start: &str, end: &str, seq| RangeTombstone {
        start: start.into(),
        end: end.into(),
        seq: SeqNo(seq),
    };
    Fragments::new([range("a", "key05", 7), range("key03", "key09", 9), range("x", "zz", 400)])
}

fn small_options(compression: Compression) -> TableOptions {
    TableOptions {
        block_size_bytes: 160,
        restart_interval: 4,
        compression,
        filter_bits_per_key: 10,
        index_block_size_bytes: 64,
        keyspace: None,
    }
}

fn sample_table(compression: Compression) -> Vec<u8> {
    write_rows(&sample_rows(), &sample_tombstones(), &small_options(compression), ID).0
}

/// The rows met by a walk, and the error that ended it.
fn walk(table: &Arc<TableReader>, forward: bool, hint: CacheHint) -> (Vec<Row>, Option<Error>) {
    let (mut rows, mut it) = (Vec::new(), table.iter(hint));
    let mut step = if forward { it.seek_to_first() } else { it.seek_to_last() };
    while step.is_ok() && it.valid() {
        let key = it.key();
        rows.push((key.user_key.to_vec(), key.seq.0, key.kind, it.value().to_vec()));
        step = if forward { it.next() } else { it.prev() };
    }
    assert!(!it.valid());
    (rows, step.err())
}

fn get(
    table: &TableReader,
    key: &[u8],
    snapshot: u64,
) -> Result<Option<(u64, ValueKind, Vec<u8>)>> {
    let found = table
        .get_with(key_hash(key), key, SeqNo(snapshot), |seq, kind, v| (seq.0, kind, v.to_vec()))?;
    let entry = table.get(key_hash(key), key, SeqNo(snapshot))?;
    assert_eq!(found, entry.map(|e| (e.seq.0, e.kind, e.value.to_vec())));
    Ok(found)
}

/// The rows of a table that can be read.
fn rows_of(table: &Arc<TableReader>, forward: bool, hint: CacheHint) -> Vec<Row> {
    let (rows, error) = walk(table, forward, hint);
    assert!(error.is_none(), "{error:?}");
    rows
}
