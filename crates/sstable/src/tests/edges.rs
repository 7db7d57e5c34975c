//! The smallest, the largest, the most of a kind.

use super::*;
use base::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

fn check_all(rows: &[Row], options: &TableOptions) -> Arc<TableReader> {
    let (bytes, summary) = write_rows(rows, &Fragments::default(), options, ID);
    assert_eq!(summary.size_bytes, bytes.len() as u64);
    let table = open_file(Bytes::new(bytes), 1 << 20).expect("sound");
    assert_eq!(table.verify().expect("sound").entries, rows.len() as u64);
    assert!(rows_of(&table, true, CacheHint::Fill) == rows);
    let mut backward = walk(&table, false, CacheHint::NoFill).0;
    backward.reverse();
    assert!(backward == rows);
    for (key, seq, kind, value) in rows {
        assert!(get(&table, key, *seq).expect("readable") == Some((*seq, *kind, value.clone())));
    }
    table
}

fn put(key: &[u8], seq: u64, value: &[u8]) -> Row {
    (key.to_vec(), seq, ValueKind::Put, value.to_vec())
}

#[test]
fn empty_and_longest_keys_and_values() {
    let long = vec![b'k'; KEY_BYTES_MAX];
    let rows = [
        put(b"", SeqNo::MAX.0, b""),
        put(b"", 0, b"x"),
        put(&[0], 1, b""),
        put(&long[1..], 2, &[7; 100_000]),
        put(&long, 3, b"v"),
        put(&long, 2, b"u"),
        put(&[0xff; KEY_BYTES_MAX], 3, b""),
    ];
    for compression in [Compression::None, Compression::Lz4] {
        for block_size_bytes in [64, 4096, 1 << 20] {
            check_all(
                &rows,
                &TableOptions { compression, block_size_bytes, ..TableOptions::default() },
            );
        }
    }
}

#[test]
fn a_value_of_the_largest_size() {
    let mut noise = vec![0u8; VALUE_BYTES_MAX];
    let mut rng = base::rng::Rng::new(1);
    for chunk in noise.chunks_mut(8) {
        chunk.copy_from_slice(&rng.next_u64().to_le_bytes()[..chunk.len()]);
    }
    let rows = [
        put(b"a", 1, b"small"),
        put(b"b", 1, &noise),
        put(b"c", 1, &vec![0; VALUE_BYTES_MAX]),
        put(b"d", 1, b""),
    ];
    let (bytes, _) = write_rows(&rows, &Fragments::default(), &TableOptions::default(), ID);
    let table = open_bytes(bytes).expect("sound");
    assert!(walk(&table, true, CacheHint::NoFill).0 == rows);
    assert!(
        get(&table, b"c", 9).expect("readable").is_some_and(|(_, _, v)| v.len() == VALUE_BYTES_MAX)
    );
    let fs = MemFs::new();
    let mut writer =
        TableWriter::create(&fs, Path::new(PATH), ID, TableOptions::default()).expect("create");
    let too_long = vec![0; VALUE_BYTES_MAX + 1];
    assert!(writer.add(InternalKey::new(b"a", SeqNo(1), ValueKind::Put), &too_long).is_err());
    assert!(
        writer
            .add(InternalKey::new(&too_long[..KEY_BYTES_MAX + 1], SeqNo(1), ValueKind::Put), b"")
            .is_err()
    );
    assert!(writer.is_empty());
}

#[test]
fn versions_of_one_key_over_many_blocks() {
    let versions = 3000u64;
    let mut rows = vec![put(b"jjj", 5, b"before")];
    rows.extend((0..versions).rev().map(|v| put(b"key", 2 * v + 1, &v.to_le_bytes())));
    rows.push(put(b"kez", 5, b"after"));
    for block_size_bytes in [64, 500, 4096, 100_000] {
        let table = check_all(&rows, &TableOptions { block_size_bytes, ..TableOptions::default() });
        for snapshot in 0..2 * versions {
            let found = get(&table, b"key", snapshot).expect("readable").map(|(seq, ..)| seq);
            let right =
                (snapshot > 0).then(|| if snapshot % 2 == 1 { snapshot } else { snapshot - 1 });
            assert_eq!(found, right, "snapshot={snapshot}");
        }
    }
}

