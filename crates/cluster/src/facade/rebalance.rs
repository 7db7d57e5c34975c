//! The job that moves data, as a handle.

use super::{Error, Shared};
use crate::node::Node;
use crate::rebalance::{Estimate, JobProgress, Moving, progress};
use crate::topology::{Change, Job, JobId, Refusal, Topology};
use base::clock::Clock;
use ring::NodeId;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Moving data to where the members ask for it. There is one job at a time; all handles are handles on it.
#[derive(Debug, Clone)]
pub struct Rebalance {
    shared: Arc<Shared>,
    /// When the handle was made, on the monotonic clock, and what had arrived by then.
    since_micros: u64,
    bytes_before: u64,
}

/// What a job has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RebalancePlan {
    /// Partitions whose owners change.
    pub partitions: usize,
    /// Copies of partitions that are made.
    pub copies: u64,
    /// Their bytes, about: as if the partitions of a keyspace had the same size, and with what was replaced and is not compacted yet.
    /// Of data that was written once within a quarter of what is then copied.
    pub bytes: u64,
    /// How long it takes at least, with the throttle that is set, in microseconds; 0 without one.
    pub micros: u64,
}

/// How far a job has come.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct RebalanceProgress {
    /// Which job.
    pub job: JobId,
    /// No further step begins.
    pub paused: bool,
    /// Partitions, by how far they are.
    pub partitions: JobProgress,
    /// Bytes that have arrived at their new owners since these were started.
    pub bytes_moved: u64,
    /// Bytes that are left, about.
    pub bytes_left: u64,
    /// Bytes a second that have arrived since this handle was made.
    pub bytes_per_second: u64,
    /// How long it takes yet at the pace so far, in microseconds; `None` where nothing can be said yet.
    pub left_micros: Option<u64>,
}

impl Rebalance {
    pub(super) fn new(shared: Arc<Shared>) -> Rebalance {
        let since_micros = shared.runtime.monotonic_micros();
        let mut rebalance = Rebalance { shared, since_micros, bytes_before: 0 };
        rebalance.bytes_before = rebalance.job().map_or(0, |job| rebalance.bytes_moved(job.id));
        rebalance
    }

    fn known(&self) -> Arc<Topology> {
        self.shared.agreement.known()
    }

    /// The job that is under way.
    #[must_use]
    pub fn job(&self) -> Option<Job> {
        self.known().job().cloned()
    }

    /// What the job that is under way has left to do; where there is none, what the next one will do. All 0 if nothing is to be moved.
    ///
    /// # Errors
    /// [`Error::Refused`] if nobody can hold data.
    pub fn plan(&self) -> Result<RebalancePlan, Error> {
        let known = self.known();
        let topology = match known.job() {
            Some(_) => known,
            None => {
                let start = known.start_job(self.shared.plan.driver.bytes_per_second)?;
                match known.apply(&start) {
                    Ok(next) => Arc::new(next),
                    Err(Refusal::NothingToMove) => return Ok(RebalancePlan::default()),
                    Err(refusal) => return Err(refusal.into()),
                }
            }
        };
        let Estimate { copies, bytes, micros, .. } = self.estimate(&topology);
        let ahead = progress(&topology);
        let partitions = ahead.partitions - ahead.flipped;
        Ok(RebalancePlan { partitions, copies, bytes, micros })
    }

    /// Begins a job, unless one is under way or nothing is to be moved; which one.
    ///
    /// # Errors
    /// [`Error::Refused`] if nobody can hold data; [`Error::Agreement`].
    pub fn start(&self) -> Result<Option<JobId>, Error> {
        let rate = self.shared.plan.driver.bytes_per_second;
        let started = self.shared.agreement.agree(|topology| {
            if topology.job().is_some() {
                return Ok(None);
            }
            let start = topology.start_job(rate)?;
            let idle = topology.apply(&start) == Err(Refusal::NothingToMove);
            Ok((!idle).then_some(start))
        })?;
        Ok(started.job().map(|job| job.id))
    }

    /// How far the job is that is under way; `None` if there is none.
    #[must_use]
    pub fn progress(&self) -> Option<RebalanceProgress> {
        let topology = self.known();
        let job = topology.job()?;
        let (bytes_moved, bytes_left) = (self.bytes_moved(job.id), self.estimate(&topology).bytes);
        let arrived = bytes_moved.saturating_sub(self.bytes_before);
        let micros = self.shared.runtime.monotonic_micros().saturating_sub(self.since_micros);
        let share = |part: u64, of: u64, whole: u64| {
            let share = u128::from(part) * u128::from(whole) / u128::from(of.max(1));
            u64::try_from(share).unwrap_or(u64::MAX)
        };
        Some(RebalanceProgress {
            job: job.id,
            paused: job.paused,
            partitions: progress(&topology),
            bytes_moved,
            bytes_left,
            bytes_per_second: share(arrived, micros, 1_000_000),
            left_micros: (arrived > 0).then(|| share(bytes_left, arrived, micros)),
        })
    }

    /// Sets how many bytes a second all receivers together are sent at most; 0 is no limit.
    ///
    /// # Errors
    /// [`Error::Refused`] if no job is under way.
    pub fn throttle(&self, bytes_per_second: u64) -> Result<(), Error> {
        self.change(|job| Change::SetJob { job: job.id, paused: job.paused, bytes_per_second })
    }

    /// Stops beginning anything new and copying; what is about to be handed over still is.
    ///
    /// # Errors
    /// [`Error::Refused`] if no job is under way.
    pub fn pause(&self) -> Result<(), Error> {
        self.set_paused(true)
    }

