//! Databases that never were: tables, and edits that fit a state.

use std::sync::Arc;

use base::rng::Rng;
use base::{FileNum, KeyspaceId, SeqNo};

use crate::{
    AddedTable, ClosedSegment, LEVELS_MAX, NewKeyspace, RunId, State, TableChanges, TableMeta,
    VersionEdit,
};

/// A table from `smallest` to `largest`, the latter inside.
pub(crate) fn table(file: u64, smallest: &str, largest: &str) -> TableMeta {
    TableMeta {
        file: FileNum(file),
        table_id: file << 32 | 7,
        size_bytes: 100 * file,
        entries: 10 * file,
        deletes: file,
        range_tombstones: 0,
        raw_bytes: 300 * file,
        smallest: smallest.into(),
        largest: largest.into(),
        largest_exclusive: false,
        seq_min: SeqNo(file),
        seq_max: SeqNo(file + 5),
        created_micros: 1_000_000 + file,
    }
}

pub(crate) fn added(level: u32, run: u64, table: TableMeta) -> AddedTable {
    AddedTable { level, run: RunId(run), table }
}

/// A database with the default keyspace and one segment; files 1 and 2 are taken.
pub(crate) fn small_state() -> State {
    let mut state = State::new(0x0123_4567_89ab_cdef);
    let edit = VersionEdit {
        next_file: Some(FileNum(3)),
        segments_added: vec![FileNum(2)],
        keyspaces_created: vec![keyspace(0, "default")],
        ..VersionEdit::default()
    };
    state.apply(&edit).expect("valid");
    state
}

pub(crate) fn keyspace(id: u32, name: &str) -> NewKeyspace {
    NewKeyspace { id: KeyspaceId(id), name: name.into(), options: b"opts".to_vec() }
}

/// One edit that `state` accepts, of any kind.
pub(crate) fn random_edit(rng: &mut Rng, state: &State) -> VersionEdit {
    let mut edit = VersionEdit::default();
    let ids: Vec<KeyspaceId> = state.keyspaces.keys().copied().collect();
    let Some(&id) = ids.get(rng.below(ids.len() as u64) as usize) else {
        edit.keyspaces_created.push(keyspace(state.next_keyspace.0, "again"));
        return edit;
    };
    match rng.below(8) {
        0 => {
            let n = state.next_keyspace.0;
            edit.keyspaces_created.push(keyspace(n, &format!("k{n}")));
        }
        1 => edit.options_changed.push((id, vec![rng.below(256) as u8; rng.below(50) as usize])),
        2 => {
            edit.segments_added.push(state.next_file);
            edit.next_lsn = Some(state.next_lsn + rng.below(1000));
        }
        3 => retire_segment(state, &mut edit),
        4 if ids.len() > 2 => edit.keyspaces_dropped.push(id),
        5 => move_table(rng, state, id, &mut edit),
        _ => edit.tables.push(flush(rng, state, id)),
    }
    edit
}

fn retire_segment(state: &State, edit: &mut VersionEdit) {
    let Some((&num, segment)) = state.segments.iter().next() else { return };
    match segment.closed {
        Some(_) => edit.segments_removed.push(num),
        None => {
            let end_lsn = state.next_lsn + 7;
            edit.segments_closed.push(ClosedSegment { num, end_offset: 9, end_lsn, chain: 77 });
        }
    }
}

fn flush(rng: &mut Rng, state: &State, keyspace: KeyspaceId) -> TableChanges {
    let from = rng.below(26) as u8;
    let (smallest, largest) =
        ([b'a' + from], [b'a' + from + rng.below(u64::from(26 - from)) as u8]);
    let mut table = table(state.next_file.0, "", "");
    (table.smallest, table.largest) = (smallest.to_vec(), largest.to_vec());
    table.largest.resize(1 + rng.below(40) as usize, b'z');
    let flushed_seq = Some(table.seq_max);
    let added = vec![added(rng.below(2) as u32, state.next_run.0, table)];
    TableChanges { keyspace, added, removed: Vec::new(), flushed_seq }
}

/// Moves a table to the last level, into a run of its own, or drops it if it is there.
fn move_table(rng: &mut Rng, state: &State, keyspace: KeyspaceId, edit: &mut VersionEdit) {
    let version = Arc::clone(&state.keyspaces[&keyspace].version);
    let nth = rng.below(version.tables_total() as u64) as usize;
    let Some((level, _, table)) = version.tables().nth(nth) else { return };
    let last = LEVELS_MAX as u32 - 1;
    let stays = level < last as usize;
    let added = stays.then(|| added(last, state.next_run.0, TableMeta::clone(table)));
    edit.tables.push(TableChanges {
        keyspace,
        added: added.into_iter().collect(),
        removed: vec![table.file],
        flushed_seq: None,
    });
}

/// What a run of edits passes through: the state before the first one, and after each.
pub(crate) fn history(seed: u64, count: usize) -> (Vec<VersionEdit>, Vec<State>) {
    let (mut rng, mut state) = (Rng::new(seed), small_state());
    let (mut edits, mut states) = (Vec::new(), vec![state.clone()]);
    for _ in 0..count {
        let edit = random_edit(&mut rng, &state);
        state.apply(&edit).expect("made to fit");
        edits.push(edit);
        states.push(state.clone());
    }
    (edits, states)
}
