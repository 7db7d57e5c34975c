//! What other nodes ask.

use super::{Node, View};
use crate::codec::message::{
    Answer, Applied, Apply, Digested, Digests, Failed, Page, Pong, Read, Records, Request, Scan,
    Stored, Transfer, Transferred, Wanted,
};
use crate::transport::{Detail, Failure, Incoming, NotUnderstood, Responder, Service};
use base::KeyspaceId;
use ring::Partition;
use std::sync::{Arc, Weak};

/// The node as the transport sees it: does not keep it alive.
pub(super) struct Front(pub(super) Weak<Node>);

impl Service for Front {
    fn serve(&self, incoming: Incoming, responder: Responder) {
        let Some(node) = self.0.upgrade().filter(|node| !node.is_stopped()) else { return };
        if matches!(incoming.request, Request::Ping(_)) {
            return responder.answer(node.epoch(), Pong {});
        }
        node.work(move |node| node.serve(incoming, responder));
    }
}

impl Node {
    fn serve(self: &Arc<Self>, incoming: Incoming, responder: Responder) {
        let view = self.view();
        let epoch = view.epoch();
        let answer = match incoming.request {
            Request::Hello(hello) => self.hello(incoming.from, &hello).map(Answer::from),
            _ if incoming.epoch != epoch => Err(Failure::StaleEpoch { current: epoch }),
            Request::Coordinate(coordinate) => {
                return self.coordinate_for(
                    incoming.from,
                    coordinate,
                    incoming.budget_micros,
                    responder,
                );
            }
            Request::Apply(apply) => self.merge(&view, &apply).map(Answer::from),
            Request::Read(read) => self.answer_read(&view, &read).map(Answer::from),
            Request::StoreHint(hint) => self.store_hint(&view, &hint).map(Answer::from),
            Request::Digests(digests) => self.compare(&view, &digests).map(Answer::from),
            Request::Seen(seen) => self.tell_seen(&view, &seen).map(Answer::from),
            Request::SetFloor(set) => self.set_floor(&view, &set).map(Answer::from),
            Request::Transfer(transfer) => self.tell_page(&view, &transfer).map(Answer::from),
            Request::Scan(scan) => self.answer_scan(&view, &scan).map(Answer::from),
            _ => Err(NotUnderstood::Kind.into()),
        };
        responder.answer(epoch, answer.unwrap_or_else(|failure| Failed { failure }.into()));
    }

    fn merge(&self, view: &View, apply: &Apply) -> Result<Applied, Failure> {
        self.check_owner(view, apply.keyspace, apply.partition)?;
        if apply.items.iter().any(|item| view.ring().partition_of(&item.key) != apply.partition) {
            return Err(Failure::Invalid(Detail::new("a key lies in another partition")));
        }
        let mode = view.policy(apply.keyspace)?.mode;
        let results =
            self.replica().apply(apply.keyspace, apply.partition, mode, apply.cause, &apply.items);
        self.renew_if_outdated();
        Ok(Applied { results })
    }

    pub(crate) fn answer_read(&self, view: &View, read: &Read) -> Result<Records, Failure> {
        if read.wanted != Wanted::Incomplete {
            self.check_ready()?;
        }
        view.policy(read.keyspace)?;
        let one = |key: &base::Slice| {
            let partition = view.ring().partition_of(key);
            match self.check_owner(view, read.keyspace, partition) {
                Ok(()) => self.replica().read(read.keyspace, partition, key, read.wanted),
                Err(failure) => Stored::Failed(failure),
            }
        };
        Ok(Records { records: read.keys.iter().map(one).collect() })
    }

    pub(crate) fn answer_scan(&self, view: &View, scan: &Scan) -> Result<Page, Failure> {
        self.check_ready()?;
        self.check_owner(view, scan.keyspace, scan.partition)?;
        self.replica().scan(scan)
    }

    fn compare(&self, view: &View, digests: &Digests) -> Result<Digested, Failure> {
        self.check_owner(view, digests.keyspace, digests.partition)?;
        Ok(Digested { ranges: self.replica().compare(digests)? })
    }

    /// Also of a replica that is not complete: it tells what it has.
    fn tell_page(&self, view: &View, asked: &Transfer) -> Result<Transferred, Failure> {
        self.check_owner(view, asked.keyspace, asked.partition)?;
        self.replica().transfer(asked)
    }

    pub(crate) fn check_ready(&self) -> Result<(), Failure> {
        if self.is_ready() { Ok(()) } else { Err(Failure::NotReady) }
    }

    fn check_owner(
        &self,
        view: &View,
        keyspace: KeyspaceId,
        partition: Partition,
    ) -> Result<(), Failure> {
        view.policy(keyspace)?;
        if view.is_owner(self.id(), keyspace, partition) {
            return Ok(());
        }
        let detail = format!("{} does not own {partition} of keyspace {keyspace}", self.id());
        Err(Failure::Invalid(Detail::new(detail)))
    }
}