    /// Goes on after a pause.
    ///
    /// # Errors
    /// [`Error::Refused`] if no job is under way.
    pub fn resume(&self) -> Result<(), Error> {
        self.set_paused(false)
    }

    fn set_paused(&self, paused: bool) -> Result<(), Error> {
        self.change(|job| {
            let bytes_per_second = job.bytes_per_second;
            Change::SetJob { job: job.id, paused, bytes_per_second }
        })
    }

    /// Turns back: what has moved already goes back to the owners from before, by a job that can be waited for. None begins by itself until
    /// something else changes about the nodes.
    ///
    /// # Errors
    /// [`Error::Refused`] if no job is under way, or an owner from before was given up: then [`stop`](Self::stop) it.
    pub fn cancel(&self) -> Result<(), Error> {
        self.change(|job| Change::RollBackJob { job: job.id })
    }

    /// Ends the job where it stands: what has moved stays where it is. None begins by itself until something else changes about the nodes.
    ///
    /// # Errors
    /// [`Error::Refused`] if no job is under way.
    pub fn stop(&self) -> Result<(), Error> {
        self.change(|job| Change::StopJob { job: job.id, hold: true })
    }

    fn change(&self, change: impl Fn(&Job) -> Change) -> Result<(), Error> {
        let topology = self.shared.agreement.agree(|topology| {
            let job = topology.job().ok_or(Refusal::UnknownJob)?;
            Ok(Some(change(job)))
        })?;
        self.shared.spread(&topology);
        Ok(())
    }

    /// Waits until no job is under way and none is about to begin by itself.
    ///
    /// # Errors
    /// [`Error::Unfinished`] if that is not so after `timeout_micros`; it goes on all the same.
    pub fn wait(&self, timeout_micros: u64) -> Result<(), Error> {
        let by_itself = self.shared.plan.driver.start_by_itself;
        let over = |topology: &Topology| {
            let more = || {
                let start = topology.start_job(0);
                start.is_ok_and(|start| topology.apply(&start) != Err(Refusal::NothingToMove))
            };
            let begins = by_itself && !topology.is_held() && more();
            (topology.job().is_none() && !begins).then_some(())
        };
        let clock = &*self.shared.runtime;
        let waited = self.shared.agreement.wait_until(clock, timeout_micros, over);
        waited.ok_or(Error::Unfinished)?;
        // Whoever looks at a node now sees it, too.
        self.shared.spread(&self.known());
        Ok(())
    }

    fn bytes_moved(&self, job: JobId) -> u64 {
        self.shared.nodes.lock().values().map(|node| node.bytes_fetched(job)).sum()
    }

    /// What is ahead, by what the nodes that run store.
    fn estimate(&self, topology: &Topology) -> Estimate {
        let nodes: Vec<Arc<Node>> = self.shared.nodes.lock().values().cloned().collect();
        let mut mean: BTreeMap<u8, u64> = BTreeMap::new();
        for keyspace in topology.keyspaces() {
            let bytes: u64 = nodes.iter().map(|node| node.stored_bytes(keyspace.id)).sum();
            let copies: u64 =
                nodes.iter().map(|node| copies(topology, keyspace.replicas, node.id())).sum();
            *mean.entry(keyspace.replicas).or_default() += bytes / copies.max(1);
        }
        let bytes_of = |moving: Moving| mean.get(&moving.replicas).copied().unwrap_or(0);
        Estimate::of(topology, true, bytes_of)
    }
}

/// Partitions that a node owns.
fn copies(topology: &Topology, replicas: u8, node: NodeId) -> u64 {
    let placement = topology.placement(usize::from(replicas));
    placement.map_or(0, |placement| placement.base().partitions_of(node).count() as u64)
}

#[cfg(test)]
mod tests {
    use crate::facade::{Cluster, NodeOptions};
    use lsm::Options;

    const PATIENCE: u64 = 240_000_000;

    /// What is planned is what moves, wherever the data lies.
    fn plan_and_move(in_tables: bool) {
        let dir = tempfile::tempdir().expect("a directory");
        let options = Options::default()
            .memtable_size_bytes(4 << 20)
            .log_segment_bytes(4 << 20)
            .disk_reserve_bytes(0)
            // Memtables are to stay where they are, however long the writes take.
            .idle_compaction(None);
        let builder = Cluster::builder().nodes(2).replication(1).partitions(16).options(options);
        let builder = builder.rebalance_by_itself(false).bytes_per_second(0);
        let store = builder.timeout_micros(60_000_000).open(dir.path()).expect("a new cluster");
        let pairs = (0..6000).map(|n| (format!("song:{n:05}"), format!("{n:0100}")));
        for put in store.multi_put(pairs).expect("it serves") {
            put.expect("all owners are there");
        }
        for node in store.shared.nodes.lock().values() {
            assert_eq!(node.db().metrics().table_bytes(), 0, "all is in memtables");
            if in_tables {
                node.db().flush().expect("a healthy disk");
            }
        }
        store.add_node(&NodeOptions::new()).expect("it joins");
        let rebalance = store.rebalance();
        let plan = rebalance.plan().expect("there are owners");
        let job = rebalance.start().expect("it can begin").expect("there is something to move");
        rebalance.wait(PATIENCE).expect("it ends");
        let moved = rebalance.bytes_moved(job);
        assert!(moved > 100_000, "{moved}");
        let ratio = plan.bytes as f64 / moved as f64;
        assert!((0.8..=1.25).contains(&ratio), "{} planned, {moved} moved", plan.bytes);
        store.close().expect("nobody uses it");
    }

    #[test]
    fn the_plan_says_what_moves_of_data_in_memtables() {
        plan_and_move(false);
    }

    #[test]
    fn the_plan_says_what_moves_of_data_in_tables() {
        plan_and_move(true);
    }
}
