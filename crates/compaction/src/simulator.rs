//! What a policy costs for a shape of data, without a disk.
//!
//! The real [`Policy::pick`] runs on a version of made-up tables. A table here is a stretch of the key
//! space with so many puts and tombstones, spread evenly; a merge computes how many of its inputs'
//! entries are expected to meet the same key, stretch by stretch. Keys come in random order.
//!
//! # Scale
//! The cost of a tree hangs on the ratio of data to memtable. Up to [`FLUSHES_MAX`] the whole tree is
//! simulated, one memtable at a time. Beyond, a tree that is whole levels smaller is simulated, and so
//! is one that is smaller still; each level left out is taken to cost what the levels between those
//! two do on average. [`Costs::levels_left_out`] says how many those are.
//!
//! # What is left out
//! Time: tasks take none, so nothing runs beside them and writes never wait. Compression, indexes and
//! filters take no space. The log is not counted.

use crate::drop_rules::OlderData;
use crate::policy::{Policy, View};
use crate::task::{Task, TaskKind};
use base::{Error, FileNum, Result, SeqNo};
use manifest::{AddedTable, LEVELS_MAX, RunId, TableMeta, Version};
use std::collections::BTreeMap;

/// Most memtables that are simulated one by one.
pub const FLUSHES_MAX: f64 = 4096.0;
/// Smallest tree, in memtables, that the cost of a level is taken from.
const FLUSHES_MIN: f64 = 24.0;
/// A tombstone has a key and no value: at most this many bytes.
const TOMBSTONE_BYTES_MAX: f64 = 24.0;
/// Every so many flushes the costs of reads are looked at; shares no factor with usual thresholds.
const SAMPLE_EVERY: u64 = 7;

/// What is stored, and how it is written.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// Live data at the end, in bytes. At least one memtable is simulated.
    pub total_bytes: f64,
    /// Key, value and what goes with them, in bytes. Default 116.
    pub entry_bytes: f64,
    /// Default 64 MiB.
    pub memtable_bytes: f64,
    /// Share of writes that replace a value, 0 to 1. Default 0.5.
    pub updates: f64,
    /// Share of writes that delete a key, 0 to 1, with the updates at most 1. Default 0.
    pub deletes: f64,
    /// Share of the keys that are hot. Default 0.2.
    pub hot_keys: f64,
    /// Share of the updates that go to hot keys; equal to `hot_keys` they are uniform. Default 0.2.
    pub hot_updates: f64,
    /// Filter bits for each key; 0 for no filters. Default 10.
    pub filter_bits: f64,
}

impl Default for Shape {
    fn default() -> Self {
        Shape {
            total_bytes: 1e12,
            entry_bytes: 116.0,
            memtable_bytes: (64u64 << 20) as f64,
            updates: 0.5,
            deletes: 0.0,
            hot_keys: 0.2,
            hot_updates: 0.2,
            filter_bits: 10.0,
        }
    }
}

impl Shape {
    /// Checks the documented ranges.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] that lists every broken rule.
    pub fn validate(&self) -> Result<()> {
        let shares = [self.updates, self.deletes, self.hot_keys, self.hot_updates];
        let broken: Vec<&str> = [
            (self.total_bytes >= 1.0 && self.total_bytes <= 1e24, "total_bytes is not 1 to 1e24"),
            (self.entry_bytes >= 1.0 && self.entry_bytes <= 1e9, "entry_bytes is not 1 to 1e9"),
            (
                self.memtable_bytes >= self.entry_bytes && self.memtable_bytes <= 1e15,
                "memtable_bytes is not between one entry and 1e15",
            ),
            (shares.iter().all(|s| (0.0..=1.0).contains(s)), "a share is not 0 to 1"),
            (self.updates + self.deletes <= 1.0, "updates and deletes are more than all writes"),
            ((0.0..=64.0).contains(&self.filter_bits), "filter_bits is not 0 to 64"),
        ]
        .into_iter()
        .filter_map(|(ok, rule)| (!ok).then_some(rule))
        .collect();
        if broken.is_empty() { Ok(()) } else { Err(Error::invalid("shape", broken.join("; "))) }
    }

