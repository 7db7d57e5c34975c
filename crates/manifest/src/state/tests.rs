use proptest::prelude::*;

use super::*;
use crate::testing::{added, history, keyspace, small_state, table};

fn edit() -> VersionEdit {
    VersionEdit::default()
}

fn tables(id: u32, added: Vec<AddedTable>, removed: &[u64]) -> VersionEdit {
    let removed = removed.iter().map(|&n| FileNum(n)).collect();
    let changes = TableChanges { keyspace: KeyspaceId(id), added, removed, flushed_seq: None };
    VersionEdit { tables: vec![changes], ..edit() }
}

#[test]
fn counters_only_grow_and_pass_all_that_is_used() {
    let mut state = small_state();
    state.apply(&tables(0, vec![added(0, 40, table(50, "a", "b"))], &[])).expect("valid");
    assert_eq!((state.next_file, state.next_run), (FileNum(51), RunId(41)));
    assert_eq!(state.last_seq, SeqNo(55));
    let back = VersionEdit {
        next_file: Some(FileNum(4)),
        next_run: Some(RunId(1)),
        last_seq: Some(SeqNo(1)),
        ..edit()
    };
    let before = state.clone();
    state.apply(&back).expect("valid");
    assert_eq!(state, before);
}

#[test]
fn edits_that_do_not_fit_change_nothing() {
    let closed = |num, chain| ClosedSegment { num: FileNum(num), end_offset: 1, end_lsn: 1, chain };
    let cases = [
        (
            VersionEdit { segments_added: vec![FileNum(2)], ..edit() },
            "added segment 000002 is already",
        ),
        (
            VersionEdit { segments_removed: vec![FileNum(9)], ..edit() },
            "removed segment 000009 is not",
        ),
        (
            VersionEdit { segments_closed: vec![closed(9, 0)], ..edit() },
            "closed segment 000009 is not",
        ),
        (
            VersionEdit { segments_closed: vec![closed(2, 0), closed(2, 1)], ..edit() },
            "segment 000002 is closed twice",
        ),
        (VersionEdit { keyspaces_created: vec![keyspace(0, "x")], ..edit() }, "used before"),
        (
            VersionEdit { keyspaces_created: vec![keyspace(7, "default")], ..edit() },
            "already there",
        ),
        (
            VersionEdit { keyspaces_created: vec![keyspace(7, "a/b")], ..edit() },
            "invalid keyspace name",
        ),
        (VersionEdit { keyspaces_created: vec![keyspace(u32::MAX, "x")], ..edit() }, "used before"),
        (
            VersionEdit { keyspaces_dropped: vec![KeyspaceId(7)], ..edit() },
            "keyspace 7 is not there",
        ),
        (
            VersionEdit { options_changed: vec![(KeyspaceId(7), vec![])], ..edit() },
            "7 is not there",
        ),
        (tables(7, vec![], &[]), "keyspace 7 is not there"),
        (tables(0, vec![], &[5]), "keyspace 0: removed table 000005 is not there"),
    ];
    for (bad, expected) in cases {
        let mut state = small_state();
        let all = VersionEdit { next_lsn: Some(99), next_keyspace: None, ..bad };
        let error = state.apply(&all).expect_err(expected);
        assert!(error.contains(expected), "{error} / {expected}");
        assert_eq!(state, small_state());
    }
}

#[test]
fn a_dropped_keyspace_takes_its_tables_along_and_frees_its_name_but_not_its_id() {
    let mut state = small_state();
    state.apply(&tables(0, vec![added(0, 1, table(5, "a", "b"))], &[])).expect("valid");
    assert_eq!(state.live_files(), BTreeSet::from([FileNum(2), FileNum(5)]));
    let recreate = |id| VersionEdit {
        keyspaces_dropped: vec![KeyspaceId(0)],
        keyspaces_created: vec![keyspace(id, "default")],
        ..edit()
    };
    assert!(state.clone().apply(&recreate(0)).is_err());
    state.apply(&recreate(1)).expect("valid");
    assert_eq!(state.live_files(), BTreeSet::from([FileNum(2)]));
    assert_eq!(state.keyspace_by_name("default").map(|(id, _)| id), Some(KeyspaceId(1)));
    assert!(state.keyspace_by_name("other").is_none());
}

#[test]
fn a_file_number_used_twice_is_noticed() {
    let mut state = small_state();
    state.apply(&tables(0, vec![added(0, 1, table(2, "a", "b"))], &[])).expect("valid by itself");
    assert!(
        state.check_invariants().expect_err("a segment has it").contains("000002 is used twice")
    );
    let mut state = small_state();
    state.next_file = FileNum(2);
    let error = state.check_invariants().expect_err("taken");
    assert_eq!(error, "file 000002 is not below the next number 000002");
}

proptest! {
    #[test]
    fn a_snapshot_gives_back_an_equal_state(seed: u64) {
        let (_, states) = history(seed, 30);
        for state in states {
            state.check_invariants().expect("kept by apply");
            let mut copy = State::new(state.db_id);
            copy.apply(&state.to_edit()).expect("a snapshot fits");
            prop_assert_eq!(copy, state);
        }
    }
}
