//! What the database has to hold: the effects of each client's operations, in order, and how many are promised.
//!
//! Its locks are plain ones, held for moments that no schedule can cut.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Keyspace (0 is the default one) and key, to value; `None` deletes.
pub(crate) type Effect = Vec<((usize, String), Option<String>)>;
/// What one client's keys hold.
pub(crate) type Contents = BTreeMap<(usize, String), String>;

/// One client's operations.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log {
    effects: Vec<Effect>,
    /// How many have returned.
    acked: usize,
    /// How many are on disk for sure.
    synced: usize,
}

impl Log {
    fn contents(&self, count: usize) -> Contents {
        let mut contents = Contents::new();
        for (key, value) in self.effects[..count].iter().flatten() {
            match value {
                Some(value) => drop(contents.insert(key.clone(), value.clone())),
                None => drop(contents.remove(key)),
            }
        }
        contents
    }

    /// What the keys hold when all operations are there.
    pub(crate) fn all(&self) -> Contents {
        self.contents(self.effects.len())
    }

    /// True if `found` is what some number of operations leave, that number being at least all that are promised.
    pub(crate) fn allows(&self, found: &Contents, power_cut: bool) -> bool {
        let floor = if power_cut { self.synced } else { self.acked };
        (floor..=self.effects.len()).any(|count| self.contents(count) == *found)
    }
}

/// The counter that clients swap.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counter {
    pub(crate) issued: u64,
    pub(crate) acked: u64,
}

/// All promises at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Promises {
    pub(crate) logs: Vec<Log>,
    pub(crate) counter: Counter,
}

/// The promises as they grow.
#[derive(Debug, Default)]
pub(crate) struct Model(Mutex<Promises>);

impl Model {
    pub(crate) fn new(clients: u64) -> Self {
        let logs = (0..clients).map(|_| Log::default()).collect();
        Model(Mutex::new(Promises { logs, counter: Counter::default() }))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Promises> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn issue(&self, client: usize, effect: Effect) {
        self.lock().logs[client].effects.push(effect);
    }

    pub(crate) fn ack(&self, client: usize, synced: bool) {
        let log = &mut self.lock().logs[client];
        log.acked = log.effects.len();
        if synced {
            log.synced = log.acked;
        }
    }

    /// The operation was refused: it is not there.
    pub(crate) fn refuse(&self, client: usize) {
        self.lock().logs[client].effects.pop();
    }

    /// Everything acknowledged before `before` was taken is on disk now.
    pub(crate) fn synced(&self, before: &Promises) {
        for (log, old) in self.lock().logs.iter_mut().zip(&before.logs) {
            log.synced = log.synced.max(old.acked);
        }
    }
}
