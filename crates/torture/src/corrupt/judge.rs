//! What a damaged database says: an error that names the damage, or the right answer.

use super::base::Base;
use crate::store::{CATALOG, DIR, number_of, open, show};
use lsm::{Db, Error, Keyspace};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use testkit::model::{State, scan_state};
use vfs::MemFs;

/// How a damaged database may behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Refused,
    ReadError,
    ShorterTail,
    /// The manifest lost whole edits at its end, and these were of keyspaces without data: nothing tells.
    NamesRolledBack,
    Harmless {
        flagged: bool,
    },
}

impl Base {
    /// The files but the lock, with their bytes.
    pub(super) fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        contents(&self.fs)
    }

    /// Opens the damaged `fs` and reads everything.
    ///
    /// # Errors
    /// What it must not do.
    pub(super) fn judge(
        &self,
        fs: &MemFs,
        target: &Path,
        thorough: bool,
    ) -> Result<Outcome, String> {
        let damaged = fs.read_file(target).ok();
        let before = contents(fs);
        let (db, executor) = match open(Arc::new(fs.clone()), DIR, &self.options, 11) {
            Ok(opened) => opened,
            Err(e) => {
                check_refusal(&e)?;
                return if contents(fs) == before {
                    Ok(Outcome::Refused)
                } else {
                    Err(format!("a refused open changed the disk: {}", show(&e)))
                };
            }
        };
        check_untouched(fs, target, damaged.as_deref())?;
        let read = self.read(&db, target)?;
        let verified = db.verify();
        if let Err(e) = &verified {
            check_refusal(e).map_err(|e| format!("verify: {e}"))?;
        }
        if read == Outcome::ReadError && verified.is_ok() {
            return Err("a read fails, but verify finds nothing".into());
        }
        if thorough {
            executor.run_all();
            drop(db.compact_range(..));
            let again = self.read(&db, target).map_err(|e| format!("after compaction: {e}"))?;
            if read == Outcome::ReadError && again != Outcome::ReadError {
                return Err("compaction made the damage vanish".into());
            }
            check_untouched(fs, target, damaged.as_deref().filter(|_| verified.is_err()))?;
        }
        drop(db.close());
        match read {
            Outcome::Harmless { .. } => Ok(Outcome::Harmless { flagged: verified.is_err() }),
            other => Ok(other),
        }
    }

    /// Compares everything with what may be there. Only the log may have lost something, and only its unsynced end.
    fn read(&self, db: &Db, target: &Path) -> Result<Outcome, String> {
        let is_log = target.extension().is_some_and(|e| e == "log");
        let mut failed = false;
        let mut found = State::new();
        let mut names = db.list_keyspaces();
        names.retain(|n| n != "default");
        found.extend(names.iter().map(|n| ((CATALOG, n.clone().into_bytes()), Vec::new())));
        for name in names.iter().map(String::as_str).chain(["default"]) {
            let keyspace = db.open_keyspace(name).map_err(|e| show(&e))?;
            let number = number_of(name);
            for reverse in [false, true] {
                let pairs =
                    if reverse { collect(keyspace.iter().rev()) } else { collect(keyspace.iter()) };
                let (pairs, error) = pairs?;
                failed |= error;
                if error {
                    let bound = std::ops::Bound::Unbounded;
                    let expected = scan_state(&self.state, number, bound, bound, reverse);
                    if !expected.starts_with(&pairs) {
                        return Err(format!("wrong pairs of {name} before an error"));
                    }
                } else if !reverse {
                    found.extend(pairs.into_iter().map(|(k, v)| ((number, k), v)));
                } else {
                    let range = found.range((number, Vec::new())..(number + 1, Vec::new()));
                    let forward: Vec<_> = range.map(|((_, k), v)| (k.clone(), v.clone())).collect();
                    if !failed && !pairs.iter().eq(forward.iter().rev()) {
                        return Err(format!("the directions of {name} differ"));
                    }
                }
            }
        }
        if !failed && is_manifest(target) && self.only_names_differ(&found) {
            return Ok(Outcome::NamesRolledBack);
        }
        let prefix = if failed {
            self.oracle.model().commits()
        } else {
            let floor = if is_log { self.floor } else { self.oracle.model().commits() };
            self.oracle.check(&found, floor, usize::MAX)?
        };
        for name in names.iter().map(String::as_str).chain(["default"]) {
            let keyspace = db.open_keyspace(name).map_err(|e| show(&e))?;
            failed |= self.read_points(&keyspace, prefix)?;
        }
        Ok(match prefix {
            _ if failed => Outcome::ReadError,
            all if all == self.oracle.model().commits() => Outcome::Harmless { flagged: false },
            _ => Outcome::ShorterTail,
        })
    }

    /// True if keyspaces are missing that had no data when the database was damaged, or dropped ones are back, and all
    /// else is right. The known limit: the manifest is the only place that says which keyspaces there are, and one that
    /// was cut between two edits reads like one that never had the later ones.
    fn only_names_differ(&self, found: &State) -> bool {
        let names = |state: &State| -> BTreeSet<u32> {
            let range = state.range((CATALOG, Vec::new())..);
            range.map(|((_, name), _)| number_of(&String::from_utf8_lossy(name))).collect()
        };
        let (is, was) = (names(found), names(&self.state));
        let differ: BTreeSet<u32> = is.symmetric_difference(&was).copied().collect();
        let has_data = |number: &u32| self.state.keys().any(|(n, _)| n == number);
        let rest = |state: &State| -> State {
            let kept = |number: u32| number != CATALOG && !differ.contains(&number);
            state
                .iter()
                .filter(|((n, _), _)| kept(*n))
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect()
        };
        !differ.is_empty() && !differ.iter().any(has_data) && rest(found) == rest(&self.state)
    }

    /// True if a read failed.
    fn read_points(&self, keyspace: &Keyspace, prefix: usize) -> Result<bool, String> {
        let number = number_of(keyspace.name());
        let mut failed = false;
        for key in self.keys.get(&number).into_iter().flatten() {
            match keyspace.get(key) {
                Ok(value) => {
                    let expected = self.oracle.model().get_at(prefix, number, key);
                    if value.as_deref() != expected {
                        let key = key.escape_ascii();
                        return Err(format!("get of {key} in {} is wrong", keyspace.name()));
                    }
                }
                Err(e) => {
                    check_refusal(&e)?;
                    failed = true;
                }
            }
        }
        Ok(failed)
    }
}

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// The pairs up to the first error, and whether there was one.
fn collect(
    pairs: impl Iterator<Item = lsm::Result<(lsm::Slice, lsm::Slice)>>,
) -> Result<(Pairs, bool), String> {
    let mut all = Pairs::new();
    for pair in pairs {
        match pair {
            Ok((key, value)) => all.push((key.to_vec(), value.to_vec())),
            Err(e) => return check_refusal(&e).map(|()| (all, true)),
        }
    }
    Ok((all, false))
}

