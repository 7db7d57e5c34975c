//! Digests of key ranges of a partition, and the search for what differs between two replicas.
//!
//! A [`Tree`] cuts the key order of a partition into leaves and keeps a [`Sum`] of each: the number of entries, and the sum of
//! their fingerprints. Sums can be added and subtracted, so the digest of a range is that of its parts, a write changes one
//! leaf, and a leaf can be cut at any key. Two replicas need not cut alike: a [`Search`] sends ranges with sums, and the other side
//! [answers](Tree::answer) by its own, cutting where it is asked to. What is left is exactly the keys that differ.
//!
//! # Source
//! Merkle, "A Digital Signature Based on a Conventional Encryption Function", CRYPTO 1987, for the descent; Meyer,
//! "Range-Based Set Reconciliation", SRDS 2023, for ranges in place of fixed nodes.

mod search;
mod span;
mod tree;

#[cfg(test)]
mod tests;

pub use search::{Difference, Search};
pub use span::{Span, Sum};
pub use tree::{ENTRIES_MAX, FANOUT, LEAF_ENTRIES_MAX, Source, Tree};
