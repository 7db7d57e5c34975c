//! What a salvage tells.

use super::catalog::Catalog;
use super::log::LogSurvey;
use super::ranges::LostKeys;
use base::{Error, FileName};
use std::fmt;
use std::path::{Path, PathBuf};

/// Places of damage listed one by one; more are only counted.
const DAMAGE_MAX: usize = 1000;

/// What a salvage copied and what was lost. Shown, it is a text for people.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SalvageReport {
    /// Where the list of keyspaces and tables came from.
    pub source: SalvageSource,
    /// One entry for each keyspace of the new database.
    pub keyspaces: Vec<KeyspaceSalvage>,
    /// Records of the log that could be read.
    pub log_records: u64,
    /// Places in the log where records are or may be missing: file and offset of each. A torn tail, as a power cut leaves
    /// it, is one too: what was acknowledged as durable cannot be told from what was not.
    pub log_damage: Vec<(PathBuf, u64)>,
    /// The first thousand places of damage.
    pub damage: Vec<SalvageDamage>,
    /// All places of damage.
    pub damage_count: u64,
}

/// Where the list of keyspaces and tables came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SalvageSource {
    /// The manifest, which is whole.
    Manifest,
    /// The newest manifest, which is whole and agrees with the files; `CURRENT` is damaged.
    NewestManifest,
    /// The files of the directory, and what a damaged manifest still says. Tables that had been replaced may be among
    /// them, and tables that are missing are not noticed: everything may be older than it was.
    Files,
}

/// What became of one keyspace.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct KeyspaceSalvage {
    /// Its name in the new database.
    pub name: String,
    /// Pairs copied from tables.
    pub entries: u64,
    /// Puts, deletes and range deletes copied from the log.
    pub log_operations: u64,
    /// Tables that were read, damaged ones among them.
    pub tables_read: u64,
    /// Tables of which something is wrong, or that cannot be read at all.
    pub tables_damaged: u64,
    /// Tables that are not there.
    pub tables_missing: u64,
    /// Stretches of tables that cannot be read: one block, or all of a table.
    pub stretches_lost: u64,
    /// The keys of which something may be lost.
    pub lost_keys: LostKeys,
}

/// A place of damage.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SalvageDamage {
    /// The keyspace, if it belongs to one.
    pub keyspace: Option<String>,
    /// The file.
    pub path: PathBuf,
    /// Where in the file it was noticed.
    pub offset: u64,
    /// What is wrong.
    pub error: Error,
}

/// How far a salvage is.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct SalvageProgress<'a> {
    /// The keyspace at hand.
    pub keyspace: &'a str,
    /// Tables of it that were begun.
    pub tables: u64,
    /// Tables of it in all.
    pub tables_total: u64,
    /// Pairs of it copied so far.
    pub entries: u64,
}

impl SalvageReport {
    pub(super) fn new(catalog: &Catalog, survey: &LogSurvey) -> SalvageReport {
        let mut report = SalvageReport {
            source: catalog.source,
            keyspaces: Vec::new(),
            log_records: survey.records,
            log_damage: survey.places.clone(),
            damage: Vec::new(),
            damage_count: 0,
        };
        for (path, error) in &catalog.damage {
            report.add_damage(None, path, 0, error.clone());
        }
        for (path, offset) in &survey.places {
            let error = Error::corruption(path, *offset, "records of the log cannot be read");
            report.add_damage(None, path, *offset, error);
        }
        report
    }

    /// True if nothing is lost: every key of every keyspace is as it was.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.keyspaces.iter().all(|keyspace| keyspace.lost_keys.is_empty())
    }

    /// What became of the keyspace `name`.
    #[must_use]
    pub fn keyspace(&self, name: &str) -> Option<&KeyspaceSalvage> {
        self.keyspaces.iter().find(|keyspace| keyspace.name == name)
    }

    pub(super) fn add_keyspace(&mut self, losses: Losses, entries: u64) {
        self.damage_count += losses.damage_count - losses.damage.len() as u64;
        for found in losses.damage {
            self.add_damage(Some(&losses.name), &found.path, found.offset, found.error);
        }
        self.keyspaces.push(KeyspaceSalvage {
            name: losses.name,
            entries,
            log_operations: 0,
            tables_read: losses.tables_read,
            tables_damaged: losses.tables_damaged,
            tables_missing: losses.tables_missing,
            stretches_lost: losses.stretches_lost,
            lost_keys: losses.keys,
        });
    }

    pub(super) fn count_log_operation(&mut self, keyspace: &str) {
        let found = self.keyspaces.iter_mut().find(|found| found.name == keyspace);
        if let Some(keyspace) = found {
            keyspace.log_operations += 1;
        }
    }

    fn add_damage(&mut self, keyspace: Option<&str>, path: &Path, offset: u64, error: Error) {
        self.damage_count += 1;
        if self.damage.len() < DAMAGE_MAX {
            let (keyspace, path) = (keyspace.map(Into::into), path.to_path_buf());
            self.damage.push(SalvageDamage { keyspace, path, offset, error });
        }
    }
}

