//! A map of every version of every key, over several keyspaces: what a store should hold.
//!
//! Prefix `n` of the commit order is the state after the first `n` commits; prefix 0 is empty.

use std::collections::BTreeMap;
use std::ops::{Bound, RangeBounds};

use crate::hash::{hash64, mix64};

/// Everything a store holds: (keyspace, key) to value.
pub type State = BTreeMap<(u32, Vec<u8>), Vec<u8>>;

/// One change of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelOp {
    /// Sets a key.
    Put {
        /// Keyspace.
        ks: u32,
        /// Key.
        key: Vec<u8>,
        /// Value.
        value: Vec<u8>,
    },
    /// Removes a key, present or not.
    Delete {
        /// Keyspace.
        ks: u32,
        /// Key.
        key: Vec<u8>,
    },
    /// Removes all keys between two bounds; bounds that cross remove nothing.
    DeleteRange {
        /// Keyspace.
        ks: u32,
        /// Lower bound.
        lower: Bound<Vec<u8>>,
        /// Upper bound.
        upper: Bound<Vec<u8>>,
    },
}

impl ModelOp {
    /// Sets `key`.
    pub fn put(ks: u32, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        ModelOp::Put { ks, key: key.into(), value: value.into() }
    }

    /// Removes `key`.
    pub fn delete(ks: u32, key: impl Into<Vec<u8>>) -> Self {
        ModelOp::Delete { ks, key: key.into() }
    }

    /// Removes the keys of `range`.
    pub fn delete_range(ks: u32, range: impl RangeBounds<Vec<u8>>) -> Self {
        let (lower, upper) = (range.start_bound().cloned(), range.end_bound().cloned());
        ModelOp::DeleteRange { ks, lower, upper }
    }
}

/// What a commit left under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The prefix that first shows it: the commit's number, from 1.
    pub commit: usize,
    /// The value; `None` if the commit removed the key.
    pub value: Option<Vec<u8>>,
}

/// The history of a store. Memory grows with the changes, not with commits times size.
#[derive(Debug, Clone)]
pub struct VersionedModel {
    current: State,
    /// All versions of every key ever set, ascending by commit, at most one a commit.
    history: BTreeMap<(u32, Vec<u8>), Vec<Version>>,
    /// By prefix: XOR of the hashes of all entries. Equal states have equal fingerprints.
    fingerprints: Vec<u128>,
}

impl Default for VersionedModel {
    fn default() -> Self {
        Self::new()
    }
}

impl VersionedModel {
    /// No commits, no keys.
    pub fn new() -> Self {
        VersionedModel { current: State::new(), history: BTreeMap::new(), fingerprints: vec![0] }
    }

    /// Applies `ops` in order as one commit; returns its number, the first being 1.
    pub fn commit(&mut self, ops: &[ModelOp]) -> usize {
        let commit = self.fingerprints.len();
        self.fingerprints.push(self.fingerprints[commit - 1]);
        for op in ops {
            match op {
                ModelOp::Put { ks, key, value } => {
                    self.set((*ks, key.clone()), Some(value.clone()))
                }
                ModelOp::Delete { ks, key } => self.set((*ks, key.clone()), None),
                ModelOp::DeleteRange { ks, lower, upper } => {
                    for (key, _) in self.scan(*ks, as_ref(lower), as_ref(upper), false) {
                        self.set((*ks, key), None);
                    }
                }
            }
        }
        commit
    }

    /// Number of commits.
    pub fn commits(&self) -> usize {
        self.fingerprints.len() - 1
    }

    /// The state after all commits.
    pub fn current(&self) -> &State {
        &self.current
    }

    /// The state after the first `commit` commits. Costs a search per key ever set.
    ///
    /// # Panics
    /// If there are fewer commits.
    pub fn state_at(&self, commit: usize) -> State {
        self.entries_at(commit).map(|(key, value)| (key.clone(), value.to_vec())).collect()
    }

    /// The current value of a key.
    pub fn get(&self, ks: u32, key: &[u8]) -> Option<&[u8]> {
        self.current.get(&(ks, key.to_vec())).map(Vec::as_slice)
    }

    /// The value of a key after the first `commit` commits. Panics if there are fewer.
    pub fn get_at(&self, commit: usize, ks: u32, key: &[u8]) -> Option<&[u8]> {
        assert!(commit <= self.commits(), "no such commit commit={commit}");
        value_at(self.versions(ks, key), commit)
    }

    /// All versions of a key, ascending by commit.
    pub fn versions(&self, ks: u32, key: &[u8]) -> &[Version] {
        self.history.get(&(ks, key.to_vec())).map_or(&[], Vec::as_slice)
    }

