//! A power cut, and a fault, at every operation of a run of edits.

use vfs::{CrashProfile, Fault, FaultFs, FaultPlan, MemFs, Snapshot, SyncOutcome};

use super::tests::{Db, dir, disk, rotate_at, same};
use super::*;
use crate::testing::{history, random_edit};

const HONEST: [CrashProfile; 6] = [
    CrashProfile::Strict,
    CrashProfile::Ordered,
    CrashProfile::SizeFirst,
    CrashProfile::DropAll,
    CrashProfile::KeepAll,
    CrashProfile::Random50,
];

/// A recorded run: the disk after every operation, and when each state was asked for and acknowledged.
struct Recorded {
    images: Vec<Snapshot>,
    steps: Vec<Step>,
}

struct Step {
    state: State,
    /// Operations before it was asked for, and when it was acknowledged.
    asked: u64,
    acknowledged: u64,
}

impl Recorded {
    /// The states that a crash after operation `op` may leave; `None` for no database.
    fn allowed(&self, op: u64) -> Vec<Option<&State>> {
        let done = self.steps.iter().filter(|s| s.acknowledged <= op + 1).count();
        let in_flight = self.steps.get(done).filter(|s| s.asked <= op).map(|s| Some(&s.state));
        let floor = done.checked_sub(1).map(|last| &self.steps[last].state);
        std::iter::once(floor).chain(in_flight).collect()
    }
}

fn record(options: ManifestOptions, part_bytes: usize, seed: u64) -> Recorded {
    let fs = disk();
    let (edits, _) = history(seed, 12);
    fs.start_recording();
    let asked = fs.op_count();
    let mut db = Db::create(&fs, options).expect("healthy disk");
    db.manifest.part_bytes = part_bytes;
    let mut steps = vec![Step { state: db.state.clone(), asked, acknowledged: fs.op_count() }];
    for edit in edits {
        let asked = fs.op_count();
        db.commit(&edit).expect("healthy disk");
        steps.push(Step { state: db.state.clone(), asked, acknowledged: fs.op_count() });
    }
    Recorded { images: fs.take_history(), steps }
}

fn recover_if_any(fs: &MemFs, options: ManifestOptions) -> Option<Db> {
    match Manifest::exists(fs, dir()).expect("no false alarm") {
        true => Some(Db::recover(fs, options).expect("no false alarm")),
        false => {
            assert!(matches!(Db::recover(fs, options), Err(Error::NotADatabase { .. })));
            None
        }
    }
}

fn is_one_of(found: Option<&State>, allowed: &[Option<&State>]) -> bool {
    allowed.iter().any(|allowed| match (found, allowed) {
        (Some(found), Some(allowed)) => same(found, allowed),
        (found, allowed) => found.is_none() && allowed.is_none(),
    })
}

#[test]
fn a_power_cut_at_any_operation_leaves_the_last_state_or_the_next() {
    let mut images = 0;
    for (rotate, part_bytes) in [(4 << 20, EDIT_BYTES_MAX), (0, EDIT_BYTES_MAX), (1, 20)] {
        for run in 0..3 {
            let recorded = record(rotate_at(rotate), part_bytes, run);
            for (image, profile) in recorded.images.iter().flat_map(|i| HONEST.map(|p| (i, p))) {
                for seed in 0..4 {
                    check_image(&recorded, image, profile, seed, rotate);
                    images += 1;
                }
            }
        }
    }
    assert!(images > 8_000, "only {images} images");
}

fn check_image(
    recorded: &Recorded,
    image: &Snapshot,
    profile: CrashProfile,
    seed: u64,
    rotate: u64,
) {
    let what = format!("{:?} {profile:?} {seed} {rotate}", image.op());
    let allowed = recorded.allowed(image.op().index);
    let fs = image.crash(profile, seed);
    fs.start_recording();
    let db = recover_if_any(&fs, rotate_at(rotate));
    assert!(is_one_of(db.as_ref().map(|db| &db.state), &allowed), "{what}");
    let Some(mut db) = db else { return };
    let exposed = db.state.clone();
    let recovered_at = fs.op_count();
    let edit = random_edit(&mut base::rng::Rng::new(seed), &db.state);
    db.commit(&edit).expect("healthy disk");
    for nested in fs.take_history() {
        let again = recover_if_any(&nested.crash(profile, seed + 1), rotate_at(rotate));
        let found = again.as_ref().map(|db| &db.state);
        let op = nested.op().index + 1;
        let ok = match op {
            _ if op < recovered_at => is_one_of(found, &allowed),
            _ if op < fs.op_count() => is_one_of(found, &[Some(&exposed), Some(&db.state)]),
            _ => is_one_of(found, &[Some(&db.state)]),
        };
        assert!(ok, "{what}, then {:?}", nested.op());
    }
}

