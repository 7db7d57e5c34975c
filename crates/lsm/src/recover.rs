//! Opening: lock, manifest, log. What follows before the first change is in [`begin`](crate::begin).

use crate::begin::LiveFiles;
use crate::commit::CommitQueue;
use crate::engine::{Engine, Store};
use crate::executor::Executor;
use crate::health::HealthState;
use crate::keyspaces::{DEFAULT_NAME, trees_of};
use crate::listener::{Events, Listener};
use crate::memory::initial_cache_bytes;
use crate::options::{KeyspaceOptions, Options};
use crate::tree::Tree;
use base::clock::Clock;
use base::rng::Rng;
use base::sync::atomic::AtomicU64;
use base::sync::{Mutex, RwLock};
use base::{Error, FileName, FileNum, IoContext, KeyspaceId, Result};
use manifest::{Manifest, ManifestOptions, NewKeyspace, State, VersionEdit};
use sstable::{BlockCache, TableCache};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vfs::{FileKind, FileLock, Fs};
use wal::{ClosedSegment, RecoveryMode, Replayed, SegmentToReplay};

/// The components a database is opened with.
pub(crate) struct Parts {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) dir: PathBuf,
    pub(crate) options: Options,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) executor: Arc<dyn Executor>,
    pub(crate) rng: Rng,
    pub(crate) cache: Option<Arc<BlockCache>>,
    pub(crate) listener: Option<Arc<dyn Listener>>,
}

/// Opens or creates the database of `parts`.
pub(crate) fn open(mut parts: Parts) -> Result<Arc<Engine>> {
    parts.options.validate()?;
    let exists = look_at_dir(&parts)?;
    let lock = lock_dir(&parts)?;
    let db_id = parts.rng.next_u64();
    let (manifest, state) = if exists { look(&parts)? } else { create(&parts, db_id)? };
    let manifest_path = FileName::Manifest(manifest.file()).in_dir(&parts.dir);
    let trees = trees_of(&state, &parts.options, &manifest_path)?;
    let names = list_files(&parts)?;
    let next_file = check_files(&parts, &state, &names, &manifest_path)?;
    let live = LiveFiles::of(&state, manifest.file());
    // Nothing to read, to make durable or to remove: then nothing is written before somebody changes something.
    let clean = manifest.was_closed()
        && state.segments.is_empty()
        && !names.iter().any(|name| live.is_obsolete(name));
    let engine = Arc::new(assemble(parts, manifest, state, trees, next_file, lock));
    engine.divide_memory();
    let recovered = engine.replay_log()?;
    if engine.options.read_only {
        return Ok(engine);
    }
    if exists && clean {
        base::probe!("open that writes nothing");
    } else {
        engine.begin(recovered)?;
        engine.remove_obsolete_files()?;
    }
    engine.start_background();
    Ok(engine)
}

/// Finds out what is at the path, before anything is changed. True if it is a database.
fn look_at_dir(parts: &Parts) -> Result<bool> {
    let dir = &parts.dir;
    let refuse = |detail: &str| Error::NotADatabase { path: dir.clone(), detail: detail.into() };
    let may_create = parts.options.create_if_missing && !parts.options.read_only;
    match parts.fs.metadata(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound && may_create => return Ok(false),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(refuse("there is nothing; check the path, or open with create_if_missing"));
        }
        Err(e) if e.kind() == io::ErrorKind::NotADirectory => {
            return Err(refuse("a part of the path is a file; check the path"));
        }
        Err(e) => return Err(Error::io("inspect", dir, e)),
        Ok(found) if found.kind == FileKind::File => {
            return Err(refuse("it is a file; give the path of a directory"));
        }
        Ok(_) => {}
    }
    if Manifest::exists(&*parts.fs, dir)? {
        return Ok(true);
    }
    let names = parts.fs.list(dir).context("list", dir)?;
    if let Some(foreign) = names.iter().find(|name| FileName::parse(name).is_none()) {
        let shown = foreign.file_name().unwrap_or_default().to_string_lossy().into_owned();
        return Err(refuse(&format!(
            "it holds other files, such as {shown:?}; choose an empty directory"
        )));
    }
    if !may_create {
        return Err(refuse("the directory is empty; open it with create_if_missing"));
    }
    Ok(false)
}

fn lock_dir(parts: &Parts) -> Result<Option<Box<dyn FileLock>>> {
    let dir = &parts.dir;
    if !parts.options.read_only {
        parts.fs.create_dir_all(dir).context("create directory", dir)?;
    }
    let path = FileName::Lock.in_dir(dir);
    match parts.fs.lock(&path) {
        Ok(lock) => Ok(Some(lock)),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Err(Error::Locked { path }),
        // A reader of a copy on a medium that cannot be written needs no lock.
        Err(e)
            if parts.options.read_only
                && matches!(
                    e.kind(),
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
                ) =>
        {
            Ok(None)
        }
        Err(e) => Err(Error::io("lock", &path, e)),
    }
}