    /// Every key ever set, with its versions.
    pub fn history(&self) -> impl Iterator<Item = (u32, &[u8], &[Version])> {
        self.history.iter().map(|((ks, key), versions)| (*ks, key.as_slice(), versions.as_slice()))
    }

    /// The pairs of `ks` between the bounds in key order, or in the opposite one. Bounds that
    /// cross give nothing.
    pub fn scan(
        &self,
        ks: u32,
        lower: Bound<&[u8]>,
        upper: Bound<&[u8]>,
        reverse: bool,
    ) -> Vec<(Vec<u8>, Vec<u8>)> {
        scan_state(&self.current, ks, lower, upper, reverse)
    }

    /// The largest prefix within `min..=max` that equals `actual`, if one does. `max` may exceed
    /// the number of commits. Costs one pass over `actual` and one over the fingerprints.
    pub fn find_prefix(&self, actual: &State, min: usize, max: usize) -> Option<usize> {
        let fingerprint = actual.iter().fold(0, |all, (key, value)| all ^ entry_hash(key, value));
        (min..=max.min(self.commits())).rev().find(|&prefix| {
            self.fingerprints[prefix] == fingerprint && self.equals_at(actual, prefix)
        })
    }

    /// Forgets all commits after `commit`, as a store does that recovered to that prefix.
    /// Panics if there are fewer.
    pub fn rewind(&mut self, commit: usize) {
        self.current = self.state_at(commit);
        self.fingerprints.truncate(commit + 1);
        self.history.retain(|_, versions| {
            versions.truncate(versions.partition_point(|version| version.commit <= commit));
            !versions.is_empty()
        });
    }

    /// Changes one key within the newest commit.
    fn set(&mut self, key: (u32, Vec<u8>), value: Option<Vec<u8>>) {
        let commit = self.commits();
        let fingerprint = &mut self.fingerprints[commit];
        let old = match &value {
            Some(value) => {
                *fingerprint ^= entry_hash(&key, value);
                self.current.insert(key.clone(), value.clone())
            }
            None => self.current.remove(&key),
        };
        match old {
            Some(old) => *fingerprint ^= entry_hash(&key, &old),
            None if value.is_none() => return,
            None => {}
        }
        let versions = self.history.entry(key).or_default();
        versions.pop_if(|last| last.commit == commit);
        versions.push(Version { commit, value });
    }

    fn entries_at(&self, commit: usize) -> impl Iterator<Item = (&(u32, Vec<u8>), &[u8])> {
        assert!(commit <= self.commits(), "no such commit commit={commit}");
        self.history
            .iter()
            .filter_map(move |(key, versions)| Some((key, value_at(versions, commit)?)))
    }

    fn equals_at(&self, actual: &State, commit: usize) -> bool {
        self.entries_at(commit).eq(actual.iter().map(|(key, value)| (key, value.as_slice())))
    }
}

/// The pairs of keyspace `ks` in `state` between two bounds, ascending or descending.
pub fn scan_state(
    state: &State,
    ks: u32,
    lower: Bound<&[u8]>,
    upper: Bound<&[u8]>,
    reverse: bool,
) -> Vec<(Vec<u8>, Vec<u8>)> {
    let from = match lower {
        Bound::Included(key) => Bound::Included((ks, key.to_vec())),
        Bound::Excluded(key) => Bound::Excluded((ks, key.to_vec())),
        Bound::Unbounded => Bound::Included((ks, Vec::new())),
    };
    let in_bounds = |key: &[u8]| match upper {
        Bound::Included(end) => key <= end,
        Bound::Excluded(end) => key < end,
        Bound::Unbounded => true,
    };
    // Bounded above by `take_while`, as a range whose ends cross would panic.
    let mut pairs: Vec<_> = state
        .range((from, Bound::Unbounded))
        .take_while(|((space, key), _)| *space == ks && in_bounds(key))
        .map(|((_, key), value)| (key.clone(), value.clone()))
        .collect();
    if reverse {
        pairs.reverse();
    }
    pairs
}

/// The value that prefix `commit` shows.
fn value_at(versions: &[Version], commit: usize) -> Option<&[u8]> {
    let seen = versions.partition_point(|version| version.commit <= commit);
    versions[..seen].last()?.value.as_deref()
}

fn entry_hash((ks, key): &(u32, Vec<u8>), value: &[u8]) -> u128 {
    let half = |seed: u64| hash64(hash64(seed ^ mix64(u64::from(*ks) + 1), key), value);
    u128::from(half(1)) << 64 | u128::from(half(2))
}

fn as_ref(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    bound.as_ref().map(Vec::as_slice)
}

#[cfg(test)]
mod tests;
