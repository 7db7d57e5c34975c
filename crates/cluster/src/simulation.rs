//! For tests: a few nodes on disks in memory, on virtual time. Nothing is done by itself: exchanges and rounds are begun by the test.

use crate::clock::{Actor, Context, Stamp};
use crate::codec::message::{Op, Written};
use crate::coordinator::WriteOptions;
use crate::exchange::Ended;
use crate::node::{Node, NodeOptions, Parts};
use crate::record::{Mode, Record};
use crate::runtime::{Runtime, SimRuntime};
use crate::topology::{Change, Topology};
use crate::transport::{Failure, InProcess, Limits, Link};
use base::KeyspaceId;
use base::sync::Mutex;
use base::sync::atomic::{AtomicU64, Ordering};
use lsm::executor::ManualExecutor;
use lsm::{Db, Options};
use ring::{NodeId, Partition, Ring};
use std::collections::BTreeMap;
use std::sync::Arc;
use vfs::{CrashProfile, MemFs};

/// Writes stay side by side.
pub(crate) const SIBLINGS: KeyspaceId = KeyspaceId(0);
/// The last writer wins.
pub(crate) const LAST: KeyspaceId = KeyspaceId(1);
const CLUSTER: u64 = 0xc1;
/// Longer than any test: what nodes do by themselves they do not begin.
const NEVER_MICROS: u64 = 1 << 50;
const PATIENCE_MICROS: u64 = 60_000_000;

/// The nodes, and the network between them.
pub(crate) struct Sim {
    pub(crate) runtime: Arc<SimRuntime>,
    pub(crate) network: Arc<InProcess>,
    /// The one that nodes start with.
    pub(crate) topology: Arc<Topology>,
    hosts: BTreeMap<NodeId, Host>,
    actors: Arc<AtomicU64>,
    starts: u64,
    hints_bytes_max: u64,
    round_micros: u64,
}

struct Host {
    fs: MemFs,
    node: Option<Arc<Node>>,
    jobs: Arc<ManualExecutor>,
}

impl Sim {
    /// Nodes `1..=count`, with keys of three owners in so many partitions.
    pub(crate) fn new(count: u64, partitions: u32) -> Sim {
        Sim::made(count, partitions, Limits::default(), 0, NEVER_MICROS)
    }

    /// The same with other bounds.
    pub(crate) fn with(count: u64, partitions: u32, limits: Limits, hints_bytes_max: u64) -> Sim {
        Sim::made(count, partitions, limits, hints_bytes_max, NEVER_MICROS)
    }

    /// The same; leaders begin rounds, and ask how far others are, so often.
    pub(crate) fn with_rounds(count: u64, partitions: u32, round_micros: u64) -> Sim {
        Sim::made(count, partitions, Limits::default(), 0, round_micros)
    }

    fn made(
        count: u64,
        partitions: u32,
        limits: Limits,
        hints_bytes_max: u64,
        round_micros: u64,
    ) -> Sim {
        let runtime = SimRuntime::new(7);
        let network = InProcess::new(Arc::clone(&runtime) as _, 11, limits);
        network.set_links(Link::near());
        let mut topology = Topology::new(CLUSTER, Ring::new(partitions).expect("a power of two"));
        for id in (1..=count).map(NodeId) {
            let (address, zone) = (String::new(), "z".to_owned());
            let join = Change::AddMember { id, address, zone, weight: 1 };
            topology = topology.apply(&join).expect("a new one");
        }
        for (name, mode) in [("siblings", Mode::Siblings), ("last", Mode::LastWriterWins)] {
            let create = topology.create_keyspace(name, 3, mode, 16);
            topology = create.and_then(|create| topology.apply(&create)).expect("enough nodes");
        }
        let (hosts, actors) = (BTreeMap::new(), Arc::default());
        let topology = Arc::new(topology);
        let starts = 0;
        let mut sim = Sim {
            runtime,
            network,
            topology,
            hosts,
            actors,
            starts,
            hints_bytes_max,
            round_micros,
        };
        for id in (1..=count).map(NodeId) {
            sim.open(id, MemFs::new(), true);
        }
        sim.runtime.run_for(1_000_000);
        sim
    }

    fn open(&mut self, id: NodeId, fs: MemFs, new_member: bool) {
        self.starts += 1;
        let jobs = ManualExecutor::new();
        let options = Options::default()
            .memtable_size_bytes(64 << 10)
            .block_cache_bytes(0)
            .block_size_bytes(512)
            .log_segment_bytes(64 << 10)
            .disk_reserve_bytes(0);
        let db = Db::builder("/node")
            .options(options)
            .fs(Arc::new(fs.clone()))
            .clock(Arc::clone(&self.runtime) as _)
            .executor(Arc::clone(&jobs) as _)
            .seed(self.starts)
            .open()
            .expect("the disk is whole");
        let actors = Arc::clone(&self.actors);
        let parts = Parts {
            runtime: Arc::clone(&self.runtime) as Arc<dyn Runtime>,
            transport: Arc::clone(&self.network) as _,
            db,
            actors: Arc::new(move || Actor(actors.fetch_add(1, Ordering::Relaxed) + 1)),
            topology: Arc::clone(&self.topology),
        };
        let mut options = NodeOptions::new(CLUSTER, id).new_member(new_member).nonce(self.starts);
        options.exchange_micros = NEVER_MICROS;
        options.round_micros = self.round_micros;
        options.mend_micros = NEVER_MICROS;
        options.hints_bytes_max = self.hints_bytes_max;
        let node = Node::open(parts, options).expect("it starts");
        self.hosts.insert(id, Host { fs, node: Some(node), jobs });
    }

