//! One keyspace of a cluster.

use super::options::{GetOptions, PutOptions, Replaces};
use super::range::ClusterRange;
use super::wait::{Pending, pending};
use super::{Error, Found, Put, Shared, slice};
use crate::clock::{Context, Subject, Token};
use crate::codec::message::Op;
use crate::coordinator::{Answered, ReadOptions, WriteOptions};
use crate::node::Node;
use crate::record::Mode;
use crate::transport::Failure;
use base::clock::Clock;
use base::{KeyspaceId, Slice};
use ring::NodeId;
use std::collections::VecDeque;
use std::sync::Arc;

/// Keys in one request.
const KEYS_MAX: usize = 256;
/// Bytes of keys and values in one request, unless one pair has more.
const BYTES_MAX: usize = 4 << 20;

/// A keyspace over all nodes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ClusterKeyspace {
    pub(super) shared: Arc<Shared>,
    pub(super) id: KeyspaceId,
    pub(super) via: Option<NodeId>,
}

impl ClusterKeyspace {
    pub(super) fn new(shared: Arc<Shared>, id: KeyspaceId) -> Self {
        ClusterKeyspace { shared, id, via: None }
    }

    /// The same keyspace, but requests are taken by `node`.
    #[must_use]
    pub fn via(&self, node: NodeId) -> Self {
        ClusterKeyspace { via: Some(node), ..self.clone() }
    }

    /// Owners of `key`, the primary first.
    ///
    /// # Errors
    /// [`Error::NodeIsDown`] if no node runs.
    pub fn owners_of(&self, key: impl AsRef<[u8]>) -> Result<Vec<NodeId>, Error> {
        let view = self.shared.taker(self.via)?.view();
        Ok(view.owners(self.id, view.ring().partition_of(key.as_ref())).to_vec())
    }

    // ---- one key ----

    /// Sets `key` to `value`, in place of what a read just before it shows.
    ///
    /// # Errors
    /// As for [`put_with`](Self::put_with).
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<Put, Error> {
        self.put_with(key, value, &PutOptions::default())
    }

    /// Sets `key` to `value`.
    ///
    /// # Errors
    /// [`Failure::Unknown`], [`Failure::Timeout`]: it may be there, or appear later. [`Failure::Unavailable`]: there are not as many owners
    /// as are wanted, or they cannot be reached for the read before it. [`Failure::TooManySiblings`]: read, merge, and write with the token
    /// of that read. [`Error::Token`]: the token is of another cluster, keyspace or key, or names too much. [`Error::NodeIsDown`].
    pub fn put_with(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: &PutOptions,
    ) -> Result<Put, Error> {
        let pair = (slice(key), Some(slice(value)));
        one(self.write_all(vec![pair], options)?)
    }

    /// Deletes what a read just before shows under `key`.
    ///
    /// # Errors
    /// As for [`put_with`](Self::put_with).
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<Put, Error> {
        self.delete_with(key, &PutOptions::default())
    }

    /// Deletes what `options` says that it replaces.
    ///
    /// # Errors
    /// As for [`put_with`](Self::put_with).
    pub fn delete_with(&self, key: impl AsRef<[u8]>, options: &PutOptions) -> Result<Put, Error> {
        one(self.write_all(vec![(slice(key), None)], options)?)
    }

    /// What is stored under `key`, by a majority of its owners.
    ///
    /// # Errors
    /// As for [`get_with`](Self::get_with).
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Found, Error> {
        self.get_with(key, &GetOptions::default())
    }

    /// What is stored under `key`.
    ///
    /// # Errors
    /// [`Failure::Unavailable`] if fewer owners answer in time than are wanted; [`Error::NodeIsDown`].
    pub fn get_with(&self, key: impl AsRef<[u8]>, options: &GetOptions) -> Result<Found, Error> {
        one(self.read_all(vec![slice(key)], options)?)
    }

    /// The same for a task that awaits it: what owners say of the key.
    ///
    /// # Errors
    /// [`Error::NodeIsDown`].
    pub fn get_later(
        &self,
        key: impl AsRef<[u8]>,
        options: &GetOptions,
    ) -> Result<Pending<Result<Found, Error>>, Error> {
        let (key, id, cluster) = (slice(key), self.id, self.shared.cluster);
        let (node, options) = self.reading(options)?;
        let now = self.shared.runtime.wall_micros();
        let (teller, pending) = pending(options.timeout_micros);
        node.read(id, vec![key.clone()], options, move |results| {
            let result = results.into_iter().next().unwrap_or(Err(Failure::Closed));
            let subject = Subject { cluster, keyspace: id, key: &key };
            let found = result.map(|answered| Found::of(&subject, answered, now));
            teller.tell(found.map_err(Error::from));
        });
        Ok(pending)
    }

