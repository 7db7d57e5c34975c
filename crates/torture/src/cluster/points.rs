//! Moves of data under power cuts: one job, while clients read and write, and one machine that stops at every n-th thing it does to its disk.
//!
//! The machine is one that sends, one that receives, or the one of agreement and driver. From that moment on all that it does to its disk
//! fails, then its power is cut, and a little later it is started again. The job must come to its end by itself, all owners must hold the same,
//! and nothing that was acknowledged may be missing, nothing that was deleted back.

use super::clients::{Clients, Quorum};
use super::settle;
use super::world::{World, zone};
use crate::caught::caught;
use crate::{Config, Failure, Family, Figure, Report, pool};
use base::clock::Clock;
use base::rng::Rng;
use cluster::NodeId;
use cluster::topology::{Change, MemberState, Topology};
use cluster::transport::Link;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use vfs::{CrashProfile, Fault, FaultFs, FaultPlan, OpKind};

const NAME: &str = "moves";

pub(crate) const FAMILY: Family =
    Family { name: NAME, about: "a power cut at every n-th step of a move", run };

/// What clients do before the job begins, in microseconds.
const BEFORE_MICROS: u64 = 300_000;
/// How long the machine is off.
const OFF_MICROS: u64 = 300_000;
/// A job takes no longer, a power cut included.
const JOB_MICROS: u64 = 60_000_000;
const TURN_MICROS: u64 = 5_000;
/// How often nodes are asked how far they are: often, so that runs are short.
const POLL_MICROS: u64 = 50_000;

/// What the job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A node more.
    Join,
    /// A node less.
    Leave,
    /// A node that takes more.
    Weigh,
}

/// Whose power is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Sender,
    Receiver,
    Agreement,
}

const KINDS: [Kind; 3] = [Kind::Join, Kind::Leave, Kind::Weigh];
const VICTIMS: [Victim; 3] = [Victim::Sender, Victim::Receiver, Victim::Agreement];
const COMBINATIONS: u64 = 9;
const PROFILES: [CrashProfile; 4] =
    [CrashProfile::Strict, CrashProfile::DropAll, CrashProfile::KeepAll, CrashProfile::Random50];
/// What changes a disk.
const CHANGES: [OpKind; 10] = [
    OpKind::Create,
    OpKind::CreateSegment,
    OpKind::Rename,
    OpKind::RemoveFile,
    OpKind::HardLink,
    OpKind::SyncDir,
    OpKind::Append,
    OpKind::Sync,
    OpKind::WriteAt,
    OpKind::SegmentSync,
];

/// A point at which a machine stops.
#[derive(Debug, Clone, Copy)]
struct Point {
    kind: Kind,
    victim: Victim,
    /// Which of the nine kinds of job and machine.
    combination: u64,
    profile: CrashProfile,
    /// Messages are lost, doubled and late while the job goes on, so receivers miss some of what is written.
    is_lossy: bool,
    /// Changes of its disk since the job began that still succeed; `None`: all.
    after: Option<u64>,
}

/// What one run did.
#[derive(Debug, Default, Clone, Copy)]
struct Done {
    writes: u64,
    checks: u64,
    was_cut: bool,
    /// Changes of the victim's disk in the job, if it was not cut.
    changes: u64,
}

fn run(config: &Config<'_>) -> Result<Report, Failure> {
    let count = config.size.pick(90, 2_610, 10_800);
    let points = config.seeds(count);
    let done = pool::share(NAME, config, &points, |&number| {
        let one_run = || Point::numbered(number, count)?.run(config.canary);
        let done = caught(one_run).and_then(|done| done);
        let failed = |detail| Failure::new(NAME, config, number, None, detail);
        done.map(|done| (done, done.checks)).map_err(failed)
    })?;
    let sum = |of: &dyn Fn(&Done) -> u64| done.iter().map(of).sum::<u64>();
    let runs = points.len() as u64;
    Ok(Report {
        seeds: runs,
        figures: vec![
            Figure::new("power cuts in a job", sum(&|d| u64::from(d.was_cut)), runs * 9 / 10),
            Figure::new("writes acknowledged", sum(&|d| d.writes), runs * 20),
            Figure::new("checks", sum(&|d| d.checks), runs * 40),
        ],
        skipped: None,
    })
}

impl Point {
    /// The point with this number of `count`, from 1 on: spread over all that a run without a power cut does.
    fn numbered(number: u64, count: u64) -> Result<Point, String> {
        let (at, combination) = ((number - 1) / COMBINATIONS, (number - 1) % COMBINATIONS);
        let point = Point {
            kind: KINDS[(combination / 3) as usize],
            victim: VICTIMS[(combination % 3) as usize],
            combination,
            profile: PROFILES[(at % 4) as usize],
            is_lossy: at % 3 == 1,
            after: None,
        };
        // In a run without any trouble.
        let all = Point { is_lossy: false, ..point }.changes()?;
        Ok(Point { after: Some(at * all / count.div_ceil(COMBINATIONS)), ..point })
    }

