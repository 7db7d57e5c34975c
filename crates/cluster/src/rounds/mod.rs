//! Rounds: the proof that every owner of a partition has taken in what any of them had, so that tombstones may go.
//!
//! The primary leads. It asks every owner what it has seen, and every member what hints it holds; from then on owners take no write that
//! is stamped at or before the round's stamp. Then it waits until each owner has seen all that any of them had seen: the exchanges, which
//! are always on, see to that. What all have seen, but for what hints hold, is the new *floor*; owners store it, and drop
//! tombstones that it covers. A member that does not answer ends the round without a floor, and another one is tried later.
//!
//! No round begins or ends while its partition changes hands, or while somebody has a copy of it that is to be deleted. A receiver has
//! not seen what owners have, and is not asked; so floors stand still until it has everything: then a tombstone that is newer than the
//! floor is at every source, and what comes late to a receiver meets it. And what departs may come back as a receiver with an old copy.
//! Rounds are numbered above the epoch since which the owners are who they are, so that a floor of new owners passes those from before.

mod sweep;
#[cfg(test)]
mod tests;

use crate::clock::{Context, RUNS_MAX, RUNS_STORED_MAX, Stamp};
use crate::codec::message::{Answer, FloorSet, Seen, SeenIs, SetFloor};
use crate::node::{Change, Node, Replica};
use crate::record::Floor;
use crate::transport::{Detail, Failure};
use base::sync::Mutex;
use base::{KeyspaceId, planted};
use ring::{Epoch, NodeId, Partition};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Writes stamped so long before the start of a round, in microseconds, may still be under way: they are not refused for it.
const UNDER_WAY_MICROS: u64 = 10_000_000;
/// Rounds for each epoch since which owners are who they are, as a power of two.
const ROUNDS_BITS: u32 = 24;
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
    /// Since when its owners are who they are.
    owners_since: Epoch,
    dots: Context,
    /// When the first of these rounds began, by the monotonic clock.
    since_micros: u64,
    /// When the last one began whose floor every owner has stored.
    told_micros: u64,
}

impl Quiet {
    /// True if another round would change nothing: every owner has the floor, and its stamp has passed the last write.
    fn is_over(&self, seen: &Context, owners_since: Epoch) -> bool {
        self.owners_since == owners_since
            && self.dots == *seen
            && self.told_micros >= self.since_micros + 2 * UNDER_WAY_MICROS
    }
}

