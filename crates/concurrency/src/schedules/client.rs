//! A client: draws operations, keeps the model, checks what it reads.

use super::Scenario;
use super::model::{Contents, Effect};
use super::world::{COUNTER, Open, PAIR, World, check, check_pair, counter_of, own, text};
use base::rng::Rng;
use lsm::{Durability, Error, KeyspaceOptions, Result, WriteOptions};
use std::sync::Arc;

/// Keys of a client in each keyspace.
const KEYS: u64 = 5;

/// What a client can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Put,
    PutSync,
    Batch,
    Delete,
    DeleteRange,
    Get,
    Snapshot,
    Iterate,
    Swap,
    Flush,
    FlushTwice,
    Compact,
    Sync,
    Checkpoint,
    CheckpointTwice,
    Keyspace,
    Ingest,
    IngestNew,
    Contend,
    Crash,
    CloseAndReopen,
}

#[derive(Debug)]
pub(crate) struct Client {
    id: usize,
    rng: Rng,
    scenario: Scenario,
    world: Arc<World>,
    open: Open,
    /// Makes values and names differ.
    count: u64,
}

impl Client {
    pub(crate) fn new(
        id: u64,
        seed: u64,
        scenario: &Scenario,
        world: &Arc<World>,
        open: &Open,
    ) -> Option<Client> {
        let rng = Rng::new(seed ^ (id << 32));
        let (world, open) = (Arc::clone(world), open.clone());
        Some(Client {
            id: usize::try_from(id).ok()?,
            rng,
            scenario: *scenario,
            world,
            open,
            count: 0,
        })
    }

    pub(crate) fn run(mut self) {
        for _ in 0..self.scenario.ops {
            let op = self.draw();
            match self.step(op) {
                Ok(()) => {}
                Err(Error::Closed) if self.may_close() => return,
                Err(e) => panic!("{op:?}: {e:?}"),
            }
        }
    }

    fn may_close(&self) -> bool {
        self.scenario.weights.iter().any(|(op, _)| *op == Op::CloseAndReopen)
    }

    fn draw(&mut self) -> Op {
        let weights = self.scenario.weights;
        let mut at = self.rng.below(weights.iter().map(|(_, weight)| weight).sum());
        for (op, weight) in weights {
            if at < *weight {
                return *op;
            }
            at -= weight;
        }
        Op::Get
    }

    fn step(&mut self, op: Op) -> Result<()> {
        self.count += 1;
        match op {
            Op::Put => self.put(Durability::Buffered),
            Op::PutSync => self.put(Durability::Sync),
            Op::Batch => self.batch(),
            Op::Delete => self.delete(),
            Op::DeleteRange => self.delete_range(),
            Op::Get => self.get(),
            Op::Snapshot => self.snapshot(),
            Op::Iterate => self.iterate(),
            Op::Swap => self.swap(),
            Op::Flush => self.open.db.flush(),
            Op::FlushTwice => self.open.db.flush().and_then(|()| self.open.db.flush()),
            Op::Compact => self.compact(),
            Op::Sync => self.sync(),
            Op::Checkpoint => self.checkpoint(),
            Op::CheckpointTwice => self.checkpoint().and_then(|()| self.checkpoint()),
            Op::Keyspace => self.cycle_keyspace(),
            Op::Ingest => self.ingest(),
            Op::IngestNew => self.ingest_new(),
            Op::Contend => self.contend(),
            Op::Crash => {
                self.world.check_crash();
                Ok(())
            }
            Op::CloseAndReopen => self.close_and_reopen(),
        }
    }

    // ---- writes ----

    fn any_key(&mut self) -> (usize, String) {
        let (number, key) = (self.rng.below(2) as usize, self.rng.below(KEYS));
        (number, format!("c{}k{key}", self.id))
    }

    fn value(&mut self) -> String {
        let (least, most) = self.scenario.value;
        let len = least + self.rng.below(most - least);
        let name = format!("{}.{}.", self.id, self.count);
        // Not compressible, so that tables and blocks fill up.
        let mut noise = Rng::new(self.count << 8 | self.id as u64);
        let tail = (0..len).map(|_| char::from(b'a' + noise.below(26) as u8));
        name.chars().chain(tail).collect()
    }

    /// Runs `write`, whose effect on this client's keys is `effect`.
    fn promised(
        &mut self,
        effect: Effect,
        synced: bool,
        write: impl FnOnce(&Open) -> Result<()>,
    ) -> Result<()> {
        self.world.model.issue(self.id, effect);
        match write(&self.open) {
            Ok(()) => {
                self.world.model.ack(self.id, synced);
                Ok(())
            }
            Err(e) => {
                self.world.model.refuse(self.id);
                Err(e)
            }
        }
    }

    fn put(&mut self, durability: Durability) -> Result<()> {
        let (key, value) = (self.any_key(), self.value());
        let effect = vec![(key.clone(), Some(value.clone()))];
        self.promised(effect, durability == Durability::Sync, |open| {
            open.keyspace(key.0).put_with(&key.1, &value, durability)
        })
    }

