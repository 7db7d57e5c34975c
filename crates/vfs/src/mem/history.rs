//! Moments of a disk and the recording of one after every operation.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::crash::{self, CrashProfile};
use super::disk::Disk;
use super::{MemFs, Shared};

/// Synced states that a lying disk may fall back to, besides the very first one.
const PAST_SYNCS_MAX: usize = 4;

/// All that a crash needs to know: the disk, and what it was before the last syncs.
#[derive(Debug, Clone)]
pub(crate) struct Moment {
    pub(crate) disk: Disk,
    /// The disk at the start of this system, then before each of the latest syncs.
    past: Arc<Vec<Disk>>,
}

impl Moment {
    pub(crate) fn start(disk: Disk) -> Self {
        let past = Arc::new(vec![disk.clone()]);
        Self { disk, past }
    }

    /// Notes the state that a lying disk would keep if it ignored the sync that just succeeded.
    pub(crate) fn remember(&mut self, before_sync: Disk) {
        let past = Arc::make_mut(&mut self.past);
        if past.len() > PAST_SYNCS_MAX {
            past.remove(1);
        }
        past.push(before_sync);
    }

    pub(crate) fn crash(&self, profile: CrashProfile, seed: u64) -> Disk {
        crash::image(&self.disk, &self.past, profile, seed)
    }
}

/// The mutating operation after which a [`Snapshot`] was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpInfo {
    /// Position among all mutating operations of the disk, from 0: the count before this one.
    pub index: u64,
    /// Name of the operation, such as `append` or `sync_dir`.
    pub name: &'static str,
    /// Path it was called on; for open files the name at opening, for renames the new name.
    pub path: PathBuf,
}

/// A [`MemFs`] right after one operation, unsynced changes included. Cheap to keep: it shares all that
/// did not change with its neighbours.
#[derive(Debug, Clone)]
pub struct Snapshot {
    op: OpInfo,
    moment: Moment,
}

impl Snapshot {
    pub(crate) fn new(op: OpInfo, moment: Moment) -> Self {
        Self { op, moment }
    }

    /// The operation that led here.
    #[must_use]
    pub fn op(&self) -> &OpInfo {
        &self.op
    }

    /// A disk as a power cut right here might leave it; see [`MemFs::crash`].
    #[must_use]
    pub fn crash(&self, profile: CrashProfile, seed: u64) -> MemFs {
        MemFs::from_disk(self.moment.crash(profile, seed))
    }

    /// The disk as it is after a kill of all processes right here: everything written is there, nothing is open or locked,
    /// and what was not synced still is not, so that a power cut may yet take it.
    #[must_use]
    pub fn kill(&self) -> MemFs {
        MemFs::from_moment(self.moment.clone())
    }
}

impl MemFs {
    /// From now on keeps a [`Snapshot`] after every mutating operation; one already running starts anew.
    pub fn start_recording(&self) {
        self.shared.state.lock().history = Some(Vec::new());
    }

    /// Stops the recording and returns it, oldest first; empty if none was running.
    #[must_use]
    pub fn take_history(&self) -> Vec<Snapshot> {
        self.shared.state.lock().history.take().unwrap_or_default()
    }

    /// The state of this moment, as if an operation named `snapshot` had just ended.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let Shared { state } = &*self.shared;
        let state = state.lock();
        let op = OpInfo { index: state.ops, name: "snapshot", path: Path::new("/").to_path_buf() };
        Snapshot::new(op, state.moment.clone())
    }
}
