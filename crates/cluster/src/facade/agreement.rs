//! The one copy of the topology that the nodes of a process agree by.

use super::Error;
use super::wait::pending;
use crate::consensus::{Consensus, Proposal, ProposeError, SingleCopy};
use crate::runtime::ThreadRuntime;
use crate::topology::{Change, ProposalId, Topology};
use crate::transport::Failure;
use base::clock::Clock;
use base::rng::Rng;
use base::sync::{Condvar, Mutex};
use lsm::Db;
use ring::NodeId;
use std::sync::Arc;
use std::time::Duration;

/// How long a decision is waited for, in microseconds: that of one sync, on a disk that may be busy.
const PATIENCE_MICROS: u64 = 60_000_000;
/// When it may be worth to propose again where too much waits.
const RETRY_AFTER_MICROS: u64 = 10_000;
/// How often a change is made up anew because somebody else's came first.
const TRIES_MAX: usize = 100;
/// Who proposes what no node does.
pub(super) const OPERATOR: NodeId = NodeId(0);

/// Agreement, and the database that it is kept in.
#[derive(Debug)]
pub(crate) struct Agreement {
    db: Db,
    copy: Arc<SingleCopy>,
}

impl Agreement {
    /// What `db` holds; `first` where it holds nothing.
    pub(super) fn open(
        db: Db,
        runtime: &Arc<ThreadRuntime>,
        first: &dyn Fn() -> Result<Topology, ring::Error>,
    ) -> Result<Agreement, Error> {
        let first = first()?;
        let copy = SingleCopy::open(db.clone(), Arc::clone(runtime) as _, || first)?;
        Ok(Agreement { db, copy })
    }

    pub(crate) fn known(&self) -> Arc<Topology> {
        self.copy.known()
    }

    pub(crate) fn consensus(&self) -> Arc<dyn Consensus> {
        Arc::clone(&self.copy) as _
    }

    /// Makes the change that `wanted` finds, if any, to whatever the topology is by then; the topology after it. Blocks on the disk.
    pub(super) fn agree(
        &self,
        mut wanted: impl FnMut(&Topology) -> Result<Option<Change>, Error>,
    ) -> Result<Arc<Topology>, Error> {
        for _ in 0..TRIES_MAX {
            let known = self.copy.known();
            let Some(change) = wanted(&known)? else { return Ok(known) };
            let id = ProposalId { node: OPERATOR, number: Rng::from_entropy().next_u64() };
            let proposal = Proposal { id, expected: known.epoch(), change };
            let (teller, decided) = pending(PATIENCE_MICROS);
            self.copy.propose(proposal, Box::new(move |result| teller.tell(result)));
            match decided.wait()? {
                Ok(topology) => return Ok(topology),
                Err(ProposeError::Conflict { .. }) => {}
                Err(ProposeError::Overloaded) => {
                    let retry_after_micros = RETRY_AFTER_MICROS;
                    return Err(Failure::Overloaded { retry_after_micros }.into());
                }
                Err(ProposeError::Refused(refusal)) => return Err(refusal.into()),
                Err(other) => return Err(Error::Agreement { detail: other.to_string() }),
            }
        }
        Err(Error::Agreement { detail: "others change the topology all the time".into() })
    }

    /// Waits until `wanted` finds what it looks for in a topology; `None` if it does not before `timeout_micros` have passed.
    pub(super) fn wait_until<T>(
        &self,
        clock: &dyn Clock,
        timeout_micros: u64,
        mut wanted: impl FnMut(&Topology) -> Option<T>,
    ) -> Option<T> {
        let end = clock.monotonic_micros().saturating_add(timeout_micros);
        let news = Arc::new((Mutex::new(()), Condvar::new()));
        let told = Arc::clone(&news);
        let watch = self.copy.watch(Box::new(move |_| {
            let _told = told.0.lock();
            told.1.notify_all();
        }));
        let found = loop {
            let mut waiting = news.0.lock();
            if let Some(found) = wanted(&self.known()) {
                break Some(found);
            }
            let left = end.saturating_sub(clock.monotonic_micros());
            if left == 0 {
                break None;
            }
            news.1.wait_for(&mut waiting, Duration::from_micros(left));
        };
        self.copy.unwatch(watch);
        found
    }

    pub(super) fn close(&self) -> lsm::Result<()> {
        self.copy.stop();
        self.db.close()
    }
}