/// A round that is led here.
struct Round {
    /// Of the topology that it was begun under.
    epoch: Epoch,
    owners_since: Epoch,
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
        self.later(self.round_micros(), |node| node.work_in_background(Node::lead_next));
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
            let may_begin = !view.is_on_the_move(keyspace, partition)
                && view.owners(keyspace, partition).first() == Some(&self.id());
            let over =
                quiet.is_some_and(|quiet| quiet.is_over(seen, view.since(keyspace, partition)));
            if may_begin && !seen.is_empty() && !over {
                return Some((keyspace, partition));
            }
        }
        None
    }

    fn begin_round(self: &Arc<Self>, keyspace: KeyspaceId, partition: Partition) {
        let view = self.view();
        let Ok(part) = self.replica().part(keyspace, partition) else { return self.lead() };
        let wall = self.runtime().wall_micros();
        let floor = part.hold().state.floor.clone();
        // It never goes back, whatever became of the clock.
        let stamp = Stamp::at_micros(wall.saturating_sub(UNDER_WAY_MICROS)).max(floor.stamp);
        let owners_since = view.since(keyspace, partition);
        let first = owners_since.0 << ROUNDS_BITS;
        let round = Round {
            epoch: view.epoch(),
            owners_since,
            keyspace,
            partition,
            number: floor.round.max(first) + 1,
            begun_micros: self.runtime().monotonic_micros(),
            stamp,
            owners: view.owners(keyspace, partition).to_vec(),
            target: Context::new(),
            hinted: Context::new(),
            asked: 0,
        };
        round.hear(self, view.members().to_vec());
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
        let epoch = round.epoch;
        let gathered = Arc::new(Mutex::new((answers, Some((round, then)))));
        for member in nodes {
            let gathered = Arc::clone(&gathered);
            let seen = Seen { keyspace, partition, round: number, stamp };
            self.ask_at(epoch, member, self.patience(), seen, move |node, ended| {
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
    pub(crate) fn tell_seen(
        &self,
        from: NodeId,
        epoch: Epoch,
        asked: &Seen,
    ) -> Result<SeenIs, Failure> {
        let Seen { keyspace, partition, round, stamp } = *asked;
        self.fenced(keyspace, partition, epoch, |view| {
            let hinted = match round {
                0 => Context::new(),
                _ if view.is_on_the_move(keyspace, partition) => return Err(Failure::NotReady),
                _ => {
                    let hinted = self.hints().dots_for(self.replica(), keyspace, partition)?;
                    if hinted.runs().len() > RUNS_MAX {
                        // More than an answer holds. The round ends, as any while hints wait for an owner that is away.
                        return Err(Failure::NotReady);
                    }
                    hinted
                }
            };
            if !view.is_owner(self.id(), keyspace, partition) {
                let (seen, floor) = (Context::new(), Floor::default());
                return Ok(SeenIs { seen, hinted, floor, start: self.nonce() });
            }
            let part = self.replica().part(keyspace, partition)?;
            let mut change = Change::of(self.replica(), keyspace, partition, &part)?;
            // Who is to take an owner's place brings all that this one has: it must be all there is.
            let for_all = round > 0 || !view.is_owner(from, keyspace, partition);
            if for_all && (!change.is_complete() || change.has_holes()) {
                return Err(Failure::NotReady);
            }
            if round > 0 {
                change.state.promised = change.state.promised.max(stamp);
            }
            let (seen, floor) = (change.state.seen.clone(), change.state.floor.clone());
            change.commit()?;
            Ok(SeenIs { seen, hinted, floor, start: self.nonce() })
        })
    }

    /// Takes over a floor; drops what it lets go, a little later.
    pub(crate) fn set_floor(
        self: &Arc<Self>,
        epoch: Epoch,
        set: &SetFloor,
    ) -> Result<FloorSet, Failure> {
        let SetFloor { keyspace, partition, floor } = set;
        let taken = self.fenced(*keyspace, *partition, epoch, |view| {
            if !view.is_owner(self.id(), *keyspace, *partition) {
                let detail = "a floor for a partition that is not owned";
                return Err(Failure::Invalid(Detail::new(detail)));
            }
            if view.is_on_the_move(*keyspace, *partition) {
                return Err(Failure::NotReady);
            }
            self.replica().take_floor(*keyspace, *partition, floor)
        })?;
        if taken {
            self.sweep(*keyspace, *partition);
        }
        Ok(FloorSet {})
    }
}

impl Replica {
    /// Takes over the floor of a peer with whom a complete exchange has ended: all that it speaks of is here. For a replica that comes to own
    /// the partition, so that its floor is not behind those of the others, by which they dropped tombstones. That of an earlier round may
    /// have the later stamp.
    pub(crate) fn adopt_floor(change: &mut Change<'_>, theirs: &Floor) -> bool {
        let state = &mut change.state;
        let before = state.floor.clone();
        state.floor = Floor {
            dots: before.dots.union(&theirs.dots),
            stamp: before.stamp.max(theirs.stamp),
            round: before.round.max(theirs.round),
        };
        state.promised = state.promised.max(theirs.stamp);
        state.floor != before
    }

    /// Takes over a floor, unless it has a later one.
    fn take_floor(
        &self,
        keyspace: KeyspaceId,
        partition: Partition,
        floor: &Floor,
    ) -> Result<bool, Failure> {
        let part = self.part(keyspace, partition)?;
        let mut change = Change::of(self, keyspace, partition, &part)?;
        if !change.state.seen.covers(&floor.dots) {
            // It did not say so in this round: its disk is not the one it was.
            return Err(Failure::NotReady);
        }
        if floor.round <= change.state.floor.round {
            return Ok(false);
        }
        change.state.floor = Floor {
            dots: change.state.floor.dots.union(&floor.dots),
            stamp: change.state.floor.stamp.max(floor.stamp),
            round: floor.round,
        };
        change.commit()?;
        Ok(true)
    }
}

impl Rounds {
    /// A round has ended: with other dots than the one before, something was written.
    fn note(&mut self, place: (KeyspaceId, Partition), round: &Round) {
        let same = self.quiet.get(&place).is_some_and(|quiet| {
            quiet.dots == round.target && quiet.owners_since == round.owners_since
        });
        if !same {
            let dots = round.target.clone();
            let (owners_since, since_micros) = (round.owners_since, round.begun_micros);
            let quiet = Quiet { owners_since, dots, since_micros, told_micros: 0 };
            self.quiet.insert(place, quiet);
        }
    }
}

impl Round {
    /// Asks all members. The round is after those that any owner knows of: one that did not reach this leader ended all the same, and
    /// owners that it reached have dropped tombstones by its stamp. So the others have to come to that, too.
    fn hear(self, node: &Arc<Node>, members: Vec<NodeId>) {
        let stamp = self.stamp;
        node.ask_seen(self, members.clone(), stamp, move |node, mut round, said| {
            for (member, seen) in said {
                if round.owners.contains(&member) {
                    round.target = round.target.union(&seen.seen);
                    round.number = round.number.max(seen.floor.round + 1);
                    round.stamp = round.stamp.max(seen.floor.stamp);
                }
                round.hinted = round.hinted.union(&seen.hinted);
            }
            // A later stamp is nothing that they have promised yet.
            if round.stamp > stamp { round.hear(node, members) } else { round.wait(node) }
        });
    }

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
        let dots = self.target.difference(&self.hinted);
        if dots.runs().len() > RUNS_STORED_MAX {
            // Nobody could store it. Exchanges close the gaps.
            return node.end_round(false);
        }
        node.rounds().lock().note(place, &self);
        let missing = Arc::new(Mutex::new(self.owners.len()));
        let begun_micros = self.begun_micros;
        let floor = Floor { round: self.number, dots, stamp: self.stamp };
        for owner in self.owners {
            let set = SetFloor {
                keyspace: self.keyspace,
                partition: self.partition,
                floor: floor.clone(),
            };
            let missing = Arc::clone(&missing);
            node.ask_at(self.epoch, owner, node.patience(), set, move |node, ended| {
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
