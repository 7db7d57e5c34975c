//! Policies over arbitrary versions, with a make-believe merge that keeps track of every entry.

use crate::source::Source;
use base::{FileNum, SeqNo};
use compaction::{Fifo, LazyLeveled, Leveled, OlderData, Policy, SizeTiered, Task, TaskKind, View};
use manifest::{AddedTable, LEVELS_MAX, RunId, TableMeta, UpperBound, Version};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Bound;

const ENTRY: u64 = 100;
const STEPS_MAX: usize = 3000;

/// Bytes as a version, a policy and a schedule; or as a version of any sizes, looked at once.
pub fn picker(data: &[u8]) {
    crate::cap::decoding(data, || {
        let mut source = Source::new(data);
        let selector = source.u8();
        let policy = any_policy(&mut source);
        assert!(policy.validate().is_ok(), "{policy:?}");
        if selector.is_multiple_of(4) {
            return any_sizes(&mut source, &policy);
        }
        let mut tree = Sim::new(&mut source);
        while !source.is_empty() {
            tree.step(&mut source, &policy);
        }
        tree.settle(&policy);
        tree.snapshot = None;
        tree.settle(&policy);
        if selector % 4 == 1 {
            let (a, b) = (vec![selector >> 4], vec![(selector >> 2) | 0xf]);
            tree.compact_range(&policy, Bound::Included(&a), Bound::Excluded(&b));
        } else if selector % 4 == 2 {
            tree.compact_range(&policy, Bound::Unbounded, Bound::Unbounded);
        }
    });
}

fn any_policy(source: &mut Source<'_>) -> Policy {
    let sizes = [1, ENTRY, 3 * ENTRY, 10 * ENTRY, 1 << 20, 1 << 60];
    let tombstone_percent = source.pick(&[0, 1, 50, 100]);
    let target_table_bytes = source.pick(&sizes);
    match source.u8() % 8 {
        0..3 => Policy::Leveled(Leveled {
            l0_trigger: 1 + source.below(5),
            base_bytes: source.pick(&sizes),
            multiplier: source.pick(&[2, 3, 10, 100]),
            target_table_bytes,
            tombstone_percent,
        }),
        3 | 4 => {
            let min_threshold = 2 + source.below(4);
            Policy::SizeTiered(SizeTiered {
                min_threshold,
                max_threshold: min_threshold + source.below(5),
                min_run_bytes: source.pick(&[0, ENTRY, 1 << 60]),
                bucket_low: source.pick(&[0.0, 0.5, 1.0]),
                bucket_high: source.pick(&[1.0, 1.5, 100.0]),
                target_table_bytes,
                tombstone_percent,
            })
        }
        5 | 6 => Policy::LazyLeveled(LazyLeveled {
            runs_per_level: 2 + source.below(4),
            target_table_bytes,
            tombstone_percent,
        }),
        _ => Policy::Fifo(Fifo {
            max_bytes: source.pick(&sizes),
            ttl_micros: source.flag().then_some(1 + u64::from(source.u8())),
        }),
    }
}

/// Versions of one key: sequence number, newest first, and whether it is a delete.
type Versions = BTreeMap<Reverse<u64>, bool>;
type Contents = BTreeMap<u8, Versions>;

struct Sim {
    version: Version,
    contents: BTreeMap<FileNum, Contents>,
    running: Vec<Task>,
    model: Contents,
    next_file: u64,
    next_run: u64,
    seq: u64,
    snapshot: Option<u64>,
    now: u64,
}

impl Sim {
    /// Runs anywhere, oldest at the bottom.
    fn new(source: &mut Source<'_>) -> Sim {
        let (contents, model) = (BTreeMap::new(), Contents::new());
        let (version, running) = (Version::empty(), Vec::new());
        let mut sim = Sim {
            version,
            contents,
            running,
            model,
            next_file: 1,
            next_run: 1,
            seq: 0,
            snapshot: None,
            now: 0,
        };
        let mut levels: Vec<usize> =
            (0..source.below(10)).map(|_| source.below(LEVELS_MAX)).collect();
        levels.sort_unstable_by(|a, b| b.cmp(a));
        for level in levels {
            sim.flush(source, level);
        }
        sim
    }

