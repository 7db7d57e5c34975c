//! sled. A write goes into a buffer that is written and synced every 500 ms (its default): a kill loses that much. Its
//! sync is `sync_file_range` on Linux, which does not empty the cache of the disk.

use crate::data::Key;
use crate::engine::{Direction, Engine, OpenOptions};
use anyhow::Result;
use sled::{Batch, Config, Db};
use std::path::Path;

/// Pairs in one batch of a load.
const LOAD_BATCH: u64 = 1000;

/// An open database.
pub struct Sled(Db);

impl Engine for Sled {
    const SETUP: &'static str = "flushed every 500 ms (its default; a kill loses up to that), no compression; its flush is \
                                 sync_file_range, which a power cut may undo";
    const IDLE: &'static str = "`flush`; has no other background work";

    fn open(dir: &Path, options: &OpenOptions) -> Result<Self> {
        Ok(Sled(Config::new().path(dir).cache_capacity(options.cache_bytes).open()?))
    }

    fn put(&self, key: &Key, value: &[u8]) -> Result<()> {
        self.0.insert(key, value)?;
        Ok(())
    }

    fn put_sync(&self, key: &Key, value: &[u8]) -> Result<()> {
        self.0.insert(key, value)?;
        self.0.flush()?;
        Ok(())
    }

    fn delete(&self, key: &Key) -> Result<()> {
        self.0.remove(key)?;
        Ok(())
    }

    fn write_batch(&self, pairs: &[(Key, Vec<u8>)]) -> Result<()> {
        let mut batch = Batch::default();
        pairs.iter().for_each(|(key, value)| batch.insert(key, value.as_slice()));
        Ok(self.0.apply_batch(batch)?)
    }

    fn get(&self, key: &Key, mut read: impl FnMut(&[u8]) -> Result<()>) -> Result<bool> {
        match self.0.get(key)? {
            Some(value) => read(&value).map(|()| true),
            None => Ok(false),
        }
    }

    fn scan(
        &self,
        direction: Direction,
        mut read: impl FnMut(&[u8], &[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut pairs = self.0.iter();
        loop {
            let pair = match direction {
                Direction::Forward => pairs.next(),
                Direction::Reverse => pairs.next_back(),
            };
            let Some(pair) = pair else { return Ok(()) };
            let (key, value) = pair?;
            read(&key, &value)?;
        }
    }

    fn scan_from(
        &self,
        start: &Key,
        n: usize,
        mut read: impl FnMut(&[u8], &[u8]) -> Result<()>,
    ) -> Result<usize> {
        let mut count = 0;
        for pair in self.0.range(&start[..]..).take(n) {
            let (key, value) = pair?;
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
        let mut value = Vec::new();
        for from in (0..count).step_by(LOAD_BATCH as usize) {
            let mut batch = Batch::default();
            for i in from..count.min(from + LOAD_BATCH) {
                let key = pair(i, &mut value);
                batch.insert(&key, value.as_slice());
            }
            self.0.apply_batch(batch)?;
        }
        self.0.flush()?;
        Ok(true)
    }

    fn settle(&self) -> Result<()> {
        self.0.flush()?;
        Ok(())
    }

    fn close(self) -> Result<()> {
        self.0.flush()?;
        Ok(())
    }
}
