//! A small database on a disk in memory, and an executor that does nothing by itself.

use lsm::executor::ManualExecutor;
use lsm::{Db, Leveled, Options, Result};
use std::sync::Arc;
use std::time::Duration;
use vfs::Fs;

/// Where the database lies.
pub(crate) const DIR: &str = "/data/db";

/// Everything small, so that everything happens often.
pub(crate) fn small_options() -> Options {
    Options::default()
        .memtable_size_bytes(8 << 10)
        .block_cache_bytes(16 << 10)
        .block_size_bytes(256)
        .log_segment_bytes(4 << 10)
        .log_bytes_max(24 << 10)
        .manifest_rotate_bytes(2048)
        .open_files_max(4)
        .disk_reserve_bytes(8 << 10)
        .sync_interval(Duration::from_secs(3600))
        .compaction(Leveled {
            l0_trigger: 2,
            base_bytes: 4 << 10,
            multiplier: 2,
            target_table_bytes: 2 << 10,
            tombstone_percent: 50,
        })
}

/// Opens on `fs`.
pub(crate) fn open(
    fs: Arc<dyn Fs>,
    dir: &str,
    options: &Options,
    seed: u64,
) -> Result<(Db, Arc<ManualExecutor>)> {
    let executor = ManualExecutor::new();
    let builder = Db::builder(dir).options(options.clone()).fs(fs).seed(seed);
    Ok((builder.executor(executor.clone()).open()?, executor))
}
