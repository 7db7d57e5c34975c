//! Scripts in `testdata/`: writes, steps of background work by hand, reads, and the tree in between.

use crate::executor::ManualExecutor;
use crate::{Compression, Db, Keyspace, KeyspaceOptions, Leveled, Options, Snapshot};
use base::clock::ManualClock;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use testkit::script::{self, Command};
use vfs::MemFs;

struct Session {
    fs: MemFs,
    executor: Arc<ManualExecutor>,
    db: Option<Db>,
    snapshots: BTreeMap<String, Snapshot>,
}

#[test]
fn scripts() {
    script::run_dir("testdata", Session::new, |session, command| session.command(command));
}

impl Session {
    fn new() -> Session {
        let fs = MemFs::new();
        let (executor, snapshots) = (ManualExecutor::new(), BTreeMap::new());
        let mut session = Session { fs, executor, db: None, snapshots };
        session.open();
        session
    }

    fn open(&mut self) {
        self.executor = ManualExecutor::new();
        let leveled = Leveled { l0_trigger: 100, ..Leveled::default() };
        let options = Options::default()
            .log_segment_bytes(16 << 10)
            .compression(Compression::None)
            .disk_reserve_bytes(0)
            .compaction(leveled);
        let db = Db::builder("/db")
            .options(options)
            .fs(Arc::new(self.fs.clone()))
            .executor(self.executor.clone())
            .clock(Arc::new(ManualClock::at(1)))
            .seed(1)
            .open();
        self.db = Some(db.expect("opens"));
    }

    fn db(&self) -> &Db {
        self.db.as_ref().expect("open")
    }

    fn keyspace(&self, command: &Command) -> Keyspace {
        match command.arg("in") {
            Some(name) => self.db().keyspace(name, KeyspaceOptions::default()).expect("made"),
            None => self.db().default_keyspace().clone(),
        }
    }

    fn command(&mut self, command: &Command) -> String {
        let keyspace = self.keyspace(command);
        match &command.verb[..] {
            "write" => self.write(&keyspace, &command.input),
            "batch" => self.batch(&keyspace, &command.input),
            "flush" => show(keyspace.flush(), || self.tree(&keyspace)),
            "compact" => {
                let from = command.arg("from").unwrap_or_default();
                let done = match command.arg("to") {
                    Some(to) => keyspace.compact_range(from..to),
                    None => keyspace.compact_range(from..),
                };
                show(done, || self.tree(&keyspace))
            }
            "tree" => self.tree(&keyspace),
            "snapshot" => {
                let name = command.args.first().map(|a| a.key.clone()).unwrap_or_default();
                let snapshot = self.db().snapshot();
                let text = format!("at {}\n", snapshot.sequence());
                self.snapshots.insert(name, snapshot);
                text
            }
            "release" => {
                let name = command.args.first().map(|a| a.key.clone()).unwrap_or_default();
                format!("{}\n", self.snapshots.remove(&name).is_some())
            }
            "get" => self.get(&keyspace, command),
            "scan" => self.scan(&keyspace, command),
            "ingest" => {
                let pairs = command.input.lines().filter_map(|line| line.split_once('='));
                let made = keyspace.ingest(pairs.collect::<Vec<_>>());
                show(made, || self.tree(&keyspace))
            }
            "reopen" => {
                drop(keyspace);
                self.snapshots.clear();
                self.db().close().expect("closes");
                self.open();
                self.tree(&self.keyspace(command))
            }
            "crash" => {
                drop(keyspace);
                self.snapshots.clear();
                self.fs = self.fs.crash(vfs::CrashProfile::KeepAll, 1);
                self.open();
                self.tree(&self.keyspace(command))
            }
            other => format!("unknown command {other}\n"),
        }
    }

    /// Lines of `key=value`, `-key`, `-from..to`.
    fn write(&self, keyspace: &Keyspace, input: &str) -> String {
        for line in input.lines() {
            let done = match (line.strip_prefix('-'), line.split_once('=')) {
                (Some(range), _) if range.contains("..") => {
                    let (from, to) = range.split_once("..").expect("a range");
                    keyspace.delete_range(from..to)
                }
                (Some(key), _) => keyspace.delete(key),
                (None, Some((key, value))) => keyspace.put(key, value),
                (None, None) => return format!("bad line {line}\n"),
            };
            if let Err(e) = done {
                return format!("{e}\n");
            }
        }
        format!("at {}\n", self.db().snapshot().sequence())
    }

