//! What a store may hold after a crash: some prefix of the commit order, no shorter than what it
//! promised to keep, with no hole.

use std::ops::RangeInclusive;

use crate::model::{ModelOp, State, Version, VersionedModel};
use crate::show;

/// A model with the two floors that a crash test needs.
///
/// Invariant: `synced <= acked <= model.commits()`; kept by [`Oracle::ack`] and [`Oracle::sync`].
#[derive(Debug, Clone, Default)]
pub struct Oracle {
    model: VersionedModel,
    acked: usize,
    synced: usize,
}

impl Oracle {
    /// No commits.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes that a commit is about to be tried; returns its number, the first being 1. Until it
    /// is acknowledged a crash may keep or lose it.
    pub fn issue(&mut self, ops: &[ModelOp]) -> usize {
        self.model.commit(ops)
    }

    /// Notes that commits up to `commit` returned `Ok`. Panics if it was not issued.
    pub fn ack(&mut self, commit: usize) {
        assert!(commit <= self.model.commits(), "acknowledged before issued commit={commit}");
        self.acked = self.acked.max(commit);
    }

    /// Notes that commits up to `commit` are durable. Panics if it was not issued.
    pub fn sync(&mut self, commit: usize) {
        self.ack(commit);
        self.synced = self.synced.max(commit);
    }

    /// The history.
    pub fn model(&self) -> &VersionedModel {
        &self.model
    }

    /// Commits that returned `Ok`: the floor after SIGKILL in the modes that survive it.
    pub fn acked(&self) -> usize {
        self.acked
    }

    /// Commits known to be durable: the floor after power loss.
    pub fn synced(&self) -> usize {
        self.synced
    }

    /// Goes on from what a recovery showed: later commits never were, and all before are durable.
    pub fn recovered(&mut self, prefix: usize) {
        self.model.rewind(prefix);
        (self.acked, self.synced) = (prefix, prefix);
    }

    /// Checks a state recovered after power loss: at least what was synced.
    ///
    /// # Errors
    /// As [`Oracle::check`].
    pub fn check_power_loss(&self, actual: &State) -> Result<usize, String> {
        self.check(actual, self.synced, self.model.commits())
    }

    /// Checks a state recovered after SIGKILL: at least what was acknowledged.
    ///
    /// # Errors
    /// As [`Oracle::check`].
    pub fn check_kill(&self, actual: &State) -> Result<usize, String> {
        self.check(actual, self.acked, self.model.commits())
    }

    /// The prefix within `floor..=issued` that `actual` equals, the largest if several do.
    ///
    /// # Errors
    /// A message that tells a loss (a shorter prefix) from a hole (no prefix) and names the first
    /// key that does not fit and the commits it came from.
    pub fn check(&self, actual: &State, floor: usize, issued: usize) -> Result<usize, String> {
        if let Some(prefix) = self.model.find_prefix(actual, floor, issued) {
            return Ok(prefix);
        }
        Err(match self.model.find_prefix(actual, 0, usize::MAX) {
            Some(prefix) if prefix < floor => self.explain_loss(prefix, floor),
            Some(prefix) => {
                format!("state equals prefix {prefix}, but only {issued} commits were issued")
            }
            None => self.explain_hole(actual, floor, issued),
        })
    }

    fn explain_loss(&self, prefix: usize, floor: usize) -> String {
        let lost = self.model.history().find_map(|(ks, key, versions)| {
            let lost =
                versions.iter().find(|version| (prefix + 1..=floor).contains(&version.commit))?;
            Some(format!(
                "; lost for instance {} = {}",
                name(ks, key),
                show::value(lost.value.as_deref())
            ))
        });
        format!(
            "state equals prefix {prefix}, but commits up to {floor} were promised{}",
            lost.unwrap_or_default()
        )
    }

    /// Narrows the possible prefixes key by key and names the one that leaves none.
    fn explain_hole(&self, actual: &State, floor: usize, issued: usize) -> String {
        if let Some(((ks, key), value)) =
            actual.iter().find(|((ks, key), _)| self.model.versions(*ks, key).is_empty())
        {
            return format!(
                "phantom: {} = {} was never written",
                name(*ks, key),
                show::bytes(value)
            );
        }
        let mut possible = vec![floor..=issued];
        for (ks, key, versions) in self.model.history() {
            let value = actual.get(&(ks, key.to_vec())).map(Vec::as_slice);
            let fitting = prefixes_showing(versions, value);
            let left = intersect(&possible, &fitting);
            if left.is_empty() {
                return format!(
                    "no prefix fits: {} = {} holds only in prefixes {}, while the bounds and the keys before it allow only {}\n{}",
                    name(ks, key),
                    show::value(value),
                    list(&fitting),
                    list(&possible),
                    versions_text(versions, &possible),
                );
            }
            possible = left;
        }
        format!("prefixes {} fit key by key, yet none was found", list(&possible))
    }
}

