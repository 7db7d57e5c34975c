//! Whole clusters on virtual time: real nodes on disks in memory, a network and machines that fail, one seed.
//!
//! A run has two parts. In the first clients read and write while links are cut, messages are lost, doubled and damaged, machines lose
//! their power and clocks jump; what clients are told is checked as they are told. In the second everything works again, and nobody
//! helps: all owners must come to hold the same, and that must be what was acknowledged.

mod agreement;
mod clients;
mod faults;
mod history;
mod moves;
pub(crate) mod points;
mod world;

use crate::caught::caught;
use crate::{Config, Failure, Family, Figure, Report, pool};
use base::clock::Clock;
use clients::{Clients, Quorum, Tally};
use cluster::NodeId;
use cluster::coordinator::{Answered, ReadOptions};
use faults::Faults;
use history::Place;
use moves::Moves;
use std::sync::{Arc, Mutex, PoisonError};
use world::World;

const NAME: &str = "cluster";

pub(crate) const FAMILY: Family =
    Family { name: NAME, about: "whole clusters on virtual time, with faults", run };

/// Virtual time of the first part, in microseconds.
const FAULTY_MICROS: u64 = 30_000_000;
/// In the second part all must be well after so long: a job may have to begin anew, and then replicas to be compared.
const HEALED_MICROS: u64 = 120_000_000;
/// How long replicas may take to come to hold the same once nothing moves any more.
const COMPARED_MICROS: u64 = 60_000_000;
/// How often clients and faults get a turn.
const TURN_MICROS: u64 = 5_000;

/// What one run did.
#[derive(Debug, Default, Clone, Copy)]
struct Done {
    tally: Tally,
    faults: faults::Tally,
    moves: moves::Tally,
    flips: u64,
    checks: u64,
    trace: u64,
    twice: bool,
}

fn run(config: &Config<'_>) -> Result<Report, Failure> {
    let seeds = config.seeds(config.size.pick(60, 1_000, 9_000));
    let twice = config.size.pick(2, 10, 200);
    let done = pool::share(NAME, config, &seeds, |&seed| {
        let failed = |detail| Failure::new(NAME, config, seed, None, detail);
        let one_run = || caught(|| one_run(seed, config.canary)).and_then(|done| done);
        let mut done = one_run().map_err(failed)?;
        if seed <= twice {
            let again = one_run().map_err(failed)?;
            if again.trace != done.trace {
                return Err(failed("two runs of one seed are not the same".into()));
            }
            done.twice = true;
        }
        Ok((done, done.checks))
    })?;
    let sum = |of: &dyn Fn(&Done) -> u64| done.iter().map(of).sum::<u64>();
    let count = seeds.len() as u64;
    Ok(Report {
        seeds: count,
        figures: vec![
            Figure::new("reads answered", sum(&|d| d.tally.reads), count * 300),
            Figure::new("writes acknowledged", sum(&|d| d.tally.writes), count * 300),
            Figure::new("calls whose end is unknown", sum(&|d| d.tally.unknown), count),
            Figure::new("power cuts", sum(&|d| d.faults.crashes), count * 2),
            Figure::new("disks lost", sum(&|d| d.faults.wipes), count / 10),
            Figure::new("disks older than they were", sum(&|d| d.faults.rollbacks), count / 60),
            Figure::new("bits of tables turned", sum(&|d| d.faults.rots), count / 20),
            Figure::new("cuts of the network", sum(&|d| d.faults.cuts), count * 2),
            Figure::new("nodes that joined", sum(&|d| d.moves.joins), count / 4),
            Figure::new("nodes that left", sum(&|d| d.moves.leaves), count / 4),
            Figure::new("nodes that were removed", sum(&|d| d.moves.removed), count / 30),
            Figure::new("nodes that were given up", sum(&|d| d.moves.given_up), count / 30),
            Figure::new("jobs disturbed", sum(&|d| d.moves.jobs), count / 4),
            Figure::new("drivers replaced", sum(&|d| d.moves.drivers), count / 4),
            Figure::new("changes of the topology", sum(&|d| d.flips), count * 10),
            Figure::new("checks", sum(&|d| d.checks), count * 400),
            Figure::new(
                "seeds run twice with one trace",
                sum(&|d| u64::from(d.twice)),
                twice.min(count),
            ),
        ],
        skipped: None,
    })
}