    fn flush(&mut self, source: &mut Source<'_>, level: usize) {
        let mut contents = Contents::new();
        for _ in 0..1 + source.below(8) {
            let byte = source.u8();
            let (key, delete) = (byte % 32, byte >= 160);
            self.seq += 1;
            contents.entry(key).or_default().insert(Reverse(self.seq), delete);
            self.model.entry(key).or_default().insert(Reverse(self.seq), delete);
        }
        let target = ENTRY * (1 + source.below(6) as u64);
        let run = RunId(self.next_run);
        self.next_run += 1;
        let added = self.cut(contents, level, run, target);
        self.apply(&added, &[]);
    }

    /// Cuts entries into tables at keys, as the runner does.
    fn cut(
        &mut self,
        contents: Contents,
        level: usize,
        run: RunId,
        target: u64,
    ) -> Vec<AddedTable> {
        let (mut tables, mut current) = (Vec::new(), Contents::new());
        for (key, versions) in contents {
            current.insert(key, versions);
            if size(&current) > target {
                tables.push(std::mem::take(&mut current));
            }
        }
        if !current.is_empty() {
            tables.push(current);
        }
        let mut add = |contents: Contents| {
            let file = FileNum(self.next_file);
            self.next_file += 1;
            let table = meta(file, &contents, self.now);
            self.contents.insert(file, contents);
            AddedTable { level: level as u32, run, table }
        };
        tables.into_iter().map(&mut add).collect()
    }

    fn apply(&mut self, added: &[AddedTable], removed: &[FileNum]) {
        self.version = self.version.apply(added, removed).expect("a valid edit");
        self.version.check_invariants().expect("a valid version");
    }

