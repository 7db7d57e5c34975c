//! The classic ways to place replicas, each with or without an eye on zones.

use ring::{Member, NodeId, Topology};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Replicas of a key in every table.
pub(crate) const REPLICAS: usize = 3;
pub(crate) type Owners = [NodeId; REPLICAS];

/// Finds the owners of a key by its hash.
pub(crate) trait Lookup {
    fn owners(&self, hash: u64) -> Owners;
}

impl Lookup for Topology {
    fn owners(&self, hash: u64) -> Owners {
        let owners = self.owners(self.ring().partition_of_hash(hash));
        std::array::from_fn(|rank| owners[rank])
    }
}

/// Takes nodes as they come, but each once, and of each zone one as long as `zones` asks for it.
struct Pick<'a> {
    members: &'a [Member],
    zones: bool,
    found: Vec<usize>,
}

impl Pick<'_> {
    /// Whether that was enough.
    fn offer(&mut self, node: usize) -> bool {
        let clash = |&other: &usize| {
            other == node || (self.zones && self.members[other].zone == self.members[node].zone)
        };
        if !self.found.iter().any(clash) {
            self.found.push(node);
        }
        self.found.len() == REPLICAS
    }

    fn owners(&self) -> Owners {
        std::array::from_fn(|rank| self.members[self.found[rank]].id)
    }
}

fn pick(members: &[Member], zones: bool) -> Pick<'_> {
    Pick { members, zones, found: Vec::with_capacity(REPLICAS) }
}

/// Random tokens on a circle, so many for each unit of weight; the owners of a key are the nodes
/// of the next tokens. Karger and others, STOC 1997; with many tokens as in Dynamo, SOSP 2007.
pub(crate) struct Tokens {
    members: Vec<Member>,
    zones: bool,
    circle: Vec<(u64, usize)>,
}

impl Tokens {
    pub(crate) fn new(members: &[Member], zones: bool, per_weight: u32) -> Tokens {
        let mut circle = Vec::new();
        for (node, member) in members.iter().enumerate() {
            for token in 0..per_weight * member.weight {
                circle.push((xxh3_64_with_seed(&token.to_le_bytes(), member.id.0), node));
            }
        }
        circle.sort_unstable();
        Tokens { members: members.to_vec(), zones, circle }
    }
}

impl Lookup for Tokens {
    fn owners(&self, hash: u64) -> Owners {
        let start = self.circle.partition_point(|(token, _)| *token < hash);
        let mut pick = pick(&self.members, self.zones);
        for (_, node) in self.circle[start..].iter().chain(&self.circle[..start]) {
            if pick.offer(*node) {
                break;
            }
        }
        pick.owners()
    }
}

/// Highest random weight: every node draws a number for the key, the best own it. Thaler and
/// Ravishankar, 1998; with weights as in Schindelhauer and Schomaker, SPAA 2005.
pub(crate) struct Rendezvous {
    members: Vec<Member>,
    zones: bool,
}

impl Rendezvous {
    pub(crate) fn new(members: &[Member], zones: bool) -> Rendezvous {
        Rendezvous { members: members.to_vec(), zones }
    }
}

impl Lookup for Rendezvous {
    fn owners(&self, hash: u64) -> Owners {
        let draw = |member: &Member| {
            let random = xxh3_64_with_seed(&hash.to_le_bytes(), member.id.0);
            let uniform = ((random >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
            -f64::from(member.weight) / uniform.ln()
        };
        let mut drawn: Vec<(f64, usize)> =
            self.members.iter().enumerate().map(|(node, member)| (draw(member), node)).collect();
        let mut pick = pick(&self.members, self.zones);
        // The few best are enough, unless zones make it look further.
        let few = (8 * REPLICAS).min(drawn.len() - 1);
        drawn.select_nth_unstable_by(few, |a, b| b.0.total_cmp(&a.0));
        drawn[..few].sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        if !drawn[..few].iter().any(|(_, node)| pick.offer(*node)) {
            drawn[few..].sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
            drawn[few..].iter().any(|(_, node)| pick.offer(*node));
        }
        pick.owners()
    }
}

/// Jump consistent hash over a list of buckets, one for each unit of weight; further replicas by
/// hashing again. Lamping and Veach, 2014.
pub(crate) struct Jump {
    members: Vec<Member>,
    zones: bool,
    buckets: Vec<usize>,
}

impl Jump {
    /// A weight that grows adds buckets at the end, where jump hash can.
    pub(crate) fn new(members: &[Member], zones: bool, grown: Option<(NodeId, u32)>) -> Jump {
        let mut buckets = Vec::new();
        let mut late = Vec::new();
        for (node, member) in members.iter().enumerate() {
            let more = grown.filter(|(id, _)| *id == member.id).map_or(0, |(_, more)| more);
            buckets.extend((0..member.weight - more).map(|_| node));
            late.extend((0..more).map(|_| node));
        }
        buckets.extend(late);
        Jump { members: members.to_vec(), zones, buckets }
    }
}

impl Lookup for Jump {
    fn owners(&self, hash: u64) -> Owners {
        let mut pick = pick(&self.members, self.zones);
        let mut attempt = hash;
        while !pick.offer(self.buckets[jump(attempt, self.buckets.len())]) {
            attempt = xxh3_64(&attempt.to_le_bytes());
        }
        pick.owners()
    }
}

fn jump(mut key: u64, buckets: usize) -> usize {
    let (mut bucket, mut next) = (0u64, 0u64);
    while next < buckets as u64 {
        bucket = next;
        key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        next = ((bucket + 1) as f64 * ((1u64 << 31) as f64 / ((key >> 33) + 1) as f64)) as u64;
    }
    bucket as usize
}
