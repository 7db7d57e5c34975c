//! The order of the records, built when an iterator asks for it.
//!
//! Records that came since the last time are sorted and put into level 0; a level that overflows is merged
//! into the next, sixteen times larger one. So a lone new record costs the merge of a few dozen entries,
//! each entry is copied a few times in its life, and an iterator has at most [`LEVELS`] runs to merge. A table
//! that is iterated only once, when it is flushed, gets one run by one sort.

use crate::account::{Account, Charge, shared_bytes};
use crate::arena::{Arena, Mark, Record, Ref};
use crate::fences::Fences;
use crate::sort::{Entry, merge, shared_len, sort};
use base::sync::leaf::Mutex;
use std::sync::Arc;

/// Entries that a level holds before it overflows into the next.
const CAPACITIES: [usize; LEVELS] = [32, 512, 8 << 10, 128 << 10, 2 << 20, usize::MAX];
pub(crate) const LEVELS: usize = 6;

/// A sorted, immutable run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) entries: Box<[Entry]>,
    pub(crate) fences: Fences,
    _charge: Charge,
}

/// The order at some time. Together the runs hold every record below `upto` once.
#[derive(Debug)]
pub(crate) struct Runs {
    upto: Mark,
    /// All keys share the first `skip` bytes of the key of `reference`. Entries are made with this skip.
    pub(crate) skip: usize,
    pub(crate) reference: Option<Ref>,
    /// Smallest first.
    pub(crate) levels: [Option<Arc<Run>>; LEVELS],
    count: usize,
    _charge: Charge,
}

impl Runs {
    fn empty(account: &Arc<Account>) -> Runs {
        Runs {
            upto: Mark::START,
            skip: 0,
            reference: None,
            levels: Default::default(),
            count: 0,
            _charge: Charge::new(account, shared_bytes::<Runs>()),
        }
    }
}

/// Keeps the newest [`Runs`].
#[derive(Debug)]
pub(crate) struct Order {
    newest: Mutex<Arc<Runs>>,
    account: Arc<Account>,
}

impl Order {
    pub(crate) fn new(account: Arc<Account>) -> Order {
        Order { newest: Mutex::new(Arc::new(Runs::empty(&account))), account }
    }

    /// Runs that hold all records published by now. `entries` is about how many those are.
    pub(crate) fn runs(&self, arena: &Arena, entries: usize) -> Arc<Runs> {
        let mut newest = self.newest.lock();
        let mark = arena.mark();
        if newest.upto != mark {
            *newest = Arc::new(self.extend(arena, &newest, mark, entries));
        }
        Arc::clone(&newest)
    }

    fn extend(&self, arena: &Arena, old: &Runs, mark: Mark, entries: usize) -> Runs {
        let mut batch = Batch::new(arena, old, entries);
        arena.each(old.upto, mark, |name, record| batch.push(name, record));
        sort(arena, &mut batch.entries, batch.skip);
        let count = old.count + batch.entries.len();
        let mut levels = old.levels.clone();
        if let Some(reference) = old.reference.filter(|_| batch.skip < old.skip) {
            base::probe!("keys of a memtable share less than before");
            let shared = &arena.record(reference).key()[..old.skip];
            levels = levels.map(|run| Some(self.run(widen(&run?.entries, shared, batch.skip))));
        }
        self.push(arena, &mut levels, batch.entries);
        Runs {
            upto: mark,
            skip: batch.skip,
            reference: batch.reference,
            levels,
            count,
            _charge: Charge::new(&self.account, shared_bytes::<Runs>()),
        }
    }

    /// Puts a sorted batch into the first level that has room for it and for all levels before.
    fn push(&self, arena: &Arena, levels: &mut [Option<Arc<Run>>; LEVELS], batch: Vec<Entry>) {
        let mut entries = batch;
        for (level, capacity) in levels.iter_mut().zip(CAPACITIES) {
            if let Some(run) = level.take() {
                base::probe!("runs of a memtable merged");
                entries = merge(arena, &entries, &run.entries);
            }
            if entries.len() <= capacity {
                *level = Some(self.run(entries));
                return;
            }
        }
    }

    fn run(&self, entries: Vec<Entry>) -> Arc<Run> {
        let entries = entries.into_boxed_slice();
        let fences = Fences::new(&entries);
        let _charge = Charge::new(&self.account, run_bytes(&entries, &fences));
        Arc::new(Run { entries, fences, _charge })
    }

    #[cfg(test)]
    pub(crate) fn recount(&self) -> usize {
        let newest = self.newest.lock();
        let bytes_of = |r: &Arc<Run>| {
            let bytes = run_bytes(&r.entries, &r.fences);
            assert_eq!(r._charge.bytes(), bytes);
            bytes
        };
        shared_bytes::<Runs>() + newest.levels.iter().flatten().map(bytes_of).sum::<usize>()
    }
}

/// New records on their way into a run.
struct Batch<'a> {
    arena: &'a Arena,
    entries: Vec<Entry>,
    skip: usize,
    reference: Option<Ref>,
    shared: &'a [u8],
}

impl<'a> Batch<'a> {
    fn new(arena: &'a Arena, old: &Runs, entries: usize) -> Batch<'a> {
        let shared = old.reference.map_or(&[][..], |r| &arena.record(r).key()[..old.skip]);
        // Some more, for what other threads insert meanwhile.
        let expected = entries.saturating_sub(old.count) + 4;
        let entries = Vec::with_capacity(expected);
        Batch { arena, entries, skip: old.skip, reference: old.reference, shared }
    }

    fn push(&mut self, name: Ref, record: Record<'_>) {
        let key = record.key();
        if !key.starts_with(self.shared) {
            self.share_less(shared_len(self.shared, key));
        } else if self.reference.is_none() {
            self.reference = Some(name);
            self.shared = self.arena.record(name).key();
            self.skip = self.shared.len();
        }
        self.entries.push(Entry::new(key, self.skip, name));
    }

    fn share_less(&mut self, skip: usize) {
        self.entries.iter_mut().for_each(|e| *e = e.widen(self.shared, skip));
        self.skip = skip;
        self.shared = &self.shared[..skip];
    }
}

/// Entries made with a skip of `shared.len()`, made anew for a smaller one.
fn widen(entries: &[Entry], shared: &[u8], skip: usize) -> Vec<Entry> {
    entries.iter().map(|e| e.widen(shared, skip)).collect()
}

fn run_bytes(entries: &[Entry], fences: &Fences) -> usize {
    shared_bytes::<Run>() + size_of_val(entries) + fences.bytes()
}