    /// A node by its number.
    pub(crate) fn node(&self, n: u64) -> &Arc<Node> {
        self.hosts[&NodeId(n)].node.as_ref().expect("it runs")
    }

    /// The disk of a node.
    pub(crate) fn disk(&self, n: u64) -> &MemFs {
        &self.hosts[&NodeId(n)].fs
    }

    /// Cuts the power of a node, and starts it again with its disk, or with an empty one.
    pub(crate) fn restart(&mut self, n: u64, lose_disk: bool) {
        let id = NodeId(n);
        let Some(host) = self.hosts.remove(&id) else { return };
        if let Some(node) = host.node {
            node.stop();
        }
        let kept = host.fs.crash(CrashProfile::Strict, n);
        self.open(id, if lose_disk { MemFs::new() } else { kept }, false);
        self.runtime.run_for(1_000_000);
    }

    /// Lets only these see each other.
    pub(crate) fn connect(&self, groups: &[&[u64]]) {
        self.network.mend_all();
        let groups: Vec<Vec<NodeId>> =
            groups.iter().map(|group| group.iter().copied().map(NodeId).collect()).collect();
        self.network.partition(&groups.iter().map(Vec::as_slice).collect::<Vec<_>>());
    }

    /// Waits for what a callback is told.
    pub(crate) fn wait<T: Send + 'static>(&self, begin: impl FnOnce(Arc<Mutex<Option<T>>>)) -> T {
        let told = Arc::new(Mutex::new(None));
        begin(Arc::clone(&told));
        let jobs = || self.hosts.values().for_each(|host| host.jobs.run_all());
        let ended = self.runtime.run_until(PATIENCE_MICROS, &mut || {
            jobs();
            told.lock().is_some()
        });
        assert!(ended, "it does not end");
        told.lock().take().expect("it has ended")
    }

    /// Writes at a node.
    pub(crate) fn write(
        &self,
        n: u64,
        key: &str,
        value: Option<&str>,
        replaces: &Context,
        owners_min: usize,
    ) -> Result<Written, Failure> {
        let op = Op {
            key: key.into(),
            value: value.map(Into::into),
            expires_micros: 0,
            replaces: replaces.clone(),
            after: Stamp::ZERO,
        };
        self.write_op(n, SIBLINGS, op, owners_min)
    }

    /// Writes at a node.
    pub(crate) fn write_op(
        &self,
        n: u64,
        keyspace: KeyspaceId,
        op: Op,
        owners_min: usize,
    ) -> Result<Written, Failure> {
        let options = WriteOptions { owners_min, sloppy: false, timeout_micros: 1_000_000 };
        self.wait(|told| {
            self.node(n).write(keyspace, vec![op], options, move |mut results| {
                *told.lock() = results.pop();
            });
        })
    }

    /// One exchange of a node with another one.
    pub(crate) fn exchange(&self, n: u64, with: u64, key: &str) -> Ended {
        self.exchange_in(SIBLINGS, n, with, key)
    }

    /// One exchange of a keyspace.
    pub(crate) fn exchange_in(&self, keyspace: KeyspaceId, n: u64, with: u64, key: &str) -> Ended {
        let partition = self.partition_of(key);
        self.wait(|told| {
            self.node(n).exchange(keyspace, partition, NodeId(with), move |_, ended| {
                *told.lock() = Some(ended);
            });
        })
    }

    /// What a node has of a key, also if it is not complete.
    pub(crate) fn held(&self, n: u64, key: &str) -> Option<Record> {
        self.held_or(n, key).expect("it can be read")
    }

    /// The same, if it can be read.
    pub(crate) fn held_or(&self, n: u64, key: &str) -> Result<Option<Record>, Failure> {
        self.held_in(SIBLINGS, n, key)
    }

    /// The same of a keyspace.
    pub(crate) fn held_in(
        &self,
        keyspace: KeyspaceId,
        n: u64,
        key: &str,
    ) -> Result<Option<Record>, Failure> {
        let partition = self.partition_of(key);
        self.node(n).replica().read_any(keyspace, partition, key.as_bytes())
    }

    pub(crate) fn partition_of(&self, key: &str) -> Partition {
        self.topology.partition_of(key.as_bytes())
    }
}
