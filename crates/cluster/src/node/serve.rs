//! What other nodes ask.

use super::{Node, View};
use crate::codec::message::{
    Answer, Applied, Apply, Digested, Digests, Failed, Page, Pong, Read, Records, Request, Scan,
    Stored, Transfer, Transferred, Wanted,
};
use crate::transport::{Detail, Failure, Incoming, NotUnderstood, Responder, Service};
use base::{KeyspaceId, Slice};
use ring::{Epoch, Partition};
use std::sync::{Arc, Weak};

/// The node as the transport sees it: does not keep it alive.
pub(super) struct Front(pub(super) Weak<Node>);

impl Service for Front {
    fn serve(&self, incoming: Incoming, responder: Responder) {
        let Some(node) = self.0.upgrade().filter(|node| !node.is_stopped()) else { return };
        if matches!(incoming.request, Request::Ping(_)) {
            responder.answer(node.epoch(), Pong {});
            return node.work(move |node| node.notice_newer(incoming.from, incoming.epoch));
        }
        match node.inbox.admit(&incoming.request, responder) {
            Ok(responder) => {
                let in_background = incoming.request.is_background();
                node.work_as(in_background, move |node| node.serve(incoming, responder));
            }
            Err((failure, responder)) => responder.fail(node.epoch(), failure),
        }
    }
}

impl Node {
    fn serve(self: &Arc<Self>, incoming: Incoming, responder: Responder) {
        let Incoming { from, epoch, budget_micros, request } = incoming;
        self.notice_newer(from, epoch);
        let answer = match request {
            Request::Hello(hello) => self.hello(from, &hello).map(Answer::from),
            Request::Topology(asked) => Ok(self.tell_topology(asked.known).into()),
            Request::Coordinate(call) => {
                return self.coordinate_for(from, epoch, call, budget_micros, responder);
            }
            Request::Apply(apply) => self.merge(epoch, &apply).map(Answer::from),
            Request::Read(read) => self.answer_read(epoch, &read).map(Answer::from),
            Request::StoreHint(hint) => self.store_hint(epoch, &hint).map(Answer::from),
            Request::Digests(digests) => self.compare(epoch, &digests).map(Answer::from),
            Request::Seen(seen) => self.tell_seen(from, epoch, &seen).map(Answer::from),
            Request::SetFloor(set) => self.set_floor(epoch, &set).map(Answer::from),
            Request::Transfer(asked) => self.tell_page(epoch, &asked).map(Answer::from),
            Request::Report(_) => Ok(self.report().into()),
            Request::Gossip(gossip) => match self.gossip() {
                Some(detector) => Ok(detector.receive(&gossip.payload).into()),
                None => Err(NotUnderstood::Kind.into()),
            },
            Request::Scan(scan) => self.answer_scan(epoch, &scan).map(Answer::from),
            _ => Err(NotUnderstood::Kind.into()),
        };
        let answer = answer.unwrap_or_else(|failure| Failed { failure }.into());
        responder.answer(self.epoch(), answer);
    }

    /// Merges records into a partition that this node owns, or is to own.
    pub(crate) fn merge(&self, epoch: Epoch, apply: &Apply) -> Result<Applied, Failure> {
        let Apply { keyspace, partition, cause, items } = apply;
        let results = self.fenced(*keyspace, *partition, epoch, |view| {
            if !view.takes(self.id(), *keyspace, *partition) {
                return Err(self.not_here(*keyspace, *partition));
            }
            if items.iter().any(|item| view.ring().partition_of(&item.key) != *partition) {
                return Err(Failure::Invalid(Detail::new("a key lies in another partition")));
            }
            let mode = view.policy(*keyspace)?.mode;
            Ok(self.replica().apply(*keyspace, *partition, mode, *cause, items))
        })?;
        self.renew_if_outdated();
        Ok(Applied { results })
    }

