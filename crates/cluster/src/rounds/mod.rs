//! Rounds: the proof that every owner of a partition has taken in what any of them had, so that tombstones may go.
//!
//! The primary leads. It asks every owner what it has seen, and every member what hints it holds; from then on owners take no write that
//! is stamped at or before the round's stamp. Then it waits until each owner has seen all that any of them had seen: the exchanges, which
//! are always on, see to that. What all have seen, but for what hints hold, is the new *floor*; owners store it, and drop
//! tombstones that it covers. A member that does not answer ends the round without a floor, and another one is tried later.

mod sweep;

use crate::clock::{Context, Stamp};
use crate::codec::message::{Answer, FloorSet, Seen, SeenIs, SetFloor};
use crate::node::{Change, Node, View};
use crate::record::Floor;
use crate::transport::{Detail, Failure};
use base::sync::Mutex;
use base::{KeyspaceId, planted};
use ring::{NodeId, Partition};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Writes stamped so long before the start of a round, in microseconds, may still be under way: they are not refused for it.
const UNDER_WAY_MICROS: u64 = 10_000_000;
/// How often owners are asked whether they have seen enough by now.
const ASKED_MAX: u32 = 20;

/// Where the walk through the partitions that this node leads is.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    waiting: VecDeque<(KeyspaceId, Partition)>,
    /// How far partitions are in which nothing new was seen.
    quiet: BTreeMap<(KeyspaceId, Partition), Quiet>,
    /// Rounds that ended with a floor.
    pub(crate) done: u64,
    /// Rounds that did not: a member did not answer, or an owner is behind.
    pub(crate) blocked: u64,
}

/// A partition in which the same dots were seen in one round after the other.
#[derive(Debug)]
struct Quiet {
    dots: Context,
    /// When the first of these rounds began, by the monotonic clock.
    since_micros: u64,
    /// When the last one began whose floor every owner has stored.
    told_micros: u64,
}

impl Quiet {
    /// True if another round would change nothing: every owner has the floor, and its stamp has passed the last write.
    fn is_over(&self, seen: &Context) -> bool {
        self.dots == *seen && self.told_micros >= self.since_micros + 2 * UNDER_WAY_MICROS
    }
}

/// A round that is led here.
struct Round {
    keyspace: KeyspaceId,
    partition: Partition,
    number: u64,
    begun_micros: u64,
    stamp: Stamp,
    owners: Vec<NodeId>,
    /// What any owner had seen at the start.
    target: Context,
    /// What hints held.
    hinted: Context,
    asked: u32,
}

/// Answers of several nodes to one question.
struct Answers {
    missing: usize,
    failed: bool,
    said: Vec<(NodeId, SeenIs)>,
}

impl Node {
    /// Goes through the partitions that this node leads, again and again.
    pub(crate) fn lead(self: &Arc<Self>) {
        self.later(self.round_micros(), |node| node.work(Node::lead_next));
    }

    fn lead_next(self: &Arc<Self>) {
        match self.next_to_lead() {
            Some((keyspace, partition)) => self.begin_round(keyspace, partition),
            None => self.lead(),
        }
    }

    /// The next partition in which another round may change something.
    fn next_to_lead(&self) -> Option<(KeyspaceId, Partition)> {
        let view = self.view();
        let mut rounds = self.rounds().lock();
        if rounds.waiting.is_empty() {
            for (keyspace, _) in view.keyspaces() {
                let led = view.ring().iter().filter(|partition| {
                    view.owners(keyspace, *partition).first() == Some(&self.id())
                });
                rounds.waiting.extend(led.map(|partition| (keyspace, partition)));
            }
        }
        while let Some((keyspace, partition)) = rounds.waiting.pop_front() {
            let Ok(part) = self.replica().part(keyspace, partition) else { continue };
            let seen = &part.hold().state.seen;
            let quiet = rounds.quiet.get(&(keyspace, partition));
            if !seen.is_empty() && !quiet.is_some_and(|quiet| quiet.is_over(seen)) {
                return Some((keyspace, partition));
            }
        }
        None
    }

    fn begin_round(self: &Arc<Self>, keyspace: KeyspaceId, partition: Partition) {
        let view = self.view();
        let Ok(part) = self.replica().part(keyspace, partition) else { return self.lead() };
        let wall = self.runtime().wall_micros();
        let round = Round {
            keyspace,
            partition,
            number: part.hold().state.floor.round + 1,
            begun_micros: self.runtime().monotonic_micros(),
            stamp: Stamp::at_micros(wall.saturating_sub(UNDER_WAY_MICROS)),
            owners: view.owners(keyspace, partition).to_vec(),
            target: Context::new(),
            hinted: Context::new(),
            asked: 0,
        };
        let members = view.members().to_vec();
        let stamp = round.stamp;
        self.ask_seen(round, members, stamp, |node, mut round, said| {
            for (member, seen) in said {
                if round.owners.contains(&member) {
                    round.target = round.target.union(&seen.seen);
                }
                round.hinted = round.hinted.union(&seen.hinted);
            }
            round.wait(node);
        });
    }

