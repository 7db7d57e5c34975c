//! Every file system of this crate meets every expectation of the suite.
#![expect(clippy::disallowed_methods, reason = "a file with holes cannot be made through the seam")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use vfs::{FaultFs, MemFs, StdFs, suite};

#[test]
fn std_fs_meets_the_suite() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    suite::run(&StdFs::new(), dir.path());
}

#[test]
fn std_fs_without_mapping_meets_the_suite() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    suite::run(&StdFs::without_mapping(), dir.path());
}

#[test]
fn mem_fs_meets_the_suite() {
    suite::run(&MemFs::new(), Path::new("/db"));
    suite::run(&MemFs::new(), Path::new("relative/db"));
    suite::run(&MemFs::new(), Path::new("/"));
}

#[test]
fn fault_fs_without_faults_meets_the_suite() {
    let fs = FaultFs::over_mem(MemFs::new());
    suite::run(&fs, Path::new("/db"));
    assert!(fs.op_count() > 100, "operations are counted");
    assert_eq!(fs.fired(), 0);
    let dir = tempfile::tempdir().expect("a temporary directory");
    suite::run(&FaultFs::new(Arc::new(StdFs::new())), dir.path());
}

#[test]
fn a_crash_image_meets_the_suite() {
    let fs = MemFs::new();
    suite::run(&fs, Path::new("/db"));
    for profile in vfs::CrashProfile::ALL {
        suite::run(&fs.crash(profile, 7), Path::new("/again"));
    }
}

#[test]
#[should_panic(expected = "breaks the expectation")]
fn the_suite_notices_a_broken_file_system() {
    let fs = FaultFs::over_mem(MemFs::new());
    fs.inject(vfs::FaultPlan::any(vfs::Fault::BitRot).skip(9));
    suite::run(&fs, Path::new("/db"));
}

/// The real disk is mapped where the tests run on a file system that overwrites in place.
#[cfg(target_os = "linux")]
#[test]
fn segments_are_mapped_on_common_file_systems() {
    use vfs::Fs;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let fs = StdFs::new();
    let path = dir.path().join("seg");
    let debug = |segment: Arc<dyn vfs::SegmentFile>| format!("{segment:?}");
    let plain = StdFs::without_mapping();
    let is_mapped =
        debug(fs.create_segment(&path, 1 << 20).expect("a segment")).contains("MappedFile");
    assert_eq!(debug(fs.open_segment(&path).expect("a segment")).contains("MappedFile"), is_mapped);
    assert!(!debug(plain.open_segment(&path).expect("a segment")).contains("MappedFile"));
    // A file with holes could fault in the mapping: never mapped.
    let file =
        std::fs::OpenOptions::new().write(true).create_new(true).open(dir.path().join("holes"));
    file.and_then(|file| file.set_len(1 << 20)).expect("a file with holes");
    assert!(
        !debug(fs.open_segment(&dir.path().join("holes")).expect("a segment"))
            .contains("MappedFile")
    );
    println!("mapped: {is_mapped}");
}

/// A sync dirties pages behind the last record; a large write may be on its way into them.
#[test]
fn a_sync_changes_nothing_of_a_large_write_beside_it() {
    use vfs::Fs;
    const SMALL: usize = 100;
    const LARGE: usize = 64 << 10;
    const PAIRS: usize = 1_000;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (fs, path) = (StdFs::new(), dir.path().join("segment"));
    let segment = fs.create_segment(&path, (PAIRS * (SMALL + LARGE)) as u64).expect("a segment");
    // Two threads that spin until both are there, so that they go on within the time of a page.
    let arrived = AtomicUsize::new(0);
    let meet = |times: usize| {
        arrived.fetch_add(1, Ordering::SeqCst);
        while arrived.load(Ordering::SeqCst) < 2 * times {
            std::thread::yield_now();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for pair in 0..PAIRS {
                meet(2 * pair + 1);
                segment.sync().expect("a sync");
                meet(2 * pair + 2);
            }
        });
        for pair in 0..PAIRS {
            let at = pair * (SMALL + LARGE);
            segment.write_at(at as u64, &[1; SMALL]).expect("a small write");
            meet(2 * pair + 1);
            (0..pair % 64 * 20).for_each(|_| std::hint::spin_loop());
            segment.write_at((at + SMALL) as u64, &[2; LARGE]).expect("a large write");
            meet(2 * pair + 2);
        }
    });
    drop(segment);
    let bytes = std::fs::read(&path).expect("the file");
    for (pair, bytes) in bytes.chunks(SMALL + LARGE).enumerate() {
        let wrong = (0..bytes.len()).find(|&at| bytes[at] != if at < SMALL { 1 } else { 2 });
        assert_eq!(wrong, None, "pair {pair}");
    }
}
