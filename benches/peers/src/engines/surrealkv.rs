//! SurrealKV. A commit is one `write()` into the log; a kill loses nothing. Commits are asynchronous: with one writer
//! the runtime is on the writer's thread (the fastest way tried; flushes and compactions then run in the writer's
//! time), with more it has two threads of its own.

use crate::data::Key;
use crate::engine::{Direction, Engine, OpenOptions};
use crate::measure::Usage;
use anyhow::Result;
use std::path::Path;
use std::time::Duration;
use surrealkv::{
    CompactRangeOptions, CompressionType, Durability, Error, LSMIterator, Mode, Options,
    ReadOptions, Transaction, Tree, TreeBuilder,
};
use tokio::runtime::{Builder, Runtime};

/// An open tree and the runtime of its tasks.
pub struct SurrealKv {
    tree: Tree,
    runtime: Runtime,
}

impl SurrealKv {
    /// Commits what `change` does; again when another writer was faster with the same key, as its users must.
    fn commit(
        &self,
        durability: Durability,
        change: impl Fn(&mut Transaction) -> surrealkv::Result<()>,
    ) -> Result<()> {
        loop {
            let mut txn = self.tree.begin_with_mode(Mode::WriteOnly)?.with_durability(durability);
            change(&mut txn)?;
            match self.runtime.block_on(txn.commit()) {
                Err(Error::TransactionWriteConflict | Error::TransactionRetry) => {}
                other => return Ok(other?),
            }
        }
    }

    fn walk(
        &self,
        start: Option<&Key>,
        direction: Direction,
        n: usize,
        mut read: impl FnMut(&[u8], &[u8]) -> Result<()>,
    ) -> Result<usize> {
        let txn = self.tree.begin_with_mode(Mode::ReadOnly)?;
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(start.map(|key| key.to_vec()));
        let mut iter = txn.range_with_options(&options)?;
        let mut more = match direction {
            Direction::Forward => iter.seek_first()?,
            Direction::Reverse => iter.seek_last()?,
        };
        let mut count = 0;
        while more {
            read(iter.key().user_key(), &iter.value_ref()?)?;
            count += 1;
            more = count < n
                && match direction {
                    Direction::Forward => iter.next()?,
                    Direction::Reverse => iter.prev()?,
                };
        }
        Ok(count)
    }

    /// Waits until the process has used no processor time and written nothing for half a second; its tasks run
    /// meanwhile.
    fn wait_quiet(&self) -> Result<()> {
        let (mut calm, mut before) = (0, Usage::now()?);
        while calm < 5 {
            // Inside the block: a timer can only be made where a runtime is.
            self.runtime.block_on(async { tokio::time::sleep(Duration::from_millis(100)).await });
            let now = Usage::now()?;
            let spent = now.since(before);
            let quiet = spent.cpu() <= Duration::from_millis(10) && spent.bytes_written < 1 << 16;
            calm = if quiet { calm + 1 } else { 0 };
            before = now;
        }
        Ok(())
    }
}

impl Engine for SurrealKv {
    const SETUP: &'static str = "snappy on all levels (it has no lz4), 64 KiB blocks (its default), preallocated log, \
                                 Durability::Eventual, the runtime on the writer's thread if there is one writer, \
                                 on two threads of its own otherwise";
    const IDLE: &'static str = "memtables flushed by `compact_range` down to level 0, then no processor time and no \
                                bytes written for half a second (it tells nothing about its tasks)";

    fn open(dir: &Path, options: &OpenOptions) -> Result<Self> {
        let runtime = match options.writers {
            0 | 1 => Builder::new_current_thread().enable_time().build()?,
            _ => Builder::new_multi_thread()
                .worker_threads(options.background_threads)
                .enable_time()
                .build()?,
        };
        let settings = Options::new()
            .with_path(dir.to_path_buf())
            .with_block_cache_capacity(options.cache_bytes)
            .with_compression_per_level(vec![CompressionType::SnappyCompression])
            .with_wal_preallocation(true);
        // Its default filter has 10 bits for each key; the type is private, so another number cannot be set.
        anyhow::ensure!(options.filter_bits == 10, "surrealkv's filters have 10 bits for each key");
        let builder = TreeBuilder::with_options(settings)
            .with_max_memtable_size(options.memtable_bytes as usize);
        let tree = {
            let _inside = runtime.enter();
            builder.build()?
        };
        Ok(SurrealKv { tree, runtime })
    }

    fn put(&self, key: &Key, value: &[u8]) -> Result<()> {
        self.commit(Durability::Eventual, |txn| txn.set(&key[..], value))
    }

    fn put_sync(&self, key: &Key, value: &[u8]) -> Result<()> {
        self.commit(Durability::Immediate, |txn| txn.set(&key[..], value))
    }

    fn delete(&self, key: &Key) -> Result<()> {
        self.commit(Durability::Eventual, |txn| txn.delete(&key[..]))
    }

    fn write_batch(&self, pairs: &[(Key, Vec<u8>)]) -> Result<()> {
        self.commit(Durability::Eventual, |txn| {
            pairs.iter().try_for_each(|(key, value)| txn.set(&key[..], value.as_slice()))
        })
    }

    fn get(&self, key: &Key, mut read: impl FnMut(&[u8]) -> Result<()>) -> Result<bool> {
        let txn = self.tree.begin_with_mode(Mode::ReadOnly)?;
        match txn.get(&key[..])? {
            Some(value) => read(&value).map(|()| true),
            None => Ok(false),
        }
    }

    fn multi_get(
        &self,
        keys: &[Key],
        mut read: impl FnMut(usize, &[u8]) -> Result<()>,
    ) -> Result<usize> {
        let txn = self.tree.begin_with_mode(Mode::ReadOnly)?;
        let mut found = 0;
        for (i, key) in keys.iter().enumerate() {
            if let Some(value) = txn.get(&key[..])? {
                read(i, &value)?;
                found += 1;
            }
        }
        Ok(found)
    }

    fn scan(
        &self,
        direction: Direction,
        read: impl FnMut(&[u8], &[u8]) -> Result<()>,
    ) -> Result<()> {
        self.walk(None, direction, usize::MAX, read)?;
        Ok(())
    }

    fn scan_from(
        &self,
        start: &Key,
        n: usize,
        read: impl FnMut(&[u8], &[u8]) -> Result<()>,
    ) -> Result<usize> {
        self.walk(Some(start), Direction::Forward, n, read)
    }

    fn ingest(
        &self,
        _scratch: &Path,
        _count: u64,
        _pair: impl FnMut(u64, &mut Vec<u8>) -> Key,
    ) -> Result<bool> {
        Ok(false)
    }

    fn settle(&self) -> Result<()> {
        let flush = CompactRangeOptions { target_level: Some(0), ..CompactRangeOptions::default() };
        self.tree.compact_range(None, None, &flush)?;
        self.wait_quiet()
    }

    fn close(self) -> Result<()> {
        Ok(self.runtime.block_on(self.tree.close())?)
    }
}
