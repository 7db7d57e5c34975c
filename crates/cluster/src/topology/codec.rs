//! A topology as bytes.
//!
//! ```text
//! offset size field
//!      0    8 magic       b"ESKERCLU"
//!      8    1 version     u8, see `VERSION`
//!      9    . fields      varints, and lists behind their lengths:
//!             cluster, epoch, log2 of the partitions; last actor, keyspace id + 1 and job id that were given;
//!             members     each: id, actor, address, zone, weight, state u8; ids ascend
//!             keyspaces   each: id, name, replicas u8, mode u8, siblings; ids ascend
//!             placements  each as below; replicas ascend
//!             job         flag; id, kind u8, paused, bytes a second, epoch it began in
//!             held        flag
//!     -8    8 checksum    u64 LE, xxh3-64 of all bytes before it
//!
//! placement: base, as `ring` encodes it, behind its length
//!            since        runs of partitions: how many, epoch; neighbours differ
//!            way          flag; target as `ring` encodes it; stages: partition, stage u8; partitions ascend
//!            departing    partitions, ascending, each: partition, nodes, ascending, at least one
//! ```
//! A topology has one encoding, and bytes that decode are that encoding. Magic, version and checksum keep their places in every version.

use super::keyspace::KEYSPACES_MAX;
use super::placement::{Placement, Stage, Way};
use super::{Job, Keyspace, Member, Topology};
use crate::codec::DecodeError;
use crate::codec::wire::{Input, Wire, check, invalid};
use base::KeyspaceId;
use base::checksum::xxh3_64;
use base::coding::{put_length_prefixed, put_varint};
use ring::{Epoch, MEMBERS_MAX, NodeId, PARTITIONS_MAX, Partition, REPLICAS_MAX, Ring};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Version of the encoding.
pub const VERSION: u8 = 1;
/// Bytes of the longest encoding that is looked at.
pub const ENCODED_LEN_MAX: usize = 64 << 20;

const MAGIC: [u8; 8] = *b"ESKERCLU";
const FIELDS_OFFSET: usize = MAGIC.len() + 1;
const CHECKSUM_LEN: usize = size_of::<u64>();
/// Most copies of one partition that wait to be deleted.
const DEPARTING_MAX: usize = MEMBERS_MAX;

