//! Range tombstones: found without a lock, fragmented in groups that grow.
//!
//! The newest few stand in a list. A full list becomes a group of fragments, and groups of similar size are
//! joined, so that n tombstones are fragmented O(log n) times each and a read asks O(log n) groups.

use crate::account::{Account, Charge, shared_bytes};
use arc_swap::ArcSwapOption;
use base::{Fragment, Fragments, RangeTombstone, SeqNo};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// Tombstones that are asked one by one.
const RECENT: usize = 8;

#[derive(Debug)]
pub(crate) struct Tombstones {
    /// True once `newest` holds something; spares the readers of most tables a counted load.
    any: AtomicBool,
    newest: ArcSwapOption<State>,
    account: Arc<Account>,
}

#[derive(Debug)]
struct State {
    recent: Vec<RangeTombstone>,
    /// Largest first.
    groups: Vec<Arc<Group>>,
    all: OnceLock<Arc<Group>>,
    _charge: Charge,
}

#[derive(Debug)]
struct Group {
    fragments: Arc<Fragments>,
    /// Tombstones that went in.
    count: usize,
    _charge: Charge,
}

impl Tombstones {
    pub(crate) fn new(account: Arc<Account>) -> Tombstones {
        Tombstones { any: AtomicBool::new(false), newest: ArcSwapOption::empty(), account }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        !self.any.load(Ordering::Acquire)
    }

    /// Only one thread at a time.
    pub(crate) fn insert(&self, tombstone: RangeTombstone) {
        let old = self.newest.load_full();
        let (mut recent, mut groups) =
            old.map_or_else(Default::default, |s| (s.recent.clone(), s.groups.clone()));
        recent.push(tombstone);
        if recent.len() > RECENT {
            push_group(
                &mut groups,
                self.group(recent.len(), &Fragments::new(recent.drain(..))),
                |a, b| {
                    let parts = a.fragments.tombstones().chain(b.fragments.tombstones());
                    self.group(a.count + b.count, &Fragments::new(parts))
                },
            );
        }
        recent.shrink_to_fit();
        groups.shrink_to_fit();
        let _charge = Charge::new(&self.account, state_bytes(&recent, &groups));
        let state = State { recent, groups, all: OnceLock::new(), _charge };
        self.newest.store(Some(Arc::new(state)));
        self.any.store(true, Ordering::Release);
    }

    pub(crate) fn newest_covering(&self, user_key: &[u8], snapshot: SeqNo) -> Option<SeqNo> {
        let state = self.newest.load();
        let state = state.as_deref()?;
        let covers = |t: &&RangeTombstone| {
            t.seq <= snapshot && &t.start[..] <= user_key && user_key < &t.end[..]
        };
        let recent = state.recent.iter().filter(covers).map(|t| t.seq).max();
        let grouped = |g: &Arc<Group>| g.fragments.newest_covering(user_key, snapshot);
        state.groups.iter().filter_map(grouped).max().max(recent)
    }

    pub(crate) fn all(&self) -> Arc<Fragments> {
        let Some(state) = self.newest.load_full() else { return Arc::default() };
        let group = state.all.get_or_init(|| {
            if let ([], [only]) = (&state.recent[..], &state.groups[..]) {
                return Arc::clone(only);
            }
            let grouped = state.groups.iter().flat_map(|g| g.fragments.tombstones());
            let all = Fragments::new(grouped.chain(state.recent.iter().cloned()));
            self.group(0, &all)
        });
        Arc::clone(&group.fragments)
    }

    fn group(&self, count: usize, fragments: &Fragments) -> Arc<Group> {
        // A clone has no spare room in any of its vectors, which makes its size known.
        let fragments = Arc::new(fragments.clone());
        let _charge = Charge::new(&self.account, group_bytes(&fragments));
        Arc::new(Group { fragments, count, _charge })
    }

    #[cfg(test)]
    pub(crate) fn recount(&self) -> usize {
        let state = self.newest.load_full();
        let of_group = |g: &Arc<Group>| group_bytes(&g.fragments);
        state.map_or(0, |s| {
            let all = s.all.get().filter(|all| s.groups.iter().all(|g| !Arc::ptr_eq(g, all)));
            let groups = s.groups.iter().chain(all).map(of_group).sum::<usize>();
            state_bytes(&s.recent, &s.groups) + groups
        })
    }
}

/// Joins groups from the smallest on while the one before is less than twice as large.
fn push_group(
    groups: &mut Vec<Arc<Group>>,
    new: Arc<Group>,
    join: impl Fn(&Group, &Group) -> Arc<Group>,
) {
    let mut new = new;
    while let Some(before) = groups.pop_if(|g| g.count < 2 * new.count) {
        new = join(&before, &new);
    }
    groups.push(new);
}

fn state_bytes(recent: &Vec<RangeTombstone>, groups: &Vec<Arc<Group>>) -> usize {
    let keys: usize = recent.iter().map(|t| t.start.capacity() + t.end.capacity()).sum();
    shared_bytes::<State>()
        + recent.capacity() * size_of::<RangeTombstone>()
        + groups.capacity() * size_of::<Arc<Group>>()
        + keys
}

/// Bytes of fragments whose vectors have no spare room.
fn group_bytes(fragments: &Fragments) -> usize {
    let list = fragments.as_slice();
    let of_fragment = |f: &Fragment| {
        size_of::<Fragment>() + f.start.len() + f.end.len() + f.seqs.len() * size_of::<SeqNo>()
    };
    shared_bytes::<Group>()
        + shared_bytes::<Fragments>()
        + list.iter().map(of_fragment).sum::<usize>()
}
