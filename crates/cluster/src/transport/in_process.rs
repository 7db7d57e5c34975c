//! Nodes of one process. Every message is encoded, sent over a link that may break, and decoded.

use super::{
    Call, Class, Detail, Done, Ended, Failure, Incoming, Limits, Link, NotUnderstood, Reply,
    Responder, Service, Transport,
};
use crate::codec::frame::{self, Frame, Header};
use crate::codec::message::{Answer, Failed, Request};
use crate::runtime::{Runtime, TimerId};
use base::rng::Rng;
use base::sync::Mutex;
use ring::{Epoch, NodeId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Weak};

/// When it may be worth to try a node again that is overloaded, in microseconds.
const RETRY_AFTER_MICROS: u64 = 10_000;

/// A network in memory. On a [`SimRuntime`](crate::runtime::SimRuntime) one seed replays one run.
pub struct InProcess {
    runtime: Arc<dyn Runtime>,
    limits: Limits,
    cluster: u64,
    this: Weak<InProcess>,
    state: Mutex<State>,
}

/// What happened so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Counts {
    /// Frames handed to a link, and their bytes.
    pub frames_sent: u64,
    /// Bytes of these.
    pub bytes_sent: u64,
    /// Copies of frames that arrived whole.
    pub frames_arrived: u64,
    /// Frames that vanished on a link or at a cut.
    pub frames_lost: u64,
    /// Frames that were sent twice.
    pub frames_doubled: u64,
    /// Copies that arrived and were refused, because their bytes are not those that were sent.
    pub frames_damaged: u64,
    /// Calls that were not sent: too large.
    pub refused_too_large: u64,
    /// Calls that were not sent: too much under way.
    pub refused_overloaded: u64,
    /// Calls that ended without an answer in time.
    pub timeouts: u64,
    /// Answers to calls that had ended.
    pub answers_late: u64,
}

struct State {
    rng: Rng,
    services: BTreeMap<NodeId, Bound>,
    bindings: u64,
    calls: BTreeMap<u64, Pending>,
    calls_made: u64,
    /// Bytes under way by (from, to, vital).
    in_flight: BTreeMap<(NodeId, NodeId, bool), usize>,
    link: Link,
    links: BTreeMap<(NodeId, NodeId), Link>,
    cuts: BTreeSet<(NodeId, NodeId)>,
    counts: Counts,
    trace: u64,
}

#[derive(Clone)]
struct Bound {
    service: Arc<dyn Service>,
    binding: u64,
}

struct Pending {
    from: NodeId,
    to: NodeId,
    class: Class,
    bytes: usize,
    /// A service has it.
    delivered: bool,
    timer: Option<TimerId>,
    done: Done,
}

impl InProcess {
    /// A network over `runtime`, with links as the default one says: no delay, no faults. `seed` draws what happens on the links.
    #[must_use]
    pub fn new(runtime: Arc<dyn Runtime>, seed: u64, limits: Limits) -> Arc<InProcess> {
        let mut rng = Rng::new(seed);
        let cluster = rng.next_u64();
        let state = State {
            rng,
            services: BTreeMap::new(),
            bindings: 0,
            calls: BTreeMap::new(),
            calls_made: 0,
            in_flight: BTreeMap::new(),
            link: Link::default(),
            links: BTreeMap::new(),
            cuts: BTreeSet::new(),
            counts: Counts::default(),
            trace: 0,
        };
        let state = Mutex::new(state);
        Arc::new_cyclic(|this| InProcess { runtime, limits, cluster, this: this.clone(), state })
    }

    // ---- faults ----

    /// All links that have none of their own are `link` from now on.
    pub fn set_links(&self, link: Link) {
        self.state.lock().link = link;
    }

    /// What is sent by `from` to `to` goes over `link` from now on.
    pub fn set_link(&self, from: NodeId, to: NodeId, link: Link) {
        self.state.lock().links.insert((from, to), link);
    }

