//! Proposals that wait for a decision, and the last changes that were made. Both are bounded by number and by bytes.

use super::{Proposal, Proposed};
use crate::topology::{ENTRIES_MAX, Entry, Update};
use ring::Epoch;
use std::collections::VecDeque;

/// Most proposals that wait.
const WAITING_MAX: usize = 1 << 10;
/// Most bytes of those that wait or are being decided on, unless it is one alone.
const WAITING_BYTES_MAX: usize = 64 << 20;
/// Most bytes of the changes that are kept for who follows.
const ENTRIES_BYTES_MAX: usize = 64 << 20;

/// Proposals with those who are told of their ends.
pub(super) type Proposals = VecDeque<(Proposal, Proposed)>;

/// Proposals in the order in which they came.
#[derive(Default)]
pub(super) struct Waiting {
    proposals: Proposals,
    bytes: usize,
    /// Bytes of those that were taken and are being decided on.
    deciding_bytes: usize,
}

impl Waiting {
    /// Enters a proposal; gives `done` back if there is no room. One alone has room, however large it is.
    pub(super) fn push(&mut self, proposal: Proposal, done: Proposed) -> Result<(), Proposed> {
        let (held, weight) = (self.bytes(), weight(&proposal));
        let fits = held == 0 || held.saturating_add(weight) <= WAITING_BYTES_MAX;
        if self.proposals.len() >= WAITING_MAX || !fits {
            return Err(done);
        }
        self.bytes += weight;
        self.proposals.push_back((proposal, done));
        Ok(())
    }

    /// All that wait. They count until they are [decided](Self::decided).
    pub(super) fn take(&mut self) -> Proposals {
        self.deciding_bytes += std::mem::take(&mut self.bytes);
        std::mem::take(&mut self.proposals)
    }

    /// What was taken is let go.
    pub(super) fn decided(&mut self) {
        self.deciding_bytes = 0;
    }

    pub(super) fn len(&self) -> usize {
        self.proposals.len()
    }

    /// Bytes of those that wait or are being decided on.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.deciding_bytes
    }
}

fn weight(proposal: &Proposal) -> usize {
    size_of::<(Proposal, Proposed)>() + proposal.change.weight()
}

/// The last changes, ascending without a gap, up to the epoch of the topology. Older ones go where they are too many or too large.
pub(super) struct Kept {
    entries: VecDeque<Entry>,
    bytes: usize,
    bytes_max: usize,
}

impl Kept {
    pub(super) fn new() -> Kept {
        Kept { entries: VecDeque::new(), bytes: 0, bytes_max: ENTRIES_BYTES_MAX }
    }

    /// The next change.
    pub(super) fn push(&mut self, entry: Entry) {
        self.bytes += Kept::weight(&entry);
        self.entries.push_back(entry);
        while self.entries.len() > ENTRIES_MAX || self.bytes > self.bytes_max {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.bytes -= Kept::weight(&oldest);
        }
    }

    fn weight(entry: &Entry) -> usize {
        size_of::<Entry>() + entry.change.weight()
    }

    /// Where the changes begin; `None` if none is kept.
    pub(super) fn first(&self) -> Option<Epoch> {
        self.entries.front().map(|entry| entry.epoch)
    }

    /// The changes behind epoch `from`; `None` if they are not all kept.
    pub(super) fn since(&self, from: Epoch) -> Option<Update> {
        let behind = self.entries.partition_point(|entry| entry.epoch <= from);
        let entries: Vec<Entry> = self.entries.range(behind..).cloned().collect();
        let complete = entries.first().is_some_and(|entry| entry.epoch.0 == from.0 + 1);
        complete.then_some(Update::Entries(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Change, ProposalId};
    use ring::NodeId;

    fn named(len: usize) -> Change {
        let (id, zone) = (NodeId(1), String::new());
        Change::AddMember { id, address: "x".repeat(len), zone, weight: 1 }
    }

    fn proposal(len: usize) -> (Proposal, Proposed) {
        let id = ProposalId { node: NodeId(1), number: 1 };
        (Proposal { id, expected: Epoch(1), change: named(len) }, Box::new(|_| ()))
    }

    /// How many of `len` bytes find room.
    fn fill(waiting: &mut Waiting, len: usize) -> usize {
        let push = |_: &u32| {
            let (proposal, done) = proposal(len);
            waiting.push(proposal, done).is_ok()
        };
        (0..2 * WAITING_MAX as u32).take_while(push).count()
    }

    #[test]
    fn proposals_find_room_for_so_many_and_for_so_many_bytes() {
        assert_eq!(fill(&mut Waiting::default(), 10), WAITING_MAX);
        let mut waiting = Waiting::default();
        assert_eq!(fill(&mut waiting, 1 << 20), 63, "64 with what holds them are too many");
        assert!(waiting.bytes() <= WAITING_BYTES_MAX);
        // Those that are being decided on are still held.
        assert_eq!(waiting.take().len(), 63);
        assert_eq!(fill(&mut waiting, 1 << 20), 0);
        waiting.decided();
        assert_eq!(waiting.bytes(), 0);
        assert_eq!(fill(&mut waiting, WAITING_BYTES_MAX), 1, "one alone can be decided on");
    }

    #[test]
    fn of_changes_that_are_too_many_or_too_large_the_last_are_kept() {
        let entry = |n: u64, len: usize| Entry {
            epoch: Epoch(n),
            id: ProposalId { node: NodeId(1), number: n },
            change: named(len),
        };
        let mut kept = Kept { bytes_max: 100 << 10, ..Kept::new() };
        (2..=10).for_each(|n| kept.push(entry(n, 30 << 10)));
        assert_eq!(kept.first(), Some(Epoch(8)));
        assert_eq!(kept.since(Epoch(6)), None);
        let Some(Update::Entries(entries)) = kept.since(Epoch(7)) else { panic!("they are kept") };
        assert_eq!(entries.iter().map(|entry| entry.epoch.0).collect::<Vec<_>>(), [8, 9, 10]);
        kept.push(entry(11, 200 << 10));
        assert_eq!((kept.first(), kept.bytes), (None, 0), "it alone is more than is kept");
        (12..=12 + 2 * ENTRIES_MAX as u64).for_each(|n| kept.push(entry(n, 0)));
        assert!(kept.entries.len() <= ENTRIES_MAX && kept.bytes <= kept.bytes_max);
    }
}
