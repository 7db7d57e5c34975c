//! Encoded batches: the unit of commit, and the payload of one log record.
//!
//! ```text
//! offset size field
//!      0    8 seq     u64 LE, sequence number of the first operation; each next one has one more
//!      8    4 count   u32 LE, number of operations
//!     12      ops     count times:
//!               kind u8 (ValueKind), keyspace varint, key length varint,
//!               value length varint (absent for Delete), key, value
//! ```
//! A range tombstone has its exclusive end as value; if it has none, the value length is 65,537 and there are no bytes. One with an empty end covers nothing; the engine notes by such an
//! operation that a keyspace was created or dropped.

use crate::coding::{Reader, put_varint, stored_bound};
use crate::{Error, KeyspaceId, Result, SeqNo, ValueKind, limits};

const COUNT_OFFSET: usize = 8;
/// Bytes before the first operation.
pub const HEADER_LEN: usize = COUNT_OFFSET + size_of::<u32>();
const _: () = assert!(HEADER_LEN == 12, "drawing and constants disagree");

/// One operation of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchOp<'a> {
    /// The keyspace it goes to.
    pub keyspace: KeyspaceId,
    /// What it does.
    pub kind: ValueKind,
    /// The user key; for a range tombstone its inclusive start.
    pub key: &'a [u8],
    /// The value; empty for a delete; the exclusive end for a range tombstone.
    pub value: &'a [u8],
}

/// Builds the bytes of a batch. Does not check sizes against limits except its own.
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    bytes: Vec<u8>,
    count: u32,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchBuilder {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        BatchBuilder { bytes: vec![0; HEADER_LEN], count: 0 }
    }

    /// Appends one operation.
    #[inline]
    pub fn push(&mut self, op: BatchOp<'_>) {
        self.bytes.push(op.kind as u8);
        put_varint(&mut self.bytes, u64::from(op.keyspace.0));
        put_varint(&mut self.bytes, op.key.len() as u64);
        let (value_len, value) = match op.kind {
            ValueKind::RangeDelete => stored_bound(op.value),
            _ => (op.value.len() as u64, op.value),
        };
        if op.kind != ValueKind::Delete {
            put_varint(&mut self.bytes, value_len);
        }
        self.bytes.extend_from_slice(op.key);
        if op.kind != ValueKind::Delete {
            self.bytes.extend_from_slice(value);
        }
        self.count += 1;
    }

    /// Number of operations.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count as usize
    }

    /// Encoded size in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// True without operations.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Removes all operations, keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.truncate(HEADER_LEN);
        self.count = 0;
    }

    /// Stamps the sequence number of the first operation and returns the encoded batch.
    pub fn seal(&mut self, seq: SeqNo) -> &[u8] {
        self.bytes[..COUNT_OFFSET].copy_from_slice(&seq.0.to_le_bytes());
        self.bytes[COUNT_OFFSET..HEADER_LEN].copy_from_slice(&self.count.to_le_bytes());
        &self.bytes
    }

    /// The operations pushed so far.
    pub fn ops(&self) -> impl Iterator<Item = BatchOp<'_>> {
        let mut reader = Reader::new(&self.bytes[HEADER_LEN..]);
        std::iter::from_fn(move || read_op(&mut reader).ok())
    }

    /// Checks size and count against [`limits`].
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] naming the batch.
    pub fn check_limits(&self) -> Result<()> {
        if self.bytes.len() > limits::BATCH_BYTES_MAX {
            let (len, max) = (self.bytes.len(), limits::BATCH_BYTES_MAX);
            return Err(Error::invalid("batch", format!("{len} bytes, the limit is {max}")));
        }
        if self.count() > limits::BATCH_OPS_MAX {
            let (count, max) = (self.count, limits::BATCH_OPS_MAX);
            return Err(Error::invalid("batch", format!("{count} operations, the limit is {max}")));
        }
        Ok(())
    }
}

/// A decoded view of the bytes of a batch.
#[derive(Debug, Clone)]
pub struct Batch<'a> {
    /// Sequence number of the first operation.
    pub seq: SeqNo,
    /// Number of operations.
    pub count: u32,
    ops: &'a [u8],
}

