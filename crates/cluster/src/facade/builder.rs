//! Opening the nodes of a cluster.

use super::keyspace::ClusterKeyspace;
use super::options::TIMEOUT_MICROS_DEFAULT;
use super::{Cluster, Error, KeyspaceOptions, Shared};
use crate::clock::Actor;
use crate::node::{Node, NodeOptions, Parts, Policy, View, stored_view};
use crate::record::{Bounds, Mode};
use crate::runtime::ThreadRuntime;
use crate::transport::{InProcess, Limits};
use base::KeyspaceId;
use base::rng::Rng;
use base::sync::Mutex;
use base::sync::atomic::AtomicUsize;
use lsm::{BlockCache, Db, Options};
use ring::{Member, NodeId, Ring};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The keyspace that every cluster has.
pub(super) const DEFAULT: KeyspaceId = KeyspaceId(1);
/// Block cache that all nodes share, unless the options say otherwise.
const CACHE_BYTES: usize = 256 << 20;
/// Threads on which nodes work.
const THREADS: usize = 8;

/// Collects what a [`Cluster`] is opened with.
#[derive(Debug, Clone)]
#[must_use = "nothing is opened before `open`"]
pub struct ClusterBuilder {
    nodes: Vec<Member>,
    replication: usize,
    partitions: Option<u32>,
    mode: Mode,
    timeout_micros: u64,
    options: Options,
    limits: Limits,
}

/// How nodes are started, also later.
#[derive(Debug)]
pub(crate) struct Plan {
    dir: PathBuf,
    options: Options,
    cache: Option<Arc<BlockCache>>,
    pub(super) members: Vec<Member>,
    replication: usize,
    cluster: u64,
    /// How long a request waits that does not say otherwise.
    pub(super) timeout_micros: u64,
}

impl ClusterBuilder {
    pub(super) fn new() -> Self {
        ClusterBuilder {
            nodes: (1..=3).map(|n| Member::new(n, 1, "")).collect(),
            replication: 3,
            partitions: None,
            mode: Mode::Siblings,
            timeout_micros: TIMEOUT_MICROS_DEFAULT,
            options: Options::default(),
            limits: Limits::default(),
        }
    }

    /// Sets the number of nodes: all alike, in one zone. Default 3.
    pub fn nodes(mut self, nodes: u64) -> Self {
        self.nodes = (1..=nodes).map(|n| Member::new(n, 1, "")).collect();
        self
    }

    /// Sets the nodes, with weights and zones.
    pub fn members(mut self, members: &[Member]) -> Self {
        self.nodes = members.to_vec();
        self
    }

    /// Sets N of the keyspace `default` and of those that do not say otherwise. Default 3.
    pub fn replication(mut self, owners: usize) -> Self {
        self.replication = owners;
        self
    }

    /// Sets the number of partitions, a power of two. Default: enough for the nodes there are, see
    /// [`Ring::partitions_for`].
    pub fn partitions(mut self, partitions: u32) -> Self {
        self.partitions = Some(partitions);
        self
    }

    /// In the keyspace `default` the last writer wins.
    pub fn last_writer_wins(mut self) -> Self {
        self.mode = Mode::LastWriterWins;
        self
    }

    /// Sets how long requests wait that do not say otherwise, in microseconds. Default 5 s.
    pub fn timeout_micros(mut self, micros: u64) -> Self {
        self.timeout_micros = micros;
        self
    }

    /// Sets the options of each node's database. They share one block cache, unless there is a memory budget. Default
    /// [`Options::default`].
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// Sets the bounds of messages between nodes. Default [`Limits::default`].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Opens the cluster whose nodes lie in directories of `dir`, or makes it where there is none.
    ///
    /// # Errors
    /// [`Error::Options`] naming the rule that is broken, also if the cluster was made with others; [`Error::Store`] of a database.
    pub fn open(self, dir: impl AsRef<Path>) -> Result<Cluster, Error> {
        let faults = self.limits.faults();
        if !faults.is_empty() {
            return Err(Error::options(faults.join("; ")));
        }
        let partitions = self.partitions_wanted();
        let cache = self.options.memory_budget_bytes.is_none().then(|| {
            Arc::new(BlockCache::new(self.options.block_cache_bytes.unwrap_or(CACHE_BYTES)))
        });
        let mut plan = Plan {
            dir: dir.as_ref().to_path_buf(),
            options: self.options.clone(),
            cache,
            members: self.nodes.clone(),
            replication: self.replication,
            timeout_micros: self.timeout_micros,
            cluster: 0,
        };
        let dbs = plan.open_dbs()?;
        let (view, new) = plan.find_view(&dbs, partitions, self.mode)?;
        plan.cluster = view.cluster();
        let runtime = ThreadRuntime::new(THREADS);
        let seed = Rng::from_entropy().next_u64();
        let network = InProcess::new(Arc::clone(&runtime) as _, seed, self.limits);
        let shared = Arc::new(Shared {
            network,
            plan,
            nodes: Mutex::default(),
            turn: AtomicUsize::new(0),
            runtime,
        });
        for (id, db) in dbs {
            shared.run(id, db, Arc::clone(&view), new)?;
        }
        let ready = shared.nodes.lock().values().map(Node::when_ready).collect::<Vec<_>>();
        for ready in ready {
            ready.wait()?;
        }
        let default = ClusterKeyspace::new(Arc::clone(&shared), DEFAULT);
        Ok(Cluster { shared, default })
    }

