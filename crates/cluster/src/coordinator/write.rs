//! Writes, as the owner that makes their dots carries them out.

use crate::codec::message::{
    Answer, Apply, Cause, Coordinate, Coordinated, Item, Op, Outcome, StoreHint, Written,
};
use crate::coordinator::check;
use crate::coordinator::served::Admission;
use crate::node::{Made, Node, Policy, View};
use crate::runtime::TimerId;
use crate::transport::{Detail, Failure, Responder};
use base::sync::Mutex;
use base::{KeyspaceId, planted};
use ring::{Epoch, NodeId, Partition};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// How often a write is stamped again that met a later stamp.
const STAMPS_MAX: u32 = 4;
/// How long a write waits for the two sides to see the same owners, before it is sent again.
pub(super) const AGAIN_MICROS: u64 = 10_000;

/// Told of the outcomes of writes, in their order.
pub(super) type Outcomes = Box<dyn FnOnce(&Arc<Node>, Vec<Result<Written, Failure>>) + Send>;

/// What writes have to reach.
#[derive(Debug, Clone, Copy)]
pub(super) struct Goal {
    pub(super) keyspace: KeyspaceId,
    /// Owners that have to have each of them synced.
    pub(super) owners_min: usize,
    pub(super) sloppy: bool,
    pub(super) budget_micros: u64,
}

impl Goal {
    /// How long an owner may take. Stand-ins need their time, too.
    fn owner_micros(&self) -> u64 {
        if self.sloppy { self.budget_micros / 2 } else { self.budget_micros }
    }
}

/// Writes that are under way.
struct Writing {
    goal: Goal,
    policy: Arc<Policy>,
    ops: Vec<Op>,
    state: Mutex<State>,
}

struct State {
    progress: Vec<Progress>,
    /// How many of them are not settled.
    open: usize,
    timer: Option<TimerId>,
    done: Option<Outcomes>,
}

/// How far one write is.
struct Progress {
    partition: Partition,
    /// By which it was sent, and is counted.
    view: Arc<View>,
    made: Option<Made>,
    stamps: u32,
    /// How often it was stamped or sent to other owners: what is said of an earlier time does not count.
    turn: u32,
    /// Those that have it synced.
    owners: Vec<NodeId>,
    /// Stand-ins that keep it for owners.
    hinted: Vec<NodeId>,
    /// Owners and stand-ins that have not answered.
    waiting: usize,
    settled: Option<Result<Written, Failure>>,
}

impl Node {
    /// A call that another node has passed on.
    pub(crate) fn coordinate_for(
        self: &Arc<Self>,
        from: NodeId,
        callers: Epoch,
        mut call: Coordinate,
        budget_micros: u64,
        responder: Responder,
    ) {
        let epoch = self.epoch();
        let current = self.nonce();
        if call.start != current {
            return responder.fail(epoch, Failure::OtherStart { current });
        }
        if planted::is(87) {
            call.id.number = self.next_call();
        }
        if call.id.node != from {
            let detail = Detail::new("a call is named by the node that passes it on");
            return responder.fail(epoch, Failure::Invalid(detail));
        }
        let admission = self.served().lock().admit(call.id.clone(), responder);
        match admission {
            Admission::New => {}
            Admission::Running => return,
            Admission::Again(responder, outcome) => return responder.answer(epoch, outcome),
            Admission::Forgotten(responder) => {
                let wanted = u64::from(call.owners_min);
                return responder.fail(epoch, Failure::Unknown { acknowledged: 0, wanted });
            }
        }
        let goal = Goal {
            keyspace: call.keyspace,
            owners_min: usize::from(call.owners_min),
            sloppy: call.sloppy,
            // The answer has a way to go.
            budget_micros: budget_micros / 4 * 3,
        };
        let id = call.id;
        let done: Outcomes = Box::new(move |node, results| {
            let outcome = Coordinated { results };
            let waiting = node.served().lock().end(&id, &outcome);
            for responder in waiting {
                responder.answer(node.epoch(), outcome.clone());
            }
        });
        let current = self.epoch();
        if callers > current {
            // Those that it would send it to may be the wrong ones.
            let stale = Failure::StaleEpoch { current };
            return done(self, call.ops.iter().map(|_| Err(stale.clone())).collect());
        }
        self.coordinate(goal, call.ops, done);
    }

