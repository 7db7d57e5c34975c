//! What is measured, and the tables.
#![expect(clippy::disallowed_methods, reason = "measures time, and is no part of a store")]

use crate::rivals::{Jump, Lookup, Owners, REPLICAS, Rendezvous, Tokens};
use ring::{Error, Member, NodeId, Ring, Topology, plan};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Nodes in five zones.
pub(crate) struct Shape {
    members: Vec<Member>,
    mixed: bool,
    crowded: bool,
    next_id: u64,
    random: u64,
}

/// Zones with 30, 25, 20, 15 and 10 % of the nodes: with three replicas the first is in nine of
/// ten partitions.
const CROWDED: [usize; 20] = [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 4, 4];

impl Shape {
    pub(crate) fn new(nodes: usize, mixed: bool, crowded: bool) -> Shape {
        let mut shape = Shape { members: Vec::new(), mixed, crowded, next_id: 1, random: 7 };
        for n in 0..nodes {
            let member = shape.fresh(if crowded { CROWDED[n % 20] } else { n % 5 });
            shape.members.push(member);
        }
        shape
    }

    fn fresh(&mut self, zone: usize) -> Member {
        self.next_id += 1;
        let weight = if self.mixed { [1, 2, 4][self.below(3)] } else { 1 };
        Member::new(self.next_id, weight, &format!("zone{zone}"))
    }

    fn below(&mut self, bound: usize) -> usize {
        self.random = xxh3_64(&self.random.to_le_bytes());
        (self.random % bound as u64) as usize
    }

    fn describe(&self) -> String {
        let weights = if self.mixed { "weights 1, 2 and 4" } else { "equal weights" };
        let zones = if self.crowded { "zones of 30, 25, 20, 15, 10 %" } else { "5 equal zones" };
        format!("{} nodes, {weights}, {zones}", self.members.len())
    }

    /// The same with a node more, a node less, a node twice as heavy; in a zone of middle size.
    fn changed(&self) -> [Vec<Member>; 3] {
        let mut shape = Shape { members: Vec::new(), ..*self };
        let middle = (0..self.members.len()).filter(|&n| self.members[n].zone == "zone2");
        let at = middle.clone().nth(middle.count() / 2).unwrap_or(0);
        let (mut more, mut less, mut heavier) =
            (self.members.clone(), self.members.clone(), self.members.clone());
        more.push(Member { weight: self.members[at].weight, ..shape.fresh(2) });
        less.remove(at);
        heavier[at].weight *= 2;
        [more, less, heavier]
    }
}

/// Replicas a node should hold of `total`: in proportion to its weight, but no more than one of
/// each, in whole zones too. What is too much for one goes to the others.
fn fair(members: &[Member], total: f64) -> BTreeMap<NodeId, f64> {
    let each = total / REPLICAS as f64;
    let in_zone = |zone: &str, per_weight: f64| -> f64 {
        let of = members.iter().filter(|member| member.zone == zone);
        of.map(|member| (per_weight * f64::from(member.weight)).min(each)).sum()
    };
    let mut zones: Vec<&str> = members.iter().map(|member| member.zone.as_str()).collect();
    zones.sort_unstable();
    zones.dedup();
    // With fewer than three zones there would be no such limit; there are none here.
    let held = |per_weight: f64| -> f64 {
        zones.iter().map(|zone| in_zone(zone, per_weight).min(each)).sum()
    };
    let level = |enough: &dyn Fn(f64) -> bool| {
        let (mut low, mut high) = (0.0, total);
        for _ in 0..200 {
            let middle = (low + high) / 2.0;
            if enough(middle) { high = middle } else { low = middle }
        }
        high
    };
    let common = level(&|per_weight| held(per_weight) >= total - 1e-6);
    let levels: BTreeMap<&str, f64> = zones
        .iter()
        .map(|&zone| {
            let full = in_zone(zone, common) > each;
            let own = || level(&|per_weight| in_zone(zone, per_weight) >= each - 1e-6);
            (zone, if full { own() } else { common })
        })
        .collect();
    let share = |member: &Member| (levels[&*member.zone] * f64::from(member.weight)).min(each);
    members.iter().map(|member| (member.id, share(member))).collect()
}

/// Load of the fullest node over its fair share.
fn fullest(members: &[Member], load: &BTreeMap<NodeId, usize>, total: f64) -> f64 {
    let fair = fair(members, total);
    let over = |(id, fair): (&NodeId, &f64)| load.get(id).copied().unwrap_or(0) as f64 / fair;
    fair.iter().map(over).fold(0.0, f64::max)
}

/// Copies that fair shares cannot do without.
fn least(old: &[Member], new: &[Member], total: f64) -> f64 {
    let (old, new) = (fair(old, total), fair(new, total));
    new.iter().map(|(id, share)| (share - old.get(id).copied().unwrap_or(0.0)).max(0.0)).sum()
}

// ---- beside the classic ways ----

