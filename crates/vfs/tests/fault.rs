//! Faults hit what they are aimed at, and nothing else.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use vfs::{
    CrashProfile, Fault, FaultFs, FaultPlan, Fs, MemFs, OpKind, StdFs, SyncOutcome, read_all,
};

fn path(name: &str) -> PathBuf {
    Path::new("/").join(name)
}

/// A healthy disk with a synced file `a` of these bytes.
fn disk(bytes: &[u8]) -> (MemFs, FaultFs) {
    let mem = MemFs::new();
    vfs::write_file_synced(&mem, &path("a"), bytes).unwrap();
    mem.sync_dir(Path::new("/")).unwrap();
    (mem.clone(), FaultFs::over_mem(mem))
}

fn kind<T>(result: io::Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

#[test]
fn one_operation_by_index() {
    let workload = |fs: &FaultFs| -> Vec<bool> {
        let mut results = Vec::new();
        let mut file = fs.create(&path("b"));
        results.push(file.is_ok());
        if let Ok(file) = &mut file {
            results.push(file.append(b"x").is_ok());
            results.push(file.sync().is_ok());
        }
        results.push(fs.rename(&path("b"), &path("c")).is_ok());
        results.push(fs.sync_dir(Path::new("/")).is_ok());
        results
    };
    for index in 1..5 {
        let (_, fs) = disk(b"");
        fs.inject(FaultPlan::at(index, Fault::Eio));
        let results = workload(&fs);
        let failed: Vec<usize> = (0..results.len()).filter(|at| !results[*at]).collect();
        assert_eq!(failed, vec![index as usize]);
        assert_eq!((fs.fired(), fs.op_count()), (1, 5));
    }
    let (_, fs) = disk(b"");
    fs.inject(FaultPlan::at(5, Fault::Eio));
    assert!(workload(&fs).iter().all(|ok| *ok));
    assert_eq!(fs.fired(), 0, "the sweep is over when the fault no longer fires");
}

#[test]
fn a_full_disk_until_cleared() {
    let (mem, fs) = disk(b"a");
    fs.inject(FaultPlan::any(Fault::NoSpace));
    assert_eq!(kind(fs.create(&path("b"))), Some(ErrorKind::StorageFull));
    assert_eq!(kind(fs.create_segment(&path("b"), 10)), Some(ErrorKind::StorageFull));
    let mut file = fs.open_append(&path("a")).unwrap();
    assert_eq!(kind(file.append(b"x")), Some(ErrorKind::StorageFull));
    assert_eq!(mem.read_file(&path("a")).unwrap(), b"a");
    let segment = fs.open_segment(&path("a")).unwrap();
    segment.write_at(0, b"z").expect("preallocated space can be written on a full disk");
    fs.remove_file(&path("a")).expect("a full disk lets go of files");
    assert_eq!(fs.fired(), 3);
    fs.clear();
    drop(fs.create(&path("b")).unwrap());
    fs.inject(FaultPlan::any(Fault::QuotaExceeded));
    assert_eq!(kind(fs.create(&path("c"))), Some(ErrorKind::QuotaExceeded));
}

#[test]
fn by_kind_path_count_and_chance() {
    let (_, fs) = disk(b"a");
    fs.inject(FaultPlan::any(Fault::Eio).kinds(&[OpKind::Create]).suffix(".sst").skip(1).times(2));
    let tries: Vec<bool> =
        (0..5).map(|at| fs.create(&path(&format!("{at}.sst"))).is_ok()).collect();
    assert_eq!(tries, [true, false, false, true, true]);
    assert!(fs.create(&path("log")).is_ok());
    fs.clear();
    fs.inject(FaultPlan::from(fs.op_count() + 2, Fault::TooManyOpenFiles));
    assert!(fs.open(&path("a")).is_ok() && fs.metadata(&path("a")).is_ok());
    let error = fs.open(&path("a")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(24));
    assert!(fs.metadata(&path("a")).is_ok(), "metadata opens nothing");
    let drawn = |seed| -> Vec<bool> {
        fs.clear();
        fs.inject(FaultPlan::any(Fault::Interrupted).chance(300, seed));
        (0..200).map(|_| fs.metadata(&path("a")).is_err()).collect()
    };
    assert_eq!(drawn(1), drawn(1));
    assert_ne!(drawn(1), drawn(2));
    let hits = drawn(3).iter().filter(|hit| **hit).count();
    assert!((30..100).contains(&hits), "{hits}");
}

#[test]
fn reads_and_writes_are_bent() {
    let (mem, fs) = disk(&[0; 100]);
    let file = fs.open(&path("a")).unwrap();
    let mut buf = [0; 100];
    fs.inject(FaultPlan::any(Fault::BitRot).times(1));
    assert_eq!(file.read_at(&mut buf, 0).unwrap(), 100);
    assert_eq!(buf.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
    fs.inject(FaultPlan::any(Fault::ShortRead).times(1));
    assert_eq!(file.read_at(&mut buf, 0).unwrap(), 50);
    assert_eq!(file.read_at(&mut buf, 0).unwrap(), 100);
    assert_eq!(buf, [0; 100]);
    fs.inject(FaultPlan::any(Fault::ShortWrite).times(1));
    let error = fs.open_append(&path("a")).unwrap().append(b"1234").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(5));
    assert_eq!(&mem.read_file(&path("a")).unwrap()[100..], b"12");
    fs.inject(FaultPlan::any(Fault::Eio).kinds(&[OpKind::Read]));
    assert!(read_all(&fs, &path("a"), 1000).is_err());
}

#[test]
fn failed_syncs_leave_what_they_say() {
    let run = |outcome| {
        let (mem, fs) = disk(b"old");
        let segment = fs.open_segment(&path("a")).unwrap();
        segment.write_at(0, b"new").unwrap();
        fs.inject(FaultPlan::any(Fault::SyncFailed(outcome)).times(1));
        segment.sync().unwrap_err();
        let cached = mem.read_file(&path("a")).unwrap();
        segment.sync().unwrap();
        assert_eq!(fs.fired(), 1);
        let image = |profile| mem.crash(profile, 1).read_file(&path("a")).unwrap();
        assert_eq!(image(CrashProfile::KeepAll), image(CrashProfile::DropAll));
        (cached, image(CrashProfile::Strict))
    };
    let (old, new) = (b"old".to_vec(), b"new".to_vec());
    assert_eq!(run(SyncOutcome::PageCleanCacheNew), (new.clone(), old.clone()));
    assert_eq!(run(SyncOutcome::PageReverted), (old.clone(), old));
    assert_eq!(run(SyncOutcome::ErrorOnceThenOk), (new.clone(), new));
}

#[test]
fn a_clean_page_is_written_when_it_is_dirtied_again() {
    let (mem, fs) = disk(b"old bytes");
    let segment = fs.open_segment(&path("a")).unwrap();
    segment.write_at(0, b"NEW").unwrap();
    mem.fail_sync(&path("a"), SyncOutcome::PageCleanCacheNew).unwrap();
    segment.write_at(4, b"B").unwrap();
    segment.sync().unwrap();
    assert_eq!(mem.crash(CrashProfile::DropAll, 0).read_file(&path("a")).unwrap(), b"NEW Bytes");
}

#[test]
fn a_failed_sync_follows_the_file_through_a_rename() {
    let (mem, fs) = disk(b"old");
    let mut file = fs.open_append(&path("a")).unwrap();
    file.append(b"+").unwrap();
    fs.rename(&path("a"), &path("b")).unwrap();
    fs.inject(FaultPlan::any(Fault::SyncFailed(SyncOutcome::PageReverted)));
    file.sync().unwrap_err();
    assert_eq!(mem.read_file(&path("b")).unwrap(), b"old");
}

#[test]
fn slow_operations_wait_for_the_hook_and_then_run() {
    let (_, fs) = disk(b"a");
    let calls = Arc::new(AtomicU64::new(0));
    let (counter, inner) = (Arc::clone(&calls), fs.clone());
    let hook = move || {
        // The hook may use the file system: no lock is held.
        inner.clear();
        assert!(inner.metadata(&path("a")).is_ok());
        counter.fetch_add(1, Ordering::Relaxed);
    };
    fs.inject(FaultPlan::any(Fault::Slow(Arc::new(hook))));
    fs.rename(&path("a"), &path("b")).unwrap();
    assert_eq!((calls.load(Ordering::Relaxed), fs.fired()), (1, 1));
}

#[test]
fn over_the_real_disk_a_failed_sync_is_just_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let fs = FaultFs::new(Arc::new(StdFs::new()));
    fs.inject(FaultPlan::any(Fault::SyncFailed(SyncOutcome::PageReverted)).times(1));
    let file = dir.path().join("file");
    assert!(vfs::write_file_synced(&fs, &file, b"x").is_err());
    assert_eq!(read_all(&fs, &file, 10).unwrap(), b"x");
    assert!(format!("{fs:?}").contains("StdFs"));
}
