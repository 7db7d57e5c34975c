//! How a node follows topologies, and what it refuses by them.
//!
//! A topology is stored and synced before it is in force; once it is, nothing that was admitted under an older one is under way here any
//! more. So a node that says that it is at an epoch has in its database all that it ever counted for before.
//!
//! Each message says the epoch of its sender, so whoever is behind hears of it from the next one, and fetches.

use super::meta::Meta;
use super::{Node, View};
use crate::codec::message::{Answer, Topology as Fetch, TopologyIs};
use crate::topology::{Topology, Update};
use crate::transport::{Ended, Failure};
use base::sync::atomic::Ordering;
use base::{KeyspaceId, Slice};
use ring::{Epoch, NodeId, Partition};
use std::sync::Arc;

/// The newer one of what a disk knows and what its node is told, stored.
pub(super) fn newest_of(meta: &Meta, told: Arc<Topology>) -> lsm::Result<Arc<Topology>> {
    match meta.topology()? {
        Some(stored) if stored.epoch() >= told.epoch() => Ok(Arc::new(stored)),
        _ => meta.set_topology(&told).map(|()| told),
    }
}

impl Node {
    /// What it knows of the cluster.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.lock())
    }

    /// The epoch of the topology that is in force here.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.view.lock().epoch()
    }

    /// Tells it of a topology. It is stored, and in force, when this returns; an older one than the one it has is left alone.
    ///
    /// # Errors
    /// Those of its database, and [`lsm::Error::InvalidArgument`] for the topology of another cluster; then it goes on with the one it had.
    pub fn set_topology(&self, topology: &Arc<Topology>) -> lsm::Result<()> {
        let _one_by_one = self.storing.lock();
        let before = self.view();
        if topology.cluster() != before.cluster() {
            return Err(lsm::Error::invalid("topology", "it is of another cluster"));
        }
        if topology.epoch() <= before.epoch() {
            return Ok(());
        }
        self.replica.meta().set_topology(topology)?;
        let view = Arc::new(View::new(Arc::clone(topology)));
        {
            let _nothing_under_way = self.gate.write();
            *self.view.lock() = Arc::clone(&view);
        }
        if before.members() != view.members() {
            self.introduce_again();
        }
        let topology = Arc::clone(topology);
        self.work(move |node| node.move_under(topology));
        Ok(())
    }

    /// Does something to a partition that was begun under the topology of `epoch`: the topology does not change meanwhile. Must not
    /// be called inside itself.
    ///
    /// # Errors
    /// [`Failure::StaleEpoch`] if this node sees other owners, and nothing is done; what `work` says.
    pub(crate) fn fenced<T>(
        &self,
        keyspace: KeyspaceId,
        partition: Partition,
        epoch: Epoch,
        work: impl FnOnce(&View) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let _gate = self.gate.read();
        let view = self.view();
        view.fence(keyspace, partition, epoch)?;
        work(&view)
    }

    /// Fetches the topology if the end of a call to `to` shows that this one is old.
    pub(super) fn notice_epoch(&self, to: NodeId, ended: &Ended) {
        let shown = match ended {
            Ok(reply) => reply.epoch,
            Err(Failure::StaleEpoch { current }) => *current,
            Err(_) => return,
        };
        self.notice_newer(to, shown);
    }

    /// Fetches the topology from `node`, which is at `epoch`, if this one is older.
    pub(super) fn notice_newer(&self, node: NodeId, epoch: Epoch) {
        let known = self.epoch();
        if epoch <= known || self.fetching.swap(true, Ordering::SeqCst) {
            return;
        }
        self.ask(node, self.patience(), Fetch { known }, |node, ended| {
            node.fetching.store(false, Ordering::SeqCst);
            if let Ok(Answer::TopologyIs(TopologyIs { topology: Some(bytes) })) = ended {
                // What does not fit, or cannot be stored, is fetched again when the next message shows that it is missing.
                node.take_update(&bytes);
            }
        });
    }

    fn take_update(&self, bytes: &[u8]) {
        let Ok(update) = Update::decode(bytes) else { return };
        if let Ok(Some(topology)) = self.view().topology().follow(&update) {
            drop(self.set_topology(&topology));
        }
    }

    /// Answers a node that is at epoch `known`.
    pub(super) fn tell_topology(&self, known: Epoch) -> TopologyIs {
        let view = self.view();
        let newer = view.epoch() > known;
        let update = newer.then(|| Update::Whole(Arc::clone(view.topology())).encode());
        TopologyIs { topology: update.map(Slice::from) }
    }
}
