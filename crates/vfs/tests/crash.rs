//! What a crash may and may not do to a [`MemFs`].
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use vfs::CrashProfile::{DropAll, KeepAll, LyingDisk, Ordered, Random50, SizeFirst, Strict};
use vfs::{CrashProfile, Fs, MemFs, write_file_synced};

const HONEST: [CrashProfile; 6] = [Strict, Ordered, SizeFirst, DropAll, KeepAll, Random50];

fn path(name: &str) -> PathBuf {
    Path::new("/").join(name)
}

/// A disk with these synced files in its root.
fn disk(files: &[(&str, &[u8])]) -> MemFs {
    let fs = MemFs::new();
    for (name, bytes) in files {
        write_file_synced(&fs, &path(name), bytes).unwrap();
    }
    fs.sync_dir(Path::new("/")).unwrap();
    fs
}

fn append(fs: &MemFs, name: &str, bytes: &[u8]) {
    fs.open_append(&path(name)).unwrap().append(bytes).unwrap();
}

/// All contents (or none) of `name` over many seeds.
fn outcomes(fs: &MemFs, profile: CrashProfile, name: &str) -> BTreeSet<Option<Vec<u8>>> {
    (0..400).map(|seed| fs.crash(profile, seed).read_file(&path(name)).ok()).collect()
}

#[test]
fn synced_bytes_and_names_stay_under_every_honest_profile() {
    let fs = disk(&[("a", &[1; 9000]), ("b", b"short")]);
    let image = fs.hash();
    for profile in HONEST {
        for seed in 0..50 {
            assert_eq!(fs.crash(profile, seed).hash(), image, "{profile:?} {seed}");
        }
    }
}

#[test]
fn a_crash_is_repeatable_and_independent() {
    let fs = disk(&[("a", b"synced")]);
    append(&fs, "a", &[7; 20_000]);
    fs.rename(&path("a"), &path("b")).unwrap();
    for profile in CrashProfile::ALL {
        for seed in 0..20 {
            assert_eq!(fs.crash(profile, seed).hash(), fs.crash(profile, seed).hash());
        }
    }
    let (before, image) = (fs.hash(), fs.crash(KeepAll, 1));
    append(&image, "b", b"more");
    assert_eq!(fs.hash(), before);
    assert_eq!(image.crash(KeepAll, 2).hash(), image.hash());
    let settled = fs.crash(Strict, 3);
    assert_eq!(settled.crash(DropAll, 4).hash(), settled.hash(), "an image is durable as a whole");
}

#[test]
fn unsynced_appends_may_be_lost_or_kept() {
    let fs = disk(&[("a", b"base")]);
    append(&fs, "a", b"+tail");
    assert_eq!(outcomes(&fs, DropAll, "a"), BTreeSet::from([Some(b"base".to_vec())]));
    assert_eq!(outcomes(&fs, KeepAll, "a"), BTreeSet::from([Some(b"base+tail".to_vec())]));
    for profile in [Strict, Random50, Ordered] {
        let found = outcomes(&fs, profile, "a");
        assert!(found.contains(&Some(b"base".to_vec())), "{profile:?}");
        assert!(found.contains(&Some(b"base+tail".to_vec())), "{profile:?}");
        assert!(found.contains(&Some(b"base+t".to_vec())), "{profile:?}");
        assert!(found.iter().flatten().all(|bytes| bytes.starts_with(b"base")), "{profile:?}");
    }
    assert!(
        outcomes(&fs, Strict, "a").contains(&Some(b"base\0\0\0\0\0".to_vec())),
        "length without data"
    );
    assert!(
        outcomes(&fs, SizeFirst, "a").contains(&Some(b"base\0\0\0\0\0".to_vec())),
        "length without data"
    );
    assert!(outcomes(&fs, SizeFirst, "a").iter().flatten().all(|bytes| bytes.len() == 9));
    let ordered = outcomes(&fs, Ordered, "a");
    assert!(
        ordered.iter().flatten().all(|bytes| b"base+tail".starts_with(bytes)),
        "no length without data"
    );
}