/// What was lost of one keyspace so far.
#[derive(Debug)]
pub(super) struct Losses {
    pub(super) name: String,
    pub(super) keys: LostKeys,
    pub(super) tables_read: u64,
    pub(super) tables_damaged: u64,
    pub(super) tables_missing: u64,
    pub(super) stretches_lost: u64,
    damage: Vec<SalvageDamage>,
    damage_count: u64,
}

impl Losses {
    pub(super) fn new(name: &str) -> Losses {
        Losses {
            name: name.into(),
            keys: LostKeys::default(),
            tables_read: 0,
            tables_damaged: 0,
            tables_missing: 0,
            stretches_lost: 0,
            damage: Vec::new(),
            damage_count: 0,
        }
    }

    /// Notes damage, of which no key need be lost.
    pub(super) fn note(&mut self, path: &Path, offset: u64, error: &Error) {
        self.damage_count += 1;
        if self.damage.len() < DAMAGE_MAX {
            let offset = match error {
                Error::Corruption { offset, .. } => *offset,
                _ => offset,
            };
            let (path, error) = (path.to_path_buf(), error.clone());
            self.damage.push(SalvageDamage { keyspace: None, path, offset, error });
        }
    }
}

impl fmt::Display for SalvageReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.source {
            SalvageSource::Manifest => writeln!(f, "files listed by the manifest")?,
            SalvageSource::NewestManifest => {
                writeln!(
                    f,
                    "files listed by the newest manifest, {} is damaged",
                    FileName::Current
                )?;
            }
            SalvageSource::Files => {
                writeln!(f, "files found in the directory: everything may be older than it was")?;
            }
        }
        writeln!(f, "log: {} records, {} places damaged", self.log_records, self.log_damage.len())?;
        for keyspace in &self.keyspaces {
            write!(f, "{keyspace}")?;
        }
        for damage in &self.damage {
            writeln!(f, "damage: {}", damage.error)?;
        }
        let hidden = self.damage_count - self.damage.len() as u64;
        if hidden > 0 {
            writeln!(f, "and {hidden} more places of damage")?;
        }
        if self.is_whole() {
            writeln!(f, "nothing is lost")?;
        }
        Ok(())
    }
}

/// Ranges of lost keys shown for each keyspace.
const RANGES_SHOWN: usize = 20;
/// Bytes of a key shown.
const KEY_SHOWN: usize = 32;

impl fmt::Display for KeyspaceSalvage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "keyspace {}: {} pairs and {} operations of the log copied; {} tables read, {} damaged, {} missing, \
             {} stretches lost",
            self.name,
            self.entries,
            self.log_operations,
            self.tables_read,
            self.tables_damaged,
            self.tables_missing,
            self.stretches_lost,
        )?;
        for range in self.lost_keys.ranges().take(RANGES_SHOWN) {
            write!(f, "  missing or older: {} to ", shown(&range.first))?;
            match &range.last {
                Some(last) => writeln!(f, "{}", shown(last))?,
                None => writeln!(f, "the end")?,
            }
        }
        let hidden = self.lost_keys.ranges().count().saturating_sub(RANGES_SHOWN);
        if hidden > 0 {
            writeln!(f, "  and {hidden} more ranges")?;
        }
        Ok(())
    }
}

fn shown(key: &[u8]) -> String {
    let end = if key.len() > KEY_SHOWN { "..." } else { "" };
    format!("\"{}{end}\"", key.get(..KEY_SHOWN).unwrap_or(key).escape_ascii())
}
