//! Nothing is held for anybody any more.

use cluster::node::Load;
use cluster::{Cluster, NodeId};
use std::time::Duration;

/// Waits until no node holds a request of a client, or one of another client's node.
#[expect(clippy::disallowed_methods, reason = "this is what waits for real time")]
pub(crate) fn idle(store: &Cluster) {
    let loads = || -> Vec<Load> {
        let load = |node: &NodeId| store.load(*node).unwrap_or_default();
        store.nodes().iter().map(load).collect()
    };
    for _ in 0..6_000 {
        if loads().iter().all(|load| load.requests + load.request_bytes == 0) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("requests are still held: {:?}", loads());
}