impl<'a> Batch<'a> {
    /// Checks the whole of `bytes`: header, every operation, nothing behind the last one.
    ///
    /// # Errors
    /// The offset in `bytes` at which a rule was found broken, and which.
    pub fn decode(bytes: &'a [u8]) -> Result<Batch<'a>, DecodeError> {
        let mut r = Reader::new(bytes);
        let header = r.u64().zip(r.u32());
        let (seq, count) = header.ok_or_else(|| error(&r, "batch header ends early"))?;
        if seq > SeqNo::MAX.0 || SeqNo::MAX.0 - seq < u64::from(count) {
            return Err(DecodeError { offset: 0, detail: "sequence number past 56 bits" });
        }
        let ops = r.rest();
        // A range without an end takes few bytes here and many in memory, so what comes out is bounded too.
        let mut room = limits::BATCH_BYTES_MAX;
        for _ in 0..count {
            let op = read_op(&mut r)?;
            let left = room.checked_sub(op.key.len() + op.value.len());
            room = left.ok_or_else(|| error(&r, "more keys and values than a batch may hold"))?;
        }
        if !r.is_empty() {
            return Err(error(&r, "bytes behind the last operation"));
        }
        Ok(Batch { seq: SeqNo(seq), count, ops })
    }

    /// The operations, each with its sequence number.
    pub fn ops(&self) -> impl Iterator<Item = (SeqNo, BatchOp<'a>)> + use<'a> {
        let (mut reader, seq) = (Reader::new(self.ops), self.seq.0);
        (0..u64::from(self.count))
            .map_while(move |i| read_op(&mut reader).ok().map(|op| (SeqNo(seq + i), op)))
    }
}

/// Where and why a batch could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError {
    /// Byte offset in the batch.
    pub offset: usize,
    /// The broken rule.
    pub detail: &'static str,
}

fn error(r: &Reader<'_>, detail: &'static str) -> DecodeError {
    DecodeError { offset: r.position(), detail }
}

fn read_op<'a>(r: &mut Reader<'a>) -> Result<BatchOp<'a>, DecodeError> {
    let kind = r.u8().ok_or_else(|| error(r, "operation ends early"))?;
    let kind = ValueKind::from_u8(kind).ok_or_else(|| error(r, "unknown operation"))?;
    let keyspace = r.varint32().ok_or_else(|| error(r, "bad keyspace id"))?;
    let key_len = r.varint().ok_or_else(|| error(r, "bad key length"))?;
    let value_len = match kind {
        ValueKind::Delete => 0,
        _ => r.varint().ok_or_else(|| error(r, "bad value length"))?,
    };
    let is_range = kind == ValueKind::RangeDelete;
    let key_max = if is_range { limits::BOUND_BYTES_MAX } else { limits::KEY_BYTES_MAX };
    let value_max = if is_range { limits::BOUND_BYTES_MAX + 1 } else { limits::VALUE_BYTES_MAX };
    if key_len > key_max as u64 || value_len > value_max as u64 {
        return Err(error(r, "key or value over its limit"));
    }
    let key = r.bytes(key_len as usize).ok_or_else(|| error(r, "key ends early"))?;
    let value = if is_range { r.bound_of_len(value_len) } else { r.bytes(value_len as usize) };
    let value = value.ok_or_else(|| error(r, "value ends early"))?;
    Ok(BatchOp { keyspace: KeyspaceId(keyspace), kind, key, value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_range_without_an_end_is_small_and_comes_back() {
        let open = op(1, ValueKind::RangeDelete, b"a", &limits::UNBOUNDED);
        let mut b = BatchBuilder::new();
        b.push(open);
        b.push(op(1, ValueKind::Put, b"k", b"v"));
        assert!(b.len() < HEADER_LEN + 20, "{}", b.len());
        let bytes = b.seal(SeqNo(1)).to_vec();
        let ops: Vec<_> = Batch::decode(&bytes).expect("own bytes").ops().map(|o| o.1).collect();
        assert_eq!(ops, [open, op(1, ValueKind::Put, b"k", b"v")]);
        // What they take in memory is bounded.
        let mut b = BatchBuilder::new();
        (0..limits::BATCH_BYTES_MAX / limits::BOUND_BYTES_MAX + 1).for_each(|_| b.push(open));
        let bytes = b.seal(SeqNo(1)).to_vec();
        assert!(bytes.len() < 20_000);
        assert!(Batch::decode(&bytes).expect_err("too much").detail.contains("may hold"));
    }

    fn op<'a>(keyspace: u32, kind: ValueKind, key: &'a [u8], value: &'a [u8]) -> BatchOp<'a> {
        BatchOp { keyspace: KeyspaceId(keyspace), kind, key, value }
    }

    #[test]
    fn golden_bytes() {
        let mut b = BatchBuilder::new();
        b.push(op(0, ValueKind::Put, b"k", b"val"));
        b.push(op(300, ValueKind::Delete, b"", b""));
        b.push(op(1, ValueKind::RangeDelete, b"a", b"f"));
        let golden = b"\x07\0\0\0\0\0\0\0\x03\0\0\0\
            \x01\x00\x01\x03kval\x00\xac\x02\x00\x02\x01\x01\x01af";
        assert_eq!(b.seal(SeqNo(7)), golden);
        let batch = Batch::decode(golden).expect("valid");
        let ops: Vec<_> = batch.ops().collect();
        assert_eq!(ops[0], (SeqNo(7), op(0, ValueKind::Put, b"k", b"val")));
        assert_eq!(ops[1], (SeqNo(8), op(300, ValueKind::Delete, b"", b"")));
        assert_eq!(ops[2], (SeqNo(9), op(1, ValueKind::RangeDelete, b"a", b"f")));
        assert_eq!(ops.len(), 3);
    }

    #[test]
    fn a_sequence_range_past_56_bits_is_refused() {
        let mut b = BatchBuilder::new();
        b.push(op(0, ValueKind::Put, b"k", b""));
        assert!(Batch::decode(b.seal(SeqNo::MAX)).is_err());
        assert!(Batch::decode(b.seal(SeqNo(SeqNo::MAX.0 - 1))).is_ok());
    }

    proptest! {
        #[test]
        fn every_cut_and_every_tail_is_refused(
            ops in prop::collection::vec((0u32..9, 0u8..3, any::<Vec<u8>>(), any::<Vec<u8>>()), 0..9),
        ) {
            let mut b = BatchBuilder::new();
            for (keyspace, kind, key, value) in &ops {
                let kind = ValueKind::from_u8(*kind).expect("in range");
                let value = if kind == ValueKind::Delete { &[][..] } else { value };
                b.push(op(*keyspace, kind, key, value));
            }
            let bytes = b.seal(SeqNo(1)).to_vec();
            prop_assert_eq!(Batch::decode(&bytes).expect("valid").ops().count(), ops.len());
            for cut in 0..bytes.len() {
                prop_assert!(Batch::decode(&bytes[..cut]).is_err());
            }
            prop_assert!(Batch::decode(&[&bytes[..], &[0]].concat()).is_err());
        }

        #[test]
        fn any_bytes_decode_without_panic(bytes: Vec<u8>) {
            if let Ok(batch) = Batch::decode(&bytes) {
                prop_assert_eq!(batch.ops().count(), batch.count as usize);
            }
        }
    }
}