    /// Sets `key` to `value`, for a task that awaits it. Does not read first: `Replaces::Current` replaces nothing.
    ///
    /// # Errors
    /// [`Error::NodeIsDown`], [`Error::Token`].
    pub fn put_later(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: &PutOptions,
    ) -> Result<Pending<Result<Put, Error>>, Error> {
        let (key, id, cluster) = (slice(key), self.id, self.shared.cluster);
        let token = self.token(&key, &options.replaces)?;
        let op = op(&key, Some(slice(value)), token, options);
        let (node, options) = self.writing(options)?;
        let (teller, pending) = pending(options.timeout_micros);
        node.write(id, vec![op], options, move |results| {
            let result = results.into_iter().next().unwrap_or(Err(Failure::Closed));
            let subject = Subject { cluster, keyspace: id, key: &key };
            let put = result.map(|written| Put::new(&subject, written));
            teller.tell(put.map_err(Error::from));
        });
        Ok(pending)
    }

    // ---- many keys ----

    /// Sets many keys; each has its own outcome, in the order of the pairs.
    ///
    /// # Errors
    /// [`Error::NodeIsDown`]; else each outcome for itself.
    pub fn multi_put<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Vec<Result<Put, Error>>, Error> {
        let pairs = pairs.into_iter().map(|(key, value)| (slice(key), Some(slice(value))));
        self.write_all(pairs.collect(), &PutOptions::default())
    }

    /// What is stored under many keys, in their order.
    ///
    /// # Errors
    /// The first failure.
    pub fn multi_get<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Found>, Error> {
        let keys = keys.into_iter().map(slice).collect();
        self.read_all(keys, &GetOptions::default())?.into_iter().collect()
    }

    /// All keys of `range` that hold a value, in order.
    #[must_use]
    pub fn scan(&self, range: impl lsm::KeyRange) -> ClusterRange {
        ClusterRange::new(self, range.bounds(), false)
    }

    /// The same, from the end to the start.
    #[must_use]
    pub fn scan_back(&self, range: impl lsm::KeyRange) -> ClusterRange {
        ClusterRange::new(self, range.bounds(), true)
    }

    // ---- the way there ----

    fn write_all(
        &self,
        pairs: Vec<(Slice, Option<Slice>)>,
        options: &PutOptions,
    ) -> Result<Vec<Result<Put, Error>>, Error> {
        let mut outcomes = Vec::with_capacity(pairs.len());
        for pairs in in_pieces(pairs) {
            match self.write_piece(&pairs, options) {
                Ok(written) => outcomes.extend(written),
                Err(error) if outcomes.is_empty() => return Err(error),
                // What was written before this piece is told.
                Err(error) => outcomes.extend(pairs.iter().map(|_| Err(error.clone()))),
            }
        }
        Ok(outcomes)
    }

    fn write_piece(
        &self,
        pairs: &[(Slice, Option<Slice>)],
        options: &PutOptions,
    ) -> Result<Vec<Result<Put, Error>>, Error> {
        let tokens = self.tokens(pairs, options)?;
        let (mut ops, mut outcomes) = (Vec::new(), Vec::with_capacity(pairs.len()));
        for ((key, value), token) in pairs.iter().zip(tokens) {
            outcomes.push(token.map(|token| ops.push(op(key, value.clone(), token, options))));
        }
        let (node, options) = self.writing(options)?;
        let (teller, pending) = pending(options.timeout_micros);
        node.write(self.id, ops, options, move |results| teller.tell(results));
        let mut results = pending.wait()?.into_iter();
        let put = |(outcome, (key, _)): (Result<(), Error>, &(Slice, Option<Slice>))| {
            outcome?;
            let written = results.next().unwrap_or(Err(Failure::Closed))?;
            Ok(Put::new(&self.subject(key), written))
        };
        Ok(outcomes.into_iter().zip(pairs).map(put).collect())
    }

    /// What each of the writes replaces; for some that may not be found out, and these are not written.
    fn tokens(
        &self,
        pairs: &[(Slice, Option<Slice>)],
        options: &PutOptions,
    ) -> Result<Vec<Result<Token, Error>>, Error> {
        let view = self.shared.taker(self.via)?.view();
        let reads_first = view.policy(self.id)?.mode == Mode::Siblings;
        if options.replaces != Replaces::Current || !reads_first {
            let token = |(key, _): &(Slice, Option<Slice>)| self.token(key, &options.replaces);
            return Ok(pairs.iter().map(token).collect());
        }
        let get = GetOptions { timeout_micros: options.timeout_micros, ..GetOptions::default() };
        let keys: Vec<Slice> = pairs.iter().map(|(key, _)| key.clone()).collect();
        let read =
            self.read_each(&keys, &get, |_, answered| answered.record.token(&Context::new()))?;
        let usable = |token: Token| Ok(token.check().map(|()| token)?);
        Ok(read.into_iter().map(|token| token.and_then(usable)).collect())
    }

