//! Opening the nodes of a cluster.

use super::agreement::Agreement;
use super::keyspace::ClusterKeyspace;
use super::options::TIMEOUT_MICROS_DEFAULT;
use super::{Cluster, Error, KeyspaceOptions, Shared};
use crate::clock::Actor;
use crate::membership::Config;
use crate::node::{Node, NodeOptions, Parts, TABLES_FROM_BYTES_DEFAULT};
use crate::rebalance::DriverOptions;
use crate::record::{self, Bounds, Mode};
use crate::runtime::{Runtime, ThreadRuntime, processors};
use crate::seat::{Seat, SeatParts};
use crate::topology::{Change, MemberState, Topology};
use crate::transport::{InProcess, Limits};
use base::KeyspaceId;
use base::limits::check_keyspace_name;
use base::rng::Rng;
use base::sync::Mutex;
use base::sync::atomic::AtomicUsize;
use lsm::{BlockCache, Db, Options};
use ring::{Member, NodeId, REPLICAS_MAX, Ring};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The keyspace that every cluster has.
const DEFAULT: &str = "default";
/// Where the topology is agreed on, beside the directories of the nodes.
const AGREEMENT: &str = "agreement";
/// Block cache that all nodes share, unless the options say otherwise.
const CACHE_BYTES: usize = 256 << 20;
/// Partitions that one node receives or gives at a time.
const MOVES: usize = 8;
/// How often nodes are asked how far they are: they are near.
const POLL_MICROS: u64 = 50_000;
/// What moves a second at most by default, into all nodes together, for each processor: more of it, and clients wait for these.
const BYTES_PER_PROCESSOR: u64 = 4 << 20;
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
    driver: DriverOptions,
    detector: Config,
    tables_from_bytes: u64,
    queues: Queues,
}

/// Bounds of what each node holds for others, in bytes; `None` is the default of a node.
#[derive(Debug, Clone, Copy, Default)]
struct Queues {
    requests: Option<usize>,
    inbox: Option<usize>,
    remembered: Option<usize>,
    hints: Option<u64>,
    hints_total: Option<u64>,
}

