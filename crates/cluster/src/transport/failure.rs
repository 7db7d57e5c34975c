//! How a call can fail, and what to do then.

use crate::clock::Stamp;
use crate::codec::DecodeError;
use crate::codec::wire::{Input, Wire, invalid};
use base::KeyspaceId;
use ring::Epoch;

/// Longest text of [`Failure::Internal`] that is sent, in bytes.
pub const DETAIL_MAX: usize = 256;

/// Why a call has no answer. The first group is what a transport says, the second what a node says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// No answer came in time.
    #[error("no answer in time; it may still happen: look before it is done again")]
    Timeout,
    /// Nobody listens there. The request was not delivered.
    #[error("node is unreachable; ask another one")]
    Unreachable,
    /// The connection was lost while the answer was awaited.
    #[error(
        "connection lost before the answer; it may have happened: look before it is done again"
    )]
    Disconnected,
    /// The caller itself was taken off the network.
    #[error("the calling node is closed; start it, or ask by way of another one")]
    Closed,
    /// Too much is under way to this node, or it has too much to do. The request was not carried out.
    #[error("node is overloaded; try again later retry_after_micros={retry_after_micros}")]
    Overloaded {
        /// When it may be worth to try again.
        retry_after_micros: u64,
    },
    /// The request is larger than a frame may be, and was not sent.
    #[error("request too large; ask for less at once bytes={bytes} max={max}")]
    TooLarge {
        /// Bytes of the frame.
        bytes: u64,
        /// Bytes that it may have.
        max: u64,
    },
    /// The answer is larger than a frame may be; ask for less in one call.
    #[error("answer too large; ask for less at once bytes={bytes} max={max}")]
    AnswerTooLarge {
        /// Bytes of the frame.
        bytes: u64,
        /// Bytes that it may have.
        max: u64,
    },
    /// The node understood the frame, but not what it asks.
    #[error("request is not understood; both sides need the same version: {0}")]
    NotUnderstood(#[from] NotUnderstood),

    /// The request names another epoch than the node's. Fetch the topology and ask its owners.
    #[error("stale epoch; fetch the topology and ask again current={current}")]
    StaleEpoch {
        /// The epoch of the node that was asked.
        current: Epoch,
    },
    /// No keyspace with this id.
    #[error("no keyspace with this id; open it by its name id={id}")]
    UnknownKeyspace {
        /// The id.
        id: KeyspaceId,
    },
    /// The node is filling itself again and does not serve this yet.
    #[error("node is resynchronising; ask another owner, or later")]
    NotReady,
    /// What was asked for lies in a damaged range, which is being filled from other replicas.
    #[error("stored range is damaged; ask another owner, or once it is filled from there")]
    Damaged,
    /// The disk of the node is full.
    #[error("disk of the node is full; make room, then try again")]
    NoSpace,
    /// The key has as many concurrent values as it may have; read, merge, write back.
    #[error("too many siblings max={max}; read, merge and write back")]
    TooManySiblings {
        /// How many.
        max: u64,
    },
    /// The write needs a stamp after this one.
    #[error("stamp is too old; take one that is later after={after}")]
    StaleStamp {
        /// The stamp to pass.
        after: Stamp,
    },
    /// The request contradicts itself or a limit.
    #[error("invalid request: {0}")]
    Invalid(Detail),
    /// Some owners may have carried it out, too few said so.
    #[error(
        "outcome unknown; read before it is written again acknowledged={acknowledged} wanted={wanted}"
    )]
    Unknown {
        /// Owners that said so.
        acknowledged: u64,
        /// Owners that had to.
        wanted: u64,
    },
    /// Too few owners could be reached; none of them has carried it out.
    #[error(
        "too few owners; ask for fewer, or again when more are there reached={reached} wanted={wanted}"
    )]
    Unavailable {
        /// Owners that could be reached.
        reached: u64,
        /// Owners that had to be.
        wanted: u64,
    },
    /// The request was meant for another start of the node. This one has not carried it out.
    #[error("meant for another start of the node; ask again current={current}")]
    OtherStart {
        /// The nonce of the start that the node is in.
        current: u64,
    },
    /// The node failed in itself; whether it carried the request out is not known.
    #[error("node failed; ask another one, it may have happened here: {0}")]
    Internal(Detail),
}

/// Why a node did not understand a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotUnderstood {
    /// A kind or version it does not know: it is older or newer than the caller.
    #[error("of an unknown kind or version")]
    Kind,
    /// A body that no such request has.
    #[error("its body breaks the format")]
    Body,
}