pub(super) fn encode(topology: &Topology) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&MAGIC);
    bytes.push(VERSION);
    topology.put(&mut bytes);
    let checksum = xxh3_64(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

pub(super) fn decode(bytes: &[u8]) -> Result<Topology, DecodeError> {
    let (len, max) = (bytes.len(), ENCODED_LEN_MAX);
    if len > max {
        return Err(DecodeError::TooLong { what: "topology", len, max });
    }
    let cut = DecodeError::Truncated { what: "topology" };
    let (fields, stored) = bytes.split_last_chunk::<CHECKSUM_LEN>().ok_or(cut.clone())?;
    let (head, _) = fields.split_first_chunk::<FIELDS_OFFSET>().ok_or(cut)?;
    check(head[..MAGIC.len()] == MAGIC, "magic")?;
    // Before the checksum: another version may have another one.
    let version = head[MAGIC.len()];
    if version != VERSION {
        return Err(DecodeError::UnknownVersion { version });
    }
    if xxh3_64(fields) != u64::from_le_bytes(*stored) {
        return Err(DecodeError::ChecksumMismatch);
    }
    Topology::from_bytes(&fields[FIELDS_OFFSET..])
}

impl Wire for Topology {
    const LEN_MIN: usize = 11;
    fn put(&self, out: &mut Vec<u8>) {
        self.cluster.put(out);
        self.epoch.put(out);
        out.push(self.ring.partitions().trailing_zeros() as u8);
        self.actors.put(out);
        self.keyspace_ids.put(out);
        self.job_ids.put(out);
        self.members.put(out);
        self.keyspaces.put(out);
        self.placements.put(out);
        self.job.put(out);
        self.held.put(out);
    }

    fn take(input: &mut Input<'_>) -> Result<Self, DecodeError> {
        let topology = Topology {
            cluster: u64::take(input)?,
            epoch: Epoch::take(input)?,
            ring: ring_of(input.u8("partitions")?)?,
            actors: u64::take(input)?,
            keyspace_ids: u32::take(input)?,
            job_ids: u64::take(input)?,
            members: input.list("members", MEMBERS_MAX)?,
            keyspaces: input.list("keyspaces", KEYSPACES_MAX)?,
            placements: input.list("placements", REPLICAS_MAX)?,
            job: Wire::take(input)?,
            held: bool::take(input)?,
        };
        topology.check()?;
        Ok(topology)
    }
}

fn ring_of(bits: u8) -> Result<Ring, DecodeError> {
    let partitions = 1u32.checked_shl(u32::from(bits)).ok_or(invalid("partitions"))?;
    Ring::new(partitions).map_err(|_| invalid("partitions"))
}

impl Topology {
    /// What must hold of every topology.
    pub(super) fn check(&self) -> Result<(), DecodeError> {
        check(self.epoch >= Epoch::FIRST, "epoch")?;
        check(self.members.is_sorted_by(|a, b| a.id < b.id), "members")?;
        self.members.iter().try_for_each(|member| self.check_member(member))?;
        check(self.keyspaces.is_sorted_by(|a, b| a.id < b.id), "keyspaces")?;
        self.keyspaces.iter().try_for_each(|keyspace| self.check_keyspace(keyspace))?;
        let ascend = self.placements.is_sorted_by(|a, b| a.replicas() < b.replicas());
        check(ascend, "placements")?;
        self.placements.iter().try_for_each(|placement| self.check_placement(placement))?;
        self.job.as_ref().map_or(Ok(()), |job| self.check_job(job))
    }

    fn check_member(&self, member: &Member) -> Result<(), DecodeError> {
        let given = (1..=self.actors).contains(&member.actor.0);
        check(member.is_within_bounds() && given, "member")
    }

    fn check_keyspace(&self, keyspace: &Keyspace) -> Result<(), DecodeError> {
        let given = keyspace.id < KeyspaceId(self.keyspace_ids);
        let alone = self.keyspaces.iter().filter(|other| other.name == keyspace.name).count() == 1;
        let placed = self.placement(usize::from(keyspace.replicas)).is_some();
        check(keyspace.is_within_bounds() && given && alone && placed, "keyspace")
    }

    fn check_placement(&self, placement: &Placement) -> Result<(), DecodeError> {
        let used = |keyspace: &Keyspace| usize::from(keyspace.replicas) == placement.replicas();
        check(self.keyspaces.iter().any(used), "placement")?;
        check(placement.base.ring() == self.ring, "partitions")?;
        self.check_nodes(&placement.base)?;
        check(placement.since.iter().all(|since| *since <= self.epoch), "since")?;
        if let Some(way) = &placement.way {
            check(self.job.is_some() && way.target.ring() == self.ring, "target")?;
            check(way.target.replicas() == placement.replicas(), "target")?;
            self.check_nodes(&way.target)?;
        }
        let held = placement.departing();
        let fits = |(partition, node): (Partition, NodeId)| {
            partition.0 < self.ring.partitions()
                && self.member(node).is_some()
                && placement.is_no_holder(partition, node)
        };
        check(held.into_iter().all(fits), "departing")
    }

    /// Owners are members.
    fn check_nodes(&self, ring: &ring::Topology) -> Result<(), DecodeError> {
        let loads = ring.loads();
        let known = |node| self.member(node).is_some();
        check(loads.iter().all(|load| load.partitions == 0 || known(load.node)), "owner")
    }

    fn check_job(&self, job: &Job) -> Result<(), DecodeError> {
        let given = (1..=self.job_ids).contains(&job.id.0) && job.begun <= self.epoch;
        let ways = self.placements.iter().any(|placement| placement.way.is_some());
        check(given && ways, "job")
    }
}

impl Placement {
    /// What departs neither owns nor receives.
    fn is_no_holder(&self, partition: Partition, node: NodeId) -> bool {
        self.owners(partition).is_some_and(|owners| {
            !owners.list().contains(&node) && owners.receivers().all(|to| to != node)
        })
    }
}

impl Wire for Placement {
    const LEN_MIN: usize = 4;
    fn put(&self, out: &mut Vec<u8>) {
        self.base.put(out);
        put_since(&self.since, out);
        self.way.is_some().put(out);
        if let Some(way) = &self.way {
            put_way(way, out);
        }
        put_varint(out, self.departing.len() as u64);
        for (partition, nodes) in &self.departing {
            partition.put(out);
            nodes.put(out);
        }
    }

    fn take(input: &mut Input<'_>) -> Result<Self, DecodeError> {
        let base: Arc<ring::Topology> = Arc::take(input)?;
        let since = take_since(input, base.ring().partitions() as usize)?;
        let way = if bool::take(input)? { Some(take_way(input, &base)?) } else { None };
        let departing: Vec<Departing> = input.list("departing", PARTITIONS_MAX as usize)?;
        check(departing.is_sorted_by(|a, b| a.0 < b.0), "departing")?;
        let departing = departing.into_iter().map(|Departing(p, nodes)| (p, nodes)).collect();
        Ok(Placement { base, since, way, departing })
    }
}

/// Nodes with a copy of a partition that they are to delete.
struct Departing(Partition, Vec<NodeId>);

impl Wire for Departing {
    const LEN_MIN: usize = 3;
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }
    fn take(input: &mut Input<'_>) -> Result<Self, DecodeError> {
        let (partition, nodes) = (Partition::take(input)?, input.list("nodes", DEPARTING_MAX)?);
        check(!nodes.is_empty() && nodes.is_sorted_by(|a, b| a < b), "departing")?;
        Ok(Departing(partition, nodes))
    }
}

