//! A cluster in one process: the verbs of a database over many nodes.
//!
//! ```
//! # fn main() -> Result<(), cluster::Error> {
//! # let dir = tempfile::tempdir().expect("a directory");
//! use cluster::Cluster;
//!
//! let store = Cluster::builder().nodes(5).replication(3).open(dir.path())?;
//! store.put("song:1", "Blue in Green")?;
//! let found = store.get("song:1")?;
//! assert_eq!(found.value().map(|v| &v[..]), Some(&b"Blue in Green"[..]));
//! assert!(found.served_by().len() >= 2);                  // a majority of the three owners
//! store.delete("song:1")?;
//! store.close()
//! # }
//! ```
//!
//! Each node has a database in a directory of its own. Any node takes any request; requests go round in turn, or to the node that
//! [`Cluster::via`] names.
//!
//! # What is promised
//! A write is `Ok` once W owners of its key have it synced; a read asks R owners. By default both are a majority, so a read sees every
//! write that was `Ok` before it began. Concurrent writes of a key are kept side by side, as *siblings*, until a write replaces them:
//! [`Found::siblings`], [`PutOptions::token`]. A keyspace may choose that [the last writer wins](Mode::LastWriterWins) instead.
//! An `Err` whose [`may_have_happened`](Error::may_have_happened) is true says that the write may be there, or appear later, once.

mod agreement;
mod builder;
mod error;
mod found;
mod keyspace;
mod nodes;
mod options;
mod range;
mod rebalance;
mod wait;

pub use builder::ClusterBuilder;
pub use error::Error;
pub use found::{Found, Put};
pub use keyspace::ClusterKeyspace;
pub use nodes::NodeOptions;
pub use options::{GetOptions, KeyspaceOptions, PutOptions};
pub use range::ClusterRange;
pub use rebalance::{Rebalance, RebalancePlan, RebalanceProgress};
pub use wait::Pending;
pub(crate) use wait::{Teller, pending};

use crate::node::{Load, Node, View};
#[cfg(doc)]
use crate::record::Mode;
use crate::runtime::ThreadRuntime;
use crate::seat::Seat;
use crate::topology::Topology;
use crate::transport::InProcess;
use base::Slice;
use base::sync::Mutex;
use base::sync::atomic::{AtomicUsize, Ordering};
use ring::NodeId;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Nodes of one process as one store. Cheap to clone; all clones are the same cluster.
///
/// The verbs act on the keyspace `default`.
#[derive(Debug, Clone)]
pub struct Cluster {
    shared: Arc<Shared>,
    default: ClusterKeyspace,
}

/// What all handles of a cluster share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Of which cluster tokens are.
    pub(crate) cluster: u64,
    pub(crate) network: Arc<InProcess>,
    pub(crate) plan: builder::Plan,
    pub(crate) agreement: agreement::Agreement,
    /// What drives jobs, until the cluster is closed.
    pub(crate) seat: Mutex<Option<Arc<Seat>>>,
    /// Those that run.
    pub(crate) nodes: Mutex<BTreeMap<NodeId, Arc<Node>>>,
    turn: AtomicUsize,
    /// Ends its threads when the last handle goes.
    pub(crate) runtime: Arc<ThreadRuntime>,
}

impl Shared {
    /// The node that takes a request: the one named, or the next.
    ///
    /// # Errors
    /// [`Error::UnknownNode`], [`Error::NodeIsDown`].
    pub(crate) fn taker(&self, via: Option<NodeId>) -> Result<Arc<Node>, Error> {
        let nodes = self.nodes.lock();
        let node = match via {
            Some(id) => nodes.get(&id),
            None => {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed);
                nodes.values().nth(turn % nodes.len().max(1))
            }
        };
        node.cloned().ok_or_else(|| self.is_down(via))
    }

    /// Why a node, or any, does not answer.
    fn is_down(&self, node: Option<NodeId>) -> Error {
        let member = |node: NodeId| self.agreement.known().member(node).is_some();
        match node {
            Some(node) if !member(node) => Error::UnknownNode { node },
            node => Error::NodeIsDown { node },
        }
    }
}