    /// Nothing that `from` sends reaches `to` any more; the other direction stays. What is on its way still arrives.
    pub fn cut(&self, from: NodeId, to: NodeId) {
        self.state.lock().cuts.insert((from, to));
    }

    /// Cuts both directions.
    pub fn cut_both(&self, a: NodeId, b: NodeId) {
        self.cut(a, b);
        self.cut(b, a);
    }

    /// Cuts every two nodes that are in different groups.
    pub fn partition(&self, groups: &[&[NodeId]]) {
        for (at, group) in groups.iter().enumerate() {
            let others = groups.iter().enumerate().filter(|(other, _)| *other != at);
            for to in others.flat_map(|(_, other)| *other) {
                group.iter().for_each(|from| self.cut(*from, *to));
            }
        }
    }

    /// Mends one direction.
    pub fn mend(&self, from: NodeId, to: NodeId) {
        self.state.lock().cuts.remove(&(from, to));
    }

    /// Mends all cuts; links are the default one again, without faults.
    pub fn mend_all(&self) {
        let mut state = self.state.lock();
        state.cuts.clear();
        state.links.clear();
        state.link = Link::default();
    }

    // ---- what can be seen ----

    /// What happened so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.state.lock().counts
    }

    /// Calls that have not ended.
    #[must_use]
    pub fn calls_open(&self) -> usize {
        self.state.lock().calls.len()
    }

    /// Bytes of requests from `from` to `to` that have no answer yet.
    #[must_use]
    pub fn bytes_in_flight(&self, from: NodeId, to: NodeId) -> usize {
        let state = self.state.lock();
        [true, false].iter().filter_map(|vital| state.in_flight.get(&(from, to, *vital))).sum()
    }

    /// A hash of all that arrived, in its order: two runs of one seed have the same.
    #[must_use]
    pub fn trace(&self) -> u64 {
        self.state.lock().trace
    }

    // ---- the way of a call ----

    /// Enters the call, unless there is no room for it.
    fn open(
        &self,
        number: u64,
        call: &Call,
        bytes: usize,
        done: Done,
    ) -> Result<(), (Failure, Done)> {
        let mut state = self.state.lock();
        if bytes > self.limits.frame_bytes_max {
            state.counts.refused_too_large += 1;
            let (bytes, max) = (bytes as u64, self.limits.frame_bytes_max as u64);
            return Err((Failure::TooLarge { bytes, max }, done));
        }
        let class = call.request.class();
        let under_way =
            state.in_flight.entry((call.from, call.to, class == Class::Vital)).or_default();
        if *under_way + bytes > self.limits.room_for(class) {
            state.counts.refused_overloaded += 1;
            return Err((Failure::Overloaded { retry_after_micros: RETRY_AFTER_MICROS }, done));
        }
        *under_way += bytes;
        let (from, to) = (call.from, call.to);
        let pending = Pending { from, to, class, bytes, delivered: false, timer: None, done };
        state.calls.insert(number, pending);
        // Set under the lock: the call cannot end before its timer is known.
        let this = self.this.clone();
        let expire = move || {
            if let Some(this) = this.upgrade() {
                this.expire(number)
            }
        };
        let timer = self.runtime.after(call.timeout_micros, Box::new(expire));
        if let Some(pending) = state.calls.get_mut(&number) {
            pending.timer = Some(timer);
        }
        Ok(())
    }

    /// Puts a frame on the link; its copies arrive later, or not.
    fn transmit(&self, from: NodeId, to: NodeId, bytes: Vec<u8>) {
        let copies = {
            let state = &mut *self.state.lock();
            state.counts.frames_sent += 1;
            state.counts.bytes_sent += bytes.len() as u64;
            let link = *state.links.get(&(from, to)).unwrap_or(&state.link);
            let fate = link.draw(bytes.len(), &mut state.rng);
            let cut = state.cuts.contains(&(from, to));
            let copies = if cut { Vec::new() } else { fate.copies };
            state.counts.frames_lost += u64::from(copies.is_empty());
            state.counts.frames_doubled += u64::from(copies.len() > 1);
            copies
        };
        for (delay, damaged_bit) in copies {
            let (this, mut bytes) = (self.this.clone(), bytes.clone());
            if let Some(bit) = damaged_bit {
                bytes[bit as usize / 8] ^= 1 << (bit % 8);
            }
            let arrive = move || {
                if let Some(this) = this.upgrade() {
                    this.arrive(&bytes)
                }
            };
            self.runtime.after(delay, Box::new(arrive));
        }
    }

    fn arrive(&self, bytes: &[u8]) {
        let decoded = frame::decode(bytes, self.limits.frame_bytes_max);
        let Ok(frame) = decoded.map_err(drop).and_then(|frame| self.own(frame)) else {
            self.state.lock().counts.frames_damaged += 1;
            return;
        };
        self.note_arrival(&frame.header);
        if frame.header.kind < frame::ANSWER {
            self.arrive_request(&frame);
        } else {
            self.arrive_answer(&frame);
        }
    }

    fn own<'a>(&self, frame: Frame<'a>) -> Result<Frame<'a>, ()> {
        if frame.header.cluster == self.cluster { Ok(frame) } else { Err(()) }
    }

    fn note_arrival(&self, header: &Header) {
        let mut state = self.state.lock();
        state.counts.frames_arrived += 1;
        for part in [
            self.runtime.monotonic_micros(),
            u64::from(header.kind),
            header.call,
            header.from.0,
            header.to.0,
        ] {
            state.trace = (state.trace.rotate_left(5) ^ part).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }

    fn arrive_request(&self, frame: &Frame<'_>) {
        let header = frame.header;
        let (bound, delivered) = {
            let mut state = self.state.lock();
            let bound = state.services.get(&header.to).cloned();
            let pending = state.calls.get_mut(&header.call);
            let delivered = pending.as_ref().is_some_and(|pending| pending.delivered);
            if let (Some(_), Some(pending)) = (&bound, pending) {
                pending.delivered = true;
            }
            (bound, delivered)
        };
        let Some(bound) = bound else {
            // The system of the other side says so, not the node. An earlier copy of the frame may have reached the node before it stopped.
            let failure = if delivered { Failure::Disconnected } else { Failure::Unreachable };
            return self.reply(&header, Epoch(0), &Failed { failure }.into());
        };
        let responder = self.responder(header, bound.binding);
        match Request::of(frame) {
            Ok(request) => {
                let (from, epoch) = (header.from, header.epoch);
                let budget_micros = u64::from(header.budget_micros);
                bound.service.serve(Incoming { from, epoch, budget_micros, request }, responder);
            }
            Err(crate::codec::DecodeError::UnknownKind { .. }) => {
                responder.fail(Epoch(0), NotUnderstood::Kind.into());
            }
            Err(_) => responder.fail(Epoch(0), NotUnderstood::Body.into()),
        }
    }

    /// Answers for one binding: what was bound before, or is bound again, is somebody else.
    fn responder(&self, request: Header, binding: u64) -> Responder {
        let this = self.this.clone();
        Responder::new(move |epoch, answer| {
            let Some(this) = this.upgrade() else { return };
            let bound = this.state.lock().services.get(&request.to).map(|bound| bound.binding);
            if bound == Some(binding) {
                this.reply(&request, epoch, &answer);
            }
        })
    }

    fn reply(&self, request: &Header, epoch: Epoch, answer: &Answer) {
        let header =
            Header { from: request.to, to: request.from, epoch, budget_micros: 0, ..*request };
        let mut bytes = answer.encode(header);
        if bytes.len() > self.limits.frame_bytes_max {
            let (bytes_needed, max) = (bytes.len() as u64, self.limits.frame_bytes_max as u64);
            let failure = Failure::AnswerTooLarge { bytes: bytes_needed, max };
            bytes = Answer::from(Failed { failure }).encode(header);
        }
        self.transmit(header.from, header.to, bytes);
    }

    fn arrive_answer(&self, frame: &Frame<'_>) {
        let epoch = frame.header.epoch;
        let ended = match Answer::of(frame) {
            Ok(Answer::Failed(Failed { failure })) => Err(failure),
            Ok(answer) => Ok(Reply { epoch, answer }),
            Err(error) => {
                Err(Failure::Internal(Detail::new(format!("answer not understood: {error}"))))
            }
        };
        if !self.end(frame.header.call, ended) {
            self.state.lock().counts.answers_late += 1;
        }
    }

    fn expire(&self, call: u64) {
        if self.end(call, Err(Failure::Timeout)) {
            self.state.lock().counts.timeouts += 1;
        }
    }

    /// Ends a call, unless it has ended.
    fn end(&self, call: u64, ended: Ended) -> bool {
        let Some(pending) = self.state.lock().close(call) else { return false };
        if let Some(timer) = pending.timer {
            self.runtime.cancel(timer);
        }
        (pending.done)(ended);
        true
    }
}

