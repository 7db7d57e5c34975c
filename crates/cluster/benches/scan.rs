//! A scan over all partitions of a cluster: how long it takes to merge them.
//!
//! ```sh
//! TMPDIR=/dev/shm cargo bench -p esker-cluster --bench scan -- 100000      # pairs
//! ```
#![forbid(unsafe_code)]
#![expect(clippy::expect_used, reason = "a benchmark that cannot go on ends")]

use base::clock::{Clock, SystemClock};
use cluster::Cluster;

const TURNS: usize = 5;

fn main() {
    let pairs = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(100_000u64);
    let clock = SystemClock::new();
    println!("{:>10} {:>12} {:>12}", "partitions", "pairs", "ns a pair");
    for partitions in [16u32, 256, 2048] {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Cluster::builder()
            .nodes(1)
            .replication(1)
            .partitions(partitions)
            .open(dir.path())
            .expect("it opens");
        let all = (0..pairs).map(|n| (format!("key{n:012}"), [7u8; 100]));
        for put in store.multi_put(all).expect("it runs") {
            put.expect("it is written");
        }
        let mut nanos: Vec<u64> = (0..TURNS)
            .map(|_| {
                let began = clock.monotonic_micros();
                assert_eq!(store.scan(..).filter(Result::is_ok).count() as u64, pairs);
                (clock.monotonic_micros() - began) * 1000 / pairs
            })
            .collect();
        nanos.sort_unstable();
        println!("{partitions:>10} {pairs:>12} {:>12}", nanos[TURNS / 2]);
        store.close().expect("it closes");
    }
}
