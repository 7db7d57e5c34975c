//! Frames: the envelope of every message.
//!
//! ```text
//! offset size field
//!      0    4 length    u32 LE, bytes of the whole frame, these four and the checksum included
//!      4    1 version   u8, see `VERSION`
//!      5    1 kind      u8, what the body is; 0x80 and above are answers
//!      6    2 zero
//!      8    8 cluster   u64 LE, so that two clusters never talk
//!     16    8 call      u64 LE, given by the caller; its answer repeats it
//!     24    8 from      u64 LE, node
//!     32    8 to        u64 LE, node
//!     40    8 epoch     u64 LE, of the sender's topology
//!     48    4 budget    u32 LE, microseconds left to the caller, at most 71 minutes; 0 in answers
//!     52    . body
//!     -8    8 checksum  u64 LE, xxh3-64 of all bytes before it
//! ```
//! Length, version and checksum keep their places in every version, so that a stream can be read frame by frame knowing nothing else.

use super::DecodeError;
use super::wire::{Input, check};
use base::checksum::xxh3_64;
use ring::{Epoch, NodeId};

/// Version of frames and messages.
pub const VERSION: u8 = 1;
/// Bytes before the body.
pub const HEADER_LEN: usize = BUDGET_OFFSET + size_of::<u32>();
/// Bytes of a frame beside its body.
pub const OVERHEAD: usize = HEADER_LEN + CHECKSUM_LEN;
/// Kinds from here on are answers.
pub const ANSWER: u8 = 0x80;

const LENGTH_LEN: usize = size_of::<u32>();
const CLUSTER_OFFSET: usize = LENGTH_LEN + 4;
const CALL_OFFSET: usize = CLUSTER_OFFSET + size_of::<u64>();
const FROM_OFFSET: usize = CALL_OFFSET + size_of::<u64>();
const TO_OFFSET: usize = FROM_OFFSET + size_of::<u64>();
const EPOCH_OFFSET: usize = TO_OFFSET + size_of::<u64>();
const BUDGET_OFFSET: usize = EPOCH_OFFSET + size_of::<u64>();
const CHECKSUM_LEN: usize = size_of::<u64>();
const _: () = assert!(HEADER_LEN == 52, "drawing and constants disagree");

/// What a frame says about its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the body is.
    pub kind: u8,
    /// Which cluster.
    pub cluster: u64,
    /// Which call of the caller.
    pub call: u64,
    /// Who sent it.
    pub from: NodeId,
    /// Whom to.
    pub to: NodeId,
    /// The sender's topology.
    pub epoch: Epoch,
    /// Microseconds left to the caller.
    pub budget_micros: u32,
}

/// A frame with its body not yet looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The envelope.
    pub header: Header,
    /// The message.
    pub body: &'a [u8],
}

