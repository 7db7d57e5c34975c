//! What a damaged database consists of.
//!
//! Normally the manifest says it. Where that is damaged, every table in the directory is taken: tables note their
//! keyspace in their properties, and a part of the manifest or an older one may name them too.

use super::report::SalvageSource;
use crate::keyspaces::DEFAULT_NAME;
use crate::options::{KeyspaceOptions, TreeOptions};
use base::{Error, FileName, FileNum, IoContext, KeyspaceId, Result, SeqNo, limits};
use manifest::{ManifestRemains, Remains, State, TableMeta};
use sstable::{KeyspaceLabel, TableRemains};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use vfs::Fs;
use wal::{RecoveryMode, SegmentToReplay};

/// Tables of which nobody knows the keyspace go here.
const UNKNOWN: KeyspaceId = KeyspaceId(u32::MAX);
const UNKNOWN_NAME: &str = "salvaged-unknown";

/// What there is to copy.
#[derive(Debug)]
pub(super) struct Catalog {
    pub(super) db_id: Option<u64>,
    pub(super) source: SalvageSource,
    /// True if all tables and log segments are listed, and no others.
    pub(super) is_complete: bool,
    pub(super) keyspaces: BTreeMap<KeyspaceId, KeyspaceEntry>,
    /// Ids from here on were never used, if `is_complete`.
    pub(super) next_keyspace: KeyspaceId,
    pub(super) segments: Vec<SegmentToReplay>,
    /// What was found wrong on the way.
    pub(super) damage: Vec<(PathBuf, Error)>,
}

/// A keyspace to copy.
#[derive(Debug, Default)]
pub(super) struct KeyspaceEntry {
    pub(super) name: String,
    pub(super) options: KeyspaceOptions,
    /// Every write up to and with this one went to tables.
    pub(super) flushed: SeqNo,
    pub(super) tables: Vec<TableEntry>,
}

/// A table to copy, and what is known of it without a look.
#[derive(Debug, Clone)]
pub(super) struct TableEntry {
    pub(super) file: FileNum,
    pub(super) table_id: Option<u64>,
    pub(super) entries: Option<u64>,
    /// False if it is known to have no range tombstones.
    pub(super) may_have_tombstones: bool,
    pub(super) smallest: Vec<u8>,
    /// `None`: not known.
    pub(super) largest: Option<Vec<u8>>,
    /// What entries have that were written without a sequence number.
    pub(super) sequence: SeqNo,
    /// Set once it was counted as damaged.
    pub(super) is_counted: bool,
}

impl From<&TableMeta> for TableEntry {
    fn from(meta: &TableMeta) -> Self {
        TableEntry {
            file: meta.file,
            table_id: Some(meta.table_id),
            entries: Some(meta.entries),
            may_have_tombstones: meta.range_tombstones > 0,
            smallest: meta.smallest.clone(),
            largest: Some(meta.largest.clone()),
            sequence: meta.seq_max,
            is_counted: false,
        }
    }
}

impl Catalog {
    /// Takes the manifest, if it can be relied on, else the files.
    pub(super) fn read(fs: &dyn Fs, dir: &Path) -> Result<Catalog> {
        let remains = manifest::remains(fs, dir)?;
        if let Some(e @ Error::UnsupportedFormat { .. }) = remains.damage {
            return Err(e);
        }
        match reliable(fs, dir, &remains)? {
            Ok((state, source)) => {
                Ok(Catalog::from_state(dir, state, source, remains.damage.clone()))
            }
            Err(evidence) => Catalog::from_files(fs, dir, evidence),
        }
    }

    fn from_state(
        dir: &Path,
        state: &State,
        source: SalvageSource,
        damage: Option<Error>,
    ) -> Catalog {
        let entry = |keyspace: &manifest::KeyspaceState| KeyspaceEntry {
            tables: keyspace.version.tables().map(|(_, _, table)| (&**table).into()).collect(),
            ..described(keyspace)
        };
        Catalog {
            db_id: Some(state.db_id),
            source,
            is_complete: true,
            keyspaces: state.keyspaces.iter().map(|(&id, k)| (id, entry(k))).collect(),
            next_keyspace: state.next_keyspace,
            segments: crate::recover::segments_to_replay(state),
            damage: damage.into_iter().map(|e| (FileName::Current.in_dir(dir), e)).collect(),
        }
    }

