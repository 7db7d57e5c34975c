//! What must hold at the end, with the faults gone.

use super::world::{CATALOG, DIR, World, number_of};
use lsm::executor::ManualExecutor;
use lsm::{Db, Durability, Error, Result};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use testkit::model::{ModelOp, State};
use vfs::{Fs, MemFs};

/// All that the database holds, read forward and backward.
pub(super) fn read_state(db: &Db) -> Result<State> {
    let mut state = State::new();
    for name in db.list_keyspaces() {
        if name != "default" {
            state.insert((CATALOG, name.clone().into_bytes()), Vec::new());
        }
        let keyspace = db.open_keyspace(&name)?;
        let forward: Vec<_> = keyspace.iter().collect::<Result<_>>()?;
        assert!(forward.windows(2).all(|w| w[0].0 < w[1].0), "keys do not ascend");
        let backward: Vec<_> = keyspace.iter().rev().collect::<Result<_>>()?;
        assert!(forward.iter().eq(backward.iter().rev()), "the directions differ");
        for (key, value) in forward.iter().step_by(3) {
            assert_eq!(keyspace.get(key)?.as_ref(), Some(value), "a point read differs");
        }
        let number = number_of(&name);
        state.extend(forward.into_iter().map(|(k, v)| ((number, k.to_vec()), v.to_vec())));
    }
    Ok(state)
}

/// True for an error that says that a sync failed, directly or as the cause.
pub(super) fn is_sync_failed(e: &Error) -> bool {
    match e {
        Error::SyncFailed { .. } => true,
        Error::WritesStopped { source } => is_sync_failed(source),
        _ => false,
    }
}

impl World {
    /// With the faults gone, everything must be as it was told.
    pub(super) fn finish(mut self) {
        self.fs.clear();
        self.try_open();
        let (db, executor) = self.open.clone().expect("a healthy disk opens");
        self.look();
        let state = read_state(&db).unwrap_or_else(|e| panic!("a healthy read: {e}"));
        self.check_live(&state);
        if self.stopped.is_none() && !self.sync_failed && !self.open_end {
            self.resume(&db, &executor);
        }
        drop((db, executor));
        self.reopen();
        let (db, _) = self.open.take().expect("a healthy disk opens");
        let state = read_state(&db).unwrap_or_else(|e| panic!("a healthy read: {e}"));
        let floor = if self.sync_failed { self.synced } else { self.acked };
        self.oracle().check(&state, floor, usize::MAX).unwrap_or_else(|e| panic!("reopened: {e}"));
        check_files(&self.mem).unwrap_or_else(|e| panic!("reopened: {e}"));
        db.verify().unwrap_or_else(|e| panic!("verify: {e}"));
        db.put("last", "1").unwrap_or_else(|e| panic!("put: {e}"));
        db.close().unwrap_or_else(|e| panic!("close: {e}"));
    }

    /// Writes go on without a reopen.
    fn resume(&mut self, db: &Db, executor: &ManualExecutor) {
        for _ in 0..3 {
            executor.tick();
            executor.run_all();
        }
        let ops = vec![ModelOp::put(0, "resumed", "1")];
        let done = db.put_with("resumed", "1", Durability::Sync);
        if let Err(e) = &done {
            panic!("writes do not resume: {e}");
        }
        self.commit(ops, Durability::Sync, done);
        db.flush().unwrap_or_else(|e| panic!("flushes do not resume: {e}"));
        db.wait_idle().unwrap_or_else(|e| panic!("jobs do not resume: {e}"));
        assert!(db.health().is_healthy(), "health stays {:?}", db.health());
        self.all_synced();
    }
}

/// The directory holds exactly what the manifest lists.
fn check_files(fs: &MemFs) -> Result<(), String> {
    let options = manifest::ManifestOptions { read_only: true, ..Default::default() };
    let found = manifest::Manifest::recover(Arc::new(fs.clone()), Path::new(DIR), options);
    let (manifest, state) = found.map_err(|e| format!("manifest after open: {e}"))?;
    let mut expected: BTreeSet<String> =
        [base::FileName::Lock, base::FileName::Current, base::FileName::Manifest(manifest.file())]
            .map(|name| name.to_string())
            .into();
    let segments = state.segments.keys().map(|n| base::FileName::Segment(*n).to_string());
    let tables = state.keyspaces.values().flat_map(|k| k.version.tables());
    let tables = tables.map(|(_, _, t)| base::FileName::Table(t.file).to_string());
    expected.extend(segments.chain(tables));
    let listed = fs.list(Path::new(DIR)).map_err(|e| e.to_string())?;
    let name = |path: &std::path::PathBuf| {
        path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    };
    let mut found: BTreeSet<String> = listed.iter().map(name).collect();
    // Room kept for a full disk comes and goes by itself.
    found.remove(&base::FileName::Reserve.to_string());
    if found == expected {
        return Ok(());
    }
    let left: Vec<_> = found.difference(&expected).collect();
    let missing: Vec<_> = expected.difference(&found).collect();
    Err(format!("files left over {left:?}, missing {missing:?}"))
}
