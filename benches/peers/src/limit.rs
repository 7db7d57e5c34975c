//! A memory limit for one process, by a cgroup of its own. Needs root, or a cgroup that was delegated.

use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Both kinds of cgroup: where they are mounted, how `/proc/self/cgroup` names ours, and the files that hold the limit
/// and the peak.
const KINDS: [Kind; 2] = [
    Kind {
        root: "/sys/fs/cgroup/memory",
        name: "memory",
        limit: "memory.limit_in_bytes",
        peak: "memory.max_usage_in_bytes",
    },
    Kind { root: "/sys/fs/cgroup", name: "", limit: "memory.max", peak: "memory.peak" },
];

#[derive(Debug, Clone, Copy)]
struct Kind {
    root: &'static str,
    name: &'static str,
    limit: &'static str,
    peak: &'static str,
}

/// The cgroup that this process is in.
#[derive(Debug)]
pub struct Limit {
    kind: Kind,
    dir: PathBuf,
}

/// The cgroup for the process `pid`: below the one that this process is in, so that limits from outside go on to hold.
fn dir_of(kind: &Kind, pid: u32) -> Option<PathBuf> {
    let ours = fs::read_to_string("/proc/self/cgroup").ok()?;
    // `4:memory:/path`, and `0::/path` for the second kind.
    let path = ours.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        controllers.split(',').any(|c| c == kind.name).then_some(path)
    })?;
    let above = Path::new(kind.root).join(path.trim_start_matches('/'));
    above.is_dir().then(|| above.join(format!("esker-peers-{pid}")))
}

/// Puts this process into a new cgroup that may hold `bytes` of memory, page cache included.
///
/// # Errors
/// There are no cgroups with a memory controller, or they may not be changed.
pub fn enter(bytes: u64) -> Result<Limit> {
    let pid = std::process::id();
    let found = KINDS.iter().find_map(|kind| Some((*kind, dir_of(kind, pid)?)));
    let Some((kind, dir)) = found else { bail!("no cgroups to limit memory with") };
    let made = || -> std::io::Result<()> {
        fs::create_dir(&dir)?;
        fs::write(dir.join(kind.limit), bytes.to_string())?;
        fs::write(dir.join("cgroup.procs"), pid.to_string())
    };
    made().with_context(|| format!("limit memory by {}", dir.display()))?;
    Ok(Limit { kind, dir })
}

/// Removes the cgroup of the process `pid`, which has ended.
pub fn remove(pid: u32) {
    for dir in KINDS.iter().filter_map(|kind| dir_of(kind, pid)) {
        // None there, or another kind: nothing to remove.
        drop(fs::remove_dir(dir));
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
