//! Reads: owners are asked, what they say is merged, and who was behind is told.

use super::check;
use super::write::AGAIN_MICROS;
use crate::codec::message::{
    Answer, Applied, Apply, Cause, Item, Outcome, Read, Records, Stored, Wanted,
};
use crate::node::{Node, Policy, Taken, View};
use crate::record::Record;
use crate::runtime::TimerId;
use crate::transport::{Detail, Failure};
use base::sync::Mutex;
use base::{KeyspaceId, Slice};
use ring::{Epoch, NodeId, Partition};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Of the time a client waits, this part passes before owners are asked that would not have been needed: one in so many.
const HEDGE_PART: u64 = 8;

/// What a client wants of reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadOptions {
    /// R: owners that have to answer for each key.
    pub owners_min: usize,
    /// What is read is stored at so many owners, before it is answered, that no later read can miss it.
    pub monotonic: bool,
    /// How long the client waits.
    pub timeout_micros: u64,
}

/// What owners say of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// All that they know together.
    pub record: Record,
    /// Who they are.
    pub served_by: Vec<NodeId>,
}

type Done = Box<dyn FnOnce(Vec<Result<Answered, Failure>>) + Send>;

/// Reads that are under way.
struct Reading {
    keyspace: KeyspaceId,
    policy: Arc<Policy>,
    options: ReadOptions,
    deadline_micros: u64,
    keys: Vec<Slice>,
    state: Mutex<State>,
}

struct State {
    asked: Vec<Asked>,
    open: usize,
    timers: Vec<TimerId>,
    done: Option<Done>,
    /// What is held of it counts here.
    taken: Option<Taken>,
}

/// One key: who was asked, and what they said.
struct Asked {
    partition: Partition,
    /// By which nodes are asked, and counted.
    view: Arc<View>,
    /// How often the owners were others meanwhile: what is said to an earlier question does not count.
    turn: u32,
    /// Owners not asked yet, the next one last.
    left: Vec<NodeId>,
    /// Those that were asked and have not answered.
    waiting: Vec<NodeId>,
    /// Somebody sees other owners than this node: once both have followed, all are asked again.
    stale: bool,
    /// It waits for that.
    pauses: bool,
    said: Vec<(NodeId, Record)>,
    /// Enough was said: what comes now does not change the answer.
    heard: bool,
    /// Merged; what is left is to store it at as many owners as it takes.
    storing: Option<Storing>,
    settled: Option<Result<Answered, Failure>>,
}

struct Storing {
    answered: Answered,
    /// Those that have it.
    stored: Vec<NodeId>,
    wanted: usize,
    waiting: usize,
}

impl Node {
    /// Reads keys for a client: for each, as many owners as are wanted are asked and their records merged. `done` is told, in the order of
    /// the keys. Owners that are behind the others are told what they lack.
    ///
    /// # Errors
    /// For each key for itself: [`Failure::Unavailable`] if too few owners answer in time, [`Failure::UnknownKeyspace`].
    pub fn read(
        self: &Arc<Self>,
        keyspace: KeyspaceId,
        keys: Vec<Slice>,
        options: ReadOptions,
        done: impl FnOnce(Vec<Result<Answered, Failure>>) + Send + 'static,
    ) {
        let view = self.view();
        let known = view.policy(keyspace).and_then(|policy| {
            check::goal(policy, options.owners_min, options.timeout_micros)?;
            let bytes = keys.iter().map(|key| size_of::<Asked>() + key.len()).sum();
            Ok((Arc::clone(policy), self.take_request(bytes)?))
        });
        let (policy, taken) = match known {
            Ok(known) => known,
            Err(failure) => return done(keys.iter().map(|_| Err(failure.clone())).collect()),
        };
        let ask = |key: &Slice| Asked::new(self, keyspace, view.ring().partition_of(key), 0);
        let asked: Vec<Asked> = keys.iter().map(ask).collect();
        let (open, timers) = (asked.len(), Vec::new());
        let done: Done = Box::new(done);
        let state = Mutex::new(State { asked, open, timers, done: Some(done), taken: Some(taken) });
        let deadline_micros =
            self.runtime().monotonic_micros().saturating_add(options.timeout_micros);
        let reading = Arc::new(Reading { keyspace, policy, options, deadline_micros, keys, state });
        self.work(move |node| reading.begin(node));
    }
}

