//! What the figures were measured on.

use serde::{Deserialize, Serialize};
use std::fs;

/// The machine, as far as it tells.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Name of the processor.
    pub processor: String,
    /// Processors that this process may use.
    pub processors: usize,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Kernel release.
    pub kernel: String,
    /// Runnable threads, averaged over a minute, when the run began: above 0, the machine was not idle.
    pub load_before: f64,
}

impl Machine {
    /// Looks.
    pub fn look() -> Self {
        let line = |path: &str, name: &str| {
            let text = fs::read_to_string(path).unwrap_or_default();
            let value = text.lines().find_map(|l| Some(l.strip_prefix(name)?.trim().to_string()));
            value.unwrap_or_default()
        };
        let memory = line("/proc/meminfo", "MemTotal:");
        let memory = memory.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok());
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Machine {
            processor: line("/proc/cpuinfo", "model name")
                .trim_start_matches([':', ' '])
                .to_string(),
            processors: std::thread::available_parallelism().map_or(0, usize::from),
            memory_mib: memory.unwrap_or(0) / 1024,
            kernel: release.trim().to_string(),
            load_before: load.split(' ').next().and_then(|l| l.parse().ok()).unwrap_or(0.0),
        }
    }
}