    fn false_positives(&self) -> f64 {
        0.6185f64.powf(self.filter_bits)
    }
}

/// What a policy costs.
#[derive(Debug, Clone, PartialEq)]
pub struct Costs {
    /// Bytes written to tables for each byte given to the engine, flushes included.
    pub write: f64,
    /// Bytes in tables over bytes of live data, on average.
    pub space: f64,
    /// The same at the worst moment, with the outputs of a merge beside its inputs.
    pub space_peak: f64,
    /// Sorted runs, on average: what a scan merges, and what a read without filters looks into in vain.
    pub runs: f64,
    /// Tables that a read of a key that is there looks into behind filters, on average.
    pub probes_present: f64,
    /// The same for a key that is not there.
    pub probes_absent: f64,
    /// Levels in use at the end, L0 included.
    pub levels: usize,
    /// Tables at the end.
    pub tables: f64,
    /// Levels that were not simulated but counted like the last one that was.
    pub levels_left_out: u32,
}

/// Simulates loading the data in random order, then writing as much again as `shape` says.
///
/// # Errors
/// [`Error::InvalidArgument`] for a policy or shape that is out of range.
pub fn simulate(policy: &Policy, shape: &Shape) -> Result<Costs> {
    policy.validate()?;
    shape.validate()?;
    let flushes = shape.total_bytes / shape.memtable_bytes;
    if let Policy::Fifo(_) = policy {
        return Ok(fifo_costs(shape, flushes));
    }
    let (policy, growth) = with_growth(policy, shape);
    let mut left_out = 0;
    while flushes / growth.powi(left_out) > FLUSHES_MAX {
        left_out += 1;
    }
    let smaller = |levels: i32| Shape {
        total_bytes: shape.total_bytes / growth.powi(levels),
        ..shape.clone()
    };
    let costs = Sim::run(&policy, &smaller(left_out))?;
    if left_out == 0 {
        return Ok(costs);
    }
    let mut between = 1;
    while flushes / growth.powi(left_out + between + 1) >= FLUSHES_MIN {
        between += 1;
    }
    let less = Sim::run(&policy, &smaller(left_out + between))?;
    Ok(costs.with_more_levels(&less, left_out, between, growth))
}

/// The policy and the size of a level over that of the one above.
fn with_growth(policy: &Policy, shape: &Shape) -> (Policy, f64) {
    match policy {
        Policy::Leveled(p) => {
            let growth = p.growth(shape.total_bytes).ceil();
            let multiplier = (growth as u32).clamp(p.multiplier, 100);
            (crate::Leveled { multiplier, ..p.clone() }.into(), growth)
        }
        Policy::SizeTiered(p) => (policy.clone(), p.min_threshold as f64),
        Policy::LazyLeveled(p) => {
            let runs_per_level = p.growth(shape.total_bytes).min(1000);
            (crate::LazyLeveled { runs_per_level, ..p.clone() }.into(), runs_per_level as f64)
        }
        Policy::Fifo(_) => (policy.clone(), 2.0),
    }
}

/// Every flush is a run that stays until it is dropped: nothing needs to be simulated.
fn fifo_costs(shape: &Shape, flushes: f64) -> Costs {
    let runs = flushes.max(1.0);
    Costs {
        write: 1.0,
        space: 1.0,
        space_peak: 1.0,
        runs,
        probes_present: 1.0 + (runs - 1.0) / 2.0 * shape.false_positives(),
        probes_absent: runs * shape.false_positives(),
        levels: 1,
        tables: runs,
        levels_left_out: 0,
    }
}