    /// Carries out writes whose keys this node owns; others are refused. Blocks on the disk, not on other nodes.
    pub(super) fn coordinate(self: &Arc<Self>, goal: Goal, ops: Vec<Op>, done: Outcomes) {
        let view = self.view();
        let known = self.check_ready().and_then(|()| view.policy(goal.keyspace));
        let policy = match known {
            Ok(policy) => self.bounded(policy),
            Err(failure) => {
                return done(self, ops.iter().map(|_| Err(failure.clone())).collect());
            }
        };
        let progress: Vec<Progress> = ops.iter().map(|op| Progress::new(&view, &op.key)).collect();
        let mut partitions: BTreeMap<Partition, Vec<usize>> = BTreeMap::new();
        for (at, one) in progress.iter().enumerate() {
            partitions.entry(one.partition).or_default().push(at);
        }
        let open = ops.len();
        let state = Mutex::new(State { progress, open, timer: None, done: Some(done) });
        let writing = Arc::new(Writing { goal, policy, ops, state });
        for (partition, ops) in partitions {
            writing.make(self, &view, partition, &ops);
        }
        let late = Arc::clone(&writing);
        let timer = self.later(goal.budget_micros, move |node| late.expire(node));
        writing.state.lock().timer = Some(timer);
        writing.tell_if_done(self);
    }
}

impl Node {
    /// A keyspace as this node takes writes to it: no record outgrows a frame.
    fn bounded(&self, policy: &Arc<Policy>) -> Arc<Policy> {
        let bounds = check::bounds(policy, self.frame_bytes_max());
        match bounds == policy.bounds {
            true => Arc::clone(policy),
            false => Arc::new(Policy { bounds, ..(**policy).clone() }),
        }
    }
}

impl Progress {
    fn new(view: &Arc<View>, key: &[u8]) -> Progress {
        Progress {
            partition: view.ring().partition_of(key),
            view: Arc::clone(view),
            made: None,
            stamps: 0,
            turn: 0,
            owners: Vec::new(),
            hinted: Vec::new(),
            waiting: 0,
            settled: None,
        }
    }
}

impl Writing {
    /// Stores writes of one partition here, then sends them on.
    fn make(
        self: &Arc<Self>,
        node: &Arc<Node>,
        view: &Arc<View>,
        partition: Partition,
        ops: &[usize],
    ) {
        let keyspace = self.goal.keyspace;
        let made = node.fenced(keyspace, partition, view.epoch(), |_| {
            self.check(node, view, partition)?;
            let wanted: Vec<&Op> = ops.iter().map(|at| &self.ops[*at]).collect();
            Ok(node.replica().make(keyspace, partition, &self.policy, &wanted))
        });
        let refused = |failure: Failure| ops.iter().map(|_| Err(failure.clone())).collect();
        let mut stored = Vec::new();
        {
            let state = &mut *self.state.lock();
            for (&at, made) in ops.iter().zip(made.unwrap_or_else(refused)) {
                match made {
                    Ok(made) => {
                        let progress = &mut state.progress[at];
                        progress.begin(node.id(), made);
                        stored.push(at);
                    }
                    Err(failure) => state.settle(at, Err(failure)),
                }
            }
        }
        self.send(node, view, partition, &stored);
    }

    /// What can be known before anything is written.
    fn check(&self, node: &Node, view: &View, partition: Partition) -> Result<(), Failure> {
        let owners = view.placed(self.goal.keyspace, partition)?;
        if !owners.list().contains(&node.id()) {
            return Err(Failure::StaleEpoch { current: view.epoch() });
        }
        let (reached, wanted) = (owners.count_max() as u64, self.goal.owners_min as u64);
        if reached < wanted { Err(Failure::Unavailable { reached, wanted }) } else { Ok(()) }
    }

    /// Sends writes of one partition to all others that take what is written to it.
    fn send(
        self: &Arc<Self>,
        node: &Arc<Node>,
        view: &Arc<View>,
        partition: Partition,
        ops: &[usize],
    ) {
        let Ok(owners) = view.placed(self.goal.keyspace, partition) else { return };
        let others: Vec<NodeId> =
            owners.writers().into_iter().filter(|id| *id != node.id()).collect();
        let mut sent = Vec::new();
        {
            let mut state = self.state.lock();
            for &at in ops {
                let progress = &mut state.progress[at];
                progress.view = Arc::clone(view);
                progress.waiting = others.len();
                sent.push((at, progress.turn));
            }
        }
        for &owner in &others {
            self.send_to(node, view, owner, partition, sent.clone());
        }
        let state = &mut *self.state.lock();
        ops.iter().for_each(|at| state.look(*at, &self.goal));
    }