/// The prefixes in which a key with these versions has `value`, ascending.
fn prefixes_showing(versions: &[Version], value: Option<&[u8]>) -> Vec<RangeInclusive<usize>> {
    let first = versions.first().map_or(usize::MAX, |version| version.commit - 1);
    let mut prefixes = Vec::new();
    if value.is_none() {
        prefixes.push(0..=first);
    }
    for (at, version) in versions.iter().enumerate() {
        if version.value.as_deref() == value {
            let last = versions.get(at + 1).map_or(usize::MAX, |next| next.commit - 1);
            prefixes.push(version.commit..=last);
        }
    }
    prefixes
}

/// What two ascending lists of disjoint ranges share.
fn intersect(
    a: &[RangeInclusive<usize>],
    b: &[RangeInclusive<usize>],
) -> Vec<RangeInclusive<usize>> {
    let (mut i, mut j, mut shared) = (0, 0, Vec::new());
    while i < a.len() && j < b.len() {
        let both = *a[i].start().max(b[j].start())..=*a[i].end().min(b[j].end());
        if !both.is_empty() {
            shared.push(both);
        }
        if a[i].end() < b[j].end() { i += 1 } else { j += 1 }
    }
    shared
}

/// Versions around the prefixes that were still possible, so that the message stays short.
fn versions_text(versions: &[Version], possible: &[RangeInclusive<usize>]) -> String {
    const SHOWN: usize = 8;
    let start = possible.first().map_or(0, |range| *range.start());
    let from =
        versions.partition_point(|version| version.commit <= start).saturating_sub(SHOWN / 2);
    let lines: Vec<String> = versions[from..]
        .iter()
        .take(SHOWN)
        .map(|version| {
            format!("  commit {} wrote {}", version.commit, show::value(version.value.as_deref()))
        })
        .collect();
    lines.join("\n")
}

fn list(ranges: &[RangeInclusive<usize>]) -> String {
    if ranges.is_empty() {
        return "none (a value this key never had)".to_string();
    }
    let text = |range: &RangeInclusive<usize>| match *range.end() {
        usize::MAX => format!("{}..", range.start()),
        end => format!("{}..={end}", range.start()),
    };
    ranges.iter().map(text).collect::<Vec<_>>().join(", ")
}

fn name(ks: u32, key: &[u8]) -> String {
    format!("ks={ks} key={}", show::bytes(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Commit n puts `n` under `all` and under one key of its own; commit 4 deletes `key1`.
    fn oracle() -> Oracle {
        let mut oracle = Oracle::new();
        for number in 1..=6_u8 {
            let mut ops = vec![
                ModelOp::put(0, "all", [number]),
                ModelOp::put(1, format!("key{number}"), [number]),
            ];
            if number == 4 {
                ops.push(ModelOp::delete(1, "key1"));
            }
            oracle.issue(&ops);
        }
        oracle.ack(5);
        oracle.sync(3);
        oracle
    }

    fn at(prefix: usize) -> State {
        oracle().model().state_at(prefix)
    }

    #[test]
    fn prefixes_between_floor_and_issued_pass() {
        let oracle = oracle();
        assert_eq!(
            (3..=6).map(|n| oracle.check_power_loss(&at(n))).collect::<Vec<_>>(),
            [Ok(3), Ok(4), Ok(5), Ok(6)]
        );
        assert_eq!(oracle.check_kill(&at(5)), Ok(5));
    }

    #[test]
    fn a_lost_promise_is_told_from_a_hole() {
        let lost = oracle().check_power_loss(&at(2)).unwrap_err();
        assert!(lost.contains("equals prefix 2, but commits up to 3 were promised"), "{lost}");
        assert!(oracle().check_kill(&at(4)).unwrap_err().contains("up to 5"));
        assert!(oracle().check(&at(6), 0, 5).unwrap_err().contains("only 5 commits were issued"));

        let mut hole = at(6);
        hole.remove(&(1, b"key5".to_vec()));
        let message = oracle().check_power_loss(&hole).unwrap_err();
        assert!(
            message.contains("ks=1 key=b\"key5\" = absent holds only in prefixes 0..=4"),
            "{message}"
        );
        assert!(
            message.contains("allow only 6..=6") && message.contains("commit 5 wrote b\"\\x05\""),
            "{message}"
        );
    }

    #[test]
    fn resurrected_foreign_and_phantom_values_are_named() {
        let with = |key: &str, value: u8| {
            let mut state = at(6);
            state.insert((1, key.as_bytes().to_vec()), vec![value]);
            oracle().check_power_loss(&state).unwrap_err()
        };
        assert!(
            with("key1", 1).contains("key=b\"key1\" = b\"\\x01\" holds only in prefixes 1..=3")
        );
        assert!(with("key2", 9).contains("a value this key never had"));
        assert!(with("key9", 9).contains("phantom: ks=1 key=b\"key9\""));
    }

    #[test]
    fn a_recovery_becomes_the_new_truth() {
        let mut oracle = oracle();
        oracle.recovered(4);
        assert_eq!((oracle.acked(), oracle.synced(), oracle.model().commits()), (4, 4, 4));
        assert!(oracle.check_power_loss(&at(3)).is_err());
        assert_eq!(oracle.check_power_loss(&at(4)), Ok(4));
    }
}