/// How nodes are started, also later.
#[derive(Debug)]
pub(crate) struct Plan {
    dir: PathBuf,
    options: Options,
    cache: Option<Arc<BlockCache>>,
    /// N where a keyspace does not say otherwise.
    pub(super) replication: usize,
    /// How long a request waits that does not say otherwise.
    pub(super) timeout_micros: u64,
    pub(super) driver: DriverOptions,
    detector: Config,
    tables_from_bytes: u64,
    queues: Queues,
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
            driver: DriverOptions {
                moves_per_node_max: MOVES,
                poll_micros: POLL_MICROS,
                bytes_per_second: BYTES_PER_PROCESSOR * processors() as u64,
                ..DriverOptions::default()
            },
            detector: Config::default(),
            tables_from_bytes: TABLES_FROM_BYTES_DEFAULT,
            queues: Queues::default(),
        }
    }

    /// Sets the number of nodes that the cluster is made with: all alike, in one zone. One that was made before has those that it has.
    /// Default 3.
    pub fn nodes(mut self, nodes: u64) -> Self {
        self.nodes = (1..=nodes).map(|n| Member::new(n, 1, "")).collect();
        self
    }

    /// Sets the nodes that the cluster is made with, with weights and zones.
    pub fn members(mut self, members: &[Member]) -> Self {
        self.nodes = members.to_vec();
        self
    }

    /// Sets N of the keyspace `default` and of those that do not say otherwise. Default 3.
    pub fn replication(mut self, owners: usize) -> Self {
        self.replication = owners;
        self
    }

    /// Sets the number of partitions, a power of two, for as long as the cluster lives. Default: enough for the nodes it is made with,
    /// see [`Ring::partitions_for`]; one that is to grow is made with enough for its largest size.
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

    /// Sets how many bytes of requests of clients, with what owners answered to them, each node holds at most until they are answered;
    /// what finds no room is refused. At least two of the longest frames. Default 128 MiB.
    pub fn requests_bytes_max(mut self, bytes: usize) -> Self {
        self.queues.requests = Some(bytes);
        self
    }

    /// Sets how many bytes of requests of other nodes each node holds at most until they are answered; what finds no room is refused. At
    /// least four of the longest frames. Default 128 MiB.
    pub fn inbox_bytes_max(mut self, bytes: usize) -> Self {
        self.queues.inbox = Some(bytes);
        self
    }

    /// Sets how many bytes each node holds at most of the outcomes of writes that other nodes passed on to it, by which a write whose message
    /// comes twice is carried out once and answered alike; of one that is forgotten the outcome is unknown. Default 32 MiB.
    pub fn remembered_bytes_max(mut self, bytes: usize) -> Self {
        self.queues.remembered = Some(bytes);
        self
    }

    /// Sets how many bytes of hints each node keeps for each other one at most; what finds no room is left to the exchange. Default 64 MiB.
    pub fn hints_bytes_max(mut self, bytes: u64) -> Self {
        self.queues.hints = Some(bytes);
        self
    }

    /// Sets how many bytes of hints each node keeps for all others together at most. Default 1 GiB.
    pub fn hints_total_bytes_max(mut self, bytes: u64) -> Self {
        self.queues.hints_total = Some(bytes);
        self
    }

    /// Sets whether data begins to move by itself when nodes come, go, or change their weight. If not, [`Cluster::rebalance`] begins it.
    /// Default true.
    pub fn rebalance_by_itself(mut self, by_itself: bool) -> Self {
        self.driver.start_by_itself = by_itself;
        self
    }

    /// Sets how many bytes a second the nodes that receive such a move are sent at most, all together, since they share the disk and the
    /// processors of this process with those that serve; 0 is no limit. Default 4 MiB for each processor.
    pub fn bytes_per_second(mut self, bytes: u64) -> Self {
        self.driver.bytes_per_second = bytes;
        self
    }

    /// Sets how much of what moves to a node has to come together to be written as table files, past its log; [`u64::MAX`] is never.
    /// Default 1.5 MiB.
    pub fn tables_from_bytes(mut self, bytes: u64) -> Self {
        self.tables_from_bytes = bytes;
        self
    }

    /// Sets after which time a node that does not answer is given up, in microseconds: what it owned is copied from the other owners.
    /// `None` is never. Default 10 minutes.
    pub fn give_up_after_micros(mut self, micros: Option<u64>) -> Self {
        self.driver.give_up_after_micros = micros;
        self
    }

    /// Sets how eagerly nodes look after each other. Default [`Config::default`]: one that does not answer is thought dead after some 10 s.
    pub fn failure_detection(mut self, config: Config) -> Self {
        self.detector = config;
        self
    }

    /// Opens the cluster whose nodes lie in directories of `dir`, or makes it where there is none.
    ///
    /// # Errors
    /// [`Error::Options`] naming the rule that is broken, also if the cluster was made with others; [`Error::Store`] of a database.
    pub fn open(self, dir: impl AsRef<Path>) -> Result<Cluster, Error> {
        self.validate()?;
        let cache = self.options.memory_budget_bytes.is_none().then(|| {
            Arc::new(BlockCache::new(self.options.block_cache_bytes.unwrap_or(CACHE_BYTES)))
        });
        let plan = Plan {
            dir: dir.as_ref().to_path_buf(),
            options: self.options.clone(),
            cache,
            replication: self.replication,
            timeout_micros: self.timeout_micros,
            driver: self.driver,
            detector: self.detector.clone(),
            tables_from_bytes: self.tables_from_bytes,
            queues: self.queues,
        };
        let runtime = ThreadRuntime::new(THREADS);
        let agreement = Agreement::open(plan.open_db(AGREEMENT)?, &runtime, &|| self.first())?;
        let made = self.make(&agreement)?;
        self.check(&agreement.known())?;
        let seed = Rng::from_entropy().next_u64();
        let network = InProcess::new(Arc::clone(&runtime) as _, seed, self.limits);
        let shared = Arc::new(Shared {
            cluster: agreement.known().cluster(),
            network,
            plan,
            agreement,
            seat: Mutex::default(),
            nodes: Mutex::default(),
            turn: AtomicUsize::new(0),
            runtime,
        });
        shared.follow();
        for member in shared.agreement.known().members() {
            shared.run(member.id, made)?;
        }
        shared.take_the_seat()?;
        let ready = shared.nodes.lock().values().map(Node::when_ready).collect::<Vec<_>>();
        for ready in ready {
            ready.wait()?;
        }
        let topology = shared.agreement.known();
        let default = topology.keyspace_named(DEFAULT).map(|keyspace| keyspace.id);
        let default = default.ok_or_else(|| Error::options("keyspace \"default\" was dropped"))?;
        let default = ClusterKeyspace::new(Arc::clone(&shared), default);
        Ok(Cluster { shared, default })
    }

    /// All broken rules, in one error.
    fn validate(&self) -> Result<(), Error> {
        let mut faults = self.limits.faults();
        faults.extend(self.detector.faults());
        let zeros = [
            (self.nodes.is_empty(), "a cluster of 0 nodes; give at least one"),
            (self.replication == 0, "replication 0 keeps nothing; give at least 1"),
            (self.timeout_micros == 0, "timeout_micros 0 is no time; give a longer one"),
        ];
        faults.extend(zeros.iter().filter(|(is, _)| *is).map(|(_, fault)| (*fault).to_owned()));
        match faults.is_empty() {
            true => Ok(()),
            false => Err(Error::options(faults.join("; "))),
        }
    }

    /// The topology that a cluster begins with.
    fn first(&self) -> Result<Topology, ring::Error> {
        let ring = Ring::new(self.partitions_wanted())?;
        Ok(Topology::new(Rng::from_entropy().next_u64(), ring))
    }

    /// Brings the topology of a new cluster to where it can be used; true if this did. One that was left half way is gone on with.
    fn make(&self, agreement: &Agreement) -> Result<bool, Error> {
        let is_made = |topology: &Topology| !topology.keyspaces().is_empty();
        if is_made(&agreement.known()) {
            return Ok(false);
        }
        for node in &self.nodes {
            agreement.agree(|topology| {
                let add = || Change::AddMember {
                    id: node.id,
                    address: String::new(),
                    zone: node.zone.clone(),
                    weight: node.weight,
                };
                Ok(topology.member(node.id).is_none().then(add))
            })?;
        }
        let bounds = Bounds::default();
        agreement.agree(|topology| {
            let options = KeyspaceOptions { replication: None, mode: self.mode, bounds };
            create(topology, DEFAULT, self.replication, &options).map(Some)
        })?;
        Ok(true)
    }

    /// A cluster that was made before is opened as it was made.
    fn check(&self, topology: &Topology) -> Result<(), Error> {
        let differs = |made: usize| self.partitions.is_some_and(|wanted| wanted as usize != made);
        if differs(topology.ring().partitions() as usize) {
            return Err(Error::options("the cluster was made with other partitions"));
        }
        let keyspace = topology.keyspace_named(DEFAULT);
        let same = keyspace.is_none_or(|keyspace| {
            usize::from(keyspace.replicas) == self.replication && keyspace.mode == self.mode
        });
        let other = || Error::options("the cluster was made with another replication or mode");
        if same { Ok(()) } else { Err(other()) }
    }

    fn partitions_wanted(&self) -> u32 {
        let wanted = Ring::partitions_for(self.nodes.len(), self.replication);
        self.partitions.unwrap_or(wanted)
    }
}

