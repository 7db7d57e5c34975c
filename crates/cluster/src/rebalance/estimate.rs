//! What a job costs, before and while it runs.

use super::record::Moving;
use crate::topology::{Stage, Topology};
use ring::NodeId;
use std::collections::BTreeMap;

/// What a job will move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Estimate {
    /// Copies of partitions that are made.
    pub copies: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of the node that receives most.
    pub bytes_at_one_node_max: u64,
    /// Time it takes to copy, in microseconds, if the throttle lets through what it may, for each receiver or, if it is so, for all together,
    /// and nothing else slows it down; 0 without a throttle.
    pub micros: u64,
}

impl Estimate {
    /// What the job of `topology` has left to copy; `bytes_of` says what a partition holds, `together` whether the throttle is for all
    /// receivers ([`MoverOptions::together`](super::MoverOptions::together)). To see a job before it begins, apply
    /// [`Topology::start_job`] and throw the result away.
    #[must_use]
    pub fn of(topology: &Topology, together: bool, bytes_of: impl Fn(Moving) -> u64) -> Estimate {
        let mut estimate = Estimate::default();
        let mut into: BTreeMap<NodeId, u64> = BTreeMap::new();
        for placement in topology.placements() {
            let ahead = placement.steps().filter(|step| step.stage < Some(Stage::Joint));
            for step in ahead {
                let replicas = placement.replicas() as u8;
                let bytes = bytes_of(Moving { replicas, partition: step.partition });
                for to in step.handovers.iter().filter_map(|handover| handover.to) {
                    estimate.copies += 1;
                    estimate.bytes += bytes;
                    *into.entry(to).or_default() += bytes;
                }
            }
        }
        estimate.bytes_at_one_node_max = into.into_values().max().unwrap_or(0);
        let rate = topology.job().map_or(0, |job| job.bytes_per_second);
        let throttled = if together { estimate.bytes } else { estimate.bytes_at_one_node_max };
        let micros = u128::from(throttled) * 1_000_000;
        estimate.micros = micros
            .checked_div(u128::from(rate))
            .map_or(0, |m| u64::try_from(m).unwrap_or(u64::MAX));
        estimate
    }
}

/// How far a job has come, in partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JobProgress {
    /// All whose owners change.
    pub partitions: usize,
    /// Not begun.
    pub planned: usize,
    /// Being copied.
    pub copying: usize,
    /// Copied, and catching up.
    pub joint: usize,
    /// At their new owners.
    pub flipped: usize,
    /// Old copies that are to be deleted.
    pub departing: usize,
}

/// How far the job of `topology` has come.
#[must_use]
pub fn progress(topology: &Topology) -> JobProgress {
    let mut progress = JobProgress::default();
    for placement in topology.placements() {
        for step in placement.steps() {
            progress.partitions += 1;
            *match step.stage {
                None => &mut progress.planned,
                Some(Stage::Copying) => &mut progress.copying,
                Some(Stage::Joint) => &mut progress.joint,
                Some(Stage::Flipped) => &mut progress.flipped,
            } += 1;
        }
        progress.departing += placement.departing().count();
    }
    progress
}
