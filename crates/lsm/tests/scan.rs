//! Range deletes: their edges, and what reads beside many and huge ones cost.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use lsm::executor::ManualExecutor;
use lsm::{Db, Options};
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::Arc;
use vfs::MemFs;

fn open(fs: &MemFs, options: Options) -> Db {
    let executor = ManualExecutor::new();
    Db::builder("/db").fs(Arc::new(fs.clone())).executor(executor).options(options).open().unwrap()
}

/// A bound behind the longest key is longer than a key: log, tables and manifest have to take it.
#[test]
fn deletes_around_the_longest_keys_survive_flush_and_replay() {
    let (top, low) = (vec![0xff; 65_535], vec![b'm'; 65_535]);
    for flush in [false, true] {
        let fs = MemFs::new();
        let db = open(&fs, Options::default());
        for key in [&b"a"[..], &low, b"x", &top] {
            db.put(key, b"v").unwrap();
        }
        db.delete_range((Excluded(&top), Unbounded)).unwrap();
        db.delete_range((Included(&low), Included(&low))).unwrap();
        db.delete_range((Excluded(&low[..]), Included(&b"x"[..]))).unwrap();
        let mut batch = db.batch();
        batch.delete_range((Excluded(&top), Unbounded));
        batch.commit().unwrap();
        assert_eq!(db.iter().count(), 2);
        if flush {
            db.flush().unwrap();
        }
        drop(db);
        let db = open(&fs, Options::default());
        assert_eq!(db.iter().count(), 2);
        assert!(db.contains_key(&top).unwrap() && !db.contains_key(&low).unwrap());
        db.delete_range(..).unwrap();
        db.flush().unwrap();
        db.compact_range(..).unwrap();
        assert_eq!(db.iter().count(), 0);
        db.verify().unwrap();
        db.close().unwrap();
    }
}