    fn delete(&mut self) -> Result<()> {
        let key = self.any_key();
        self.promised(vec![(key.clone(), None)], false, |open| open.keyspace(key.0).delete(&key.1))
    }

    fn delete_range(&mut self) -> Result<()> {
        let (number, from) = (self.rng.below(2) as usize, self.rng.below(KEYS));
        let (start, end) = (format!("c{}k{from}", self.id), format!("c{}k{}", self.id, from + 2));
        let names = [from, from + 1].map(|n| (number, format!("c{}k{n}", self.id)));
        let effect = names.map(|key| (key, None)).into();
        self.promised(effect, false, |open| {
            open.keyspace(number).delete_range(start.as_str()..end.as_str())
        })
    }

    /// The pair that everybody writes, and a key of one's own in each keyspace.
    fn batch(&mut self) -> Result<()> {
        let value = self.value();
        let key = self.any_key().1;
        let sync = self.rng.below(3) == 0;
        let durability = if sync { Durability::Sync } else { Durability::Buffered };
        let effect = (0..2).map(|n| ((n, key.clone()), Some(value.clone()))).collect();
        self.promised(effect, sync, |open| {
            let mut batch = open.db.batch();
            batch.put(PAIR, &value);
            batch.put(&key, &value);
            batch.put_in(&open.second, &key, &value);
            batch.put_in(&open.second, PAIR, &value);
            batch.commit_with(WriteOptions::from(durability))
        })
    }

    fn ingest(&mut self) -> Result<()> {
        let (number, value) = (self.rng.below(2) as usize, self.value());
        let keys: Vec<_> =
            (0..KEYS).step_by(2).map(|n| (number, format!("c{}k{n}", self.id))).collect();
        let effect = keys.iter().map(|key| (key.clone(), Some(value.clone()))).collect();
        self.promised(effect, true, |open| {
            let pairs = keys.iter().map(|(_, key)| (key, &value));
            open.keyspace(number).ingest(pairs).map(drop)
        })
    }

    /// A key that nobody had yet: the gap it falls into is free now, and what may be written across it meanwhile must wait.
    fn ingest_new(&mut self) -> Result<()> {
        let (number, value) = (self.rng.below(2) as usize, self.value());
        let key = format!("c{}n{}.{}", self.id, self.rng.below(100), self.count);
        let effect = vec![((number, key.clone()), Some(value.clone()))];
        self.promised(effect, true, |open| open.keyspace(number).ingest([(&key, &value)]).map(drop))
    }

    /// Puts or ingests keys that all clients do: nobody knows whose write is the last, but all reads of a moment say the same.
    fn contend(&mut self) -> Result<()> {
        let (value, keys) = (self.value(), ["s0", "s1", "s2"]);
        let keyspace = self.open.db.default_keyspace();
        match self.rng.below(3) {
            0 => drop(keyspace.ingest(keys.map(|key| (key, &value)))?),
            drawn => keyspace.put(keys[drawn as usize], &value)?,
        }
        let snapshot = self.open.db.snapshot();
        let scanned: Vec<_> = snapshot.keyspace(keyspace).prefix("s").collect::<Result<_>>()?;
        for key in keys {
            let scanned = scanned.iter().find(|(k, _)| k == key).map(|(_, value)| text(value));
            let got = snapshot.keyspace(keyspace).get(key)?.map(|value| text(&value));
            assert_eq!(got, scanned, "a get and a scan of {key}");
        }
        Ok(())
    }

