//! Clients, one thing at a time each, at any node.

use super::history::{History, Outcome, Place, Written};
use super::world::{LAST, SIBLINGS, World, below};
use base::Slice;
use base::clock::Clock;
use base::rng::Rng;
use cluster::clock::{Context, Stamp};
use cluster::codec::message::{Op, Written as Carried};
use cluster::coordinator::{Answered, ReadOptions, WriteOptions};
use cluster::transport::Failure;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// How long a client waits, in virtual microseconds.
const TIMEOUT_MICROS: u64 = 1_000_000;
/// Keys of each keyspace.
const KEYS: usize = 12;

/// What a client was told.
enum Told {
    Read { client: usize, number: u64, result: Result<Answered, Failure> },
    Write { client: usize, number: u64, result: Result<Carried, Failure> },
}

/// What a client waits for.
enum Waits {
    Read { place: Place, begun: u64, is_quorum: bool, monotonic: bool },
    Write { written: usize },
}

struct Client {
    rng: Rng,
    waits: Option<(u64, u64, Waits)>,
    /// What it read last of each key.
    tokens: BTreeMap<Place, (Context, Stamp)>,
}

/// How many of the owners take part.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quorum {
    pub(super) owners: usize,
    pub(super) read: usize,
    pub(super) write: usize,
    /// Pretends that one owner is enough to read what one owner has taken: must be noticed.
    pub(super) canary: bool,
}

/// Counts of what clients did.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Tally {
    pub(super) reads: u64,
    pub(super) writes: u64,
    pub(super) unknown: u64,
    pub(super) refused: u64,
}

/// All clients of a run.
pub(super) struct Clients {
    clients: Vec<Client>,
    told: Arc<Mutex<Vec<Told>>>,
    quorum: Quorum,
    numbers: u64,
    pub(super) history: History,
    pub(super) tally: Tally,
}

impl Clients {
    pub(super) fn new(count: usize, quorum: Quorum, rng: &mut Rng) -> Clients {
        let client =
            |_| Client { rng: Rng::new(rng.next_u64()), waits: None, tokens: BTreeMap::new() };
        Clients {
            clients: (0..count).map(client).collect(),
            told: Arc::default(),
            quorum,
            numbers: 0,
            history: History::default(),
            tally: Tally::default(),
        }
    }

    /// Lets each client that has nothing to wait for begin something.
    pub(super) fn begin(&mut self, world: &World) {
        for at in 0..self.clients.len() {
            if self.clients[at].waits.is_none() && self.clients[at].rng.below(4) == 0 {
                self.begin_one(world, at);
            }
        }
    }

    fn begin_one(&mut self, world: &World, at: usize) {
        let (up, now) = (world.up(), world.runtime.monotonic_micros());
        let client = &mut self.clients[at];
        let Some(host) = up.get(below(&mut client.rng, up.len())) else { return };
        let Some(node) = &world.hosts[*host].node else { return };
        let keyspace = if client.rng.below(3) == 0 { LAST } else { SIBLINGS };
        let place: Place =
            (keyspace, format!("key{:02}", below(&mut client.rng, KEYS)).as_str().into());
        self.numbers += 1;
        let (number, told) = (self.numbers, Arc::clone(&self.told));
        let tell = move |what: Told| told.lock().unwrap_or_else(PoisonError::into_inner).push(what);
        let Quorum { read, write, owners, canary } = self.quorum;
        if client.rng.below(2) == 0 {
            let is_quorum = client.rng.below(8) > 0;
            let monotonic = is_quorum && client.rng.below(4) == 0;
            let owners_min = if is_quorum && !canary { read } else { 1 };
            let options = ReadOptions { owners_min, monotonic, timeout_micros: TIMEOUT_MICROS };
            let waits = Waits::Read { place: place.clone(), begun: now, is_quorum, monotonic };
            client.waits = Some((number, now, waits));
            node.read(place.0, vec![place.1], options, move |results| {
                let result = results.into_iter().next().unwrap_or(Err(Failure::Timeout));
                tell(Told::Read { client: at, number, result });
            });
            return;
        }
        let is_quorum = client.rng.below(8) > 0;
        let known = client.tokens.get(&place).cloned();
        let with_token = known.is_some() && client.rng.below(6) > 0;
        let (replaces, after) = known.filter(|_| with_token).unwrap_or_default();
        let delete = (with_token || place.0 == LAST) && client.rng.below(3) == 0;
        let value: Option<Slice> = (!delete).then(|| format!("v{number}").as_str().into());
        let op = Op {
            key: place.1.clone(),
            value: value.clone(),
            expires_micros: 0,
            replaces: replaces.clone(),
            after,
        };
        let owners_min = if is_quorum && !canary { write } else { 1.max(owners / 4) };
        let written = Written {
            place: place.clone(),
            value,
            replaces,
            begun: now,
            owners_min,
            is_quorum,
            is_ordered: 2 * owners_min > owners,
            losses: 0,
            outcome: Outcome::Unknown,
            was_lost: false,
        };
        let written = self.history.begin(written);
        client.waits = Some((number, now, Waits::Write { written }));
        let options = WriteOptions { owners_min, sloppy: false, timeout_micros: TIMEOUT_MICROS };
        node.write(place.0, vec![op], options, move |results| {
            let result = results.into_iter().next().unwrap_or(Err(Failure::Timeout));
            tell(Told::Write { client: at, number, result });
        });
    }

