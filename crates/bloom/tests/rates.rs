//! Measured false-positive rates against the theory of blocked filters.

use bloom::{Builder, Filter, theoretical_fpr};

const KEYS: u64 = 400_000;

fn splitmix64(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Hashes that stand for random ones: two mixes, the second of another constant.
fn random_hash(i: u64) -> u64 {
    splitmix64(splitmix64(i) ^ 0x5eed)
}

/// Hashes of sequential inputs: the mix is applied to 0, 1, 2, .. as a hash is to numbered keys.
fn sequential_hash(i: u64) -> u64 {
    let mut z = i;
    z = (z ^ (z >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    z = (z ^ (z >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    z ^ (z >> 33)
}

fn filter_of(bits_per_key: u32, hashes: impl Iterator<Item = u64>) -> Filter<Vec<u8>> {
    let mut builder = Builder::new(bits_per_key).expect("bits in range");
    hashes.for_each(|hash| builder.add(hash));
    Filter::parse(builder.finish()).expect("own bytes")
}

fn assert_rate_is_theory(hash: fn(u64) -> u64, bits_per_key: u32) {
    let filter = filter_of(bits_per_key, (0..KEYS).map(hash));
    let bits = (filter.lines() * 512) as f64 / KEYS as f64;
    let theory = theoretical_fpr(bits, filter.probes());
    // About 5000 false positives: the standard deviation is below 1.5 % of the rate.
    let absent = (5000.0 / theory) as u64;
    let hits = (KEYS..KEYS + absent).filter(|&i| filter.may_contain(hash(i))).count();
    let ratio = hits as f64 / absent as f64 / theory;
    println!("bits={bits_per_key} probes={} theory={theory:.6} ratio={ratio:.3}", filter.probes());
    assert!((0.9..1.1).contains(&ratio), "bits={bits_per_key} theory={theory} ratio={ratio}");
}

#[test]
fn random_hashes_meet_the_theory() {
    (4..=20).for_each(|bits| assert_rate_is_theory(random_hash, bits));
}

#[test]
fn hashes_of_sequential_keys_meet_the_theory() {
    (4..=20).for_each(|bits| assert_rate_is_theory(sequential_hash, bits));
}

/// The largest filter has 2^26 lines, so keys of one line share 26 bits. One-line filters over
/// hashes that share them must still let through as many as independent
/// uniform probes into the bits set would.
#[test]
fn bits_within_a_line_do_not_follow_the_line() {
    for bits_per_key in [6, 10, 16, 20] {
        let keys = 512 / u64::from(bits_per_key);
        let (mut hits, mut probed, mut expected) = (0, 0, 0.0);
        for round in 0..4000_u64 {
            let high = splitmix64(round) & !(u64::MAX >> 26);
            let hash = |i: u64| high | (splitmix64(round << 32 | i) >> 26);
            let filter = filter_of(bits_per_key, (0..keys).map(hash));
            let set: u32 = filter.as_bytes()[..64].iter().map(|byte| byte.count_ones()).sum();
            expected += (f64::from(set) / 512.0).powi(filter.probes() as i32) * 6000.0;
            hits += (keys..keys + 6000).filter(|&i| filter.may_contain(hash(i))).count();
            probed += 6000;
        }
        let ratio = hits as f64 / expected;
        println!("bits={bits_per_key} hits={hits} of={probed} ratio={ratio:.3}");
        assert!((0.9..1.1).contains(&ratio), "bits={bits_per_key} ratio={ratio}");
    }
}
