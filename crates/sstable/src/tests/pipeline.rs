//! A helper changes when blocks are written, and nothing else.

use super::*;
use crate::Helper;
use base::rng::Rng;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use vfs::{Fs, WritableFile};

type Work = Box<dyn FnOnce() + Send>;

/// More groups than may wait, of keys whose blocks compress by different amounts, some of them too large for the table that others are
/// compressed with.
fn many_rows() -> Vec<Row> {
    let mut rng = Rng::new(11);
    let mut value = vec![0; 400];
    let row = |n: u32| {
        let noise = rng.below(400) as usize;
        value[..noise].iter_mut().for_each(|byte| *byte = rng.next_u64() as u8);
        value[noise..].fill(b'.');
        let times = if n % 700 == 99 { 300 } else { 1 };
        (n.to_be_bytes().to_vec(), 0, ValueKind::Put, value.repeat(times))
    };
    (0..6_000).map(row).collect()
}

fn writer(fs: &dyn Fs) -> TableWriter {
    TableWriter::create(fs, Path::new(PATH), ID, TableOptions::default()).expect("create")
}

/// The file, what was said of it, and the size that was told before each row.
fn write(rows: &[Row], helper: Option<Helper>) -> (Vec<u8>, TableSummary, Vec<u64>) {
    let fs = MemFs::new();
    let mut table = writer(&fs);
    if let Some(helper) = helper {
        table = table.helped_by(helper);
    }
    let mut sizes = Vec::new();
    for (key, seq, kind, value) in rows {
        sizes.push(table.file_size_estimate());
        table.add(InternalKey::new(key, SeqNo(*seq), *kind), value).expect("add");
    }
    let summary = table.finish().expect("finish");
    (vfs::read_all(&fs, Path::new(PATH), u64::MAX).expect("read back"), summary, sizes)
}

#[test]
fn whoever_writes_the_blocks_the_file_is_the_same() {
    let rows = many_rows();
    let (alone, summary, _) = write(&rows, None);
    let late: Arc<Mutex<Vec<Work>>> = Arc::default();
    let (kept, threads) = (Arc::clone(&late), Arc::new(Mutex::new(Vec::new())));
    let started = Arc::clone(&threads);
    let helpers: [(&str, Helper); 4] = [
        ("never", Arc::new(drop)),
        ("at once", Arc::new(|work: Work| work())),
        ("too late", Arc::new(move |work| kept.lock().expect("no panic").push(work))),
        (
            "on a thread",
            Arc::new(move |work| {
                let thread = base::sync::thread::spawn("helper", work).expect("a thread");
                started.lock().expect("no panic").push(thread);
            }),
        ),
    ];
    let mut told = Vec::new();
    let on_thread = Arc::clone(&helpers[3].1);
    let again = (0..20).map(|_| ("on a thread", Arc::clone(&on_thread)));
    for (name, helper) in helpers.into_iter().chain(again) {
        let (bytes, made, sizes) = write(&rows, Some(helper));
        assert!(bytes == alone, "{name}");
        assert_eq!(made, summary, "{name}");
        told.push(sizes);
    }
    assert!(told.iter().all(|sizes| *sizes == told[0]), "a size depends on who wrote");
    let (last, real) = (told[0][rows.len() - 1], alone.len() as u64);
    assert!(last >= real - 8_000 && last <= real + (700 << 10), "{last} of {real}");
    assert!(!late.lock().expect("no panic").is_empty());
    late.lock().expect("no panic").drain(..).for_each(|work| work());
    threads.lock().expect("no panic").drain(..).for_each(|thread| thread.join().expect("ended"));
}

/// A file that takes some bytes, and then fails or panics.
#[derive(Debug)]
struct Short {
    left: usize,
    panics: bool,
}

impl WritableFile for Short {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.left.checked_sub(bytes.len()) {
            Some(left) => self.left = left,
            None if self.panics => panic!("a file that panics"),
            None => return Err(io::Error::other("no more")),
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> u64 {
        0
    }
}

#[test]
fn a_failure_of_a_helper_is_told_by_add_or_finish_and_stays() {
    for (left, panics) in [(0, false), (600 << 10, false), (1_000 << 10, false), (300 << 10, true)]
    {
        let fs = MemFs::new();
        let file = Box::new(Short { left, panics });
        let quiet = |work: Work| drop(catch_unwind(AssertUnwindSafe(work)));
        let mut table = writer(&fs).written_to(file).helped_by(Arc::new(quiet));
        let mut failed = None;
        for (key, seq, kind, value) in many_rows() {
            let added = table.add(InternalKey::new(&key, SeqNo(seq), kind), &value);
            failed = failed.or(added.clone().err());
            assert_eq!(added.is_err(), failed.is_some(), "a writer that failed goes on");
        }
        let finished = table.finish().expect_err("not all was written");
        let error = failed.unwrap_or(finished);
        assert_eq!(matches!(error, Error::Poisoned { .. }), panics, "{error:?}");
    }
}

#[test]
fn a_table_that_is_given_up_is_let_go_at_once() {
    let held = Arc::new(());
    #[derive(Debug)]
    struct Held(#[expect(dead_code, reason = "its count is looked at")] Arc<()>);
    impl WritableFile for Held {
        fn append(&mut self, _: &[u8]) -> io::Result<()> {
            Ok(())
        }
        fn sync(&mut self) -> io::Result<()> {
            Ok(())
        }
        fn len(&self) -> u64 {
            0
        }
    }
    let late: Arc<Mutex<Vec<Work>>> = Arc::default();
    let kept = Arc::clone(&late);
    let fs = MemFs::new();
    let mut table = writer(&fs)
        .written_to(Box::new(Held(Arc::clone(&held))))
        .helped_by(Arc::new(move |work| kept.lock().expect("no panic").push(work)));
    for (key, seq, kind, value) in &many_rows()[..2_000] {
        table.add(InternalKey::new(key, SeqNo(*seq), *kind), value).expect("add");
    }
    drop(table);
    assert_eq!(Arc::strong_count(&held), 1, "the file is still open");
    late.lock().expect("no panic").drain(..).for_each(|work| work());
}
