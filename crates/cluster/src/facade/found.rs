//! What clients are told.

use crate::clock::{Context, Subject, Token};
use crate::codec::message::Written;
use crate::coordinator::Answered;
use crate::record::Record;
use base::Slice;
use ring::NodeId;

/// What is stored under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    values: Vec<Slice>,
    token: Vec<u8>,
    served_by: Vec<NodeId>,
}

impl Found {
    pub(super) fn new(
        subject: &Subject<'_>,
        record: &Record,
        served_by: Vec<NodeId>,
        now_micros: u64,
    ) -> Found {
        let values = record.versions().iter().filter_map(|version| version.value_at(now_micros));
        let values = values.cloned().collect();
        let token = record.token(&Context::new()).seal(subject);
        Found { values, token, served_by }
    }

    pub(super) fn of(subject: &Subject<'_>, answered: Answered, now_micros: u64) -> Found {
        Found::new(subject, &answered.record, answered.served_by, now_micros)
    }

    /// The value; of several siblings the first. `None` if there is none.
    #[must_use]
    pub fn value(&self) -> Option<&Slice> {
        self.values.first()
    }

    /// All values that concurrent writes left; one at most where the last writer wins.
    #[must_use]
    pub fn siblings(&self) -> &[Slice] {
        &self.values
    }

    /// To be handed to the write that replaces what was read; see [`PutOptions::token`](super::PutOptions::token).
    #[must_use]
    pub fn token(&self) -> &[u8] {
        &self.token
    }

    /// The owners that answered.
    #[must_use]
    pub fn served_by(&self) -> &[NodeId] {
        &self.served_by
    }
}

/// A write that was carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    token: Vec<u8>,
    owners: Vec<NodeId>,
    hinted: Vec<NodeId>,
}

impl Put {
    pub(super) fn new(subject: &Subject<'_>, written: Written) -> Put {
        let token = Token { context: written.context, stamp: written.stamp };
        let Written { owners, hinted, .. } = written;
        Put { token: token.seal(subject), owners, hinted }
    }

    /// To be handed to a write that replaces this one.
    #[must_use]
    pub fn token(&self) -> &[u8] {
        &self.token
    }

    /// Owners that had it synced when it was answered, the one that made it first.
    #[must_use]
    pub fn owners(&self) -> &[NodeId] {
        &self.owners
    }

    /// Stand-ins that keep it for owners that could not be reached.
    #[must_use]
    pub fn hinted(&self) -> &[NodeId] {
        &self.hinted
    }
}
