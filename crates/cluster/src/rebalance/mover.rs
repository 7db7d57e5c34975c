//! What one node does: receives what it is to own, deletes what it owned.

use super::duty::{Duty, duty};
use super::record::{Cursor, MoveRecord, MoveReport, Moving, Report};
use crate::topology::{Role, Stage, Topology};
use base::planted;
use ring::{Epoch, NodeId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Bytes of one [`MoverEffect::Fetch`], at most: they are in memory at once.
const FETCH_BYTES_MAX: u64 = 8 << 20;
/// The same, at least, however low the throttle is: less is not worth a table.
const FETCH_BYTES_MIN: u64 = 2 << 20;
/// A throttle lets through at once what it does in one second, divided by this.
const FETCHES_PER_SECOND: u64 = 2;
/// Fetches under way: one is on its way while another one is stored. More of them would hold threads and the disk that clients wait for.
const FETCHES_MAX: usize = 2;

/// Names one thing that was asked for, so that its end is not taken for that of another. Not reused by one [`Mover`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Tuning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MoverOptions {
    /// When what failed is tried again, in microseconds. Default 500 ms.
    pub retry_micros: u64,
    /// The throttle of a job is for all its receivers together, as is right where these are nodes of one process, with one disk and
    /// the same processors; otherwise it is for each. Default false.
    pub together: bool,
}

impl Default for MoverOptions {
    fn default() -> Self {
        MoverOptions { retry_micros: 500_000, together: false }
    }
}

/// What a mover is told.
#[derive(Debug, Clone)]
pub enum MoverEvent {
    /// The node is at this topology: it is stored, synced, and older requests are refused by it. Older ones than before are passed over.
    Topology(Arc<Topology>),
    /// A [`MoverEffect::Fetch`] ended: with the bytes of the pages, and where to go on; `None` if there are no more.
    Fetched(Ticket, Result<(u64, Option<Cursor>), ()>),
    /// A [`MoverEffect::AskEpoch`] ended: the node's topology, stored, is of this epoch.
    Epoch(Ticket, Result<Epoch, ()>),
    /// A [`MoverEffect::CatchUp`], [`MoverEffect::Store`] or [`MoverEffect::Drop`] ended.
    Done(Ticket, Result<(), ()>),
    /// A [`MoverEffect::Wake`] is due.
    Woken,
}

/// What a mover wants done. All but the last end with an event; `Err` where they did not happen or may not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MoverEffect {
    /// Ask `from` for pages of all that it stores (of keyspaces with so many replicas, deletes too), beginning at the cursor, and merge
    /// them: at least one page, and no further one once there are `bytes_max`. `record`, with its cursor set behind the pages and their
    /// bytes added, is stored and synced with the last of what is merged. Nothing is merged
    /// once the node's topology says that it neither owns nor receives it: it may have been deleted meanwhile.
    Fetch {
        /// Names it.
        ticket: Ticket,
        /// Whom to ask.
        from: NodeId,
        /// What moves.
        moving: Moving,
        /// The record so far.
        record: MoveRecord,
        /// Bytes to ask for at once, about.
        bytes_max: u64,
    },
    /// Ask a node for the epoch of its topology.
    AskEpoch {
        /// Names it.
        ticket: Ticket,
        /// Whom to ask.
        node: NodeId,
    },
    /// Exchange with a node until all that it had at the beginning is here, synced; with the same care for what comes late.
    CatchUp {
        /// Names it.
        ticket: Ticket,
        /// With whom.
        with: NodeId,
        /// What moves.
        moving: Moving,
    },
    /// Store the record, synced.
    Store {
        /// Names it.
        ticket: Ticket,
        /// What moves.
        moving: Moving,
        /// The record.
        record: MoveRecord,
    },
    /// Delete all that is stored of it, and the record, synced; but not if the node's topology says by then that it owns or receives it.
    Drop {
        /// Names it.
        ticket: Ticket,
        /// What is deleted.
        moving: Moving,
    },
    /// Delete the record: what moved is owned now. Nothing rests on whether it happens.
    Forget {
        /// What moved.
        moving: Moving,
    },
    /// Come back later.
    Wake {
        /// In so many microseconds.
        micros: u64,
    },
}

