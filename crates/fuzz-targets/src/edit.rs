//! Manifest edits.

use manifest::{DecodeError, State, VersionEdit};

/// Bytes as one or two edits, applied to an empty state one after the other.
pub fn manifest_edit(data: &[u8]) {
    crate::cap::decoding(data, || {
        let Some((&cut, bytes)) = data.split_first() else { return };
        let (first, second) = bytes.split_at(bytes.len() * usize::from(cut) / 256);
        let mut state = State::new(1);
        for bytes in [first, second] {
            let Some(edit) = decode(bytes) else { return };
            apply(&mut state, &edit);
        }
    });
}

fn decode(bytes: &[u8]) -> Option<VersionEdit> {
    match VersionEdit::decode(bytes) {
        Ok(edit) => {
            let mut again = Vec::new();
            edit.encode(&mut again);
            assert_eq!(
                VersionEdit::decode(&again).as_ref(),
                Ok(&edit),
                "an edit changes on its way"
            );
            Some(edit)
        }
        Err(DecodeError::Malformed { offset, detail }) => {
            assert!(offset <= bytes.len() && !detail.is_empty());
            None
        }
        Err(DecodeError::UnknownField { tag }) => {
            assert!(tag < 64);
            None
        }
    }
}

fn apply(state: &mut State, edit: &VersionEdit) {
    let before = state.clone();
    if state.apply(edit).is_err() {
        assert_eq!(*state, before, "a refused edit leaves a trace");
        return;
    }
    for keyspace in state.keyspaces.values() {
        keyspace.version.check_invariants().expect("apply keeps the rules of a version");
    }
    if state.check_invariants().is_err() {
        return;
    }
    let mut copy = State::new(state.db_id);
    copy.apply(&state.to_edit()).expect("a snapshot of a state applies");
    assert_eq!(copy, *state, "a snapshot is not the state");
    drop(state.live_files());
}
