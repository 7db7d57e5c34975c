//! The workloads: what db_bench and YCSB call by these names.

pub mod drive;
pub mod mixed;
pub mod read;
pub mod reopen;
pub mod write;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Workload {
    /// Put all pairs in key order.
    FillSeq,
    /// Put all pairs in random order.
    FillRandom,
    /// Put every key of a full database again, in random order.
    Overwrite,
    /// Put all pairs in random order, 100 in a batch.
    FillBatch,
    /// Delete every key of a full database, in random order.
    DeleteRandom,
    /// Put values of 1 KiB in random order, half as many pairs.
    Fill1k,
    /// Load all pairs, sorted.
    Ingest,
    /// Put in random order, each on the disk before it returns.
    FillSync,
    /// Get random keys.
    ReadRandom,
    /// Get one key.
    ReadHot,
    /// Get keys that are not there, each between two that are.
    ReadMissing,
    /// Get 100 random keys in one call.
    MultiReadRandom,
    /// Read all pairs in ascending order.
    ReadSeq,
    /// Read all pairs in descending order.
    ReadReverse,
    /// Seek a random key, read it and the 10 behind it, with a new iterator each time.
    SeekRandom,
    /// Get random keys while another thread puts 50,000 pairs a second.
    ReadWhileWriting,
    /// Half gets, half puts; zipfian.
    YcsbA,
    /// 95 % gets, 5 % puts; zipfian.
    YcsbB,
    /// Gets; zipfian.
    YcsbC,
    /// 95 % gets of what was inserted last, 5 % inserts.
    YcsbD,
    /// 95 % scans of 1 to 100 pairs, 5 % inserts; zipfian.
    YcsbE,
    /// Half gets, half read-modify-writes; zipfian.
    YcsbF,
    /// Open a full database that was closed.
    Reopen,
    /// Open a database that was killed with its records in the log.
    Replay,
}

/// What the database holds when the workload starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Nothing.
    Empty,
    /// All pairs, settled.
    Full,
    /// The records of the replay, never closed.
    Killed,
}

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Operations a second; more is better.
    PerSecond,
    /// Milliseconds; fewer are better.
    Millis,
}

/// Where to find a workload and what is expected of it.
#[derive(Debug)]
pub struct Definition {
    /// The workload.
    pub workload: Workload,
    /// Its name on the command line.
    pub name: &'static str,
    /// The group it can be asked for by.
    pub group: &'static str,
    /// What the database holds at first.
    pub start: Start,
    /// What its figure counts.
    pub unit: Unit,
    /// The numbers of threads it runs with if not told.
    pub threads: &'static [usize],
    /// Esker's figure over that of the best neighbour, as aimed at, for each of `threads`; none where the goal is a time.
    pub goals: &'static [f64],
}

macro_rules! definitions {
    ($($workload:ident $name:literal $group:literal $start:ident $unit:ident $threads:tt $goals:tt;)*) => {
        /// Every workload, in the order of the table.
        pub const DEFINITIONS: &[Definition] = &[$(Definition {
            workload: Workload::$workload, name: $name, group: $group, start: Start::$start,
            unit: Unit::$unit, threads: &$threads, goals: &$goals,
        }),*];
    };
}

definitions! {
    FillSeq          "fillseq"          "write" Empty  PerSecond [1]    [3.5];
    FillRandom       "fillrandom"       "write" Empty  PerSecond [1, 2] [3.5, 3.0];
    Overwrite        "overwrite"        "write" Full   PerSecond [1]    [3.3];
    FillBatch        "fillbatch"        "write" Empty  PerSecond [1]    [2.0];
    DeleteRandom     "deleterandom"     "write" Full   PerSecond [1]    [3.0];
    Fill1k           "fill1k"           "write" Empty  PerSecond [1]    [1.8];
    Ingest           "ingest"           "write" Empty  PerSecond [1]    [1.1];
    FillSync         "fillsync"         "write" Empty  PerSecond [1, 8] [1.05, 1.4];
    ReadRandom       "readrandom"       "read"  Full   PerSecond [1, 2] [1.2, 1.1];
    ReadHot          "readhot"          "read"  Full   PerSecond [1]    [1.7];
    ReadMissing      "readmissing"      "read"  Full   PerSecond [1]    [2.0];
    MultiReadRandom  "multireadrandom"  "read"  Full   PerSecond [1]    [2.0];
    ReadSeq          "readseq"          "read"  Full   PerSecond [1]    [1.4];
    ReadReverse      "readreverse"      "read"  Full   PerSecond [1]    [1.2];
    SeekRandom       "seekrandom"       "read"  Full   PerSecond [1]    [1.1];
    ReadWhileWriting "readwhilewriting" "mixed" Full   PerSecond [1]    [1.2];
    YcsbA            "ycsba"            "ycsb"  Full   PerSecond [2]    [2.5];
    YcsbB            "ycsbb"            "ycsb"  Full   PerSecond [2]    [2.0];
    YcsbC            "ycsbc"            "ycsb"  Full   PerSecond [2]    [1.1];
    YcsbD            "ycsbd"            "ycsb"  Full   PerSecond [2]    [1.6];
    YcsbE            "ycsbe"            "ycsb"  Full   PerSecond [2]    [1.2];
    YcsbF            "ycsbf"            "ycsb"  Full   PerSecond [2]    [2.2];
    Reopen           "reopen"           "open"  Full   Millis    [1]    [];
    Replay           "replay"           "open"  Killed Millis    [1]    [];
}

impl Workload {
    /// Where it stands in the table.
    pub fn definition(self) -> &'static Definition {
        DEFINITIONS.iter().find(|d| d.workload == self).expect("every workload has a definition")
    }

    /// Threads that write, of `threads` clients.
    pub fn writers(self, threads: usize) -> usize {
        let definition = self.definition();
        match self {
            Workload::ReadWhileWriting => 1,
            _ => match definition.group {
                "read" | "open" => 0,
                _ => threads,
            },
        }
    }
}

/// A line of the table: a workload with a number of threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Row {
    /// The workload.
    pub workload: Workload,
    /// Client threads.
    pub threads: usize,
}

impl Row {
    /// The ratio aimed at, where there is one for this number of threads.
    pub fn goal(self) -> Option<f64> {
        let definition = self.workload.definition();
        let at = definition.threads.iter().position(|&t| t == self.threads)?;
        definition.goals.get(at).copied()
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.workload.definition().name, self.threads) {
            (name, 1) => f.write_str(name),
            (name, threads) => write!(f, "{name}@{threads}"),
        }
    }
}

/// What the user asked for: a workload, a group, or `name@threads`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice(pub Vec<Row>);

impl FromStr for Choice {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, threads) = match text.split_once('@') {
            None => (text, None),
            Some((name, threads)) => {
                let threads: usize = threads.parse().context("threads behind the @")?;
                anyhow::ensure!((1..=64).contains(&threads), "1 to 64 threads");
                (name, Some(threads))
            }
        };
        let wanted = |d: &&Definition| name == "all" || name == d.name || name == d.group;
        let rows = |d: &'static Definition| {
            let given = threads.map(|t| vec![t]);
            let all = given.unwrap_or_else(|| d.threads.to_vec());
            all.into_iter().map(|threads| Row { workload: d.workload, threads })
        };
        let rows: Vec<Row> = DEFINITIONS.iter().filter(wanted).flat_map(rows).collect();
        anyhow::ensure!(!rows.is_empty(), "no workload or group is called {name}");
        Ok(Choice(rows))
    }
}
