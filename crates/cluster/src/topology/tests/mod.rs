//! Topologies and their changes, and the rule by which partitions change hands.

mod bytes;
mod changes;
mod quorums;
