//! The range tombstones block: fragments in key order.
//!
//! ```text
//! count varint, then per fragment
//!   start   length varint, bytes
//!   end     length varint, bytes
//!   seqs    count varint, the newest as a varint, then the distance down to each older one as varints
//! ```

use base::coding::{Reader, put_length_prefixed, put_varint};
use base::limits::BOUND_BYTES_MAX;
use base::{Fragment, Fragments, SeqNo};

/// Fewest bytes of a fragment: what bounds the count before anything is allocated.
const FRAGMENT_LEN_MIN: usize = 5;

pub(crate) fn encode(fragments: &Fragments) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, fragments.as_slice().len() as u64);
    for fragment in fragments.as_slice() {
        put_length_prefixed(&mut out, &fragment.start);
        put_length_prefixed(&mut out, &fragment.end);
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
    for _ in 0..count {
        fragments.push(decode_fragment(&mut r)?);
    }
    Fragments::from_sorted(fragments).filter(|_| r.is_empty())
}

fn decode_fragment(r: &mut Reader<'_>) -> Option<Fragment> {
    let start = r.length_prefixed().filter(|k| k.len() <= BOUND_BYTES_MAX)?.to_vec();
    let end = r.length_prefixed().filter(|k| k.len() <= BOUND_BYTES_MAX)?.to_vec();
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
