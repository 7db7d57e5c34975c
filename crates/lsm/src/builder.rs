//! Opening with options and components.

use crate::db::Db;
use crate::executor::{Executor, ThreadExecutor};
use crate::listener::Listener;
use crate::options::Options;
use crate::recover::{Parts, open};
use base::clock::{Clock, SystemClock};
use base::rng::Rng;
use base::{Result, limits};
use sstable::BlockCache;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vfs::{Fs, StdFs};

/// Collects what a [`Db`] is opened with.
#[derive(Debug)]
#[must_use = "nothing is opened before `open`"]
pub struct DbBuilder {
    dir: PathBuf,
    options: Options,
    fs: Option<Arc<dyn Fs>>,
    clock: Option<Arc<dyn Clock>>,
    executor: Option<Arc<dyn Executor>>,
    cache: Option<Arc<BlockCache>>,
    seed: Option<u64>,
    listener: Told,
}

/// Who is told of events.
#[derive(Default)]
struct Told(Option<Arc<dyn Listener>>);

impl std::fmt::Debug for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "a listener" } else { "nobody" })
    }
}

impl DbBuilder {
    pub(crate) fn new(dir: &Path) -> Self {
        DbBuilder {
            dir: dir.to_path_buf(),
            options: Options::default(),
            fs: None,
            clock: None,
            executor: None,
            cache: None,
            seed: None,
            listener: Told::default(),
        }
    }

    /// Sets the options. Default [`Options::default`].
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// Sets the file system. Default the real disk.
    pub fn fs(mut self, fs: Arc<dyn Fs>) -> Self {
        self.fs = Some(fs);
        self
    }

    /// Sets the clock. Default that of the system.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Sets where background work runs. Default [`Options::background_threads`] threads of the database's own.
    pub fn executor(mut self, executor: Arc<dyn Executor>) -> Self {
        self.executor = Some(executor);
        self
    }

    /// Shares a block cache with other databases; [`Options::block_cache_bytes`] is then not used.
    pub fn block_cache(mut self, cache: Arc<BlockCache>) -> Self {
        self.cache = Some(cache);
        self
    }

    /// Seeds the ids that a database gives itself and its tables, so that a run can be replayed. Default: they differ
    /// from run to run.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Tells `listener` what happens in the database, see [`Listener`]. Default: nobody is told.
    pub fn listener(mut self, listener: Arc<dyn Listener>) -> Self {
        self.listener = Told(Some(listener));
        self
    }

    /// The file system and the directory, and a builder of a new database in `dir` instead.
    pub(crate) fn moved_to(self, dir: &Path) -> (Arc<dyn Fs>, PathBuf, DbBuilder) {
        let fs = self.fs.unwrap_or_else(|| Arc::new(StdFs::new()));
        // What is there already may be larger than what may be written from now on.
        let options = self
            .options
            .create_if_missing(true)
            .read_only(false)
            .key_bytes_max(limits::KEY_BYTES_MAX)
            .value_bytes_max(limits::VALUE_BYTES_MAX)
            .batch_bytes_max(limits::BATCH_BYTES_MAX)
            .batch_ops_max(limits::BATCH_OPS_MAX);
        let (new_dir, new_fs) = (dir.to_path_buf(), Some(Arc::clone(&fs)));
        let there = DbBuilder { dir: new_dir, options, fs: new_fs, ..self };
        (fs, self.dir, there)
    }

    /// Opens the database, or makes one where there is none.
    ///
    /// What the log holds is replayed; the cost grows with the bytes in the log, not with the data.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`](base::Error::InvalidArgument) naming every option that breaks a rule;
    /// [`Error::NotADatabase`](base::Error::NotADatabase) if the path is a file, or a directory with other things
    /// in it; [`Error::Locked`](base::Error::Locked) if it is open already, here or in another process;
    /// [`Error::UnsupportedFormat`](base::Error::UnsupportedFormat) if a newer version wrote it;
    /// [`Error::Corruption`](base::Error::Corruption) if it is damaged; then nothing on disk was changed.
    pub fn open(self) -> Result<Db> {
        self.options.validate()?;
        let threads = self.options.background_threads;
        let executor = match self.executor {
            Some(executor) => executor,
            None => ThreadExecutor::new(if self.options.read_only { 1 } else { threads }),
        };
        let parts = Parts {
            fs: self.fs.unwrap_or_else(|| Arc::new(StdFs::new())),
            dir: self.dir,
            options: self.options,
            clock: self.clock.unwrap_or_else(|| Arc::new(SystemClock::new())),
            executor: Arc::clone(&executor),
            rng: self.seed.map_or_else(Rng::from_entropy, Rng::new),
            cache: self.cache,
            listener: self.listener.0,
        };
        match open(parts) {
            Ok(engine) => Db::from_engine(engine),
            Err(e) => {
                executor.shutdown();
                Err(e)
            }
        }
    }
}
