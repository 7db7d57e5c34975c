//! Nodes on disks in memory, a network that breaks, virtual time: all of it from one seed.

use super::agreement::Agreement;
use super::history::Left;
use base::Slice;
use base::clock::Clock;
use base::rng::Rng;
use cluster::clock::Actor;
use cluster::consensus::Proposal;
use cluster::layout;
use cluster::node::{Node, NodeOptions, Parts, View};
use cluster::rebalance::DriverOptions;
use cluster::record::{Mode, Record};
use cluster::runtime::{Runtime, SimRuntime, Task, TimerId};
use cluster::seat::{Seat, SeatParts};
use cluster::topology::{Change, ProposalId, Refusal, Topology};
use cluster::transport::{InProcess, Limits, Link};
use cluster::{KeyspaceId, NodeId};
use lsm::executor::ManualExecutor;
use lsm::{Db, KeyspaceOptions, Leveled, Options};
use ring::Member;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;
use vfs::{CrashProfile, FaultFs, MemFs};

/// Where the `n`th machine stands.
pub(super) fn zone(n: u64) -> &'static str {
    ["north", "south", "west"][n as usize % 3]
}

/// A number below `n`.
pub(super) fn below(rng: &mut Rng, n: usize) -> usize {
    rng.below(n as u64) as usize
}

/// What writes keep apart.
pub(super) const SIBLINGS: KeyspaceId = KeyspaceId(0);
/// What the last writer wins.
pub(super) const LAST: KeyspaceId = KeyspaceId(1);
/// Few, so that keys share them.
const PARTITIONS: u32 = 8;
const CLUSTER: u64 = 0xc1;
/// How often the background work of each database gets a turn, in microseconds.
const JOBS_MICROS: u64 = 20_000;

/// The cluster, and who breaks it.
pub(super) struct World {
    pub(super) runtime: Arc<SimRuntime>,
    pub(super) network: Arc<InProcess>,
    pub(super) rng: Rng,
    pub(super) hosts: Vec<Host>,
    actors: Arc<AtomicU64>,
    agreement: Agreement,
    /// What drives jobs.
    seat: Option<Arc<Seat>>,
}

/// A machine: its disk, and its node while that runs.
pub(super) struct Host {
    pub(super) id: NodeId,
    fs: MemFs,
    /// What its node writes through.
    disk: FaultFs,
    /// A table with a wrong bit.
    rotten: Option<PathBuf>,
    /// The disk as it was once, and the session that it was in.
    backup: Option<(MemFs, u64)>,
    pub(super) node: Option<Arc<Node>>,
    /// How wrong its clock is, in microseconds.
    skew: Arc<AtomicI64>,
    jobs: Option<Arc<ManualExecutor>>,
    starts: u64,
    /// It never comes back.
    gone: bool,
}

/// Virtual time with a wall clock that is wrong.
struct Skewed {
    inner: Arc<SimRuntime>,
    skew: Arc<AtomicI64>,
}

impl World {
    /// A cluster of `nodes` machines in three zones.
    pub(super) fn new(seed: u64, nodes: u64, replicas: usize) -> Result<World, String> {
        let mut rng = Rng::new(seed);
        let runtime = SimRuntime::new(rng.next_u64());
        let network = InProcess::new(
            Arc::clone(&runtime) as Arc<dyn Runtime>,
            rng.next_u64(),
            Limits::default(),
        );
        network.set_links(Link::near());
        let members: Vec<Member> = (1..=nodes).map(|n| Member::new(n, 1, zone(n))).collect();
        let topology = topology(&members, replicas as u8).map_err(|e| e.to_string())?;
        let topology = Arc::new(topology);
        let agreement = Agreement::new(&runtime, Arc::clone(&topology), rng.next_u64())?;
        let host = |member: &Member| Host::new(member.id);
        let hosts = members.iter().map(host).collect();
        let actors = Arc::new(AtomicU64::new(0));
        let seat = None;
        let mut world = World { runtime, network, rng, hosts, actors, agreement, seat };
        for at in 0..world.hosts.len() {
            let skew = world.rng.below(1_000_000) as i64 - 500_000;
            world.hosts[at].skew.store(skew, Ordering::Relaxed);
            world.open(at, true)?;
        }
        Ok(world)
    }

