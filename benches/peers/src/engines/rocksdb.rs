//! RocksDB. A write is one `write()` into the log; a kill loses nothing.

use crate::data::Key;
use crate::engine::{Direction, Engine, OpenOptions};
use anyhow::Result;
use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, IngestExternalFileOptions, Options,
    ReadOptions, SstFileWriter, WaitForCompactOptions, WriteBatch, WriteOptions,
};
use std::path::Path;

/// An open database, and the options of each call made once.
pub struct RocksDb {
    db: DB,
    options: Options,
    read: ReadOptions,
    write: WriteOptions,
    write_sync: WriteOptions,
}

impl RocksDb {
    fn walk(
        &self,
        iter: &mut rocksdb::DBRawIterator<'_>,
        direction: Direction,
        n: usize,
        mut read: impl FnMut(&[u8], &[u8]) -> Result<()>,
    ) -> Result<usize> {
        let mut count = 0;
        while let Some((key, value)) = iter.item() {
            read(key, value)?;
            count += 1;
            if count == n {
                break;
            }
            match direction {
                Direction::Forward => iter.next(),
                Direction::Reverse => iter.prev(),
            }
        }
        iter.status()?;
        Ok(count)
    }
}

impl Engine for RocksDb {
    const SETUP: &'static str = "lz4 on all levels, 4 KiB blocks, full bloom filters, HyperClockCache, three write \
                                 buffers, two subcompactions, leveled with dynamic level sizes (its default), \
                                 pinned gets, batched multi-get";
    const IDLE: &'static str = "`wait_for_compact` with flush";

    fn open(dir: &Path, options: &OpenOptions) -> Result<Self> {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(&Cache::new_hyper_clock_cache(options.cache_bytes as usize, 0));
        table.set_bloom_filter(f64::from(options.filter_bits), false);
        table.set_block_size(4 << 10);
        let mut settings = Options::default();
        settings.create_if_missing(true);
        settings.set_block_based_table_factory(&table);
        settings.set_compression_type(DBCompressionType::Lz4);
        settings.set_write_buffer_size(options.memtable_bytes as usize);
        settings.set_max_write_buffer_number(3);
        settings.set_max_background_jobs(options.background_threads as i32);
        settings.set_max_subcompactions(2);
        let mut write_sync = WriteOptions::default();
        write_sync.set_sync(true);
        Ok(RocksDb {
            db: DB::open(&settings, dir)?,
            options: settings,
            read: ReadOptions::default(),
            write: WriteOptions::default(),
            write_sync,
        })
    }

    #[inline]
    fn put(&self, key: &Key, value: &[u8]) -> Result<()> {
        Ok(self.db.put_opt(key, value, &self.write)?)
    }

    fn put_sync(&self, key: &Key, value: &[u8]) -> Result<()> {
        Ok(self.db.put_opt(key, value, &self.write_sync)?)
    }

    #[inline]
    fn delete(&self, key: &Key) -> Result<()> {
        Ok(self.db.delete_opt(key, &self.write)?)
    }

    fn write_batch(&self, pairs: &[(Key, Vec<u8>)]) -> Result<()> {
        let mut batch = WriteBatch::default();
        pairs.iter().for_each(|(key, value)| batch.put(key, value));
        Ok(self.db.write_opt(batch, &self.write)?)
    }

    #[inline]
    fn get(&self, key: &Key, mut read: impl FnMut(&[u8]) -> Result<()>) -> Result<bool> {
        match self.db.get_pinned_opt(key, &self.read)? {
            Some(value) => read(&value).map(|()| true),
            None => Ok(false),
        }
    }

    fn multi_get(
        &self,
        keys: &[Key],
        mut read: impl FnMut(usize, &[u8]) -> Result<()>,
    ) -> Result<usize> {
        let default = self.db.cf_handle("default");
        let Some(default) = default else { anyhow::bail!("no default column family") };
        let values = self.db.batched_multi_get_cf_opt(default, keys, false, &self.read);
        let mut found = 0;
        for (i, value) in values.into_iter().enumerate() {
            if let Some(value) = value? {
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
        let mut iter = self.db.raw_iterator();
        match direction {
            Direction::Forward => iter.seek_to_first(),
            Direction::Reverse => iter.seek_to_last(),
        }
        self.walk(&mut iter, direction, usize::MAX, read)?;
        Ok(())
    }

    fn scan_from(
        &self,
        start: &Key,
        n: usize,
        read: impl FnMut(&[u8], &[u8]) -> Result<()>,
    ) -> Result<usize> {
        let mut iter = self.db.raw_iterator();
        iter.seek(start);
        self.walk(&mut iter, Direction::Forward, n, read)
    }

    fn ingest(
        &self,
        scratch: &Path,
        count: u64,
        mut pair: impl FnMut(u64, &mut Vec<u8>) -> Key,
    ) -> Result<bool> {
        std::fs::create_dir_all(scratch)?;
        let file = scratch.join("pairs.sst");
        let mut writer = SstFileWriter::create(&self.options);
        writer.open(&file)?;
        let mut value = Vec::new();
        for i in 0..count {
            let key = pair(i, &mut value);
            writer.put(key, &value)?;
        }
        writer.finish()?;
        let mut options = IngestExternalFileOptions::default();
        options.set_move_files(true);
        self.db.ingest_external_file_opts(&options, vec![&file])?;
        Ok(true)
    }

    fn settle(&self) -> Result<()> {
        let mut options = WaitForCompactOptions::default();
        options.set_flush(true);
        Ok(self.db.wait_for_compact(&options)?)
    }

    fn close(self) -> Result<()> {
        Ok(())
    }
}
