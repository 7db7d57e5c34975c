//! LMDB through heed. A write is a transaction with `NO_SYNC`: written to the file, so a kill loses nothing, but a
//! power cut may damage the file. Every get opens a read transaction, as a caller who wants the latest value must.

use crate::data::Key;
use crate::engine::{Direction, Engine, OpenOptions};
use anyhow::Result;
use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, PutFlags, WithTls};
use std::ops::Bound;
use std::path::Path;

/// Address space for the mapping; the file grows as it is filled.
const MAP_BYTES: usize = 64 << 30;
/// Pairs in one transaction of a load.
const LOAD_BATCH: u64 = 100_000;

/// An open environment and its one database.
pub struct Lmdb {
    env: Env<WithTls>,
    db: Database<'static, Bytes, Bytes>,
}

impl Engine for Lmdb {
    const SETUP: &'static str = "NO_SYNC except for synced writes, NO_READ_AHEAD, no compression, no checksums; the \
                                 cache is the page cache and not bound by the cache setting; one read transaction \
                                 for each get, multi-get and scan";
    const IDLE: &'static str = "has no background work; one `force_sync`";

    fn open(dir: &Path, options: &OpenOptions) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let mut flags = EnvFlags::NO_READ_AHEAD;
        if !options.sync_writes {
            flags |= EnvFlags::NO_SYNC;
        }
        let mut settings = EnvOpenOptions::new();
        settings.map_size(MAP_BYTES);
        #[expect(unsafe_code, reason = "heed asks for a promise")]
        // SAFETY: without NO_SYNC's promise only a power cut can damage the file, and no run outlives one. The
        // directory is this process's alone, and it is opened once at a time.
        let env = unsafe {
            settings.flags(flags);
            settings.open(dir)?
        };
        let made = env.create_databases_and_commit(env.write_txn()?, |opener, txn| {
            opener.create_database(txn, None).map(CommitOrAbort::<_, ()>::Commit)
        });
        let db = made?.unwrap_commit();
        Ok(Lmdb { env, db })
    }

    #[inline]
    fn put(&self, key: &Key, value: &[u8]) -> Result<()> {
        let mut txn = self.env.write_txn()?;
        self.db.put(&mut txn, key, value)?;
        Ok(txn.commit()?)
    }

    fn put_sync(&self, key: &Key, value: &[u8]) -> Result<()> {
        self.put(key, value)
    }

    #[inline]
    fn delete(&self, key: &Key) -> Result<()> {
        let mut txn = self.env.write_txn()?;
        self.db.delete(&mut txn, key)?;
        Ok(txn.commit()?)
    }

    fn write_batch(&self, pairs: &[(Key, Vec<u8>)]) -> Result<()> {
        let mut txn = self.env.write_txn()?;
        for (key, value) in pairs {
            self.db.put(&mut txn, key, value)?;
        }
        Ok(txn.commit()?)
    }

    #[inline]
    fn get(&self, key: &Key, mut read: impl FnMut(&[u8]) -> Result<()>) -> Result<bool> {
        let txn = self.env.read_txn()?;
        match self.db.get(&txn, key)? {
            Some(value) => read(value).map(|()| true),
            None => Ok(false),
        }
    }

    fn multi_get(
        &self,
        keys: &[Key],
        mut read: impl FnMut(usize, &[u8]) -> Result<()>,
    ) -> Result<usize> {
        let txn = self.env.read_txn()?;
        let mut found = 0;
        for (i, key) in keys.iter().enumerate() {
            if let Some(value) = self.db.get(&txn, key)? {
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
        let txn = self.env.read_txn()?;
        match direction {
            Direction::Forward => {
                for pair in self.db.iter(&txn)? {
                    let (key, value) = pair?;
                    read(key, value)?;
                }
            }
            Direction::Reverse => {
                for pair in self.db.rev_iter(&txn)? {
                    let (key, value) = pair?;
                    read(key, value)?;
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
        let txn = self.env.read_txn()?;
        let range = (Bound::Included(&start[..]), Bound::Unbounded);
        let mut count = 0;
        for pair in self.db.range(&txn, &range)?.take(n) {
            let (key, value) = pair?;
            read(key, value)?;
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
            let mut txn = self.env.write_txn()?;
            for i in from..count.min(from + LOAD_BATCH) {
                let key = pair(i, &mut value);
                self.db.put_with_flags(&mut txn, PutFlags::APPEND, &key, &value)?;
            }
            txn.commit()?;
        }
        self.env.force_sync()?;
        Ok(true)
    }

    fn settle(&self) -> Result<()> {
        Ok(self.env.force_sync()?)
    }

    fn close(self) -> Result<()> {
        self.env.prepare_for_closing().wait();
        Ok(())
    }
}