#[test]
fn ordered_appends_over_pages_are_prefixes() {
    let fs = disk(&[("a", &[1; 5000])]);
    let tail: Vec<u8> = (0..20_000u32).map(|at| (at % 255) as u8 + 1).collect();
    append(&fs, "a", &tail[..9_000]);
    append(&fs, "a", &tail[9_000..]);
    let whole = fs.read_file(&path("a")).unwrap();
    let found = outcomes(&fs, Ordered, "a");
    assert!(found.len() > 20);
    assert!(found.iter().flatten().all(|bytes| whole.starts_with(bytes)));
}

#[test]
fn pages_and_sectors_tear_on_their_own() {
    let old = [1; 4 * 4096];
    let fs = disk(&[("a", &old)]);
    let segment = fs.open_segment(&path("a")).unwrap();
    segment.write_at(0, &[2; 4 * 4096]).unwrap();
    let (mut skipped_page, mut torn_page, mut hole_in_page) = (false, false, false);
    for bytes in outcomes(&fs, Strict, "a").into_iter().flatten() {
        assert!(
            bytes.chunks(512).all(|sector| sector
                .iter()
                .all(|byte| *byte == sector[0] && (1..=2).contains(byte)))
        );
        let sectors: Vec<bool> = bytes.chunks(512).map(|sector| sector[0] == 2).collect();
        let whole: Vec<bool> = sectors.chunks(8).map(|page| page.iter().all(|new| *new)).collect();
        skipped_page |= whole[0] && !whole[1] && whole[2];
        torn_page |= sectors[0] && !sectors[7];
        hole_in_page |= sectors[0] && !sectors[3] && sectors[6];
    }
    assert!(skipped_page && torn_page && hole_in_page);
}

#[test]
fn a_synced_segment_tears_only_where_it_was_written() {
    let fs = MemFs::new();
    let segment = fs.create_segment(&path("seg"), 64 << 20).unwrap();
    segment.sync().unwrap();
    fs.sync_dir(Path::new("/")).unwrap();
    segment.write_at(10_000, &[5; 300]).unwrap();
    for profile in HONEST {
        for seed in 0..30 {
            let image = fs.crash(profile, seed);
            let reader = image.open(&path("seg")).unwrap();
            assert_eq!(reader.len().unwrap(), 64 << 20);
            let mut bytes = vec![0; 65_536];
            reader.read_exact_at(&mut bytes, 0).unwrap();
            assert!(
                bytes[..10_000].iter().chain(&bytes[10_300..]).all(|byte| *byte == 0),
                "{profile:?}"
            );
            assert!(bytes[10_000..10_300].iter().all(|byte| [0, 5].contains(byte)), "{profile:?}");
        }
    }
}

#[test]
fn preallocation_is_kept_or_lost_and_never_shows_stale_bytes() {
    let fs = disk(&[("old", &[9; 8192])]);
    fs.create_segment(&path("seg"), 10_000).unwrap();
    fs.sync_dir(Path::new("/")).unwrap();
    let found = outcomes(&fs, Strict, "seg");
    assert_eq!(found, BTreeSet::from([Some(Vec::new()), Some(vec![0; 10_000])]));
}

#[test]
fn stale_bytes_show_only_in_pages_that_were_never_synced() {
    let fs = disk(&[("secret", &[9; 4096]), ("a", b"")]);
    append(&fs, "a", &[1; 8192]);
    let stale = |bytes: &Vec<u8>| bytes.iter().any(|byte| *byte != 0 && *byte != 1);
    assert!(outcomes(&fs, Strict, "a").iter().flatten().any(stale));
    assert!(!outcomes(&fs, Ordered, "a").iter().flatten().any(stale));
    assert!(!outcomes(&fs, Random50, "a").iter().flatten().any(stale));
    fs.open_append(&path("a")).unwrap().sync().unwrap();
    assert_eq!(outcomes(&fs, Strict, "a").len(), 1);
}

