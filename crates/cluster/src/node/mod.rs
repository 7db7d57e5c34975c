//! One node: a replica in a database, and who answers for it.
//!
//! A node is told of events (requests, answers, timers) and has effects (writes to its database, messages, timers). It never waits:
//! what may block on the disk runs where the [`Runtime`] says, what takes long goes on when its answer comes.
//!
//! # Who may make dots
//! A start of a node begins a *session*, and so do every few seconds in which it takes writes. A start serves only once a majority of the
//! members has recorded its session, synced; and a session is told until each such majority has somebody who knows it. So if a disk
//! comes back older than it was, somebody knows a later session, and the node takes a new [`Actor`]: then no dot is made twice, and the replica is complete in nothing until it was
//! synchronised. A disk that is older by less than a session is found out when somebody sends a dot that the node made and does not
//! know. Before its session counts a node merges what it is sent, but is not read and makes no dots.

mod apply;
#[cfg(test)]
mod apply_tests;
mod change;
mod fetch;
mod follow;
mod hands;
mod holes;
mod load;
mod meta;
mod moving;
mod part;
mod replica;
mod serve;
mod start;
mod view;

pub(crate) use apply::Made;
pub(crate) use change::Change;
pub use load::Load;
pub(crate) use load::Taken;
pub(crate) use replica::{Replica, failure_of};
pub use view::{Policy, View};

use crate::clock::{Actor, DRIFT_MAX_DEFAULT};
use crate::codec::message::{Answer, Request};
use crate::coordinator::Served;
use crate::exchange::Walk;
use crate::facade::{Pending, Teller, pending};
use crate::hints::Hints;
use crate::membership::{Config, Gossip};
use crate::rebalance::{Mover, MoverOptions, Moving};
use crate::rounds::Rounds;
use crate::runtime::{Runtime, Task, TimerId};
use crate::topology::{JobId, Topology};
use crate::transport::{Call, Ended, Failure, Transport};
use base::rng::Rng;
use base::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use base::sync::{Mutex, RwLock};
use fetch::Told;
use hands::Jobs;
use load::{Inbox, Requests};
use lsm::Db;
use replica::ReplicaOptions;
use ring::{Epoch, NodeId};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};

/// See [`NodeOptions::tables_from_bytes`].
pub(crate) const TABLES_FROM_BYTES_DEFAULT: u64 = 3 << 19;
/// How long a node that did not answer is asked last.
const SILENT_MICROS: u64 = 2_000_000;

/// How long somebody waits for a node to serve.
const READY_MICROS: u64 = 3_600_000_000;

/// Where actors come from. None is given twice, in the life of the cluster.
pub type Actors = Arc<dyn Fn() -> Actor + Send + Sync>;

/// What a node is made of.
#[derive(Clone)]
pub struct Parts {
    /// Clocks, timers, work that may block.
    pub runtime: Arc<dyn Runtime>,
    /// The way to the other nodes.
    pub transport: Arc<dyn Transport>,
    /// Its database, which nobody else uses.
    pub db: Db,
    /// Where it takes actors from.
    pub actors: Actors,
    /// What is agreed on when it starts: who counts for its session. What its disk knows counts if that is newer.
    pub topology: Arc<Topology>,
}

