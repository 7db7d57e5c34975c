//! Recovery of a manifest against the states that there were.

use crate::damage::{UNREPAIRED_BYTES_MAX, edit, identity_hash, repair_header, repair_records};
use crate::source::Source;
use base::{Error, FileName, FileNum, KeyspaceId, SeqNo};
use manifest::{
    AddedTable, ClosedSegment, Manifest, ManifestOptions, NewKeyspace, RunId, State, TableChanges,
    TableMeta, VersionEdit,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vfs::{CrashProfile, Fs, MemFs};

const DB_ID: u64 = 0x5eed;
const CRC_OFFSET: usize = 28;
const HEADER_LEN: usize = 32;

fn dir() -> PathBuf {
    PathBuf::from("/db")
}

/// Edits of a manifest, then a crash or damage with or without checksums made right again, then recovery.
pub fn manifest_replay(data: &[u8]) {
    crate::cap::decoding(data, || {
        let mut source = Source::new(data);
        let selector = source.u8();
        let history = History::new(&mut source);
        let last = history.states.len() - 1;
        match selector % 4 {
            0 => {
                let profile = CrashProfile::ALL[source.below(6)];
                let disk = history.mem.crash(profile, u64::from(source.u8()));
                history.recovered(&disk, last, true);
            }
            1 => {
                let edits = 1 + source.below(UNREPAIRED_BYTES_MAX);
                let mut is_in_place = false;
                let disk = history.damaged(|file| {
                    let len = file.len();
                    edit(&mut source, file, 0..usize::MAX, edits, 1);
                    is_in_place = edits == 1 && file.len() == len;
                });
                // Each record says that what came before it was synced: one bad byte hides the last edit at most.
                let floor = if is_in_place { last.saturating_sub(1) } else { 0 };
                history.recovered(&disk, floor, false);
            }
            2 => {
                let cut = usize::from(source.u16());
                let disk = history.damaged(|file| file.truncate(cut));
                history.recovered(&disk, 0, false);
            }
            _ => {
                let edits = 1 + source.below(5);
                let num = history.manifest.file().0;
                let disk = history.damaged(|file| {
                    edit(&mut source, file, 0..usize::MAX, edits, 9);
                    repair_header(file, CRC_OFFSET);
                    repair_records(file, HEADER_LEN, identity_hash(DB_ID, num));
                });
                anything(&disk);
            }
        }
    });
}

struct History {
    mem: MemFs,
    manifest: Manifest,
    /// After the creation and after each edit.
    states: Vec<State>,
}

/// Numbers for new manifests are whatever is raised: they are no part of what edits add up to.
fn comparable(state: &State) -> State {
    State { next_file: FileNum(0), ..state.clone() }
}

fn options(rotate_bytes: u64, read_only: bool) -> ManifestOptions {
    ManifestOptions { rotate_bytes, read_only }
}

impl History {
    fn new(source: &mut Source<'_>) -> History {
        let mem = MemFs::new();
        mem.create_dir_all(&dir()).expect("in memory");
        mem.sync_dir(Path::new("/")).expect("in memory");
        let mut state = State::new(DB_ID);
        state.next_file = FileNum(2);
        let rotate = source.pick(&[1 << 20, 1 << 20, 600, 0]);
        let fs: Arc<dyn Fs> = Arc::new(mem.clone());
        let mut manifest = Manifest::create(fs, &dir(), &state, FileNum(1), options(rotate, false))
            .expect("in memory");
        let mut states = vec![comparable(&state)];
        for _ in 0..source.below(12) {
            let edit = any_edit(source, &state);
            if state.apply(&edit).is_err() {
                continue;
            }
            let mut next = state.next_file;
            manifest
                .append(&state, &edit, &mut || {
                    next = FileNum(next.0 + 1);
                    FileNum(next.0 - 1)
                })
                .expect("in memory");
            state.next_file = next;
            states.push(comparable(&state));
        }
        History { mem, manifest, states }
    }

    /// The disk after a clean stop, with the live manifest changed.
    fn damaged(&self, change: impl FnOnce(&mut Vec<u8>)) -> MemFs {
        let disk = self.mem.crash(CrashProfile::KeepAll, 0);
        let path = FileName::Manifest(self.manifest.file()).in_dir(&dir());
        let mut bytes = disk.read_file(&path).expect("in memory");
        change(&mut bytes);
        disk.overwrite(&path, &bytes).expect("in memory");
        disk
    }

    /// What recovery finds is a state that there was, no older than state `floor`; damage may be refused.
    fn recovered(&self, disk: &MemFs, floor: usize, intact: bool) {
        for read_only in [true, false] {
            let found =
                Manifest::recover(Arc::new(disk.clone()), &dir(), options(1 << 20, read_only));
            let (mut manifest, mut state) = match found {
                Ok(found) => found,
                Err(Error::Corruption { .. } | Error::UnsupportedFormat { .. }) if !intact => {
                    return;
                }
                Err(e) => panic!("recovery of {} states: {e}", self.states.len()),
            };
            let at = self.states.iter().rposition(|s| *s == comparable(&state));
            assert!(
                at.is_some_and(|at| at >= floor),
                "a state that never was, or an old one: {at:?}, {floor}"
            );
            if !read_only {
                goes_on(disk, &mut manifest, &mut state);
            }
        }
    }
}

/// Another edit, and another recovery.
fn goes_on(disk: &MemFs, manifest: &mut Manifest, state: &mut State) {
    let edit = VersionEdit { segments_added: vec![state.next_file], ..VersionEdit::default() };
    state.apply(&edit).expect("a new number");
    let mut next = state.next_file;
    let appended = manifest.append(state, &edit, &mut || {
        next = FileNum(next.0.saturating_add(1));
        FileNum(next.0 - 1)
    });
    appended.expect("in memory");
    for profile in [CrashProfile::KeepAll, CrashProfile::DropAll] {
        let disk = disk.crash(profile, 1);
        let again = Manifest::recover(Arc::new(disk), &dir(), options(1 << 20, false));
        let (_, again) = again.expect("own bytes");
        assert_eq!(comparable(&again), comparable(state), "after {profile:?}");
    }
}

/// No panic; and what is accepted keeps the rules and can be gone on from.
fn anything(disk: &MemFs) {
    let found = Manifest::recover(Arc::new(disk.clone()), &dir(), options(1 << 20, false));
    let Ok((mut manifest, mut state)) = found else { return };
    state.check_invariants().expect("recovery checks the rules");
    if state.next_file.0 < u64::MAX - 8 {
        goes_on(disk, &mut manifest, &mut state);
    }
}

fn any_edit(source: &mut Source<'_>, state: &State) -> VersionEdit {
    let mut edit = VersionEdit::default();
    let next = state.next_file;
    match source.u8() % 8 {
        0 => {
            let id = KeyspaceId(state.next_keyspace.0 + u32::from(source.u8() % 2));
            let options = source.take(5).to_vec();
            edit.keyspaces_created.push(NewKeyspace { id, name: format!("k{}", id.0), options });
        }
        1 => edit.keyspaces_dropped.extend(some_keyspace(source, state)),
        2 => edit.segments_added.push(next),
        3 => {
            let segment = state.segments.keys().nth(source.below(4)).copied().unwrap_or(next);
            let (end_offset, end_lsn) = (source.number() >> 8, source.number() >> 8);
            edit.segments_closed.push(ClosedSegment {
                num: segment,
                end_offset,
                end_lsn,
                chain: 7,
            });
        }
        4 => edit.segments_removed.extend(state.segments.keys().nth(source.below(4))),
        5 => edit
            .options_changed
            .extend(some_keyspace(source, state).map(|id| (id, source.take(9).to_vec()))),
        _ => edit.tables.extend(some_keyspace(source, state).map(|id| changes(source, state, id))),
    }
    edit.last_seq = source.flag().then(|| SeqNo(source.number() >> 16));
    edit
}

fn some_keyspace(source: &mut Source<'_>, state: &State) -> Option<KeyspaceId> {
    state.keyspaces.keys().nth(source.below(3)).copied()
}

fn changes(source: &mut Source<'_>, state: &State, keyspace: KeyspaceId) -> TableChanges {
    let tables = state.keyspaces.get(&keyspace).map(|k| k.version.clone()).unwrap_or_default();
    let removed = tables
        .tables()
        .skip(source.below(4))
        .take(source.below(3))
        .map(|(_, _, t)| t.file)
        .collect();
    let added = (0..source.below(4)).map(|i| {
        let smallest = source.take(1).to_vec();
        let table = TableMeta {
            file: FileNum(state.next_file.0 + i as u64),
            table_id: source.u64(),
            size_bytes: source.number(),
            entries: source.number(),
            deletes: 0,
            range_tombstones: 0,
            raw_bytes: 9,
            largest: [&smallest[..], source.take(1)].concat(),
            smallest,
            largest_exclusive: source.u8().is_multiple_of(16),
            seq_min: SeqNo(1),
            seq_max: SeqNo(1 + u64::from(source.u8())),
            created_micros: 5,
        };
        AddedTable {
            level: u32::from(source.u8() % 7),
            run: RunId(u64::from(source.u8() % 4)),
            table,
        }
    });
    TableChanges {
        keyspace,
        added: added.collect(),
        removed,
        flushed_seq: source.flag().then_some(SeqNo(3)),
    }
}