    fn view(&self) -> View<'_> {
        View {
            version: &self.version,
            running: &self.running,
            now_micros: self.now,
            oldest_snapshot: self.snapshot.map_or(SeqNo::MAX, SeqNo),
            burst: self.now.is_multiple_of(4),
        }
    }

    fn step(&mut self, source: &mut Source<'_>, policy: &Policy) {
        self.now += 1;
        match source.u8() % 8 {
            0 | 1 => self.flush(source, 0),
            2..5 => drop(self.start(policy.pick(&self.view()))),
            5 | 6 if !self.running.is_empty() => {
                self.finish(source.below(self.running.len()));
                self.check(policy);
            }
            // A merge that runs has its snapshots from its start; the real one takes them then, too.
            _ if self.running.is_empty() => self.snapshot = source.flag().then_some(self.seq),
            _ => {}
        }
    }

    fn start(&mut self, task: Option<Task>) -> bool {
        let Some(task) = task else { return false };
        for other in &self.running {
            assert!(
                !task.conflicts_with(other) && !other.conflicts_with(&task),
                "{task:?} beside {other:?}"
            );
        }
        check_task(&self.version, &task);
        self.running.push(task);
        true
    }

    fn finish(&mut self, at: usize) {
        let task = self.running.remove(at);
        let mut outputs = Vec::new();
        if task.kind == TaskKind::Merge {
            let merged = self.merge(&task);
            outputs = self.cut(merged, task.output_level, task.output_run, task.target_table_bytes);
        }
        let (added, removed) = task.changes(outputs.into_iter().map(|a| a.table).collect());
        self.apply(&added, &removed);
        if task.kind == TaskKind::Drop {
            // What was dropped is gone by design.
            for file in removed {
                for (key, versions) in &self.contents[&file] {
                    let kept = self.model.entry(*key).or_default();
                    kept.retain(|seq, _| !versions.contains_key(seq));
                }
            }
        }
    }

    /// What the drop rules leave of the inputs.
    fn merge(&self, task: &Task) -> Contents {
        let older = OlderData::within(&task.older);
        let mut merged = Contents::new();
        for table in task.tables() {
            for (key, versions) in &self.contents[&table.file] {
                merged.entry(*key).or_default().extend(versions);
            }
        }
        for (key, versions) in &mut merged {
            let kept = |reader: u64| versions.range(Reverse(reader)..).next().map(|(seq, _)| *seq);
            let keep = [kept(u64::MAX), self.snapshot.and_then(kept)];
            versions.retain(|seq, _| keep.contains(&Some(*seq)));
            let last = versions.last_key_value().map(|(seq, delete)| (*seq, *delete));
            if let Some((seq, true)) = last {
                let seen_by_all = self.snapshot.is_none_or(|s| seq.0 <= s);
                if seen_by_all && !older.covers(&[*key]) {
                    versions.remove(&seq);
                }
            }
        }
        merged.retain(|_, versions| !versions.is_empty());
        merged
    }

    fn get(&self, key: u8, reader: u64) -> Option<u64> {
        for (_, run, table) in self.version.tables().filter(|(_, _, t)| t.covers_key(&[key])) {
            assert_eq!(run.find(&[key]).map(|t| t.file), Some(table.file));
            let versions = self.contents[&table.file].get(&key);
            if let Some((seq, delete)) = versions.and_then(|v| v.range(Reverse(reader)..).next()) {
                return (!delete).then_some(seq.0);
            }
        }
        None
    }

    /// Reads find what was written, for the newest reader and the oldest; nothing about FIFO's order of dropping.
    fn check(&self, policy: &Policy) {
        if matches!(policy, Policy::Fifo(_)) {
            return;
        }
        for reader in [Some(u64::MAX), self.snapshot].into_iter().flatten() {
            for key in 0..32 {
                let newest = self.model.get(&key).and_then(|v| v.range(Reverse(reader)..).next());
                let expected = newest.and_then(|(seq, delete)| (!delete).then_some(seq.0));
                assert_eq!(
                    self.get(key, reader),
                    expected,
                    "key {key} at {reader}\n{}",
                    self.version
                );
            }
        }
    }

    /// Picks and finishes until there is nothing to do.
    fn settle(&mut self, policy: &Policy) {
        while !self.running.is_empty() {
            self.finish(0);
            self.check(policy);
        }
        for _ in 0..STEPS_MAX {
            if !self.start(policy.pick(&self.view())) {
                let debt = policy.debt(&self.version);
                assert!(debt.l0_runs <= self.version.runs_total());
                return self.check(policy);
            }
            self.finish(0);
        }
        panic!("{policy:?} does not end\n{}", self.version);
    }

    fn compact_range(&mut self, policy: &Policy, lower: Bound<&[u8]>, upper: Bound<&[u8]>) {
        for _ in 0..STEPS_MAX {
            if !self.start(policy.pick_range(&self.view(), lower, upper)) {
                return self.check(policy);
            }
            self.finish(0);
        }
        panic!("{policy:?}: a manual compaction does not end\n{}", self.version);
    }
}

fn size(contents: &Contents) -> u64 {
    contents.values().map(|versions| versions.len() as u64 * ENTRY).sum()
}

fn meta(file: FileNum, contents: &Contents, now: u64) -> TableMeta {
    let all = || contents.values().flatten();
    let key = |at: Option<(&u8, &Versions)>| at.map(|(key, _)| vec![*key]).unwrap_or_default();
    TableMeta {
        file,
        table_id: file.0,
        size_bytes: size(contents),
        entries: all().count() as u64,
        deletes: all().filter(|(_, delete)| **delete).count() as u64,
        range_tombstones: 0,
        raw_bytes: size(contents),
        smallest: key(contents.first_key_value()),
        largest: key(contents.last_key_value()),
        largest_exclusive: false,
        seq_min: SeqNo(all().map(|(seq, _)| seq.0).min().unwrap_or(0)),
        seq_max: SeqNo(all().map(|(seq, _)| seq.0).max().unwrap_or(0)),
        created_micros: now,
    }
}