#[test]
fn truncation_is_done_or_not() {
    let fs = disk(&[("a", b"old content")]);
    let mut file = fs.create(&path("a")).unwrap();
    file.append(b"new").unwrap();
    let found = outcomes(&fs, Strict, "a");
    assert!(found.contains(&Some(b"old content".to_vec())));
    assert!(found.contains(&Some(Vec::new())));
    assert!(found.contains(&Some(b"new".to_vec())));
    assert_eq!(outcomes(&fs, DropAll, "a"), BTreeSet::from([Some(b"old content".to_vec())]));
}

#[test]
fn a_synced_file_without_a_synced_name_may_be_gone() {
    let fs = MemFs::new();
    write_file_synced(&fs, &path("a"), b"bytes").unwrap();
    let both = BTreeSet::from([None, Some(b"bytes".to_vec())]);
    assert_eq!(outcomes(&fs, Strict, "a"), both);
    assert_eq!(outcomes(&fs, Random50, "a"), both);
    assert_eq!(outcomes(&fs, DropAll, "a"), BTreeSet::from([None]));
    assert_eq!(
        outcomes(&fs, Ordered, "a"),
        BTreeSet::from([Some(b"bytes".to_vec())]),
        "the journal has the name"
    );
}

#[test]
fn a_synced_name_without_synced_bytes_exists() {
    let fs = MemFs::new();
    fs.create(&path("a")).unwrap().append(b"bytes").unwrap();
    fs.sync_dir(Path::new("/")).unwrap();
    assert_eq!(outcomes(&fs, DropAll, "a"), BTreeSet::from([Some(Vec::new())]));
    assert!(outcomes(&fs, Strict, "a").iter().all(Option::is_some));
}

#[test]
fn a_lost_removal_brings_the_file_back() {
    let fs = disk(&[("a", b"bytes")]);
    fs.remove_file(&path("a")).unwrap();
    let both = BTreeSet::from([None, Some(b"bytes".to_vec())]);
    assert_eq!(outcomes(&fs, Strict, "a"), both);
    assert_eq!(outcomes(&fs, Ordered, "a"), both);
    assert_eq!(outcomes(&fs, DropAll, "a"), BTreeSet::from([Some(b"bytes".to_vec())]));
    fs.sync_dir(Path::new("/")).unwrap();
    assert_eq!(outcomes(&fs, Strict, "a"), BTreeSet::from([None]));
}

#[test]
fn a_rename_is_atomic() {
    for profile in HONEST {
        let fs = disk(&[("current", b"old")]);
        write_file_synced(&fs, &path("tmp"), b"new").unwrap();
        fs.rename(&path("tmp"), &path("current")).unwrap();
        let found = outcomes(&fs, profile, "current");
        let wanted = BTreeSet::from([Some(b"old".to_vec()), Some(b"new".to_vec())]);
        assert!(found.is_subset(&wanted), "{profile:?}: {found:?}");
        for seed in 0..200 {
            let image = fs.crash(profile, seed);
            let renamed = image.read_file(&path("current")).unwrap() == b"new";
            assert!(
                !(renamed && image.read_file(&path("tmp")).is_ok()),
                "{profile:?}: half a rename"
            );
        }
        fs.sync_dir(Path::new("/")).unwrap();
        assert_eq!(outcomes(&fs, profile, "current"), BTreeSet::from([Some(b"new".to_vec())]));
    }
}

#[test]
fn a_chain_of_renames_never_leaves_two_names() {
    let fs = disk(&[("a", b"x")]);
    for (from, to) in [("a", "b"), ("b", "c"), ("c", "d")] {
        fs.rename(&path(from), &path(to)).unwrap();
    }
    for profile in HONEST {
        for seed in 0..200 {
            assert_eq!(fs.crash(profile, seed).files().len(), 1, "{profile:?} {seed}");
        }
    }
}

