//! fjall. A write is one `write()` into the journal; a kill loses nothing.

use crate::data::Key;
use crate::engine::{Direction, Engine, OpenOptions};
use anyhow::Result;
use fjall::config::{BloomConstructionPolicy, CompressionPolicy, FilterPolicy, FilterPolicyEntry};
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

/// An open database and its one keyspace.
pub struct Fjall {
    db: Database,
    keyspace: Keyspace,
}

impl Engine for Fjall {
    const SETUP: &'static str = "lz4 and bloom filters on all levels (by default the top levels have no compression \
                                 and a denser filter), 4 KiB blocks";
    const IDLE: &'static str = "`rotate_memtable_and_wait`, then no flush queued, no compaction running and none \
                                finished for half a second";

    fn open(dir: &Path, options: &OpenOptions) -> Result<Self> {
        let db = Database::builder(dir)
            .cache_size(options.cache_bytes)
            .worker_threads(options.background_threads)
            .open()?;
        let bits = BloomConstructionPolicy::BitsPerKey(options.filter_bits as f32);
        let memtable_bytes = options.memtable_bytes;
        let keyspace = db.keyspace("default", || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(memtable_bytes)
                .filter_policy(FilterPolicy::all(FilterPolicyEntry::Bloom(bits)))
                .data_block_compression_policy(CompressionPolicy::all(CompressionType::Lz4))
        })?;
        Ok(Fjall { db, keyspace })
    }

    #[inline]
    fn put(&self, key: &Key, value: &[u8]) -> Result<()> {
        Ok(self.keyspace.insert(key, value)?)
    }

    fn put_sync(&self, key: &Key, value: &[u8]) -> Result<()> {
        let mut batch = self.db.batch().durability(Some(PersistMode::SyncData));
        batch.insert(&self.keyspace, key, value);
        Ok(batch.commit()?)
    }

    #[inline]
    fn delete(&self, key: &Key) -> Result<()> {
        Ok(self.keyspace.remove(key)?)
    }

    fn write_batch(&self, pairs: &[(Key, Vec<u8>)]) -> Result<()> {
        let mut batch = fjall::OwnedWriteBatch::with_capacity(self.db.clone(), pairs.len());
        pairs.iter().for_each(|(key, value)| batch.insert(&self.keyspace, key, value.as_slice()));
        Ok(batch.commit()?)
    }

    #[inline]
    fn get(&self, key: &Key, mut read: impl FnMut(&[u8]) -> Result<()>) -> Result<bool> {
        match self.keyspace.get(key)? {
            Some(value) => read(&value).map(|()| true),
            None => Ok(false),
        }
    }

    fn scan(
        &self,
        direction: Direction,
        mut read: impl FnMut(&[u8], &[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut pairs = self.keyspace.iter();
        let next = |pairs: &mut fjall::Iter| match direction {
            Direction::Forward => pairs.next(),
            Direction::Reverse => pairs.next_back(),
        };
        while let Some(pair) = next(&mut pairs) {
            let (key, value) = pair.into_inner()?;
            read(&key, &value)?;
        }
        Ok(())
    }

    fn scan_from(
        &self,
        start: &Key,
        n: usize,
        mut read: impl FnMut(&[u8], &[u8]) -> Result<()>,
    ) -> Result<usize> {
        let mut count = 0;
        for pair in self.keyspace.range(&start[..]..).take(n) {
            let (key, value) = pair.into_inner()?;
            read(&key, &value)?;
            count += 1;
        }
        Ok(count)
    }

    fn ingest(
        &self,
        _scratch: &Path,
        count: u64,
        mut pair: impl FnMut(u64, &mut Vec<u8>) -> Key,
    ) -> Result<bool> {
        let mut ingestion = self.keyspace.start_ingestion()?;
        let mut value = Vec::new();
        for i in 0..count {
            let key = pair(i, &mut value);
            ingestion.write(key, value.as_slice())?;
        }
        ingestion.finish()?;
        Ok(true)
    }

    fn settle(&self) -> Result<()> {
        self.keyspace.rotate_memtable_and_wait()?;
        let (mut calm, mut finished) = (0, self.db.compactions_completed());
        while calm < 10 {
            sleep(Duration::from_millis(50));
            let now = self.db.compactions_completed();
            let busy = self.db.outstanding_flushes() > 0
                || self.db.active_compactions() > 0
                || self.keyspace.sealed_memtable_count() > 0;
            calm = if busy || now != finished { 0 } else { calm + 1 };
            finished = now;
        }
        Ok(())
    }

    fn close(self) -> Result<()> {
        Ok(self.db.persist(PersistMode::Buffer)?)
    }
}