    pub(crate) fn answer_read(&self, epoch: Epoch, read: &Read) -> Result<Records, Failure> {
        self.check_start(read.of_start)?;
        if read.wanted != Wanted::Incomplete {
            self.check_ready()?;
        }
        let ring = self.view().ring();
        let one = |key: &Slice| {
            let partition = ring.partition_of(key);
            let read = self.fenced(read.keyspace, partition, epoch, |view| {
                let wanted = match read.wanted {
                    Wanted::Incomplete => {
                        self.check_owner(view, read.keyspace, partition).map(|()| read.wanted)
                    }
                    wanted => {
                        let complete = self.check_reader(view, read.keyspace, partition)?;
                        Ok(if complete { wanted } else { Wanted::Incomplete })
                    }
                }?;
                Ok(self.replica().read(read.keyspace, partition, key, wanted))
            });
            read.unwrap_or_else(Stored::Failed)
        };
        let mut records = Vec::with_capacity(read.keys.len());
        let (mut bytes, max) = (0, self.frame_bytes_max());
        for key in &read.keys {
            let stored = one(key);
            bytes += stored.weight();
            // The rest is not read: it could not be sent.
            if bytes > max && read.keys.len() > 1 {
                return Err(Failure::AnswerTooLarge { bytes: bytes as u64, max: max as u64 });
            }
            records.push(stored);
        }
        Ok(Records { records })
    }

    pub(crate) fn answer_scan(&self, epoch: Epoch, scan: &Scan) -> Result<Page, Failure> {
        self.check_ready()?;
        self.fenced(scan.keyspace, scan.partition, epoch, |view| {
            let complete = self.check_reader(view, scan.keyspace, scan.partition)?;
            let bytes_max = self.page_bytes(scan.bytes_max);
            self.replica().scan(&Scan { bytes_max, ..scan.clone() }, complete)
        })
    }

    fn compare(&self, epoch: Epoch, digests: &Digests) -> Result<Digested, Failure> {
        self.check_start(digests.of_start)?;
        self.fenced(digests.keyspace, digests.partition, epoch, |view| {
            self.check_owner(view, digests.keyspace, digests.partition)?;
            Ok(Digested { ranges: self.replica().compare(digests)? })
        })
    }

    /// Also of a replica that is not complete: it tells what it has.
    fn tell_page(&self, epoch: Epoch, asked: &Transfer) -> Result<Transferred, Failure> {
        self.check_start(asked.of_start)?;
        self.fenced(asked.keyspace, asked.partition, epoch, |view| {
            self.check_owner(view, asked.keyspace, asked.partition)?;
            let bytes_max = self.page_bytes(asked.bytes_max);
            self.replica().transfer(&Transfer { bytes_max, ..asked.clone() })
        })
    }

    /// Bytes of the longest frame.
    pub(crate) fn frame_bytes_max(&self) -> usize {
        self.transport.limits().frame_bytes_max
    }

    /// Bytes of keys and values that leave room in a frame for what else they come with.
    pub(crate) fn page_bytes(&self, wanted: u32) -> u32 {
        wanted.min(u32::try_from(self.frame_bytes_max() / 2).unwrap_or(u32::MAX))
    }

    pub(crate) fn check_ready(&self) -> Result<(), Failure> {
        if self.is_ready() { Ok(()) } else { Err(Failure::NotReady) }
    }

    /// Whether this is the start that somebody means; 0 is any.
    fn check_start(&self, meant: u64) -> Result<(), Failure> {
        let current = self.nonce();
        if meant == 0 || meant == current { Ok(()) } else { Err(Failure::OtherStart { current }) }
    }

    fn check_owner(
        &self,
        view: &View,
        keyspace: KeyspaceId,
        partition: Partition,
    ) -> Result<(), Failure> {
        match view.is_owner(self.id(), keyspace, partition) {
            true => Ok(()),
            false => Err(self.not_here(keyspace, partition)),
        }
    }

    /// Whether this node has to be complete to be read, if it is read at all: a receiver counts only together with its source, so it
    /// need not be.
    fn check_reader(
        &self,
        view: &View,
        keyspace: KeyspaceId,
        partition: Partition,
    ) -> Result<bool, Failure> {
        let owners = view.placed(keyspace, partition)?;
        match owners.readers().contains(&self.id()) {
            true => Ok(owners.list().contains(&self.id())),
            false => Err(self.not_here(keyspace, partition)),
        }
    }

    fn not_here(&self, keyspace: KeyspaceId, partition: Partition) -> Failure {
        let detail = format!("{} does not own {partition} of keyspace {keyspace}", self.id());
        Failure::Invalid(Detail::new(detail))
    }
}
