//! Framing of records, in the log and in the manifest.
//!
//! ```text
//! offset size field
//!      0    4 crc    u32 LE, CRC-32 of bytes 4.. of the record, padding included, seeded by the file identity
//!      4    4 kind   u32 LE, low 28 bits: payload length in bytes, high 4 bits: `Kind`
//!      8    4 lag    u32 LE, in units of 8 bytes: own position - position below which all was synced;
//!                    0xffff_ffff = not stated
//!     12    4 place  u32 LE, odd, a hash of file identity and own position
//!     16      payload, then zeros up to a multiple of 8
//! ```
//! Records start at multiples of 8. `place` and the seeded `crc` bind a record to one file of one database and
//! to its offset in it: an old record of a recycled file, or one moved elsewhere, is as wrong as a
//! damaged one. `place` is also what makes the search for records behind a damaged one cheap: nearly no
//! other position passes this test, so no checksum is computed over lengths read from garbage.

use base::checksum::{crc32, xxh3_64};
use base::{Error, FileNum, Result};

const KIND_OFFSET: usize = 4;
const LAG_OFFSET: usize = 8;
const PLACE_OFFSET: usize = 12;
/// Bytes before the payload.
pub const HEADER_LEN: usize = PLACE_OFFSET + size_of::<u32>();
const _: () = assert!(HEADER_LEN == 16, "drawing and constants disagree");
/// Records start at multiples of this.
pub const ALIGN: usize = 8;
const LEN_BITS: u32 = 28;
/// Longest payload: 256 MiB - 1.
pub const PAYLOAD_MAX: usize = (1 << LEN_BITS) - 1;
const _: () = assert!(base::limits::BATCH_BYTES_MAX <= PAYLOAD_MAX);
const _: () = assert!(base::limits::EDIT_BYTES_MAX <= PAYLOAD_MAX);
const LAG_UNKNOWN: u32 = u32::MAX;

/// What a record is for. Stored; never renumbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Payload of the user of the log or the manifest.
    Data = 1,
    /// First record of a log segment: how the previous one ended.
    Link = 2,
    /// No payload; states how far the log is synced.
    Marker = 3,
}

impl Kind {
    fn from_bits(bits: u32) -> Option<Kind> {
        match bits {
            1 => Some(Kind::Data),
            2 => Some(Kind::Link),
            3 => Some(Kind::Marker),
            _ => None,
        }
    }
}

/// Which file of which database a record belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileIdentity(u64);

impl FileIdentity {
    /// The identity of file `num` of database `db_id`.
    #[must_use]
    pub fn new(db_id: u64, num: FileNum) -> Self {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&db_id.to_le_bytes());
        if !base::planted::is(3) {
            bytes[8..].copy_from_slice(&num.0.to_le_bytes());
        }
        FileIdentity(xxh3_64(&bytes))
    }

    /// Odd, so that zeros never look like a record.
    #[inline]
    fn place(self, position: u64) -> u32 {
        ((self.0 ^ position).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32 | 1
    }

    #[inline]
    fn seed(self) -> u32 {
        self.0 as u32
    }
}

/// A record whose checksum holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// What it is for.
    pub kind: Kind,
    /// Its payload, where it lies in the buffer.
    pub payload: &'a [u8],
    /// How many bytes before its own start the log was synced when it was written; `None` = not stated.
    pub lag: Option<u64>,
    /// Its checksum.
    pub crc: u32,
    /// Its length in the file, header and padding included; the next record starts there.
    pub len: usize,
}

/// Why no record stands at a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bad {
    /// The bytes end before the record does; with this many bytes it can be judged.
    NeedMore(usize),
    /// The bytes were not written as a record of this file at this position.
    NotHere,
    /// The start of a record of this file and position, but length, kind or checksum do not fit.
    Damaged,
}

/// Bytes that a payload of `payload_len` takes in the file.
#[inline]
#[must_use]
pub const fn framed_len(payload_len: usize) -> usize {
    HEADER_LEN + payload_len.next_multiple_of(ALIGN)
}

