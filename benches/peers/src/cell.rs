//! One cell: a fresh process opens one directory with one engine, runs one workload, and prints its figures.

use crate::data::{Keys, Permutation, Values};
use crate::engine::{Direction, Engine, OpenOptions, with_engine};
use crate::limit;
use crate::measure::{Latency, Usage, peak_memory_bytes, space_bytes};
use crate::spec::{CellSpec, Phase, Settings};
use crate::workloads::drive::Driven;
use crate::workloads::{Row, Workload, mixed, read, reopen, write};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Bytes of a value of `fill1k`.
const LARGE_VALUE_BYTES: usize = 1024;
/// The line before the figures, so that what an engine prints is not taken for them.
pub const MARK: &str = "figures: ";

/// Figures of one cell; the raw data of a report.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Figures {
    /// The engine.
    pub engine: String,
    /// The workload and its threads.
    pub row: Row,
    /// Which of the runs.
    pub run: u64,
    /// The figure of the table: operations a second, or milliseconds.
    pub value: f64,
    /// Operations done.
    pub operations: u64,
    /// Time they took, in seconds.
    pub seconds: f64,
    /// The time ran out before all of them were done.
    pub capped: bool,
    /// Latencies of the calls.
    pub latency: Latency,
    /// Time until background work was done, in seconds, after the last answer.
    pub settle_seconds: f64,
    /// Bytes of keys and values written by the workload.
    pub bytes_logical: u64,
    /// Bytes issued to the disk until background work was done, by `/proc/self/io`.
    pub bytes_issued: u64,
    /// Of these, bytes whose file was removed before they were written.
    pub bytes_cancelled: u64,
    /// Processor time of all threads until the last answer, in seconds.
    pub cpu_seconds: f64,
    /// Processor time until background work was done, in seconds.
    pub cpu_settled_seconds: f64,
    /// Most memory held, mapped files included (`VmHWM`).
    pub peak_memory_bytes: u64,
    /// Bytes that the files take on the disk once background work is done.
    pub space_bytes: u64,
    /// What only some workloads have.
    pub extra: BTreeMap<String, f64>,
}

impl Figures {
    /// Nothing measured yet.
    pub fn new(spec: &CellSpec) -> Self {
        Figures {
            engine: spec.engine.clone(),
            row: Row { workload: spec.workload, threads: spec.threads },
            run: spec.run,
            value: 0.0,
            operations: 0,
            seconds: 0.0,
            capped: false,
            latency: Latency::default(),
            settle_seconds: 0.0,
            bytes_logical: 0,
            bytes_issued: 0,
            bytes_cancelled: 0,
            cpu_seconds: 0.0,
            cpu_settled_seconds: 0.0,
            peak_memory_bytes: 0,
            space_bytes: 0,
            extra: BTreeMap::new(),
        }
    }
}

/// What the cell prints: figures, or that the engine cannot do it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Report {
    /// A load has been done.
    Loaded,
    /// Measured and verified.
    Measured(Box<Figures>),
    /// The engine has no way to do this.
    Unsupported,
}

/// An open database and what the workloads need beside it.
#[derive(Debug)]
pub struct Bench<'a, E> {
    /// The cell.
    pub spec: &'a CellSpec,
    /// Makes keys.
    pub keys: Keys,
    /// Makes and checks values.
    pub values: Values,
    db: &'a E,
}

/// What a workload hands back before the figures are made of it.
#[derive(Debug)]
pub struct Outcome {
    /// What the clients did.
    pub driven: Driven,
    /// Operations; by default the calls.
    pub operations: u64,
    /// Bytes of keys and values written.
    pub bytes_logical: u64,
    /// What only this workload has.
    pub extra: BTreeMap<String, f64>,
    used: Usage,
    used_settled: Usage,
    settle: Duration,
    peak_memory_bytes: u64,
    space_bytes: u64,
}

impl<'a, E: Engine> Bench<'a, E> {
    /// What the workloads need beside `db`.
    pub fn new(spec: &'a CellSpec, db: &'a E) -> Self {
        let settings = &spec.settings;
        let value_bytes = match spec.workload {
            Workload::Fill1k => LARGE_VALUE_BYTES,
            _ => settings.value_bytes,
        };
        let keys = Keys::new(settings.keys, settings.pairs.max(settings.replay_records));
        Bench { spec, keys, values: Values::new(value_bytes), db }
    }

    /// The database.
    #[inline]
    pub fn db(&self) -> &E {
        self.db
    }

    /// Settings of the run.
    pub fn settings(&self) -> &Settings {
        &self.spec.settings
    }

    /// Seed of the random choices.
    pub fn seed(&self) -> u64 {
        1 + self.spec.run
    }

    /// Longest time of the clients.
    pub fn time_max(&self) -> Duration {
        let settings = self.settings();
        Duration::from_secs_f64(match self.spec.workload {
            Workload::FillSync => settings.sync_seconds_max,
            _ => settings.seconds_max,
        })
    }

    /// Bytes of a key and its value.
    pub fn pair_bytes(&self) -> u64 {
        (size_of::<crate::data::Key>() + self.values.len()) as u64
    }

    /// Runs the clients, then waits for the background work that they caused.
    pub fn measure_writes(&self, run: impl FnOnce() -> Result<Driven>) -> Result<Outcome> {
        self.measure(run, || self.db.settle())
    }

    /// Runs the clients; nothing is to be waited for.
    pub fn measure_reads(&self, run: impl FnOnce() -> Result<Driven>) -> Result<Outcome> {
        self.measure(run, || Ok(()))
    }