    fn batch(&self, keyspace: &Keyspace, input: &str) -> String {
        let mut batch = self.db().batch();
        for line in input.lines() {
            match (line.strip_prefix('-'), line.split_once('=')) {
                (Some(range), _) if range.contains("..") => {
                    let (from, to) = range.split_once("..").expect("a range");
                    batch.delete_range_in(keyspace, from..to);
                }
                (Some(key), _) => batch.delete_in(keyspace, key),
                (None, Some((key, value))) => batch.put_in(keyspace, key, value),
                (None, None) => return format!("bad line {line}\n"),
            }
        }
        show(batch.commit(), || format!("at {}\n", self.db().snapshot().sequence()))
    }

    /// `get key [at=snapshot]`, one answer a line for each key given.
    fn get(&self, keyspace: &Keyspace, command: &Command) -> String {
        let snapshot = command.arg("at").map(|name| &self.snapshots[name]);
        let mut out = String::new();
        for arg in command.args.iter().filter(|a| a.value.is_none()) {
            let found = match snapshot {
                Some(snapshot) => snapshot.keyspace(keyspace).get(&arg.key),
                None => keyspace.get(&arg.key),
            };
            let found = found.expect("readable").map(|v| String::from_utf8_lossy(&v).into_owned());
            writeln!(out, "{}: {}", arg.key, found.as_deref().unwrap_or("-")).expect("memory");
        }
        out
    }

    /// `scan [from=] [to=] [at=snapshot] [rev]`, all pairs on one line.
    fn scan(&self, keyspace: &Keyspace, command: &Command) -> String {
        let from = command.arg("from").unwrap_or_default().to_owned();
        let to = command.arg("to").map(str::to_owned);
        let upper = to.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let range = (std::ops::Bound::Included(from), upper);
        let scan = match command.arg("at") {
            Some(name) => self.snapshots[name].keyspace(keyspace).range(range),
            None => keyspace.range(range),
        };
        let shown = |pair: crate::Result<(crate::Slice, crate::Slice)>| {
            let (key, value) = pair.expect("readable");
            format!("{}={}", String::from_utf8_lossy(&key), String::from_utf8_lossy(&value))
        };
        let pairs: Vec<String> = match command.flag("rev") {
            true => scan.rev().map(shown).collect(),
            false => scan.map(shown).collect(),
        };
        format!("{}\n", pairs.join(" "))
    }

    /// Memtables and tables, entry by entry.
    fn tree(&self, keyspace: &Keyspace) -> String {
        let view = keyspace.tree.view_full();
        let mut out = String::new();
        for (i, mem) in view.memtables().enumerate().filter(|(_, m)| !m.table.is_empty()) {
            let name = if i == 0 { "active" } else { "frozen" };
            let entries = entries(&mut mem.table.iter(), &mem.table.range_tombstones());
            writeln!(out, "{name}: {entries}").expect("memory");
        }
        let tables = &self.db().default_keyspace().handle.engine.tables;
        for (level, run, meta) in view.version.tables() {
            let table = tables.get(meta.file, meta.table_id, meta.seq_max).expect("opens");
            let entries =
                entries(&mut table.iter(sstable::CacheHint::NoFill), table.range_tombstones());
            writeln!(out, "L{level} run {}: {entries}", run.id).expect("memory");
        }
        if out.is_empty() { "empty\n".into() } else { out }
    }
}

fn entries(it: &mut impl base::InternalIterator, tombstones: &base::Fragments) -> String {
    let mut out = Vec::new();
    it.seek_to_first().expect("readable");
    while it.valid() {
        let key = it.key();
        let value = match key.kind {
            base::ValueKind::Delete => "(deleted)".into(),
            _ => String::from_utf8_lossy(it.value()).into_owned(),
        };
        out.push(format!("{}@{}={value}", key.user_key.escape_ascii(), key.seq));
        it.next().expect("readable");
    }
    for t in tombstones.tombstones() {
        let (from, to) = (t.start.escape_ascii(), t.end.escape_ascii());
        out.push(format!("[{from}..{to})@{}", t.seq));
    }
    out.join(" ")
}

fn show<T>(result: crate::Result<T>, ok: impl FnOnce() -> String) -> String {
    match result {
        Ok(_) => ok(),
        Err(e) => format!("{e}\n"),
    }
}
