//! A crash after every operation that changes the disk, under every profile, and again inside the recovery.
//!
//! One run gives the image after each operation; each is opened and compared with the commit order: a prefix of it
//! without a hole, no shorter than what was promised, no longer than what was issued. `ESKER_CRASH_SEEDS` sets the number
//! of seeds for each workload, `ESKER_CRASH_FIRST` the first one.
#![expect(clippy::unwrap_used, reason = "a test")]

mod crash_support;

use crash_support::drive::{Driver, Mix};
use crash_support::explore::{Counts, Effort, Explorer};
use crash_support::{DIR, compressed, env, lazy, open, small_options, tiered};
use lsm::{Durability, Options};
use std::sync::Arc;
use testkit::oracle::Oracle;
use testkit::rng::Rng;
use vfs::{CrashProfile, MemFs};

struct Workload {
    name: &'static str,
    options: Options,
    mix: Mix,
    /// Operations of the run.
    steps: usize,
    large_values: bool,
}

fn crash_everywhere(workload: &Workload) {
    let mut counts = Counts::default();
    let first = env("ESKER_CRASH_FIRST", 1);
    for seed in first..first + env("ESKER_CRASH_SEEDS", 1) {
        counts += one_seed(workload, seed);
    }
    println!("{}: {counts:?}", workload.name);
    assert!(counts.images >= 1000, "too few images: {counts:?}");
    assert!(counts.nested >= 200, "too few crashes inside a recovery: {counts:?}");
    assert!(counts.third >= 10, "too few third crashes: {counts:?}");
}

fn one_seed(workload: &Workload, seed: u64) -> Counts {
    let fs = MemFs::new();
    fs.start_recording();
    let mut run = Driver::open(fs, &workload.options, Oracle::new(), seed).unwrap();
    run.large_values = workload.large_values;
    for step in 0..workload.steps {
        run.act(&workload.mix).unwrap();
        if step % 16 == 0 {
            run.check_now().unwrap();
        }
    }
    run.reopen().unwrap();
    run.check_now().unwrap();
    let history = run.fs.take_history();
    let mut explorer = Explorer {
        options: &workload.options,
        effort: Effort { nest_every: 40, nested_images: 10 },
        rng: Rng::new(seed ^ 0xc4a5),
        counts: Counts::default(),
    };
    explorer.all(&run, &history, seed);
    explorer.counts
}

#[test]
fn batches_over_keyspaces_with_mixed_durabilities() {
    crash_everywhere(&Workload {
        name: "batches",
        options: small_options(),
        mix: Mix {
            single: 10,
            batch: 30,
            range: 2,
            sync: 2,
            flush: 1,
            step: 10,
            tick: 2,
            create: 3,
            ..Mix::default()
        },
        steps: 200,
        large_values: false,
    });
}

#[test]
fn flushes_and_compactions() {
    crash_everywhere(&Workload {
        name: "flushes",
        options: compressed(small_options()).memtable_size_bytes(1024),
        mix: Mix {
            single: 20,
            batch: 10,
            range: 4,
            sync: 1,
            flush: 6,
            compact: 2,
            step: 20,
            tick: 1,
            create: 1,
            snapshot: 2,
            ..Mix::default()
        },
        steps: 120,
        large_values: false,
    });
}

#[test]
fn rotation_of_log_and_manifest_at_every_step() {
    crash_everywhere(&Workload {
        name: "rotation",
        options: small_options()
            .log_bytes_max(8 << 10)
            .manifest_rotate_bytes(0)
            .compaction(tiered()),
        mix: Mix {
            single: 20,
            batch: 10,
            range: 1,
            sync: 2,
            flush: 1,
            step: 12,
            tick: 2,
            create: 1,
            drop: 1,
            reopen: 1,
            ..Mix::default()
        },
        steps: 80,
        large_values: true,
    });
}

#[test]
fn keyspaces_come_and_go() {
    crash_everywhere(&Workload {
        name: "keyspaces",
        options: small_options().manifest_rotate_bytes(1).memtable_size_bytes(2048),
        mix: Mix {
            single: 10,
            batch: 10,
            range: 1,
            sync: 1,
            flush: 1,
            compact: 1,
            step: 8,
            tick: 1,
            create: 8,
            drop: 5,
            snapshot: 1,
            reopen: 1,
            ..Mix::default()
        },
        steps: 120,
        large_values: false,
    });
}

#[test]
fn checkpoints_and_all_the_rest() {
    crash_everywhere(&Workload {
        name: "checkpoints",
        options: compressed(small_options()).compaction(lazy()).memtable_size_bytes(2048),
        mix: Mix {
            single: 12,
            batch: 12,
            range: 2,
            sync: 1,
            flush: 2,
            compact: 1,
            step: 10,
            tick: 1,
            create: 2,
            drop: 1,
            checkpoint: 2,
            ingest: 1,
            reopen: 1,
            snapshot: 2,
        },
        steps: 100,
        large_values: true,
    });
}

#[test]
fn ingests_between_writes() {
    crash_everywhere(&Workload {
        name: "ingests",
        options: small_options().memtable_size_bytes(4096).block_cache_bytes(0),
        mix: Mix {
            single: 10,
            batch: 10,
            range: 3,
            sync: 1,
            flush: 1,
            compact: 1,
            step: 10,
            tick: 1,
            create: 1,
            drop: 1,
            ingest: 6,
            reopen: 1,
            snapshot: 1,
            ..Mix::default()
        },
        steps: 90,
        large_values: false,
    });
}

/// Blocks are cached by the id of their table, and ids come from the seed: a second open must not draw the same ones.
#[test]
fn one_seed_at_every_open_gives_different_tables() {
    let (fs, options) = (MemFs::new(), small_options().block_cache_bytes(1 << 20));
    for round in 0..4u8 {
        let (db, _) = open(Arc::new(fs.clone()), DIR, &options, 7).unwrap();
        for i in 0..20u8 {
            db.put([round, i], [round; 40]).unwrap();
        }
        db.flush().unwrap();
        for old in 0..=round {
            let pairs: Vec<_> = db.prefix([old]).map(Result::unwrap).collect();
            assert_eq!(pairs.len(), 20, "round {round}, keys of {old}");
            assert!(pairs.iter().all(|(k, v)| k[0] == old && *v == [old; 40]), "round {round}");
        }
        db.close().unwrap();
    }
}

/// A `Sync` write makes all earlier writes durable, also if it holds nothing itself.
#[test]
fn an_empty_sync_write_is_a_barrier() {
    let options = small_options().durability(Durability::Sync);
    for way in 0..2 {
        let fs = MemFs::new();
        let (db, _) = open(Arc::new(fs.clone()), DIR, &options, 1).unwrap();
        db.put_with("a", "1", Durability::Buffered).unwrap();
        match way {
            0 => db.batch().commit().unwrap(),
            _ => db.delete_range("x".."x").unwrap(),
        }
        let after = fs.crash(CrashProfile::DropAll, 0);
        let (db, _) = open(Arc::new(after), DIR, &options, 1).unwrap();
        assert!(db.contains_key("a").unwrap(), "way {way}");
    }
}