    // ---- members ----

    /// The topology that is agreed on.
    pub(super) fn agreed(&self) -> Arc<Topology> {
        self.agreement.known()
    }

    /// Who owns what by that.
    pub(super) fn view(&self) -> View {
        View::new(self.agreed())
    }

    /// Drives jobs from now on, whatever did so before.
    pub(super) fn drive(&mut self) -> Result<(), String> {
        self.drive_every(DriverOptions::default().poll_micros)
    }

    /// The same; nodes are asked so often how far they are.
    pub(super) fn drive_every(&mut self, poll_micros: u64) -> Result<(), String> {
        if let Some(seat) = self.seat.take() {
            seat.stop();
        }
        let Some(copy) = self.agreement.copy() else { return Ok(()) };
        let parts = SeatParts {
            runtime: Arc::clone(&self.runtime) as _,
            transport: Arc::clone(&self.network) as _,
            consensus: Arc::clone(copy) as _,
            driver: DriverOptions {
                poll_micros,
                bytes_per_second: 0,
                give_up_after_micros: None,
                ..DriverOptions::default()
            },
            detector: None,
            seed: self.rng.next_u64(),
        };
        self.seat = Some(Seat::start(parts).map_err(|failure| failure.to_string())?);
        Ok(())
    }

    /// Proposes a change. Nobody waits for it: whether it was made is seen later.
    pub(super) fn propose(&self, change: Change) {
        let (node, expected) = (NodeId(0), self.agreed().epoch());
        let id = ProposalId { node, number: expected.0 };
        self.agreement.propose(Proposal { id, expected, change });
    }

    /// A machine joins. It starts once it is a member.
    pub(super) fn join(&mut self) -> Result<(), String> {
        let id = NodeId(self.hosts.len() as u64 + 1);
        let (address, zone) = (String::new(), "north".to_string());
        self.propose(Change::AddMember { id, address, zone, weight: 1 });
        let agreement = &self.agreement;
        self.runtime.run_until(1_000_000, &mut || agreement.known().member(id).is_some());
        let topology = self.agreed();
        if topology.member(id).is_none() {
            return Ok(());
        }
        self.hosts.push(Host::new(id));
        self.open(self.hosts.len() - 1, true)
    }

    /// Takes a member that holds nothing out, and its machine away; false if something else was agreed on first.
    pub(super) fn remove(&mut self, id: NodeId) -> bool {
        self.propose(Change::RemoveMember { id });
        let agreement = &self.agreement;
        self.runtime.run_until(1_000_000, &mut || agreement.known().member(id).is_none());
        let removed = self.agreed().member(id).is_none();
        if let Some(at) = self.hosts.iter().position(|host| host.id == id).filter(|_| removed) {
            self.crash(at);
            self.hosts[at].gone = true;
        }
        removed
    }

    /// True if the machine of `id` never comes back.
    pub(super) fn is_gone(&self, id: NodeId) -> bool {
        self.hosts.iter().any(|host| host.id == id && host.gone)
    }

    /// A machine is lost with its disk; what others have.
    pub(super) fn lose_for_good(&mut self, id: NodeId) -> Result<Left, String> {
        let at = self.hosts.iter().position(|host| host.id == id).ok_or("there is no such node")?;
        let left = self.left_without(at)?;
        self.crash(at);
        self.hosts[at].gone = true;
        Ok(left)
    }

    /// No job is under way, or will be, and nobody has anything to delete.
    pub(super) fn is_settled(&self) -> bool {
        let topology = self.agreed();
        let over = |start: Change| topology.apply(&start) == Err(Refusal::NothingToMove);
        let idle = topology.start_job(0).is_ok_and(over);
        let none_departs = topology.placements().iter().all(|p| p.departing().count() == 0);
        self.seat.is_none() || (topology.job().is_none() && idle && none_departs)
    }

    // ---- machines ----