    /// Sends writes to one node, as they are now; as many at a time as one frame holds.
    fn send_to(
        self: &Arc<Self>,
        node: &Arc<Node>,
        view: &Arc<View>,
        owner: NodeId,
        partition: Partition,
        sent: Vec<(usize, u32)>,
    ) {
        let (items, sent) = self.items_of(sent);
        let (keyspace, cause) = (self.goal.keyspace, Cause::Write);
        let (mut items, mut sent) = (VecDeque::from(items), VecDeque::from(sent));
        while !items.is_empty() {
            let items = Item::take_piece(&mut items, node.frame_bytes_max() / 2);
            let sent: Vec<(usize, u32)> = sent.drain(..items.len()).collect();
            let apply = Apply { keyspace, partition, cause, items };
            let this = Arc::clone(self);
            node.ask_at(
                view.epoch(),
                owner,
                self.goal.owner_micros(),
                apply,
                move |node, ended| {
                    this.heard(node, owner, &sent, ended);
                },
            );
        }
    }

    /// The records of writes that are still in the turn in which somebody wants them.
    fn items_of(&self, sent: Vec<(usize, u32)>) -> (Vec<Item>, Vec<(usize, u32)>) {
        let state = self.state.lock();
        let current = |(at, turn): &(usize, u32)| {
            let progress = &state.progress[*at];
            let made = progress.made.as_ref().filter(|_| progress.turn == *turn)?;
            Some((made.item.clone(), (*at, *turn)))
        };
        sent.iter().filter_map(current).unzip()
    }

    /// Takes what an owner says of writes.
    fn heard(
        self: &Arc<Self>,
        node: &Arc<Node>,
        owner: NodeId,
        sent: &[(usize, u32)],
        ended: Result<Answer, Failure>,
    ) {
        let results = match ended {
            Ok(Answer::Applied(applied)) if applied.results.len() == sent.len() => applied.results,
            Ok(_) => {
                sent.iter().map(|_| Err(Failure::Internal(Detail::new("no answer")))).collect()
            }
            Err(failure) => sent.iter().map(|_| Err(failure.clone())).collect(),
        };
        let (mut again, mut missed, mut stale) = (Vec::new(), Vec::new(), Vec::new());
        {
            let state = &mut *self.state.lock();
            for (&(at, turn), result) in sent.iter().zip(results) {
                let progress = &mut state.progress[at];
                if progress.turn != turn {
                    continue;
                }
                if matches!(result, Err(Failure::StaleEpoch { .. })) {
                    // It has not taken the write, and is waited for: what it says of it under one topology counts.
                    if progress.settled.is_none() {
                        stale.push((at, turn));
                    }
                    continue;
                }
                progress.waiting = progress.waiting.saturating_sub(1);
                match result {
                    Ok(Outcome::Stored | Outcome::Known) => progress.owners.push(owner),
                    Err(Failure::StaleStamp { after }) if progress.may_be_stamped_again() => {
                        // Settled by what comes of the new stamp: nobody's word for this one counts from now on.
                        progress.turn += 1;
                        again.push((at, after));
                        continue;
                    }
                    Err(_) => {
                        progress.waiting += usize::from(self.goal.sloppy);
                        missed.push((at, turn));
                    }
                }
                state.look(at, &self.goal);
            }
        }
        self.send_again(node, owner, stale);
        self.hand_off(node, owner, missed);
        for (at, after) in again {
            self.stamp_again(node, at, after);
        }
        self.tell_if_done(node);
    }

    /// A node saw other owners than this one: once both have followed, the writes are sent once more, since they are here and merge
    /// with themselves.
    fn send_again(self: &Arc<Self>, node: &Arc<Node>, owner: NodeId, stale: Vec<(usize, u32)>) {
        let Some(partition) =
            stale.first().map(|(at, _)| self.state.lock().progress[*at].partition)
        else {
            return;
        };
        let this = Arc::clone(self);
        node.later(AGAIN_MICROS, move |node| {
            node.work(move |node| {
                let view = node.view();
                let keyspace = this.goal.keyspace;
                let since = view.since(keyspace, partition);
                let (same, other): (Vec<_>, Vec<_>) = {
                    let state = this.state.lock();
                    let open = |(at, turn): &&(usize, u32)| {
                        let progress = &state.progress[*at];
                        progress.turn == *turn && progress.settled.is_none()
                    };
                    let same = |(at, _): &(usize, u32)| {
                        state.progress[*at].view.since(keyspace, partition) == since
                    };
                    stale.iter().filter(open).copied().partition(same)
                };
                this.send_to(node, &view, owner, partition, same);
                this.begin_again(node, &view, partition, other);
            });
        });
    }

