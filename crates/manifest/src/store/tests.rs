use proptest::prelude::*;
use vfs::{Fault, FaultFs, FaultPlan, MemFs, OpKind, SyncOutcome};

use super::*;
use crate::frame::MARKER_LEN;
use crate::testing::{added, history, small_state, table};
use crate::{RunId, TableChanges};

/// A manifest, and the state it should give back.
pub(crate) struct Db {
    pub(crate) manifest: Manifest,
    pub(crate) state: State,
    next: u64,
}

pub(crate) fn dir() -> &'static Path {
    Path::new("/db")
}

pub(crate) fn disk() -> MemFs {
    let fs = MemFs::new();
    fs.create_dir_all(dir()).expect("mkdir");
    fs.sync_dir(Path::new("/")).expect("sync");
    fs
}

pub(crate) fn rotate_at(rotate_bytes: u64) -> ManifestOptions {
    ManifestOptions { rotate_bytes, ..ManifestOptions::default() }
}

impl Db {
    pub(crate) fn create(fs: &(impl Fs + Clone), options: ManifestOptions) -> Result<Db> {
        let state = small_state();
        let manifest = Manifest::create(Arc::new(fs.clone()), dir(), &state, FileNum(1), options)?;
        Ok(Db { manifest, state, next: 0 })
    }

    pub(crate) fn recover(fs: &(impl Fs + Clone), options: ManifestOptions) -> Result<Db> {
        let (manifest, state) = Manifest::recover(Arc::new(fs.clone()), dir(), options)?;
        Ok(Db { manifest, state, next: 0 })
    }

    pub(crate) fn commit(&mut self, edit: &VersionEdit) -> Result<()> {
        let mut after = self.state.clone();
        after.apply(edit).expect("made to fit");
        self.next = self.next.max(after.next_file.0).max(self.manifest.file().0 + 1);
        let mut new_file = || {
            self.next += 1;
            FileNum(self.next - 1)
        };
        self.manifest.append(&after, edit, &mut new_file)?;
        self.state = after;
        Ok(())
    }

    fn path(&self) -> PathBuf {
        FileName::Manifest(self.manifest.file()).in_dir(dir())
    }
}

/// Equal but for file numbers that manifests took.
pub(crate) fn same(recovered: &State, expected: &State) -> bool {
    let recovered_next = recovered.next_file;
    recovered_next >= expected.next_file
        && State { next_file: expected.next_file, ..recovered.clone() } == *expected
}

fn reopened(fs: &MemFs) -> Result<State> {
    let read_only = ManifestOptions { read_only: true, ..ManifestOptions::default() };
    Db::recover(fs, read_only).map(|db| db.state)
}

/// A database after a few edits; the state after each, and the length of the manifest then.
fn small_db(part_bytes: usize) -> (MemFs, Db, Vec<(State, usize)>) {
    let fs = disk();
    let mut db = Db::create(&fs, ManifestOptions::default()).expect("create");
    db.manifest.part_bytes = part_bytes;
    let mut steps = vec![(db.state.clone(), db.manifest.len_bytes() as usize)];
    for edit in history(3, 5).0 {
        db.commit(&edit).expect("healthy disk");
        steps.push((db.state.clone(), db.manifest.len_bytes() as usize));
    }
    (fs, db, steps)
}

#[test]
fn golden_bytes() {
    let fs = disk();
    let mut db = Db::create(&fs, ManifestOptions::default()).expect("create");
    let added = vec![added(0, 1, table(3, "a", "f"))];
    let changes = TableChanges { added, ..TableChanges::default() };
    db.commit(&VersionEdit { tables: vec![changes], ..VersionEdit::default() }).expect("commit");
    let bytes = fs.read_file(&db.path()).expect("there");
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    // File header; then header and payload of snapshot, edit and marker.
    let golden = concat!(
        "45534b45524d414eefcdab89674523010100000000000000010000008db5dfb8",
        "6ea8b7912900001004000000111d8d39",
        "00010103020101030101040100050102080100090e000764656661756c74046f",
        "7074730c040003010000000000000000",
        "411adbc42200001000000000718b6bc7",
        "000c1f00011c0001030700000003000000ac021e0300840701610166000308c3",
        "843d000000000000",
        "773b6a1c00000030000000009dc70547",
    );
    assert_eq!(hex, golden);
    let current = fs.read_file(Path::new("/db/CURRENT")).expect("there");
    assert_eq!(
        current.escape_ascii().to_string(),
        "MANIFEST-000001\\n0123456789abcdef 0000000000000060 07810f08\\n"
    );
}