    /// Starts the node of a machine on the disk that it has.
    pub(super) fn start(&mut self, at: usize) -> Result<(), String> {
        match &self.hosts[at] {
            Host { node: None, gone: false, .. } => self.open(at, false),
            _ => Ok(()),
        }
    }

    fn open(&mut self, at: usize, new_member: bool) -> Result<(), String> {
        let (seed, topology) = (self.rng.next_u64(), self.agreed());
        let host = &mut self.hosts[at];
        host.starts += 1;
        host.disk = FaultFs::over_mem(host.fs.clone());
        let runtime =
            Arc::new(Skewed { inner: Arc::clone(&self.runtime), skew: Arc::clone(&host.skew) });
        let jobs = ManualExecutor::new();
        let db = Db::builder("/node")
            .options(options())
            .fs(Arc::new(host.disk.clone()))
            .clock(Arc::clone(&runtime) as Arc<dyn Clock>)
            .executor(Arc::clone(&jobs) as _)
            .seed(seed)
            .open()
            .map_err(|error| format!("{} does not open: {error}", host.id))?;
        let actors = Arc::clone(&self.actors);
        let parts = Parts {
            runtime,
            transport: Arc::clone(&self.network) as _,
            db,
            actors: Arc::new(move || Actor(actors.fetch_add(1, Ordering::Relaxed) + 1)),
            topology,
        };
        let mut options = NodeOptions::new(CLUSTER, host.id).new_member(new_member).nonce(seed);
        // Partitions are small, and yet some of what moves is to go into tables.
        options.tables_from_bytes = 0;
        let node =
            Node::open(parts, options).map_err(|e| format!("{} does not start: {e}", host.id))?;
        host.node = Some(node);
        run_jobs(&self.runtime, &jobs);
        host.jobs = Some(jobs);
        Ok(())
    }

    /// Cuts the power of a machine.
    pub(super) fn crash(&mut self, at: usize) {
        let profile = [
            CrashProfile::Strict,
            CrashProfile::Ordered,
            CrashProfile::SizeFirst,
            CrashProfile::DropAll,
            CrashProfile::KeepAll,
            CrashProfile::Random50,
        ][below(&mut self.rng, 6)];
        let seed = self.rng.next_u64();
        self.crash_as(at, profile, seed);
    }

    /// Cuts the power of a machine, which leaves its disk like this.
    fn crash_as(&mut self, at: usize, profile: CrashProfile, seed: u64) {
        let host = &mut self.hosts[at];
        if let Some(node) = host.node.take() {
            node.stop();
            host.jobs = None;
            host.fs = host.fs.crash(profile, seed);
        }
    }

    // ---- the machine of a node, or the one of the agreement and the seat ----

    /// The disk of a machine, while it runs.
    pub(super) fn disk(&self, of: Option<NodeId>) -> FaultFs {
        let host = of.and_then(|id| self.hosts.iter().find(|host| host.id == id));
        host.map_or(&self.agreement.disk, |host| &host.disk).clone()
    }

    /// Cuts the power of a machine.
    pub(super) fn cut_power(&mut self, of: Option<NodeId>, profile: CrashProfile, seed: u64) {
        match of {
            Some(id) => {
                let at = self.hosts.iter().position(|host| host.id == id);
                at.into_iter().for_each(|at| self.crash_as(at, profile, seed));
            }
            None => {
                self.seat.take().iter().for_each(|seat| seat.stop());
                self.agreement.crash(profile, seed);
            }
        }
    }

    /// Starts a machine again.
    pub(super) fn restart(&mut self, of: Option<NodeId>, poll_micros: u64) -> Result<(), String> {
        match of {
            Some(id) => {
                let at = self.hosts.iter().position(|host| host.id == id);
                at.into_iter().try_for_each(|at| self.start(at))
            }
            None => self.agreement.start().and_then(|()| self.drive_every(poll_micros)),
        }
    }

    /// Keeps the disk of a machine as it is now.
    pub(super) fn back_up(&mut self, at: usize) {
        let seed = self.rng.next_u64();
        let host = &mut self.hosts[at];
        if let Some(node) = &host.node {
            host.backup = Some((host.fs.crash(CrashProfile::KeepAll, seed), node.sessions().0));
        }
    }