/// Encodes a frame whose body `put` appends.
#[must_use]
pub fn encode(header: &Header, put: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(OVERHEAD + 64);
    bytes.extend_from_slice(&[0; LENGTH_LEN]);
    bytes.extend_from_slice(&[VERSION, header.kind, 0, 0]);
    for field in [header.cluster, header.call, header.from.0, header.to.0, header.epoch.0] {
        bytes.extend_from_slice(&field.to_le_bytes());
    }
    bytes.extend_from_slice(&header.budget_micros.to_le_bytes());
    put(&mut bytes);
    // A frame over 4 GiB is over every limit: its length says so too.
    let len = u32::try_from(bytes.len() + CHECKSUM_LEN).unwrap_or(u32::MAX);
    bytes[..LENGTH_LEN].copy_from_slice(&len.to_le_bytes());
    let checksum = xxh3_64(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Bytes that the frame has of which `prefix` is the beginning: what a reader of a stream makes room for. `None` until four
/// bytes are there.
///
/// # Errors
/// [`DecodeError::TooLong`] if they are more than `max`, [`DecodeError::Invalid`] if they are fewer than any frame has.
pub fn length(prefix: &[u8], max: usize) -> Result<Option<usize>, DecodeError> {
    let Some(len) = prefix.first_chunk::<LENGTH_LEN>() else { return Ok(None) };
    let len = u32::from_le_bytes(*len) as usize;
    if len > max {
        return Err(DecodeError::TooLong { what: "frame", len, max });
    }
    check(len >= OVERHEAD, "length").map(|()| Some(len))
}

/// The frame in `bytes`, whole and alone.
///
/// # Errors
/// [`DecodeError`] if it is longer than `max`, or not what was sent.
pub fn decode(bytes: &[u8], max: usize) -> Result<Frame<'_>, DecodeError> {
    let cut = DecodeError::Truncated { what: "frame" };
    let len = length(bytes, max)?.ok_or(cut.clone())?;
    if bytes.len() != len {
        let more = bytes.len().checked_sub(len);
        return Err(more.map_or(cut, |len| DecodeError::Trailing { len }));
    }
    // Before the checksum: another version may have another one.
    let version = bytes[LENGTH_LEN];
    if version != VERSION {
        return Err(DecodeError::UnknownVersion { version });
    }
    let (body, stored) = bytes.split_last_chunk::<CHECKSUM_LEN>().ok_or(cut)?;
    if xxh3_64(body) != u64::from_le_bytes(*stored) {
        return Err(DecodeError::ChecksumMismatch);
    }
    let (head, body) = body.split_at(HEADER_LEN);
    check(head[LENGTH_LEN + 2..CLUSTER_OFFSET] == [0, 0], "zero")?;
    Ok(Frame { header: header(head)?, body })
}

fn header(head: &[u8]) -> Result<Header, DecodeError> {
    let mut input = Input::new(&head[CLUSTER_OFFSET..BUDGET_OFFSET]);
    let mut budget = [0; size_of::<u32>()];
    budget.copy_from_slice(&head[BUDGET_OFFSET..]);
    Ok(Header {
        kind: head[LENGTH_LEN + 1],
        cluster: input.u64("cluster")?,
        call: input.u64("call")?,
        from: NodeId(input.u64("from")?),
        to: NodeId(input.u64("to")?),
        epoch: Epoch(input.u64("epoch")?),
        budget_micros: u32::from_le_bytes(budget),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Header {
        Header {
            kind: 3,
            cluster: 0x0c,
            call: 7,
            from: NodeId(1),
            to: NodeId(2),
            epoch: Epoch(5),
            budget_micros: 1_000_000,
        }
    }

    #[test]
    fn golden_bytes() {
        let bytes = encode(&sample(), |out| out.extend_from_slice(b"body"));
        let shown: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            shown[..56].join(" "),
            "40 00 00 00 01 03 00 00 0c 00 00 00 00 00 00 00 07 00 00 00 00 00 00 00 \
             01 00 00 00 00 00 00 00 02 00 00 00 00 00 00 00 05 00 00 00 00 00 00 00 40 42 0f 00 62 6f 64 79"
        );
        assert_eq!(bytes[56..], xxh3_64(&bytes[..56]).to_le_bytes());
        let frame = decode(&bytes, 64).expect("whole");
        assert_eq!((frame.header, frame.body), (sample(), &b"body"[..]));
    }

    #[test]
    fn any_bit_and_any_length_that_differs_is_noticed() {
        let bytes = encode(&sample(), |out| out.extend_from_slice(b"body"));
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                assert!(decode(&damaged, 1 << 20).is_err(), "byte {at} bit {bit}");
            }
            assert!(decode(&bytes[..at], 1 << 20).is_err());
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(decode(&longer, 1 << 20), Err(DecodeError::Trailing { len: 1 }));
    }

    #[test]
    fn a_length_is_checked_before_room_is_made() {
        assert_eq!(length(&[1, 2, 3], 100), Ok(None));
        let long = DecodeError::TooLong { what: "frame", len: u32::MAX as usize, max: 100 };
        assert_eq!(length(&[0xff; 4], 100), Err(long));
        assert_eq!(length(&[59, 0, 0, 0], 100), Err(DecodeError::Invalid { what: "length" }));
        assert_eq!(length(&[60, 0, 0, 0, 9], 100), Ok(Some(60)));
    }

    proptest! {
        #[test]
        fn noise_is_refused(bytes: Vec<u8>) {
            prop_assert!(decode(&bytes, 1 << 20).is_err());
        }
    }
}