fn one_run(seed: u64, canary: bool) -> Result<Done, String> {
    let shapes = [(3, 3, 2, 2), (5, 3, 2, 2), (4, 3, 3, 1), (5, 3, 1, 3), (7, 5, 3, 3)];
    let (nodes, owners, read, write) = shapes[seed as usize % shapes.len()];
    let mut world = World::new(seed, nodes, owners)?;
    let mut rng = base::rng::Rng::new(seed ^ 0xc11e);
    let mut clients = Clients::new(6, Quorum { owners, read, write, canary }, &mut rng);
    let mut faults = Faults::new(&mut rng, write > 1);
    let mut moves = Moves::new(&mut rng, owners, write > 1);
    // In every other run nodes come and go.
    let moving = seed.is_multiple_of(2);
    if moving {
        world.drive()?;
    }
    let mut left = FAULTY_MICROS / TURN_MICROS;
    while left > 0 {
        left -= 1;
        world.runtime.run_for(TURN_MICROS);
        clients.take(&world)?;
        clients.begin(&world);
        if let Some(left) = faults.turn(&mut world)? {
            clients.history.note_loss(&left);
        }
        if moving && let Some(left) = moves.turn(&mut world)? {
            clients.history.note_loss(&left);
        }
    }
    world.heal()?;
    while clients.busy() {
        world.runtime.run_for(TURN_MICROS);
        clients.take(&world)?;
    }
    settle(&mut world, &mut clients)?;
    let (tally, checks) = (clients.tally, clients.history.checks);
    let (flips, trace) = (world.agreed().epoch().0, world.trace());
    let (faults, moves) = (faults.tally, moves.tally);
    Ok(Done { tally, faults, moves, flips, checks, trace, twice: false })
}

/// Waits until all owners hold the same, and looks at that.
fn settle(world: &mut World, clients: &mut Clients) -> Result<(), String> {
    let places: Vec<Place> = clients.history.places().cloned().collect();
    let end = world.runtime.monotonic_micros() + HEALED_MICROS;
    let mut settled_at = None;
    loop {
        world.runtime.run_for(1_000_000);
        let now = world.runtime.monotonic_micros();
        let late = now >= end;
        if !world.is_settled() {
            settled_at = None;
            moves::let_go(world);
            moves::tidy(world);
            if late {
                return Err(format!("the job does not end: {:?}", world.agreed().job()));
            }
            continue;
        }
        let since = *settled_at.get_or_insert(now);
        let Some((place, held)) = places.iter().find_map(|place| apart(world, place)) else {
            break;
        };
        // Whoever came to own something at last has its time, too.
        if late && now >= since + COMPARED_MICROS {
            return Err(format!("owners of {place:?} do not come to hold the same: {held:#?}"));
        }
    }
    for place in &places {
        for answered in held(world, place) {
            clients.history.check_final(place, &answered?)?;
        }
    }
    Ok(())
}

/// What owners of a key hold, if that is not the same, or not all of them say it.
fn apart<'a>(world: &World, place: &'a Place) -> Option<(&'a Place, Vec<Held>)> {
    let held = held(world, place);
    let versions = |held: &Held| held.as_ref().ok().map(|one| one.record.versions().to_vec());
    let same = held.windows(2).all(|pair| versions(&pair[0]) == versions(&pair[1]));
    (!same || held.iter().any(Result::is_err)).then_some((place, held))
}

type Held = Result<Answered, String>;

/// What each owner of a key holds.
fn held(world: &World, place: &Place) -> Vec<Held> {
    let view = world.view();
    let owners = view.owners(place.0, view.ring().partition_of(&place.1));
    owners.iter().map(|owner| held_by(world, *owner, place)).collect()
}

fn held_by(world: &World, owner: NodeId, place: &Place) -> Held {
    let host = world.hosts.iter().find(|host| host.id == owner);
    let node = host.and_then(|host| host.node.as_ref()).ok_or("it is not there")?;
    let options = ReadOptions { owners_min: 1, monotonic: false, timeout_micros: 1_000_000 };
    let told = Arc::new(Mutex::new(None));
    let tell = Arc::clone(&told);
    node.read(place.0, vec![place.1.clone()], options, move |results| {
        *tell.lock().unwrap_or_else(PoisonError::into_inner) = results.into_iter().next();
    });
    let take = || told.lock().unwrap_or_else(PoisonError::into_inner).take();
    let mut answer = None;
    world.runtime.run_until(2_000_000, &mut || {
        answer = answer.take().or_else(take);
        answer.is_some()
    });
    match answer {
        // A replica that is not complete lets others answer.
        Some(Ok(answered)) if answered.served_by == [owner] => Ok(answered),
        other => Err(format!("{owner} does not say what it holds: {other:?}")),
    }
}
