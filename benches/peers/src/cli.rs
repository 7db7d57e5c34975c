//! The command line.

use crate::data::KeyShape;
use crate::engine::NAMES;
use crate::spec::Settings;
use crate::workloads::{Choice, DEFINITIONS, Row};
use anyhow::{Result, ensure};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  esker-peers --quick                                   every engine, every workload, a minute or ten: does it run?
  esker-peers --workloads write --engines esker,rocksdb,fjall
  esker-peers --workloads fillrandom,fillrandom@2,fillrandom@4 --runs 3
  esker-peers render out/raw.json                       makes the report again from the raw figures

A workload is a name, a group (write, read, mixed, ycsb, open, all) or name@threads. Names:
";

/// Esker beside its neighbours: the workloads of db_bench and YCSB on the same machine with the same settings. Every
/// cell is a fresh process with a fresh directory, the engines take turns, and every answer is verified.
#[derive(Debug, Parser)]
#[command(version, after_help = after_help(), args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What else it can do.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// What to measure.
    #[command(flatten)]
    pub matrix: MatrixArgs,
}

fn after_help() -> String {
    let names: Vec<_> = DEFINITIONS.iter().map(|d| d.name).collect();
    let lines: Vec<_> = names.chunks(8).map(|line| format!("  {}", line.join(", "))).collect();
    format!("{EXAMPLES}{}", lines.join(",\n"))
}

/// What else it can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Makes the report again from raw figures; several files are taken as runs of one matrix.
    Render {
        /// What earlier runs left: `raw.json`.
        #[arg(required = true)]
        raw: Vec<PathBuf>,
        /// Where the report goes.
        #[arg(long, default_value = "out", value_name = "DIR")]
        report: PathBuf,
    },
    /// Runs one cell in this process. Called by the tool itself.
    #[command(hide = true)]
    Cell {
        /// The cell, as JSON.
        spec: String,
    },
}

/// What to measure, and how.
#[derive(Debug, Args)]
pub struct MatrixArgs {
    /// Engines, in the order of the columns.
    #[arg(long, value_delimiter = ',', default_values_t = NAMES.iter().map(|n| n.to_string()), value_name = "NAME,..")]
    pub engines: Vec<String>,
    /// Workloads or groups of them, see below.
    #[arg(long, value_delimiter = ',', default_value = "all", value_name = "NAME,..")]
    workloads: Vec<Choice>,
    /// Pairs of the database [default: 5000000]
    #[arg(long, value_name = "N")]
    pairs: Option<u64>,
    /// Bytes of a value, at least 16. Keys have 16 bytes.
    #[arg(long, default_value_t = 100, value_name = "N")]
    value_bytes: usize,
    /// How often everything is measured; the report shows medians [default: 3]
    #[arg(long, value_name = "N")]
    runs: Option<u64>,
    /// Client threads of every workload but reopen and replay, instead of those in the table.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Where the databases are made; gigabytes. A directory on the disk to be measured.
    #[arg(long, default_value = "peers-data", value_name = "DIR")]
    pub dir: PathBuf,
    /// Where the report goes: report.md, raw.json, *.svg.
    #[arg(long, default_value = "out", value_name = "DIR")]
    pub report: PathBuf,
    /// A run to see that all works: 100,000 pairs, one run, 2 seconds for each workload at most.
    #[arg(long)]
    pub quick: bool,
    /// Cache in MiB, for blocks or pages.
    #[arg(long, default_value_t = 1024, value_name = "MIB")]
    cache_mib: u64,
    /// One memtable in MiB.
    #[arg(long, default_value_t = 64, value_name = "MIB")]
    memtable_mib: u64,
    /// Threads for flushes and compactions.
    #[arg(long, default_value_t = 2, value_name = "N")]
    background_threads: usize,
    /// Bits per key of the bloom filters (surrealkv has 10, always).
    #[arg(long, default_value_t = 10, value_name = "N")]
    filter_bits: u32,
    /// How keys follow from their number: `dense` as in db_bench, `spread` over the whole key space.
    #[arg(long, value_enum, default_value = "dense")]
    keys: KeyShape,
    /// Longest time of a workload in seconds; what is stopped by it is marked [default: 15]
    #[arg(long, value_name = "S")]
    seconds: Option<f64>,
    /// Longest time of fillsync in seconds [default: 5]
    #[arg(long, value_name = "S")]
    sync_seconds: Option<f64>,
    /// Seconds of reads before the measured ones, behind one scan of everything; 0 for neither.
    #[arg(long, default_value_t = 1.0, value_name = "S")]
    warmup_seconds: f64,
    /// Records in the log for replay [default: 400000]
    #[arg(long, value_name = "N")]
    replay_records: Option<u64>,
    /// Limits the memory of each measured process, page cache included, by a cgroup; empties the page cache before each. Needs root.
    #[arg(long, value_name = "MIB")]
    memory_max_mib: Option<u64>,
    /// A process that takes longer is ended and its cell left open, in seconds.
    #[arg(long, default_value_t = 600, value_name = "S")]
    pub cell_seconds_max: u64,
    /// A line for the head of the report, such as the state of the machine.
    #[arg(long, default_value = "", value_name = "TEXT")]
    pub note: String,
}

impl MatrixArgs {
    /// Lines of the table, each once, in the order of the definitions.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = self.workloads.iter().flat_map(|c| c.0.iter().copied()).collect();
        if let Some(threads) = self.threads {
            let many = |row: &&mut Row| row.workload.definition().group != "open";
            rows.iter_mut().filter(many).for_each(|row| row.threads = threads);
        }
        rows.sort();
        rows.dedup();
        rows
    }

    /// How often everything is measured.
    pub fn runs(&self) -> u64 {
        self.runs.unwrap_or(if self.quick { 1 } else { 3 })
    }

    /// The memory limit of a measured process.
    pub fn memory_max_bytes(&self) -> Option<u64> {
        self.memory_max_mib.map(|mib| mib << 20)
    }

    /// Settings that all engines share.
    ///
    /// # Errors
    /// A setting that no workload can run with.
    pub fn settings(&self) -> Result<Settings> {
        let pick = |quick, full| if self.quick { quick } else { full };
        let settings = Settings {
            pairs: self.pairs.unwrap_or(pick(100_000, 5_000_000)),
            value_bytes: self.value_bytes,
            keys: self.keys,
            cache_bytes: self.cache_mib << 20,
            memtable_bytes: self.memtable_mib << 20,
            background_threads: self.background_threads,
            filter_bits: self.filter_bits,
            seconds_max: self.seconds.unwrap_or(if self.quick { 2.0 } else { 15.0 }),
            sync_seconds_max: self.sync_seconds.unwrap_or(if self.quick { 0.5 } else { 5.0 }),
            warmup_seconds: self.warmup_seconds,
            replay_records: self.replay_records.unwrap_or(pick(20_000, 400_000)),
        };
        ensure!((1000..=1 << 32).contains(&settings.pairs), "--pairs: 1,000 to 4 billion");
        ensure!((16..=1 << 20).contains(&settings.value_bytes), "--value-bytes: 16 to 1 MiB");
        ensure!(self.threads.is_none_or(|t| (1..=64).contains(&t)), "--threads: 1 to 64");
        ensure!(settings.seconds_max > 0.0 && self.runs() > 0, "--seconds, --runs: above 0");
        for engine in &self.engines {
            ensure!(NAMES.contains(&engine.as_str()), "--engines: {engine} is none of {NAMES:?}");
        }
        Ok(settings)
    }
}