    /// A machine comes back with an empty disk, or with the one that was kept; true if it was that.
    pub(super) fn lose_disk(&mut self, at: usize) -> Result<bool, String> {
        let agreed = self.view();
        let knows = |node: &&Arc<Node>| node.view().members() == agreed.members();
        let node = self.hosts[at].node.as_ref().filter(knows);
        let session = node.map_or(0, |node| node.sessions().1);
        self.crash(at);
        let host = &mut self.hosts[at];
        // One that nobody could tell from the disk that it replaces is none that is promised to be found out: the session has to be
        // announced to those who are members now.
        let backup = host.backup.take().filter(|(_, then)| *then < session);
        let restored = backup.is_some();
        host.fs = backup.map_or_else(MemFs::new, |(disk, _)| disk);
        self.start(at).map(|()| restored)
    }

    /// One bit of a table with records turns round, and a scrub notices. False if no table could be found.
    pub(super) fn rot(&mut self, at: usize) -> Result<bool, String> {
        let (turn, bit) = (self.rng.next_u64(), self.rng.below(8) as u32);
        let host = &mut self.hosts[at];
        let Some(node) = &host.node else { return Ok(false) };
        let mut tables = host.fs.files();
        tables.retain(|(path, len)| path.extension().is_some_and(|e| e == "sst") && *len > 0);
        let Some((path, len)) = tables.get(turn as usize % tables.len().max(1)) else {
            return Ok(false);
        };
        let offset = (turn >> 32) % len;
        host.fs.flip_bit(path, offset, bit).map_err(|error| error.to_string())?;
        let found = node.db().verify().is_err_and(|error| error.is_corruption());
        let of_records = |place: &lsm::DamagedPlace| {
            place.path == *path
                && place.keyspace.as_ref().is_some_and(|name| name.starts_with("k-"))
        };
        let rotten = found && node.db().damage().iter().any(of_records);
        if rotten {
            host.rotten = Some(path.clone());
        } else {
            // What a node knows of itself cannot be brought back by others: that would be a disk that is lost.
            host.fs.flip_bit(path, offset, bit).map_err(|error| error.to_string())?;
        }
        Ok(rotten)
    }

    /// True if all machines run and hold all that they should: then one may lose its disk without loss.
    pub(super) fn is_whole(&self) -> bool {
        let topology = self.agreed();
        let is_whole = |host: &Host| {
            if host.gone {
                return !topology.uses(host.id);
            }
            let rotten = host.rotten.as_ref();
            let is_rotten = rotten.is_some_and(|path| host.fs.read_file(path).is_ok());
            let whole =
                |node: &Arc<Node>| node.is_ready() && node.incomplete() == 0 && node.holes() == 0;
            !is_rotten && host.node.as_ref().is_some_and(whole)
        };
        self.hosts.iter().all(is_whole)
    }

    /// What all others have on their disks that own it.
    pub(super) fn left_without(&self, lost: usize) -> Result<Left, String> {
        let (mut left, view) = (Left::new(), self.view());
        for (at, host) in self.hosts.iter().enumerate() {
            let Some(node) = host.node.as_ref().filter(|_| at != lost) else { continue };
            for id in [SIBLINGS, LAST] {
                for (key, record) in records(node.db(), id).map_err(|error| error.to_string())? {
                    let partition = view.ring().partition_of(&key);
                    if !view.is_owner(host.id, id, partition) {
                        continue;
                    }
                    let versions = record.versions().iter().map(|version| version.dot);
                    let known = record.context().union(&versions.collect());
                    let (dots, stamp) = left.entry((id, key)).or_default();
                    (*dots, *stamp) = (dots.union(&known), record.stamp().max(*stamp));
                }
            }
        }
        Ok(left)
    }

    /// Machines that run.
    pub(super) fn up(&self) -> Vec<usize> {
        (0..self.hosts.len()).filter(|at| self.hosts[*at].node.is_some()).collect()
    }

    /// Sets the clock of a machine.
    pub(super) fn set_skew(&mut self, at: usize, micros: i64) {
        self.hosts[at].skew.store(micros, Ordering::Relaxed);
    }