/// Damage must be called damage, and say where.
fn check_refusal(e: &Error) -> Result<(), String> {
    match e {
        Error::Corruption { .. } | Error::UnsupportedFormat { .. } => Ok(()),
        e => Err(format!("damage is reported as {e:?}")),
    }
}

fn is_manifest(path: &Path) -> bool {
    path.to_string_lossy().contains("MANIFEST")
}

fn contents(fs: &MemFs) -> Vec<(PathBuf, Vec<u8>)> {
    let files = fs.files().into_iter().map(|(path, _)| path);
    files
        .filter(|path| !path.ends_with("LOCK"))
        .map(|path| {
            let bytes = fs.read_file(&path).unwrap_or_default();
            (path, bytes)
        })
        .collect()
}

/// The damaged file is as it was, if it is still of use; a manifest may have grown or been replaced.
fn check_untouched(fs: &MemFs, target: &Path, before: Option<&[u8]>) -> Result<(), String> {
    let is = |extension: &str| target.extension().is_some_and(|e| e == extension);
    let (Some(before), Ok(now)) = (before, fs.read_file(target)) else { return Ok(()) };
    if (is("sst") || is("log")) && now != before {
        return Err("open changed the damaged file".into());
    }
    if is_manifest(target) && !now.starts_with(before) {
        return Err("open changed the damaged manifest".into());
    }
    Ok(())
}