#[test]
fn after_a_close_neither_a_cut_nor_an_older_copy_is_taken_for_the_whole() {
    let (fs, mut db, steps) = small_db(EDIT_BYTES_MAX);
    let (path, older) = (db.path(), fs.read_file(&db.path()).expect("there"));
    db.commit(&VersionEdit { next_lsn: Some(1 << 40), ..VersionEdit::default() }).expect("commit");
    db.manifest.close().expect("healthy disk");
    let whole = fs.read_file(&path).expect("there");
    assert!(same(&reopened(&fs).expect("whole"), &db.state));
    for (_, len) in steps {
        fs.overwrite(&path, &whole[..len]).expect("there");
        assert!(reopened(&fs).expect_err("cut at an edit").is_corruption());
    }
    fs.overwrite(&path, &older).expect("there");
    assert!(reopened(&fs).expect_err("an older copy").is_corruption());
    fs.overwrite(&path, &whole).expect("there");
    // It may go on, and close again.
    let mut db = Db::recover(&fs, ManifestOptions::default()).expect("whole");
    db.commit(&VersionEdit { next_lsn: Some(1 << 41), ..VersionEdit::default() }).expect("commit");
    assert!(same(&reopened(&fs).expect("longer"), &db.state));
    db.manifest.close().expect("healthy disk");
    assert!(same(&reopened(&fs).expect("longer"), &db.state));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_state_comes_back_at_every_rotation(
        seed: u64, part_bytes in 1usize..200, rotate in 0usize..4, reopen_every in 1usize..9,
    ) {
        let fs = disk();
        let options = || rotate_at([0, 1, 1000, 4 << 20][rotate]);
        let mut db = Db::create(&fs, options()).expect("create");
        for (i, edit) in history(seed, 20).0.iter().enumerate() {
            db.manifest.part_bytes = part_bytes;
            db.commit(edit).expect("healthy disk");
            prop_assert!(same(&reopened(&fs).expect("intact"), &db.state));
            if i % reopen_every == 0 {
                let again = Db::recover(&fs, options()).expect("intact");
                prop_assert!(same(&again.state, &db.state));
                // Edits were made for the old numbers; the new ones are as good.
                db = Db { manifest: again.manifest, ..db };
            }
        }
    }
}

#[test]
fn a_rotation_leaves_one_manifest_once_obsolete_files_are_removed() {
    let fs = disk();
    let mut db = Db::create(&fs, rotate_at(0)).expect("create");
    let mut files = vec![db.manifest.file()];
    for edit in history(1, 4).0 {
        db.commit(&edit).expect("healthy disk");
        files.push(db.manifest.file());
    }
    assert!(files.windows(2).all(|f| f[0] < f[1]), "{files:?}");
    fs.create(&FileName::Temp.in_dir(dir())).expect("leftover");
    for name in db.manifest.obsolete_files(&fs.list(dir()).expect("list")) {
        fs.remove_file(&dir().join(name)).expect("remove");
    }
    let live = FileName::Manifest(db.manifest.file()).to_string();
    assert_eq!(fs.list(dir()).expect("list"), [Path::new("CURRENT"), Path::new(&live)]);
    assert!(same(&reopened(&fs).expect("intact"), &db.state));
}

