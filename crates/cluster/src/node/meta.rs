//! What a node keeps in the keyspace `_meta` of its database.
//!
//! ```text
//! key                                            value
//! identity                                       format u8, cluster, node, actor, session, first
//! topology                                       the newest topology that is known, as `topology` encodes it
//! clock                                          the bound below which stamps may be given, u64 LE
//! peer/ node u64 BE                              the latest start of that node that was recorded here
//! part/ keyspace u32 BE, partition u32 BE        actor, counter, seen, floor, promised
//! hole/ keyspace u32 BE, partition u32 BE        ranges that are out of service until they are filled again
//! ```

use crate::clock::{Actor, Context, Stamp};
use crate::codec::message::Hello;
use crate::codec::wire::{Wire, fields};
use crate::merkle::Span;
use crate::record::Floor;
use crate::topology::Topology;
use base::KeyspaceId;
use lsm::{Db, Durability, Error, Keyspace, KeyspaceOptions, Result, WriteBatch};
use ring::{NodeId, Partition};

const KEYSPACE: &str = "_meta";
const FORMAT: u8 = 3;

fields! {
    /// Who the owner of a disk is.
    #[expect(unreachable_pub, reason = "the macro serves public messages, too")]
    Identity {
        /// Of this layout.
        format: u8,
        /// The cluster it belongs to.
        cluster: u64,
        /// The node.
        node: NodeId,
        /// Who makes its dots.
        actor: Actor,
        /// Ascends with every start.
        session: u64,
        /// Under the actor that it became a member with: what is not there was never written.
        first: bool,
    }
}

fields! {
    /// What a replica knows of a partition, beside its records.
    #[expect(unreachable_pub, reason = "the macro serves public messages, too")]
    PartState {
        /// The actor under which the replica is complete: another one than the node's has to be synchronised first.
        actor: Actor,
        /// Dots that this actor has made in the partition.
        counter: u64,
        /// The dots taken in.
        seen: Context,
        /// What every owner has taken in.
        floor: Floor,
        /// No write stamped at or before this is taken any more.
        promised: Stamp,
    }
}

/// The keyspace `_meta`.
#[derive(Debug, Clone)]
pub(crate) struct Meta {
    keyspace: Keyspace,
}

impl Meta {
    pub(crate) fn open(db: &Db) -> Result<Meta> {
        Ok(Meta { keyspace: db.keyspace(KEYSPACE, KeyspaceOptions::default())? })
    }

    pub(crate) fn identity(&self) -> Result<Option<Identity>> {
        self.get(b"identity")
    }

    pub(crate) fn set_identity(&self, identity: &Identity) -> Result<()> {
        self.keyspace.put_with("identity", identity.to_bytes(), Durability::Sync)
    }

    pub(crate) fn topology(&self) -> Result<Option<Topology>> {
        let bytes = self.keyspace.get("topology")?;
        let decode = |bytes: base::Slice| {
            Topology::decode(&bytes)
                .map_err(|error| Error::invalid("stored topology", error.to_string()))
        };
        bytes.map(decode).transpose()
    }

    pub(crate) fn set_topology(&self, topology: &Topology) -> Result<()> {
        self.keyspace.put_with("topology", topology.encode(), Durability::Sync)
    }

    pub(crate) fn clock_bound(&self) -> Result<Stamp> {
        Ok(self.get(b"clock")?.unwrap_or(Stamp::ZERO))
    }

    pub(crate) fn set_clock_bound(&self, bound: Stamp) -> Result<()> {
        self.keyspace.put_with("clock", bound.to_bytes(), Durability::Sync)
    }

    pub(crate) fn start_of(&self, peer: NodeId) -> Result<Option<Hello>> {
        self.get(&peer_key(peer))
    }

    pub(crate) fn set_start_of(&self, peer: NodeId, start: &Hello) -> Result<()> {
        self.keyspace.put_with(peer_key(peer), start.to_bytes(), Durability::Sync)
    }

    pub(crate) fn part(
        &self,
        keyspace: KeyspaceId,
        partition: Partition,
    ) -> Result<Option<PartState>> {
        self.get(&part_key(keyspace, partition))
    }

    /// Adds the state of a partition to a write.
    pub(crate) fn put_part(
        &self,
        batch: &mut WriteBatch,
        keyspace: KeyspaceId,
        partition: Partition,
        state: &PartState,
    ) {
        batch.put_in(&self.keyspace, part_key(keyspace, partition), state.to_bytes());
    }

    /// Ranges of a partition that are out of service.
    pub(crate) fn holes(&self, keyspace: KeyspaceId, partition: Partition) -> Result<Vec<Span>> {
        Ok(self.get(&hole_key(keyspace, partition))?.unwrap_or_default())
    }

    pub(crate) fn set_holes(
        &self,
        keyspace: KeyspaceId,
        partition: Partition,
        holes: &[Span],
    ) -> Result<()> {
        let key = hole_key(keyspace, partition);
        match holes {
            [] => self.keyspace.delete_with(key, Durability::Sync),
            _ => self.keyspace.put_with(key, holes.to_vec().to_bytes(), Durability::Sync),
        }
    }

    /// Adds to a write that nothing of a partition is out of service.
    pub(crate) fn forget_holes(
        &self,
        batch: &mut WriteBatch,
        keyspace: KeyspaceId,
        partition: Partition,
    ) {
        batch.delete_in(&self.keyspace, hole_key(keyspace, partition));
    }

    fn get<T: Wire>(&self, key: &[u8]) -> Result<Option<T>> {
        let decode = |bytes: &[u8]| {
            T::from_bytes(bytes).map_err(|error| {
                let name = String::from_utf8_lossy(key).into_owned();
                Error::invalid("stored state of a node", format!("{name:?}: {error}"))
            })
        };
        self.keyspace.get_with(key, decode)?.transpose()
    }
}

impl Identity {
    /// That of a disk that is used for the first time.
    pub(crate) fn new(cluster: u64, node: NodeId, actor: Actor, first: bool) -> Identity {
        Identity { format: FORMAT, cluster, node, actor, session: 0, first }
    }

    /// True if this version can read what else is stored.
    pub(crate) fn is_known(&self) -> bool {
        self.format == FORMAT
    }
}

fn peer_key(peer: NodeId) -> Vec<u8> {
    [&b"peer/"[..], &peer.0.to_be_bytes()].concat()
}

fn part_key(keyspace: KeyspaceId, partition: Partition) -> Vec<u8> {
    [&b"part/"[..], &keyspace.0.to_be_bytes(), &partition.0.to_be_bytes()].concat()
}

fn hole_key(keyspace: KeyspaceId, partition: Partition) -> Vec<u8> {
    [&b"hole/"[..], &keyspace.0.to_be_bytes(), &partition.0.to_be_bytes()].concat()
}