impl Reading {
    fn begin(self: &Arc<Self>, node: &Arc<Node>) {
        let (hedge, late) = (Arc::clone(self), Arc::clone(self));
        let timeout = self.options.timeout_micros;
        let timers = vec![
            node.later(timeout / HEDGE_PART, move |node| {
                node.work(move |node| hedge.ask_more(node, true));
            }),
            node.later(timeout, move |node| late.expire(node)),
        ];
        {
            let state = &mut *self.state.lock();
            state.timers = timers;
            for (at, key) in self.keys.iter().enumerate() {
                if let Err(failure) = check::key(key) {
                    state.settle(at, Err(failure));
                }
            }
        }
        self.ask_more(node, false);
    }

    /// Asks for each key as many owners as may still be needed; `all` asks those as well that would be asked last.
    fn ask_more(self: &Arc<Self>, node: &Arc<Node>, all: bool) {
        let mut to: BTreeMap<(NodeId, Epoch), Vec<(usize, u32)>> = BTreeMap::new();
        let mut again = Vec::new();
        let in_time = node.runtime().monotonic_micros() + AGAIN_MICROS < self.deadline_micros;
        {
            let state = &mut *self.state.lock();
            for at in 0..state.asked.len() {
                let asked = &mut state.asked[at];
                if asked.settled.is_some() || asked.heard {
                    continue;
                }
                let wanted = self.options.owners_min.max(1);
                while all || asked.hoped_for(self.keyspace) < wanted {
                    let Some(owner) = asked.left.pop() else { break };
                    asked.waiting.push(owner);
                    let epoch = asked.view.epoch();
                    to.entry((owner, epoch)).or_default().push((at, asked.turn));
                }
                let reached = asked.heard_of(self.keyspace);
                if !asked.waiting.is_empty() || reached >= wanted {
                    continue;
                }
                if asked.stale && in_time {
                    (asked.stale, asked.pauses) = (false, true);
                    again.push((at, asked.turn));
                } else if !asked.pauses {
                    let (reached, wanted) = (reached as u64, wanted as u64);
                    state.settle(at, Err(Failure::Unavailable { reached, wanted }));
                }
            }
        }
        if !again.is_empty() {
            self.begin_again(node, again);
        }
        for ((owner, epoch), keys) in to {
            self.ask(node, owner, epoch, keys);
        }
        self.tell_if_done(node);
    }

    /// Asks the owners of a later topology; all that was said so far is forgotten.
    fn begin_again(self: &Arc<Self>, node: &Arc<Node>, keys: Vec<(usize, u32)>) {
        let this = Arc::clone(self);
        node.later(AGAIN_MICROS, move |node| {
            node.work(move |node| {
                {
                    let state = &mut *this.state.lock();
                    for (at, turn) in keys {
                        let asked = &mut state.asked[at];
                        if asked.turn == turn && asked.settled.is_none() && !asked.heard {
                            *asked = Asked::new(node, this.keyspace, asked.partition, turn + 1);
                        }
                    }
                }
                this.ask_more(node, false);
            });
        });
    }

    fn ask(
        self: &Arc<Self>,
        node: &Arc<Node>,
        owner: NodeId,
        epoch: Epoch,
        keys: Vec<(usize, u32)>,
    ) {
        let read = Read {
            keyspace: self.keyspace,
            wanted: Wanted::Whole,
            keys: keys.iter().map(|(at, _)| self.keys[*at].clone()).collect(),
            of_start: 0,
        };
        if owner == node.id() {
            let said = node.answer_read(epoch, &read);
            return self.answered(node, owner, epoch, &keys, said);
        }
        let this = Arc::clone(self);
        node.ask_at(epoch, owner, self.options.timeout_micros, read, move |node, ended| {
            let said = match ended {
                Ok(Answer::Records(records)) => Ok(records),
                Ok(_) => Err(Failure::Internal(Detail::new("no answer to this"))),
                Err(failure) => Err(failure),
            };
            this.answered(node, owner, epoch, &keys, said);
        });
    }

    /// Asks for less where it was too much for one answer.
    fn answered(
        self: &Arc<Self>,
        node: &Arc<Node>,
        owner: NodeId,
        epoch: Epoch,
        keys: &[(usize, u32)],
        said: Result<Records, Failure>,
    ) {
        if keys.len() > 1 && matches!(said, Err(Failure::AnswerTooLarge { .. })) {
            let (one, other) = keys.split_at(keys.len() / 2);
            self.ask(node, owner, epoch, one.to_vec());
            return self.ask(node, owner, epoch, other.to_vec());
        }
        self.heard(node, owner, keys, said);
    }