impl Costs {
    /// `less` are the costs of a tree with `between` levels less.
    fn with_more_levels(&self, less: &Costs, levels: i32, between: i32, growth: f64) -> Costs {
        let n = f64::from(levels) / f64::from(between);
        let further = |here: f64, before: f64| here + n * (here - before).max(0.0);
        let in_use = further(self.levels as f64, less.levels as f64).round() as usize;
        Costs {
            write: further(self.write, less.write),
            runs: further(self.runs, less.runs),
            probes_present: further(self.probes_present, less.probes_present),
            probes_absent: further(self.probes_absent, less.probes_absent),
            levels: in_use.min(LEVELS_MAX),
            tables: self.tables * growth.powi(levels),
            levels_left_out: levels as u32,
            ..self.clone()
        }
    }
}

/// Hot keys and cold keys are counted apart.
type ByHeat = [f64; 2];

/// What lies in a stretch of the key space, `lo..hi`.
#[derive(Debug, Clone, Copy, Default)]
struct Stretch {
    lo: u64,
    hi: u64,
    puts: ByHeat,
    deletes: ByHeat,
    /// Entries whose key also has an older version somewhere.
    repeats: ByHeat,
}

impl Stretch {
    fn width(&self) -> f64 {
        (self.hi - self.lo) as f64
    }

    fn bytes(&self, shape: &Shape) -> f64 {
        let tombstone = shape.entry_bytes.min(TOMBSTONE_BYTES_MAX);
        self.puts.iter().sum::<f64>() * shape.entry_bytes
            + self.deletes.iter().sum::<f64>() * tombstone
    }

    fn entries(&self, heat: usize) -> f64 {
        self.puts[heat] + self.deletes[heat]
    }

    /// The part of it in `lo..hi`.
    fn part(&self, lo: u64, hi: u64) -> Stretch {
        let share = (hi - lo) as f64 / self.width().max(1.0);
        let scale = |x: ByHeat| x.map(|x| x * share);
        let (puts, deletes) = (scale(self.puts), scale(self.deletes));
        Stretch { lo, hi, puts, deletes, repeats: scale(self.repeats) }
    }

    /// Merges newer entries over these; `live` keys lie in the stretch.
    fn cover(&mut self, newer: &Stretch, live: ByHeat) {
        for (heat, live) in live.into_iter().enumerate() {
            let here = self.entries(heat);
            let met = newer.repeats[heat] * (here / live.max(1e-9)).min(1.0);
            let met = met.min(here);
            let kept = if here > 0.0 { 1.0 - met / here } else { 0.0 };
            self.puts[heat] = newer.puts[heat] + self.puts[heat] * kept;
            self.deletes[heat] = newer.deletes[heat] + self.deletes[heat] * kept;
            self.repeats[heat] += newer.repeats[heat] - met;
        }
    }

    /// Joins the stretch behind this one.
    fn join(&mut self, next: &Stretch) {
        self.hi = next.hi;
        for heat in 0..2 {
            self.puts[heat] += next.puts[heat];
            self.deletes[heat] += next.deletes[heat];
            self.repeats[heat] += next.repeats[heat];
        }
    }
}

/// One simulation.
#[derive(Debug)]
struct Sim<'a> {
    policy: &'a Policy,
    shape: &'a Shape,
    version: Version,
    contents: BTreeMap<FileNum, Stretch>,
    next: u64,
    /// Keys that exist.
    live: ByHeat,
    given_bytes: f64,
    written_bytes: f64,
    space_peak: f64,
}

/// Sums over samples.
#[derive(Debug, Default)]
struct Samples {
    count: f64,
    space: f64,
    runs: f64,
    probes_present: f64,
    probes_absent: f64,
}

