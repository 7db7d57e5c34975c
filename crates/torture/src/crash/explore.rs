//! Opens crash images and checks what they show, and crashes again inside that recovery.

use super::drive::{Copy, Driver, Mix, Promise};
use crate::caught::caught;
use crate::pool::beat;
use crate::store::{DIR, check_files, open, read_state, show};
use lsm::{Error, Options};
use std::sync::Arc;
use testkit::oracle::Oracle;
use testkit::rng::Rng;
use vfs::{CrashProfile, MemFs, Snapshot};

/// How many images of each kind were opened and checked.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) operations: u64,
    pub(crate) images: u64,
    pub(crate) nested: u64,
    pub(crate) third: u64,
    pub(crate) lying_refused: u64,
    pub(crate) copies: u64,
    pub(crate) refused: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.operations += other.operations;
        self.images += other.images;
        self.nested += other.nested;
        self.third += other.third;
        self.lying_refused += other.lying_refused;
        self.copies += other.copies;
        self.refused += other.refused;
    }
}

/// How much to look at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// Every image is crashed again inside its recovery; one in so many inside that and the writes behind it, several times.
    pub(crate) nest_every: u64,
    /// Images taken of each such recovery.
    pub(crate) nested_images: usize,
    /// Profiles tried on each image, of seven.
    pub(crate) profiles: usize,
    /// Of so many operations one is looked at, beginning with this one.
    pub(crate) every: (usize, usize),
}

/// Nothing but writes and a sync: what comes after a recovery.
const AFTER: Mix = Mix {
    single: 8,
    batch: 6,
    range: 1,
    sync: 1,
    flush: 1,
    compact: 0,
    step: 4,
    tick: 1,
    create: 1,
    drop: 1,
    checkpoint: 0,
    ingest: 0,
    reopen: 0,
    snapshot: 0,
};

/// Checks crash images of one run.
#[derive(Debug)]
pub(crate) struct Explorer<'a> {
    pub(crate) options: &'a Options,
    pub(crate) effort: Effort,
    pub(crate) rng: Rng,
    pub(crate) counts: Counts,
    /// Expects what was never promised.
    pub(crate) canary: bool,
}