impl Plan {
    fn open_db(&self, name: &str) -> Result<Db, Error> {
        let mut builder = Db::builder(self.dir.join(name)).options(self.options.clone());
        if let Some(cache) = &self.cache {
            builder = builder.block_cache(Arc::clone(cache));
        }
        Ok(builder.open()?)
    }
}

impl Shared {
    /// Starts a node on what its directory holds.
    pub(super) fn run(&self, id: NodeId, new_member: bool) -> Result<(), Error> {
        let topology = self.agreement.known();
        let mut options = NodeOptions::new(topology.cluster(), id)
            .new_member(new_member)
            .detector(self.plan.detector.clone());
        options.tables_from_bytes = self.plan.tables_from_bytes;
        options.mover.together = true;
        let queues = &self.plan.queues;
        options.requests_bytes_max = queues.requests.unwrap_or(options.requests_bytes_max);
        options.inbox_bytes_max = queues.inbox.unwrap_or(options.inbox_bytes_max);
        options.remembered_bytes_max = queues.remembered.unwrap_or(options.remembered_bytes_max);
        options.hints_bytes_max = queues.hints.unwrap_or(options.hints_bytes_max);
        options.hints_total_bytes_max = queues.hints_total.unwrap_or(options.hints_total_bytes_max);
        let parts = Parts {
            runtime: Arc::clone(&self.runtime) as _,
            transport: Arc::clone(&self.network) as _,
            db: self.plan.open_db(&format!("node-{}", id.0))?,
            actors: Arc::new(drawn_actor),
            topology,
        };
        let node = Node::open(parts, options)?;
        self.nodes.lock().insert(id, node);
        Ok(())
    }