    /// Counts up, trying a few times.
    fn swap(&mut self) -> Result<()> {
        for _ in 0..4 {
            let current = self.open.db.get(COUNTER)?;
            let count: u64 = current.as_deref().map_or(0, |n| text(n).parse().expect("a number"));
            let next = (count + 1).to_string();
            let least = self.world.model.lock().counter.acked;
            assert!(count <= self.world.model.lock().counter.issued);
            self.world.model.lock().counter.issued += 1;
            let swapped =
                self.open.db.compare_and_swap(COUNTER, current.as_deref(), Some(next.as_bytes()));
            let counter = &mut self.world.model.lock().counter;
            match swapped {
                Ok(Ok(())) => {
                    assert!(count + 1 >= least, "went back");
                    counter.acked += 1;
                    return Ok(());
                }
                Ok(Err(_)) => counter.issued -= 1,
                Err(e) => {
                    counter.issued -= 1;
                    return Err(e);
                }
            }
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        let before = self.world.model.lock().clone();
        self.open.db.sync()?;
        self.world.model.synced(&before);
        Ok(())
    }

    // ---- reads ----

    /// What this client's keys must hold now.
    fn expected(&self) -> Contents {
        self.world.model.lock().logs[self.id].all()
    }

    fn get(&mut self) -> Result<()> {
        let key = self.any_key();
        let found = self.open.keyspace(key.0).get(&key.1)?.map(|v| text(&v));
        assert_eq!(found.as_ref(), self.expected().get(&key), "read one's own write of {key:?}");
        let keys: Vec<_> = (0..KEYS).map(|n| format!("c{}k{n}", self.id)).collect();
        let many = self.open.keyspace(key.0).multi_get(&keys)?;
        let expected = self.expected();
        for (name, found) in keys.into_iter().zip(many) {
            assert_eq!(found.map(|v| text(&v)).as_ref(), expected.get(&(key.0, name)));
        }
        Ok(())
    }

    fn iterate(&mut self) -> Result<()> {
        let number = self.rng.below(2) as usize;
        let keyspace = self.open.keyspace(number);
        let prefix = format!("c{}", self.id);
        let pairs =
            |kv: Result<(lsm::Slice, lsm::Slice)>| kv.map(|(k, v)| ((number, text(&k)), text(&v)));
        let forward: Result<Vec<_>> = keyspace.prefix(&prefix).map(pairs).collect();
        let backward: Result<Vec<_>> = keyspace.prefix(&prefix).rev().map(pairs).collect();
        let expected: Vec<_> =
            self.expected().into_iter().filter(|((n, _), _)| *n == number).collect();
        assert_eq!(forward?, expected);
        assert!(backward?.into_iter().rev().eq(expected));
        Ok(())
    }

    /// A snapshot shows whole batches, one's own writes, and the same again later.
    fn snapshot(&mut self) -> Result<()> {
        let snapshot = self.open.db.snapshot();
        let read = |open: &Open| -> Result<Contents> {
            let mut contents = Contents::new();
            for number in 0..2 {
                for pair in snapshot.keyspace(open.keyspace(number)).iter() {
                    let (key, value) = pair?;
                    contents.insert((number, text(&key)), text(&value));
                }
            }
            Ok(contents)
        };
        let first = read(&self.open)?;
        check_pair(&first, "snapshot");
        assert_eq!(own(&first, self.id), self.expected(), "a snapshot shows one's own writes");
        let from = if self.rng.below(2) == 0 { Durability::Sync } else { Durability::Buffered };
        self.put(from)?;
        assert_eq!(read(&self.open)?, first, "a snapshot shows the same again");
        if self.rng.below(3) == 0 {
            self.open.db.flush()?;
            self.compact()?;
            assert_eq!(read(&self.open)?, first, "a snapshot shows the same after a compaction");
        }
        Ok(())
    }

    // ---- work on the whole ----

    fn compact(&mut self) -> Result<()> {
        let number = self.rng.below(2) as usize;
        self.open.keyspace(number).compact_range(..)
    }

    /// The copy holds all that was acknowledged before the call.
    fn checkpoint(&mut self) -> Result<()> {
        self.count += 1;
        let dir = format!("/copy{}-{}", self.id, self.count);
        let before = self.world.model.lock().counter.acked;
        self.open.db.checkpoint(&dir)?;
        let promised = self.expected();
        let issued = self.world.model.lock().counter.issued;
        let copy = Open::quiet(&self.world.disk, &dir).contents();
        check_pair(&copy, "checkpoint");
        assert_eq!(own(&copy, self.id), promised, "a checkpoint is of now");
        assert!((before..=issued).contains(&counter_of(&copy)));
        Ok(())
    }

    /// A keyspace of one's own is made, filled, dropped, and empty when made again.
    fn cycle_keyspace(&mut self) -> Result<()> {
        let name = format!("own{}", self.id);
        let value = self.value();
        let keyspace = self.open.db.keyspace(&name, KeyspaceOptions::default())?;
        let found = keyspace.iter().collect::<Result<Vec<_>>>()?;
        assert!(found.is_empty(), "a new keyspace is empty");
        keyspace.put("a", &value)?;
        if self.rng.below(2) == 0 {
            keyspace.flush()?;
        }
        keyspace.put_with("b", &value, Durability::Sync)?;
        let snapshot = self.open.db.snapshot().keyspace(&keyspace);
        self.open.db.drop_keyspace(&name)?;
        let gone = keyspace.get("a");
        assert!(matches!(gone, Err(Error::KeyspaceNotFound { .. } | Error::Closed)), "{gone:?}");
        let gone = keyspace.put("a", &value);
        assert!(matches!(gone, Err(Error::KeyspaceNotFound { .. } | Error::Closed)), "{gone:?}");
        for key in ["a", "b"] {
            assert_eq!(snapshot.get(key)?.map(|v| text(&v)).as_ref(), Some(&value));
        }
        Ok(())
    }

    /// Closes while the others go on, opens again at once, and finds what was promised.
    fn close_and_reopen(&mut self) -> Result<()> {
        if self.id > 0 {
            // Somebody else may open it right behind this.
            return self.open.close();
        }
        self.open.close()?;
        let before = self.world.model.lock().clone();
        let again = Open::with_threads(&self.world.disk);
        check(&again.contents(), &before, false);
        again.db.put("reopened", self.value())?;
        again.db.flush()?;
        again.db.compact_range(..)?;
        check(&again.contents(), &before, false);
        again.close()?;
        Err(Error::Closed)
    }
}