#[test]
fn half_a_rename_between_directories_is_never_durable() {
    let fs = disk(&[("file", b"x")]);
    for dir in ["a", "b"] {
        fs.create_dir_all(&path(dir)).unwrap();
    }
    fs.sync_dir(Path::new("/")).unwrap();
    write_file_synced(&fs, &path("a/x"), b"moved").unwrap();
    fs.rename(&path("a/x"), &path("b/y")).unwrap();
    fs.sync_dir(&path("b")).unwrap();
    for profile in HONEST {
        let files = fs.crash(profile, 5).files();
        assert_eq!(files, vec![(path("b/y"), 5), (path("file"), 1)], "{profile:?}");
    }
}

#[test]
fn ordered_name_changes_survive_as_a_prefix_and_strict_ones_as_any_set() {
    let fs = MemFs::new();
    for at in 0..6 {
        drop(fs.create(&path(&format!("{at}"))).unwrap());
    }
    let mut holes = 0;
    for seed in 0..300 {
        let names = fs.crash(Ordered, seed).list(Path::new("/")).unwrap();
        let prefix: Vec<PathBuf> =
            (0..names.len()).map(|at| PathBuf::from(format!("{at}"))).collect();
        assert_eq!(names, prefix);
        let names = fs.crash(Strict, seed).list(Path::new("/")).unwrap();
        holes += u32::from(
            names.windows(2).any(|pair| pair[0] == Path::new("1") && pair[1] == Path::new("3")),
        );
    }
    assert!(holes > 0);
}

#[test]
fn an_unsynced_directory_may_vanish_with_its_content() {
    let fs = MemFs::new();
    fs.create_dir_all(&path("db/sub")).unwrap();
    write_file_synced(&fs, &path("db/sub/file"), b"x").unwrap();
    fs.sync_dir(&path("db/sub")).unwrap();
    fs.sync_dir(&path("db")).unwrap();
    assert!(fs.crash(DropAll, 0).files().is_empty());
    assert!((0..50).any(|seed| fs.crash(Strict, seed).files().is_empty()));
    fs.sync_dir(Path::new("/")).unwrap();
    assert_eq!(fs.crash(DropAll, 0).files(), vec![(path("db/sub/file"), 1)]);
}

#[test]
fn links_and_space_are_counted_right_in_images() {
    let fs = disk(&[("a", &[1; 100])]);
    fs.hard_link(&path("a"), &path("b")).unwrap();
    fs.sync_dir(Path::new("/")).unwrap();
    assert_eq!(fs.total_bytes(), 100);
    let image = fs.crash(DropAll, 0);
    assert_eq!(image.total_bytes(), 100);
    image.remove_file(&path("a")).unwrap();
    assert_eq!(image.total_bytes(), 100);
    image.remove_file(&path("b")).unwrap();
    assert_eq!(image.total_bytes(), 0);
}

#[test]
fn locks_do_not_survive_and_handles_do_not_reach_the_image() {
    let fs = MemFs::new();
    let _held = fs.lock(&path("LOCK")).unwrap();
    let image = fs.crash(KeepAll, 0);
    let _taken = image.lock(&path("LOCK")).expect("a crash releases locks");
    assert!(fs.lock(&path("LOCK")).is_err());
}

#[test]
fn a_lying_disk_may_lose_what_was_synced() {
    let fs = disk(&[("a", b"first")]);
    let mut file = fs.open_append(&path("a")).unwrap();
    file.append(b" second").unwrap();
    file.sync().unwrap();
    let found = outcomes(&fs, LyingDisk, "a");
    for state in [None, Some(b"first".to_vec()), Some(b"first second".to_vec())] {
        assert!(found.contains(&state), "{state:?}");
    }
}

