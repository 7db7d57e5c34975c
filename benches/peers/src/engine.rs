//! What every engine must be able to do, and the list of engines.
//!
//! The methods are generic, not virtual: each workload is compiled for each engine, and no engine pays for a call
//! through a table.

use crate::data::Key;
use anyhow::Result;
use std::path::Path;

/// How a database is opened.
#[derive(Debug, Clone)]
#[allow(
    dead_code,
    reason = "not every engine asks for everything, and not every build has every engine"
)]
pub struct OpenOptions {
    /// Bytes of the block or page cache.
    pub cache_bytes: u64,
    /// Bytes of one memtable.
    pub memtable_bytes: u64,
    /// Threads for background work.
    pub background_threads: usize,
    /// Bits per key of the filters.
    pub filter_bits: u32,
    /// Every write of this run is to be on the disk when it returns. Only some engines must know beforehand.
    pub sync_writes: bool,
    /// Threads that will write at the same time.
    pub writers: usize,
}

/// Where a scan goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Ascending keys.
    Forward,
    /// Descending keys.
    Reverse,
}

/// One engine behind the verbs that the workloads use.
///
/// A write has returned when it would survive a kill of the process, without an fsync; what an engine does instead, if
/// it cannot, is said in its file. Values are lent where the engine can lend them.
pub trait Engine: Sized + Send + Sync {
    /// How this engine is set up, in one line, for the report.
    const SETUP: &'static str;
    /// How the run knows that its background work is done.
    const IDLE: &'static str;

    /// Opens the database in `dir`, or makes one in the empty directory.
    fn open(dir: &Path, options: &OpenOptions) -> Result<Self>;

    /// Sets `key`.
    fn put(&self, key: &Key, value: &[u8]) -> Result<()>;

    /// Sets `key`; on the disk when it returns.
    fn put_sync(&self, key: &Key, value: &[u8]) -> Result<()>;

    /// Deletes `key`, which is there.
    fn delete(&self, key: &Key) -> Result<()>;

    /// Sets all pairs in one step.
    fn write_batch(&self, pairs: &[(Key, Vec<u8>)]) -> Result<()>;

    /// Lends the value of `key`; false if there is none.
    fn get(&self, key: &Key, read: impl FnMut(&[u8]) -> Result<()>) -> Result<bool>;

    /// Lends the values of `keys` by their position, as of one moment where the engine has a call for that; returns
    /// how many there are.
    fn multi_get(
        &self,
        keys: &[Key],
        mut read: impl FnMut(usize, &[u8]) -> Result<()>,
    ) -> Result<usize> {
        let mut found = 0;
        for (i, key) in keys.iter().enumerate() {
            found += usize::from(self.get(key, |value| read(i, value))?);
        }
        Ok(found)
    }

    /// Lends all pairs.
    fn scan(
        &self,
        direction: Direction,
        read: impl FnMut(&[u8], &[u8]) -> Result<()>,
    ) -> Result<()>;

    /// Lends up to `n` pairs from `start` on, with an iterator made for it; returns how many there were.
    fn scan_from(
        &self,
        start: &Key,
        n: usize,
        read: impl FnMut(&[u8], &[u8]) -> Result<()>,
    ) -> Result<usize>;

    /// Loads ascending pairs into an empty database by the fastest way there is, durable when it returns; `false` if
    /// the engine has none.
    fn ingest(
        &self,
        scratch: &Path,
        count: u64,
        pair: impl FnMut(u64, &mut Vec<u8>) -> Key,
    ) -> Result<bool>;

    /// Writes what is in memory to its final place and waits until background work has nothing to do.
    fn settle(&self) -> Result<()>;

    /// What only this engine tells about its run, for the raw figures.
    fn details(&self) -> Vec<(&'static str, f64)> {
        Vec::new()
    }

    /// Closes in good order.
    fn close(self) -> Result<()>;
}

/// Calls `$body` with the type of the engine called `$name` bound to `$engine`.
macro_rules! with_engine {
    ($name:expr, $engine:ident => $body:expr) => {
        match $name {
            "esker" => {
                type $engine = $crate::engines::esker::Esker;
                $body
            }
            #[cfg(feature = "rocksdb")]
            "rocksdb" => {
                type $engine = $crate::engines::rocksdb::RocksDb;
                $body
            }
            #[cfg(feature = "fjall")]
            "fjall" => {
                type $engine = $crate::engines::fjall::Fjall;
                $body
            }
            #[cfg(feature = "surrealkv")]
            "surrealkv" => {
                type $engine = $crate::engines::surrealkv::SurrealKv;
                $body
            }
            #[cfg(feature = "redb")]
            "redb" => {
                type $engine = $crate::engines::redb::Redb;
                $body
            }
            #[cfg(feature = "lmdb")]
            "lmdb" => {
                type $engine = $crate::engines::lmdb::Lmdb;
                $body
            }
            #[cfg(feature = "sled")]
            "sled" => {
                type $engine = $crate::engines::sled::Sled;
                $body
            }
            other => Err(anyhow::anyhow!("no engine is called {other} in this build")),
        }
    };
}
pub(crate) use with_engine;

/// The engines of this build, ours first.
pub const NAMES: &[&str] = &[
    "esker",
    #[cfg(feature = "rocksdb")]
    "rocksdb",
    #[cfg(feature = "fjall")]
    "fjall",
    #[cfg(feature = "surrealkv")]
    "surrealkv",
    #[cfg(feature = "redb")]
    "redb",
    #[cfg(feature = "lmdb")]
    "lmdb",
    #[cfg(feature = "sled")]
    "sled",
];

/// How the engine called `name` is set up, and how its idleness is known.
pub fn setup_of(name: &str) -> Result<(&'static str, &'static str)> {
    with_engine!(name, E => Ok((E::SETUP, E::IDLE)))
}
