//! A disk that is really full: a tiny tmpfs where one can be mounted, a disk in memory with a limit elsewhere.

use super::child::{options, unlocked};
use crate::pool::beat;
use crate::store::{read_state, show};
use lsm::{Db, Durability};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use testkit::model::ModelOp;
use testkit::oracle::Oracle;
use testkit::rng::Rng;
use testkit::value::value_for;
use vfs::{Fs, MemFs, StdFs};

const DISK_BYTES: u64 = 2 << 20;
/// What is in the way until there is to be room. More than the database has for itself: a compaction may write all of it
/// once more before it lets the old tables go, and needs room for that.
const BALLAST_BYTES: usize = 1300 << 10;

/// What came of one full disk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Filled {
    pub(super) is_mounted: bool,
    pub(super) refused: u64,
}

/// A file system of its own, gone when dropped.
struct Mount {
    dir: tempfile::TempDir,
}

impl Mount {
    /// Needs the right to mount.
    fn new() -> Option<Mount> {
        let dir = tempfile::tempdir().ok()?;
        let size = format!("size={DISK_BYTES}");
        run("mount", &["-t", "tmpfs", "-o", &size, "tmpfs"], dir.path()).then_some(Mount { dir })
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        run("umount", &[], self.dir.path());
    }
}

fn run(program: &str, args: &[&str], dir: &Path) -> bool {
    let mut command = Command::new(program);
    command.args(args).arg(dir).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Fills a disk until writes are refused, goes on for a while, makes room, and checks that nothing was lost and that
/// writes resume without a reopen.
pub(super) fn fill(seed: u64) -> Filled {
    let mount = Mount::new();
    let (fs, root): (Arc<dyn Fs>, PathBuf) = match &mount {
        Some(mount) => (Arc::new(StdFs::new()), mount.dir.path().to_path_buf()),
        None => {
            let fs = MemFs::new();
            fs.set_capacity(Some(DISK_BYTES));
            (Arc::new(fs), PathBuf::from("/"))
        }
    };
    let refused = fill_and_resume(&fs, &root, seed);
    drop(fs);
    Filled { is_mounted: mount.is_some(), refused }
}

fn open(fs: &Arc<dyn Fs>, dir: &Path) -> Db {
    // A reserve would need a larger disk.
    let options = options().disk_reserve_bytes(32 << 10);
    unlocked(|| Db::builder(dir).options(options.clone()).fs(Arc::clone(fs)).open())
}

fn fill_and_resume(fs: &Arc<dyn Fs>, root: &Path, seed: u64) -> u64 {
    let (ballast, dir) = (root.join("ballast"), root.join("db"));
    let mut file = fs.create(&ballast).expect("ballast");
    file.append(&vec![7; BALLAST_BYTES]).expect("ballast");
    drop(file);
    let db = open(fs, &dir);
    let (mut oracle, mut rng) = (Oracle::new(), Rng::new(seed));
    let (mut refused, mut n) = (0, 0);
    while refused < 200 {
        assert!(n < 100_000, "the disk is never full");
        n += 1;
        beat(|| format!("full disk, seed {seed}, write {n}"));
        let key = format!("key{:05}", rng.below(4000)).into_bytes();
        let value = value_for(seed, &key, n, rng.below(400) as usize);
        let durability = *rng.pick(&[Durability::Buffered, Durability::Sync]);
        match db.put_with(&key, &value, durability) {
            Ok(()) => drop(oracle.issue(&[ModelOp::put(0, key, value)])),
            Err(e) if e.is_no_space() => {
                refused += 1;
                let found = db.get(&key).expect("reads go on");
                assert!(found.as_deref() == oracle.model().get(0, &key), "a refused write shows");
            }
            Err(e) => panic!("a full disk: {}", show(&e)),
        }
    }
    let all = oracle.model().commits();
    let check = |db: &Db, when: &str| {
        let state = read_state(db).unwrap_or_else(|e| panic!("{when}: {}", show(&e)));
        oracle.check(&state, all, all).unwrap_or_else(|e| panic!("{when}: {e}"));
    };
    check(&db, "while the disk is full");
    fs.remove_file(&ballast).expect("room");
    resume(&db);
    db.delete("resumed").expect("room");
    check(&db, "once there is room");
    db.close().unwrap_or_else(|e| panic!("close: {}", show(&e)));
    drop(db);
    let db = open(fs, &dir);
    check(&db, "after a reopen");
    db.verify().unwrap_or_else(|e| panic!("verify: {}", show(&e)));
    refused
}

/// Writes succeed again, without a reopen, within a few seconds.
#[expect(clippy::disallowed_methods, reason = "the engine looks for room by the clock")]
fn resume(db: &Db) {
    let mut last = None;
    for _ in 0..500 {
        match db.put_with("resumed", "1", Durability::Sync) {
            Ok(()) => return,
            Err(e) => last = Some(e),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("writes do not resume: {}", last.map(|e| show(&e)).unwrap_or_default());
}