    /// How often the victim changes its disk in a run without a power cut.
    fn changes(&self) -> Result<u64, String> {
        static KNOWN: [OnceLock<Result<u64, String>>; COMBINATIONS as usize] =
            [const { OnceLock::new() }; COMBINATIONS as usize];
        let known = &KNOWN[self.combination as usize];
        known.get_or_init(|| self.run(false).map(|done| done.changes)).clone()
    }

    fn run(&self, canary: bool) -> Result<Done, String> {
        let seed = 1 + self.combination;
        let mut world = World::new(seed, 4, 3)?;
        let mut rng = Rng::new(seed ^ 0x30_b5);
        let quorum = Quorum { owners: 3, read: 2, write: 2, canary };
        let mut clients = Clients::new(4, quorum, &mut rng);
        go_on(&mut world, &mut clients, BEFORE_MICROS)?;
        world.drive_every(POLL_MICROS)?;
        self.begin(&mut world, &mut clients)?;
        let victim = self.victim(&world.agreed())?;
        let changes = self.arm(&world.disk(victim));
        if self.is_lossy {
            world.network.set_links(Link::bad());
        }
        let was_cut = self.work(&mut world, &mut clients, victim)?;
        world.heal()?;
        while clients.busy() {
            world.runtime.run_for(TURN_MICROS);
            clients.take(&world)?;
        }
        settle(&mut world, &mut clients)?;
        let (writes, checks) = (clients.tally.writes, clients.history.checks);
        Ok(Done { writes, checks, was_cut, changes: changes.load(Ordering::Relaxed) })
    }

    /// Changes the members, so that a job begins.
    fn begin(&self, world: &mut World, clients: &mut Clients) -> Result<(), String> {
        match self.kind {
            Kind::Join => world.join()?,
            Kind::Leave => {
                world.propose(Change::SetState { id: NodeId(4), state: MemberState::Leaving });
            }
            Kind::Weigh => {
                // One that has its zone to itself has everything already.
                let (id, address, zone) = (NodeId(4), String::new(), zone(4).to_owned());
                world.propose(Change::SetMember { id, address, zone, weight: 3 });
            }
        }
        let end = world.runtime.monotonic_micros() + JOB_MICROS;
        while world.agreed().job().is_none() {
            go_on(world, clients, TURN_MICROS)?;
            if world.runtime.monotonic_micros() > end {
                return Err("no job begins".into());
            }
        }
        Ok(())
    }

    /// Who it is, by the first step of the job.
    fn victim(&self, topology: &Topology) -> Result<Option<NodeId>, String> {
        let steps = topology.placements().iter().flat_map(|placement| placement.steps());
        let handovers = steps.flat_map(|step| step.handovers);
        let handover = handovers.into_iter().find(|one| one.from.is_some() && one.to.is_some());
        let handover = handover.ok_or("nothing moves")?;
        Ok(match self.victim {
            Victim::Sender => handover.from,
            Victim::Receiver => handover.to,
            Victim::Agreement => None,
        })
    }

    /// From the point on every change of the disk fails; without a point they are counted.
    fn arm(&self, disk: &FaultFs) -> Arc<AtomicU64> {
        let changes = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&changes);
        let count = Fault::Slow(Arc::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        }));
        disk.inject(match self.after {
            None => FaultPlan::any(count).kinds(&CHANGES),
            Some(after) => FaultPlan::any(Fault::Eio).kinds(&CHANGES).skip(after),
        });
        changes
    }

    /// Lets the job come to its end; true if the victim was off for a while.
    fn work(
        &self,
        world: &mut World,
        clients: &mut Clients,
        victim: Option<NodeId>,
    ) -> Result<bool, String> {
        let end = world.runtime.monotonic_micros() + JOB_MICROS;
        let (mut was_cut, mut back_at) = (self.after.is_none(), None);
        loop {
            let disk = world.disk(victim);
            let fails = |was_cut: bool| !was_cut && disk.fired() > 0;
            world.runtime.run_until(TURN_MICROS, &mut || fails(was_cut));
            clients.take(world)?;
            clients.begin(world);
            let now = world.runtime.monotonic_micros();
            if fails(was_cut) {
                world.cut_power(victim, self.profile, now);
                (was_cut, back_at) = (true, Some(now + OFF_MICROS));
            }
            if back_at.is_some_and(|at| at <= now) {
                world.restart(victim, POLL_MICROS)?;
                back_at = None;
            }
            if back_at.is_none() && world.is_settled() {
                // The point may lie behind the end of the job.
                disk.clear();
                return Ok(was_cut && self.after.is_some());
            }
            if now > end {
                return Err(format!("the job does not end: {:?}", world.agreed().job()));
            }
        }
    }
}

/// Lets clients go on for a while.
fn go_on(world: &mut World, clients: &mut Clients, micros: u64) -> Result<(), String> {
    for _ in 0..micros / TURN_MICROS {
        world.runtime.run_for(TURN_MICROS);
        clients.take(world)?;
        clients.begin(world);
    }
    Ok(())
}