    /// All machines run, all links work.
    pub(super) fn heal(&mut self) -> Result<(), String> {
        self.network.mend_all();
        self.network.set_links(Link::near());
        if let Some(job) = self.agreed().job().filter(|_| self.seat.is_some()) {
            let (job, bytes_per_second) = (job.id, 0);
            self.propose(Change::SetJob { job, paused: false, bytes_per_second });
        }
        (0..self.hosts.len()).try_for_each(|at| self.start(at))
    }

    /// A hash of all that happened.
    pub(super) fn trace(&self) -> u64 {
        self.runtime.trace() ^ self.network.trace().rotate_left(17)
    }
}

impl Host {
    fn new(id: NodeId) -> Host {
        Host {
            id,
            fs: MemFs::new(),
            disk: FaultFs::over_mem(MemFs::new()),
            rotten: None,
            backup: None,
            node: None,
            skew: Arc::default(),
            jobs: None,
            starts: 0,
            gone: false,
        }
    }
}

/// Members and two keyspaces.
fn topology(members: &[Member], replicas: u8) -> Result<Topology, Refusal> {
    let mut topology = Topology::new(CLUSTER, ring::Ring::new(PARTITIONS)?);
    for member in members {
        let (id, address, weight) = (member.id, String::new(), member.weight);
        let zone = member.zone.clone();
        topology = topology.apply(&Change::AddMember { id, address, zone, weight })?;
    }
    for (name, mode) in [("siblings", Mode::Siblings), ("last", Mode::LastWriterWins)] {
        let create = topology.create_keyspace(name, replicas, mode, 64)?;
        topology = topology.apply(&create)?;
    }
    Ok(topology)
}

/// Small enough that a few hundred writes flush and compact.
pub(super) fn options() -> Options {
    let leveled = Leveled {
        l0_trigger: 2,
        base_bytes: 16 << 10,
        multiplier: 4,
        target_table_bytes: 8 << 10,
        tombstone_percent: 50,
    };
    Options::default()
        .memtable_size_bytes(16 << 10)
        .block_cache_bytes(64 << 10)
        .block_size_bytes(512)
        .log_segment_bytes(16 << 10)
        .log_bytes_max(128 << 10)
        .manifest_rotate_bytes(4096)
        .disk_reserve_bytes(0)
        .sync_interval(Duration::from_secs(3600))
        .compaction(leveled)
}

/// All that a database stores of a keyspace, as it is stored.
fn records(db: &Db, id: KeyspaceId) -> lsm::Result<Vec<(Slice, Record)>> {
    let keyspace = db.keyspace(format!("k-{id}"), KeyspaceOptions::default())?;
    let mut records = Vec::new();
    for pair in keyspace.iter() {
        let (stored_key, value) = pair?;
        let (Some((_, key)), Ok(record)) = (layout::split(&stored_key), Record::decode(&value))
        else {
            continue;
        };
        records.push((Slice::copy_from(key), record));
    }
    Ok(records)
}

/// Gives the background work of a database its turn, again and again while the database is there.
pub(super) fn run_jobs(runtime: &Arc<SimRuntime>, jobs: &Arc<ManualExecutor>) {
    let (again, weak) = (Arc::clone(runtime), Arc::downgrade(jobs));
    let turn: Task = Box::new(move || {
        if let Some(jobs) = weak.upgrade() {
            jobs.run_all();
            run_jobs(&again, &jobs);
        }
    });
    runtime.after(JOBS_MICROS, turn);
}

impl Clock for Skewed {
    fn monotonic_micros(&self) -> u64 {
        self.inner.monotonic_micros()
    }

    fn wall_micros(&self) -> u64 {
        self.inner.wall_micros().saturating_add_signed(self.skew.load(Ordering::Relaxed))
    }
}

impl Runtime for Skewed {
    fn after(&self, micros: u64, task: Task) -> TimerId {
        self.inner.after(micros, task)
    }

    fn cancel(&self, timer: TimerId) {
        self.inner.cancel(timer);
    }

    fn run(&self, task: Task) {
        self.inner.run(task);
    }
}

impl fmt::Debug for Skewed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Skewed")
    }
}