/// Where a task stands. A step that is under way has its ticket.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// To copy, from the source with this number among those there are.
    Copying { source: usize, under_way: Option<Ticket> },
    /// To store that all is copied.
    StoreCopied(Option<Ticket>),
    /// Copied. The driver goes on.
    Copied,
    /// To ask the sources that have not said yet that they know, and then to exchange with them, one after the other.
    Fencing { left: Vec<NodeId>, under_way: Option<Ticket> },
    /// To exchange with the last of these, which knows.
    CatchingUp { left: Vec<NodeId>, under_way: Option<Ticket> },
    /// To store that it has caught up.
    StoreCaughtUp(Option<Ticket>),
    /// All is here.
    Ready,
    /// To delete.
    Dropping(Option<Ticket>),
    /// Deleted.
    Dropped,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Task {
    state: State,
    duty: Duty,
    record: MoveRecord,
    since: Epoch,
    /// Not to be tried before, on the monotonic clock.
    not_before: u64,
}

/// Works on the moves of one node.
#[derive(Debug)]
pub struct Mover {
    node: NodeId,
    options: MoverOptions,
    topology: Option<Arc<Topology>>,
    /// What is on disk.
    records: BTreeMap<Moving, MoveRecord>,
    tasks: BTreeMap<Moving, Task>,
    tickets: u64,
    under_way: BTreeMap<Ticket, Moving>,
    /// When the throttle lets the next fetch through, on the monotonic clock: what is under way counts as if it brought all that was
    /// asked for.
    free_at: u64,
    /// When the next wake was asked for.
    wake_at: Option<u64>,
}

impl Mover {
    /// A mover of `node`, which has these records on its disk.
    #[must_use]
    pub fn new(
        node: NodeId,
        options: MoverOptions,
        records: BTreeMap<Moving, MoveRecord>,
    ) -> Mover {
        Mover {
            node,
            options,
            topology: None,
            records,
            tasks: BTreeMap::new(),
            tickets: 0,
            under_way: BTreeMap::new(),
            free_at: 0,
            wake_at: None,
        }
    }

    /// Takes an event; `now_micros` is the monotonic clock.
    pub fn handle(&mut self, now_micros: u64, event: MoverEvent) -> Vec<MoverEffect> {
        let mut effects = Vec::new();
        match event {
            MoverEvent::Topology(topology) => self.follow(topology, &mut effects),
            MoverEvent::Fetched(ticket, result) => self.fetched(now_micros, ticket, result),
            MoverEvent::Epoch(ticket, result) => self.epoch_is(now_micros, ticket, result),
            MoverEvent::Done(ticket, result) => self.done(now_micros, ticket, result),
            MoverEvent::Woken => self.wake_at = None,
        }
        self.go_on(now_micros, &mut effects);
        effects
    }

    /// How far all of it has come, by what is on disk.
    #[must_use]
    pub fn report(&self) -> Report {
        let epoch = self.topology.as_ref().map_or(Epoch(0), |topology| topology.epoch());
        let mut report = Report { epoch, moves: Vec::new(), cleaned: Vec::new() };
        for (&moving, task) in &self.tasks {
            match task.state {
                State::Dropped => report.cleaned.push(moving),
                State::Dropping(_) => {}
                _ => report.moves.push(MoveReport { moving, record: task.record.clone() }),
            }
        }
        report
    }

    // ---- what there is to do ----