/// Who a node is, and its tuning.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NodeOptions {
    /// The cluster; a disk of another one is refused.
    pub cluster: u64,
    /// The node.
    pub id: NodeId,
    /// The node is a new member: a disk without identity was never written to. Else it was lost. Default false.
    pub new_member: bool,
    /// Drawn for this start of the node: two starts never have the same. Default from the system's entropy.
    pub nonce: u64,
    /// How far ahead of its own clock the node follows another one, in microseconds. Default 500 ms.
    pub drift_max_micros: u64,
    /// How long a node waits for an answer that no client waits for, in microseconds. Default 1 s.
    pub patience_micros: u64,
    /// How often a node that takes writes begins a new session, in microseconds. Default 5 s.
    pub announce_micros: u64,
    /// Pause between two exchanges with other owners, in microseconds. Default 50 ms.
    pub exchange_micros: u64,
    /// Pause between two rounds that the node leads, and between two questions of one, in microseconds. Default 500 ms.
    pub round_micros: u64,
    /// Pause between two batches of hints that are handed over, in microseconds; a batch is up to 64 records. Default 20 ms.
    pub hint_micros: u64,
    /// Pause between two looks for damage, and between two holes that are filled, in microseconds. Default 1 s.
    pub mend_micros: u64,
    /// Most bytes of requests of clients, and of what owners answered to them, that are held until they are answered; at least two of the
    /// longest frames. Default 128 MiB.
    pub requests_bytes_max: usize,
    /// Most bytes of requests of nodes that are held until they are answered: bulk may use half of it, reads three quarters, writes all,
    /// and vital ones have an eighth on top; at least four of the longest frames. Default 128 MiB.
    pub inbox_bytes_max: usize,
    /// Most bytes of what is remembered of calls of other nodes, so that each is carried out once; beyond them the oldest outcomes are
    /// forgotten. Default 32 MiB.
    pub remembered_bytes_max: usize,
    /// Most bytes of hints that are kept for one owner. Default 64 MiB.
    pub hints_bytes_max: u64,
    /// Most bytes of hints for all owners together. Default 1 GiB.
    pub hints_total_bytes_max: u64,
    /// Records that move to this node go into table files past the log where so many bytes are stored at once and nothing was stored of
    /// their keys; 0 is always, [`u64::MAX`] never. Default 1.5 MiB: for less, a table of its own is not worth it.
    pub tables_from_bytes: u64,
    /// How this node moves what it is to own.
    pub mover: MoverOptions,
    /// Failure detection, the same at all members. Default none.
    pub detector: Option<Config>,
}

impl NodeOptions {
    /// The defaults for node `id` of `cluster`.
    #[must_use]
    pub fn new(cluster: u64, id: NodeId) -> NodeOptions {
        NodeOptions {
            cluster,
            id,
            new_member: false,
            nonce: Rng::from_entropy().next_u64().max(1),
            drift_max_micros: DRIFT_MAX_DEFAULT,
            patience_micros: 1_000_000,
            announce_micros: 5_000_000,
            exchange_micros: 50_000,
            round_micros: 500_000,
            hint_micros: 20_000,
            mend_micros: 1_000_000,
            requests_bytes_max: 128 << 20,
            inbox_bytes_max: 128 << 20,
            remembered_bytes_max: 32 << 20,
            hints_bytes_max: 64 << 20,
            hints_total_bytes_max: 1 << 30,
            tables_from_bytes: TABLES_FROM_BYTES_DEFAULT,
            mover: MoverOptions::default(),
            detector: None,
        }
    }

    /// Sets whether the node is a new member.
    #[must_use]
    pub fn new_member(mut self, new: bool) -> NodeOptions {
        self.new_member = new;
        self
    }

    /// Sets how it looks after others.
    #[must_use]
    pub fn detector(mut self, config: Config) -> NodeOptions {
        self.detector = Some(config);
        self
    }

    /// Sets what this start is known by.
    #[must_use]
    pub fn nonce(mut self, nonce: u64) -> NodeOptions {
        self.nonce = nonce.max(1);
        self
    }
}

/// The topology that the node has stored whose database this is; `None` if it is new.
///
/// # Errors
/// Those of the database; [`lsm::Error::InvalidArgument`] if it was stored by another version.
pub fn stored_topology(db: &Db) -> lsm::Result<Option<Topology>> {
    meta::Meta::open(db)?.topology()
}

