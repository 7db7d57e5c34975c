//! What each database of a store knows of the store.
//!
//! ```text
//! in keyspace `_shard`, under the key `identity`:
//! offset size field
//!      0    1 version   u8, see `VERSION`
//!      1    8 store     u64 LE, random, the same in all databases of a store
//!      9    2 number    u16 LE, which of them this is
//!     11    . topology  as `ring` encodes it, the same in all: members are the numbers
//! ```
//! Once all have theirs, each gets an empty value under the key `complete`. Only before that may one be without identity: later it
//! is a disk that was lost, not one that is new.

use lsm::{Db, Durability, Error, KeyspaceOptions, Result};
use ring::Topology;
use std::path::Path;

const VERSION: u8 = 1;
const HEADER_LEN: usize = 1 + size_of::<u64>() + size_of::<u16>();
const KEYSPACE: &str = "_shard";
const KEY: &str = "identity";
const COMPLETE: &str = "complete";

#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) store: u64,
    pub(super) number: u16,
    pub(super) topology: Topology,
}

/// What `db` says; `None` if it is no part of a store.
pub(super) fn read(db: &Db) -> Result<Option<Identity>> {
    match db.open_keyspace(KEYSPACE) {
        Ok(keyspace) => keyspace.get(KEY)?.map(|bytes| decode(&bytes)).transpose(),
        Err(Error::KeyspaceNotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes `db`, which must not hold anything yet, a part of a store.
pub(super) fn write(db: &Db, dir: &Path, identity: &Identity) -> Result<()> {
    let others = db.list_keyspaces().iter().any(|name| name != "default" && name != KEYSPACE);
    if others || db.iter().next().transpose()?.is_some() {
        let detail = format!("{} holds a database of its own; a shard begins empty", dir.display());
        return Err(Error::invalid("shards", detail));
    }
    let keyspace = db.keyspace(KEYSPACE, KeyspaceOptions::default())?;
    keyspace.put_with(KEY, encode(identity), Durability::Sync)
}

/// True if all databases of the store had their identities once.
pub(super) fn is_complete(db: &Db) -> Result<bool> {
    match db.open_keyspace(KEYSPACE) {
        Ok(keyspace) => keyspace.contains_key(COMPLETE),
        Err(Error::KeyspaceNotFound { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Notes that all databases of the store have their identities.
pub(super) fn complete(db: &Db) -> Result<()> {
    db.open_keyspace(KEYSPACE)?.put_with(COMPLETE, "", Durability::Sync)
}

fn encode(identity: &Identity) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    bytes.extend_from_slice(&identity.store.to_le_bytes());
    bytes.extend_from_slice(&identity.number.to_le_bytes());
    bytes.extend_from_slice(&identity.topology.encode());
    bytes
}

fn decode(bytes: &[u8]) -> Result<Identity> {
    let refused = |detail: String| Error::invalid("shards", detail);
    let (header, topology) = bytes
        .split_first_chunk::<HEADER_LEN>()
        .filter(|(header, _)| header[0] == VERSION)
        .ok_or_else(|| refused("written by another version".into()))?;
    let [_, store @ .., low, high] = *header;
    let topology = Topology::decode(topology).map_err(|error| refused(error.to_string()))?;
    let (store, number) = (u64::from_le_bytes(store), u16::from_le_bytes([low, high]));
    if !topology.members().iter().map(|member| member.id.0).eq(0..topology.members().len() as u64)
        || usize::from(number) >= topology.members().len()
    {
        return Err(refused(format!("number {number} is none of the store's")));
    }
    Ok(Identity { store, number, topology })
}