    /// Takes what clients were told, and looks at it.
    pub(super) fn take(&mut self, world: &World) -> Result<(), String> {
        let told = std::mem::take(&mut *self.told.lock().unwrap_or_else(PoisonError::into_inner));
        let now = world.runtime.monotonic_micros();
        for told in told {
            match told {
                Told::Read { client, number, result } => {
                    let Some(waits) = self.clients[client].end(number) else { continue };
                    self.read_ended(client, waits, result)?;
                }
                Told::Write { client, number, result } => {
                    let Some(Waits::Write { written }) = self.clients[client].end(number) else {
                        continue;
                    };
                    self.write_ended(client, written, result, now);
                }
            }
        }
        // The node that a client talked to may be gone.
        for client in &mut self.clients {
            let late =
                client.waits.as_ref().is_some_and(|(_, begun, _)| now > begun + 2 * TIMEOUT_MICROS);
            if late {
                client.waits = None;
                self.tally.unknown += 1;
            }
        }
        Ok(())
    }

    fn read_ended(
        &mut self,
        client: usize,
        waits: Waits,
        result: Result<Answered, Failure>,
    ) -> Result<(), String> {
        let Waits::Read { place, begun, is_quorum, monotonic } = waits else { return Ok(()) };
        let Ok(answered) = result else {
            self.tally.unknown += 1;
            return Ok(());
        };
        self.tally.reads += 1;
        if is_quorum {
            let by = monotonic.then_some(client);
            self.history.check_read(&place, begun, &answered, by)?;
        }
        let token = answered.record.token(&Context::new());
        self.clients[client].tokens.insert(place, (token.context, token.stamp));
        Ok(())
    }

    fn write_ended(
        &mut self,
        client: usize,
        written: usize,
        result: Result<Carried, Failure>,
        at: u64,
    ) {
        let write = &mut self.history.writes[written];
        match result {
            Ok(carried) => {
                self.tally.writes += 1;
                write.outcome =
                    Outcome::Acknowledged { dot: carried.dot, stamp: carried.stamp, at };
                let token = (carried.context, carried.stamp);
                self.clients[client].tokens.insert(write.place.clone(), token);
            }
            Err(failure) if failure.may_have_happened() => self.tally.unknown += 1,
            Err(_) => {
                self.tally.refused += 1;
                write.outcome = Outcome::Refused;
            }
        }
    }

    /// True while a client waits for something.
    pub(super) fn busy(&self) -> bool {
        self.clients.iter().any(|client| client.waits.is_some())
    }
}

impl Client {
    fn end(&mut self, number: u64) -> Option<Waits> {
        if self.waits.as_ref()?.0 != number {
            return None;
        }
        self.waits.take().map(|(_, _, waits)| waits)
    }
}