    /// The owners are others by now. Nothing that was said before counts. This node says it again itself, unless it is none of them any
    /// more: the dots were its own to make when it made them.
    fn begin_again(
        self: &Arc<Self>,
        node: &Arc<Node>,
        view: &Arc<View>,
        partition: Partition,
        writes: Vec<(usize, u32)>,
    ) {
        let (items, writes) = self.items_of(writes);
        if writes.is_empty() {
            return;
        }
        let keyspace = self.goal.keyspace;
        let apply = Apply { keyspace, partition, cause: Cause::Write, items };
        let own = match view.takes(node.id(), keyspace, partition) {
            true => node.merge(view.epoch(), &apply).map(|applied| applied.results),
            false => Ok(Vec::new()),
        };
        let own = own.unwrap_or_default();
        let mut ops = Vec::new();
        {
            let state = &mut *self.state.lock();
            for (nth, &(at, _)) in writes.iter().enumerate() {
                let progress = &mut state.progress[at];
                progress.turn += 1;
                (progress.owners, progress.hinted) = Default::default();
                progress.owners.extend(own.get(nth).and_then(|own| own.is_ok().then(|| node.id())));
                ops.push(at);
            }
        }
        self.send(node, view, partition, &ops);
        self.tell_if_done(node);
    }

    /// An owner did not take writes: they are kept for it, here or by a stand-in.
    fn hand_off(self: &Arc<Self>, node: &Arc<Node>, owner: NodeId, missed: Vec<(usize, u32)>) {
        let Some(partition) =
            missed.first().map(|(at, _)| self.state.lock().progress[*at].partition)
        else {
            return;
        };
        let (items, missed) = self.items_of(missed);
        let Some((at, _)) = missed.first() else { return };
        if !self.goal.sloppy {
            return node.keep_hint(owner, self.goal.keyspace, partition, &items);
        }
        let view = Arc::clone(&self.state.lock().progress[*at].view);
        let mut stand_ins: Vec<NodeId> = view.stand_ins(self.goal.keyspace, partition).collect();
        // Each owner has its own first choice.
        let owners = view.owners(self.goal.keyspace, partition);
        let rank = owners.iter().position(|id| *id == owner).unwrap_or(0);
        let turns = rank % stand_ins.len().max(1);
        stand_ins.rotate_left(turns);
        let stand_ins = node.by_promise(&stand_ins).into_iter().rev().collect();
        let hint = StoreHint { target: owner, keyspace: self.goal.keyspace, partition, items };
        self.ask_stand_in(node, &view, hint, stand_ins, missed);
    }

    /// Asks one stand-in after the other, but none that keeps the write already: for two owners it would still be one copy.
    fn ask_stand_in(
        self: &Arc<Self>,
        node: &Arc<Node>,
        view: &Arc<View>,
        hint: StoreHint,
        mut left: Vec<NodeId>,
        missed: Vec<(usize, u32)>,
    ) {
        {
            let state = self.state.lock();
            let taken = missed.first().map(|(at, _)| state.progress[*at].hinted.clone());
            left.retain(|stand_in| !taken.iter().flatten().any(|taken| taken == stand_in));
        }
        let Some(stand_in) = left.pop() else {
            let state = &mut *self.state.lock();
            for (at, turn) in missed {
                if state.progress[at].turn == turn {
                    let waiting = &mut state.progress[at].waiting;
                    *waiting = waiting.saturating_sub(1);
                    state.look(at, &self.goal);
                }
            }
            return;
        };
        let (this, view) = (Arc::clone(self), Arc::clone(view));
        let (epoch, micros) = (view.epoch(), self.goal.owner_micros() / 2);
        node.ask_at(epoch, stand_in, micros, hint.clone(), move |node, ended| {
            if !matches!(ended, Ok(Answer::HintStored(_))) {
                this.ask_stand_in(node, &view, hint, left, missed);
                return this.tell_if_done(node);
            }
            {
                let state = &mut *this.state.lock();
                for (at, turn) in missed {
                    let progress = &mut state.progress[at];
                    if progress.turn == turn {
                        progress.waiting = progress.waiting.saturating_sub(1);
                        // Two owners kept for by one node are one copy.
                        if !progress.hinted.contains(&stand_in) {
                            progress.hinted.push(stand_in);
                        }
                        state.look(at, &this.goal);
                    }
                }
            }
            this.tell_if_done(node);
        });
    }

