//! What every filter keeps, whatever it is given, and the bytes it is stored as.

use bloom::{BITS_PER_KEY_MAX, Builder, FOOTER_LEN, Filter, LINE_LEN, ParseError};
use proptest::collection::vec;
use proptest::prelude::*;

fn encoded(bits_per_key: u32, hashes: &[u64]) -> Vec<u8> {
    let mut builder = Builder::new(bits_per_key).expect("bits in range");
    hashes.iter().for_each(|&hash| builder.add(hash));
    assert_eq!(builder.is_empty(), hashes.is_empty());
    builder.finish()
}

/// Any hash, with the extremes and clusters that a weak caller may send.
fn any_hash() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        0..64_u64,
        (0..64_u64).prop_map(|i| !i),
        (0..64_u64).prop_map(|i| i << 58)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_false_negative(hashes in vec(any_hash(), 0..3000), bits in 1..=BITS_PER_KEY_MAX) {
        let filter = Filter::parse(encoded(bits, &hashes)).unwrap();
        for &hash in &hashes {
            prop_assert!(filter.may_contain(hash));
            prop_assert!(filter.line_of(hash) < filter.lines());
        }
    }

    #[test]
    fn nothing_is_in_the_empty_set(hashes in vec(any_hash(), 1..100), bits in 1..=BITS_PER_KEY_MAX) {
        let filter = Filter::parse(encoded(bits, &[])).unwrap();
        prop_assert_eq!(filter.as_bytes().len(), FOOTER_LEN);
        prop_assert!(hashes.iter().all(|&hash| !filter.may_contain(hash) && filter.line_of(hash) == 0));
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in vec(any::<u8>(), 0..300), hash in any_hash()) {
        if let Ok(filter) = Filter::parse(&bytes) {
            filter.may_contain(hash);
        }
    }

    /// Lines of noise under an almost right footer, which random bytes never reach.
    #[test]
    fn any_footer_is_read_without_panic(
        lines in vec(any::<u8>(), 0..4 * LINE_LEN),
        count in prop_oneof![0..5_u32, any::<u32>()],
        probes in prop_oneof![0..20_u8, any::<u8>()],
        version in 0..3_u8,
        hash in any_hash(),
    ) {
        let mut bytes = lines.clone();
        bytes.extend_from_slice(&count.to_le_bytes());
        bytes.extend_from_slice(&[probes, version, b'b', b'f']);
        let valid = version == 1 && (1..=14).contains(&probes) && lines.len() == count as usize * LINE_LEN;
        let parsed = Filter::parse(&bytes);
        prop_assert_eq!(parsed.is_ok(), valid);
        if let Ok(filter) = parsed {
            filter.may_contain(hash);
        }
    }
}

#[test]
fn each_break_of_the_format_has_its_error() {
    let good = encoded(10, &[1, 2, 3]);
    let broken = |at_from_end: usize, byte: u8| {
        let mut bytes = good.clone();
        let at = bytes.len() - at_from_end;
        bytes[at] = byte;
        Filter::parse(bytes).unwrap_err()
    };
    assert_eq!(Filter::parse(&good[..7]).unwrap_err(), ParseError::TooShort { len: 7 });
    assert_eq!(
        Filter::parse(&good[1..]).unwrap_err(),
        ParseError::LengthMismatch { lines: 1, len: 71 }
    );
    assert_eq!(broken(1, 0), ParseError::BadMagic);
    assert_eq!(broken(3, 2), ParseError::UnknownVersion { version: 2 });
    assert_eq!(broken(4, 0), ParseError::BadProbes { probes: 0 });
    assert_eq!(broken(4, 15), ParseError::BadProbes { probes: 15 });
    assert_eq!(broken(8, 2), ParseError::LengthMismatch { lines: 2, len: 72 });
    assert!(broken(8, 2).to_string().contains("lines=2 len=72"));
}

#[test]
fn versions_of_one_key_take_no_space() {
    let mut builder = Builder::new(32).unwrap();
    (0..10_000_u64).for_each(|i| builder.add(i / 1000));
    assert_eq!(builder.len(), 10);
    assert_eq!(builder.plan().size_bytes() as usize, builder.finish().len());
}

/// The stored form of version 1: 100 hashes at 10 and at 20 bits, one round of probes and two.
#[test]
fn encoding_never_changes() {
    let hashes: Vec<u64> = (1..=100_u64).map(|i| i.wrapping_mul(0x2545_f491_4f6c_dd1d)).collect();
    let hex =
        |bits| encoded(bits, &hashes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(hex(10), include_str!("golden/filter-v1-10-bits.hex").trim());
    assert_eq!(hex(20), include_str!("golden/filter-v1-20-bits.hex").trim());
}