    fn follow(&mut self, topology: Arc<Topology>, effects: &mut Vec<MoverEffect>) {
        if self.topology.as_ref().is_some_and(|known| known.epoch() >= topology.epoch()) {
            return;
        }
        let rate = |topology: &Topology| topology.job().map(|job| job.bytes_per_second);
        if self.topology.as_deref().and_then(rate) != rate(&topology) {
            // What was reserved at the old rate says nothing of the new one.
            self.free_at = 0;
        }
        let mut tasks = std::mem::take(&mut self.tasks);
        for moving in under_way(&topology, self.node) {
            if let Some(task) = self.task(&topology, moving, tasks.remove(&moving)) {
                self.tasks.insert(moving, task);
            }
        }
        // What is under way for a task that is gone ends without anybody who listens.
        self.under_way.retain(|_, moving| self.tasks.contains_key(moving));
        let over: Vec<Moving> = self
            .records
            .keys()
            .filter(|moving| !self.tasks.contains_key(moving))
            .copied()
            .collect();
        for moving in over {
            self.records.remove(&moving);
            effects.push(MoverEffect::Forget { moving });
        }
        self.topology = Some(topology);
    }

    /// The task as it is now, given what it was.
    fn task(&self, topology: &Topology, moving: Moving, old: Option<Task>) -> Option<Task> {
        let placement = topology.placement(usize::from(moving.replicas))?;
        let owners = placement.owners(moving.partition)?;
        let since = owners.since();
        if owners.role(self.node) == Some(Role::Departing) {
            let dropping = |task: &Task| matches!(task.state, State::Dropping(_) | State::Dropped);
            return old.filter(dropping).or_else(|| {
                let (duty, record) = (Duty::none(), MoveRecord::default());
                Some(Task { state: State::Dropping(None), duty, record, since, not_before: 0 })
            });
        }
        let gives = owners.handovers().iter().any(|handover| handover.from == Some(self.node));
        if planted::is(95) && gives && placement.step(moving.partition)?.stage == Some(Stage::Joint)
        {
            let (duty, record) = (Duty::none(), MoveRecord::default());
            let state = State::Dropping(None);
            return Some(Task { state, duty, record, since, not_before: 0 });
        }
        let duty = duty(topology, moving, self.node)?;
        if let Some(old) = old.filter(|old| old.since == since && old.duty == duty) {
            return Some(old);
        }
        let job = topology.job()?.id;
        let stored = self.records.get(&moving).filter(|record| record.job == job);
        let record = stored.cloned().unwrap_or_else(|| MoveRecord::begin(job));
        let state = match placement.step(moving.partition)?.stage? {
            Stage::Copying if duty.copy_from.is_empty() || record.copied => State::Copied,
            Stage::Copying => State::Copying { source: 0, under_way: None },
            _ if record.caught_up == Some(since) => State::Ready,
            _ if planted::is(94) => State::Fencing { left: Vec::new(), under_way: None },
            _ => State::Fencing { left: duty.catch_up_with.clone(), under_way: None },
        };
        Some(Task { state, duty, record, since, not_before: 0 })
    }

    /// Begins whatever can begin now.
    fn go_on(&mut self, now: u64, effects: &mut Vec<MoverEffect>) {
        let Some(topology) = self.topology.clone() else { return };
        let paused = topology.job().is_some_and(|job| job.paused);
        let rate = rate_of(&topology, self.options.together);
        let bytes_max = fetch_bytes(rate);
        let fetches =
            |task: &&Task| matches!(task.state, State::Copying { under_way: Some(_), .. });
        let mut fetching = self.tasks.values().filter(fetches).count();
        let moving: Vec<Moving> = self.tasks.keys().copied().collect();
        let mut wake: Option<u64> = None;
        for moving in moving {
            let Some(task) = self.tasks.get(&moving) else { continue };
            let copies = matches!(task.state, State::Copying { under_way: None, .. });
            // The end of one that is under way comes back here.
            if copies && (paused || fetching == FETCHES_MAX) {
                continue;
            }
            let due = if copies { task.not_before.max(self.free_at) } else { task.not_before };
            if due > now {
                wake = Some(wake.map_or(due, |wake| wake.min(due)));
                continue;
            }
            let ticket = Ticket(self.tickets + 1);
            let Some(effect) =
                self.tasks.get_mut(&moving).and_then(|task| task.begin(moving, ticket, bytes_max))
            else {
                continue;
            };
            if copies {
                fetching += 1;
                self.free_at = self.free_at.max(now).saturating_add(micros_of(bytes_max, rate));
            }
            self.tickets += 1;
            self.under_way.insert(ticket, moving);
            effects.push(effect);
        }
        if let Some(due) = wake
            && self.wake_at.is_none_or(|at| due < at)
        {
            self.wake_at = Some(due);
            effects.push(MoverEffect::Wake { micros: due - now });
        }
    }

