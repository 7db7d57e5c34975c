//! Salvage: what can be read of a damaged database becomes a new, healthy one.
//!
//! 1. [`catalog`]: what the database consists of, from the manifest or, where that is damaged, from the files;
//! 2. [`log`]: the log is surveyed: what it holds, and between which sequence numbers records are missing;
//! 3. [`merge`]: keyspace by keyspace, the readable blocks of all tables are merged and the newest versions ingested;
//! 4. [`log`] again: what the tables did not hold yet is written, in its order.
//!
//! The damaged database is only read. What cannot be read is told as ranges of keys ([`ranges`]): outside of them the new database is what the
//! old one was.

mod catalog;
mod log;
mod merge;
mod ranges;
mod report;

pub use ranges::{LostKeys, LostRange};
pub use report::{KeyspaceSalvage, SalvageDamage, SalvageProgress, SalvageReport, SalvageSource};

use crate::builder::DbBuilder;
use crate::db::Db;
use crate::keyspace::Keyspace;
use crate::options::Durability;
use base::{Error, FileName, IoContext, KeyspaceId, Result};
use catalog::Catalog;
use log::LogSurvey;
use merge::Merge;
use report::Losses;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use vfs::{FileKind, FileLock, Fs};

/// The keyspaces of the new database, by their ids in the old one.
type Targets = BTreeMap<KeyspaceId, Keyspace>;

/// Copies what is readable in `from` into a new database in `into`, which `open` opens.
pub(crate) fn salvage(
    fs: &dyn Fs,
    from: &Path,
    into: &Path,
    new_database: DbBuilder,
    progress: &mut dyn FnMut(&SalvageProgress<'_>),
) -> Result<SalvageReport> {
    check_source(fs, from)?;
    check_target(fs, from, into)?;
    let _lock = lock(fs, from)?;
    let mut catalog = Catalog::read(fs, from)?;
    let mut survey = LogSurvey::read(fs, from, &catalog)?;
    if let Some(evidence) = survey.lost_edits.take().filter(|_| catalog.is_complete) {
        catalog = Catalog::from_files(fs, from, Some(evidence))?;
        survey = LogSurvey::read(fs, from, &catalog)?;
    }
    survey.add_keyspaces(&mut catalog);
    let db = new_database.open().inspect_err(|_| clear(fs, into))?;
    let copied = copy(fs, from, &catalog, survey, &db, progress).and_then(|report| {
        db.flush()?;
        db.close()?;
        Ok(report)
    });
    copied.inspect_err(|_| {
        drop(db.close());
        clear(fs, into);
    })
}

fn copy(
    fs: &dyn Fs,
    from: &Path,
    catalog: &Catalog,
    survey: LogSurvey,
    db: &Db,
    progress: &mut dyn FnMut(&SalvageProgress<'_>),
) -> Result<SalvageReport> {
    let mut report = SalvageReport::new(catalog, &survey);
    let mut targets = Targets::new();
    for (&id, keyspace) in &catalog.keyspaces {
        let target = db.keyspace(&keyspace.name, &keyspace.options)?;
        let mut losses = Losses::new(&keyspace.name);
        let old_log = survey.old_operations(id);
        let stale_everywhere = !catalog.is_complete && survey.gaps.is_empty();
        let mut merge =
            Merge::new(fs, from, keyspace, old_log, stale_everywhere, &mut losses, progress);
        let pairs = target.ingest(&mut merge)?;
        if let Some(e) = merge.failure() {
            return Err(e);
        }
        if !catalog.is_complete || survey.lost_for(keyspace.flushed) {
            losses.keys.add_all();
        }
        report.add_keyspace(losses, pairs);
        targets.insert(id, target);
    }
    log::write_new_operations(fs, from, catalog, &targets, db, &mut report)?;
    Ok(report)
}

/// `from` is a directory with at least one file of a database.
fn check_source(fs: &dyn Fs, from: &Path) -> Result<()> {
    let refuse =
        |detail: &str| Err(Error::NotADatabase { path: from.to_path_buf(), detail: detail.into() });
    match fs.metadata(from) {
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return refuse("there is nothing; check the path");
        }
        Err(e) => return Err(Error::io("inspect", from, e)),
        Ok(found) if found.kind == FileKind::File => {
            return refuse("it is a file; give the path of a directory");
        }
        Ok(_) => {}
    }
    let names = fs.list(from).context("list", from)?;
    let is_data = |name: FileName| {
        matches!(
            name,
            FileName::Current | FileName::Manifest(_) | FileName::Segment(_) | FileName::Table(_)
        )
    };
    if names.iter().filter_map(|name| FileName::parse(name)).any(is_data) {
        return Ok(());
    }
    refuse("there is no file of a database in it")
}

/// `into` is missing or an empty directory, and not part of `from`.
fn check_target(fs: &dyn Fs, from: &Path, into: &Path) -> Result<()> {
    let refuse = |detail: &str| {
        let detail = format!("{} {detail}; choose a new one", into.display());
        Err(Error::invalid("salvage directory", detail))
    };
    if into.starts_with(from) {
        return refuse("lies in the damaged database");
    }
    match fs.list(into) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotADirectory => refuse("is a file"),
        Err(e) => Err(Error::io("list", into, e)),
        Ok(names) if names.is_empty() => Ok(()),
        Ok(_) => refuse("is not empty"),
    }
}

