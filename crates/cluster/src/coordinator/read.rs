//! Reads: owners are asked, what they say is merged, and who was behind is told.

use crate::codec::message::{
    Answer, Applied, Apply, Cause, Item, Outcome, Read, Records, Stored, Wanted,
};
use crate::node::{Node, Policy, View};
use crate::record::Record;
use crate::runtime::TimerId;
use crate::transport::{Detail, Failure};
use base::sync::Mutex;
use base::{KeyspaceId, Slice};
use ring::NodeId;
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
    view: Arc<View>,
    keys: Vec<Slice>,
    state: Mutex<State>,
}

struct State {
    asked: Vec<Asked>,
    open: usize,
    timers: Vec<TimerId>,
    done: Option<Done>,
}

/// One key: who was asked, and what they said.
#[derive(Default)]
struct Asked {
    /// Owners not asked yet, the next one last.
    left: Vec<NodeId>,
    waiting: usize,
    said: Vec<(NodeId, Record)>,
    /// Enough was said: what comes now does not change the answer.
    heard: bool,
    /// Merged; what is left is to store it at as many owners as it takes.
    storing: Option<Storing>,
    settled: Option<Result<Answered, Failure>>,
}

struct Storing {
    answered: Answered,
    /// Owners that have it.
    stored: usize,
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
        let policy = match view.policy(keyspace) {
            Ok(policy) => Arc::clone(policy),
            Err(failure) => return done(keys.iter().map(|_| Err(failure.clone())).collect()),
        };
        let ask = |key: &Slice| {
            let mut left = self.by_promise(view.owners(keyspace, view.ring().partition_of(key)));
            left.reverse();
            Asked { left, ..Asked::default() }
        };
        let asked: Vec<Asked> = keys.iter().map(ask).collect();
        let (open, timers) = (asked.len(), Vec::new());
        let state = Mutex::new(State { asked, open, timers, done: Some(Box::new(done)) });
        let reading = Arc::new(Reading { keyspace, policy, options, view, keys, state });
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
        self.state.lock().timers = timers;
        self.ask_more(node, false);
    }

    /// Asks for each key as many owners as may still be needed; `all` asks those as well that would be asked last.
    fn ask_more(self: &Arc<Self>, node: &Arc<Node>, all: bool) {
        let mut to: BTreeMap<NodeId, Vec<usize>> = BTreeMap::new();
        {
            let state = &mut *self.state.lock();
            for at in 0..state.asked.len() {
                let asked = &mut state.asked[at];
                if asked.settled.is_some() || asked.heard {
                    continue;
                }
                let wanted = self.options.owners_min.max(1);
                while all || asked.said.len() + asked.waiting < wanted {
                    let Some(owner) = asked.left.pop() else { break };
                    asked.waiting += 1;
                    to.entry(owner).or_default().push(at);
                }
                if asked.waiting == 0 && asked.said.len() < wanted {
                    let reached = asked.said.len() as u64;
                    let failure = Failure::Unavailable { reached, wanted: wanted as u64 };
                    state.settle(at, Err(failure));
                }
            }
        }
        for (owner, keys) in to {
            self.ask(node, owner, keys);
        }
        self.tell_if_done(node);
    }

    fn ask(self: &Arc<Self>, node: &Arc<Node>, owner: NodeId, keys: Vec<usize>) {
        let read = Read {
            keyspace: self.keyspace,
            wanted: Wanted::Whole,
            keys: keys.iter().map(|at| self.keys[*at].clone()).collect(),
        };
        if owner == node.id() {
            let said = node.answer_read(&self.view, &read);
            return self.heard(node, owner, &keys, said);
        }
        let this = Arc::clone(self);
        node.ask(owner, self.options.timeout_micros, read, move |node, ended| {
            let said = match ended {
                Ok(Answer::Records(records)) => Ok(records),
                Ok(_) => Err(Failure::Internal(Detail::new("no answer to this"))),
                Err(failure) => Err(failure),
            };
            this.heard(node, owner, &keys, said);
        });
    }

    fn heard(
        self: &Arc<Self>,
        node: &Arc<Node>,
        owner: NodeId,
        keys: &[usize],
        said: Result<Records, Failure>,
    ) {
        let records = said.map(|said| said.records).unwrap_or_default();
        let mut records = records.into_iter();
        let mut whole = Vec::new();
        {
            let state = &mut *self.state.lock();
            for &at in keys {
                let asked = &mut state.asked[at];
                asked.waiting -= 1;
                match records.next() {
                    Some(Stored::Whole(record)) => asked.said.push((owner, record)),
                    Some(Stored::Absent) => asked.said.push((owner, Record::default())),
                    _ => continue,
                }
                let enough = asked.said.len() >= self.options.owners_min.max(1);
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

    /// Enough owners have spoken for a key.
    fn merge(self: &Arc<Self>, node: &Arc<Node>, at: usize) {
        let (said, others) = {
            let state = self.state.lock();
            (state.asked[at].said.clone(), state.asked[at].left.clone())
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
        let served_by = said.iter().map(|(owner, _)| *owner).collect();
        let answered = Answered { record: merged.clone(), served_by };
        {
            let owners =
                self.view.owners(self.keyspace, self.view.ring().partition_of(&self.keys[at]));
            let state = &mut *self.state.lock();
            let stored = said.len() - behind.len();
            // Any later read meets one of these.
            let wanted = owners.len() + 1 - self.options.owners_min.clamp(1, owners.len());
            if self.options.monotonic && stored < wanted {
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
        let partition = self.view.ring().partition_of(&self.keys[at]);
        let items = vec![Item { key: self.keys[at].clone(), record, made_by: None }];
        let cause = Cause::ReadRepair;
        if owner == node.id() {
            let mode = self.policy.mode;
            let results = node.replica().apply(self.keyspace, partition, mode, cause, &items);
            return self.repaired(node, at, &results);
        }
        let apply = Apply { keyspace: self.keyspace, partition, cause, items };
        let this = Arc::clone(self);
        node.ask(owner, self.options.timeout_micros, apply, move |node, ended| {
            let results = match ended {
                Ok(Answer::Applied(Applied { results })) => results,
                _ => Vec::new(),
            };
            this.repaired(node, at, &results);
        });
    }

    fn repaired(&self, node: &Arc<Node>, at: usize, results: &[Result<Outcome, Failure>]) {
        {
            let state = &mut *self.state.lock();
            let Some(storing) = &mut state.asked[at].storing else { return };
            storing.waiting -= 1;
            storing.stored += usize::from(matches!(results, [Ok(_)]));
            if storing.stored >= storing.wanted {
                let answered = storing.answered.clone();
                state.settle(at, Ok(answered));
            } else if storing.waiting == 0 {
                let (reached, wanted) = (storing.stored as u64, storing.wanted as u64);
                state.settle(at, Err(Failure::Unavailable { reached, wanted }));
            }
        }
        self.tell_if_done(node);
    }

    fn expire(&self, node: &Arc<Node>) {
        {
            let state = &mut *self.state.lock();
            for at in 0..state.asked.len() {
                let reached = state.asked[at].said.len() as u64;
                let wanted = self.options.owners_min as u64;
                state.settle(at, Err(Failure::Unavailable { reached, wanted }));
            }
        }
        self.tell_if_done(node);
    }

    fn tell_if_done(&self, node: &Arc<Node>) {
        let (done, answers) = {
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
            (done, answers)
        };
        done(answers);
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
