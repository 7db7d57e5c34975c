//! The expectations that every [`Fs`] must meet, run against all of ours and against those of others.
//!
//! Each function checks one topic in a directory of its own. A broken expectation panics with its name.

mod files;
mod locks;
mod names;
mod segments;

use std::fmt::Debug;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::Fs;

/// Checks every expectation below the directory `root`, which is created if missing; what was made there
/// is left behind.
///
/// # Panics
/// With the name of the first expectation that `fs` does not meet.
pub fn run(fs: &dyn Fs, root: &Path) {
    let topics: [&[(&str, Topic)]; 4] =
        [files::TOPICS, names::TOPICS, segments::TOPICS, locks::TOPICS];
    ok(fs.create_dir_all(root), "the root of the suite can be created");
    for (name, topic) in topics.into_iter().flatten() {
        let dir = root.join(name);
        ok(fs.create_dir_all(&dir), "a directory for each topic can be created");
        topic(&Ground { fs, dir });
    }
}

type Topic = fn(&Ground<'_>);

/// An empty directory on the file system under test.
struct Ground<'a> {
    fs: &'a dyn Fs,
    dir: PathBuf,
}

impl Ground<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Makes a file with these bytes.
    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        let mut file = ok(self.fs.create(&path), "a file can be created");
        ok(file.append(bytes), "bytes can be appended");
        path
    }

    fn bytes(&self, path: &Path) -> Vec<u8> {
        ok(crate::read_all(self.fs, path, 1 << 30), "a file can be read whole")
    }

    fn holds(&self, path: &Path, bytes: &[u8], expectation: &str) {
        expect(self.bytes(path) == bytes, expectation);
    }

    fn missing(&self, path: &Path, expectation: &str) {
        fails(self.fs.metadata(path), ErrorKind::NotFound, expectation);
    }

    fn names(&self, dir: &Path) -> Vec<String> {
        let names = ok(self.fs.list(dir), "a directory can be listed");
        names.iter().map(|name| name.to_string_lossy().into_owned()).collect()
    }
}

#[track_caller]
fn expect(met: bool, expectation: &str) {
    assert!(met, "file system breaks the expectation: {expectation}");
}

#[track_caller]
fn same<T: PartialEq + Debug>(found: T, wanted: T, expectation: &str) {
    assert!(
        found == wanted,
        "file system breaks the expectation: {expectation}: found {found:?}, wanted {wanted:?}"
    );
}

#[track_caller]
fn ok<T>(result: io::Result<T>, expectation: &str) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("file system breaks the expectation: {expectation}: {error}"),
    }
}

#[track_caller]
fn fails<T>(result: io::Result<T>, kind: ErrorKind, expectation: &str) {
    let found = result.err().map(|error| error.kind());
    same(found, Some(kind), expectation);
}

/// Runs `work(0)` to `work(threads - 1)` side by side; a broken expectation keeps its message.
fn side_by_side(threads: usize, work: impl Fn(usize) + Sync) {
    std::thread::scope(|scope| {
        let work = &work;
        let running: Vec<_> =
            (0..threads).map(|thread| scope.spawn(move || work(thread))).collect();
        for thread in running {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
}