    // ---- how it ended ----

    /// The task that waits for `ticket`, which it does no more.
    fn take(&mut self, ticket: Ticket) -> Option<(Moving, &mut Task)> {
        let moving = self.under_way.remove(&ticket)?;
        let task = self.tasks.get_mut(&moving)?;
        let under_way = task.state.under_way()?;
        if *under_way != Some(ticket) {
            // The end of what another task of this partition had begun: what this one waits for is under way still.
            return None;
        }
        *under_way = None;
        Some((moving, task))
    }

    fn fetched(&mut self, now: u64, ticket: Ticket, result: Result<(u64, Option<Cursor>), ()>) {
        let together = self.options.together;
        let rate = self.topology.as_ref().map_or(0, |topology| rate_of(topology, together));
        let retry = self.options.retry_micros;
        let bytes = result.as_ref().map_or(0, |(bytes, _)| *bytes);
        let (reserved, used) = (micros_of(fetch_bytes(rate), rate), micros_of(bytes, rate));
        self.free_at = self.free_at.saturating_add(used).saturating_sub(reserved);
        let Some((moving, task)) = self.take(ticket) else { return };
        let Ok((_, next)) = result else { return task.fail_over(now + retry) };
        task.record.bytes += bytes;
        task.record.cursor.clone_from(&next);
        if next.is_none() {
            task.state = State::StoreCopied(None);
        }
        let record = task.record.clone();
        self.records.insert(moving, record);
    }

    fn epoch_is(&mut self, now: u64, ticket: Ticket, result: Result<Epoch, ()>) {
        let retry = self.options.retry_micros;
        let Some((_, task)) = self.take(ticket) else { return };
        let State::Fencing { left, .. } = &task.state else { return };
        let left = left.clone();
        match result {
            Ok(epoch) if epoch >= task.since => {
                task.state = State::CatchingUp { left, under_way: None };
            }
            // It was told by the question that there is a newer one.
            _ => task.not_before = now + retry,
        }
    }

    fn done(&mut self, now: u64, ticket: Ticket, result: Result<(), ()>) {
        let retry = self.options.retry_micros;
        let Some((moving, task)) = self.take(ticket) else { return };
        if result.is_err() {
            // A node that did not answer may have forgotten what it knew.
            if let State::CatchingUp { left, .. } = &task.state {
                task.state = State::Fencing { left: left.clone(), under_way: None };
            }
            task.not_before = now + retry;
            return;
        }
        match &mut task.state {
            State::StoreCopied(_) => {
                task.record.copied = true;
                task.state = State::Copied;
            }
            State::CatchingUp { left, .. } => {
                left.pop();
                let left = std::mem::take(left);
                task.state = State::Fencing { left, under_way: None };
            }
            State::StoreCaughtUp(_) => {
                task.record.caught_up = Some(task.since);
                task.state = State::Ready;
            }
            State::Dropping(_) => task.state = State::Dropped,
            _ => {}
        }
        if task.state == State::Dropped {
            self.records.remove(&moving);
        } else {
            let record = task.record.clone();
            self.records.insert(moving, record);
        }
    }
}

