//! Operations of a database, faults of its disk and crashes, compared with a map of every version.
//!
//! What returned `Ok` stays, by its durability; what returned an error never happened, but for the write that met the
//! end of writes, which is there or not; after the faults are gone a reopen brings everything back.

mod check;
mod world;

use crate::source::Source;
use world::World;

/// Database operations allocate for memtables, caches and logs: a limit of their own.
const LIMIT: usize = 16 << 20;
const OPERATIONS_MAX: usize = 80;

/// Bytes as options, operations, faults and crashes.
pub fn database(data: &[u8]) {
    crate::cap::limited(LIMIT, || {
        let mut source = Source::new(data);
        let mut world = World::new(&mut source);
        for _ in 0..OPERATIONS_MAX {
            if source.is_empty() {
                break;
            }
            world.act(&mut source);
        }
        world.finish();
    });
}
