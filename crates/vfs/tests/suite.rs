//! Every file system of this crate meets every expectation of the suite.
#![expect(clippy::disallowed_methods, reason = "a file with holes cannot be made through the seam")]

use std::path::Path;
use std::sync::Arc;

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
