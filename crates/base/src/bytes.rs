//! Comparing short byte strings, word by word.
//!
//! Keys are short, and compared on every path. A call of `memcmp` for sixteen bytes costs several times what two loads of
//! eight bytes cost; most of it is the call, and the mask it makes for the length.

use std::cmp::Ordering;

/// True if both are the same bytes.
#[inline]
#[must_use]
pub fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let (words_a, words_b) = (a.as_chunks::<8>().0, b.as_chunks::<8>().0);
    let mut words = words_a.iter().zip(words_b);
    if !words.all(|(x, y)| u64::from_ne_bytes(*x) == u64::from_ne_bytes(*y)) {
        return false;
    }
    if a.len().is_multiple_of(8) {
        return true;
    }
    match (a.last_chunk::<8>(), b.last_chunk::<8>()) {
        // The last word overlaps the one before it.
        (Some(x), Some(y)) => u64::from_ne_bytes(*x) == u64::from_ne_bytes(*y),
        _ => a.iter().zip(b).all(|(x, y)| x == y),
    }
}

/// True if `bytes` starts with `prefix`.
#[inline]
#[must_use]
pub fn starts_with(bytes: &[u8], prefix: &[u8]) -> bool {
    bytes.get(..prefix.len()).is_some_and(|start| same(start, prefix))
}

/// How `a` and `b` order as byte strings.
#[inline]
#[must_use]
pub fn order(a: &[u8], b: &[u8]) -> Ordering {
    let (words_a, words_b) = (a.as_chunks::<8>().0, b.as_chunks::<8>().0);
    for (x, y) in words_a.iter().zip(words_b) {
        let (x, y) = (u64::from_be_bytes(*x), u64::from_be_bytes(*y));
        if x != y {
            return if x < y { Ordering::Less } else { Ordering::Greater };
        }
    }
    let done = 8 * words_a.len().min(words_b.len());
    let (rest_a, rest_b) = (a.get(done..).unwrap_or_default(), b.get(done..).unwrap_or_default());
    if rest_a.is_empty() || rest_b.is_empty() {
        return a.len().cmp(&b.len());
    }
    // Padded with zeros the shorter one is not above the longer, and the lengths decide if that makes them equal.
    let (x, y) = (crate::key::head(rest_a), crate::key::head(rest_b));
    x.cmp(&y).then_with(|| a.len().cmp(&b.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agree_with_the_operators_of_slices(
            prefix in prop::collection::vec(any::<u8>(), 0..20),
            a in prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(255)], 0..20),
            b in prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(255)], 0..20),
        ) {
            let (a, b) = ([&prefix[..], &a].concat(), [&prefix[..], &b].concat());
            prop_assert_eq!(same(&a, &b), a == b);
            prop_assert!(same(&a, &a.clone()));
            prop_assert_eq!(order(&a, &b), a.cmp(&b));
            prop_assert_eq!(order(&a, &a.clone()), Ordering::Equal);
            prop_assert_eq!(starts_with(&a, &b), a.starts_with(&b));
            prop_assert!(starts_with(&a, &prefix));
        }
    }
}