impl<'a> Sim<'a> {
    fn run(policy: &'a Policy, shape: &'a Shape) -> Result<Costs> {
        let mut sim = Sim {
            policy,
            shape,
            version: Version::default(),
            contents: BTreeMap::new(),
            next: 1,
            live: [0.0; 2],
            given_bytes: 0.0,
            written_bytes: 0.0,
            space_peak: 0.0,
        };
        let growth = 1.0 - shape.updates - 2.0 * shape.deletes;
        let flushes = (shape.total_bytes / shape.memtable_bytes).max(1.0);
        let loaded = (flushes * (1.0 - growth / 2.0)).clamp(flushes / 2.0, flushes * 2.0);
        for _ in 0..loaded.ceil() as u64 {
            sim.flush(0.0, 0.0)?;
        }
        (sim.given_bytes, sim.written_bytes, sim.space_peak) = (0.0, 0.0, 0.0);
        let mut samples = Samples::default();
        for i in 0..(flushes / 2.0).ceil().max(128.0) as u64 {
            sim.flush(shape.updates, shape.deletes)?;
            if i % SAMPLE_EVERY == 0 {
                sim.sample(&mut samples);
            }
        }
        Ok(sim.costs(&samples))
    }

    /// One memtable full of writes, and the compactions that follow.
    fn flush(&mut self, updates: f64, deletes: f64) -> Result<()> {
        let writes = self.shape.memtable_bytes / self.shape.entry_bytes;
        self.given_bytes += self.shape.memtable_bytes;
        let hot = [self.shape.hot_keys, 1.0 - self.shape.hot_keys];
        let hot_updates = [self.shape.hot_updates, 1.0 - self.shape.hot_updates];
        let live_total = self.live.iter().sum::<f64>().max(1.0);
        let mut all = Stretch { lo: 0, hi: u64::MAX, ..Stretch::default() };
        for heat in 0..2 {
            let inserted = writes * (1.0 - updates - deletes) * hot[heat];
            let updated = distinct(writes * updates * hot_updates[heat], self.live[heat]);
            let deleted =
                distinct(writes * deletes * self.live[heat] / live_total, self.live[heat]);
            all.puts[heat] = inserted + updated;
            all.deletes[heat] = deleted;
            all.repeats[heat] = updated + deleted;
            self.live[heat] = (self.live[heat] + inserted - deleted).max(0.0);
        }
        let run = RunId(self.next);
        let tables = self.cut(vec![all], self.policy.target_table_bytes() as f64);
        let added = tables.into_iter().map(|table| AddedTable { level: 0, run, table }).collect();
        self.install(added, &[])?;
        while let Some(task) = self.policy.pick(&self.view()) {
            self.compact(&task)?;
        }
        Ok(())
    }

