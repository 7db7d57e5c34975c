//! The machine on which the topology is agreed.

use super::world::{options, run_jobs};
use base::clock::Clock;
use cluster::consensus::{Consensus, Proposal, SingleCopy};
use cluster::runtime::{Runtime, SimRuntime};
use cluster::topology::Topology;
use lsm::Db;
use lsm::executor::ManualExecutor;
use std::sync::Arc;
use vfs::{CrashProfile, FaultFs, MemFs};

/// It, its disk, and what it has said.
pub(super) struct Agreement {
    runtime: Arc<SimRuntime>,
    fs: MemFs,
    /// What the running one writes through.
    pub(super) disk: FaultFs,
    running: Option<(Arc<SingleCopy>, Arc<ManualExecutor>)>,
    known: Arc<Topology>,
    seed: u64,
}

impl Agreement {
    pub(super) fn new(
        runtime: &Arc<SimRuntime>,
        first: Arc<Topology>,
        seed: u64,
    ) -> Result<Agreement, String> {
        let (runtime, fs) = (Arc::clone(runtime), MemFs::new());
        let disk = FaultFs::over_mem(fs.clone());
        let mut agreement = Agreement { runtime, fs, disk, running: None, known: first, seed };
        agreement.start().map(|()| agreement)
    }

    /// Starts it on the disk that it has, if it does not run.
    pub(super) fn start(&mut self) -> Result<(), String> {
        if self.running.is_some() {
            return Ok(());
        }
        let jobs = ManualExecutor::new();
        self.disk = FaultFs::over_mem(self.fs.clone());
        let db = Db::builder("/agreement")
            .options(options())
            .fs(Arc::new(self.disk.clone()))
            .clock(Arc::clone(&self.runtime) as Arc<dyn Clock>)
            .executor(Arc::clone(&jobs) as _)
            .seed(self.seed)
            .open()
            .map_err(|error| format!("the agreement does not open: {error}"))?;
        let runtime = Arc::clone(&self.runtime) as Arc<dyn Runtime>;
        let first = || Topology::clone(&self.known);
        let copy = SingleCopy::open(db, runtime, first).map_err(|error| error.to_string())?;
        run_jobs(&self.runtime, &jobs);
        self.running = Some((copy, jobs));
        Ok(())
    }

    /// Cuts its power.
    pub(super) fn crash(&mut self, profile: CrashProfile, seed: u64) {
        self.known = self.known();
        if let Some((copy, _)) = self.running.take() {
            copy.stop();
            self.fs = self.fs.crash(profile, seed);
        }
    }

    /// The newest topology that it has published.
    pub(super) fn known(&self) -> Arc<Topology> {
        match &self.running {
            Some((copy, _)) => copy.known(),
            None => Arc::clone(&self.known),
        }
    }

    /// What decides, while it runs.
    pub(super) fn copy(&self) -> Option<&Arc<SingleCopy>> {
        self.running.as_ref().map(|(copy, _)| copy)
    }

    /// Proposes something. Nobody waits for it.
    pub(super) fn propose(&self, proposal: Proposal) {
        if let Some(copy) = self.copy() {
            copy.propose(proposal, Box::new(drop));
        }
    }
}
