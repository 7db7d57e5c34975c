//! What clients wrote, and what must be true of what is read.

use super::world::LAST;
use base::Slice;
use cluster::KeyspaceId;
use cluster::clock::{Context, Dot, Stamp};
use cluster::coordinator::Answered;
use cluster::record::Record;
use std::collections::BTreeMap;

/// A key of a keyspace.
pub(super) type Place = (KeyspaceId, Slice);

/// What a client knows of its write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// As many owners as it wanted have it synced.
    Acknowledged { dot: Dot, stamp: Stamp, at: u64 },
    /// It may be there or not.
    Unknown,
    /// It is not there.
    Refused,
}

/// One write of a client.
#[derive(Debug, Clone)]
pub(super) struct Written {
    pub(super) place: Place,
    /// Unique; `None` is a delete.
    pub(super) value: Option<Slice>,
    pub(super) replaces: Context,
    pub(super) begun: u64,
    /// W.
    pub(super) owners_min: usize,
    /// W of it is enough that reads must see it.
    pub(super) is_quorum: bool,
    /// W of it is enough that of two such writes, one after the other, the later wins: more than half of the owners. Not so if a disk was
    /// lost between them: it may be that of the only owner that met both.
    pub(super) is_ordered: bool,
    /// Disks that had been lost when it began.
    pub(super) losses: usize,
    pub(super) outcome: Outcome,
    /// One owner was enough for it, and the disk of the only one that had it was lost: it is promised to nobody any more.
    pub(super) was_lost: bool,
}

/// What other owners had when a disk was lost: dots that they stored or knew to be replaced, and the greatest stamp.
pub(super) type Left = BTreeMap<Place, (Context, Stamp)>;

/// True if one of these dots is there.
fn shows(answered: &Answered, dots: &Context) -> bool {
    answered.record.versions().iter().any(|version| dots.contains(version.dot))
}

/// What a monotonic read showed.
#[derive(Debug)]
struct LastSeen {
    context: Context,
    stamp: Stamp,
    dots: Vec<Dot>,
}

/// All writes of a run, by number.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) writes: Vec<Written>,
    by_place: BTreeMap<Place, Vec<usize>>,
    /// Disks lost so far.
    losses: usize,
    /// What each client saw last of each key by monotonic reads.
    last_seen: BTreeMap<(usize, Place), LastSeen>,
    pub(super) checks: u64,
}

impl History {
    pub(super) fn begin(&mut self, written: Written) -> usize {
        let (number, written) = (self.writes.len(), Written { losses: self.losses, ..written });
        self.by_place.entry(written.place.clone()).or_default().push(number);
        self.writes.push(written);
        number
    }

    pub(super) fn places(&self) -> impl Iterator<Item = &Place> {
        self.by_place.keys()
    }

    fn of(&self, place: &Place) -> impl Iterator<Item = &Written> {
        let numbers = self.by_place.get(place).map_or(&[][..], Vec::as_slice);
        numbers.iter().map(|number| &self.writes[*number])
    }

    /// A disk was lost. A write for which one owner was enough is lost with it, if nobody else has it. Of one that is under way nobody knows
    /// where it is.
    pub(super) fn note_loss(&mut self, left: &Left) {
        self.losses += 1;
        let under_way = |write: &&mut Written| write.outcome == Outcome::Unknown;
        self.writes.iter_mut().filter(under_way).for_each(|write| write.is_ordered = false);
        for write in self.writes.iter_mut().filter(|write| write.owners_min == 1) {
            let left = left.get(&write.place);
            write.was_lost |= match &write.outcome {
                Outcome::Acknowledged { stamp, .. } if write.place.0 == LAST => {
                    left.is_none_or(|(_, newest)| newest < stamp)
                }
                Outcome::Acknowledged { dot, .. } => {
                    left.is_none_or(|(dots, _)| !dots.contains(*dot))
                }
                Outcome::Unknown => true,
                Outcome::Refused => false,
            };
        }
    }

    /// Looks at a quorum read that began at `begun`, of `client` if it was a monotonic one.
    pub(super) fn check_read(
        &mut self,
        place: &Place,
        begun: u64,
        answered: &Answered,
        client: Option<usize>,
    ) -> Result<(), String> {
        self.checks += 1;
        self.check_values(place, answered)?;
        let token = answered.record.token(&Context::new());
        for write in self.of(place).filter(|write| write.is_quorum) {
            let Outcome::Acknowledged { dot, stamp, at } = &write.outcome else { continue };
            let seen = match place.0 {
                LAST => token.stamp >= *stamp,
                // The dot of a delete is in no version, and goes with the tombstone: what counts is that nothing of what it
                // deleted is there.
                _ if write.value.is_none() => !shows(answered, &write.replaces),
                _ => token.context.contains(*dot) || self.is_replaced(place, *dot),
            };
            if *at <= begun && !seen && !self.may_be_gone(write, answered) {
                return Err(format!(
                    "a read begun at {begun} misses a write acknowledged at {at}: {write:?}\nread: {answered:?}"
                ));
            }
        }
        let Some(client) = client else { return Ok(()) };
        let now = LastSeen {
            context: token.context,
            stamp: token.stamp,
            dots: answered.record.versions().iter().map(|version| version.dot).collect(),
        };
        let went_back = self.last_seen.get(&(client, place.clone())).is_some_and(|last| {
            let forward = match place.0 {
                LAST => now.stamp >= last.stamp,
                _ => {
                    let known =
                        |dot: &Dot| now.context.contains(*dot) || self.is_replaced(place, *dot);
                    let back =
                        |dot: &&Dot| last.context.contains(**dot) && !last.dots.contains(dot);
                    last.dots.iter().all(known) && !now.dots.iter().any(|dot| back(&dot))
                }
            };
            // Where nothing is left, everything must have been deleted.
            let gone = answered.record == Record::default()
                && last.dots.iter().all(|dot| self.is_replaced(place, *dot));
            !forward && !gone
        });
        if went_back {
            let last = self.last_seen.get(&(client, place.clone()));
            return Err(format!(
                "client {client} went back on {place:?}: {last:?}, then {answered:?}"
            ));
        }
        self.last_seen.insert((client, place.clone()), now);
        Ok(())
    }