pub(crate) fn manifest_options(options: &Options) -> ManifestOptions {
    ManifestOptions { rotate_bytes: options.manifest_rotate_bytes, read_only: options.read_only }
}

/// Reads the manifest without a change to the disk: the log is not known to be whole yet.
fn look(parts: &Parts) -> Result<(Manifest, State)> {
    let options = ManifestOptions { read_only: true, ..manifest_options(&parts.options) };
    Manifest::recover(Arc::clone(&parts.fs), &parts.dir, options)
}

fn create(parts: &Parts, db_id: u64) -> Result<(Manifest, State)> {
    let mut state = State::new(db_id);
    let options = KeyspaceOptions::default().resolve(&parts.options)?.encode();
    let default = NewKeyspace { id: KeyspaceId::DEFAULT, name: DEFAULT_NAME.into(), options };
    let num = state.next_file;
    let edit = VersionEdit {
        next_file: Some(FileNum(num.0 + 1)),
        keyspaces_created: vec![default],
        ..VersionEdit::default()
    };
    let detail = |detail| Error::Poisoned { detail };
    state.apply(&edit).map_err(detail)?;
    let (fs, dir) = (Arc::clone(&parts.fs), &parts.dir);
    let manifest = Manifest::create(fs, dir, &state, num, manifest_options(&parts.options))?;
    sync_parents(&*parts.fs, dir)?;
    Ok((manifest, state))
}

/// Makes the names of `dir` and its parents durable: they may be new.
pub(crate) fn sync_parents(fs: &dyn Fs, dir: &Path) -> Result<()> {
    for parent in dir.ancestors().skip(1) {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        match fs.sync_dir(parent) {
            // A directory that we may not even open was not made by us.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
            synced => synced.context("sync directory", parent)?,
        }
    }
    Ok(())
}

/// The files of the database in its directory.
fn list_files(parts: &Parts) -> Result<BTreeSet<FileName>> {
    let names = parts.fs.list(&parts.dir).context("list", &parts.dir)?;
    Ok(names.iter().filter_map(|name| FileName::parse(name)).collect())
}

/// Compares the directory with the manifest. Returns a number above those of all files, so that none is used twice; the
/// one before it is left for a manifest.
///
/// A manifest whose last edits are gone reads like one that never had them. Files give it away: tables it still lists and
/// that were deleted since, log segments it does not list yet and that were written since.
fn check_files(
    parts: &Parts,
    state: &State,
    names: &BTreeSet<FileName>,
    manifest: &Path,
) -> Result<u64> {
    for (_, _, table) in state.keyspaces.values().flat_map(|k| k.version.tables()) {
        let name = FileName::Table(table.file);
        if !names.contains(&name) {
            return Err(Error::corruption(&name.in_dir(&parts.dir), 0, "table file is missing"));
        }
    }
    let mut largest = state.next_file.0;
    for name in names {
        let (FileName::Manifest(n) | FileName::Segment(n) | FileName::Table(n)) = *name else {
            continue;
        };
        largest = largest.max(n.0);
        let proves_loss = n >= state.next_file
            && match name {
                FileName::Segment(_) => holds_records(parts, state.db_id, n),
                // A new database has no table before it has a log, a closed one knows of all it ever made.
                FileName::Table(_) => state.segments.is_empty(),
                _ => false,
            };
        if proves_loss {
            base::probe!("files prove lost edits");
            let detail =
                format!("the last edits are gone: it does not know of {name}, which is in use");
            return Err(Error::corruption(manifest, 0, detail));
        }
    }
    // Numbers are given out one by one; half of them are never reached.
    if largest > u64::MAX / 2 {
        let detail = format!("file number {largest} was never given out; remove the file");
        return Err(Error::corruption(&parts.dir, 0, detail));
    }
    Ok(largest + 1)
}

/// True if the segment `num` was in use by this database. A segment is listed durably before it is used.
fn holds_records(parts: &Parts, db_id: u64, num: FileNum) -> bool {
    let listed = [SegmentToReplay { num, closed: None }];
    let mut found = false;
    // What is damaged or a leftover proves nothing.
    drop(wal::replay(
        &*parts.fs,
        &parts.dir,
        db_id,
        &listed,
        RecoveryMode::SkipCorrupt,
        &mut |_, _, _, _| {
            found = true;
            Ok(())
        },
    ));
    found
}