impl State {
    fn close(&mut self, call: u64) -> Option<Pending> {
        let pending = self.calls.remove(&call)?;
        let place = (pending.from, pending.to, pending.class == Class::Vital);
        if let Some(bytes) = self.in_flight.get_mut(&place) {
            *bytes -= pending.bytes;
            if *bytes == 0 {
                self.in_flight.remove(&place);
            }
        }
        Some(pending)
    }

    /// Calls that `wanted` names.
    fn calls_of(&self, wanted: impl Fn(&Pending) -> bool) -> Vec<u64> {
        self.calls.iter().filter(|(_, pending)| wanted(pending)).map(|(call, _)| *call).collect()
    }
}

impl Transport for InProcess {
    fn bind(&self, node: NodeId, service: Arc<dyn Service>) -> Result<(), Failure> {
        let replaced = {
            let mut state = self.state.lock();
            state.bindings += 1;
            let binding = state.bindings;
            state.services.insert(node, Bound { service, binding })
        };
        drop(replaced);
        Ok(())
    }

    fn unbind(&self, node: NodeId) {
        let (service, own, orphans) = {
            let state = &mut *self.state.lock();
            let own = state.calls_of(|pending| pending.from == node);
            // Their connections break, which they learn over the link; those behind a cut learn nothing.
            let cuts = &state.cuts;
            let told = |pending: &Pending| {
                pending.to == node && pending.delivered && !cuts.contains(&(node, pending.from))
            };
            let mut orphans = Vec::new();
            for call in state.calls_of(told) {
                let from = state.calls.get(&call).map_or(node, |pending| pending.from);
                let link = *state.links.get(&(node, from)).unwrap_or(&state.link);
                orphans.push((call, link.delay(&mut state.rng)));
            }
            (state.services.remove(&node), own, orphans)
        };
        drop(service);
        for call in own {
            self.end(call, Err(Failure::Closed));
        }
        for (call, delay) in orphans {
            let this = self.this.clone();
            let lose = move || {
                if let Some(this) = this.upgrade() {
                    this.end(call, Err(Failure::Disconnected));
                }
            };
            self.runtime.after(delay, Box::new(lose));
        }
    }

    fn send(&self, call: Call, done: Done) {
        let number = {
            let mut state = self.state.lock();
            state.calls_made += 1;
            state.calls_made
        };
        let header = Header {
            kind: 0,
            cluster: self.cluster,
            call: number,
            from: call.from,
            to: call.to,
            epoch: call.epoch,
            budget_micros: u32::try_from(call.timeout_micros).unwrap_or(u32::MAX),
        };
        let bytes = call.request.encode(header);
        match self.open(number, &call, bytes.len(), done) {
            Ok(()) => self.transmit(call.from, call.to, bytes),
            Err((failure, done)) => done(Err(failure)),
        }
    }

    fn limits(&self) -> Limits {
        self.limits
    }
}

impl fmt::Debug for InProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("InProcess")
            .field("calls", &state.calls.len())
            .field("counts", &state.counts)
            .finish()
    }
}