#[test]
fn blocks_of_more_entries_than_tags_or_narrow_offsets() {
    let rows: Vec<Row> =
        (0..30_000u32).map(|n| put(&n.to_be_bytes(), 1, &[1; 9][..n as usize % 10])).collect();
    let options = TableOptions {
        block_size_bytes: 1 << 20,
        restart_interval: 100,
        ..TableOptions::default()
    };
    check_all(&rows, &options);
    check_all(&rows[..2048], &options);
    check_all(&rows[..2049], &options);
}

#[test]
fn tables_without_entries() {
    let (bytes, summary) = write_rows(&[], &Fragments::default(), &TableOptions::default(), ID);
    let table = open_bytes(bytes).expect("sound");
    assert_eq!((summary.entries, summary.seq_min, summary.seq_max), (0, SeqNo(0), SeqNo(0)));
    assert_eq!(table.verify().expect("sound").entries, 0);
    assert_eq!(rows_of(&table, true, CacheHint::Fill), vec![]);
    assert_eq!(rows_of(&table, false, CacheHint::Fill), vec![]);
    assert_eq!(get(&table, b"", 1).expect("readable"), None);
    assert_eq!(table.approximate_offset(b"x"), 0);

    let (bytes, summary) = write_rows(&[], &sample_tombstones(), &TableOptions::default(), ID);
    let table = open_bytes(bytes).expect("sound");
    table.verify().expect("sound");
    assert_eq!(
        (&summary.smallest[..], &summary.largest[..], summary.largest_exclusive),
        (&b"a"[..], &b"zz"[..], true)
    );
    assert_eq!((summary.seq_min, summary.seq_max), (SeqNo(7), SeqNo(400)));
    assert_eq!(&**table.range_tombstones(), &sample_tombstones());
}

#[test]
fn bounds_cover_entries_and_tombstones() {
    let summary = |rows: &[Row]| {
        let s = write_rows(rows, &sample_tombstones(), &TableOptions::default(), ID).1;
        (s.smallest, s.largest, s.largest_exclusive)
    };
    assert_eq!(summary(&[put(b"b", 1, b"")]), (b"a".to_vec(), b"zz".to_vec(), true));
    assert_eq!(summary(&[put(b"", 1, b""), put(b"zz", 1, b"")]), (vec![], b"zz".to_vec(), false));
    assert_eq!(
        summary(&[put(b"b", 1, b""), put(b"zzz", 1, b"")]),
        (b"a".to_vec(), b"zzz".to_vec(), false)
    );
}

#[test]
fn entries_out_of_place_are_refused_and_the_writer_goes_on() {
    let fs = MemFs::new();
    let mut writer =
        TableWriter::create(&fs, Path::new(PATH), ID, TableOptions::default()).expect("create");
    let mut add = |key: &[u8], seq, kind| writer.add(InternalKey::new(key, SeqNo(seq), kind), b"");
    add(b"b", 5, ValueKind::Put).expect("first");
    for (key, seq, kind) in [
        (&b"a"[..], 9, ValueKind::Put),
        (b"b", 5, ValueKind::Put),
        (b"b", 6, ValueKind::Put),
        (b"c", 1, ValueKind::RangeDelete),
        (b"c", SeqNo::MAX.0 + 1, ValueKind::Put),
    ] {
        let e = add(key, seq, kind).expect_err("out of place");
        assert!(matches!(e, Error::InvalidArgument { .. }), "{e:?}");
    }
    add(b"b", 5, ValueKind::Delete).expect("older kind of the same number");
    add(b"b", 4, ValueKind::Put).expect("older");
    assert_eq!(writer.entries(), 3);
    writer.add_range_tombstones(&Fragments::default()).expect("once");
    assert!(writer.add_range_tombstones(&Fragments::default()).is_err());
    writer.finish().expect("finish");
}

#[test]
fn offsets_grow_with_keys() {
    let rows: Vec<Row> =
        (0..1000u32).map(|n| put(format!("{n:04}").as_bytes(), 1, &[n as u8; 50])).collect();
    let options = TableOptions { compression: Compression::None, ..TableOptions::default() };
    let table = check_all(&rows, &options);
    let offsets: Vec<u64> = rows.iter().map(|(key, ..)| table.approximate_offset(key)).collect();
    assert!(offsets.is_sorted() && offsets[0] == 0);
    assert!(offsets[999] > 50_000 && table.approximate_offset(b"x") >= offsets[999]);
    assert!(table.memory_bytes() > 1000);
}
