//! Every file system of this crate meets every expectation of the suite.

use std::path::Path;

use vfs::{MemFs, StdFs, suite};

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
