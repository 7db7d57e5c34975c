//! Appending to the log, in memory and on the disk: the record of one pair of 16 + 100 bytes, and of a batch of 100.

use base::FileNum;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::path::Path;
use std::sync::Arc;
use vfs::{Fs, MemFs, StdFs};
use wal::{Log, LogOptions, Lsn, prepare_segment};

const SEGMENT_BYTES: u64 = 64 << 20;

/// A log that rolls through segments and recycles them, as a database whose memtables are flushed in time.
struct Roller {
    fs: Arc<dyn Fs>,
    dir: std::path::PathBuf,
    log: Log,
    next: u64,
}

impl Roller {
    fn start(fs: Arc<dyn Fs>, dir: &Path) -> Self {
        let segment = |n| prepare_segment(&*fs, dir, FileNum(n), SEGMENT_BYTES, None);
        let first = segment(1).expect("segment");
        let log = Log::start(LogOptions { db_id: 1 }, first, Lsn(1), None).expect("log");
        log.install_spare(segment(2).expect("segment"));
        Roller { dir: dir.to_path_buf(), log, next: 3, fs }
    }

    /// Appends one record; makes the next spare when one was used, from an old segment if there is one.
    fn append(&mut self, payload: &[u8]) {
        let appended = self.log.append(payload).expect("append").expect("a spare is there");
        if appended.rolled {
            self.log.sync(appended.end).expect("sync");
            let old = self.log.remove_before(appended.end);
            let num = FileNum(self.next);
            self.next += 1;
            let recycle = old.first().copied();
            let spare = prepare_segment(&*self.fs, &self.dir, num, SEGMENT_BYTES, recycle);
            self.log.install_spare(spare.expect("segment"));
        }
    }
}

fn bench(c: &mut Criterion) {
    let disk = tempfile::tempdir().expect("a directory");
    let places: [(&str, Arc<dyn Fs>, &Path); 2] = [
        ("in memory", Arc::new(MemFs::new()), Path::new("/log")),
        ("on disk", Arc::new(StdFs::new()), disk.path()),
    ];
    for (place, fs, dir) in places {
        fs.create_dir_all(dir).expect("a directory");
        let mut roller = Roller::start(fs, dir);
        let mut group = c.benchmark_group(place);
        for (name, len) in [("append 136 bytes", 136), ("append 12 KB", 12_000)] {
            let payload = vec![7; len];
            group.throughput(Throughput::Bytes(len as u64));
            group.bench_function(name, |b| b.iter(|| roller.append(&payload)));
        }
        let payload = vec![7; 136];
        group.throughput(Throughput::Elements(1)).sample_size(20);
        group.bench_function("append and sync", |b| {
            b.iter(|| {
                roller.append(&payload);
                roller.log.sync(roller.log.end()).expect("sync");
            });
        });
        group.finish();
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