/// A short text for people. Longer ones are cut when they are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detail(String);

impl Detail {
    /// `text`, or the first [`DETAIL_MAX`] bytes of it.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Detail {
        let mut text = text.into();
        let mut end = text.len().min(DETAIL_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        Detail(text)
    }
}

impl std::fmt::Display for Detail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is open to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Advice {
    /// Ask another owner.
    Elsewhere,
    /// Ask the same node again, later.
    Later,
    /// Fetch what the failure names (topology, floor, stamp, siblings), then ask again.
    Refresh,
    /// The call is wrong; asking again does not help.
    FixCall,
}

impl Failure {
    /// True if the request may have been carried out all the same. If false, it was not and never will be.
    #[must_use]
    pub fn may_have_happened(&self) -> bool {
        matches!(
            self,
            Failure::Timeout
                | Failure::Disconnected
                | Failure::Closed
                | Failure::AnswerTooLarge { .. }
                | Failure::Unknown { .. }
                | Failure::Internal(_)
        )
    }

    /// What the caller can do.
    #[must_use]
    pub fn advice(&self) -> Advice {
        match self {
            Failure::Overloaded { .. }
            | Failure::NoSpace
            | Failure::Unavailable { .. }
            | Failure::Unknown { .. } => Advice::Later,
            Failure::StaleEpoch { .. }
            | Failure::TooManySiblings { .. }
            | Failure::StaleStamp { .. }
            | Failure::OtherStart { .. } => Advice::Refresh,
            Failure::TooLarge { .. }
            | Failure::AnswerTooLarge { .. }
            | Failure::NotUnderstood(_)
            | Failure::UnknownKeyspace { .. }
            | Failure::Invalid(_)
            | Failure::Closed => Advice::FixCall,
            Failure::Timeout
            | Failure::Unreachable
            | Failure::Disconnected
            | Failure::NotReady
            | Failure::Damaged
            | Failure::Internal(_) => Advice::Elsewhere,
        }
    }
}

impl Wire for Detail {
    const LEN_MIN: usize = 1;
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
    }
    fn take(input: &mut Input<'_>) -> Result<Self, DecodeError> {
        let text = String::take(input)?;
        if text.len() > DETAIL_MAX {
            return Err(DecodeError::TooLong { what: "detail", len: text.len(), max: DETAIL_MAX });
        }
        Ok(Detail(text))
    }
}

/// The first byte says which; never renumbered. 16 is free.
impl Wire for Failure {
    const LEN_MIN: usize = 1;

    fn put(&self, out: &mut Vec<u8>) {
        let mut with = |tag: u8, fields: &[u64]| {
            out.push(tag);
            fields.iter().for_each(|field| field.put(out));
        };
        match self {
            Failure::Timeout => with(1, &[]),
            Failure::Unreachable => with(2, &[]),
            Failure::Disconnected => with(3, &[]),
            Failure::Closed => with(4, &[]),
            Failure::Overloaded { retry_after_micros } => with(5, &[*retry_after_micros]),
            Failure::TooLarge { bytes, max } => with(6, &[*bytes, *max]),
            Failure::NotUnderstood(NotUnderstood::Kind) => with(7, &[]),
            Failure::NotUnderstood(NotUnderstood::Body) => with(8, &[]),
            Failure::StaleEpoch { current } => with(9, &[current.0]),
            Failure::UnknownKeyspace { id } => with(10, &[u64::from(id.0)]),
            Failure::NotReady => with(11, &[]),
            Failure::Damaged => with(12, &[]),
            Failure::NoSpace => with(13, &[]),
            Failure::TooManySiblings { max } => with(14, &[*max]),
            Failure::StaleStamp { after } => with(15, &[after.0]),
            Failure::Unknown { acknowledged, wanted } => with(18, &[*acknowledged, *wanted]),
            Failure::Unavailable { reached, wanted } => with(19, &[*reached, *wanted]),
            Failure::AnswerTooLarge { bytes, max } => with(21, &[*bytes, *max]),
            Failure::OtherStart { current } => with(22, &[*current]),
            Failure::Invalid(detail) | Failure::Internal(detail) => {
                out.push(if matches!(self, Failure::Invalid(_)) { 17 } else { 20 });
                detail.put(out);
            }
        }
    }

