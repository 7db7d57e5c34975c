//! Publishing against snapshots: the real queue and the real list, with a log that is a number.

use crate::{atomic::AtomicU64, check, spawn};
use lsm::models::Commits;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire};

struct World {
    commits: Commits,
    /// How far the log is on disk.
    durable: AtomicU64,
}

impl World {
    fn new() -> Arc<World> {
        Arc::new(World { commits: Commits::new(), durable: AtomicU64::new(0) })
    }

    /// A write as the engine makes it; readable when this returns.
    fn write(&self, sync: bool) -> u64 {
        let (seq, wanted) = self.commits.commit(sync, || self.durable.load(Acquire));
        if self.commits.visible() < seq {
            self.durable.fetch_max(wanted, AcqRel);
            self.commits.publish(self.durable.load(Acquire));
        }
        assert!(self.commits.visible() >= seq, "read one's own write");
        seq
    }
}

#[test]
fn nobody_sees_a_write_that_waits_for_its_sync() {
    check("commits: publish in order", 3, || {
        let world = World::new();
        let synced = Arc::clone(&world);
        // Only the first of the two asks for a sync; the other waits for it if it comes behind.
        let synced = spawn(move || assert!(synced.write(true) <= 2));
        let buffered = Arc::clone(&world);
        let buffered = spawn(move || assert!(buffered.write(false) <= 2));
        let first = world.commits.visible();
        let durable = world.durable.load(Acquire);
        // With nothing durable only the buffered write can be seen, and only if it came first.
        assert!(first < 2 || durable >= 1, "saw {first} with {durable} durable");
        assert!(world.commits.visible() >= first, "went back");
        synced.join().expect("a writer");
        buffered.join().expect("a writer");
        assert_eq!(world.commits.visible(), 2);
    });
}

#[test]
fn a_compaction_keeps_what_a_snapshot_reads() {
    check("commits: snapshot against compaction", 3, || {
        let world = World::new();
        world.write(false);
        let writer = Arc::clone(&world);
        let writer = spawn(move || {
            writer.write(false);
            writer.write(true);
        });
        // Every write is a version of one key. Inputs hold what is visible when they are picked, then the
        // snapshots are listed; of the inputs the newest version at each of them stays.
        let compaction = Arc::clone(&world);
        let dropped = Arc::new(AtomicU64::new(0));
        let result = Arc::clone(&dropped);
        let compaction = spawn(move || {
            let newest = compaction.commits.visible();
            let kept = compaction.commits.list();
            let gone = (1..newest).filter(|seq| !kept.contains(seq));
            result.store(
                gone.fold(0, |bits, seq| bits | 1 << seq),
                std::sync::atomic::Ordering::Release,
            );
        });
        let seq = world.commits.register();
        compaction.join().expect("the compaction");
        assert_eq!(dropped.load(Acquire) & 1 << seq, 0, "version {seq} of a snapshot was dropped");
        world.commits.release(seq);
        writer.join().expect("the writer");
        assert!(world.commits.list().is_empty());
    });
}