type Maker = Box<dyn Fn(&[Member], Option<(NodeId, u32)>) -> Box<dyn Lookup>>;

fn makers(topology: &Topology) -> Vec<(String, Maker)> {
    let first = topology.clone();
    let ring: Maker = Box::new(move |members, _| match first.next(members) {
        Ok(next) => Box::new(next),
        Err(_) => Box::new(first.clone()),
    });
    let mut makers = vec![("esker-ring".to_string(), ring)];
    for zones in [false, true] {
        let mut add = |name: String, maker: Maker| {
            makers.push((if zones { format!("{name}, zones") } else { name }, maker));
        };
        for tokens in [1, 16, 256] {
            let of = move |members: &[Member]| Tokens::new(members, zones, tokens);
            add(format!("tokens, {tokens}"), Box::new(move |members, _| Box::new(of(members))));
        }
        add("rendezvous".into(), Box::new(move |m, _| Box::new(Rendezvous::new(m, zones))));
        add("jump".into(), Box::new(move |m, grown| Box::new(Jump::new(m, zones, grown))));
    }
    makers
}

pub(crate) fn compare(shape: &Shape, keys_log2: u32) -> Result<(), Error> {
    let members = &shape.members;
    let partitions = Ring::partitions_for(members.len(), REPLICAS);
    let topology = Topology::new(partitions, REPLICAS, members)?;
    println!("\n{}, {REPLICAS} replicas, {partitions} partitions", shape.describe());
    println!(
        "{:<20} {:>8} {:>7} {:>7} {:>7} {:>7} {:>10}",
        "", "max/mean", "join", "leave", "weight", "zones", "lookup ns"
    );
    let places = 1usize << keys_log2;
    let total = (places * REPLICAS) as f64;
    let [more, less, heavier] = shape.changed();
    let grown = heavier.iter().zip(members).find(|(new, old)| new.weight > old.weight);
    let grown = grown.map(|(new, old)| (new.id, new.weight - old.weight));
    for (name, make) in makers(&topology) {
        let lookup = make(members, None);
        let before = owners_of_all(&*lookup, keys_log2);
        let load = load_of(&before);
        let moved = |members_after: &[Member], grown| {
            let after = owners_of_all(&*make(members_after, grown), keys_log2);
            let fresh =
                |(old, new): (&Owners, &Owners)| new.iter().filter(|id| !old.contains(id)).count();
            let copies: usize = before.iter().zip(&after).map(fresh).sum();
            copies as f64 / least(members, members_after, total)
        };
        println!(
            "{name:<20} {:>8.3} {:>7.3} {:>7.3} {:>7.3} {:>6.1}% {:>10.1}",
            fullest(members, &load, total),
            moved(&more, None),
            moved(&less, None),
            moved(&heavier, grown),
            100.0 * violations(members, &before) as f64 / places as f64,
            lookup_nanos(&*lookup, if name.contains("rendezvous") { 20_000 } else { 1_000_000 }),
        );
    }
    Ok(())
}

/// Owners at places spread evenly over the hash space.
fn owners_of_all(lookup: &dyn Lookup, keys_log2: u32) -> Vec<Owners> {
    let place = |n: u64| (n << (64 - keys_log2)) | (1 << (63 - keys_log2));
    (0..1 << keys_log2).map(|n| lookup.owners(place(n))).collect()
}

fn load_of(owners: &[Owners]) -> BTreeMap<NodeId, usize> {
    let mut load = BTreeMap::new();
    for id in owners.iter().flatten() {
        *load.entry(*id).or_default() += 1;
    }
    load
}

fn violations(members: &[Member], owners: &[Owners]) -> usize {
    let zones: BTreeMap<NodeId, &str> =
        members.iter().map(|member| (member.id, member.zone.as_str())).collect();
    let clash = |owners: &&Owners| {
        let [a, b, c] = owners.map(|id| zones[&id]);
        a == b || b == c || a == c
    };
    owners.iter().filter(clash).count()
}

fn lookup_nanos(lookup: &dyn Lookup, rounds: usize) -> f64 {
    let keys: Vec<[u8; 16]> = (0..4096u64)
        .map(|n| {
            let half = |seed| xxh3_64_with_seed(&n.to_le_bytes(), seed).to_le_bytes();
            let mut key = [0; 16];
            key[..8].copy_from_slice(&half(1));
            key[8..].copy_from_slice(&half(2));
            key
        })
        .collect();
    let start = Instant::now();
    for n in 0..rounds {
        black_box(lookup.owners(xxh3_64(black_box(&keys[n % 4096]))));
    }
    start.elapsed().as_secs_f64() * 1e9 / rounds as f64
}

// ---- from few nodes to many ----