#[test]
fn a_full_disk_takes_a_part_and_says_so() {
    let fs = disk(&[("a", &[1; 1000])]);
    fs.set_capacity(Some(1500));
    assert_eq!(fs.free_space(Path::new("/")).unwrap(), 500);
    let mut file = fs.open_append(&path("a")).unwrap();
    assert_eq!(file.append(&[2; 800]).unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    assert_eq!(file.len(), 1500);
    let segment = fs.create_segment(&path("seg"), 1);
    assert_eq!(segment.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    assert_eq!(fs.files().len(), 1);
    fs.set_capacity(None);
    file.append(&[3; 800]).unwrap();
    fs.remove_file(&path("a")).unwrap();
    assert_eq!(fs.total_bytes(), 0);
}

#[test]
fn tools_edit_the_disk_itself() {
    let fs = disk(&[("a", b"abc")]);
    let hash = fs.hash();
    fs.flip_bit(&path("a"), 1, 0).unwrap();
    assert_eq!(fs.read_file(&path("a")).unwrap(), b"acc");
    assert_ne!(fs.hash(), hash);
    fs.flip_bit(&path("a"), 1, 8).unwrap();
    assert_eq!(fs.hash(), hash);
    fs.corrupt(&path("a"), 0, |byte| *byte = b'X').unwrap();
    assert!(fs.corrupt(&path("a"), 3, |byte| *byte = 0).is_err());
    fs.extend(&path("a"), b"def").unwrap();
    fs.truncate(&path("a"), 4).unwrap();
    assert_eq!(fs.crash(DropAll, 0).read_file(&path("a")).unwrap(), b"Xbcd");
    fs.overwrite(&path("a"), b"").unwrap();
    assert_eq!(fs.files(), vec![(path("a"), 0)]);
    assert!(fs.overwrite(&path("none"), b"").is_err());
    assert_eq!(fs.op_count(), MemFs::new().op_count() + 4, "tools are no operations");
}

#[test]
fn history_has_every_operation_and_is_cheap() {
    let fs = disk(&[("big", &vec![1; 4 << 20])]);
    for at in 0..40 {
        write_file_synced(&fs, &path(&format!("f{at}")), &[at; 10_000]).unwrap();
    }
    let first = fs.op_count();
    fs.start_recording();
    let segment = fs.create_segment(&path("seg"), 64 << 20).unwrap();
    let mut log = fs.create(&path("log")).unwrap();
    #[expect(clippy::disallowed_methods, reason = "measures real time")]
    let start = std::time::Instant::now();
    for at in 0..500u64 {
        log.append(&[at as u8; 100]).unwrap();
        segment.write_at(at * 100, &[at as u8; 100]).unwrap();
        if at % 2 == 0 {
            log.sync().unwrap();
        } else {
            segment.sync().unwrap();
        }
        fs.open_segment(&path("big")).unwrap().write_at(at * 8000, &[3; 100]).unwrap();
    }
    let took = start.elapsed();
    let history = fs.take_history();
    assert_eq!(history.len(), 2002);
    assert!(
        history.iter().enumerate().all(|(at, snapshot)| snapshot.op().index == first + at as u64)
    );
    assert_eq!((history[0].op().name, history[1].op().name), ("create_segment", "create"));
    assert_eq!(history[2].op().path, path("log"));
    let image = history[2 + 4 * 250].crash(KeepAll, 0);
    assert_eq!(image.read_file(&path("log")).unwrap().len(), 25_100);
    assert_eq!(history[2001].crash(KeepAll, 0).hash(), fs.hash());
    assert!(fs.take_history().is_empty());
    println!("{} us a snapshot", took.as_micros() / 2000);
    assert!(took < Duration::from_secs(2), "2,000 recorded operations took {took:?}");
}

#[test]
fn removed_files_are_forgotten_after_the_directory_sync() {
    let fs = MemFs::new();
    for _ in 0..2000 {
        write_file_synced(&fs, &path("table"), &[1; 100_000]).unwrap();
        fs.remove_file(&path("table")).unwrap();
        fs.sync_dir(Path::new("/")).unwrap();
    }
    assert!(fs.files().is_empty());
    assert_eq!(fs.total_bytes(), 0);
}

#[test]
fn a_kill_keeps_everything_but_a_later_power_cut_need_not() {
    let fs = disk(&[("synced", b"old")]);
    append(&fs, "synced", b"new");
    let left = fs.snapshot().kill();
    assert_eq!(left.read_file(&path("synced")).unwrap(), b"oldnew");
    let after = left.crash(CrashProfile::DropAll, 0);
    assert_eq!(after.read_file(&path("synced")).unwrap(), b"old");
}
