//! The bytes of a stored policy.
//!
//! ```text
//! tag    u8      1 leveled, 2 size_tiered, 3 lazy_leveled, 4 fifo
//! fields repeated to the end:
//!   id     u8      never reused, never renumbered
//!   value  varint  integers as they are, f64 as its bits
//! ```

use crate::policy::Policy;
use crate::{Fifo, LazyLeveled, Leveled, SizeTiered};
use base::coding::{Reader, put_varint};
use base::{Error, Result};

pub(crate) fn encode(policy: &Policy) -> Vec<u8> {
    let (tag, fields) = match policy {
        Policy::Leveled(p) => (
            1,
            vec![
                (1, p.l0_trigger as u64),
                (2, p.base_bytes),
                (3, u64::from(p.multiplier)),
                (4, p.target_table_bytes),
                (5, u64::from(p.tombstone_percent)),
            ],
        ),
        Policy::SizeTiered(p) => (
            2,
            vec![
                (1, p.min_threshold as u64),
                (2, p.max_threshold as u64),
                (3, p.bucket_low.to_bits()),
                (4, p.bucket_high.to_bits()),
                (5, p.min_run_bytes),
                (6, p.target_table_bytes),
                (7, u64::from(p.tombstone_percent)),
            ],
        ),
        Policy::LazyLeveled(p) => (
            3,
            vec![
                (1, p.runs_per_level as u64),
                (2, p.target_table_bytes),
                (3, u64::from(p.tombstone_percent)),
            ],
        ),
        Policy::Fifo(p) => {
            let mut fields = vec![(1, p.max_bytes)];
            fields.extend(p.ttl_micros.map(|ttl| (2, ttl)));
            (4, fields)
        }
    };
    let mut out = vec![tag];
    for (id, value) in fields {
        out.push(id);
        put_varint(&mut out, value);
    }
    out
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Policy> {
    let mut r = Reader::new(bytes);
    let mut policy = match r.u8() {
        Some(1) => Policy::Leveled(Leveled::default()),
        Some(2) => Policy::SizeTiered(SizeTiered::default()),
        Some(3) => Policy::LazyLeveled(LazyLeveled::default()),
        Some(4) => Policy::Fifo(Fifo { ttl_micros: None, ..Fifo::default() }),
        Some(_) => return Err(bad(&r, "unknown policy")),
        None => return Err(bad(&r, "no bytes")),
    };
    while !r.is_empty() {
        let id = r.u8().ok_or_else(|| bad(&r, "field ends early"))?;
        let value = r.varint().ok_or_else(|| bad(&r, "bad field value"))?;
        set(&mut policy, id, value)
            .ok_or_else(|| bad(&r, "unknown field or value out of range"))?;
    }
    policy.validate()?;
    Ok(policy)
}

fn set(policy: &mut Policy, id: u8, value: u64) -> Option<()> {
    match (policy, id) {
        (Policy::Leveled(p), 1) => p.l0_trigger = usize::try_from(value).ok()?,
        (Policy::Leveled(p), 2) => p.base_bytes = value,
        (Policy::Leveled(p), 3) => p.multiplier = u32::try_from(value).ok()?,
        (Policy::Leveled(p), 4) => p.target_table_bytes = value,
        (Policy::Leveled(p), 5) => p.tombstone_percent = u32::try_from(value).ok()?,
        (Policy::SizeTiered(p), 1) => p.min_threshold = usize::try_from(value).ok()?,
        (Policy::SizeTiered(p), 2) => p.max_threshold = usize::try_from(value).ok()?,
        (Policy::SizeTiered(p), 3) => p.bucket_low = f64::from_bits(value),
        (Policy::SizeTiered(p), 4) => p.bucket_high = f64::from_bits(value),
        (Policy::SizeTiered(p), 5) => p.min_run_bytes = value,
        (Policy::SizeTiered(p), 6) => p.target_table_bytes = value,
        (Policy::SizeTiered(p), 7) => p.tombstone_percent = u32::try_from(value).ok()?,
        (Policy::LazyLeveled(p), 1) => p.runs_per_level = usize::try_from(value).ok()?,
        (Policy::LazyLeveled(p), 2) => p.target_table_bytes = value,
        (Policy::LazyLeveled(p), 3) => p.tombstone_percent = u32::try_from(value).ok()?,
        (Policy::Fifo(p), 1) => p.max_bytes = value,
        (Policy::Fifo(p), 2) => p.ttl_micros = Some(value),
        _ => return None,
    }
    Some(())
}

fn bad(r: &Reader<'_>, detail: &str) -> Error {
    Error::invalid(
        "compaction policy",
        format!("{detail} at byte {} of the stored form", r.position()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn golden_bytes() {
        let golden = b"\x01\x01\x04\x02\x80\x80\x80\x80\x01\x03\x0a\x04\x80\x80\x80\x20\x05\x32";
        assert_eq!(Policy::default().encode(), golden);
    }

    #[test]
    fn policies_round_trip() {
        let fifo = Fifo { max_bytes: 7, ttl_micros: Some(9) };
        let all: [Policy; 5] = [
            Leveled { l0_trigger: 7, ..Leveled::default() }.into(),
            SizeTiered { bucket_low: 0.25, ..SizeTiered::default() }.into(),
            LazyLeveled { runs_per_level: 6, ..LazyLeveled::default() }.into(),
            fifo.clone().into(),
            Fifo { ttl_micros: None, ..fifo }.into(),
        ];
        for policy in all {
            let bytes = policy.encode();
            assert_eq!(Policy::decode(&bytes).expect("valid"), policy);
            assert!(Policy::decode(&[&bytes[..], &[99, 0]].concat()).is_err());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_decode_to_a_valid_policy_or_an_error(bytes: Vec<u8>, tag in 1u8..5) {
            for bytes in [bytes.clone(), [&[tag][..], &bytes].concat()] {
                if let Ok(policy) = Policy::decode(&bytes) {
                    prop_assert!(policy.validate().is_ok());
                }
            }
        }
    }
}
