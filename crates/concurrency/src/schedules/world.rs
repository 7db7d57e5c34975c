//! One schedule: a fresh disk, a database, clients, and the checks behind them.

use super::Scenario;
use super::client::Client;
use super::fs::SteppedFs;
use super::model::{Contents, Model, Promises};
use base::clock::ManualClock;
use lsm::executor::ManualExecutor;
use lsm::{CompactionPolicy, Db, Keyspace, KeyspaceOptions, Leveled, Options};
use shuttle::rand::RngCore;
use shuttle::thread;
use std::sync::Arc;
use std::time::Duration;
use vfs::{CrashProfile, Fs, MemFs};

/// Where the database is.
pub(crate) const DIR: &str = "/db";
/// The keyspace beside the default one.
pub(crate) const SECOND: &str = "second";
/// Written together, in both keyspaces, by everybody.
pub(crate) const PAIR: &str = "pair";
/// Counted up by compare and swap.
pub(crate) const COUNTER: &str = "counter";

/// What the clients share.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) disk: MemFs,
    pub(crate) model: Model,
}

/// A database and its second keyspace.
#[derive(Debug, Clone)]
pub(crate) struct Open {
    pub(crate) db: Db,
    pub(crate) second: Keyspace,
    /// What it stands on, if that wants to know when it is closed.
    fs: Option<SteppedFs>,
}

fn options() -> Options {
    Options::default()
        .memtable_size_bytes(1usize << 10)
        .block_cache_bytes(16usize << 10)
        .block_size_bytes(256usize)
        .log_segment_bytes(4u64 << 10)
        .log_bytes_max(8u64 << 10)
        .manifest_rotate_bytes(2u64 << 10)
        .disk_reserve_bytes(0u64)
        .open_files_max(2usize)
        .sync_interval(Duration::from_millis(1))
        .background_threads(2usize)
        .compaction(CompactionPolicy::Leveled(Leveled {
            l0_trigger: 2,
            base_bytes: 4 << 10,
            multiplier: 2,
            target_table_bytes: 1 << 10,
            ..Leveled::default()
        }))
}

impl Open {
    /// As a program opens it: with threads of its own.
    pub(crate) fn with_threads(disk: &MemFs) -> Open {
        let stepped = SteppedFs::new(disk.clone());
        let fs: Arc<dyn Fs> = Arc::new(stepped.clone());
        let clock = Arc::new(ManualClock::at(1));
        let db = Db::builder(DIR).options(options()).fs(fs).clock(clock).seed(7).open();
        Self::second(db.expect("opens"), Some(stepped))
    }

    /// On the thread of the caller.
    pub(crate) fn quiet(disk: &MemFs, dir: &str) -> Open {
        let fs: Arc<dyn Fs> = Arc::new(disk.clone());
        let (clock, executor) = (Arc::new(ManualClock::at(1)), ManualExecutor::new());
        let db = Db::builder(dir).options(options()).fs(fs).clock(clock).executor(executor);
        Self::second(db.seed(7).open().expect("opens"), None)
    }

    /// Closes it, and watches that nobody goes on.
    pub(crate) fn close(&self) -> lsm::Result<()> {
        self.db.close()?;
        self.fs.iter().for_each(SteppedFs::close);
        Ok(())
    }

    fn second(db: Db, fs: Option<SteppedFs>) -> Open {
        let second = db.keyspace(SECOND, KeyspaceOptions::default()).expect("keyspace");
        Open { db, second, fs }
    }

    pub(crate) fn keyspace(&self, number: usize) -> &Keyspace {
        if number == 0 { self.db.default_keyspace() } else { &self.second }
    }

    /// Everything in both keyspaces, as of one moment.
    pub(crate) fn contents(&self) -> Contents {
        let snapshot = self.db.snapshot();
        let mut contents = Contents::new();
        for number in 0..2 {
            for pair in snapshot.keyspace(self.keyspace(number)).iter() {
                let (key, value) = pair.expect("readable");
                contents.insert((number, text(&key)), text(&value));
            }
        }
        contents
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The keys of one client among `contents`.
pub(crate) fn own(contents: &Contents, client: usize) -> Contents {
    let prefix = format!("c{client}");
    let mine = contents.iter().filter(|((_, key), _)| key.starts_with(&prefix));
    mine.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Both halves of the pair are of one batch.
pub(crate) fn check_pair(contents: &Contents, what: &str) {
    let half = |number: usize| contents.get(&(number, PAIR.to_string()));
    assert_eq!(half(0), half(1), "half a batch: {what}");
}

pub(crate) fn counter_of(contents: &Contents) -> u64 {
    contents.get(&(0, COUNTER.to_string())).map_or(0, |n| n.parse().expect("a number"))
}

/// Compares what was found after a crash or a close with what was promised before.
pub(crate) fn check(found: &Contents, promises: &Promises, power_cut: bool) {
    check_pair(found, "afterwards");
    for (client, log) in promises.logs.iter().enumerate() {
        let mine = own(found, client);
        assert!(
            log.allows(&mine, power_cut),
            "client {client} power cut {power_cut}: found {:?} of {log:?}",
            mine
        );
    }
    let (counter, count) = (promises.counter, counter_of(found));
    assert!(count <= counter.issued, "counter {count} of {counter:?}");
    assert!(power_cut || count >= counter.acked, "counter {count} of {counter:?}");
}

impl World {
    /// Opens what a power cut, and what a kill, would leave now.
    pub(crate) fn check_crash(&self) {
        // Nothing here is a point at which another thread goes on, until the images are opened.
        let promises = self.model.lock().clone();
        let images = [CrashProfile::DropAll, CrashProfile::KeepAll].map(|p| self.disk.crash(p, 1));
        for (image, power_cut) in images.iter().zip([true, false]) {
            let open = Open::quiet(image, DIR);
            check(&open.contents(), &promises, power_cut);
        }
    }
}

/// One schedule of `scenario`.
pub(crate) fn run(scenario: &Scenario) {
    let seed = shuttle::rand::thread_rng().next_u64();
    let world = Arc::new(World { disk: MemFs::new(), model: Model::new(scenario.threads) });
    let open = Open::with_threads(&world.disk);
    let clients: Vec<_> = (0..scenario.threads)
        .map(|n| {
            let client = Client::new(n, seed, scenario, &world, &open);
            let client = client.expect("a client");
            thread::spawn(move || client.run())
        })
        .collect();
    for client in clients {
        client.join().expect("no client panics");
    }
    let promises = world.model.lock().clone();
    world.check_crash();
    if open.db.health().is_healthy() {
        let contents = open.contents();
        check(&contents, &promises, false);
        if seed.is_multiple_of(2) {
            open.db.wait_idle().expect("idle");
            assert_eq!(open.contents(), contents, "what waits for background work changes nothing");
            open.db.verify().expect("nothing is damaged");
        }
    }
    if seed.is_multiple_of(3) {
        open.close().expect("closes");
    }
    drop(open);
    let open = Open::quiet(&world.disk, DIR);
    let contents = open.contents();
    for (client, log) in promises.logs.iter().enumerate() {
        assert_eq!(own(&contents, client), log.all(), "client {client} after the end");
    }
    check(&contents, &promises, false);
    open.db.verify().expect("nothing is damaged");
}
