//! Data blocks and index blocks.

use crate::damage::edit;
use crate::source::Source;
use base::{InternalKey, SeqNo, ValueKind};
use sstable::fuzzing::{DataBlock, IndexRow, Row, decode_index, encode_block, encode_index};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Bytes as a data block, or entries that make one, which is then damaged or not.
pub fn data_block(data: &[u8]) {
    crate::cap::decoding(data, || {
        let mut source = Source::new(data);
        let selector = source.u8();
        if selector & 1 == 0 {
            return check_block(source.rest(), &[]);
        }
        let rows = any_rows(&mut source, 40);
        let mut bytes = encode_block(&rows, 1 + source.below(20));
        if rows.is_empty() {
            return;
        }
        if selector & 2 == 0 {
            return check_block(&bytes, &rows);
        }
        let end = bytes.len();
        let edits = 1 + source.below(4);
        edit(&mut source, &mut bytes, 0..end, edits, 9);
        check_block(&bytes, &[]);
    });
}

/// Up to `max` entries in the order of tables.
pub(crate) fn any_rows(source: &mut Source<'_>, max: usize) -> Vec<Row> {
    let mut rows = BTreeMap::new();
    for _ in 0..source.below(max) {
        let key = any_key(source);
        let seq = u64::from(source.u8()) >> 3;
        let seq = if source.u8().is_multiple_of(16) { SeqNo::MAX.0 - seq } else { seq };
        let put = !source.u8().is_multiple_of(4);
        let len = if put { usize::from(source.u8()) % 64 } else { 0 };
        let len = if len == 63 { 5000 } else { len };
        let kind = if put { ValueKind::Put } else { ValueKind::Delete };
        rows.insert((key, std::cmp::Reverse(seq)), (kind, vec![seq as u8 | 1; len]));
    }
    let row = |((key, seq), (kind, value)): ((Vec<u8>, std::cmp::Reverse<u64>), _)| Row {
        key,
        seq: SeqNo(seq.0),
        kind,
        value,
    };
    rows.into_iter().map(row).collect()
}

/// Keys that share much and differ late.
pub(crate) fn any_key(source: &mut Source<'_>) -> Vec<u8> {
    const STEMS: [&[u8]; 5] = [b"", b"k", b"key/of/some/length/", &[0xff; 9], &[0; 130]];
    let stem = source.pick(&STEMS);
    let len = source.below(4);
    [stem, source.take(len)].concat()
}

/// `expected` is empty if the block may be anything.
fn check_block(bytes: &[u8], expected: &[Row]) {
    let block = match DataBlock::parse(bytes) {
        Ok(block) => block,
        Err(detail) => return assert!(expected.is_empty(), "{detail}"),
    };
    let forward = block.forward().expect("a parsed block walks forward");
    let mut backward = block.backward().expect("a parsed block walks backward");
    backward.reverse();
    assert_eq!(forward, backward, "the directions differ");
    assert_eq!(forward.len(), block.len());
    assert!(expected.is_empty() || forward == expected, "the block is not what was put in");
    let sorted = forward.windows(2).all(|w| order(&w[0], &w[1]) == Ordering::Less);
    for row in forward.iter().take(64) {
        check_lookups(&block, &forward, row, sorted, !expected.is_empty());
    }
    if let Some(row) = forward.first() {
        let missing = Row { key: [&row.key[..], b"?"].concat(), ..row.clone() };
        check_lookups(&block, &forward, &missing, sorted, !expected.is_empty());
    }
}

fn key_of(row: &Row) -> InternalKey<'_> {
    InternalKey::new(&row.key, row.seq, row.kind)
}

fn order(a: &Row, b: &Row) -> Ordering {
    key_of(a).cmp(&key_of(b))
}

fn check_lookups(block: &DataBlock, rows: &[Row], row: &Row, sorted: bool, sound: bool) {
    let found = block.get(&row.key, row.seq).expect("a parsed block answers");
    let lower = block.lower_bound(key_of(row)).expect("a parsed block answers");
    let upper = block.upper_bound(key_of(row)).expect("a parsed block answers");
    let sought = block.seek(key_of(row)).expect("a parsed block answers");
    assert!(lower <= rows.len() && upper <= rows.len() && sought <= rows.len());
    if !sorted {
        return;
    }
    assert_eq!(lower, rows.partition_point(|r| order(r, row) == Ordering::Less));
    assert_eq!(upper, rows.partition_point(|r| order(r, row) != Ordering::Greater));
    if sound {
        let newest = rows.iter().find(|r| r.key == row.key && r.seq <= row.seq);
        assert_eq!(found, newest.map(|r| (r.seq, r.kind, r.value.clone())), "lookup of {row:?}");
        assert_eq!(sought, lower);
    }
}

/// Bytes as an index block, or separators that make one, which is then damaged or not.
pub fn index_block(data: &[u8]) {
    crate::cap::decoding(data, || {
        let mut source = Source::new(data);
        let selector = source.u8();
        if selector & 1 == 0 {
            let first = u64::from(source.u8());
            return check_index(source.rest(), first, &[]);
        }
        let first = source.number() >> 8;
        let rows = any_separators(&mut source);
        let mut bytes = encode_index(first, &rows);
        if selector & 2 == 0 {
            return check_index(&bytes, first, &rows);
        }
        let end = bytes.len();
        let edits = 1 + source.below(4);
        edit(&mut source, &mut bytes, 0..end, edits, 9);
        check_index(&bytes, first, &[]);
    });
}

fn any_separators(source: &mut Source<'_>) -> Vec<IndexRow> {
    let mut rows = BTreeMap::new();
    for _ in 0..source.below(40) {
        let key = any_key(source);
        let seq = u64::from(source.u8() % 4);
        let trailer = if seq == 0 { 0 } else { seq << 8 | 1 };
        rows.insert((key, std::cmp::Reverse(trailer)), 20 + u64::from(source.u16()));
    }
    let row = |((key, trailer), len): ((Vec<u8>, std::cmp::Reverse<u64>), u64)| IndexRow {
        key,
        trailer: trailer.0,
        offset: 0,
        len,
    };
    rows.into_iter().map(row).collect()
}

fn check_index(bytes: &[u8], first: u64, expected: &[IndexRow]) {
    let Some(index) = decode_index(bytes, first) else {
        return assert!(expected.is_empty(), "own bytes do not decode");
    };
    let rows = index.rows();
    let mut next = first;
    for row in &rows {
        assert_eq!(row.offset, next, "blocks follow one another");
        next = row.offset + row.len + 5;
    }
    let place = |row: &IndexRow| (row.key.clone(), std::cmp::Reverse(row.trailer));
    assert!(rows.windows(2).all(|w| place(&w[0]) < place(&w[1])), "separators do not ascend");
    let bare = |row: &IndexRow| (row.key.clone(), row.trailer, row.len);
    assert!(expected.is_empty() || rows.iter().map(bare).eq(expected.iter().map(bare)));
    for row in rows.iter().take(64) {
        for (key, seq) in [(&row.key[..], 0), (&row.key[..], 2), (&row.key[..row.key.len() / 2], 1)]
        {
            let target = InternalKey::new(key, SeqNo(seq), ValueKind::Put);
            let naive = rows.iter().position(|r| {
                r.key.as_slice().cmp(key).then(target.trailer().cmp(&r.trailer)) != Ordering::Less
            });
            assert_eq!(index.find(target), naive.unwrap_or(rows.len()), "search for {target:?}");
        }
    }
}