    fn view(&self) -> View<'_> {
        let oldest_snapshot = SeqNo::MAX;
        View { version: &self.version, running: &[], now_micros: 0, oldest_snapshot, burst: false }
    }

    fn compact(&mut self, task: &Task) -> Result<()> {
        let outputs = match task.kind {
            TaskKind::Merge => self.merge(task),
            TaskKind::Move | TaskKind::Drop => Vec::new(),
        };
        let (added, removed) = task.changes(outputs);
        self.install(added, &removed)
    }

    fn install(&mut self, added: Vec<AddedTable>, removed: &[FileNum]) -> Result<()> {
        let version = self.version.apply(&added, removed);
        self.version = version.map_err(|e| Error::invalid("simulated version", e))?;
        for file in removed.iter().filter(|f| !added.iter().any(|a| a.table.file == **f)) {
            self.contents.remove(file);
        }
        Ok(())
    }

    fn merge(&mut self, task: &Task) -> Vec<TableMeta> {
        let runs: Vec<Vec<Stretch>> = task
            .inputs
            .iter()
            .map(|r| r.tables.iter().filter_map(|t| self.contents.get(&t.file).copied()).collect())
            .collect();
        let mut ends: Vec<u64> = runs.iter().flatten().flat_map(|s| [s.lo, s.hi]).collect();
        ends.sort_unstable();
        ends.dedup();
        let older = OlderData::within(&task.older);
        let mut at = vec![0; runs.len()];
        let mut merged = Vec::new();
        for pair in ends.windows(2) {
            let (lo, hi) = (pair[0], pair[1]);
            let share = (hi - lo) as f64 / u64::MAX as f64;
            let live = self.live.map(|n| n * share);
            let mut sum = Stretch { lo, hi, ..Stretch::default() };
            for (run, at) in runs.iter().zip(&mut at).rev() {
                while run.get(*at).is_some_and(|s| s.hi <= lo) {
                    *at += 1;
                }
                if let Some(s) = run.get(*at).filter(|s| s.lo <= lo) {
                    sum.cover(&s.part(lo, hi), live);
                }
            }
            if !older.overlaps(&lo.to_be_bytes(), &hi.to_be_bytes()) {
                (sum.deletes, sum.repeats) = ([0.0; 2], [0.0; 2]);
            }
            merged.push(sum);
        }
        let tables = self.cut(merged, task.target_table_bytes as f64);
        let coming: f64 = tables.iter().map(|t| t.size_bytes as f64).sum();
        self.note_peak(coming);
        tables
    }

    /// Tables of about `target` bytes from neighbouring stretches.
    fn cut(&mut self, stretches: Vec<Stretch>, target: f64) -> Vec<TableMeta> {
        let mut tables = Vec::new();
        let mut open: Option<Stretch> = None;
        for mut rest in stretches {
            loop {
                let filled = open.map_or(0.0, |o| o.bytes(self.shape));
                let bytes = rest.bytes(self.shape);
                let room = (target - filled).max(0.0);
                let share = (room / bytes.max(1e-9)).min(1.0);
                let at = rest.lo.saturating_add((rest.width() * share) as u64);
                // A remainder of less than a tenth goes along: it is no table of its own.
                let fits = bytes <= room + target * 0.1 || at <= rest.lo || at >= rest.hi;
                let head = if fits { rest } else { rest.part(rest.lo, at) };
                match &mut open {
                    Some(o) => o.join(&head),
                    None => open = Some(head),
                }
                if fits {
                    break;
                }
                tables.extend(open.take().and_then(|o| self.table(o)));
                rest = rest.part(at, rest.hi);
            }
            if open.is_some_and(|o| o.bytes(self.shape) >= target) {
                tables.extend(open.take().and_then(|o| self.table(o)));
            }
        }
        tables.extend(open.take().and_then(|o| self.table(o)));
        tables
    }

    /// Notes a new table; `None` if nothing is in it.
    fn table(&mut self, stretch: Stretch) -> Option<TableMeta> {
        let bytes = stretch.bytes(self.shape);
        if bytes < 1.0 {
            return None;
        }
        self.written_bytes += bytes;
        let file = FileNum(self.next);
        self.next += 1;
        self.contents.insert(file, stretch);
        Some(TableMeta {
            file,
            table_id: file.0,
            size_bytes: bytes as u64,
            entries: (stretch.entries(0) + stretch.entries(1)) as u64,
            deletes: stretch.deletes.iter().sum::<f64>() as u64,
            range_tombstones: 0,
            raw_bytes: bytes as u64,
            smallest: stretch.lo.to_be_bytes().to_vec(),
            largest: stretch.hi.to_be_bytes().to_vec(),
            largest_exclusive: true,
            seq_min: SeqNo(file.0),
            seq_max: SeqNo(file.0),
            created_micros: 0,
        })
    }

    fn live_bytes(&self) -> f64 {
        (self.live.iter().sum::<f64>() * self.shape.entry_bytes).max(1.0)
    }

    fn note_peak(&mut self, coming: f64) {
        let space = (self.version.size_bytes() as f64 + coming) / self.live_bytes();
        self.space_peak = self.space_peak.max(space);
    }

    fn sample(&mut self, samples: &mut Samples) {
        self.note_peak(0.0);
        let false_positives = self.shape.false_positives();
        let live: f64 = self.live.iter().sum::<f64>().max(1.0);
        // The chance that a key is in none of the runs looked into so far.
        let mut unseen = 1.0;
        let mut probes = 0.0;
        let runs = self.version.levels.iter().flat_map(|l| &l.runs);
        for run in runs {
            let found = unseen * (run.entries() as f64 / live).min(1.0);
            unseen -= found;
            probes += found + unseen * false_positives;
        }
        samples.count += 1.0;
        samples.space += self.version.size_bytes() as f64 / self.live_bytes();
        samples.runs += self.version.runs_total() as f64;
        samples.probes_present += probes + unseen;
        samples.probes_absent += self.version.runs_total() as f64 * false_positives;
    }

    fn costs(&self, samples: &Samples) -> Costs {
        let mean = |sum: f64| sum / samples.count.max(1.0);
        Costs {
            write: self.written_bytes / self.given_bytes,
            space: mean(samples.space),
            space_peak: self.space_peak,
            runs: mean(samples.runs),
            probes_present: mean(samples.probes_present),
            probes_absent: mean(samples.probes_absent),
            levels: 1 + self.version.levels.iter().skip(1).filter(|l| !l.runs.is_empty()).count(),
            tables: self.version.tables_total() as f64,
            levels_left_out: 0,
        }
    }
}