    fn heard(
        self: &Arc<Self>,
        node: &Arc<Node>,
        owner: NodeId,
        keys: &[(usize, u32)],
        said: Result<Records, Failure>,
    ) {
        let said = said.and_then(|said| self.keep(keys, said));
        let all_stale = matches!(said, Err(Failure::StaleEpoch { .. }));
        let records = said.map(|said| said.records).unwrap_or_default();
        let mut records = records.into_iter();
        let mut whole = Vec::new();
        {
            let state = &mut *self.state.lock();
            for &(at, turn) in keys {
                let (asked, record) = (&mut state.asked[at], records.next());
                if asked.turn != turn {
                    continue;
                }
                asked.waiting.retain(|node| *node != owner);
                match record {
                    Some(Stored::Whole(record)) => asked.said.push((owner, record)),
                    Some(Stored::Absent) => asked.said.push((owner, Record::default())),
                    Some(Stored::Failed(Failure::StaleEpoch { .. })) => {
                        asked.stale = true;
                        continue;
                    }
                    _ => {
                        asked.stale |= all_stale;
                        continue;
                    }
                }
                let enough = asked.heard_of(self.keyspace) >= self.options.owners_min.max(1);
                if enough && !asked.heard && asked.settled.is_none() {
                    asked.heard = true;
                    whole.push(at);
                }
            }
        }
        for at in whole {
            self.merge(node, at);
        }
        self.ask_more(node, false);
    }

    /// Finds room for what an owner says; without any, these keys are not read.
    fn keep(&self, keys: &[(usize, u32)], said: Records) -> Result<Records, Failure> {
        let state = &mut *self.state.lock();
        let Some(taken) = &mut state.taken else { return Ok(said) };
        taken.grow(said.weight()).map(|()| said).inspect_err(|failure| {
            for &(at, turn) in keys {
                if state.asked[at].turn == turn && !state.asked[at].heard {
                    state.settle(at, Err(failure.clone()));
                }
            }
        })
    }

    /// Enough owners have spoken for a key.
    fn merge(self: &Arc<Self>, node: &Arc<Node>, at: usize) {
        let (said, others, view, partition) = {
            let asked = &self.state.lock().asked[at];
            // Also those that were asked and say nothing: what they would say is not waited for.
            let others: Vec<NodeId> = asked.left.iter().chain(&asked.waiting).copied().collect();
            (asked.said.clone(), others, Arc::clone(&asked.view), asked.partition)
        };
        let merged = said.iter().fold(Record::default(), |merged, (_, record)| {
            merged.merge(record, self.policy.mode).record
        });
        // Without what was replaced a later read could show it again: only who asks for that pays for it.
        let lacks = |record: &Record| {
            let knows = !self.options.monotonic || record.context().covers(merged.context());
            record.versions() != merged.versions() || !knows
        };
        let mut behind: Vec<NodeId> =
            said.iter().filter(|(_, record)| lacks(record)).map(|(owner, _)| *owner).collect();
        let owners = view.owners(self.keyspace, partition);
        let served_by = said.iter().map(|(owner, _)| *owner).filter(|node| owners.contains(node));
        let answered = Answered { record: merged.clone(), served_by: served_by.collect() };
        {
            let state = &mut *self.state.lock();
            let stored: Vec<NodeId> = said.iter().map(|(owner, _)| *owner).collect();
            let stored: Vec<NodeId> =
                stored.into_iter().filter(|owner| !behind.contains(owner)).collect();
            // Any later read meets one of these.
            let wanted = owners.len() + 1 - self.options.owners_min.clamp(1, owners.len().max(1));
            let counted = state.asked[at].count(self.keyspace, &stored);
            if self.options.monotonic && counted < wanted {
                behind.extend(others);
                let waiting = behind.len();
                state.asked[at].storing = Some(Storing { answered, stored, wanted, waiting });
            } else {
                state.settle(at, Ok(answered));
            }
        }
        for owner in behind {
            self.repair(node, at, owner, merged.clone());
        }
    }