impl Explorer<'_> {
    /// The images of `history` that are asked for.
    ///
    /// # Errors
    /// What is wrong with the first bad one, and the operations around it.
    pub(crate) fn all(&mut self, run: &Driver, history: &[Snapshot]) -> Result<(), String> {
        let (first, step) = self.effort.every;
        for (at, snapshot) in history.iter().enumerate().skip(first).step_by(step) {
            self.counts.operations += 1;
            let promise = self.promise(run, snapshot);
            for turn in 0..self.effort.profiles {
                // Neighbours begin with different ones.
                let profile = CrashProfile::ALL[(at * 3 + turn) % CrashProfile::ALL.len()];
                let image = self.rng.next_u64();
                beat(|| format!("{:?} {profile:?} {image}", snapshot.op()));
                let checked = caught(|| {
                    let disk = || disk_after(snapshot, profile, image);
                    self.image(&disk, profile, &run.oracle, promise, &run.copies, snapshot, 0)
                });
                if let Err(wrong) = checked.and_then(|result| result) {
                    return Err(explain(history, snapshot, profile, image, &wrong));
                }
            }
        }
        Ok(())
    }

    /// What an image of `snapshot` may show.
    fn promise(&self, run: &Driver, snapshot: &Snapshot) -> Promise {
        let promise = run.promise(snapshot.op().index);
        if self.canary { Promise { synced: promise.issued, ..promise } } else { promise }
    }

    #[expect(clippy::too_many_arguments, reason = "what is known of an image")]
    fn image(
        &mut self,
        disk: &dyn Fn() -> MemFs,
        profile: CrashProfile,
        oracle: &Oracle,
        promise: Promise,
        copies: &[Copy],
        snapshot: &Snapshot,
        depth: u32,
    ) -> Result<(), String> {
        match depth {
            0 => self.counts.images += 1,
            1 => self.counts.nested += 1,
            _ => self.counts.third += 1,
        }
        let first = disk();
        first.set_capacity(None);
        first.start_recording();
        if profile == CrashProfile::LyingDisk {
            return self.lying(&first);
        }
        let floor = if profile == CrashProfile::KeepAll { promise.acked } else { promise.synced };
        let (db, executor) = open(Arc::new(first.clone()), DIR, self.options, 7)
            .map_err(|e| format!("open: {}", show(&e)))?;
        let recovery = first.take_history();
        let state = read_state(&db).map_err(|e| format!("read: {}", show(&e)))?;
        let prefix = oracle.check(&state, floor, promise.issued)?;
        check_files(&first, DIR)?;
        self.is_durable(&first, oracle, prefix)?;
        if self.rng.below(4) == 0 {
            db.verify().map_err(|e| format!("verify: {}", show(&e)))?;
        }
        if self.rng.below(4) == 0 {
            executor.run_all();
            let again = read_state(&db).map_err(|e| format!("read: {}", show(&e)))?;
            oracle.check(&again, prefix, prefix).map_err(|e| format!("after jobs: {e}"))?;
        }
        db.close().map_err(|e| format!("close: {}", show(&e)))?;
        drop(db);
        if self.rng.below(8) == 0 {
            self.is_durable(&first, oracle, prefix).map_err(|e| format!("after close: {e}"))?;
        }
        self.copies(&first, oracle, copies, snapshot)?;
        // Until its open has returned nothing more is promised of the rest of a kill than before.
        let kept = match profile {
            CrashProfile::KeepAll => promise,
            _ => Promise { issued: prefix, acked: prefix, synced: prefix },
        };
        if depth == 0 && !recovery.is_empty() {
            self.again(&recovery, oracle, kept, prefix)?;
        }
        if depth < 2 && self.rng.below(self.effort.nest_every) == 0 {
            self.nested(disk(), oracle, kept, prefix, depth)?;
        }
        Ok(())
    }

    /// Cuts the power once inside the recovery that showed `prefix`: it must show the same then, or what `kept` says.
    fn again(
        &mut self,
        recovery: &[Snapshot],
        oracle: &Oracle,
        kept: Promise,
        prefix: usize,
    ) -> Result<(), String> {
        self.counts.nested += 1;
        let snapshot = self.rng.pick(recovery);
        let profile = *self.rng.pick(&CrashProfile::ALL[..6]);
        let seed = self.rng.next_u64();
        let check = || {
            let disk = disk_after(snapshot, profile, seed);
            let (db, _) = open(Arc::new(disk.clone()), DIR, self.options, 6)
                .map_err(|e| format!("open: {}", show(&e)))?;
            let state = read_state(&db).map_err(|e| format!("read: {}", show(&e)))?;
            let floor = if profile == CrashProfile::KeepAll { kept.acked } else { kept.synced };
            oracle.check(&state, floor, prefix)?;
            check_files(&disk, DIR)
        };
        check().map_err(|e: String| {
            let op = snapshot.op();
            format!("crash again in the recovery, after {op:?} {profile:?} {seed}: {e}")
        })
    }

    /// Damage may go unnoticed only where a disk that lies made an older state whole again.
    fn lying(&mut self, disk: &MemFs) -> Result<(), String> {
        match open(Arc::new(disk.clone()), DIR, self.options, 7) {
            Ok((db, _)) => drop(read_state(&db)),
            Err(Error::Corruption { .. }) => self.counts.lying_refused += 1,
            Err(e) => return Err(format!("a lying disk gave {}", show(&e))),
        }
        Ok(())
    }

    /// What open exposed survives the next crash.
    fn is_durable(&self, disk: &MemFs, oracle: &Oracle, prefix: usize) -> Result<(), String> {
        let again = disk.crash(CrashProfile::DropAll, 0);
        let (db, _) = open(Arc::new(again), DIR, self.options, 8)
            .map_err(|e| format!("second open: {}", show(&e)))?;
        let state = read_state(&db).map_err(|e| format!("second read: {}", show(&e)))?;
        oracle.check(&state, prefix, prefix).map_err(|e| format!("not durable: {e}"))?;
        Ok(())
    }

    /// Finished checkpoints open, and show their moment.
    fn copies(
        &mut self,
        disk: &MemFs,
        oracle: &Oracle,
        copies: &[Copy],
        snapshot: &Snapshot,
    ) -> Result<(), String> {
        for copy in copies.iter().filter(|c| c.op <= snapshot.op().index + 1) {
            if self.rng.below(8) > 0 {
                continue;
            }
            self.counts.copies += 1;
            let wrong = |e: &Error| format!("copy {}: {}", copy.dir, show(e));
            let (db, _) =
                open(Arc::new(disk.clone()), &copy.dir, self.options, 9).map_err(|e| wrong(&e))?;
            let state = read_state(&db).map_err(|e| wrong(&e))?;
            oracle.check(&state, copy.commits, copy.commits)?;
            check_files(disk, &copy.dir)?;
        }
        Ok(())
    }

    /// Opens `disk`, writes, and crashes after operations of that recovery and of those writes.
    fn nested(
        &mut self,
        disk: MemFs,
        oracle: &Oracle,
        kept: Promise,
        prefix: usize,
        depth: u32,
    ) -> Result<(), String> {
        let mut oracle = oracle.clone();
        oracle.recovered(prefix);
        disk.set_capacity(None);
        disk.start_recording();
        let mut run = Driver::open(disk, self.options, oracle, self.rng.next_u64() >> 24)
            .map_err(|e| format!("nested open: {}", show(&e)))?;
        let opened = run.fs.op_count();
        run.check_now().map_err(|e| format!("nested read: {}", show(&e)))?;
        for _ in 0..16 {
            run.act(&AFTER).map_err(|e| format!("nested write: {}", show(&e)))?;
        }
        run.check_now().map_err(|e| format!("nested read: {}", show(&e)))?;
        let history = run.fs.take_history();
        let count = if depth == 0 { self.effort.nested_images } else { 3 };
        for _ in 0..count {
            let snapshot = self.rng.pick(&history).clone();
            let profile = *self.rng.pick(&CrashProfile::ALL[..6]);
            let seed = self.rng.next_u64();
            let mut promise = run.promise(snapshot.op().index);
            if snapshot.op().index + 1 < opened {
                promise.acked = promise.acked.min(kept.acked);
                promise.synced = promise.synced.min(kept.synced);
            }
            let disk = || disk_after(&snapshot, profile, seed);
            self.image(&disk, profile, &run.oracle, promise, &[], &snapshot, depth + 1).map_err(
                |e| format!("crash again after {:?} {profile:?} {seed}: {e}", snapshot.op()),
            )?;
        }
        Ok(())
    }
}

/// What is left after `snapshot`. A kill keeps everything, but a power cut during the recovery may yet take what was never
/// synced.
fn disk_after(snapshot: &Snapshot, profile: CrashProfile, seed: u64) -> MemFs {
    match profile {
        CrashProfile::KeepAll => snapshot.kill(),
        _ => snapshot.crash(profile, seed),
    }
}

fn explain(
    history: &[Snapshot],
    snapshot: &Snapshot,
    profile: CrashProfile,
    image: u64,
    wrong: &str,
) -> String {
    let mut text =
        format!("{profile:?} image {image} after {:?}: {wrong}\naround it:", snapshot.op());
    let index = snapshot.op().index;
    for near in
        history.iter().filter(|s| (index.saturating_sub(7)..=index + 3).contains(&s.op().index))
    {
        text += &format!("\n  {:?}", near.op());
    }
    text
}