    /// A delete, or what was deleted, leaves nothing behind once every owner has seen that.
    fn may_be_gone(&self, write: &Written, answered: &Answered) -> bool {
        let replaced = || match &write.outcome {
            Outcome::Acknowledged { dot, .. } => self.is_replaced(&write.place, *dot),
            _ => true,
        };
        answered.record == Record::default() && (write.value.is_none() || replaced())
    }

    /// True if a write that may be there replaced this one; where the last writer wins, any delete may have.
    fn is_replaced(&self, place: &Place, dot: Dot) -> bool {
        self.of(place).any(|other| {
            let replaces = match place.0 {
                LAST => other.value.is_none(),
                _ => other.replaces.contains(dot),
            };
            replaces && other.outcome != Outcome::Refused
        })
    }

    /// Each value was written, and nobody replaced it who says so.
    fn check_values(&self, place: &Place, answered: &Answered) -> Result<(), String> {
        for version in answered.record.versions() {
            let Some(value) = &version.value else { continue };
            let Some(write) = self.of(place).find(|write| write.value.as_ref() == Some(value))
            else {
                return Err(format!("nobody wrote {value:?} to {place:?}"));
            };
            match &write.outcome {
                Outcome::Refused => return Err(format!("a refused write is there: {write:?}")),
                Outcome::Acknowledged { dot, .. } if *dot != version.dot && place.0 != LAST => {
                    return Err(format!(
                        "one write has two dots, {dot} and {}: {write:?}",
                        version.dot
                    ));
                }
                _ => {}
            }
        }
        let mut values: Vec<&Slice> =
            answered.record.versions().iter().filter_map(|v| v.value.as_ref()).collect();
        let count = values.len();
        values.sort();
        values.dedup();
        if values.len() < count {
            return Err(format!("one write is there twice: {place:?} {answered:?}"));
        }
        Ok(())
    }

    /// Looks at what an owner has of a key in the end.
    pub(super) fn check_final(&mut self, place: &Place, answered: &Answered) -> Result<(), String> {
        self.checks += 1;
        self.check_values(place, answered)?;
        if place.0 == LAST {
            self.check_last(place, answered)
        } else {
            self.check_siblings(place, answered)
        }
    }

    fn check_siblings(&self, place: &Place, answered: &Answered) -> Result<(), String> {
        let versions = answered.record.versions();
        let acknowledged = self.of(place).filter_map(|write| match &write.outcome {
            Outcome::Acknowledged { dot, .. } => Some((write, *dot)),
            _ => None,
        });
        for (write, dot) in acknowledged {
            let is_there = versions.iter().any(|version| version.dot == dot);
            let replaced = self.is_replaced(place, dot);
            if write.was_lost {
                continue;
            }
            if write.value.is_some() && !is_there && !replaced {
                return Err(format!("lost: {write:?}\nthere is {answered:?}"));
            }
            if let Some(back) = versions.iter().find(|version| write.replaces.contains(version.dot))
            {
                return Err(format!("{back:?} is back, which was replaced by {write:?}"));
            }
        }
        Ok(())
    }

    fn check_last(&self, place: &Place, answered: &Answered) -> Result<(), String> {
        let newest = answered.record.versions().first();
        let stamp = newest.map_or(Stamp::ZERO, |version| version.stamp);
        let now = newest.and_then(|version| version.value.as_ref());
        for write in self.of(place).filter(|write| !write.was_lost) {
            let Outcome::Acknowledged { stamp: acknowledged, .. } = &write.outcome else {
                continue;
            };
            if stamp < *acknowledged && newest.is_some() {
                return Err(format!("lost: {write:?}\nthere is {answered:?}"));
            }
            if newest.is_none() && !self.may_be_gone(write, answered) {
                return Err(format!("lost: {write:?}\nthere is nothing"));
            }
        }
        // What was acknowledged before another quorum write began must not win over it.
        let Some(winner) =
            self.of(place).find(|write| write.value.as_ref() == now && now.is_some())
        else {
            return Ok(());
        };
        let Outcome::Acknowledged { at, .. } = winner.outcome else { return Ok(()) };
        let later = self.of(place).find(|write| {
            write.is_ordered
                && winner.is_ordered
                && write.losses == winner.losses
                && write.begun > at
                && matches!(write.outcome, Outcome::Acknowledged { .. })
        });
        match later {
            Some(later) => Err(format!("{winner:?} won over a later write {later:?}")),
            None => Ok(()),
        }
    }
}