/// Keeps others from opening the database meanwhile, where that can be.
fn lock(fs: &dyn Fs, from: &Path) -> Result<Option<Box<dyn FileLock>>> {
    let path = FileName::Lock.in_dir(from);
    match fs.lock(&path) {
        Ok(lock) => Ok(Some(lock)),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Err(Error::Locked { path }),
        // A copy on a medium that cannot be written, or something else in the place of the lock.
        Err(_) => Ok(None),
    }
}

/// Removes what a failed salvage made; the directory was empty or missing before.
fn clear(fs: &dyn Fs, into: &Path) {
    for name in fs.list(into).unwrap_or_default() {
        drop(fs.remove_file(&into.join(name.file_name().unwrap_or_default())));
    }
    drop(fs.remove_dir(into));
}

impl DbBuilder {
    /// Copies what can be read of a damaged database into a new one in `into`, which is opened with the options and
    /// components given here and is closed when this returns.
    ///
    /// Of the damaged one only the lock is touched. Each key gets its newest readable version; deletes and range
    /// tombstones that can be read are honoured. See [`SalvageReport`] for what is said of the rest, and
    /// [`LostKeys`] for what "lost" means. Keyspaces keep names and options where these can be read; the default
    /// keyspace has the options given here.
    ///
    /// The cost is one read of all tables, two of the log, and one write of what is alive. Memory: a few blocks and
    /// the index of one table for each run of tables, the range tombstones of one keyspace, the new memtables.
    ///
    /// A salvage that a crash cuts short leaves a directory to be removed: it is complete once this has returned.
    ///
    /// # Errors
    /// [`Error::NotADatabase`] if there is none; [`Error::InvalidArgument`] if `into` is not empty or lies in the
    /// damaged database; [`Error::Locked`] if that is open; [`Error::UnsupportedFormat`] if a newer version
    /// wrote it; what the writing of the new one meets, such as [`Error::NoSpace`]. Then `into` is removed again. Damage is no error.
    pub fn salvage(self, into: impl AsRef<Path>) -> Result<SalvageReport> {
        self.salvage_with(into, |_| {})
    }

    /// As [`salvage`](Self::salvage), and calls `progress` at each table.
    ///
    /// # Errors
    /// As for [`salvage`](Self::salvage).
    pub fn salvage_with(
        self,
        into: impl AsRef<Path>,
        mut progress: impl FnMut(&SalvageProgress<'_>),
    ) -> Result<SalvageReport> {
        let (fs, from, new_database) = self.moved_to(into.as_ref());
        salvage(&*fs, &from, into.as_ref(), new_database, &mut progress)
    }
}

/// Writes into the new database are made durable at its close.
const DURABILITY: Durability = Durability::Memory;