    /// Tells all nodes of topologies from now on.
    fn follow(self: &Arc<Self>) {
        let this = Arc::downgrade(self);
        let watcher = move |topology: &Arc<Topology>| {
            let (this, topology) = (this.clone(), Arc::clone(topology));
            let Some(shared) = this.upgrade() else { return };
            shared.runtime.run(Box::new(move || {
                if let Some(shared) = this.upgrade() {
                    shared.spread(&topology);
                }
            }));
        };
        self.agreement.consensus().watch(Box::new(watcher));
    }

    /// Drives jobs from now on.
    fn take_the_seat(&self) -> Result<(), Error> {
        let parts = SeatParts {
            runtime: Arc::clone(&self.runtime) as _,
            transport: Arc::clone(&self.network) as _,
            consensus: self.agreement.consensus(),
            driver: self.plan.driver,
            detector: Some(self.plan.detector.clone()),
            seed: Rng::from_entropy().next_u64(),
        };
        *self.seat.lock() = Some(Seat::start(parts)?);
        Ok(())
    }

    /// Tells all nodes that run of a topology. One that cannot store it is behind, and fetches it again later.
    pub(super) fn spread(&self, topology: &Arc<Topology>) {
        let nodes: Vec<Arc<Node>> = self.nodes.lock().values().cloned().collect();
        nodes.iter().for_each(|node| drop(node.set_topology(topology)));
    }
}

/// An actor that nobody else is: one of 2^48, drawn for each time that a node needs one.
fn drawn_actor() -> Actor {
    Actor((Rng::from_entropy().next_u64() >> 16).max(1))
}

/// Starts a node that was stopped.
pub(super) fn start(shared: &Shared, id: NodeId) -> Result<(), Error> {
    shared.agreement.known().member(id).ok_or(Error::UnknownNode { node: id })?;
    if shared.nodes.lock().contains_key(&id) {
        return Err(Error::options(format!("{id} runs already; stop it first")));
    }
    shared.run(id, false)
}

/// Finds a keyspace by its name, or makes it.
pub(super) fn keyspace(
    shared: &Shared,
    name: &str,
    options: &KeyspaceOptions,
) -> Result<KeyspaceId, Error> {
    let replicas = options.replication.unwrap_or(shared.plan.replication);
    let topology = shared.agreement.agree(|topology| match topology.keyspace_named(name) {
        Some(_) => Ok(None),
        None => create(topology, name, replicas, options).map(Some),
    })?;
    shared.spread(&topology);
    let Some(keyspace) = topology.keyspace_named(name) else {
        return Err(Error::options(format!("keyspace {name:?} was dropped meanwhile")));
    };
    let same = usize::from(keyspace.replicas) == replicas
        && keyspace.mode == options.mode
        && usize::from(keyspace.siblings_max) == options.bounds.siblings_max;
    match same {
        true => Ok(keyspace.id),
        false => Err(Error::options(format!("keyspace {name:?} was made as {keyspace:?}"))),
    }
}

/// The change that makes a keyspace.
fn create(
    topology: &Topology,
    name: &str,
    replicas: usize,
    options: &KeyspaceOptions,
) -> Result<Change, Error> {
    let KeyspaceOptions { mode, bounds, .. } = options;
    if bounds.value_bytes_max != Bounds::default().value_bytes_max {
        return Err(Error::options("bounds.value_bytes_max cannot be chosen for a keyspace yet"));
    }
    check_keyspace_name(name).map_err(|error| Error::options(error.to_string()))?;
    let out_of_range = |what: &str, given: usize, max: usize| {
        Error::options(format!("{what} {given} is outside its range; give 1 to {max}"))
    };
    if !(1..=REPLICAS_MAX).contains(&replicas) {
        return Err(out_of_range("replication", replicas, REPLICAS_MAX));
    }
    let most = record::siblings_max(replicas);
    if !(1..=most).contains(&bounds.siblings_max) {
        return Err(out_of_range("bounds.siblings_max", bounds.siblings_max, most));
    }
    let up = topology.members().iter().filter(|member| member.state == MemberState::Up);
    let left = up.count();
    if left < replicas {
        return Err(Error::TooFewNodes { left, replicas });
    }
    let replicas = u8::try_from(replicas).unwrap_or(u8::MAX);
    let siblings_max = u16::try_from(bounds.siblings_max).unwrap_or(u16::MAX);
    Ok(topology.create_keyspace(name, replicas, *mode, siblings_max)?)
}