fn assemble(
    parts: Parts,
    manifest: Manifest,
    state: State,
    trees: std::collections::BTreeMap<KeyspaceId, Arc<Tree>>,
    next_file: u64,
    lock: Option<Box<dyn FileLock>>,
) -> Engine {
    let Parts { fs, dir, options, clock, executor, rng, cache, listener } = parts;
    let events = Events::new(listener, &executor);
    let cache_is_shared = cache.is_some();
    let cache = cache.unwrap_or_else(|| Arc::new(BlockCache::new(initial_cache_bytes(&options))));
    let tables =
        TableCache::new(Arc::clone(&fs), dir.clone(), options.open_files_max, Arc::clone(&cache));
    Engine {
        tables: Arc::new(tables),
        cache_is_shared,
        trees: RwLock::new(trees),
        commits: CommitQueue::new(state.last_seq),
        segments: Default::default(),
        next_file: AtomicU64::new(next_file),
        next_run: AtomicU64::new(state.next_run.0),
        next_compaction: AtomicU64::new(1),
        manifest: Mutex::new(Store { manifest: Some(manifest), state }),
        snapshots: Default::default(),
        open_iterators: Default::default(),
        graveyard: Default::default(),
        health: HealthState::new(options.read_only, Arc::clone(&events)),
        events,
        counters: Default::default(),
        charges: Default::default(),
        told_stall: Default::default(),
        memory: Default::default(),
        reserve: Default::default(),
        scrub: Default::default(),
        recovery: Default::default(),
        limiter: Default::default(),
        quiet: Default::default(),
        event: Default::default(),
        // Ids of tables differ from open to open even if the caller gives the same seed: blocks are cached by them.
        rng: Mutex::new(Rng::new(rng.clone().next_u64().wrapping_add(next_file))),
        closing: Default::default(),
        closed: Mutex::default(),
        calls: Default::default(),
        jobs: AtomicU64::new(0),
        flush_barrier: AtomicU64::new(u64::MAX),
        exclusive: Mutex::default(),
        lock: Mutex::new(lock),
        fs,
        dir,
        options,
        clock,
        executor,
    }
}

/// What the last open found in the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// Records read.
    pub records: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// Where the log was torn, if it did not end cleanly: file and offset. What lay behind was never acknowledged as synced.
    pub torn: Option<(PathBuf, u64)>,
    /// Damage that the [`RecoveryMode`] made the open pass over: file and offset of each. Acknowledged writes are missing.
    pub skipped: Vec<(PathBuf, u64)>,
}

impl From<&Replayed> for RecoveryReport {
    fn from(replayed: &Replayed) -> Self {
        RecoveryReport {
            records: replayed.records,
            bytes: replayed.payload_bytes,
            torn: replayed.torn.as_ref().map(|t| (t.path.clone(), t.offset)),
            skipped: replayed.skipped.clone(),
        }
    }
}

impl Engine {
    /// Starts the background sync, and what the recovered trees need.
    fn start_background(self: &Arc<Self>) {
        let weak = Arc::downgrade(self);
        let mut ticks = 0u64;
        self.executor.every(
            self.options.sync_interval,
            Box::new(move || {
                let Some(engine) = weak.upgrade().filter(|e| !e.is_closing()) else { return false };
                ticks += 1;
                engine.tick(ticks);
                true
            }),
        );
        self.queue_reserve();
        for tree in self.all_trees() {
            self.schedule_compactions(&tree);
        }
    }

    /// What is done every sync interval: the background sync, and another try of what failed.
    fn tick(self: &Arc<Self>, count: u64) {
        self.scrub_if_due();
        self.tell_old_snapshots();
        self.memory_changed();
        if self.health.is_stopped() {
            return;
        }
        self.tell_stall_ended();
        // A failure has stopped writes and is shown by `health`.
        drop(self.sync_if_due());
        self.watch_quiet();
        let retry = self.health.retrying().is_some();
        if self.segments.wants_spare() {
            // The job that was asked for it may wait behind a long flush, and a writer would have to make it.
            drop(self.provide_segment(0));
            self.bound_log();
        }
        self.segments.prefault();
        if retry {
            self.retry_trim();
        }
        if retry || count.is_multiple_of(16) {
            self.queue_reserve();
            for tree in self.all_trees() {
                self.queue_flush(&tree);
                self.schedule_compactions(&tree);
            }
        }
        self.purge();
    }
}

/// The log segments of `state`, oldest first.
pub(crate) fn segments_to_replay(state: &State) -> Vec<SegmentToReplay> {
    let each = |(&num, segment): (&FileNum, &manifest::SegmentState)| SegmentToReplay {
        num,
        closed: segment.closed.map(ClosedSegment::from),
    };
    let skip = if base::planted::is(5) { state.segments.len().saturating_sub(2) } else { 0 };
    state.segments.iter().skip(skip).map(each).collect()
}
