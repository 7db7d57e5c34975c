//! What tests of the public face share.

use cluster::{Cluster, ClusterBuilder};
use lsm::Options;

/// How long anything is waited for, in microseconds: the machine may be busy.
pub(crate) const PATIENCE: u64 = 60_000_000;

/// Small nodes with 16 partitions, and 3 owners for each.
pub(crate) fn builder(nodes: u64) -> ClusterBuilder {
    let options = Options::default()
        .memtable_size_bytes(1 << 20)
        .log_segment_bytes(1 << 20)
        .disk_reserve_bytes(0)
        .block_cache_bytes(4 << 20);
    Cluster::builder()
        .timeout_micros(PATIENCE)
        .nodes(nodes)
        .replication(3)
        .partitions(16)
        .options(options)
}