    fn measure(
        &self,
        run: impl FnOnce() -> Result<Driven>,
        settle: impl FnOnce() -> Result<()>,
    ) -> Result<Outcome> {
        let before = Usage::now()?;
        let driven = run()?;
        let used = Usage::now()?.since(before);
        let start = Instant::now();
        settle()?;
        let settle = start.elapsed();
        Ok(Outcome {
            operations: driven.calls(),
            driven,
            bytes_logical: 0,
            extra: self.db.details().into_iter().map(|(name, x)| (name.into(), x)).collect(),
            used,
            used_settled: Usage::now()?.since(before),
            settle,
            peak_memory_bytes: peak_memory_bytes()?,
            space_bytes: space_bytes(&self.spec.dir)?,
        })
    }
}

impl Outcome {
    fn into_figures(self, spec: &CellSpec) -> Figures {
        let seconds = self.driven.elapsed.as_secs_f64();
        Figures {
            value: self.operations as f64 / seconds.max(1e-9),
            operations: self.operations,
            seconds,
            capped: self.driven.capped,
            latency: Latency::of(&self.driven.latency),
            settle_seconds: self.settle.as_secs_f64(),
            bytes_logical: self.bytes_logical,
            bytes_issued: self.used_settled.bytes_issued,
            bytes_cancelled: self.used_settled.bytes_cancelled,
            cpu_seconds: self.used.cpu().as_secs_f64(),
            cpu_settled_seconds: self.used_settled.cpu().as_secs_f64(),
            peak_memory_bytes: self.peak_memory_bytes,
            space_bytes: self.space_bytes,
            extra: self.extra,
            ..Figures::new(spec)
        }
    }
}

/// How the database of a cell is opened.
pub fn open_options(spec: &CellSpec) -> OpenOptions {
    let settings = &spec.settings;
    OpenOptions {
        cache_bytes: settings.cache_bytes,
        memtable_bytes: settings.memtable_bytes,
        background_threads: settings.background_threads,
        filter_bits: settings.filter_bits,
        sync_writes: spec.workload == Workload::FillSync && spec.phase == Phase::Measure,
        writers: match spec.phase {
            Phase::Measure => spec.workload.writers(spec.threads),
            Phase::Load | Phase::Crash => 1,
        },
    }
}

/// The whole life of the process of a cell: reads its specification, runs, prints.
///
/// # Errors
/// What the engine refused, or a wrong answer.
pub fn run(spec: &str) -> Result<()> {
    let spec: CellSpec = serde_json::from_str(spec).context("the specification of the cell")?;
    let limit = spec.memory_max_bytes.map(limit::enter).transpose()?;
    let mut report = with_engine!(spec.engine.as_str(), E => run_engine::<E>(&spec))?;
    if let (Some(limit), Report::Measured(figures)) = (limit, &mut report) {
        limit.describe(&mut figures.extra)?;
    }
    println!("{MARK}{}", serde_json::to_string(&report)?);
    Ok(())
}

fn run_engine<E: Engine>(spec: &CellSpec) -> Result<Report> {
    match (spec.phase, spec.workload) {
        (Phase::Load, _) => {
            let db = E::open(&spec.dir, &open_options(spec))?;
            write::load(&Bench::new(spec, &db))?;
            db.close()?;
            Ok(Report::Loaded)
        }
        (Phase::Crash, _) => reopen::crash::<E>(spec).map(|()| Report::Loaded),
        (Phase::Measure, Workload::Reopen) => measured(reopen::reopen::<E>(spec)?),
        (Phase::Measure, Workload::Replay) => measured(reopen::replay::<E>(spec)?),
        (Phase::Measure, _) => {
            let db = E::open(&spec.dir, &open_options(spec))?;
            let outcome = run_workload(&Bench::new(spec, &db))?;
            db.close()?;
            outcome.map_or(Ok(Report::Unsupported), |o| measured(o.into_figures(spec)))
        }
    }
}

fn measured(figures: Figures) -> Result<Report> {
    Ok(Report::Measured(Box::new(figures)))
}

fn run_workload<E: Engine>(bench: &Bench<'_, E>) -> Result<Option<Outcome>> {
    let pairs = bench.settings().pairs;
    let shuffled = |n| {
        let order = Permutation::new(n, bench.seed());
        move |i| order.at(i)
    };
    Ok(Some(match bench.spec.workload {
        Workload::FillSeq => write::fill(bench, pairs, |i| i)?,
        Workload::FillRandom => write::fill(bench, pairs, shuffled(pairs))?,
        Workload::Fill1k => write::fill(bench, pairs / 2, shuffled(pairs / 2))?,
        Workload::FillBatch => write::fill_batch(bench, write::BATCH)?,
        Workload::FillSync => write::fill_sync(bench)?,
        Workload::Overwrite => write::overwrite(bench)?,
        Workload::DeleteRandom => write::delete_random(bench)?,
        Workload::Ingest => {
            let scratch = bench.spec.dir.with_extension("scratch");
            return write::ingest(bench, &scratch);
        }
        Workload::ReadRandom => read::random(bench)?,
        Workload::ReadHot => read::hot(bench)?,
        Workload::ReadMissing => read::missing(bench)?,
        Workload::MultiReadRandom => read::multi(bench)?,
        Workload::ReadSeq => read::scan(bench, Direction::Forward)?,
        Workload::ReadReverse => read::scan(bench, Direction::Reverse)?,
        Workload::SeekRandom => read::seek(bench)?,
        Workload::ReadWhileWriting => mixed::read_while_writing(bench)?,
        Workload::YcsbA
        | Workload::YcsbB
        | Workload::YcsbC
        | Workload::YcsbD
        | Workload::YcsbE
        | Workload::YcsbF => mixed::ycsb(bench)?,
        Workload::Reopen | Workload::Replay => {
            anyhow::bail!("an open is measured by itself")
        }
    }))
}