#[test]
fn a_manifest_that_grows_is_replaced_when_it_is_twice_its_snapshot() {
    let mut db = Db::create(&disk(), rotate_at(1)).expect("create");
    let mut largest = 0;
    for edit in history(5, 200).0 {
        db.commit(&edit).expect("healthy disk");
        largest = largest.max(db.manifest.len_bytes());
        assert!(db.manifest.len_bytes() <= 2 * db.manifest.snapshot_len + 400);
    }
    assert!(db.manifest.file() > FileNum(5) && largest > 500);
}

/// What a mutation of the manifest must lead to.
fn check_mutation(fs: &MemFs, expected: Option<&State>, what: &str) {
    let before = fs.hash();
    match (reopened(fs), expected) {
        (Ok(state), Some(expected)) => assert!(same(&state, expected), "{what}: another state"),
        (Err(e), None) => assert!(e.is_corruption(), "{what}: {e}"),
        (Ok(_), None) => panic!("{what}: not noticed"),
        (Err(e), Some(_)) => panic!("{what}: {e}"),
    }
    assert_eq!(fs.hash(), before, "{what}: the disk changed");
}

#[test]
fn every_changed_byte_is_noticed_or_harmless() {
    for part_bytes in [EDIT_BYTES_MAX, 24] {
        let (fs, db, steps) = small_db(part_bytes);
        let manifest = fs.read_file(&db.path()).expect("there");
        // Every edit but none of the snapshot is followed by a marker.
        let in_marker =
            |at: usize| steps[1..].iter().any(|(_, end)| (end - MARKER_LEN..*end).contains(&at));
        for path in [db.path(), FileName::Current.in_dir(dir())] {
            let bytes = fs.read_file(&path).expect("there");
            for (at, old) in bytes.iter().copied().enumerate() {
                let flips = (0..8).map(|bit| old ^ 1 << bit).chain([0, 0xff, old.wrapping_add(1)]);
                for new in flips.filter(|new| *new != old) {
                    fs.corrupt(&path, at as u64, |b| *b = new).expect("in range");
                    let harmless = bytes == manifest && in_marker(at);
                    let expected = harmless.then_some(&db.state);
                    check_mutation(
                        &fs,
                        expected,
                        &format!("{} {at}: {old} -> {new}", path.display()),
                    );
                }
                fs.corrupt(&path, at as u64, |b| *b = old).expect("in range");
            }
        }
    }
}

#[test]
fn a_cut_file_is_an_earlier_state_or_damage() {
    for part_bytes in [EDIT_BYTES_MAX, 24] {
        let (fs, db, steps) = small_db(part_bytes);
        let bytes = fs.read_file(&db.path()).expect("there");
        for len in 0..bytes.len() {
            fs.overwrite(&db.path(), &bytes[..len]).expect("there");
            let whole =
                |&(i, end): &(usize, usize)| len >= if i == 0 { end } else { end - MARKER_LEN };
            let ends = steps.iter().map(|s| s.1).enumerate();
            let expected = ends.take_while(whole).last().map(|(i, _)| &steps[i].0);
            check_mutation(&fs, expected, &format!("cut to {len} of {}", bytes.len()));
        }
    }
}

#[test]
fn bytes_behind_the_end_are_dropped_and_nothing_is_written_behind_them() {
    let (fs, db, _) = small_db(EDIT_BYTES_MAX);
    let bytes = fs.read_file(&db.path()).expect("there");
    for tail in [&[0; 4096][..], &[0xff; 3], &bytes[..100], &bytes[bytes.len() - 200..]] {
        fs.overwrite(&db.path(), &[&bytes, tail].concat()).expect("there");
        let damaged = fs.read_file(&db.path()).expect("there");
        let mut again = Db::recover(&fs.crash(vfs::CrashProfile::KeepAll, 0), rotate_at(4 << 20))
            .expect("torn");
        assert!(same(&again.state, &db.state));
        assert_eq!(again.manifest.obsolete_files(&[PathBuf::from("CURRENT.tmp")]).len(), 0);
        assert_eq!(again.manifest.file(), FileNum(1));
        again
            .commit(&VersionEdit { next_lsn: Some(1 << 40), ..VersionEdit::default() })
            .expect("healthy");
        assert_ne!(again.manifest.file(), FileNum(1));
        assert_eq!(fs.read_file(&db.path()).expect("there"), damaged);
    }
}