    /// Takes every file in `dir`. `evidence` is why the manifest is not relied on.
    pub(super) fn from_files(fs: &dyn Fs, dir: &Path, evidence: Option<Error>) -> Result<Catalog> {
        let remains = manifest::remains(fs, dir)?;
        let files = Files::list(fs, dir)?;
        let path = FileName::Current.in_dir(dir);
        let mut catalog = Catalog {
            db_id: remains.db_id.or_else(|| files.db_id(fs, dir)),
            source: SalvageSource::Files,
            is_complete: false,
            keyspaces: BTreeMap::new(),
            next_keyspace: KeyspaceId(u32::MAX),
            segments: Vec::new(),
            damage: evidence.or(remains.damage).into_iter().map(|e| (path.clone(), e)).collect(),
        };
        let each = |&num: &FileNum| SegmentToReplay { num, closed: None };
        catalog.segments = files.segments.iter().map(each).collect();
        let mut listed = BTreeMap::new();
        // The best manifest last, so that what it says stays.
        for ManifestRemains { state, .. } in remains.manifests.iter().rev() {
            for (&id, keyspace) in &state.keyspaces {
                catalog.keyspaces.insert(id, described(keyspace));
                for (_, _, table) in keyspace.version.tables() {
                    listed.insert(table.file, (id, TableEntry::from(&**table)));
                }
            }
        }
        catalog.keyspace(KeyspaceId::DEFAULT, DEFAULT_NAME);
        for &file in &files.tables {
            catalog.add_file(fs, dir, file, listed.get(&file));
        }
        Ok(catalog)
    }

    /// The keyspace `id`; listed under `name`, or another if that is taken, if it was not known yet.
    pub(super) fn keyspace(&mut self, id: KeyspaceId, name: &str) -> &mut KeyspaceEntry {
        let valid = limits::check_keyspace_name(name).is_ok();
        let taken = self.keyspaces.values().any(|k| k.name == name);
        let name = if valid && !taken { name.into() } else { format!("keyspace-{}", id.0) };
        self.keyspaces.entry(id).or_insert_with(|| KeyspaceEntry { name, ..Default::default() })
    }

    /// Adds a table that no reliable manifest lists.
    fn add_file(
        &mut self,
        fs: &dyn Fs,
        dir: &Path,
        file: FileNum,
        listed: Option<&(KeyspaceId, TableEntry)>,
    ) {
        let path = FileName::Table(file).in_dir(dir);
        let known = listed.map(|(_, entry)| entry.clone());
        let (mut entry, mut label, mut seq_max) = match known {
            Some(entry) => (entry.clone(), None, entry.sequence),
            None => (unknown_table(file), None, SeqNo(0)),
        };
        if let Ok(opened) = fs.open(&path) {
            let remains = TableRemains::open(opened, &path, entry.table_id, entry.entries);
            if let Some(properties) = remains.properties() {
                label.clone_from(&properties.keyspace);
                seq_max = seq_max.max(properties.seq_max);
                entry.smallest.clone_from(&properties.smallest);
                entry.largest = Some(properties.largest.clone());
                entry.may_have_tombstones = properties.range_tombstones > 0;
            }
        }
        let (id, name) = match (listed, label) {
            (Some((id, _)), _) => (*id, String::new()),
            (None, Some(KeyspaceLabel { id, name })) => (KeyspaceId(id), name),
            (None, None) => (UNKNOWN, UNKNOWN_NAME.into()),
        };
        let keyspace = self.keyspace(id, &name);
        keyspace.flushed = keyspace.flushed.max(seq_max);
        keyspace.tables.push(entry);
    }
}

fn unknown_table(file: FileNum) -> TableEntry {
    TableEntry {
        file,
        table_id: None,
        entries: None,
        may_have_tombstones: true,
        smallest: Vec::new(),
        largest: None,
        sequence: SeqNo(0),
        is_counted: false,
    }
}

/// Name, options and progress of a keyspace, without its tables.
fn described(keyspace: &manifest::KeyspaceState) -> KeyspaceEntry {
    let options = TreeOptions::decode(&keyspace.options).map(|options| options.public());
    KeyspaceEntry {
        name: keyspace.name.clone(),
        options: options.unwrap_or_default(),
        flushed: keyspace.flushed_seq,
        tables: Vec::new(),
    }
}

