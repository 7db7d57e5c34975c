use vfs::MemFs;

use super::*;
use crate::VersionEdit;
use crate::store::tests::{Db, dir, disk, rotate_at, same};
use crate::testing::{history, small_state};

/// A closed database with the manifests 1 to `last`, of which `CURRENT` names the last one.
fn with_manifests(last: u64) -> (MemFs, Db) {
    let fs = disk();
    let mut db = Db::create(&fs, rotate_at(0)).expect("create");
    while db.manifest.file() < FileNum(last) {
        let lsn = Some(db.state.next_lsn + 1);
        db.commit(&VersionEdit { next_lsn: lsn, ..VersionEdit::default() }).expect("healthy disk");
    }
    assert_eq!(db.manifest.file(), FileNum(last));
    db.manifest.close().expect("healthy disk");
    (fs, db)
}

fn manifest(num: u64) -> PathBuf {
    FileName::Manifest(FileNum(num)).in_dir(dir())
}

fn found(fs: &MemFs) -> Remains {
    let before = fs.hash();
    let found = remains(fs, dir()).expect("listable");
    assert_eq!(fs.hash(), before, "the disk changed");
    found
}

fn numbers(remains: &Remains) -> Vec<PathBuf> {
    remains.manifests.iter().map(|m| m.path.clone()).collect()
}

fn detail(error: Option<&Error>) -> &str {
    match error {
        Some(Error::Corruption { detail, .. }) => detail,
        other => panic!("{other:?}"),
    }
}

#[test]
fn of_a_sound_database_all_manifests_are_found_the_live_one_first() {
    let (fs, db) = with_manifests(6);
    let current = fs.read_file(&FileName::Current.in_dir(dir())).expect("there");
    let all = found(&fs);
    assert!(all.damage.is_none(), "{:?}", all.damage);
    assert_eq!(all.db_id, Some(small_state().db_id));
    assert_eq!(numbers(&all), [6, 5, 4, 3, 1].map(manifest));
    assert!(all.manifests.iter().all(|m| m.damage.is_none()));
    assert!(same(&all.manifests[0].state, &db.state));
    assert!(all.manifests[1].state.next_lsn < db.state.next_lsn);
    // If CURRENT names an older one, that one comes first.
    let (older, _) = with_manifests(3);
    fs.overwrite(
        &FileName::Current.in_dir(dir()),
        &older.read_file(&FileName::Current.in_dir(dir())).expect("there"),
    )
    .expect("there");
    assert_eq!(numbers(&found(&fs)), [3, 6, 5, 4, 1].map(manifest));
    fs.overwrite(&FileName::Current.in_dir(dir()), &current).expect("there");
    assert!(found(&fs).damage.is_none());
}

#[test]
fn without_current_the_manifests_say_what_database_it_was() {
    let (fs, db) = with_manifests(4);
    let current = FileName::Current.in_dir(dir());
    fs.overwrite(&current, b"MANIFEST-000004\n").expect("there");
    for missing in [false, true] {
        if missing {
            fs.remove_file(&current).expect("there");
        }
        let all = found(&fs);
        let expected = if missing { "file is missing" } else { "does not name a manifest" };
        assert!(detail(all.damage.as_ref()).starts_with(expected), "{:?}", all.damage);
        assert_eq!(all.db_id, Some(db.state.db_id));
        assert_eq!(numbers(&all), [4, 3, 1].map(manifest));
        assert!(same(&all.manifests[0].state, &db.state));
    }
    for num in [1, 3, 4] {
        fs.remove_file(&manifest(num)).expect("there");
    }
    let nothing = found(&fs);
    assert!(nothing.manifests.is_empty() && nothing.db_id.is_none() && nothing.damage.is_some());
}

#[test]
fn a_live_manifest_that_cannot_be_read_is_the_damage_and_older_ones_remain() {
    let (fs, db) = with_manifests(4);
    let whole = fs.read_file(&manifest(4)).expect("there");
    type Damage = (&'static str, fn(&MemFs));
    let damages: [Damage; 3] = [
        ("file is missing", |fs| fs.remove_file(&manifest(4)).expect("there")),
        ("file header ends early", |fs| fs.overwrite(&manifest(4), b"ESKER").expect("there")),
        ("no whole snapshot", |fs| fs.flip_bit(&manifest(4), 40, 0).expect("there")),
    ];
    for (expected, damage) in damages {
        damage(&fs);
        let all = found(&fs);
        assert!(detail(all.damage.as_ref()).starts_with(expected), "{:?}", all.damage);
        assert_eq!(numbers(&all), [3, 1].map(manifest), "{expected}");
        assert_eq!(all.db_id, Some(db.state.db_id));
        drop(fs.remove_file(&manifest(4)));
        fs.create(&manifest(4)).expect("again").append(&whole).expect("in memory");
        assert!(found(&fs).damage.is_none());
    }
    // A wrong header alone does not keep its edits from being read.
    fs.flip_bit(&manifest(4), 9, 0).expect("there");
    let all = found(&fs);
    assert!(detail(all.damage.as_ref()).starts_with("checksum of the file header"));
    assert_eq!(numbers(&all), [4, 3, 1].map(manifest));
    assert!(all.manifests[0].damage.is_some() && same(&all.manifests[0].state, &db.state));
    fs.flip_bit(&manifest(4), 9, 0).expect("there");
    // One that `CURRENT` does not name says nothing about the database.
    fs.overwrite(&manifest(3), b"ESKER").expect("there");
    let all = found(&fs);
    assert!(all.damage.is_none());
    assert_eq!(numbers(&all), [4, 1].map(manifest));
}

#[test]
fn what_comes_before_damage_is_the_state_and_the_damage_is_told() {
    let fs = disk();
    let mut db = Db::create(&fs, rotate_at(4 << 20)).expect("create");
    let mut states = vec![(db.state.clone(), db.manifest.len_bytes())];
    for edit in history(3, 5).0 {
        db.commit(&edit).expect("healthy disk");
        states.push((db.state.clone(), db.manifest.len_bytes()));
    }
    db.manifest.close().expect("healthy disk");
    let whole = fs.read_file(&manifest(1)).expect("there");
    let alone = |fs: &MemFs| {
        let mut all = found(fs);
        assert_eq!(all.manifests.len(), 1);
        let live = all.manifests.remove(0);
        assert_eq!(detail(all.damage.as_ref()), detail(live.damage.as_ref()));
        live
    };
    for pair in states.windows(2) {
        let ((before, start), (_, end)) = (&pair[0], &pair[1]);
        // Cut at an edit: shorter than it was when it was closed.
        fs.overwrite(&manifest(1), &whole[..*start as usize]).expect("there");
        let live = alone(&fs);
        assert!(same(&live.state, before));
        assert!(detail(live.damage.as_ref()).starts_with("manifest ends here"));
        fs.overwrite(&manifest(1), &whole).expect("there");
        if end < &states.last().expect("some").1 {
            fs.flip_bit(&manifest(1), start + 17, 1).expect("there");
            let live = alone(&fs);
            assert!(same(&live.state, before));
            assert!(detail(live.damage.as_ref()).starts_with("a record that was synced"));
            fs.overwrite(&manifest(1), &whole).expect("there");
        }
    }
}

#[test]
fn a_directory_that_cannot_be_listed_is_an_error() {
    assert!(remains(&MemFs::new(), Path::new("/nowhere")).is_err());
}