#[test]
fn an_edit_that_nothing_proves_synced_is_written_anew() {
    let (fs, db, steps) = small_db(EDIT_BYTES_MAX);
    let end = steps.last().expect("some").1;
    fs.truncate(&db.path(), (end - MARKER_LEN) as u64).expect("there");
    let again = Db::recover(&fs, ManifestOptions::default()).expect("intact");
    assert!(same(&again.state, &db.state));
    assert_ne!(again.manifest.file(), db.manifest.file());
    assert!(again.state.next_file > again.manifest.file());
    // A torn one, on the other hand, is gone.
    let (fs, db, steps) = small_db(EDIT_BYTES_MAX);
    fs.truncate(&db.path(), (end - MARKER_LEN) as u64).expect("there");
    fs.flip_bit(&db.path(), (end - MARKER_LEN - 1) as u64, 3).expect("there");
    assert!(same(&reopened(&fs).expect("torn"), &steps[steps.len() - 2].0));
}

/// "Larger than": at its limit a manifest is still written to.
#[test]
fn a_manifest_is_replaced_behind_its_limit_not_at_it() {
    let edit = |n: u64| VersionEdit { next_lsn: Some(n), ..VersionEdit::default() };
    let lens: Vec<u64> = {
        let mut db = Db::create(&disk(), ManifestOptions::default()).expect("create");
        let commit = |n| db.commit(&edit(n)).map(|()| db.manifest.len_bytes());
        (1..20).map(commit).collect::<Result<_>>().expect("healthy disk")
    };
    let mut db = Db::create(&disk(), rotate_at(lens[10])).expect("create");
    assert!(2 * db.manifest.snapshot_len < lens[10]);
    let files: Vec<u64> = (1..14)
        .map(|n| db.commit(&edit(n)).map(|()| db.manifest.file().0))
        .collect::<Result<_>>()
        .expect("healthy disk");
    assert_eq!(files[..12], [1; 12], "the twelfth edit begins at the limit");
    assert!(files[12] > 1);
}

#[test]
fn a_directory_that_cannot_be_listed_is_not_an_empty_one() {
    let fs = FaultFs::over_mem(disk());
    let db = Db::create(&fs, ManifestOptions::default()).expect("create");
    assert_eq!(db.manifest.db_id(), small_state().db_id);
    fs.inject(FaultPlan::any(Fault::Eio));
    assert!(matches!(Manifest::exists(&fs, dir()), Err(Error::Io { .. })));
}

#[test]
fn a_directory_without_current_is_no_database_unless_there_is_data() {
    let fs = disk();
    let is_none = |fs: &MemFs| matches!(reopened(fs), Err(Error::NotADatabase { .. }));
    assert!(!Manifest::exists(&fs, Path::new("/nowhere")).expect("readable"));
    assert!(!Manifest::exists(&fs, dir()).expect("readable") && is_none(&fs));
    fs.create(&FileName::Manifest(FileNum(1)).in_dir(dir())).expect("leftover");
    fs.create(&FileName::Lock.in_dir(dir())).expect("leftover");
    assert!(!Manifest::exists(&fs, dir()).expect("readable") && is_none(&fs));
    fs.create(&FileName::Segment(FileNum(2)).in_dir(dir())).expect("data");
    assert!(Manifest::exists(&fs, dir()).expect_err("CURRENT lost").is_corruption());
    assert!(reopened(&fs).expect_err("CURRENT lost").is_corruption());
    Db::create(&fs, ManifestOptions::default()).expect("create");
    assert!(Manifest::exists(&fs, dir()).expect("readable"));
}

