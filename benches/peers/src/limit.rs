//! A memory limit for one process, by a cgroup of its own. Needs root, or a cgroup that was delegated.

use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Both kinds of cgroup: the root, and the files that hold the limit, the peak and how often the limit was met.
const KINDS: [Kind; 2] = [
    Kind {
        root: "/sys/fs/cgroup",
        present: "cgroup.controllers",
        limit: "memory.max",
        peak: "memory.peak",
    },
    Kind {
        root: "/sys/fs/cgroup/memory",
        present: "memory.limit_in_bytes",
        limit: "memory.limit_in_bytes",
        peak: "memory.max_usage_in_bytes",
    },
];

#[derive(Debug, Clone, Copy)]
struct Kind {
    root: &'static str,
    present: &'static str,
    limit: &'static str,
    peak: &'static str,
}

/// The cgroup that this process is in.
#[derive(Debug)]
pub struct Limit {
    kind: Kind,
    dir: PathBuf,
}

fn dir_of(kind: &Kind, pid: u32) -> PathBuf {
    Path::new(kind.root).join(format!("esker-peers-{pid}"))
}

/// Puts this process into a new cgroup that may hold `bytes` of memory, page cache included.
///
/// # Errors
/// There are no cgroups with a memory controller, or they may not be changed.
pub fn enter(bytes: u64) -> Result<Limit> {
    let there = |kind: &&Kind| Path::new(kind.root).join(kind.present).exists();
    let Some(kind) = KINDS.iter().find(there) else { bail!("no cgroups to limit memory with") };
    let dir = dir_of(kind, std::process::id());
    let made = || -> std::io::Result<()> {
        fs::create_dir(&dir)?;
        fs::write(dir.join(kind.limit), bytes.to_string())?;
        fs::write(dir.join("cgroup.procs"), std::process::id().to_string())
    };
    made().with_context(|| format!("limit memory by {}", dir.display()))?;
    Ok(Limit { kind: *kind, dir })
}

/// Removes the cgroup of the process `pid`, which has ended.
pub fn remove(pid: u32) {
    for kind in &KINDS {
        // None there, or another kind: nothing to remove.
        drop(fs::remove_dir(dir_of(kind, pid)));
    }
}

impl Limit {
    /// Adds the peak of the cgroup.
    pub fn describe(&self, extra: &mut BTreeMap<String, f64>) -> Result<()> {
        let peak = fs::read_to_string(self.dir.join(self.kind.peak))?;
        extra.insert("cgroup_peak_bytes".into(), peak.trim().parse()?);
        Ok(())
    }
}

/// Empties the page cache, so that a limited process does not find its files in the memory of others.
///
/// # Errors
/// Not root.
pub fn drop_page_cache() -> Result<()> {
    fs::write("/proc/sys/vm/drop_caches", "1").context("empty the page cache (needs root)")
}
