//! The least number of copies that leads from one topology to the loads of another, by the textbook:
//! a flow of minimal cost, found along shortest paths.

use ring::{NodeId, Topology};
use std::collections::BTreeMap;

/// One partition, one zone of it, or one node: a vertex. Slow: for a few dozen partitions.
pub fn least_moves_with_zones(old: &Topology, new: &Topology) -> usize {
    let nodes: Vec<(NodeId, usize)> =
        new.loads().iter().map(|load| (load.node, load.partitions)).collect();
    let zones: Vec<&str> =
        nodes.iter().map(|(id, _)| new.member(*id).expect("a member").zone.as_str()).collect();
    let mut nodes_in: BTreeMap<&str, usize> = BTreeMap::new();
    for (zone, (id, _)) in zones.iter().zip(&nodes) {
        let holds = new.member(*id).expect("a member").weight > 0;
        *nodes_in.entry(zone).or_default() += usize::from(holds);
    }
    let holders: usize = nodes_in.values().sum();
    let replicas = new.replicas().min(holders);
    let level =
        (1..=replicas).find(|&l| nodes_in.values().map(|&n| n.min(l)).sum::<usize>() >= replicas);
    let level = level.expect("there are nodes enough");

    let mut net = Network::default();
    let (source, sink) = (net.vertex(), net.vertex());
    let of_node: Vec<usize> = nodes.iter().map(|_| net.vertex()).collect();
    for (&vertex, (_, load)) in of_node.iter().zip(&nodes) {
        net.edge(vertex, sink, *load, 0);
    }
    // Large enough that no saving is worth a broken minimum.
    let must = -1_000_000;
    for partition in new.ring().iter() {
        let of_partition = net.vertex();
        net.edge(source, of_partition, replicas, 0);
        for (zone, &count) in &nodes_in {
            let of_zone = net.vertex();
            net.edge(of_partition, of_zone, count.min(level - 1), must);
            net.edge(of_partition, of_zone, count.min(level) - count.min(level - 1), 0);
            for (at, (id, _)) in nodes.iter().enumerate().filter(|(at, _)| zones[*at] == *zone) {
                let copies = i64::from(!old.owners(partition).contains(id));
                net.edge(of_zone, of_node[at], 1, copies);
            }
        }
    }
    let minima = nodes_in.values().map(|&count| count.min(level - 1)).sum::<usize>();
    let partitions = new.ring().partitions() as usize;
    let (flow, cost) = net.cheapest_flow(source, sink);
    assert_eq!(flow, replicas * partitions, "the loads of the new topology are possible");
    usize::try_from(cost - must * (minima * partitions) as i64).expect("all minima are kept")
}

#[derive(Default)]
struct Network {
    /// Edges of each vertex, by number; `number ^ 1` is the way back.
    from: Vec<Vec<usize>>,
    edges: Vec<(usize, usize, i64)>,
}

impl Network {
    fn vertex(&mut self) -> usize {
        self.from.push(Vec::new());
        self.from.len() - 1
    }

    fn edge(&mut self, from: usize, to: usize, capacity: usize, cost: i64) {
        self.from[from].push(self.edges.len());
        self.edges.push((to, capacity, cost));
        self.from[to].push(self.edges.len());
        self.edges.push((from, 0, -cost));
    }

    fn cheapest_flow(&mut self, source: usize, sink: usize) -> (usize, i64) {
        let (mut flow, mut total) = (0, 0);
        while let Some((path, cost)) = self.cheapest_path(source, sink) {
            for edge in path {
                self.edges[edge].1 -= 1;
                self.edges[edge ^ 1].1 += 1;
            }
            flow += 1;
            total += cost;
        }
        (flow, total)
    }

    fn cheapest_path(&self, source: usize, sink: usize) -> Option<(Vec<usize>, i64)> {
        let mut cost = vec![i64::MAX; self.from.len()];
        let mut came = vec![usize::MAX; self.from.len()];
        let mut queued = vec![false; self.from.len()];
        let mut queue = std::collections::VecDeque::from([source]);
        cost[source] = 0;
        while let Some(at) = queue.pop_front() {
            queued[at] = false;
            for &edge in &self.from[at] {
                let (to, capacity, price) = self.edges[edge];
                if capacity > 0 && cost[at] + price < cost[to] {
                    cost[to] = cost[at] + price;
                    came[to] = edge;
                    if !std::mem::replace(&mut queued[to], true) {
                        queue.push_back(to);
                    }
                }
            }
        }
        if cost[sink] == i64::MAX {
            return None;
        }
        let mut path = Vec::new();
        let mut at = sink;
        while at != source {
            path.push(came[at]);
            at = self.edges[came[at] ^ 1].0;
        }
        Some((path, cost[sink]))
    }
}