    /// A write that would lose to one that was there before it is written once more, with a later stamp.
    fn stamp_again(self: &Arc<Self>, node: &Arc<Node>, at: usize, after: crate::clock::Stamp) {
        let (partition, view, before) = {
            let progress = &self.state.lock().progress[at];
            let before = progress.made.as_ref().map(|made| made.dot);
            (progress.partition, Arc::clone(&progress.view), before)
        };
        let Some(before) = before else { return };
        let mut op = self.ops[at].clone();
        op.after = op.after.max(after);
        let keyspace = self.goal.keyspace;
        let made = node.fenced(keyspace, partition, view.epoch(), |_| {
            self.check(node, &view, partition)?;
            node.replica().make_again(keyspace, partition, &self.policy, &op, before)
        });
        match made {
            Ok(made) => {
                self.state.lock().progress[at].begin(node.id(), made);
                self.send(node, &view, partition, &[at]);
            }
            // What was stored before stays, and may win or lose.
            Err(_) => {
                let state = &mut *self.state.lock();
                let failure = state.progress[at].unknown(&self.goal);
                state.settle(at, Err(failure));
            }
        }
    }

    /// The time is up: what too few owners have said to have is unknown.
    fn expire(&self, node: &Arc<Node>) {
        {
            let state = &mut *self.state.lock();
            for at in 0..state.progress.len() {
                state.progress[at].waiting = 0;
                state.look(at, &self.goal);
                let failure = state.progress[at].unknown(&self.goal);
                state.settle(at, Err(failure));
            }
        }
        self.tell_if_done(node);
    }

    fn tell_if_done(&self, node: &Arc<Node>) {
        let (done, results) = {
            let mut state = self.state.lock();
            if state.open > 0 {
                return;
            }
            let Some(done) = state.done.take() else { return };
            if let Some(timer) = state.timer.take() {
                node.runtime().cancel(timer);
            }
            let results = state.progress.iter_mut().map(|progress| {
                let unknown = progress.unknown(&self.goal);
                progress.settled.clone().unwrap_or(Err(unknown))
            });
            (done, results.collect())
        };
        done(node, results);
    }
}

impl State {
    /// Settles a write, unless it is.
    fn settle(&mut self, at: usize, result: Result<Written, Failure>) {
        let progress = &mut self.progress[at];
        if progress.settled.is_none() {
            progress.settled = Some(result);
            self.open -= 1;
        }
    }

    /// Looks whether a write has what it needs, or cannot get it any more.
    fn look(&mut self, at: usize, goal: &Goal) {
        let progress = &self.progress[at];
        let Some(made) = &progress.made else { return };
        let hinted = if goal.sloppy { progress.hinted.len() } else { 0 };
        let reached = progress.reached(goal) + usize::from(planted::is(91));
        if reached >= goal.owners_min
            || (progress.waiting == 0 && reached + hinted >= goal.owners_min)
        {
            let written = Written {
                dot: made.dot,
                stamp: made.stamp,
                context: made.context.clone(),
                owners: progress.owners_of(goal),
                hinted: progress.hinted.clone(),
            };
            self.settle(at, Ok(written));
        } else if progress.waiting == 0 {
            let failure = progress.unknown(goal);
            self.settle(at, Err(failure));
        }
    }
}

impl Progress {
    /// One that is acknowledged is not: another write may have followed it since, and would come before it.
    fn may_be_stamped_again(&self) -> bool {
        self.settled.is_none() && self.stamps < STAMPS_MAX
    }

    /// The write is stored at `owner`, with this dot.
    fn begin(&mut self, owner: NodeId, made: Made) {
        self.made = Some(made);
        self.stamps += 1;
        self.turn += 1;
        self.owners = vec![owner];
        self.hinted = Vec::new();
    }

    /// How far those that have it count.
    fn reached(&self, goal: &Goal) -> usize {
        let owners = self.view.placed(goal.keyspace, self.partition);
        owners.map_or(0, |owners| owners.count(&self.owners))
    }

    /// The owners among those that have it.
    fn owners_of(&self, goal: &Goal) -> Vec<NodeId> {
        let owns = |node: &NodeId| self.view.is_owner(*node, goal.keyspace, self.partition);
        self.owners.iter().copied().filter(owns).collect()
    }

    fn unknown(&self, goal: &Goal) -> Failure {
        let (acknowledged, wanted) = (self.reached(goal) as u64, goal.owners_min as u64);
        Failure::Unknown { acknowledged, wanted }
    }
}