#[test]
fn a_lying_disk_causes_no_panic() {
    let recorded = record(rotate_at(1), 100, 9);
    for (image, seed) in recorded.images.iter().flat_map(|i| (0..8).map(move |seed| (i, seed))) {
        let fs = image.crash(CrashProfile::LyingDisk, seed);
        drop(Db::recover(&fs, rotate_at(1)));
    }
}

/// Runs edits with `plan` in force and checks what they leave; returns how many faults fired.
fn run_with_fault(plan: FaultPlan, rotate: u64, once: bool, what: &str) -> u64 {
    let mem = disk();
    let fs = FaultFs::over_mem(mem.clone());
    fs.inject(plan);
    let created = Db::create(&fs, rotate_at(rotate));
    let Ok(mut db) = created else { return fs.fired() };
    let mut rng = base::rng::Rng::new(rotate);
    let (mut candidates, mut broken) = (vec![db.state.clone()], false);
    for _ in 0..10 {
        let edit = random_edit(&mut rng, &db.state);
        let (fired, mut tried) = (fs.fired(), db.state.clone());
        tried.apply(&edit).expect("made to fit");
        match db.commit(&edit) {
            Ok(()) => {
                assert!(!broken, "{what}: accepted after a failed sync");
                candidates = vec![db.state.clone()];
            }
            Err(e) => {
                assert!(broken || fs.fired() > fired, "{what}: {e}");
                let sync_failed = matches!(e, Error::SyncFailed { .. });
                assert!(sync_failed || !broken, "{what}: {e}");
                broken = sync_failed;
                candidates.push(tried);
            }
        }
    }
    let (fired, obsolete) =
        (fs.fired(), db.manifest.obsolete_files(&mem.list(dir()).expect("list")));
    fs.clear();
    drop(db);
    for name in obsolete {
        mem.remove_file(&dir().join(name)).expect("there");
    }
    let allowed: Vec<_> = candidates.iter().map(Some).collect();
    for (profile, seed) in HONEST.into_iter().flat_map(|p| [(p, 0), (p, 1)]) {
        let crashed = recover_if_any(&mem.crash(profile, seed), rotate_at(rotate));
        assert!(
            is_one_of(crashed.as_ref().map(|d| &d.state), &allowed),
            "{what}: {profile:?} {seed}"
        );
    }
    let shown = Db::recover(&mem, rotate_at(rotate)).expect("no false alarm").state;
    assert!(is_one_of(Some(&shown), &allowed), "{what}: reopened");
    let after = Db::recover(&mem.crash(CrashProfile::DropAll, 0), rotate_at(rotate));
    assert!(
        same(&after.expect("intact").state, &shown),
        "{what}: exposed, then lost (once: {once})"
    );
    fired
}

#[test]
fn a_fault_at_any_operation_is_reported_and_loses_nothing_acknowledged() {
    let faults = [
        Fault::Eio,
        Fault::NoSpace,
        Fault::ShortWrite,
        Fault::TooManyOpenFiles,
        Fault::SyncFailed(SyncOutcome::PageCleanCacheNew),
        Fault::SyncFailed(SyncOutcome::PageReverted),
        Fault::SyncFailed(SyncOutcome::ErrorOnceThenOk),
    ];
    let mut fired = 0;
    for (fault, rotate) in faults.iter().flat_map(|f| [0, 1, 4 << 20].map(|r| (f, r))) {
        for op in 0..110 {
            let what = format!("{fault:?} at {op}, rotate {rotate}");
            fired += run_with_fault(FaultPlan::at(op, fault.clone()), rotate, true, &what);
            fired += run_with_fault(FaultPlan::from(op, fault.clone()), rotate, false, &what);
        }
    }
    assert!(fired > 1_000, "only {fired} faults fired");
}
