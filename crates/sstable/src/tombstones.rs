//! The range tombstones block: fragments in key order.
//!
//! ```text
//! count varint, then per fragment
//!   start   length varint, bytes
//!   end     length varint, bytes; of the last one, if it has no end, length 65,537 and no bytes
//!   seqs    count varint, the newest as a varint, then the distance down to each older one as varints
//! ```

use base::coding::{Reader, put_bound, put_length_prefixed, put_varint};
use base::limits::{BOUND_BYTES_MAX, UNBOUNDED};
use base::{Fragment, Fragments, SeqNo};

/// Fewest bytes of a fragment: what bounds the count before anything is allocated.
const FRAGMENT_LEN_MIN: usize = 5;

pub(crate) fn encode(fragments: &Fragments) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, fragments.as_slice().len() as u64);
    for fragment in fragments.as_slice() {
        put_length_prefixed(&mut out, &fragment.start);
        put_bound(&mut out, &fragment.end);
        put_varint(&mut out, fragment.seqs.len() as u64);
        let mut newer = None;
        for &SeqNo(seq) in &fragment.seqs {
            put_varint(&mut out, newer.map_or(seq, |n: u64| n.saturating_sub(seq)));
            newer = Some(seq);
        }
    }
    out
}

/// `None` if the bytes are not fragments in order.
pub(crate) fn decode(bytes: &[u8]) -> Option<Fragments> {
    let mut r = Reader::new(bytes);
    let count = usize::try_from(r.varint()?).ok()?;
    if count > r.rest().len() / FRAGMENT_LEN_MIN {
        return None;
    }
    let mut fragments = Vec::with_capacity(count);
    for i in 1..=count {
        let fragment = decode_fragment(&mut r)?;
        // Nothing lies behind it; and many of them would take far more memory than their bytes.
        if i < count && fragment.end == UNBOUNDED {
            return None;
        }
        fragments.push(fragment);
    }
    Fragments::from_sorted(fragments).filter(|_| r.is_empty())
}

fn decode_fragment(r: &mut Reader<'_>) -> Option<Fragment> {
    let start = r.length_prefixed().filter(|k| k.len() <= BOUND_BYTES_MAX)?.to_vec();
    let end = r.bound()?.to_vec();
    let count = usize::try_from(r.varint()?).ok()?;
    if count > r.rest().len() {
        return None;
    }
    let mut seqs = Vec::with_capacity(count);
    let mut seq = 0;
    for i in 0..count {
        let n = r.varint()?;
        seq = if i == 0 { n } else { u64::checked_sub(seq, n)? };
        seqs.push(SeqNo(seq).min(SeqNo::MAX));
    }
    Some(Fragment { start, end, seqs })
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::RangeTombstone;
    use proptest::prelude::*;

    #[test]
    fn a_fragment_without_an_end_is_small_and_the_last() {
        let tombstone = |start: &str, end: &[u8], seq| RangeTombstone {
            start: start.into(),
            end: end.to_vec(),
            seq: SeqNo(seq),
        };
        let list = [tombstone("a", b"c", 1), tombstone("b", &UNBOUNDED, 2)];
        let fragments = Fragments::new(list);
        let bytes = encode(&fragments);
        assert!(bytes.len() < 40, "{}", bytes.len());
        assert_eq!(decode(&bytes), Some(fragments));
        let mut twice = Vec::new();
        put_varint(&mut twice, 2);
        for start in [b"a", b"b"] {
            put_length_prefixed(&mut twice, start);
            put_bound(&mut twice, &UNBOUNDED);
            twice.extend([1, 1]);
        }
        assert_eq!(decode(&twice), None);
    }

    proptest! {
        #[test]
        fn fragments_round_trip(list in prop::collection::vec((".{0,4}", ".{0,4}", 0u64..50), 0..20)) {
            let all = list.into_iter().map(|(start, end, seq)| RangeTombstone {
                start: start.into_bytes(), end: end.into_bytes(), seq: SeqNo(seq),
            });
            let fragments = Fragments::new(all);
            let bytes = encode(&fragments);
            prop_assert_eq!(decode(&bytes), Some(fragments));
            for cut in 0..bytes.len() {
                prop_assert_eq!(decode(&bytes[..cut]), None);
            }
        }

        #[test]
        fn any_bytes_decode_without_panic(bytes: Vec<u8>) {
            decode(&bytes);
        }
    }
}