/// Appends a record for `position` of the file to `out`; returns its checksum.
///
/// `position` is where the record will start in the file, a multiple of 8; `lag` is how many bytes
/// before it the file is known to be synced, rounded up to 8; [`u64::MAX`] states nothing.
///
/// # Errors
/// [`Error::InvalidArgument`] if the payload is longer than [`PAYLOAD_MAX`].
#[inline]
pub fn encode(
    out: &mut Vec<u8>,
    identity: FileIdentity,
    position: u64,
    lag: u64,
    kind: Kind,
    payload: &[u8],
) -> Result<u32> {
    if payload.len() > PAYLOAD_MAX {
        return Err(too_long(payload.len()));
    }
    base::invariant!(
        position.is_multiple_of(ALIGN as u64),
        "record at unaligned position {position}"
    );
    let start = out.len();
    let len_and_kind = payload.len() as u32 | (kind as u32) << LEN_BITS;
    let lag = u32::try_from(lag.div_ceil(ALIGN as u64)).unwrap_or(LAG_UNKNOWN);
    // One store, with room for the checksum: the checksum reads these bytes back at once.
    let header = u128::from(len_and_kind) << (8 * KIND_OFFSET)
        | u128::from(lag) << (8 * LAG_OFFSET)
        | u128::from(identity.place(position)) << (8 * PLACE_OFFSET);
    out.reserve(framed_len(payload.len()));
    out.extend_from_slice(&header.to_le_bytes());
    out.extend_from_slice(payload);
    let padding = payload.len().next_multiple_of(ALIGN) - payload.len();
    out.extend_from_slice(&[0; ALIGN][..padding]);
    let record = &mut out[start..];
    let crc = crc32(identity.seed(), &[&record[KIND_OFFSET..]]);
    record[..KIND_OFFSET].copy_from_slice(&crc.to_le_bytes());
    Ok(crc)
}

fn too_long(len: usize) -> Error {
    Error::invalid("record payload", format!("{len} bytes, the limit is {PAYLOAD_MAX}"))
}

/// Reads the record that starts at the front of `bytes`, which lie at `position` of the file.
///
/// # Errors
/// [`Bad`] if none stands there, or `bytes` do not hold all of it.
#[inline]
pub fn decode(bytes: &[u8], identity: FileIdentity, position: u64) -> Result<Record<'_>, Bad> {
    let Some(header) = bytes.first_chunk::<HEADER_LEN>() else {
        return Err(Bad::NeedMore(HEADER_LEN));
    };
    let field = |at: usize| {
        u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    if field(PLACE_OFFSET) != identity.place(position) {
        return Err(Bad::NotHere);
    }
    let kind = Kind::from_bits(field(KIND_OFFSET) >> LEN_BITS).ok_or(Bad::Damaged)?;
    let payload_len = field(KIND_OFFSET) as usize & PAYLOAD_MAX;
    let len = framed_len(payload_len);
    let body = bytes.get(KIND_OFFSET..len).ok_or(Bad::NeedMore(len))?;
    let crc = field(0);
    if crc32(identity.seed(), &[body]) != crc && !base::planted::is(42) {
        return Err(Bad::Damaged);
    }
    let lag =
        Some(field(LAG_OFFSET)).filter(|&l| l != LAG_UNKNOWN).map(|l| u64::from(l) * ALIGN as u64);
    Ok(Record { kind, payload: &bytes[HEADER_LEN..HEADER_LEN + payload_len], lag, crc, len })
}

/// Index in `bytes` of the first possible start of a record, for `bytes` that lie at the multiple of 8
/// `position` of the file. Only starts with a whole header in `bytes` are looked at; see [`unsearched`].
#[must_use]
pub fn find(bytes: &[u8], identity: FileIdentity, position: u64) -> Option<usize> {
    const ZEROS: usize = 512;
    let mut at = 0;
    while let Some(header) = bytes.get(at..).and_then(|rest| rest.first_chunk::<HEADER_LEN>()) {
        let place = u32::from_le_bytes([header[12], header[13], header[14], header[15]]);
        if place == 0 {
            // A long run of zeros holds no record start: `place` is odd.
            let run = bytes.get(at..at + ZEROS + HEADER_LEN).filter(|_| at.is_multiple_of(ZEROS));
            if run.is_some_and(is_zero) {
                at += ZEROS;
                continue;
            }
        } else if place == identity.place(position + at as u64) {
            return Some(at);
        }
        at += ALIGN;
    }
    None
}

/// True if all of `bytes` are zero. Without an early exit: the compiler makes wide loads of it.
fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().fold(0, |any, byte| any | byte) == 0
}