    /// What tokens of `key` are sealed with.
    pub(super) fn subject<'a>(&self, key: &'a [u8]) -> Subject<'a> {
        Subject { cluster: self.shared.cluster, keyspace: self.id, key }
    }

    fn token(&self, key: &[u8], replaces: &Replaces) -> Result<Token, Error> {
        match replaces {
            Replaces::Token(bytes) => Ok(Token::open(&self.subject(key), bytes)?),
            Replaces::Current | Replaces::Nothing => Ok(Token::default()),
        }
    }

    fn read_all(
        &self,
        keys: Vec<Slice>,
        options: &GetOptions,
    ) -> Result<Vec<Result<Found, Error>>, Error> {
        self.read_each(&keys, options, |key, one| {
            Found::of(&self.subject(key), one, self.shared.runtime.wall_micros())
        })
    }

    /// What `take` makes of each key's answer. Many keys are read some at a time.
    fn read_each<T>(
        &self,
        keys: &[Slice],
        options: &GetOptions,
        take: impl Fn(&Slice, Answered) -> T,
    ) -> Result<Vec<Result<T, Error>>, Error> {
        let mut all = Vec::with_capacity(keys.len());
        let mut left: VecDeque<&[Slice]> = keys.chunks(KEYS_MAX).collect();
        while let Some(keys) = left.pop_front() {
            let results = self.read_records(keys.to_vec(), options)?;
            let is_full = |result: &Result<Answered, Failure>| {
                matches!(result, Err(Failure::Overloaded { .. }))
            };
            if keys.len() > 1 && results.iter().any(is_full) {
                // More than a node holds for one request: in two.
                let (one, other) = keys.split_at(keys.len() / 2);
                left.push_front(other);
                left.push_front(one);
                continue;
            }
            let taken = |(result, key): (Result<Answered, Failure>, &Slice)| {
                result.map(|one| take(key, one)).map_err(Error::from)
            };
            all.extend(results.into_iter().zip(keys).map(taken));
        }
        Ok(all)
    }

    fn read_records(
        &self,
        keys: Vec<Slice>,
        options: &GetOptions,
    ) -> Result<Vec<Result<Answered, Failure>>, Error> {
        let (node, options) = self.reading(options)?;
        let (teller, pending) = pending(options.timeout_micros);
        node.read(self.id, keys, options, move |results| teller.tell(results));
        Ok(pending.wait()?)
    }

    fn reading(&self, options: &GetOptions) -> Result<(Arc<Node>, ReadOptions), Error> {
        let node = self.shared.taker(self.via)?;
        let options = ReadOptions {
            owners_min: options.owners.unwrap_or(self.majority(&node)?),
            monotonic: options.monotonic,
            timeout_micros: options.timeout_micros.unwrap_or(self.shared.plan.timeout_micros),
        };
        Ok((node, options))
    }

    fn writing(&self, options: &PutOptions) -> Result<(Arc<Node>, WriteOptions), Error> {
        let node = self.shared.taker(self.via)?;
        let options = WriteOptions {
            owners_min: options.owners.unwrap_or(self.majority(&node)?),
            sloppy: options.sloppy,
            timeout_micros: options.timeout_micros.unwrap_or(self.shared.plan.timeout_micros),
        };
        Ok((node, options))
    }

    /// Of the owners there should be: fewer nodes than that do not make a smaller quorum safe.
    pub(super) fn majority(&self, node: &Node) -> Result<usize, Error> {
        Ok(node.view().policy(self.id)?.replicas / 2 + 1)
    }
}

fn op(key: &Slice, value: Option<Slice>, token: Token, options: &PutOptions) -> Op {
    Op {
        key: key.clone(),
        value,
        expires_micros: options.expires_micros,
        replaces: token.context,
        after: token.stamp,
    }
}

fn one<T>(all: Vec<Result<T, Error>>) -> Result<T, Error> {
    all.into_iter().next().unwrap_or(Err(Error::Call(Failure::Closed)))
}

/// So many that one request holds them.
fn in_pieces(pairs: Vec<(Slice, Option<Slice>)>) -> Vec<Vec<(Slice, Option<Slice>)>> {
    let mut pieces: Vec<Vec<_>> = Vec::new();
    let mut bytes = 0;
    for pair in pairs {
        let len = pair.0.len() + pair.1.as_ref().map_or(0, |value| value.len());
        match pieces.last_mut() {
            Some(last) if last.len() < KEYS_MAX && bytes + len <= BYTES_MAX => {
                bytes += len;
                last.push(pair);
            }
            _ => {
                bytes = len;
                pieces.push(vec![pair]);
            }
        }
    }
    pieces
}