#[test]
fn a_missing_or_foreign_manifest_is_corruption() {
    let (fs, db, _) = small_db(EDIT_BYTES_MAX);
    let other = disk();
    let state = State { db_id: 99, ..small_state() };
    let foreign =
        Manifest::create(Arc::new(other.clone()), dir(), &state, FileNum(1), rotate_at(0));
    foreign.expect("create");
    let bytes = other.read_file(&db.path()).expect("there");
    fs.overwrite(&db.path(), &bytes).expect("there");
    assert!(reopened(&fs).expect_err("foreign").is_corruption());
    fs.remove_file(&db.path()).expect("there");
    assert!(reopened(&fs).expect_err("missing").is_corruption());
}

#[test]
fn newer_versions_are_unsupported() {
    let (fs, db, _) = small_db(EDIT_BYTES_MAX);
    let bytes = fs.read_file(&db.path()).expect("there");
    let mut newer = bytes.clone();
    newer[24] = 2;
    let crc = base::checksum::crc32(0, &[&newer[..28]]);
    newer[28..32].copy_from_slice(&crc.to_le_bytes());
    fs.overwrite(&db.path(), &newer).expect("there");
    assert!(matches!(reopened(&fs), Err(Error::UnsupportedFormat { found: 2, supported: 1, .. })));
    for (tag, known) in [(63u8, false), (64, true)] {
        let identity = FileIdentity::new(db.state.db_id, FileNum(1));
        let at = bytes.len() as u64;
        let edit = encode_edit(identity, at, at, &[tag, 0], 100).expect("short");
        fs.overwrite(&db.path(), &[&bytes[..], &edit].concat()).expect("there");
        match reopened(&fs) {
            Ok(state) => assert!(known && same(&state, &db.state)),
            Err(e) => {
                let newer = matches!(e, Error::UnsupportedFormat { found: 2, supported: 1, .. });
                assert!(!known && newer, "{e}");
            }
        }
    }
}

#[test]
fn an_edit_that_does_not_fit_the_state_is_corruption() {
    let (fs, db, _) = small_db(EDIT_BYTES_MAX);
    let len = fs.read_file(&db.path()).expect("there").len() as u64;
    let mut bad = Vec::new();
    let edit = VersionEdit { segments_removed: vec![FileNum(77)], ..VersionEdit::default() };
    edit.encode(&mut bad);
    let identity = FileIdentity::new(db.state.db_id, FileNum(1));
    fs.extend(&db.path(), &encode_edit(identity, len, len, &bad, 100).expect("short"))
        .expect("there");
    match reopened(&fs) {
        Err(Error::Corruption { offset, detail, .. }) => {
            assert_eq!((offset, &detail[..]), (len, "removed segment 000077 is not there"));
        }
        other => panic!("{other:?}"),
    }
}

/// Edits that fit one after the other may still add up to a state that cannot be.
#[test]
fn a_state_that_breaks_a_rule_is_corruption() {
    let twice = {
        let mut state = small_state();
        let added = vec![added(0, 1, table(2, "a", "f"))];
        let changes = TableChanges { added, ..TableChanges::default() };
        let edit = VersionEdit { tables: vec![changes], ..VersionEdit::default() };
        state.apply(&edit).expect("fits");
        state
    };
    for (num, state, expected) in [
        (3, small_state(), Some("the next file number is that of this file")),
        (4, small_state(), Some("the next file number is that of this file")),
        (1, small_state(), None),
        (1, twice, Some("file 000002 is used twice")),
    ] {
        let fs = disk();
        let bytes = new_file(FileNum(num), &state, EDIT_BYTES_MAX).expect("short");
        let path = FileName::Manifest(FileNum(num)).in_dir(dir());
        fs.create(&path).expect("in memory").append(&bytes).expect("in memory");
        let current = Current { manifest: FileNum(num), db_id: state.db_id, len: 0 };
        current.write(&fs, dir()).expect("in memory");
        match (reopened(&fs), expected) {
            (Ok(found), None) => assert_eq!(found, state),
            (Err(Error::Corruption { offset, detail, .. }), Some(expected)) => {
                assert_eq!((offset, &detail[..]), (bytes.len() as u64, expected));
            }
            (found, expected) => panic!("{found:?}, expected {expected:?}"),
        }
    }
}