    fn take(input: &mut Input<'_>) -> Result<Self, DecodeError> {
        let tag = input.u8("failure")?;
        let mut next = || u64::take(input);
        Ok(match tag {
            1 => Failure::Timeout,
            2 => Failure::Unreachable,
            3 => Failure::Disconnected,
            4 => Failure::Closed,
            5 => Failure::Overloaded { retry_after_micros: next()? },
            6 => Failure::TooLarge { bytes: next()?, max: next()? },
            7 => Failure::NotUnderstood(NotUnderstood::Kind),
            8 => Failure::NotUnderstood(NotUnderstood::Body),
            9 => Failure::StaleEpoch { current: Epoch(next()?) },
            10 => Failure::UnknownKeyspace { id: KeyspaceId::take(input)? },
            11 => Failure::NotReady,
            12 => Failure::Damaged,
            13 => Failure::NoSpace,
            14 => Failure::TooManySiblings { max: next()? },
            15 => Failure::StaleStamp { after: Stamp(next()?) },
            17 => Failure::Invalid(Detail::take(input)?),
            18 => Failure::Unknown { acknowledged: next()?, wanted: next()? },
            19 => Failure::Unavailable { reached: next()?, wanted: next()? },
            20 => Failure::Internal(Detail::take(input)?),
            21 => Failure::AnswerTooLarge { bytes: next()?, max: next()? },
            22 => Failure::OtherStart { current: next()? },
            _ => return Err(invalid("failure")),
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn any_failure() -> impl Strategy<Value = Failure> {
        let detail = || "[a-zé ]{0,300}".prop_map(Detail::new);
        prop_oneof![
            Just(Failure::Timeout),
            Just(Failure::Unreachable),
            Just(Failure::Disconnected),
            Just(Failure::Closed),
            any::<u64>().prop_map(|retry_after_micros| Failure::Overloaded { retry_after_micros }),
            any::<(u64, u64)>().prop_map(|(bytes, max)| Failure::TooLarge { bytes, max }),
            Just(Failure::NotUnderstood(NotUnderstood::Kind)),
            Just(Failure::NotUnderstood(NotUnderstood::Body)),
            any::<u64>().prop_map(|epoch| Failure::StaleEpoch { current: Epoch(epoch) }),
            any::<u32>().prop_map(|id| Failure::UnknownKeyspace { id: KeyspaceId(id) }),
            Just(Failure::NotReady),
            Just(Failure::Damaged),
            Just(Failure::NoSpace),
            any::<u64>().prop_map(|max| Failure::TooManySiblings { max }),
            any::<u64>().prop_map(|after| Failure::StaleStamp { after: Stamp(after) }),
            detail().prop_map(Failure::Invalid),
            any::<(u64, u64)>()
                .prop_map(|(acknowledged, wanted)| Failure::Unknown { acknowledged, wanted }),
            any::<(u64, u64)>()
                .prop_map(|(reached, wanted)| Failure::Unavailable { reached, wanted }),
            detail().prop_map(Failure::Internal),
            any::<(u64, u64)>().prop_map(|(bytes, max)| Failure::AnswerTooLarge { bytes, max }),
            any::<u64>().prop_map(|current| Failure::OtherStart { current }),
        ]
    }

    proptest! {
        #[test]
        fn failures_round_trip(failure in any_failure()) {
            let bytes = failure.to_bytes();
            prop_assert_eq!(Failure::from_bytes(&bytes), Ok(failure));
            for cut in 0..bytes.len() {
                prop_assert!(Failure::from_bytes(&bytes[..cut]).is_err());
            }
        }
    }

    #[test]
    fn every_failure_has_its_byte() {
        for tag in 0..=255u8 {
            let bytes = [&[tag][..], &[0; 8]].concat();
            let known = (1..=22).contains(&tag) && tag != 16;
            let taken = Failure::take(&mut Input::new(&bytes));
            assert_eq!(taken.is_ok(), known, "{tag}");
            if let Ok(failure) = taken {
                assert_eq!(failure.to_bytes()[0], tag);
                assert!(!failure.to_string().is_empty());
            }
        }
    }

    #[test]
    fn only_known_losers_may_be_tried_elsewhere() {
        for failure in [Failure::Unreachable, Failure::NotReady, Failure::Damaged] {
            assert!(!failure.may_have_happened() && failure.advice() == Advice::Elsewhere);
        }
        for failure in [Failure::Timeout, Failure::Disconnected] {
            assert!(failure.may_have_happened(), "{failure}");
        }
    }
}