    /// Tells an owner what it lacks.
    fn repair(self: &Arc<Self>, node: &Arc<Node>, at: usize, owner: NodeId, record: Record) {
        let (partition, epoch) = {
            let asked = &self.state.lock().asked[at];
            (asked.partition, asked.view.epoch())
        };
        let items = vec![Item { key: self.keys[at].clone(), record, made_by: None }];
        let apply = Apply { keyspace: self.keyspace, partition, cause: Cause::ReadRepair, items };
        if owner == node.id() {
            let applied = node.merge(epoch, &apply);
            return self.repaired(node, at, owner, &applied.map_or(Vec::new(), |a| a.results));
        }
        let this = Arc::clone(self);
        node.ask_at(epoch, owner, self.options.timeout_micros, apply, move |node, ended| {
            let results = match ended {
                Ok(Answer::Applied(Applied { results })) => results,
                _ => Vec::new(),
            };
            this.repaired(node, at, owner, &results);
        });
    }

    fn repaired(
        &self,
        node: &Arc<Node>,
        at: usize,
        owner: NodeId,
        results: &[Result<Outcome, Failure>],
    ) {
        {
            let state = &mut *self.state.lock();
            let asked = &mut state.asked[at];
            let Some(mut storing) = asked.storing.take() else { return };
            storing.waiting -= 1;
            if matches!(results, [Ok(_)]) {
                storing.stored.push(owner);
            }
            let reached = asked.count(self.keyspace, &storing.stored);
            if reached >= storing.wanted {
                state.settle(at, Ok(storing.answered));
            } else if storing.waiting == 0 {
                let (reached, wanted) = (reached as u64, storing.wanted as u64);
                state.settle(at, Err(Failure::Unavailable { reached, wanted }));
            } else {
                asked.storing = Some(storing);
            }
        }
        self.tell_if_done(node);
    }

    fn expire(&self, node: &Arc<Node>) {
        {
            let state = &mut *self.state.lock();
            for at in 0..state.asked.len() {
                let reached = state.asked[at].heard_of(self.keyspace) as u64;
                let wanted = self.options.owners_min as u64;
                state.settle(at, Err(Failure::Unavailable { reached, wanted }));
            }
        }
        self.tell_if_done(node);
    }

    fn tell_if_done(&self, node: &Arc<Node>) {
        let (done, answers, mut taken) = {
            let mut state = self.state.lock();
            if state.open > 0 {
                return;
            }
            let Some(done) = state.done.take() else { return };
            for timer in std::mem::take(&mut state.timers) {
                node.runtime().cancel(timer);
            }
            let answers =
                state.asked.iter_mut().filter_map(|asked| asked.settled.clone()).collect();
            // The records were what was held of it.
            state.asked.iter_mut().for_each(|asked| asked.said.clear());
            (done, answers, state.taken.take())
        };
        // Whoever is told may ask for more at once.
        taken.iter_mut().for_each(Taken::hand_out);
        done(answers);
    }
}

impl Asked {
    fn new(node: &Node, keyspace: KeyspaceId, partition: Partition, turn: u32) -> Asked {
        let view = node.view();
        let readers = view.placed(keyspace, partition).map(|owners| owners.readers());
        let mut left = node.by_promise(&readers.unwrap_or_default());
        left.reverse();
        Asked {
            partition,
            view,
            turn,
            left,
            waiting: Vec::new(),
            stale: false,
            pauses: false,
            said: Vec::new(),
            heard: false,
            storing: None,
            settled: None,
        }
    }

    /// How far nodes count together.
    fn count(&self, keyspace: KeyspaceId, nodes: &[NodeId]) -> usize {
        self.view.placed(keyspace, self.partition).map_or(0, |owners| owners.count(nodes))
    }

    fn heard_of(&self, keyspace: KeyspaceId) -> usize {
        let said: Vec<NodeId> = self.said.iter().map(|(owner, _)| *owner).collect();
        self.count(keyspace, &said)
    }

    /// The same, if all that were asked answer.
    fn hoped_for(&self, keyspace: KeyspaceId) -> usize {
        let said = self.said.iter().map(|(owner, _)| *owner);
        let nodes: Vec<NodeId> = said.chain(self.waiting.iter().copied()).collect();
        self.count(keyspace, &nodes)
    }
}

impl State {
    fn settle(&mut self, at: usize, result: Result<Answered, Failure>) {
        let asked = &mut self.asked[at];
        if asked.settled.is_none() {
            asked.settled = Some(result);
            self.open -= 1;
        }
    }
}
