//! Opening the databases and checking that they belong together.

use super::Sharded;
use super::identity::{self, Identity};
use base::clock::Clock;
use base::rng::Rng;
use lsm::{BlockCache, Db, Error, Options, Result};
use ring::{Member, Ring, Topology};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Block cache that all databases share, unless the options say otherwise.
const CACHE_BYTES: usize = 256 << 20;
/// Most databases of a store.
pub(super) const SHARDS_MAX: usize = 1 << 10;

/// Collects what a [`Sharded`] is opened with.
#[derive(Debug)]
#[must_use = "nothing is opened before `open`"]
pub struct ShardedBuilder {
    shards: Vec<(PathBuf, u32)>,
    options: Options,
    clock: Option<Arc<dyn Clock>>,
}

impl ShardedBuilder {
    pub(super) fn new() -> Self {
        ShardedBuilder { shards: Vec::new(), options: Options::default(), clock: None }
    }

    /// Adds a database in `dir`, with an equal share of the keys.
    pub fn shard(self, dir: impl AsRef<Path>) -> Self {
        self.weighted_shard(dir, 1)
    }

    /// Adds a database in `dir` that holds `weight` times as much as one of weight 1.
    pub fn weighted_shard(mut self, dir: impl AsRef<Path>, weight: u32) -> Self {
        self.shards.push((dir.as_ref().to_path_buf(), weight));
        self
    }

    /// Sets the options of each database. They share one block cache, unless there is a memory budget, which each has for
    /// itself. Default [`Options::default`].
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// Sets the clock of the databases. Default that of the system.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Opens the store, or makes one where all directories are new or empty. Directories may be given in any order.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] naming what does not belong together: databases of two stores, one that is missing or there
    /// twice, one with data of its own, other weights than those the store was made with; and those of
    /// [`DbBuilder::open`](lsm::DbBuilder::open).
    pub fn open(self) -> Result<Sharded> {
        if self.shards.is_empty() || self.shards.len() > SHARDS_MAX {
            let count = self.shards.len();
            return Err(Error::invalid(
                "shards",
                format!("{count} directories, 1 to {SHARDS_MAX} make a store"),
            ));
        }
        let dbs = self.open_each()?;
        let found = dbs.iter().map(identity::read).collect::<Result<Vec<_>>>()?;
        let (numbers, topology) = match found.iter().flatten().next() {
            Some(known) => self.belonging(known, &dbs, &found)?,
            None => self.fresh(&dbs)?,
        };
        for db in &dbs {
            if !identity::is_complete(db)? {
                identity::complete(db)?;
            }
        }
        let mut ordered: Vec<(u16, Db)> = numbers.into_iter().zip(dbs).collect();
        ordered.sort_by_key(|(number, _)| *number);
        Ok(Sharded::new(ordered.into_iter().map(|(_, db)| db).collect(), &topology))
    }

    fn open_each(&self) -> Result<Vec<Db>> {
        let shared = self.options.memory_budget_bytes.is_none();
        let cache =
            Arc::new(BlockCache::new(self.options.block_cache_bytes.unwrap_or(CACHE_BYTES)));
        let open = |(dir, _): &(PathBuf, u32)| {
            let mut builder = Db::builder(dir).options(self.options.clone());
            if shared {
                builder = builder.block_cache(Arc::clone(&cache));
            }
            if let Some(clock) = &self.clock {
                builder = builder.clock(Arc::clone(clock));
            }
            builder.open()
        };
        self.shards.iter().map(open).collect()
    }

    /// A store that is made now.
    fn fresh(&self, dbs: &[Db]) -> Result<(Vec<u16>, Topology)> {
        let members: Vec<Member> = (0..)
            .zip(&self.shards)
            .map(|(number, (_, weight))| Member::new(number, *weight, ""))
            .collect();
        let partitions = Ring::partitions_for(self.shards.len(), 1);
        let topology = Topology::new(partitions, 1, &members)
            .map_err(|error| Error::invalid("weights of shards", error.to_string()))?;
        let store = Rng::from_entropy().next_u64();
        let numbers: Vec<u16> = (0..dbs.len() as u16).collect();
        for ((number, db), (dir, _)) in numbers.iter().zip(dbs).zip(&self.shards) {
            let identity = Identity { store, number: *number, topology: topology.clone() };
            identity::write(db, dir, &identity)?;
        }
        Ok((numbers, topology))
    }

    /// A store that was made before. One whose making was cut short is finished: what has no number yet is still empty.
    fn belonging(
        &self,
        known: &Identity,
        dbs: &[Db],
        found: &[Option<Identity>],
    ) -> Result<(Vec<u16>, Topology)> {
        let wrong = |detail: String| Err(Error::invalid("shards", detail));
        let members = known.topology.members();
        let complete =
            dbs.iter().map(identity::is_complete).collect::<Result<Vec<_>>>()?.contains(&true);
        if members.len() != dbs.len() {
            return wrong(format!("{} directories, the store has {}", dbs.len(), members.len()));
        }
        let mut numbers = Vec::new();
        for (at, (db, (dir, weight))) in dbs.iter().zip(&self.shards).enumerate() {
            let number = match &found[at] {
                Some(own) if own.store != known.store || own.topology != known.topology => {
                    return wrong(format!("{} belongs to another store", dir.display()));
                }
                Some(own) => own.number,
                None if complete => {
                    return wrong(format!(
                        "{} is empty, but the store has data there: its disk is lost, or another directory is meant",
                        dir.display()
                    ));
                }
                None => at as u16,
            };
            if numbers.contains(&number) {
                return wrong(format!(
                    "{} is shard {number}, and so is another one",
                    dir.display()
                ));
            }
            let stored = members.get(usize::from(number)).map(|member| member.weight);
            if stored != Some(*weight) {
                return wrong(format!(
                    "{} has weight {weight}, the store was made with {stored:?}",
                    dir.display()
                ));
            }
            if found[at].is_none() {
                identity::write(db, dir, &Identity { number, ..known.clone() })?;
            }
            numbers.push(number);
        }
        Ok((numbers, known.topology.clone()))
    }
}