/// How many different keys `draws` hit among `n`.
fn distinct(draws: f64, n: f64) -> f64 {
    if n < 1.0 { 0.0 } else { n * (1.0 - (-draws / n).exp()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Fifo, LazyLeveled, Leveled, SizeTiered};

    fn costs(policy: impl Into<Policy>, flushes: f64, updates: f64, deletes: f64) -> Costs {
        let shape = Shape { updates, deletes, ..Shape::default() };
        let shape = Shape { total_bytes: shape.memtable_bytes * flushes, ..shape };
        simulate(&policy.into(), &shape).expect("valid")
    }

    /// The order that the literature gives, and rough bounds.
    #[test]
    fn policies_trade_writes_for_reads_and_space() {
        let leveled = costs(Leveled::default(), 400.0, 0.5, 0.0);
        let lazy = costs(LazyLeveled::default(), 400.0, 0.5, 0.0);
        let tiered = costs(SizeTiered::default(), 400.0, 0.5, 0.0);
        let fifo = costs(Fifo::default(), 400.0, 0.5, 0.0);
        assert!(fifo.write < tiered.write && tiered.write < lazy.write, "{tiered:?} {lazy:?}");
        assert!(lazy.write < leveled.write, "{lazy:?} {leveled:?}");
        assert!(leveled.runs < lazy.runs && lazy.runs < tiered.runs * 1.5, "{lazy:?} {tiered:?}");
        assert!(leveled.space < 1.3 && leveled.space >= 0.99, "{leveled:?}");
        assert!(leveled.space < tiered.space, "{leveled:?} {tiered:?}");
        // log4(400) is 4.3: every byte is written once a tier.
        assert!((3.0..7.0).contains(&tiered.write), "{tiered:?}");
        assert!((4.0..25.0).contains(&leveled.write), "{leveled:?}");
    }

    #[test]
    fn more_data_costs_more_and_deletes_cost_no_space() {
        let (small, large) =
            (costs(Leveled::default(), 100.0, 0.5, 0.0), costs(Leveled::default(), 1e7, 0.5, 0.0));
        assert!(large.levels_left_out > 0 && large.write > small.write, "{small:?} {large:?}");
        let deletes = costs(Leveled::default(), 200.0, 0.2, 0.4);
        assert!(deletes.space < 1.6, "{deletes:?}");
    }

    #[test]
    fn bad_shapes_are_refused_with_all_their_faults() {
        let shape = Shape { updates: 0.9, deletes: 0.9, entry_bytes: 0.0, ..Shape::default() };
        let e = simulate(&Policy::default(), &shape).expect_err("two faults").to_string();
        assert!(e.contains("entry_bytes") && e.contains("updates"), "{e}");
    }
}