/// The state that can be relied on to list all files, or the evidence that there is none.
fn reliable<'r>(
    fs: &dyn Fs,
    dir: &Path,
    remains: &'r Remains,
) -> Result<Result<(&'r State, SalvageSource), Option<Error>>> {
    let Some(best) = remains.manifests.first().filter(|m| m.damage.is_none()) else {
        return Ok(Err(remains.damage.clone()));
    };
    let files = Files::list(fs, dir)?;
    if let Some(evidence) = files.prove_lost_edits(fs, dir, &best.state, &best.path) {
        return Ok(Err(Some(evidence)));
    }
    if remains.damage.is_none() {
        return Ok(Ok((&best.state, SalvageSource::Manifest)));
    }
    // Without CURRENT nothing says how long the manifest was: any file that it does not account for speaks against it.
    let live = best.state.live_files();
    let is_newest =
        files.manifests.iter().all(|num| FileName::Manifest(*num).in_dir(dir) <= best.path);
    let tables_are_listed = files.tables.iter().all(|num| live.contains(num));
    let reliable = is_newest && tables_are_listed;
    Ok(if reliable {
        Ok((&best.state, SalvageSource::NewestManifest))
    } else {
        Err(remains.damage.clone())
    })
}

/// The files of a directory, by kind.
#[derive(Debug, Default)]
struct Files {
    manifests: BTreeSet<FileNum>,
    segments: BTreeSet<FileNum>,
    tables: BTreeSet<FileNum>,
}

impl Files {
    fn list(fs: &dyn Fs, dir: &Path) -> Result<Files> {
        let mut files = Files::default();
        for name in fs.list(dir).context("list", dir)? {
            match FileName::parse(&name) {
                Some(FileName::Manifest(num)) => files.manifests.insert(num),
                Some(FileName::Segment(num)) => files.segments.insert(num),
                Some(FileName::Table(num)) => files.tables.insert(num),
                _ => false,
            };
        }
        Ok(files)
    }

    /// The id that most log segments carry.
    fn db_id(&self, fs: &dyn Fs, dir: &Path) -> Option<u64> {
        let mut votes: BTreeMap<u64, usize> = BTreeMap::new();
        for &num in &self.segments {
            let owner = wal::database_of(fs, &FileName::Segment(num).in_dir(dir));
            if let Ok(Some(id)) = owner {
                *votes.entry(id).or_default() += 1;
            }
        }
        votes.into_iter().max_by_key(|&(_, votes)| votes).map(|(id, _)| id)
    }

    /// Why `state` cannot be the newest: files that it does not know of and that are in use.
    fn prove_lost_edits(
        &self,
        fs: &dyn Fs,
        dir: &Path,
        state: &State,
        manifest: &Path,
    ) -> Option<Error> {
        let unknown =
            |num: &&FileNum| !state.segments.contains_key(num) && **num >= state.next_file;
        let used = self
            .segments
            .iter()
            .filter(unknown)
            .find(|num| holds_records(fs, dir, state.db_id, **num));
        // A new database has no table before it has a log, a closed one knows of all it ever made. A table without
        // sequence numbers is one that was ingested, of which the log says nothing.
        let table = self.tables.iter().filter(|num| **num >= state.next_file).find(|num| {
            state.segments.is_empty() || was_ingested(fs, &FileName::Table(**num).in_dir(dir))
        });
        // A compaction that is not known of has replaced a table by a newer one.
        let newer = self.tables.iter().find(|num| **num >= state.next_file);
        let replaced = newer.filter(|_| {
            let listed = state.keyspaces.values().flat_map(|k| k.version.tables());
            listed.map(|(_, _, table)| table.file).any(|file| !self.tables.contains(&file))
        });
        let name = used.map(|&num| FileName::Segment(num));
        let name = name.or(table.or(replaced).map(|&num| FileName::Table(num)))?;
        let detail =
            format!("the last edits are gone: it does not know of {name}, which is in use");
        Some(Error::corruption(manifest, 0, detail))
    }
}

fn was_ingested(fs: &dyn Fs, path: &Path) -> bool {
    let Ok(file) = fs.open(path) else { return false };
    let remains = TableRemains::open(file, path, None, None);
    remains.properties().is_some_and(|p| p.entries > 0 && p.seq_max == SeqNo(0))
}

/// True if the segment `num` was in use by this database.
fn holds_records(fs: &dyn Fs, dir: &Path, db_id: u64, num: FileNum) -> bool {
    let listed = [SegmentToReplay { num, closed: None }];
    let mut found = false;
    // What is damaged or a leftover proves nothing.
    drop(wal::replay(fs, dir, db_id, &listed, RecoveryMode::SkipCorrupt, &mut |_, _, _, _| {
        found = true;
        Ok(())
    }));
    found
}
