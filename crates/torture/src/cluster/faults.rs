//! What breaks, and when.

use super::history::Left;
use super::world::{World, below};
use base::rng::Rng;
use cluster::NodeId;
use cluster::transport::Link;

/// How often something was broken.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Tally {
    pub(super) crashes: u64,
    pub(super) cuts: u64,
    pub(super) wipes: u64,
    pub(super) rollbacks: u64,
    pub(super) rots: u64,
}

/// Breaks things and mends them.
pub(super) struct Faults {
    rng: Rng,
    /// Disks may be lost, one after the other.
    disks: bool,
    pub(super) tally: Tally,
}

impl Faults {
    pub(super) fn new(rng: &mut Rng, disks: bool) -> Faults {
        Faults { disks, rng: Rng::new(rng.next_u64()), tally: Tally::default() }
    }

    /// Something may break or be mended: every 0.3 seconds or so. If a disk was lost, what others had then.
    pub(super) fn turn(&mut self, world: &mut World) -> Result<Option<Left>, String> {
        if self.rng.below(60) > 0 {
            return Ok(None);
        }
        let count = world.hosts.len();
        let at = below(&mut self.rng, count);
        match self.rng.below(15) {
            0 | 1 => self.split(world),
            2 => self.cut_some(world),
            3 => self.isolate(world, at),
            4 | 5 => world.network.set_links(Link::bad()),
            6 => world.network.set_links(Link::near()),
            7 => world.network.mend_all(),
            8 | 9 => self.power_cut(world, at),
            10 => (0..count).try_for_each(|at| world.start(at))?,
            11 => self.set_clock(world, at),
            12 => world.back_up(at),
            13 => return self.rot(world, at),
            _ => return self.lose_disk(world, at),
        }
        Ok(None)
    }

    /// Two groups that do not see each other.
    fn split(&mut self, world: &World) {
        let mut ids: Vec<NodeId> = world.hosts.iter().map(|host| host.id).collect();
        for at in (1..ids.len()).rev() {
            ids.swap(at, below(&mut self.rng, at + 1));
        }
        let (left, right) = ids.split_at(1 + below(&mut self.rng, ids.len() - 1));
        world.network.partition(&[left, right]);
        self.tally.cuts += 1;
    }

    /// A few links, in one direction each.
    fn cut_some(&mut self, world: &World) {
        for _ in 0..=self.rng.below(3) {
            let (a, b) =
                (below(&mut self.rng, world.hosts.len()), below(&mut self.rng, world.hosts.len()));
            world.network.cut(world.hosts[a].id, world.hosts[b].id);
        }
        self.tally.cuts += 1;
    }

    fn isolate(&mut self, world: &World, at: usize) {
        for other in world.hosts.iter().filter(|other| other.id != world.hosts[at].id) {
            world.network.cut_both(world.hosts[at].id, other.id);
        }
        self.tally.cuts += 1;
    }

    fn power_cut(&mut self, world: &mut World, at: usize) {
        if world.hosts[at].node.is_some() {
            world.crash(at);
            self.tally.crashes += 1;
        }
    }

    /// Only where everything is whole: then each write that two owners have synced is left.
    fn lose_disk(&mut self, world: &mut World, at: usize) -> Result<Option<Left>, String> {
        if !self.disks || !world.is_whole() {
            return Ok(None);
        }
        let left = world.left_without(at)?;
        match world.lose_disk(at)? {
            true => self.tally.rollbacks += 1,
            false => self.tally.wipes += 1,
        }
        Ok(Some(left))
    }

    /// A bit of a table is wrong. What was in the block with it alone is lost.
    fn rot(&mut self, world: &mut World, at: usize) -> Result<Option<Left>, String> {
        if !self.disks || !world.is_whole() {
            return Ok(None);
        }
        let left = world.left_without(at)?;
        let rotten = world.rot(at)?;
        self.tally.rots += u64::from(rotten);
        Ok(rotten.then_some(left))
    }

    /// Half a second of error always, an hour sometimes.
    fn set_clock(&mut self, world: &mut World, at: usize) {
        let range = if self.rng.below(4) == 0 { 3_600_000_000 } else { 500_000 };
        let skew = self.rng.below(2 * range) as i64 - range as i64;
        world.set_skew(at, skew);
    }
}