pub(crate) fn grow(sizes: &[usize], mixed: bool) -> Result<(), Error> {
    let largest = sizes.iter().copied().max().unwrap_or(1);
    let partitions = Ring::partitions_for(largest, REPLICAS);
    let weights = if mixed { "weights 1, 2 and 4" } else { "equal weights" };
    println!(
        "\nesker-ring, {weights}, 5 equal zones, {REPLICAS} replicas, {partitions} partitions"
    );
    println!(
        "{:>5} {:>8} {:>7} {:>7} {:>7} {:>7} {:>7} {:>8} {:>5} {:>9} {:>7} {:>7}",
        "nodes",
        "max/mean",
        "primary",
        "join",
        "leave",
        "weight",
        "drift",
        "max/mean",
        "zones",
        "lookup ns",
        "new ms",
        "next ms"
    );
    for &nodes in sizes {
        let mut shape = Shape::new(nodes, mixed, false);
        let start = Instant::now();
        let topology = Topology::new(partitions, REPLICAS, &shape.members)?;
        let new_ms = start.elapsed().as_secs_f64() * 1e3;
        let [more, less, heavier] = shape.changed();
        let start = Instant::now();
        let next = topology.next(&more)?;
        black_box(plan(&topology, &next)?);
        let next_ms = start.elapsed().as_secs_f64() * 1e3;
        let (even, primary) = evenness(&topology);
        let [join, leave, weight] =
            [moved(&topology, &more)?, moved(&topology, &less)?, moved(&topology, &heavier)?];
        let lookup = key_nanos(&topology);
        let (drift, after) = wander(topology, &mut shape)?;
        println!(
            "{nodes:>5} {even:>8.3} {primary:>7.3} {:>7} {:>7} {:>7} {:>7} {:>8.3} {:>5} \
             {lookup:>9.1} {new_ms:>7.1} {next_ms:>7.1}",
            ratio(join),
            ratio(leave),
            ratio(weight),
            ratio(drift),
            evenness(&after).0,
            after.violations(),
        );
    }
    Ok(())
}

/// Max over mean for replicas and for first owners.
fn evenness(topology: &Topology) -> (f64, f64) {
    let partitions = f64::from(topology.ring().partitions());
    let loads = topology.loads();
    let replicas = loads.iter().map(|load| (load.node, load.partitions)).collect();
    let primaries = loads.iter().map(|load| (load.node, load.primaries)).collect();
    let total = partitions * REPLICAS as f64;
    (
        fullest(topology.members(), &replicas, total),
        fullest(topology.members(), &primaries, total) * REPLICAS as f64,
    )
}

/// Copies made, and copies that fair shares cannot do without.
fn moved(topology: &Topology, members: &[Member]) -> Result<(f64, f64), Error> {
    let next = topology.next(members)?;
    let total = f64::from(topology.ring().partitions()) * REPLICAS as f64;
    let least = least(topology.members(), members, total);
    Ok((plan(topology, &next)?.moves.len() as f64, least))
}

fn ratio((copies, least): (f64, f64)) -> String {
    // Nothing moved and nothing had to: three nodes hold everything, for instance.
    if least < 0.5 { format!("{copies:.0}/0") } else { format!("{:.3}", copies / least) }
}

/// A hundred random changes in a row: joins to the smallest zone, leaves from the largest, and new
/// weights where they are mixed.
fn wander(mut topology: Topology, shape: &mut Shape) -> Result<((f64, f64), Topology), Error> {
    let (mut copies, mut needed) = (0.0, 0.0);
    for step in 0..99 {
        let mut members = topology.members().to_vec();
        let at = shape.below(members.len());
        match step % 3 {
            0 => {
                let zone = by_size(&members)[0];
                let member = shape.fresh(zone);
                members.push(member);
            }
            1 => {
                let zone = format!("zone{}", by_size(&members)[4]);
                let nodes: Vec<usize> =
                    (0..members.len()).filter(|&n| members[n].zone == zone).collect();
                members.remove(nodes[at % nodes.len()]);
            }
            _ if shape.mixed => members[at].weight = [1, 2, 4][shape.below(3)],
            _ => {}
        }
        let (more, least) = moved(&topology, &members)?;
        copies += more;
        needed += least;
        topology = topology.next(&members)?;
    }
    Ok(((copies, needed), topology))
}

/// The five zones, that with the fewest nodes first.
fn by_size(members: &[Member]) -> [usize; 5] {
    let nodes_in = |zone: &usize| {
        let name = format!("zone{zone}");
        members.iter().filter(|member| member.zone == name).count()
    };
    let mut zones = [0, 1, 2, 3, 4];
    zones.sort_by_key(nodes_in);
    zones
}

/// Nanoseconds from a key to its owners.
fn key_nanos(topology: &Topology) -> f64 {
    let keys: Vec<[u8; 16]> = (0..65_536u128)
        .map(|n| (n * 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c834).to_le_bytes())
        .collect();
    let rounds = 2_000_000;
    let start = Instant::now();
    for n in 0..rounds {
        black_box(topology.owners_of(black_box(&keys[n % keys.len()])).first());
    }
    start.elapsed().as_secs_f64() * 1e9 / rounds as f64
}