    /// Asks nodes what they have seen; goes on once all have answered. One that does not ends the round.
    fn ask_seen(
        self: &Arc<Self>,
        round: Round,
        nodes: Vec<NodeId>,
        stamp: Stamp,
        then: impl FnOnce(&Arc<Node>, Round, Vec<(NodeId, SeenIs)>) + Send + 'static,
    ) {
        let answers = Answers { missing: nodes.len(), failed: false, said: Vec::new() };
        let (keyspace, partition, number) = (round.keyspace, round.partition, round.number);
        let gathered = Arc::new(Mutex::new((answers, Some((round, then)))));
        for member in nodes {
            let gathered = Arc::clone(&gathered);
            let seen = Seen { keyspace, partition, round: number, stamp };
            self.ask(member, self.patience(), seen, move |node, ended| {
                let (answers, next) = &mut *gathered.lock();
                answers.missing -= 1;
                match ended {
                    Ok(Answer::SeenIs(seen)) => answers.said.push((member, seen)),
                    _ => answers.failed = true,
                }
                if answers.missing > 0 {
                    return;
                }
                let failed = answers.failed;
                let said = std::mem::take(&mut answers.said);
                if let Some((round, then)) = next.take() {
                    match failed {
                        true => node.end_round(false),
                        // Not under the lock of the answers: the next question has its own.
                        false => node.work(move |node| then(node, round, said)),
                    }
                }
            });
        }
    }

    fn end_round(self: &Arc<Self>, done: bool) {
        {
            let mut rounds = self.rounds().lock();
            if done { rounds.done += 1 } else { rounds.blocked += 1 }
        }
        self.lead();
    }

    // ---- as a member ----

    /// Tells what was seen, and what hints hold. For a round an owner also promises to take no older write.
    pub(crate) fn tell_seen(&self, view: &View, asked: &Seen) -> Result<SeenIs, Failure> {
        let Seen { keyspace, partition, round, stamp } = *asked;
        view.policy(keyspace)?;
        let hinted = match round {
            0 => Context::new(),
            _ => self.hints().dots_for(keyspace, partition)?,
        };
        if !view.is_owner(self.id(), keyspace, partition) {
            return Ok(SeenIs { seen: Context::new(), hinted });
        }
        let part = self.replica().part(keyspace, partition)?;
        let mut change = Change::of(self.replica(), keyspace, partition, &part)?;
        if round > 0 {
            if !change.is_complete() || change.has_holes() {
                return Err(Failure::NotReady);
            }
            change.state.promised = change.state.promised.max(stamp);
        }
        let seen = change.state.seen.clone();
        change.commit()?;
        Ok(SeenIs { seen, hinted })
    }

    /// Takes over a floor; drops what it lets go, a little later.
    pub(crate) fn set_floor(
        self: &Arc<Self>,
        view: &View,
        set: &SetFloor,
    ) -> Result<FloorSet, Failure> {
        let SetFloor { keyspace, partition, floor } = set;
        if !view.is_owner(self.id(), *keyspace, *partition) {
            return Err(Failure::Invalid(Detail::new("a floor for a partition that is not owned")));
        }
        let part = self.replica().part(*keyspace, *partition)?;
        let mut change = Change::of(self.replica(), *keyspace, *partition, &part)?;
        if !change.state.seen.covers(&floor.dots) {
            // It did not say so in this round: its disk is not the one it was.
            return Err(Failure::NotReady);
        }
        if floor.round > change.state.floor.round {
            change.state.floor = Floor {
                dots: change.state.floor.dots.union(&floor.dots),
                stamp: change.state.floor.stamp.max(floor.stamp),
                round: floor.round,
            };
            change.commit()?;
            self.sweep(*keyspace, *partition);
        }
        Ok(FloorSet {})
    }
}

impl Rounds {
    /// A round has ended: with other dots than the one before, something was written.
    fn note(&mut self, place: (KeyspaceId, Partition), round: &Round) {
        let same = self.quiet.get(&place).is_some_and(|quiet| quiet.dots == round.target);
        if !same {
            let dots = round.target.clone();
            let quiet = Quiet { dots, since_micros: round.begun_micros, told_micros: 0 };
            self.quiet.insert(place, quiet);
        }
    }
}

impl Round {
    /// Waits until every owner has seen what any of them had.
    fn wait(mut self, node: &Arc<Node>) {
        if self.asked == ASKED_MAX {
            return node.end_round(false);
        }
        self.asked += 1;
        node.later(node.round_micros(), move |node| {
            node.work(move |node| {
                let owners = self.owners.clone();
                node.ask_seen(self, owners, Stamp::ZERO, |node, round, said| {
                    match said.iter().all(|(_, seen)| seen.seen.covers(&round.target))
                        || planted::is(85)
                    {
                        true => round.finish(node),
                        false => round.wait(node),
                    }
                });
            });
        });
    }

    /// All have: the floor is told to every owner. One that does not hear it keeps its tombstones until the next round.
    fn finish(self, node: &Arc<Node>) {
        let place = (self.keyspace, self.partition);
        node.rounds().lock().note(place, &self);
        let missing = Arc::new(Mutex::new(self.owners.len()));
        let begun_micros = self.begun_micros;
        let dots = self.target.difference(&self.hinted);
        let floor = Floor { round: self.number, dots, stamp: self.stamp };
        for owner in self.owners {
            let set = SetFloor {
                keyspace: self.keyspace,
                partition: self.partition,
                floor: floor.clone(),
            };
            let missing = Arc::clone(&missing);
            node.ask(owner, node.patience(), set, move |node, ended| {
                let missing = &mut *missing.lock();
                *missing -= usize::from(matches!(ended, Ok(Answer::FloorSet(_))));
                if *missing == 0
                    && let Some(quiet) = node.rounds().lock().quiet.get_mut(&place)
                {
                    quiet.told_micros = quiet.told_micros.max(begun_micros);
                }
            });
        }
        node.end_round(true);
    }
}
