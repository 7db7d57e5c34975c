//! Esker. `Durability::Buffered`: the record is with the operating system when a put returns.

use crate::data::Key;
use crate::engine::{Direction, Engine, OpenOptions};
use anyhow::Result;
use esker::{Compression, Db, Durability, Options};
use std::path::Path;

/// An open database.
#[derive(Debug)]
pub struct Esker(Db);

impl Engine for Esker {
    const SETUP: &'static str = "lz4 on all levels, 4 KiB blocks, Durability::Buffered (a sync in the background every \
                                 100 ms), everything else as it comes";
    const IDLE: &'static str = "`flush`, then `wait_idle`";

    fn open(dir: &Path, options: &OpenOptions) -> Result<Self> {
        let options = Options::default()
            .block_cache_bytes(options.cache_bytes as usize)
            .memtable_size_bytes(options.memtable_bytes as usize)
            .background_threads(options.background_threads)
            .filter_bits_per_key(options.filter_bits)
            .compression(Compression::Lz4)
            .durability(Durability::Buffered);
        Ok(Esker(Db::builder(dir).options(options).open()?))
    }

    #[inline]
    fn put(&self, key: &Key, value: &[u8]) -> Result<()> {
        Ok(self.0.put(key, value)?)
    }

    fn put_sync(&self, key: &Key, value: &[u8]) -> Result<()> {
        Ok(self.0.put_with(key, value, Durability::Sync)?)
    }

    #[inline]
    fn delete(&self, key: &Key) -> Result<()> {
        Ok(self.0.delete(key)?)
    }

    fn write_batch(&self, pairs: &[(Key, Vec<u8>)]) -> Result<()> {
        let mut batch = self.0.batch();
        pairs.iter().for_each(|(key, value)| batch.put(key, value));
        Ok(batch.commit()?)
    }

    #[inline]
    fn get(&self, key: &Key, read: impl FnMut(&[u8]) -> Result<()>) -> Result<bool> {
        Ok(self.0.get_with(key, read)?.transpose()?.is_some())
    }

    fn multi_get(
        &self,
        keys: &[Key],
        mut read: impl FnMut(usize, &[u8]) -> Result<()>,
    ) -> Result<usize> {
        let mut found = 0;
        for (i, value) in self.0.multi_get(keys)?.iter().enumerate() {
            if let Some(value) = value {
                read(i, value)?;
                found += 1;
            }
        }
        Ok(found)
    }

    fn scan(
        &self,
        direction: Direction,
        mut read: impl FnMut(&[u8], &[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut cursor = self.0.cursor()?;
        match direction {
            Direction::Forward => {
                cursor.seek_to_first()?;
                while cursor.valid() {
                    read(cursor.key(), cursor.value())?;
                    cursor.next()?;
                }
            }
            Direction::Reverse => {
                cursor.seek_to_last()?;
                while cursor.valid() {
                    read(cursor.key(), cursor.value())?;
                    cursor.prev()?;
                }
            }
        }
        Ok(())
    }

    fn scan_from(
        &self,
        start: &Key,
        n: usize,
        mut read: impl FnMut(&[u8], &[u8]) -> Result<()>,
    ) -> Result<usize> {
        let mut cursor = self.0.cursor()?;
        cursor.seek(start)?;
        let mut count = 0;
        while cursor.valid() {
            read(cursor.key(), cursor.value())?;
            count += 1;
            if count == n {
                break;
            }
            cursor.next()?;
        }
        Ok(count)
    }

    fn ingest(
        &self,
        _scratch: &Path,
        count: u64,
        mut pair: impl FnMut(u64, &mut Vec<u8>) -> Key,
    ) -> Result<bool> {
        let pairs = (0..count).map(|i| {
            let mut value = Vec::with_capacity(128);
            let key = pair(i, &mut value);
            (key, value)
        });
        self.0.ingest(pairs)?;
        Ok(true)
    }

    fn settle(&self) -> Result<()> {
        self.0.flush()?;
        Ok(self.0.wait_idle()?)
    }

    fn details(&self) -> Vec<(&'static str, f64)> {
        let metrics = self.0.metrics();
        let write_amplification = metrics.write_amplification();
        let mut details = vec![
            ("esker_table_bytes", metrics.table_bytes() as f64),
            ("esker_log_bytes_needed", metrics.log_bytes as f64),
            ("esker_stalled_micros", metrics.stalled_micros as f64),
        ];
        details.extend(write_amplification.map(|x| ("esker_write_amplification", x)));
        details
    }

    fn close(self) -> Result<()> {
        Ok(self.0.close()?)
    }
}
