//! Damaged tables give what they can, and say what they cannot.

use super::*;
use crate::{LostBlocks, TableRemains};

fn file_of(bytes: &[u8]) -> Arc<dyn RandomAccessFile> {
    Bytes::new(bytes.to_vec())
}

/// What a walk over the remains gives: the rows, and the stretches lost.
fn walk(bytes: &[u8], entries: Option<u64>) -> (Vec<Row>, Vec<LostBlocks>, TableRemains) {
    let mut remains = TableRemains::open(file_of(bytes), Path::new(PATH), Some(ID), entries);
    let (mut rows, mut lost) = (Vec::new(), Vec::new());
    loop {
        remains.advance(&mut |l| lost.push(l));
        if !remains.valid() {
            return (rows, lost, remains);
        }
        let key = remains.key();
        rows.push((key.user_key.to_vec(), key.seq.0, key.kind, remains.value().to_vec()));
    }
}

fn is_lost(lost: &[LostBlocks], key: &[u8]) -> bool {
    lost.iter().any(|l| {
        l.lower.as_deref().is_none_or(|lower| lower <= key)
            && l.upper.as_deref().is_none_or(|upper| key <= upper)
    })
}

#[test]
fn a_whole_table_comes_back_whole() {
    let rows = sample_rows();
    let bytes = sample_table(Compression::Lz4);
    let (found, lost, remains) = walk(&bytes, None);
    assert_eq!(found, rows);
    assert!(lost.is_empty() && remains.damage().is_none(), "{lost:?}");
    assert_eq!(remains.range_tombstones(), Some(&sample_tombstones()));
    assert_eq!(remains.entries_read(), rows.len() as u64);
}

#[test]
fn every_damaged_byte_loses_only_what_is_told() {
    let rows = sample_rows();
    for compression in [Compression::None, Compression::Lz4] {
        let bytes = sample_table(compression);
        let mut free = 0;
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0x20;
            let (found, lost, remains) = walk(&bad, Some(rows.len() as u64));
            assert!(found.iter().all(|row| rows.contains(row)), "byte {at}: invented");
            let missing = rows.iter().filter(|row| !found.contains(row));
            for row in missing {
                assert!(is_lost(&lost, &row.0), "byte {at}: {row:?} {lost:?}");
            }
            let tombstones = remains.range_tombstones();
            assert!(tombstones.is_none_or(|t| *t == sample_tombstones()), "byte {at}");
            free += usize::from(lost.is_empty());
            assert!(lost.len() <= 1, "byte {at}: {lost:?}");
        }
        // Index, filter, properties, range tombstones, footer: the blocks are found without them.
        let data = open_bytes(bytes.clone()).expect("whole").properties().data_bytes as usize;
        assert_eq!(free, bytes.len() - data, "{compression:?}");
    }
}

#[test]
fn a_cut_table_gives_the_blocks_before_the_cut() {
    let rows = sample_rows();
    let bytes = sample_table(Compression::Lz4);
    let mut last = 0;
    for len in (0..bytes.len()).step_by(7) {
        let (found, lost, _) = walk(&bytes[..len], Some(rows.len() as u64));
        assert_eq!(found, rows[..found.len()], "cut to {len}");
        assert_eq!(lost.is_empty(), found.len() == rows.len(), "cut to {len}: {lost:?}");
        assert!(found.len() >= last, "cut to {len}");
        assert!(rows[found.len()..].iter().all(|row| is_lost(&lost, &row.0)), "cut to {len}");
        last = found.len();
    }
    assert_eq!(last, rows.len());
}

#[test]
fn without_an_id_and_a_footer_all_is_lost() {
    let bytes = sample_table(Compression::None);
    let path = Path::new(PATH);
    let mut remains = TableRemains::open(file_of(&bytes[..bytes.len() - 1]), path, None, None);
    let mut lost = Vec::new();
    remains.advance(&mut |l| lost.push(l));
    assert!(!remains.valid());
    assert!(is_lost(&lost, b"") && is_lost(&lost, b"\xff"), "{lost:?}");
    let remains = TableRemains::open(file_of(&bytes), path, None, None);
    assert!(remains.damage().is_none(), "the footer tells the id");
}
