//! Readers of a database that was closed, and opened anew by somebody who removed tables that they had not opened yet.
#![expect(clippy::unwrap_used, reason = "a test")]

mod support;

use lsm::{Db, Error, Options};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use support::{DIR, small_options};
use vfs::{Fs, Layer, MemFs, RandomAccessFile};

type Step = Box<dyn FnOnce() + Send>;

/// Takes one step of a test right before it opens a table.
#[derive(Clone)]
struct Stepping {
    disk: MemFs,
    step: Arc<Mutex<Option<Step>>>,
}

impl std::fmt::Debug for Stepping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stepping")
    }
}

impl Layer for Stepping {
    fn below(&self) -> &dyn Fs {
        &self.disk
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn RandomAccessFile>> {
        let step = self.step.lock().unwrap().take();
        if let Some(step) = step {
            step();
        }
        self.disk.open(path)
    }
}

const KEYS: u32 = 400;

fn key(n: u32) -> [u8; 4] {
    n.to_be_bytes()
}

fn options() -> Options {
    // One table stays open, so that a reader meets the others unopened.
    small_options().open_files_max(1).block_cache_bytes(0)
}

/// A database with many tables, none of which it has opened, and the disk that it lies on.
fn filled() -> (Stepping, Db) {
    let fs = Stepping { disk: MemFs::new(), step: Arc::default() };
    let (db, _) = support::open(Arc::new(fs.clone()), DIR, &options(), 1).unwrap();
    for n in 0..KEYS {
        db.put(key(n), [b'v'; 60]).unwrap();
    }
    db.compact_range(..).unwrap();
    db.close().unwrap();
    drop(db);
    let (db, _) = support::open(Arc::new(fs.clone()), DIR, &options(), 2).unwrap();
    (fs, db)
}

/// Closes `db`, and removes all of its tables in a life that comes after it.
fn close_and_replace(db: &Db, disk: &MemFs) {
    db.close().unwrap();
    let (next, executor) = support::open(Arc::new(disk.clone()), DIR, &options(), 3).unwrap();
    next.delete_range(..).unwrap();
    next.compact_range(..).unwrap();
    executor.run_all();
    next.close().unwrap();
}

fn is_closed<T>(result: &lsm::Result<T>) -> bool {
    matches!(result, Err(Error::Closed))
}

/// Found by `schedule`, scenario `close`, seed 37: it was told that a file is not there.
#[test]
fn a_read_that_a_close_overtakes_is_told_of_the_close() {
    type Read = fn(&Db) -> lsm::Result<()>;
    let reads: [(&str, Read); 3] = [
        ("get", |db| db.get(key(7)).map(drop)),
        ("contains_key", |db| db.contains_key(key(7)).map(drop)),
        ("multi_get", |db| db.multi_get([key(7), key(300)]).map(drop)),
    ];
    for (name, read) in reads {
        let (fs, db) = filled();
        let (other, disk) = (db.clone(), fs.disk.clone());
        *fs.step.lock().unwrap() = Some(Box::new(move || close_and_replace(&other, &disk)));
        let result = read(&db);
        assert!(fs.step.lock().unwrap().is_none(), "{name} opened no table");
        assert!(is_closed(&result), "{name}: {result:?}");
    }
}

#[test]
fn an_iterator_that_outlives_a_close_is_told_of_it_at_a_table_that_is_gone() {
    for backward in [false, true] {
        let (fs, db) = filled();
        let mut range = db.iter();
        let mut step = || if backward { range.next_back() } else { range.next() };
        step().unwrap().unwrap();
        close_and_replace(&db, &fs.disk);
        let rest: Vec<_> = std::iter::from_fn(step).collect();
        let (last, before) = rest.split_last().unwrap();
        // What it has open it may still read; then it ends.
        assert!(before.iter().all(Result::is_ok) && rest.len() < KEYS as usize - 1);
        assert!(is_closed(last), "{last:?}");
    }
}

#[test]
fn a_cursor_that_outlives_a_close_is_told_of_it_at_a_table_that_is_gone() {
    type Move = fn(&mut lsm::Cursor) -> lsm::Result<()>;
    let moves: [(&str, Move); 6] = [
        ("seek", |c| c.seek(key(KEYS / 2))),
        ("seek_for_prev", |c| c.seek_for_prev(key(KEYS / 2))),
        ("seek_to_first", |c| c.seek_to_first()),
        ("seek_to_last", |c| c.seek_to_last()),
        ("next", |c| (0..KEYS).try_for_each(|_| c.next())),
        ("prev", |c| (0..KEYS).try_for_each(|_| c.prev())),
    ];
    for (name, step) in moves {
        let (fs, db) = filled();
        let mut cursor = db.cursor().unwrap();
        cursor.seek(key(KEYS / 4)).unwrap();
        close_and_replace(&db, &fs.disk);
        let result = step(&mut cursor);
        assert!(is_closed(&result), "{name}: {result:?}");
        // And stays so.
        assert!(is_closed(&cursor.next()) && !cursor.valid(), "{name}");
    }
}