#[test]
fn read_only_changes_nothing() {
    let (fs, db, steps) = small_db(EDIT_BYTES_MAX);
    let end = steps.last().expect("some").1 as u64;
    fs.truncate(&db.path(), end - MARKER_LEN as u64 - 1).expect("there");
    let (hash, ops) = (fs.hash(), fs.op_count());
    let mut db =
        Db::recover(&fs, ManifestOptions { read_only: true, ..rotate_at(0) }).expect("torn");
    assert!(matches!(db.commit(&VersionEdit::default()), Err(Error::ReadOnly)));
    assert!(db.manifest.obsolete_files(&[PathBuf::from("CURRENT.tmp")]).is_empty());
    assert_eq!((fs.hash(), fs.op_count()), (hash, ops));
}

#[test]
fn a_full_disk_refuses_edits_until_there_is_room() {
    for room in 0..600 {
        let fs = disk();
        let mut db = Db::create(&fs, ManifestOptions::default()).expect("create");
        fs.set_capacity(Some(fs.total_bytes() + room));
        let (mut failed, mut state) = (0, db.state.clone());
        let mut rng = base::rng::Rng::new(room);
        for step in 0..40 {
            if step == 20 {
                fs.set_capacity(None);
            }
            let edit = crate::testing::random_edit(&mut rng, &db.state);
            match db.commit(&edit) {
                Ok(()) => state = db.state.clone(),
                Err(e) => {
                    assert!(step < 20 && e.is_no_space(), "step {step}: {e}");
                    failed += 1;
                }
            }
        }
        assert!(failed > 0, "room {room}");
        assert!(same(&reopened(&fs).expect("no garbage in the middle"), &state));
    }
}

#[test]
fn after_a_failed_sync_no_edit_is_accepted_until_recovery() {
    for outcome in
        [SyncOutcome::PageCleanCacheNew, SyncOutcome::PageReverted, SyncOutcome::ErrorOnceThenOk]
    {
        let mem = disk();
        let fs = FaultFs::over_mem(mem.clone());
        let mut db = Db::create(&fs, ManifestOptions::default()).expect("create");
        let plan = FaultPlan::any(Fault::SyncFailed(outcome)).kinds(&[OpKind::Sync]).times(1);
        fs.inject(plan);
        let edit = VersionEdit { next_run: Some(RunId(77)), ..VersionEdit::default() };
        for _ in 0..3 {
            assert!(matches!(db.commit(&edit), Err(Error::SyncFailed { .. })));
        }
        let before = db.state.clone();
        drop(db);
        let shown = Db::recover(&fs, ManifestOptions::default()).expect("intact").state;
        assert!(same(&shown, &before) || shown.next_run == RunId(77));
        // What recovery showed is on disk, although the cache may have claimed so falsely.
        let after = mem.crash(vfs::CrashProfile::DropAll, 1);
        assert!(same(&reopened(&after).expect("intact"), &shown), "{outcome:?}");
    }
}

#[test]
fn numbers_that_are_in_use_are_refused() {
    let fs = disk();
    let mut state = small_state();
    let create =
        |num| Manifest::create(Arc::new(fs.clone()), dir(), &state, FileNum(num), rotate_at(0));
    assert!(matches!(create(3), Err(Error::InvalidArgument { .. })));
    let mut manifest = create(1).expect("unused");
    let edit = VersionEdit { next_lsn: Some(5), ..VersionEdit::default() };
    state.apply(&edit).expect("valid");
    let refused = manifest.append(&state, &edit, &mut || FileNum(1));
    assert!(matches!(refused, Err(Error::InvalidArgument { .. })));
    manifest.append(&state, &edit, &mut || FileNum(3)).expect("unused");
}
