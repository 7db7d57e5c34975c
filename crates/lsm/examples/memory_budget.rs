//! Writes and reads five times a memory budget on a real disk, and compares the budget with what the engine counts and
//! with what the operating system says that the process has taken (Linux only: `RssAnon` of `/proc/self/status`).
//!
//! ```text
//! cargo run --release -p esker-lsm --example memory_budget [budget in MiB]
//! ```

use lsm::{Db, Options, Result};
use std::path::Path;
use vfs::{Fs, StdFs};

const VALUE: usize = 200;

fn main() -> Result<()> {
    let mib: usize = std::env::args().nth(1).and_then(|arg| arg.parse().ok()).unwrap_or(64);
    let (budget, dir) = (mib << 20, tempfile::tempdir().expect("a directory"));
    let options = Options::default().memory_budget_bytes(budget).memtable_size_bytes(budget / 16);
    let baseline = resident_bytes();
    let db = Db::builder(dir.path().join("db")).options(options).open()?;
    let (mut counted, mut resident) = (0, 0);
    let mut look = |db: &Db, i: usize| {
        if i.is_multiple_of(1000) {
            counted = counted.max(db.metrics().memory_bytes());
            resident = resident.max(resident_bytes().saturating_sub(baseline));
        }
    };
    let count = 5 * budget / VALUE;
    for i in 0..count {
        db.put(key(i), value(i))?;
        look(&db, i);
    }
    for i in 0..count {
        assert!(db.get(key(i))?.is_some_and(|v| v[..] == value(i)));
        look(&db, i);
    }
    for (i, pair) in db.iter().enumerate() {
        pair?;
        look(&db, i);
    }
    let percent = |bytes: usize| 100.0 * bytes as f64 / budget as f64;
    println!("budget   {mib} MiB, {count} pairs");
    println!("counted  {} MiB at most, {:.0} %", counted >> 20, percent(counted));
    println!("resident {} MiB at most, {:.0} %", resident >> 20, percent(resident));
    let m = db.metrics();
    println!(
        "now: memtables {}, block cache {}, tables {}, buffers {}, pinned {}",
        m.memtable_bytes, m.block_cache_bytes, m.table_memory_bytes, m.buffer_bytes, m.pinned_bytes
    );
    db.close()
}

fn key(i: usize) -> [u8; 8] {
    (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()
}

fn value(i: usize) -> [u8; VALUE] {
    std::array::from_fn(|at| key(i + at / 8 * 77)[at % 8])
}

/// Anonymous memory of this process; pages of mapped files, which the kernel can take back, are not in it.
fn resident_bytes() -> usize {
    let mut text = vec![0; 8 << 10];
    let file = StdFs::new().open(Path::new("/proc/self/status"));
    let len = file.and_then(|file| file.read_at(&mut text, 0)).unwrap_or(0);
    let text = String::from_utf8_lossy(&text[..len]);
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<usize>().ok());
    kib.unwrap_or(0) << 10
}
