//! Snapshots, iterators and cursors that are held while the database goes on.

use super::super::ops::SLOTS;
use super::super::reads::{HeldCursor, HeldIter, check_multi, check_value};
use super::super::state::{Bounds, is_inverted};
use super::{HeldSnapshot, World};
use testkit::rng::Rng;

impl World {
    pub(super) fn take_snapshot(&mut self) {
        if self.snapshots.len() == 6 {
            self.snapshots.remove(0);
        }
        self.snapshots.push(HeldSnapshot {
            snapshot: self.db().snapshot(),
            state: self.history.now.clone(),
            spaces: self.spaces.iter().flatten().cloned().collect(),
        });
    }

    pub(super) fn held(&self, i: usize) -> Option<&HeldSnapshot> {
        self.snapshots.get(i % self.snapshots.len().max(1))
    }

    /// Reads one keyspace of a snapshot, perhaps dropped since, or made since, in one of several ways.
    pub(super) fn read_snapshot(&self, i: usize, seed: u64) {
        let Some(held) = self.held(i) else { return };
        let mut rng = Rng::new(seed);
        let space = match rng.chance(0.8) {
            true => rng.pick(&held.spaces),
            false => self.space(rng.index(SLOTS)),
        };
        let seen = self.seen(space, Some(held));
        let view = held.snapshot.keyspace(&space.handle);
        match rng.below(4) {
            0 => drop(self.told("snapshot", seen.check_all())),
            1 => {
                if let Some(cursor) = self.told("cursor", view.cursor()) {
                    self.told("walk", HeldCursor::new(cursor, seen.map).walk(&mut rng));
                }
            }
            _ => {
                let now = self.history.now.map(space.id);
                let keys: Vec<_> = seen.map.keys().chain(now.keys()).map(|k| k.to_vec()).collect();
                if let Some(found) = self.told("multi_get", view.multi_get(&keys)) {
                    check_multi(&keys, &found, &seen.map);
                }
                for key in keys.iter().take(20) {
                    if let Some(found) = self.told("get", view.get(key)) {
                        check_value("snapshot", key, found.as_deref(), seen.map.get(&key[..]));
                    }
                }
            }
        }
    }

    pub(super) fn open_iter(&mut self, slot: usize, from: Option<usize>, bounds: &Bounds) {
        if is_inverted(bounds) {
            return;
        }
        let seen = self.seen(self.space(slot), from.and_then(|i| self.held(i)));
        let iter = HeldIter::new(seen.range(bounds), &seen.map, bounds);
        if self.iters.len() == 6 {
            self.iters.remove(0);
        }
        self.iters.push(iter);
    }

    pub(super) fn open_cursor(&mut self, slot: usize, from: Option<usize>) {
        let seen = self.seen(self.space(slot), from.and_then(|i| self.held(i)));
        let cursor = match seen.snapshot {
            Some(snapshot) => snapshot.keyspace(&seen.space.handle).cursor(),
            None => seen.space.handle.cursor(),
        };
        let Some(cursor) = self.told("cursor", cursor) else { return };
        let cursor = HeldCursor::new(cursor, seen.map);
        if self.cursors.len() == 4 {
            self.cursors.remove(0);
        }
        self.cursors.push(cursor);
    }
}
