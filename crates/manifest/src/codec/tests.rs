use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::testing::{added, keyspace, table};

fn full_edit() -> VersionEdit {
    VersionEdit {
        next_file: Some(FileNum(300)),
        next_keyspace: Some(KeyspaceId(2)),
        next_run: Some(RunId(9)),
        last_seq: Some(SeqNo(1000)),
        segments_added: vec![FileNum(12)],
        segments_closed: vec![ClosedSegment {
            num: FileNum(11),
            end_offset: 4096,
            end_lsn: 8192,
            chain: 0xdead_beef,
        }],
        segments_removed: vec![FileNum(10)],
        next_lsn: Some(8192),
        keyspaces_created: vec![keyspace(1, "users")],
        keyspaces_dropped: vec![KeyspaceId(5)],
        options_changed: vec![(KeyspaceId(0), b"new".to_vec())],
        tables: vec![TableChanges {
            keyspace: KeyspaceId(0),
            added: vec![added(1, 8, TableMeta { largest_exclusive: true, ..table(20, "a", "f") })],
            removed: vec![FileNum(19)],
            flushed_seq: Some(SeqNo(25)),
        }],
    }
}

fn encoded(edit: &VersionEdit) -> Vec<u8> {
    let mut bytes = Vec::new();
    edit.encode(&mut bytes);
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn golden_bytes() {
    let golden = concat!(
        "0102ac02",
        "020102",
        "030109",
        "0402e807",
        "05010c",
        "06090b80208040efbeadde",
        "07010a",
        "08028040",
        "090c01057573657273046f707473",
        "0a0105",
        "0b0500036e6577",
        "0c2600",
        "011d0108140700000014000000d00fc8011400f02e01610166011419d4843d",
        "020113",
        "030119",
    );
    assert_eq!(hex(&encoded(&full_edit())), golden);
    assert_eq!(VersionEdit::decode(&encoded(&full_edit())), Ok(full_edit()));
}

#[test]
fn an_empty_edit_has_no_bytes() {
    assert_eq!(encoded(&VersionEdit::default()), b"");
    assert_eq!(VersionEdit::decode(b""), Ok(VersionEdit::default()));
}

#[test]
fn fields_of_newer_versions_are_skipped_or_refused_by_their_tag() {
    for (tag, known) in [(13, false), (63, false), (64, true), (1 << 40, true)] {
        let mut bytes = encoded(&full_edit());
        put_field(&mut bytes, tag, |p| p.extend_from_slice(b"later"));
        let expected = if known { Ok(full_edit()) } else { Err(DecodeError::UnknownField { tag }) };
        assert_eq!(VersionEdit::decode(&bytes), expected, "tag {tag}");
    }
}

#[test]
fn parts_of_an_edit_grow_by_the_same_rule() {
    type Encode = fn(&mut Vec<u8>);
    let parts: [(u64, Encode); 4] = [
        (tag::SEGMENT_CLOSED, |p| encode_closed(p, &full_edit().segments_closed[0])),
        (tag::KEYSPACE_CREATED, |p| p.extend_from_slice(b"\x01\x01a\x00")),
        (tag::OPTIONS_CHANGED, |p| p.extend_from_slice(b"\x01\x01a")),
        (tag::TABLE_CHANGES, |p| {
            p.push(0);
            put_field(p, tag::TABLE_ADDED, |p| {
                encode_added(p, &full_edit().tables[0].added[0]);
                put_field(p, 70, |p| p.push(1));
            });
        }),
    ];
    for (tag, encode) in parts {
        let with = |extra: Option<u64>| {
            let mut bytes = Vec::new();
            put_field(&mut bytes, tag, |p| {
                encode(p);
                extra.iter().for_each(|&extra| put_field(p, extra, |p| p.push(0)));
            });
            VersionEdit::decode(&bytes)
        };
        let plain = with(None);
        assert!(plain.is_ok(), "{plain:?}");
        assert_eq!(with(Some(64)), plain);
        assert_eq!(with(Some(63)), Err(DecodeError::UnknownField { tag: 63 }));
    }
}

#[test]
fn a_counter_given_twice_is_refused() {
    let one = encoded(&VersionEdit { next_lsn: Some(1), ..VersionEdit::default() });
    assert!(VersionEdit::decode(&one.repeat(2)).is_err());
}

fn any_table() -> impl Strategy<Value = TableMeta> {
    (any::<[u64; 10]>(), any::<Vec<u8>>(), any::<Vec<u8>>(), any::<bool>()).prop_map(
        |(n, smallest, largest, largest_exclusive)| TableMeta {
            file: FileNum(n[0]),
            table_id: n[1],
            size_bytes: n[2],
            entries: n[3],
            deletes: n[4],
            range_tombstones: n[5],
            raw_bytes: n[6],
            smallest,
            largest,
            largest_exclusive,
            seq_min: SeqNo(n[7]),
            seq_max: SeqNo(n[8]),
            created_micros: n[9],
        },
    )
}

fn any_changes() -> impl Strategy<Value = TableChanges> {
    let added = (any::<u32>(), any::<u64>(), any_table())
        .prop_map(|(level, run, table)| AddedTable { level, run: RunId(run), table });
    (any::<u32>(), vec(added, 0..4), vec(any::<u64>(), 0..4), option::of(any::<u64>())).prop_map(
        |(id, added, removed, flushed)| TableChanges {
            keyspace: KeyspaceId(id),
            added,
            removed: removed.into_iter().map(FileNum).collect(),
            flushed_seq: flushed.map(SeqNo),
        },
    )
}

fn any_edit() -> impl Strategy<Value = VersionEdit> {
    let files = || vec(any::<u64>().prop_map(FileNum), 0..4);
    let closed = any::<(u64, u64, u64, u32)>().prop_map(|(num, end_offset, end_lsn, chain)| {
        ClosedSegment { num: FileNum(num), end_offset, end_lsn, chain }
    });
    let created = any::<(u32, String, Vec<u8>)>().prop_map(|(id, name, options)| NewKeyspace {
        id: KeyspaceId(id),
        name,
        options,
    });
    let ids = vec(any::<u32>().prop_map(KeyspaceId), 0..4);
    let changed = any::<(u32, Vec<u8>)>().prop_map(|(id, options)| (KeyspaceId(id), options));
    let counters = any::<(Option<u64>, Option<u32>, Option<u64>, Option<u64>, Option<u64>)>();
    let segments = (files(), vec(closed, 0..4), files());
    let keyspaces = (vec(created, 0..4), ids, vec(changed, 0..4));
    (counters, segments, keyspaces, vec(any_changes(), 0..4)).prop_map(
        |(counters, segments, keyspaces, tables)| VersionEdit {
            next_file: counters.0.map(FileNum),
            next_keyspace: counters.1.map(KeyspaceId),
            next_run: counters.2.map(RunId),
            last_seq: counters.3.map(SeqNo),
            segments_added: segments.0,
            segments_closed: segments.1,
            segments_removed: segments.2,
            next_lsn: counters.4,
            keyspaces_created: keyspaces.0,
            keyspaces_dropped: keyspaces.1,
            options_changed: keyspaces.2,
            tables,
        },
    )
}

proptest! {
    #[test]
    fn edits_round_trip(edit in any_edit()) {
        prop_assert_eq!(VersionEdit::decode(&encoded(&edit)), Ok(edit));
    }

    #[test]
    fn changed_bytes_decode_without_panic(edit in any_edit(), at: usize, to: u8, cut: usize) {
        let mut bytes = encoded(&edit);
        if !bytes.is_empty() {
            let (at, cut) = (at % bytes.len(), cut % bytes.len());
            bytes[at] = to;
            drop(VersionEdit::decode(&bytes));
            drop(VersionEdit::decode(&bytes[..cut]));
        }
    }

    #[test]
    fn any_bytes_decode_without_panic(bytes: Vec<u8>) {
        if let Ok(edit) = VersionEdit::decode(&bytes) {
            prop_assert_eq!(VersionEdit::decode(&encoded(&edit)), Ok(edit));
        }
    }
}
