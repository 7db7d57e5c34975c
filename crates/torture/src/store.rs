//! What the families share: small databases on disks in memory, and all that they hold.

use lsm::executor::ManualExecutor;
use lsm::{
    CompactionPolicy, Compression, Db, Error, Keyspace, KeyspaceSnapshot, LazyLeveled, Leveled,
    Options, Result, SizeTiered,
};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use testkit::model::State;
use vfs::{Fs, MemFs};

/// Where the database lies.
pub(crate) const DIR: &str = "/data/db";
/// The pseudo keyspace that holds the names of all keyspaces but the default one.
pub(crate) const CATALOG: u32 = u32::MAX;
/// Keyspaces by their number in the model.
pub(crate) const NAMES: [&str; 4] = ["default", "k1", "k2", "k3"];

/// The number of a keyspace in the model.
pub(crate) fn number_of(name: &str) -> u32 {
    NAMES.iter().position(|n| *n == name).expect("a name of the test") as u32
}

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
        .compaction(leveled())
}

pub(crate) fn leveled() -> CompactionPolicy {
    CompactionPolicy::Leveled(Leveled {
        l0_trigger: 2,
        base_bytes: 4 << 10,
        multiplier: 2,
        target_table_bytes: 2 << 10,
        tombstone_percent: 50,
    })
}

pub(crate) fn lazy() -> CompactionPolicy {
    CompactionPolicy::LazyLeveled(LazyLeveled {
        target_table_bytes: 2 << 10,
        runs_per_level: 2,
        ..LazyLeveled::default()
    })
}

pub(crate) fn tiered() -> CompactionPolicy {
    CompactionPolicy::SizeTiered(SizeTiered {
        min_threshold: 2,
        min_run_bytes: 1 << 10,
        target_table_bytes: 2 << 10,
        ..SizeTiered::default()
    })
}

pub(crate) fn compressed(options: Options) -> Options {
    options.compression(&[Compression::None, Compression::Lz4][..])
}

/// Opens on `fs` with an executor that does nothing by itself.
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

/// All that the database holds, read forward and backward.
///
/// # Panics
/// If the two directions differ, or keys do not ascend.
pub(crate) fn read_state(db: &Db) -> Result<State> {
    let mut state = State::new();
    for name in db.list_keyspaces() {
        if name != "default" {
            state.insert((CATALOG, name.clone().into_bytes()), Vec::new());
        }
        let keyspace = db.open_keyspace(&name)?;
        let pairs = scan(&keyspace)?;
        let number = number_of(&name);
        state.extend(pairs.into_iter().map(|(k, v)| ((number, k), v)));
    }
    Ok(state)
}

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// All pairs of a keyspace, from both ends.
pub(crate) fn scan(keyspace: &Keyspace) -> Result<Pairs> {
    let owned = |pair: Result<(lsm::Slice, lsm::Slice)>| {
        pair.map(|(key, value)| (key.to_vec(), value.to_vec()))
    };
    let forward: Pairs = keyspace.iter().map(owned).collect::<Result<_>>()?;
    assert!(forward.windows(2).all(|w| w[0].0 < w[1].0), "keys do not ascend");
    let backward: Pairs = keyspace.iter().rev().map(owned).collect::<Result<_>>()?;
    assert!(forward.iter().eq(backward.iter().rev()), "the directions differ");
    Ok(forward)
}

pub(crate) fn scan_snapshot(snapshot: &KeyspaceSnapshot) -> Result<Pairs> {
    snapshot.iter().map(|p| p.map(|(k, v)| (k.to_vec(), v.to_vec()))).collect()
}

/// Checks that the directory holds exactly what the manifest lists.
pub(crate) fn check_files(fs: &MemFs, dir: &str) -> Result<(), String> {
    let options = manifest::ManifestOptions { read_only: true, ..Default::default() };
    let (manifest, state) =
        manifest::Manifest::recover(Arc::new(fs.clone()), Path::new(dir), options)
            .map_err(|e| format!("manifest after open: {e}"))?;
    let mut expected: BTreeSet<String> =
        [base::FileName::Lock, base::FileName::Current, base::FileName::Manifest(manifest.file())]
            .map(|name| name.to_string())
            .into();
    let segments = state.segments.keys().map(|n| base::FileName::Segment(*n).to_string());
    let tables = state.keyspaces.values().flat_map(|k| k.version.tables());
    let tables = tables.map(|(_, _, t)| base::FileName::Table(t.file).to_string());
    expected.extend(segments.chain(tables));
    let listed = fs.list(Path::new(dir)).map_err(|e| e.to_string())?;
    let mut found: BTreeSet<String> =
        listed.iter().map(|p| p.file_name().unwrap_or_default().to_string_lossy().into()).collect();
    // It may stand or not.
    found.remove(&base::FileName::Reserve.to_string());
    if found == expected {
        return Ok(());
    }
    let left: Vec<_> = found.difference(&expected).collect();
    let missing: Vec<_> = expected.difference(&found).collect();
    Err(format!("files left over {left:?}, missing {missing:?}"))
}

/// True for an error that says that a sync failed, directly or as the cause.
pub(crate) fn is_sync_failed(e: &Error) -> bool {
    match e {
        Error::SyncFailed { .. } => true,
        Error::WritesStopped { source } => is_sync_failed(source),
        _ => false,
    }
}

/// An error with its causes.
pub(crate) fn show(e: &Error) -> String {
    let mut text = e.to_string();
    let mut cause = std::error::Error::source(e);
    while let Some(e) = cause {
        text = format!("{text}: {e}");
        cause = e.source();
    }
    text
}