/// The rules of a task that need no knowledge of why it was picked.
fn check_task(version: &Version, task: &Task) {
    assert!(!task.inputs.is_empty() && task.inputs.iter().all(|input| !input.tables.is_empty()));
    for input in &task.inputs {
        let run = version.levels[input.level].run(input.run).expect("an input run exists");
        assert!(input.tables.iter().all(|t| run.tables.contains(t)), "inputs are of the version");
    }
    let mut files: Vec<_> = task.tables().map(|t| t.file).collect();
    files.sort_unstable();
    assert!(files.windows(2).all(|w| w[0] < w[1]), "a table is taken twice");
    if task.kind == TaskKind::Drop {
        return;
    }
    assert!(task.output_level < LEVELS_MAX);
    let lower = task.tables().map(|t| &t.smallest[..]).min().expect("inputs");
    let upper: UpperBound<'_> = task.tables().map(|t| t.upper()).max().expect("inputs");
    let output = (task.output_level, Reverse(task.output_run));
    for (level, run, table) in version.tables() {
        let place = (level, Reverse(run.id));
        let is_input = files.binary_search(&table.file).is_ok();
        let overlaps = table.overlaps(lower, upper);
        assert!(
            !(place > output && overlaps && !task.older.contains(table)),
            "{table} is older and not listed"
        );
        assert!(!(place > output && is_input), "{table} would move up");
        let in_the_way = task.kind == TaskKind::Merge && place == output && overlaps && !is_input;
        assert!(!in_the_way, "{table} is in the way of the output");
    }
    check_order(version, task, output);
}

/// Nothing sinks below older data of its keys: between an input and the output no table that shares keys stays.
fn check_order(version: &Version, task: &Task, output: (usize, Reverse<RunId>)) {
    for input in &task.inputs {
        let from = (input.level, Reverse(input.run));
        for (level, run, table) in version.tables() {
            let place = (level, Reverse(run.id));
            let stays =
                from < place && place <= output && !task.tables().any(|t| t.file == table.file);
            let shares = || input.tables.iter().any(|t| t.overlaps(&table.smallest, table.upper()));
            assert!(!(stays && shares()), "{table} would lie above newer data");
        }
    }
}

/// A version as a manifest could hold it, with numbers that no engine writes: answers do not matter.
fn any_sizes(source: &mut Source<'_>, policy: &Policy) {
    let mut version = Version::empty();
    for file in 0..source.below(24) {
        let smallest = source.take(2).to_vec();
        let table = TableMeta {
            file: FileNum(file as u64),
            table_id: 1,
            size_bytes: source.number(),
            entries: source.number(),
            deletes: source.number(),
            range_tombstones: source.number(),
            raw_bytes: source.number(),
            largest: [&smallest[..], source.take(1)].concat(),
            smallest,
            largest_exclusive: false,
            seq_min: SeqNo(0),
            seq_max: SeqNo(source.number()).min(SeqNo::MAX),
            created_micros: source.number(),
        };
        let run = if source.u8().is_multiple_of(8) {
            RunId(u64::MAX)
        } else {
            RunId(u64::from(source.u8() % 4))
        };
        let added = AddedTable { level: u32::from(source.u8() % 7), run, table };
        version = version.apply(&[added], &[]).unwrap_or(version);
    }
    let mut running: Vec<Task> = Vec::new();
    for _ in 0..6 {
        let debt = policy.debt(&version);
        assert!(debt.l0_runs <= version.runs_total());
        let (now_micros, oldest) = (source.number(), source.number());
        let oldest_snapshot =
            if oldest.is_multiple_of(2) { SeqNo::MAX } else { SeqNo(oldest >> 8) };
        let burst = now_micros.is_multiple_of(4);
        let view =
            View { version: &version, running: &running, now_micros, oldest_snapshot, burst };
        let by_range = policy.pick_range(&view, Bound::Included(b"\x10"), Bound::Unbounded);
        by_range.iter().for_each(|task| check_task(&version, task));
        let Some(task) = policy.pick(&view) else { continue };
        check_task(&version, &task);
        assert!(running.iter().all(|other| !task.conflicts_with(other)));
        running.push(task);
    }
}