    fn partitions_wanted(&self) -> u32 {
        let wanted = Ring::partitions_for(self.nodes.len(), self.replication);
        self.partitions.unwrap_or(wanted)
    }
}

impl Plan {
    fn open_dbs(&self) -> Result<Vec<(NodeId, Db)>, Error> {
        self.members.iter().map(|member| Ok((member.id, self.open_db(member.id)?))).collect()
    }

    fn open_db(&self, id: NodeId) -> Result<Db, Error> {
        let mut builder =
            Db::builder(self.dir.join(format!("node-{}", id.0))).options(self.options.clone());
        if let Some(cache) = &self.cache {
            builder = builder.block_cache(Arc::clone(cache));
        }
        Ok(builder.open()?)
    }

    /// The newest view that a node has stored, or the first one; and whether it is that.
    fn find_view(
        &self,
        dbs: &[(NodeId, Db)],
        partitions: u32,
        mode: Mode,
    ) -> Result<(Arc<View>, bool), Error> {
        let stored = dbs.iter().map(|(_, db)| stored_view(db)).collect::<lsm::Result<Vec<_>>>()?;
        let newest = stored.into_iter().flatten().max_by_key(View::epoch);
        if let Some(view) = newest {
            self.check(&view, partitions, mode)?;
            return Ok((Arc::new(view), false));
        }
        let policy = Policy {
            name: "default".into(),
            replicas: self.replication,
            mode,
            bounds: Bounds::default(),
        };
        let cluster = Rng::from_entropy().next_u64();
        let keyspaces = BTreeMap::from([(DEFAULT, policy)]);
        Ok((Arc::new(View::new(cluster, partitions, &self.members, keyspaces)?), true))
    }

    /// A cluster that was made before is opened as it was made.
    fn check(&self, view: &View, partitions: u32, mode: Mode) -> Result<(), Error> {
        let mut wanted = self.members.clone();
        wanted.sort_by_key(|member| member.id);
        if view.ring().partitions() != partitions || view.members_in_full() != wanted {
            return Err(Error::options("the cluster was made with other nodes or partitions"));
        }
        let policy = view.policy(DEFAULT)?;
        if policy.replicas != self.replication || policy.mode != mode {
            return Err(Error::options("the cluster was made with another replication or mode"));
        }
        Ok(())
    }
}

impl Shared {
    fn run(&self, id: NodeId, db: Db, view: Arc<View>, new: bool) -> Result<(), Error> {
        let parts = Parts {
            runtime: Arc::clone(&self.runtime) as _,
            transport: Arc::clone(&self.network) as _,
            db,
            actors: Arc::new(drawn_actor),
            view,
        };
        let options = NodeOptions::new(self.plan.cluster, id).new_cluster(new);
        let node = Node::open(parts, options)?;
        self.nodes.lock().insert(id, node);
        Ok(())
    }
}

/// An actor that nobody else is: one of 2^48, drawn for each time that a node needs one.
fn drawn_actor() -> Actor {
    Actor((Rng::from_entropy().next_u64() >> 16).max(1))
}

/// Starts a node that was stopped.
pub(super) fn start(shared: &Shared, id: NodeId) -> Result<(), Error> {
    let is_member = shared.plan.members.iter().any(|member| member.id == id);
    if !is_member || shared.nodes.lock().contains_key(&id) {
        let state = if is_member { "it runs already" } else { "there is no such node" };
        return Err(Error::options(format!("{id} cannot be started: {state}")));
    }
    let db = shared.plan.open_db(id)?;
    let newest = shared.nodes.lock().values().map(|node| node.view()).max_by_key(|v| v.epoch());
    let view = match newest {
        Some(view) => view,
        None => Arc::new(stored_view(&db)?.ok_or(Error::NodeIsDown { node: None })?),
    };
    shared.run(id, db, view, false)
}

/// Finds a keyspace by its name, or makes it known to all nodes.
pub(super) fn keyspace(
    shared: &Shared,
    name: &str,
    options: &KeyspaceOptions,
) -> Result<KeyspaceId, Error> {
    let nodes = shared.nodes.lock();
    let newest = nodes.values().map(|node| node.view()).max_by_key(|view| view.epoch());
    let view = newest.ok_or(Error::NodeIsDown { node: None })?;
    let policy = Policy {
        name: name.into(),
        replicas: options.replication.unwrap_or(shared.plan.replication),
        mode: options.mode,
        bounds: options.bounds,
    };
    if let Some((id, found)) = view.keyspaces().find(|(_, found)| found.name == name) {
        return match **found == policy {
            true => Ok(id),
            false => Err(Error::options(format!("keyspace {name:?} was made with {found:?}"))),
        };
    }
    let down = shared.plan.members.iter().find(|member| !nodes.contains_key(&member.id));
    if let Some(down) = down {
        return Err(Error::NodeIsDown { node: Some(down.id) });
    }
    let last = view.keyspaces().map(|(id, _)| id.0).max().unwrap_or(0);
    let next = Arc::new(view.with_keyspace(KeyspaceId(last + 1), policy)?);
    nodes.values().try_for_each(|node| node.set_view(Arc::clone(&next)))?;
    Ok(KeyspaceId(last + 1))
}
