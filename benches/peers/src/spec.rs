//! What one cell of the table is: an engine, a workload and the settings that all engines share. Plain data, so that
//! it can be handed to a fresh process.

use crate::data::KeyShape;
use crate::workloads::Workload;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Settings that hold for every engine of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Pairs of the database.
    pub pairs: u64,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// How keys are made.
    pub keys: KeyShape,
    /// Bytes of the block or page cache.
    pub cache_bytes: u64,
    /// Bytes of one memtable.
    pub memtable_bytes: u64,
    /// Threads for background work.
    pub background_threads: usize,
    /// Bits per key of the filters.
    pub filter_bits: u32,
    /// Longest time of one workload, in seconds; a workload that is stopped by it is marked.
    pub seconds_max: f64,
    /// Longest time of a workload of synced writes, in seconds.
    pub sync_seconds_max: f64,
    /// Longest time of the reads before the measured ones, in seconds; 0 for none and no scan either.
    pub warmup_seconds: f64,
    /// Records in the log that the replay starts from.
    pub replay_records: u64,
}

/// What the process is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Fill the directory with all pairs, so that copies of it serve the workloads that want a full database.
    Load,
    /// Write the records of the replay and die without closing.
    Crash,
    /// Run the workload and report.
    Measure,
}

/// One process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CellSpec {
    /// Name of the engine.
    pub engine: String,
    /// What to run.
    pub workload: Workload,
    /// Client threads.
    pub threads: usize,
    /// What to do.
    pub phase: Phase,
    /// The directory of the database: empty, or a copy of the loaded one.
    pub dir: PathBuf,
    /// Which of the runs; seeds the random choices.
    pub run: u64,
    /// The memory limit, where one is asked for.
    pub memory_max_bytes: Option<u64>,
    /// Settings.
    pub settings: Settings,
}
