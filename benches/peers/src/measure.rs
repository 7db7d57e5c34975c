//! What a process used, as Linux tells it.

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// Counters of this process since its start.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// Bytes whose pages were dirtied, by `write` or through a mapping, and so are on the way to the disk.
    pub bytes_issued: u64,
    /// Of these, bytes that never reach it: their file was removed first.
    pub bytes_cancelled: u64,
    /// Bytes passed to `write` and the like.
    pub bytes_written: u64,
    /// Processor time of all threads, in user mode.
    pub cpu_user: Duration,
    /// Processor time of all threads, in the kernel.
    pub cpu_system: Duration,
}

impl Usage {
    /// Counters so far.
    pub fn now() -> Result<Self> {
        let io = fs::read_to_string("/proc/self/io").context("read /proc/self/io")?;
        let field = |name| number_behind(&io, name);
        let stat = fs::read_to_string("/proc/self/stat").context("read /proc/self/stat")?;
        // The name of the command is in brackets and may hold anything; fields 14 and 15 are counted from its end.
        let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let mut ticks = rest.split_whitespace().skip(11).map_while(|t| t.parse::<u64>().ok());
        let mut time = || Duration::from_millis(ticks.next().unwrap_or(0) * 10);
        Ok(Usage {
            bytes_issued: field("write_bytes:"),
            bytes_cancelled: field("cancelled_write_bytes:"),
            bytes_written: field("wchar:"),
            cpu_user: time(),
            cpu_system: time(),
        })
    }

    /// What came since `earlier`.
    pub fn since(self, earlier: Usage) -> Usage {
        Usage {
            bytes_issued: self.bytes_issued - earlier.bytes_issued,
            bytes_cancelled: self.bytes_cancelled - earlier.bytes_cancelled,
            bytes_written: self.bytes_written - earlier.bytes_written,
            cpu_user: self.cpu_user.saturating_sub(earlier.cpu_user),
            cpu_system: self.cpu_system.saturating_sub(earlier.cpu_system),
        }
    }

    /// Processor time of all threads.
    pub fn cpu(self) -> Duration {
        self.cpu_user + self.cpu_system
    }
}

/// Most memory this process ever held, in bytes, mapped files included (`VmHWM`).
pub fn peak_memory_bytes() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    Ok(number_behind(&status, "VmHWM:") * 1024)
}

/// The number on the line that starts with `name`; 0 if there is none.
fn number_behind(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Bytes that the files under `dir` take on the disk.
pub fn space_bytes(dir: &Path) -> Result<u64> {
    let mut total = 0;
    for entry in fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
        let entry = entry?;
        // A file may go away between the listing and the look at it: the engine is at work.
        let Ok(metadata) = entry.metadata() else { continue };
        total += match metadata.is_dir() {
            true => space_bytes(&entry.path()).unwrap_or(0),
            false => metadata.blocks() * 512,
        };
    }
    Ok(total)
}

/// An empty histogram of nanoseconds up to a minute, to 1 %.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 2).expect("the bounds are in order")
}

/// A latency distribution, in nanoseconds.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Latency {
    /// Mean.
    pub mean: f64,
    /// Half are faster.
    pub p50: u64,
    /// 99 of 100 are faster.
    pub p99: u64,
    /// 999 of 1,000 are faster.
    pub p999: u64,
    /// 9,999 of 10,000 are faster.
    pub p9999: u64,
    /// The slowest.
    pub max: u64,
    /// Points of the curve: share of calls, and the latency that they stay below.
    pub curve: Vec<(f64, u64)>,
}

impl Latency {
    /// Sums a histogram up.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let at = |q| histogram.value_at_quantile(q);
        let shares = [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999];
        let tail = [0.9995, 0.9999, 0.99995, 0.99999, 0.999995, 0.999999];
        let seen = histogram.len() as f64;
        let shares = shares.into_iter().chain(tail).filter(|q| (1.0 - q) * seen >= 1.0);
        Latency {
            mean: histogram.mean(),
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            p9999: at(0.9999),
            max: histogram.max(),
            curve: shares.map(|q| (q, at(q))).collect(),
        }
    }
}
