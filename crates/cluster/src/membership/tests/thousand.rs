use super::model::Crowd;
use crate::membership::Config;
use ring::NodeId;
use std::collections::BTreeMap;

const SECOND: u64 = 1_000_000;

#[test]
fn two_hundred_nodes_notice_deaths_and_blame_nobody_else() {
    notice(200);
}

#[test]
fn a_thousand_nodes_notice_deaths_and_blame_nobody_else() {
    notice(1000);
}

/// Nodes join by one seed, while one in a hundred packets is lost; then one in a hundred of them dies, all at once.
fn notice(nodes: usize) {
    let config = Config { nodes_max: nodes as u32, ..Config::default() };
    let mut crowd = Crowd::new(nodes, &config, 10, 1);
    let mut seconds = 0;
    while crowd.seen_min() < nodes - 1 {
        crowd.run_for(SECOND);
        seconds += 1;
        assert!(seconds <= 180, "after {seconds} s some see {} others", crowd.seen_min());
    }
    while crowd.backlog_max() > 0 {
        crowd.run_for(SECOND);
    }
    let quiet = (crowd.now, crowd.packets);
    crowd.run_for(20 * SECOND);
    let rate = (crowd.packets - quiet.1) as f64 / (crowd.now - quiet.0) as f64 * 1e6;
    let rate = rate / nodes as f64;
    assert!(rate <= 4.0, "{rate} packets a second and node in quiet times");
    assert_eq!(crowd.deaths, [], "false ones");

    let victims: Vec<usize> = (0..nodes / 100).map(|n| 100 * n + 7).collect();
    victims.iter().for_each(|victim| crowd.kill(*victim));
    let death = crowd.now;
    crowd.run_for(config.suspicion_micros() + 20 * SECOND);
    let mut told: BTreeMap<NodeId, Vec<u64>> = BTreeMap::new();
    for (node, _, at) in &crowd.deaths {
        told.entry(*node).or_default().push(at - death);
    }
    let dead: Vec<usize> = told.keys().map(|node| node.0 as usize).collect();
    assert_eq!(dead, victims, "these and no others");
    assert!(told.values().all(|at| at.len() == nodes - victims.len()), "all were told of all");
    let (first, last) = (told.values().flatten().min(), told.values().flatten().max());
    let (first, last) = first.zip(last).expect("there are some");
    println!(
        "{nodes} nodes know each other after {seconds} s; {rate:.2} packets/s and node; of {} deaths the first \
         is known to somebody after {:.1} s, all to all after {:.1} s",
        victims.len(),
        *first as f64 / 1e6,
        *last as f64 / 1e6,
    );
    assert!(*last <= config.suspicion_micros() + 10 * SECOND, "the last one after {last} us");
}