impl Task {
    /// The next thing to ask for, if nothing is under way and there is any.
    fn begin(&mut self, moving: Moving, ticket: Ticket, bytes_max: u64) -> Option<MoverEffect> {
        if let State::Fencing { left, .. } = &self.state
            && left.is_empty()
        {
            self.state = State::StoreCaughtUp(None);
        }
        let source = match &self.state {
            State::Copying { source, .. } => self.duty.copy_from.get(*source).copied(),
            State::Fencing { left, .. } | State::CatchingUp { left, .. } => left.last().copied(),
            _ => None,
        };
        let record = self.record.clone();
        let effect = match &self.state {
            State::Copying { .. } => {
                MoverEffect::Fetch { ticket, from: source?, moving, record, bytes_max }
            }
            State::StoreCopied(_) => {
                let record = MoveRecord { copied: true, ..record };
                MoverEffect::Store { ticket, moving, record }
            }
            State::Fencing { .. } => MoverEffect::AskEpoch { ticket, node: source? },
            State::CatchingUp { .. } => MoverEffect::CatchUp { ticket, with: source?, moving },
            State::StoreCaughtUp(_) => {
                let record = MoveRecord { caught_up: Some(self.since), ..record };
                MoverEffect::Store { ticket, moving, record }
            }
            State::Dropping(_) => MoverEffect::Drop { ticket, moving },
            State::Copied | State::Ready | State::Dropped => return None,
        };
        let under_way = self.state.under_way()?;
        if under_way.is_some() {
            return None;
        }
        *under_way = Some(ticket);
        Some(effect)
    }

    /// The next source, later.
    fn fail_over(&mut self, not_before: u64) {
        let sources = self.duty.copy_from.len();
        if let State::Copying { source, .. } = &mut self.state {
            *source = (*source + 1) % sources.max(1);
        }
        self.not_before = not_before;
    }
}

impl State {
    fn under_way(&mut self) -> Option<&mut Option<Ticket>> {
        match self {
            State::Copying { under_way, .. }
            | State::Fencing { under_way, .. }
            | State::CatchingUp { under_way, .. }
            | State::StoreCopied(under_way)
            | State::StoreCaughtUp(under_way)
            | State::Dropping(under_way) => Some(under_way),
            State::Copied | State::Ready | State::Dropped => None,
        }
    }
}

impl Duty {
    fn none() -> Duty {
        Duty { copy_from: Vec::new(), catch_up_with: Vec::new() }
    }
}

/// Bytes a second that a receiver may be sent under `topology`; 0 is no limit. `together`: as [`MoverOptions::together`].
fn rate_of(topology: &Topology, together: bool) -> u64 {
    let rate = topology.job().map_or(0, |job| job.bytes_per_second);
    if rate == 0 || !together {
        return rate;
    }
    let steps = topology.placements().iter().flat_map(|placement| placement.steps());
    let to_copy = steps.filter(|step| step.stage < Some(Stage::Joint));
    let receivers: BTreeSet<NodeId> = to_copy
        .flat_map(|step| {
            step.handovers.iter().filter_map(|handover| handover.to).collect::<Vec<_>>()
        })
        .collect();
    (rate / receivers.len().max(1) as u64).max(1)
}

/// Bytes to ask for at once where so many bytes a second may be sent; 0 is no limit.
fn fetch_bytes(rate: u64) -> u64 {
    match rate {
        0 => FETCH_BYTES_MAX,
        rate => (rate / FETCHES_PER_SECOND).clamp(FETCH_BYTES_MIN, FETCH_BYTES_MAX),
    }
}

/// How long so many bytes take at so many bytes a second, in microseconds; 0 without a limit.
fn micros_of(bytes: u64, rate: u64) -> u64 {
    let micros = u128::from(bytes) * 1_000_000 / u128::from(rate.max(1));
    if rate == 0 { 0 } else { u64::try_from(micros).unwrap_or(u64::MAX / 4) }
}

/// Everything that `node` may have to do something for.
fn under_way(topology: &Topology, node: NodeId) -> BTreeSet<Moving> {
    let mut all = BTreeSet::new();
    for placement in topology.placements() {
        let replicas = placement.replicas() as u8;
        let moving = |partition| Moving { replicas, partition };
        let stages = placement.under_way().map(|(partition, _)| moving(partition));
        all.extend(stages);
        let departing = placement.departing().filter(|(_, held)| *held == node);
        all.extend(departing.map(|(partition, _)| moving(partition)));
    }
    all
}
