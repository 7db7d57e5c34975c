//! Scans: one page of one partition at a time, as enough owners see it together.

use super::check;
use super::write::AGAIN_MICROS;
use crate::codec::message::{Answer, Item, Page, Scan};
use crate::node::{Node, Taken, View};
use crate::record::{Mode, Record};
use crate::runtime::TimerId;
use crate::transport::{Detail, Failure};
use base::sync::Mutex;
use base::{KeyspaceId, Slice};
use ring::{Epoch, NodeId, Partition};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Which page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanOptions {
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// The partition.
    pub partition: Partition,
    /// The first key.
    pub start: Slice,
    /// The first key behind the end; `None` is the end of the partition.
    pub end: Option<Slice>,
    /// From the end to the start.
    pub backward: bool,
    /// Most entries of an owner's page.
    pub entries_max: u32,
    /// Most bytes of an owner's page; one entry is answered whatever its size.
    pub bytes_max: u32,
    /// R: owners that have to answer.
    pub owners_min: usize,
    /// How long the client waits.
    pub timeout_micros: u64,
}

/// A page of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageOf {
    /// Keys and all that the owners know of them together, tombstones as well; in the order asked for.
    pub records: Vec<(Slice, Record)>,
    /// What is left of the range to be asked for; `None` if nothing is.
    pub rest: Option<(Slice, Option<Slice>)>,
    /// Who answered.
    pub served_by: Vec<NodeId>,
}

type Done = Box<dyn FnOnce(Result<PageOf, Failure>) + Send>;

struct Scanning {
    options: ScanOptions,
    mode: Mode,
    deadline_micros: u64,
    state: Mutex<State>,
}

struct State {
    /// By which nodes are asked, and counted.
    view: Arc<View>,
    /// How often the owners were others meanwhile.
    turn: u32,
    left: Vec<NodeId>,
    waiting: Vec<NodeId>,
    /// Somebody sees other owners than this node.
    stale: bool,
    pages: Vec<(NodeId, Page)>,
    timer: Option<TimerId>,
    done: Option<Done>,
    /// What is held of it counts here.
    taken: Option<Taken>,
}

impl Node {
    /// Reads a page of one partition for a client.
    ///
    /// # Errors
    /// [`Failure::Unavailable`] if too few owners answer, [`Failure::UnknownKeyspace`].
    pub fn scan(
        self: &Arc<Self>,
        options: ScanOptions,
        done: impl FnOnce(Result<PageOf, Failure>) + Send + 'static,
    ) {
        let view = self.view();
        let known = view.policy(options.keyspace).and_then(|policy| {
            check::goal(policy, options.owners_min, options.timeout_micros)?;
            let bounds = options.start.len() + options.end.as_ref().map_or(0, |end| end.len());
            Ok((policy.mode, self.take_request(size_of::<Scanning>() + bounds)?))
        });
        let (mode, taken) = match known {
            Ok(known) => known,
            Err(failure) => return done(Err(failure)),
        };
        let deadline_micros =
            self.runtime().monotonic_micros().saturating_add(options.timeout_micros);
        let done: Done = Box::new(done);
        let mut state = State {
            view,
            turn: 0,
            left: Vec::new(),
            waiting: Vec::new(),
            stale: false,
            pages: Vec::new(),
            timer: None,
            done: Some(done),
            taken: Some(taken),
        };
        state.begin(self, &options);
        let scanning =
            Arc::new(Scanning { options, mode, deadline_micros, state: Mutex::new(state) });
        let late = Arc::clone(&scanning);
        let timer = self.later(scanning.options.timeout_micros, move |_| late.give_up());
        scanning.state.lock().timer = Some(timer);
        self.work(move |node| scanning.ask_more(node));
    }
}

impl State {
    /// All may be asked by the topology of now; nothing was said yet.
    fn begin(&mut self, node: &Node, options: &ScanOptions) {
        self.view = node.view();
        let readers = self.view.placed(options.keyspace, options.partition);
        self.left = node.by_promise(&readers.map_or(Vec::new(), |owners| owners.readers()));
        self.left.reverse();
        (self.waiting, self.pages, self.stale) = Default::default();
        self.turn += 1;
    }

    /// Keeps what an owner says, if there is room for it.
    fn keep(&mut self, owner: NodeId, page: Page) -> Result<(), Failure> {
        if let Some(taken) = &mut self.taken {
            taken.grow(page.weight())?;
        }
        self.pages.push((owner, page));
        Ok(())
    }

    /// How far those count together that have answered, and those that may.
    fn count(&self, options: &ScanOptions, hoped_for: bool) -> usize {
        let said = self.pages.iter().map(|(owner, _)| *owner);
        let waiting = self.waiting.iter().copied().filter(|_| hoped_for);
        let nodes: Vec<NodeId> = said.chain(waiting).collect();
        let owners = self.view.placed(options.keyspace, options.partition);
        owners.map_or(0, |owners| owners.count(&nodes))
    }
}