/// One node. Shared; runs until it is stopped.
pub struct Node {
    id: NodeId,
    options: NodeOptions,
    runtime: Arc<dyn Runtime>,
    transport: Arc<dyn Transport>,
    actors: Actors,
    replica: Replica,
    view: Mutex<Arc<View>>,
    /// Held by whoever does something under a topology, until that is done; taken for a newer one to come into force.
    gate: RwLock<()>,
    /// One topology is stored after the other.
    storing: Mutex<()>,
    /// The topology is being fetched.
    fetching: AtomicBool,
    /// A majority has recorded the session.
    started: AtomicBool,
    stopped: AtomicBool,
    /// The last session that enough others have recorded.
    announced: AtomicU64,
    /// Told when it serves.
    ready: Mutex<Vec<Teller<()>>>,
    /// Calls of other nodes that were coordinated here.
    served: Mutex<Served>,
    /// Numbers of own calls.
    calls: Mutex<Calls>,
    walking: Mutex<Walk>,
    /// Holes that it began to fill.
    fills: AtomicU64,
    rounds: Mutex<Rounds>,
    hints: Hints,
    requests: Requests,
    inbox: Inbox,
    mover: Mutex<Mover>,
    /// How far moves to this node have come.
    jobs: Jobs,
    /// Bytes that were fetched since the start for the last job.
    fetched: Mutex<(JobId, u64)>,
    /// What sources said of what moves here, before their pages.
    told: Mutex<BTreeMap<Moving, Arc<Told>>>,
    /// Who is there, if this node looks after others.
    gossip: Mutex<Option<Arc<Gossip>>>,
    this: Weak<Node>,
}

/// What a node remembers of its own calls.
#[derive(Debug, Default)]
struct Calls {
    given: u64,
    /// The nonces of other nodes' starts, as far as they said.
    starts: BTreeMap<NodeId, u64>,
    /// Nodes that did not answer, and until when they are asked last.
    silent: BTreeMap<NodeId, u64>,
}

impl Node {
    /// Opens the node on its database and binds it to the network. It serves when [`is_ready`](Self::is_ready).
    ///
    /// # Errors
    /// Those of the database and the transport; [`lsm::Error::InvalidArgument`] if the database belongs to another node or cluster.
    pub fn open(parts: Parts, options: NodeOptions) -> lsm::Result<Arc<Node>> {
        let Parts { runtime, transport, db, actors, topology } = parts;
        let replica = Replica::open(
            db,
            runtime.clone(),
            &ReplicaOptions {
                cluster: options.cluster,
                node: options.id,
                actor: actors(),
                new_member: options.new_member,
                drift_max_micros: options.drift_max_micros,
            },
        )?;
        let topology = follow::newest_of(replica.meta(), topology)?;
        let (hints_max, hints_total_max) = (options.hints_bytes_max, options.hints_total_bytes_max);
        let hints = Hints::open(replica.db(), hints_max, hints_total_max)?;
        let jobs = Jobs::open(replica.db())?;
        let mover = Mover::new(options.id, options.mover, jobs.records()?);
        // One frame finds room in any of them.
        let frames = 2 * transport.limits().frame_bytes_max;
        let requests = Requests::new(options.requests_bytes_max.max(frames));
        let inbox = Inbox::new(options.inbox_bytes_max.max(2 * frames));
        let served = Mutex::new(Served::new(options.remembered_bytes_max));
        let node = Arc::new_cyclic(|this| Node {
            id: options.id,
            options,
            runtime,
            transport,
            actors,
            replica,
            view: Mutex::new(Arc::new(View::new(topology))),
            gate: RwLock::default(),
            storing: Mutex::default(),
            fetching: AtomicBool::new(false),
            started: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            announced: AtomicU64::new(0),
            ready: Mutex::default(),
            served,
            calls: Mutex::default(),
            walking: Mutex::default(),
            fills: AtomicU64::new(0),
            rounds: Mutex::default(),
            hints,
            requests,
            inbox,
            mover: Mutex::new(mover),
            jobs,
            fetched: Mutex::default(),
            told: Mutex::default(),
            gossip: Mutex::default(),
            this: this.clone(),
        });
        let bound = node.transport.bind(node.id, Arc::new(serve::Front(Arc::downgrade(&node))));
        bound.map_err(|failure| lsm::Error::invalid("node", failure.to_string()))?;
        node.introduce();
        node.go_on_announcing();
        node.walk();
        node.hand_over();
        node.lead();
        node.mend();
        node.look_after_others();
        node.work(|node| node.move_under(Arc::clone(node.view().topology())));
        Ok(node)
    }