fn put_since(since: &[Epoch], out: &mut Vec<u8>) {
    let runs = || since.chunk_by(|a, b| a == b);
    put_varint(out, runs().count() as u64);
    for run in runs() {
        put_varint(out, run.len() as u64);
        run.first().copied().unwrap_or(Epoch::FIRST).put(out);
    }
}

fn take_since(input: &mut Input<'_>, partitions: usize) -> Result<Vec<Epoch>, DecodeError> {
    let runs = input.count("since", 2, PARTITIONS_MAX as usize)?;
    let mut since = Vec::with_capacity(partitions);
    for _ in 0..runs {
        let len = usize::try_from(input.varint("since")?).unwrap_or(usize::MAX);
        let epoch = Epoch::take(input)?;
        check((1..=partitions - since.len()).contains(&len), "since")?;
        check(since.last() != Some(&epoch), "since")?;
        since.resize(since.len() + len, epoch);
    }
    check(since.len() == partitions, "since").map(|()| since)
}

fn put_way(way: &Way, out: &mut Vec<u8>) {
    way.target.put(out);
    put_varint(out, way.stages.len() as u64);
    for (partition, stage) in &way.stages {
        partition.put(out);
        stage.put(out);
    }
}

fn take_way(input: &mut Input<'_>, base: &ring::Topology) -> Result<Way, DecodeError> {
    let target: Arc<ring::Topology> = Arc::take(input)?;
    let mut way = Way::new(base, target).map_err(|_| invalid("target"))?;
    check(!way.steps.is_empty(), "target")?;
    let count = input.count("stages", 2, PARTITIONS_MAX as usize)?;
    let mut stages = BTreeMap::new();
    for _ in 0..count {
        let (partition, stage) = (Partition::take(input)?, Stage::take(input)?);
        let ascends = stages.last_key_value().is_none_or(|(last, _)| *last < partition);
        check(ascends && way.steps.contains_key(&partition), "stages")?;
        stages.insert(partition, stage);
    }
    way.stages = stages;
    Ok(way)
}

/// As `ring` encodes it, behind its length.
impl Wire for Arc<ring::Topology> {
    const LEN_MIN: usize = 1;
    fn put(&self, out: &mut Vec<u8>) {
        put_length_prefixed(out, &self.encode());
    }
    fn take(input: &mut Input<'_>) -> Result<Self, DecodeError> {
        let bytes = input.bytes("placement")?;
        ring::Topology::decode(bytes).map(Arc::new).map_err(|_| invalid("placement"))
    }
}
