//! Gets of a whole database whose blocks are all in the cache: what `readhot` and `readrandom` of `benches/peers` cost without
//! that tool's clock and histogram.

use super::clock::Table;
use base::rng::Rng;
use lsm::{Db, Options};
use std::hint::black_box;
use std::io::Write;
use std::path::Path;

const PAIRS: u64 = 5_000_000;
/// Pairs a batch.
const BATCH: u64 = 1000;
/// Keys that are read by turns, far apart: a number of bits.
const FEW_BITS: u32 = 6;

/// Key number `n`: decimal digits, as those of `benches/peers`.
fn key(n: u64) -> [u8; 16] {
    let mut key = [0; 16];
    write!(&mut key[..], "{n:016}").expect("sixteen digits");
    key
}

/// One run of all pairs, in memory.
fn full(dir: &Path) -> Db {
    let options = Options::default().block_cache_bytes(1 << 30);
    let db = Db::builder(dir).options(options).open().expect("open");
    for first in (0..PAIRS).step_by(BATCH as usize) {
        let mut batch = db.batch();
        (first..first + BATCH).for_each(|n| batch.put(key(n), super::parts::data::value(n)));
        batch.commit().expect("commit");
    }
    db.compact_range(..).expect("compact");
    db.wait_idle().expect("idle");
    assert!(db.iter().all(|pair| pair.is_ok()), "every block is in the cache after this");
    db
}

pub(crate) fn gets(table: &mut Table) {
    if !table.wants("database") {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let db = full(dir.path());
    let lend = |key: &[u8; 16]| {
        let found = db.get_with(black_box(key), |value| black_box(value[0])).expect("readable");
        assert!(found.is_some());
    };
    let one = key(PAIRS / 2 + 17);
    table.step("get: one key of a database", || lend(&one));
    table.step("get: one key of a database, copied", || {
        assert!(black_box(db.get(black_box(&one)).expect("readable")).is_some());
    });
    let few: Vec<_> = (0..1 << FEW_BITS).map(|i| key(i * 70_001 % PAIRS)).collect();
    let mut rng = Rng::new(1);
    table.step("get: some keys of a database", || {
        lend(&few[(rng.next_u64() >> (u64::BITS - FEW_BITS)) as usize]);
    });
    let many: Vec<_> = (0..1 << 20).map(|_| key(rng.next_u64() % PAIRS)).collect();
    let mut at = many.iter().cycle();
    table.step("get: random keys of a database", || at.next().iter().for_each(|key| lend(key)));
    db.close().expect("close");
}