    /// Takes the node off the network. What it was about to do is not done any more; the database stays open.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.gossip.lock().take();
        self.transport.unbind(self.id);
        self.ready.lock().clear();
    }

    /// Ends when the node serves, or is stopped; after an hour in any case.
    pub fn when_ready(self: &Arc<Self>) -> Pending<()> {
        self.when_ready_within(READY_MICROS)
    }

    /// [`when_ready`](Self::when_ready), for so long at most.
    pub(crate) fn when_ready_within(&self, timeout_micros: u64) -> Pending<()> {
        let (teller, pending) = pending(timeout_micros);
        let mut waiting = self.ready.lock();
        match self.is_ready() {
            true => teller.tell(()),
            false => {
                waiting.retain(Teller::is_awaited);
                waiting.push(teller);
            }
        }
        pending
    }

    /// Who it is.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Its database: to look at, not to write to.
    #[must_use]
    pub fn db(&self) -> &Db {
        self.replica.db()
    }

    /// True once a majority of the members has recorded its start.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.started.load(Ordering::SeqCst) && !self.is_stopped()
    }

    /// The session that it is in, and the last one that is announced. A disk that is put back to a copy of an earlier session than
    /// that is found out.
    #[must_use]
    pub fn sessions(&self) -> (u64, u64) {
        (self.replica.session(), self.announced.load(Ordering::SeqCst))
    }

    /// Partitions that this node owns and does not hold completely: its disk was lost or is older than it was, and it has not been
    /// compared with all other owners yet.
    #[must_use]
    pub fn incomplete(&self) -> usize {
        let view = self.view();
        let owned = view.keyspaces().flat_map(|(keyspace, _)| {
            let own = view.ring().iter().filter(|p| view.is_owner(self.id, keyspace, *p));
            own.map(move |partition| (keyspace, partition)).collect::<Vec<_>>()
        });
        owned.filter(|(keyspace, p)| !self.replica.is_complete(*keyspace, *p)).count()
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    pub(crate) fn runtime(&self) -> &dyn Runtime {
        &*self.runtime
    }

    pub(crate) fn replica(&self) -> &Replica {
        &self.replica
    }

    pub(crate) fn served(&self) -> &Mutex<Served> {
        &self.served
    }

    pub(crate) fn walking(&self) -> &Mutex<Walk> {
        &self.walking
    }

    pub(crate) fn rounds(&self) -> &Mutex<Rounds> {
        &self.rounds
    }

    pub(crate) fn round_micros(&self) -> u64 {
        self.options.round_micros
    }

    pub(crate) fn mend_micros(&self) -> u64 {
        self.options.mend_micros
    }

    /// Ascends with each call.
    pub(crate) fn next_turn(&self) -> u64 {
        self.fills.fetch_add(1, Ordering::Relaxed)
    }

    /// Ranges of partitions that are out of service here, since something of them could not be read.
    #[must_use]
    pub fn holes(&self) -> usize {
        self.replica.holes().len()
    }

    pub(crate) fn hints(&self) -> &Hints {
        &self.hints
    }

    pub(crate) fn hint_micros(&self) -> u64 {
        self.options.hint_micros
    }

    /// True if it did not answer lately.
    pub(crate) fn is_silent(&self, node: NodeId) -> bool {
        let now = self.runtime.monotonic_micros();
        self.calls.lock().silent.get(&node).is_some_and(|until| now < *until)
    }

    pub(crate) fn exchange_micros(&self) -> u64 {
        self.options.exchange_micros
    }

    pub(crate) fn patience(&self) -> u64 {
        self.options.patience_micros
    }

    /// A number that no other call of this node has, in any session.
    pub(crate) fn next_call(&self) -> u64 {
        let mut calls = self.calls.lock();
        calls.given += 1;
        // A session would have to make a million million calls to reach the next one's numbers.
        (self.replica.session() << 40) + calls.given
    }

    pub(crate) fn nonce(&self) -> u64 {
        self.options.nonce
    }

    /// The nonce of the start that a node is in; 0 if it is not known.
    pub(crate) fn start_of(&self, node: NodeId) -> u64 {
        self.calls.lock().starts.get(&node).copied().unwrap_or(0)
    }

    pub(crate) fn learn_start(&self, node: NodeId, nonce: u64) {
        self.calls.lock().starts.insert(node, nonce);
    }

    /// Those that answer are asked before those that did not lately; `self` comes first of all.
    pub(crate) fn by_promise(&self, nodes: &[NodeId]) -> Vec<NodeId> {
        let now = self.runtime.monotonic_micros();
        let calls = self.calls.lock();
        let silent = |node: &NodeId| calls.silent.get(node).is_some_and(|until| now < *until);
        let mut sorted = nodes.to_vec();
        sorted.sort_by_key(|node| (*node != self.id, silent(node)));
        sorted
    }

    fn note_silence(&self, node: NodeId, failure: Option<&Failure>) {
        let mut calls = self.calls.lock();
        match failure {
            Some(Failure::Timeout | Failure::Unreachable | Failure::Disconnected) => {
                let until = self.runtime.monotonic_micros() + SILENT_MICROS;
                calls.silent.insert(node, until);
            }
            _ => {
                calls.silent.remove(&node);
            }
        }
    }

    /// Runs `work` where it may block, unless the node is stopped first.
    pub(crate) fn work(&self, work: impl FnOnce(&Arc<Node>) + Send + 'static) {
        let task = self.unless_stopped(work);
        self.runtime.run(task);
    }

    /// The same for what no client waits for: it may wait itself, however much there is, and holds no request up.
    pub(crate) fn work_in_background(&self, work: impl FnOnce(&Arc<Node>) + Send + 'static) {
        let task = self.unless_stopped(work);
        self.runtime.run_in_background(task);
    }

    /// One of the two.
    pub(crate) fn work_as(
        &self,
        in_background: bool,
        work: impl FnOnce(&Arc<Node>) + Send + 'static,
    ) {
        match in_background {
            true => self.work_in_background(work),
            false => self.work(work),
        }
    }

    /// The same, later.
    pub(crate) fn later(
        &self,
        micros: u64,
        work: impl FnOnce(&Arc<Node>) + Send + 'static,
    ) -> TimerId {
        let task = self.unless_stopped(work);
        self.runtime.after(micros, task)
    }

    fn unless_stopped(&self, work: impl FnOnce(&Arc<Node>) + Send + 'static) -> Task {
        let this = self.this.clone();
        Box::new(move || {
            if let Some(node) = this.upgrade().filter(|node| !node.is_stopped()) {
                work(&node);
            }
        })
    }

    /// Asks another node under the topology of now. `done` is told in the end, where it may block; not at all if this node is stopped.
    pub(crate) fn ask(
        &self,
        to: NodeId,
        timeout_micros: u64,
        request: impl Into<Request>,
        done: impl FnOnce(&Arc<Node>, Result<Answer, Failure>) + Send + 'static,
    ) {
        self.ask_at(self.epoch(), to, timeout_micros, request, done);
    }

    /// The same for something that was begun under the topology of `epoch`, and is refused where that is not enough any more.
    pub(crate) fn ask_at(
        &self,
        epoch: Epoch,
        to: NodeId,
        timeout_micros: u64,
        request: impl Into<Request>,
        done: impl FnOnce(&Arc<Node>, Result<Answer, Failure>) + Send + 'static,
    ) {
        self.call(epoch, to, timeout_micros, request, move |node, ended| {
            done(node, ended.map(|reply| reply.answer));
        });
    }

    /// The same; `done` is told the epoch of who answered, too.
    pub(crate) fn call(
        &self,
        epoch: Epoch,
        to: NodeId,
        timeout_micros: u64,
        request: impl Into<Request>,
        done: impl FnOnce(&Arc<Node>, Ended) + Send + 'static,
    ) {
        if self.is_stopped() {
            return;
        }
        let call = Call { from: self.id, to, epoch, timeout_micros, request: request.into() };
        let (this, in_background) = (self.this.clone(), call.request.is_background());
        let ended = move |ended: Ended| {
            if let Some(node) = this.upgrade() {
                node.note_silence(to, ended.as_ref().err());
                node.work_as(in_background, move |node| {
                    node.notice_epoch(to, &ended);
                    done(node, ended);
                });
            }
        };
        self.transport.send(call, Box::new(ended));
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("id", &self.id)
            .field("ready", &self.is_ready())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("topology", &self.topology).finish_non_exhaustive()
    }
}
