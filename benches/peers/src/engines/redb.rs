//! redb. A write is a transaction with `Durability::None`, the only one without an fsync: a kill loses everything since
//! the last durable commit. There is nothing between that and an fsync for every commit.

use crate::data::Key;
use crate::engine::{Direction, Engine, OpenOptions};
use anyhow::Result;
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use std::path::Path;

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("pairs");
/// Pairs in one transaction of a load.
const LOAD_BATCH: u64 = 100_000;

/// An open database.
pub struct Redb(Database);

impl Redb {
    fn commit(
        &self,
        durability: Durability,
        change: impl FnOnce(&mut redb::Table<'_, &'static [u8], &'static [u8]>) -> Result<()>,
    ) -> Result<()> {
        let mut txn = self.0.begin_write()?;
        txn.set_durability(durability)?;
        change(&mut txn.open_table(TABLE)?)?;
        Ok(txn.commit()?)
    }
}

impl Engine for Redb {
    const SETUP: &'static str = "Durability::None (a kill loses what no durable commit followed; it has nothing \
                                 between that and an fsync), Immediate for synced writes, no compression; one read \
                                 transaction for each get, multi-get and scan";
    const IDLE: &'static str = "has no background work; one durable commit";

    fn open(dir: &Path, options: &OpenOptions) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let db = Database::builder()
            .set_cache_size(options.cache_bytes as usize)
            .create(dir.join("pairs.redb"))?;
        let this = Redb(db);
        if this.0.begin_read()?.open_table(TABLE).is_err() {
            this.commit(Durability::Immediate, |_| Ok(()))?;
        }
        Ok(this)
    }

    fn put(&self, key: &Key, value: &[u8]) -> Result<()> {
        self.commit(Durability::None, |table| {
            table.insert(&key[..], value)?;
            Ok(())
        })
    }

    fn put_sync(&self, key: &Key, value: &[u8]) -> Result<()> {
        self.commit(Durability::Immediate, |table| {
            table.insert(&key[..], value)?;
            Ok(())
        })
    }

    fn delete(&self, key: &Key) -> Result<()> {
        self.commit(Durability::None, |table| {
            table.remove(&key[..])?;
            Ok(())
        })
    }

    fn write_batch(&self, pairs: &[(Key, Vec<u8>)]) -> Result<()> {
        self.commit(Durability::None, |table| {
            for (key, value) in pairs {
                table.insert(&key[..], value.as_slice())?;
            }
            Ok(())
        })
    }

    fn get(&self, key: &Key, mut read: impl FnMut(&[u8]) -> Result<()>) -> Result<bool> {
        let table = self.0.begin_read()?.open_table(TABLE)?;
        match table.get(&key[..])? {
            Some(value) => read(value.value()).map(|()| true),
            None => Ok(false),
        }
    }

    fn multi_get(
        &self,
        keys: &[Key],
        mut read: impl FnMut(usize, &[u8]) -> Result<()>,
    ) -> Result<usize> {
        let table = self.0.begin_read()?.open_table(TABLE)?;
        let mut found = 0;
        for (i, key) in keys.iter().enumerate() {
            if let Some(value) = table.get(&key[..])? {
                read(i, value.value())?;
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
        let table = self.0.begin_read()?.open_table(TABLE)?;
        let mut pairs = table.iter()?;
        loop {
            let pair = match direction {
                Direction::Forward => pairs.next(),
                Direction::Reverse => pairs.next_back(),
            };
            let Some(pair) = pair else { return Ok(()) };
            let (key, value) = pair?;
            read(key.value(), value.value())?;
        }
    }

    fn scan_from(
        &self,
        start: &Key,
        n: usize,
        mut read: impl FnMut(&[u8], &[u8]) -> Result<()>,
    ) -> Result<usize> {
        let table = self.0.begin_read()?.open_table(TABLE)?;
        let mut count = 0;
        for pair in table.range(&start[..]..)?.take(n) {
            let (key, value) = pair?;
            read(key.value(), value.value())?;
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
            let to = count.min(from + LOAD_BATCH);
            let last = to == count;
            let durability = if last { Durability::Immediate } else { Durability::None };
            self.commit(durability, |table| {
                for i in from..to {
                    let key = pair(i, &mut value);
                    table.insert(&key[..], value.as_slice())?;
                }
                Ok(())
            })?;
        }
        Ok(true)
    }

    fn settle(&self) -> Result<()> {
        self.commit(Durability::Immediate, |_| Ok(()))
    }

    fn close(self) -> Result<()> {
        Ok(())
    }
}
