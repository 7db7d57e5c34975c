//! Many databases as one store: [`Cluster`], its nodes, what they say to each other, what they keep of a key, and how they find what differs.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`runtime`] | the seam for time and for work that may block: virtual time, or threads |
//! | [`codec`] | frames and messages as bytes |
//! | [`transport`] | the seam between nodes, an in-process network with faults, the suite that every transport passes |
//! | [`clock`] | hybrid logical clock; dots, contexts, the token that a client holds |
//! | [`record`] | what a replica stores for a key, and how two of them merge |
//! | [`merkle`] | digests of key ranges, and the search for what differs |
//! | [`topology`] | members, keyspaces, owners and what is on its way, at one epoch |
//! | [`consensus`] | the seam for agreement on topologies, and one copy in a database |
//! | [`membership`] | who is there: failure detection by gossip |
//! | [`rebalance`] | the machines of a job that moves partitions to their new owners |
//! | [`layout`] | where a partition lies in a database |
//! | [`node`] | one node: a replica in a database, who it is, what it knows of the cluster |
//! | [`coordinator`] | reads and writes of clients with R and W, at any node |
//! | [`seat`] | where the topology is agreed on: tells nodes of it, drives jobs |
//! | [`sharded`] | several databases of one process as one store, without replicas |
//!
//! [`Cluster`] puts them together: nodes of one process with the verbs of a database, which come and go while it serves. How to use it is in
//! `docs/cluster.md`, how it fits together in `docs/cluster-design.md`.
//!
//! # What this crate does not know
//! Wires, files, async runtimes. A node is told of events and answers with effects; whoever runs it brings the rest.
#![forbid(unsafe_code)]

pub mod clock;
pub mod codec;
pub mod consensus;
pub mod coordinator;
mod exchange;
mod facade;
mod hints;
pub mod layout;
pub mod membership;
pub mod merkle;
pub mod node;
pub mod rebalance;
pub mod record;
mod repair;
mod rounds;
pub mod runtime;
pub mod seat;
pub mod sharded;
#[cfg(test)]
mod simulation;
pub mod topology;
pub mod transport;

pub use base::KeyspaceId;
pub use facade::{
    Cluster, ClusterBuilder, ClusterKeyspace, ClusterRange, Error, Found, GetOptions,
    KeyspaceOptions, NodeOptions, Pending, Put, PutOptions, Rebalance, RebalancePlan,
    RebalanceProgress,
};
pub use ring::{Epoch, NodeId, Partition};