impl Cluster {
    /// Says how many nodes, and how.
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder::new()
    }

    /// The keyspace that the verbs without one act on.
    #[must_use]
    pub fn default_keyspace(&self) -> &ClusterKeyspace {
        &self.default
    }

    /// The keyspace `name`: opened, or created with `options`.
    ///
    /// # Errors
    /// [`Error::Options`] if it is there with other options; [`Error::Refused`] if it cannot be made.
    pub fn keyspace(
        &self,
        name: impl AsRef<str>,
        options: KeyspaceOptions,
    ) -> Result<ClusterKeyspace, Error> {
        let id = builder::keyspace(&self.shared, name.as_ref(), &options)?;
        Ok(ClusterKeyspace::new(Arc::clone(&self.shared), id))
    }

    /// The same cluster, but requests are taken by `node`.
    #[must_use]
    pub fn via(&self, node: NodeId) -> ClusterKeyspace {
        self.default.via(node)
    }

    /// Sets `key` to `value`, in place of what a read just before it shows.
    ///
    /// # Errors
    /// As for [`ClusterKeyspace::put_with`].
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<Put, Error> {
        self.default.put(key, value)
    }

    /// What is stored under `key`.
    ///
    /// # Errors
    /// As for [`ClusterKeyspace::get_with`].
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Found, Error> {
        self.default.get(key)
    }

    /// Deletes what a read just before shows under `key`.
    ///
    /// # Errors
    /// As for [`ClusterKeyspace::put_with`].
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<Put, Error> {
        self.default.delete(key)
    }

    /// Sets many keys; each has its own outcome, in the order of the pairs.
    ///
    /// # Errors
    /// [`Error::NodeIsDown`]; else each outcome for itself, as for [`ClusterKeyspace::put_with`].
    pub fn multi_put<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Vec<Result<Put, Error>>, Error> {
        self.default.multi_put(pairs)
    }

    /// What is stored under many keys, in their order.
    ///
    /// # Errors
    /// The first failure.
    pub fn multi_get<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Found>, Error> {
        self.default.multi_get(keys)
    }

    /// All keys of `range` that hold a value, in order. Each page of each partition is read from a quorum, at a moment of its own. An
    /// inverted range yields one error, [`Failure::Invalid`](crate::transport::Failure::Invalid).
    #[must_use]
    pub fn scan(&self, range: impl lsm::KeyRange) -> ClusterRange {
        self.default.scan(range)
    }

    // ---- nodes ----

    /// What the nodes know of the cluster.
    ///
    /// # Errors
    /// [`Error::NodeIsDown`] if none runs.
    pub fn view(&self) -> Result<Arc<View>, Error> {
        Ok(self.shared.taker(None)?.view())
    }

    /// Waits until the topology that is agreed on is as `wanted`; it is asked again after each change.
    ///
    /// # Errors
    /// [`Error::Unfinished`] if that is not so after `timeout_micros`.
    pub fn wait_until(
        &self,
        timeout_micros: u64,
        mut wanted: impl FnMut(&Topology) -> bool,
    ) -> Result<(), Error> {
        let clock = &*self.shared.runtime;
        let found = |topology: &Topology| wanted(topology).then_some(());
        let waited = self.shared.agreement.wait_until(clock, timeout_micros, found);
        waited.ok_or(Error::Unfinished)
    }

    /// Figures of the database of a node.
    ///
    /// # Errors
    /// [`Error::NodeIsDown`] if it does not run.
    pub fn metrics(&self, node: NodeId) -> Result<lsm::Metrics, Error> {
        Ok(self.shared.taker(Some(node))?.db().metrics())
    }

    /// What a node holds for others now; each of it has a bound.
    ///
    /// # Errors
    /// [`Error::NodeIsDown`] if it does not run; [`Error::UnknownNode`].
    pub fn load(&self, node: NodeId) -> Result<Load, Error> {
        Ok(self.shared.taker(Some(node))?.load())
    }

    /// The nodes that run.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeId> {
        self.shared.nodes.lock().keys().copied().collect()
    }

    /// Owners of `key` in the default keyspace, the primary first.
    ///
    /// # Errors
    /// [`Error::NodeIsDown`] if no node runs.
    pub fn owners_of(&self, key: impl AsRef<[u8]>) -> Result<Vec<NodeId>, Error> {
        self.default.owners_of(key)
    }

    /// The network between the nodes, to count on it or to break it.
    #[must_use]
    pub fn network(&self) -> &InProcess {
        &self.shared.network
    }

    /// Ends a node, as if its process was killed; its directory stays.
    ///
    /// # Errors
    /// [`Error::NodeIsDown`] if it does not run; [`Error::UnknownNode`].
    pub fn stop_node(&self, node: NodeId) -> Result<(), Error> {
        let stopped = self.shared.nodes.lock().remove(&node);
        let stopped = stopped.ok_or_else(|| self.shared.is_down(Some(node)))?;
        stopped.stop();
        Ok(stopped.db().close()?)
    }

    /// Starts a node again that was stopped, on what its directory holds.
    ///
    /// # Errors
    /// [`Error::Store`] of its database; [`Error::Options`] if it runs already; [`Error::UnknownNode`].
    pub fn start_node(&self, node: NodeId) -> Result<(), Error> {
        builder::start(&self.shared, node)
    }

    /// Waits until a node that was started serves: before the next one is stopped, when all are to be started anew one by one. A node whose disk was
    /// lost takes writes then, and is read later ([`Node::incomplete`](crate::node::Node::incomplete)).
    ///
    /// # Errors
    /// [`Error::NodeIsDown`] if it does not run; [`Failure::Timeout`](crate::transport::Failure::Timeout) if it does not serve after
    /// `timeout_micros`, for instance because a majority of the members cannot be reached; [`Error::UnknownNode`].
    pub fn wait_serving(&self, node: NodeId, timeout_micros: u64) -> Result<(), Error> {
        let running = self.shared.nodes.lock().get(&node).cloned();
        let running = running.ok_or_else(|| self.shared.is_down(Some(node)))?;
        Ok(running.when_ready_within(timeout_micros).wait()?)
    }

    /// Waits until all hints that running nodes keep now are handed over.
    ///
    /// # Errors
    /// [`Failure::Timeout`](crate::transport::Failure::Timeout) if they are not after `timeout_micros`, for instance because an owner is away.
    pub fn hints_delivered(&self, timeout_micros: u64) -> Result<(), Error> {
        let nodes: Vec<Arc<Node>> = self.shared.nodes.lock().values().cloned().collect();
        let waiting: Vec<Pending<()>> =
            nodes.iter().map(|node| node.when_hints_delivered(timeout_micros)).collect();
        Ok(waiting.into_iter().try_for_each(Pending::wait)?)
    }

    /// Ends all nodes.
    ///
    /// # Errors
    /// The first failure of a database; the others are closed all the same.
    pub fn close(&self) -> Result<(), Error> {
        if let Some(seat) = self.shared.seat.lock().take() {
            seat.stop();
        }
        let nodes = std::mem::take(&mut *self.shared.nodes.lock());
        nodes.values().for_each(|node| node.stop());
        let mut closed: Vec<_> = nodes.values().map(|node| node.db().close()).collect();
        closed.push(self.shared.agreement.close());
        closed.into_iter().collect::<lsm::Result<()>>().map_err(Error::from)
    }
}

/// Owns a key or value.
fn slice(bytes: impl AsRef<[u8]>) -> Slice {
    Slice::copy_from(bytes.as_ref())
}
