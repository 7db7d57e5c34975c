//! What the database should hold: the present, and everything that a power cut may leave of the recent past.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

pub(crate) type Bytes = Arc<[u8]>;
pub(crate) type Map = BTreeMap<Bytes, Bytes>;
pub(crate) type Bounds = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// All keyspaces, each by the number of its incarnation. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct State(pub(crate) BTreeMap<u32, Arc<Map>>);

/// One change of a commit.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    Put(Bytes, Bytes),
    Delete(Bytes),
    DeleteRange(Bounds),
}

impl Change {
    /// Bytes of a record of it, about, and not less.
    pub(crate) fn size(&self) -> u64 {
        let len = |bound: &Bound<Vec<u8>>| match bound {
            Bound::Included(key) | Bound::Excluded(key) => key.len(),
            Bound::Unbounded => 0,
        };
        let bytes = match self {
            Change::Put(key, value) => key.len() + value.len(),
            Change::Delete(key) => key.len(),
            Change::DeleteRange((from, to)) => len(from) + len(to),
        };
        bytes as u64 + 64
    }
}

pub(crate) type Commit = Vec<(u32, Change)>;

impl State {
    pub(crate) fn get(&self, space: u32, key: &[u8]) -> Option<&Bytes> {
        self.0.get(&space)?.get(key)
    }

    pub(crate) fn map(&self, space: u32) -> Arc<Map> {
        self.0.get(&space).cloned().unwrap_or_default()
    }

    fn apply(&mut self, commit: &Commit) {
        for (space, change) in commit {
            let Some(map) = self.0.get_mut(space) else { continue };
            let map = Arc::make_mut(map);
            match change {
                Change::Put(key, value) => drop(map.insert(key.clone(), value.clone())),
                Change::Delete(key) => drop(map.remove(key)),
                Change::DeleteRange(bounds) => map.retain(|key, _| !contains(bounds, key)),
            }
        }
    }
}

/// True if `key` lies between the bounds.
pub(crate) fn contains(bounds: &Bounds, key: &[u8]) -> bool {
    let above = match &bounds.0 {
        Bound::Unbounded => true,
        Bound::Included(lower) => key >= &lower[..],
        Bound::Excluded(lower) => key > &lower[..],
    };
    above
        && match &bounds.1 {
            Bound::Unbounded => true,
            Bound::Included(upper) => key <= &upper[..],
            Bound::Excluded(upper) => key < &upper[..],
        }
}

/// True if the end lies before the start: an invalid argument.
pub(crate) fn is_inverted(bounds: &Bounds) -> bool {
    use Bound::{Excluded, Included};
    matches!(bounds, (Included(a) | Excluded(a), Included(b) | Excluded(b)) if a > b)
}

/// True if no key there can be lies between the bounds.
pub(crate) fn is_empty(bounds: &Bounds) -> bool {
    let start = match &bounds.0 {
        Bound::Unbounded => Vec::new(),
        Bound::Included(key) => key.clone(),
        Bound::Excluded(key) => [&key[..], &[0]].concat(),
    };
    match &bounds.1 {
        Bound::Unbounded => false,
        Bound::Included(key) => start > *key,
        Bound::Excluded(key) => start >= *key,
    }
}

/// The pairs between the bounds.
pub(crate) fn pairs(map: &Map, bounds: &Bounds) -> Vec<(Bytes, Bytes)> {
    let inside = map.iter().filter(|(key, _)| contains(bounds, key));
    inside.map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// The present, the last state known to be durable, and the commits between them.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) now: State,
    durable: State,
    tail: Vec<Commit>,
    /// Commits of the tail up to the last one that is at least `Buffered`.
    buffered: usize,
}

impl History {
    pub(crate) fn commit(&mut self, commit: Commit, is_memory: bool) {
        self.now.apply(&commit);
        self.tail.push(commit);
        if !is_memory {
            self.buffered = self.tail.len();
        }
    }

    /// Everything so far is durable.
    pub(crate) fn synced(&mut self) {
        self.durable = self.now.clone();
        self.tail.clear();
        self.buffered = 0;
    }

    /// Everything up to the last `Buffered` commit is durable.
    pub(crate) fn buffered_synced(&mut self) {
        self.synced_to(self.buffered);
    }

    /// Everything up to the last commit that touched `space` is durable.
    pub(crate) fn space_synced(&mut self, space: u32) {
        let touches = |commit: &Commit| commit.iter().any(|(id, _)| *id == space);
        self.synced_to(self.tail.iter().rposition(touches).map_or(0, |last| last + 1));
    }

    fn synced_to(&mut self, count: usize) {
        for commit in self.tail.drain(..count) {
            self.durable.apply(&commit);
        }
        self.buffered = self.buffered.saturating_sub(count);
    }

    /// A keyspace comes or goes, durably.
    pub(crate) fn change_spaces(&mut self, change: impl FnOnce(&mut BTreeMap<u32, Arc<Map>>)) {
        change(&mut self.now.0);
        self.synced();
    }

    /// A keyspace is found to have come or gone, nobody was told when.
    pub(crate) fn found_spaces(&mut self, change: impl Fn(&mut BTreeMap<u32, Arc<Map>>)) {
        change(&mut self.now.0);
        change(&mut self.durable.0);
    }

    /// What is found after a crash has to be one of the states since the last durable one. With `all_buffered` none
    /// but `Memory` commits may be lost.
    pub(crate) fn recovered(&mut self, found: &State, all_buffered: bool) -> Result<(), String> {
        let least = if all_buffered { self.buffered } else { 0 };
        let (mut state, mut hit) = (self.durable.clone(), None);
        for n in 0..=self.tail.len() {
            if n > 0 {
                state.apply(&self.tail[n - 1]);
            }
            if n >= least && state == *found {
                hit = Some(n);
            }
        }
        if hit.is_none() {
            let len = self.tail.len();
            return Err(format!(
                "what the crash left is no prefix: at least {least} of {len} commits since the last sync\n\
                 against the newest state: {}\nagainst the durable state: {}",
                difference(found, &self.now),
                difference(found, &self.durable),
            ));
        }
        self.now = found.clone();
        self.synced();
        Ok(())
    }
}

/// The first few differences.
pub(crate) fn difference(found: &State, expected: &State) -> String {
    let mut out = String::new();
    for (space, map) in &expected.0 {
        let actual = found.map(*space);
        let lost = map.iter().filter(|(k, v)| actual.get(*k) != Some(v));
        let extra = actual.iter().filter(|(k, _)| !map.contains_key(*k));
        for (key, value) in lost.take(4) {
            let has = actual.get(key).map(|v| shown(v));
            out += &format!("\n  #{space} {} should be {} is {has:?}", shown(key), shown(value));
        }
        for (key, value) in extra.take(4) {
            out += &format!("\n  #{space} {} should be absent is {}", shown(key), shown(value));
        }
    }
    out
}

/// Bytes for people.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let head = bytes[..bytes.len().min(24)].escape_ascii();
    format!("\"{head}\"({})", bytes.len())
}