impl Scanning {
    fn ask_more(self: &Arc<Self>, node: &Arc<Node>) {
        loop {
            let (owner, epoch, turn, stale) = {
                let mut state = self.state.lock();
                if state.done.is_none() {
                    return;
                }
                if state.count(&self.options, true) >= self.options.owners_min.max(1) {
                    return;
                }
                let owner = state.left.pop();
                state.waiting.extend(owner);
                (owner, state.view.epoch(), state.turn, state.stale)
            };
            let in_time = node.runtime().monotonic_micros() + AGAIN_MICROS < self.deadline_micros;
            match owner {
                Some(owner) => self.ask(node, owner, epoch, turn),
                None if stale && in_time => return self.begin_again(node, turn),
                None => return self.give_up(),
            }
        }
    }

    /// Asks the owners of a later topology.
    fn begin_again(self: &Arc<Self>, node: &Arc<Node>, turn: u32) {
        let this = Arc::clone(self);
        node.later(AGAIN_MICROS, move |node| {
            node.work(move |node| {
                {
                    let mut state = this.state.lock();
                    if state.turn != turn {
                        return;
                    }
                    state.begin(node, &this.options);
                }
                this.ask_more(node);
            });
        });
    }

    fn ask(self: &Arc<Self>, node: &Arc<Node>, owner: NodeId, epoch: Epoch, turn: u32) {
        let options = &self.options;
        let scan = Scan {
            keyspace: options.keyspace,
            partition: options.partition,
            start: options.start.clone(),
            end: options.end.clone(),
            backward: options.backward,
            entries_max: options.entries_max,
            bytes_max: options.bytes_max,
        };
        if owner == node.id() {
            let page = node.answer_scan(epoch, &scan);
            return self.heard(node, owner, turn, page);
        }
        // Owners that say nothing are not worth all of the time.
        let this = Arc::clone(self);
        node.ask_at(epoch, owner, options.timeout_micros / 2, scan, move |node, ended| {
            let page = match ended {
                Ok(Answer::Page(page)) => Ok(page),
                Ok(_) => Err(Failure::Internal(Detail::new("no answer to this"))),
                Err(failure) => Err(failure),
            };
            this.heard(node, owner, turn, page);
            this.ask_more(node);
        });
    }

    fn heard(&self, node: &Arc<Node>, owner: NodeId, turn: u32, page: Result<Page, Failure>) {
        let done = {
            let mut state = self.state.lock();
            if state.turn != turn {
                return;
            }
            state.waiting.retain(|waiting| *waiting != owner);
            state.stale |= matches!(page, Err(Failure::StaleEpoch { .. }));
            let full = page.ok().and_then(|page| state.keep(owner, page).err());
            if full.is_none() && state.count(&self.options, false) < self.options.owners_min.max(1)
            {
                return;
            }
            let pages = std::mem::take(&mut state.pages);
            if let Some(timer) = state.timer.take() {
                node.runtime().cancel(timer);
            }
            let taken = state.taken.take();
            state.done.take().map(|done| (done, full.map_or(Ok(pages), Err), taken))
        };
        if let Some((done, pages, mut taken)) = done {
            taken.iter_mut().for_each(Taken::hand_out);
            done(pages.map(|pages| self.merge(pages)));
        }
    }

    fn give_up(&self) {
        let (done, reached, taken) = {
            let mut state = self.state.lock();
            // Somebody who was asked may still answer, but not enough of them.
            let reached = state.count(&self.options, false) as u64;
            state.pages.clear();
            (state.done.take(), reached, state.taken.take())
        };
        let wanted = self.options.owners_min as u64;
        if let Some(done) = done {
            done(Err(Failure::Unavailable { reached, wanted }));
        }
        drop(taken);
    }

    /// What the owners say together, as far as all of them have spoken.
    fn merge(&self, pages: Vec<(NodeId, Page)>) -> PageOf {
        let options = &self.options;
        let ends = pages.iter().filter(|(_, page)| page.more);
        let ends = ends.filter_map(|(_, page)| page.items.last().map(|item| item.key.clone()));
        let limit = if options.backward { ends.max() } else { ends.min() };
        let spoken = |key: &Slice| match &limit {
            None => true,
            Some(limit) if options.backward => key >= limit,
            Some(limit) => key <= limit,
        };
        let served_by = pages.iter().map(|(owner, _)| *owner).collect();
        let mut merged: BTreeMap<Slice, Record> = BTreeMap::new();
        for Item { key, record, .. } in pages.into_iter().flat_map(|(_, page)| page.items) {
            if spoken(&key) {
                let known = merged.entry(key).or_default();
                *known = known.merge(&record, self.mode).record;
            }
        }
        let rest = limit.map(|limit| match options.backward {
            true => (options.start.clone(), Some(limit)),
            false => ([&limit[..], &[0]].concat().into(), options.end.clone()),
        });
        let mut records: Vec<(Slice, Record)> = merged.into_iter().collect();
        if options.backward {
            records.reverse();
        }
        PageOf { records, rest, served_by }
    }
}