/// Index behind the last byte of `bytes` that is not zero; 0 if all are.
pub(crate) fn written_len(bytes: &[u8]) -> usize {
    const STEP: usize = 4096;
    let mut end = bytes.len();
    while end > 0 {
        let start = end.saturating_sub(STEP);
        if !is_zero(&bytes[start..end]) {
            return start
                + bytes[start..end].iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
        }
        end = start;
    }
    0
}

/// Index of the first start that [`find`] could not look at for want of bytes.
#[must_use]
pub fn unsearched(len: usize) -> usize {
    if len < HEADER_LEN { 0 } else { ((len - HEADER_LEN) / ALIGN + 1) * ALIGN }
}

/// How a file of records ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// With its last record.
    Clean,
    /// With bytes that are no record, and nothing proves that they were ever synced.
    Torn,
    /// In the middle: a record behind the end proves that more was synced.
    Damaged,
}

/// What [`walk`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walked {
    /// Offset behind the last record of the unbroken run.
    pub end: u64,
    /// What comes behind it.
    pub tail: Tail,
}

/// Visits the unbroken run of records of a whole file that grew by appends, such as a manifest.
///
/// `bytes` is the file, `start` the offset of the first record, a multiple of 8. `visit` gets the offset
/// of each record and the record.
///
/// # Errors
/// Only those of `visit`; how the file ends is part of the result.
pub fn walk(
    bytes: &[u8],
    start: usize,
    identity: FileIdentity,
    visit: &mut dyn FnMut(u64, &Record<'_>) -> Result<()>,
) -> Result<Walked> {
    let mut at = start;
    while let Ok(record) = decode(bytes.get(at..).unwrap_or_default(), identity, at as u64) {
        visit(at as u64, &record)?;
        at += record.len;
    }
    let tail = match bytes.len() {
        len if len <= at => Tail::Clean,
        _ if proves_more(bytes, at, identity) => Tail::Damaged,
        _ => Tail::Torn,
    };
    Ok(Walked { end: at as u64, tail })
}

/// True if a record behind `end` says that bytes behind `end` had been synced.
fn proves_more(bytes: &[u8], end: usize, identity: FileIdentity) -> bool {
    let mut at = end;
    while let Some(found) = bytes.get(at..).and_then(|rest| find(rest, identity, at as u64)) {
        at += found;
        let Ok(record) = decode(&bytes[at..], identity, at as u64) else {
            at += ALIGN;
            continue;
        };
        if record.lag.is_some_and(|lag| (at as u64).saturating_sub(lag) > end as u64) {
            return true;
        }
        at += record.len;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FILE: FileIdentity = FileIdentity(0x0123_4567_89ab_cdef);

    fn encoded(position: u64, lag: u64, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(&mut out, FILE, position, lag, Kind::Data, payload).expect("short");
        out
    }

    #[test]
    fn golden_bytes() {
        let identity = FileIdentity::new(0x0102_0304_0506_0708, FileNum(12));
        let mut out = Vec::new();
        encode(&mut out, identity, 4096, 64, Kind::Data, b"esker").expect("short");
        let hex: String = out.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "f8fd8616050000100800000005f9a48065736b6572000000");
    }

    proptest! {
        #[test]
        fn records_round_trip_only_at_their_place(
            payload in prop::collection::vec(any::<u8>(), 0..200),
            position in 0u64..1 << 40,
            lag in 0u64..1 << 34,
        ) {
            let position = position * 8;
            let bytes = encoded(position, lag, &payload);
            prop_assert_eq!(bytes.len(), framed_len(payload.len()));
            let record = decode(&bytes, FILE, position).expect("just encoded");
            prop_assert_eq!(record.payload, &payload[..]);
            prop_assert_eq!(record.lag, Some(lag.next_multiple_of(8)));
            prop_assert_eq!(record.len, bytes.len());
            prop_assert!(decode(&bytes, FILE, position + 8).is_err());
            prop_assert!(decode(&bytes, FileIdentity(FILE.0 ^ 1), position).is_err());
            for cut in 0..bytes.len() {
                prop_assert!(matches!(decode(&bytes[..cut], FILE, position), Err(Bad::NeedMore(n)) if n > cut));
            }
        }

        #[test]
        fn any_bytes_are_judged_without_panic(bytes: Vec<u8>, position: u64) {
            if let Ok(record) = decode(&bytes, FILE, position & !7) {
                prop_assert!(record.len <= bytes.len());
            }
            prop_assert!(find(&bytes, FILE, 0).is_none_or(|at| at < bytes.len()));
            walk(&bytes, 0, FILE, &mut |_, _| Ok(())).expect("visit never fails");
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = encoded(64, 8, b"payload with padding");
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&bad, FILE, 64).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_lag_past_32_gib_states_nothing() {
        for lag in [u64::MAX, 8 * (u64::from(u32::MAX))] {
            assert_eq!(decode(&encoded(0, lag, b""), FILE, 0).expect("whole").lag, None);
        }
    }

    #[test]
    fn find_sees_starts_among_zeros_and_noise() {
        for before in [0, 8, 504, 512, 520, 4096, 10_000] {
            let mut bytes = vec![0; before];
            bytes.extend(encoded(before as u64, 0, b"x"));
            assert_eq!(find(&bytes, FILE, 0), Some(before));
            assert_eq!(find(&bytes[..before + 15], FILE, 0), None);
            assert!(unsearched(before + 15) <= before);
        }
        assert_eq!(find(&[0xa5; 4096], FILE, 0), None);
    }

    #[test]
    fn a_place_is_odd() {
        for position in (0..4096).step_by(ALIGN) {
            assert_eq!(FILE.place(position) % 2, 1, "position {position}");
        }
    }

    #[test]
    fn a_payload_above_the_limit_is_refused() {
        let (mut out, payload) = (Vec::new(), vec![0; PAYLOAD_MAX + 1]);
        let refused = encode(&mut out, FILE, 0, 0, Kind::Data, &payload);
        assert!(matches!(refused, Err(Error::InvalidArgument { .. })) && out.is_empty());
    }

    #[test]
    fn what_find_looks_at_ends_where_no_whole_header_fits() {
        for len in 0..100 {
            let starts = (0..).step_by(ALIGN);
            let first = starts.into_iter().find(|start| start + HEADER_LEN > len);
            assert_eq!(Some(unsearched(len)), first, "{len} bytes");
        }
    }

    #[test]
    fn the_written_part_ends_with_its_last_byte_that_is_not_zero() {
        for len in [0, 1, 7, 4095, 4096, 4097, 8192, 10_000] {
            let mut bytes = vec![0; len];
            assert_eq!(written_len(&bytes), 0);
            for end in
                [1, 2, 4095, 4096, 4097, 8191, 8192, 8193, 9999].iter().filter(|&&e| e <= len)
            {
                // Two alike: their sum or difference would look like zeros.
                bytes.fill(0);
                bytes[end - 1] = 0xa5;
                bytes[end.saturating_sub(2)] = 0xa5;
                assert_eq!(written_len(&bytes), *end, "of {len}");
            }
        }
    }

    #[test]
    fn a_walk_tells_torn_from_damaged() {
        // Three records; the last states that the first two had been synced.
        let mut bytes = Vec::new();
        let mut starts = Vec::new();
        for lag in [0, 24, 0] {
            let at = bytes.len() as u64;
            starts.push(bytes.len());
            encode(&mut bytes, FILE, at, lag, Kind::Data, b"12345678").expect("short");
        }
        let run = |bytes: &[u8]| {
            let mut count = 0;
            let end = walk(bytes, 0, FILE, &mut |_, _| {
                count += 1;
                Ok(())
            })
            .expect("no error");
            (count, end.tail)
        };
        assert_eq!(run(&bytes), (3, Tail::Clean));
        assert_eq!(run(&bytes[..starts[2] + 20]), (2, Tail::Torn));
        for (bad, tail) in [(0, Tail::Damaged), (1, Tail::Damaged), (2, Tail::Torn)] {
            let mut damaged = bytes.clone();
            damaged[starts[bad] + 17] ^= 1;
            assert_eq!(run(&damaged), (bad, tail));
        }
        // A record behind the gap that was synced up to the gap, and no further, proves nothing.
        for (lag, tail) in [(24, Tail::Torn), (16, Tail::Damaged), (0, Tail::Damaged)] {
            let mut gap = bytes[..starts[2]].to_vec();
            gap[starts[1] + 17] ^= 1;
            encode(&mut gap, FILE, starts[2] as u64, lag, Kind::Data, b"12345678").expect("short");
            assert_eq!(run(&gap), (1, tail), "lag {lag}");
        }
    }
}
