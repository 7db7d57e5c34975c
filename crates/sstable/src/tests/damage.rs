//! Whatever happens to the bytes: right answers or `Corruption`, and `verify` sees it.

use super::*;
use crate::footer::FOOTER_LEN;

/// Every answer of the table in `bytes` is right or a corruption error; `verify` must find damage.
/// Returns whether open refused.
fn check_damaged(bytes: Vec<u8>, rows: &[Row], tombstones: &Fragments, what: &str) -> bool {
    let table = match open_bytes(bytes) {
        Ok(table) => table,
        Err(e) => {
            assert!(e.is_corruption(), "{what}: {e:?}");
            return true;
        }
    };
    let found = table.verify();
    assert!(found.as_ref().is_err_and(Error::is_corruption), "{what}: verify says {found:?}");
    assert_eq!(&**table.range_tombstones(), tombstones, "{what}");
    for (key, seq, kind, value) in rows.iter().step_by(3) {
        match get(&table, key, *seq) {
            Ok(found) => assert_eq!(found, Some((*seq, *kind, value.clone())), "{what}"),
            Err(e) => assert!(e.is_corruption(), "{what}: {e:?}"),
        }
    }
    match get(&table, b"key07/absent", 1000) {
        Ok(found) => assert_eq!(found, None, "{what}"),
        Err(e) => assert!(e.is_corruption(), "{what}: {e:?}"),
    }
    for (forward, hint) in [(true, CacheHint::Fill), (false, CacheHint::NoFill)] {
        let (mut met, error) = walk(&table, forward, hint);
        let right = if forward { &rows[..met.len()] } else { &rows[rows.len() - met.len()..] };
        if !forward {
            met.reverse();
        }
        assert_eq!(met, right, "{what}");
        match error {
            Some(e) => assert!(e.is_corruption(), "{what}: {e:?}"),
            None => assert_eq!(met.len(), rows.len(), "{what}"),
        }
    }
    false
}

#[test]
fn every_changed_byte_is_noticed() {
    let (rows, tombstones) = (sample_rows(), sample_tombstones());
    for compression in [Compression::None, Compression::Lz4] {
        let sound = sample_table(compression);
        let mut opened = 0;
        for at in 0..sound.len() {
            let old = sound[at];
            let flips = (0..8).map(|bit| old ^ 1 << bit);
            for new in flips.chain([0, 0xff, old.wrapping_add(1)]).filter(|&new| new != old) {
                let mut bytes = sound.clone();
                bytes[at] = new;
                let what = format!("{compression:?} byte {at}: {old:#x} -> {new:#x}");
                opened += u64::from(!check_damaged(bytes, &rows, &tombstones, &what));
            }
        }
        assert!(opened > 1000, "damage to data must not keep a table from opening");
    }
}

#[test]
fn truncated_and_extended_files_are_refused() {
    let sound = sample_table(Compression::Lz4);
    for len in 0..sound.len() {
        let e = open_bytes(sound[..len].to_vec()).expect_err("truncated");
        assert!(e.is_corruption(), "len={len}: {e:?}");
    }
    for more in [1, 7, FOOTER_LEN, 5000] {
        let e = open_bytes([&sound[..], &vec![0; more]].concat()).expect_err("extended");
        assert!(e.is_corruption(), "more={more}: {e:?}");
    }
    let footer = &sound[sound.len() - FOOTER_LEN..];
    assert!(open_bytes([&sound[..], footer].concat()).expect_err("two footers").is_corruption());
}

#[test]
fn zeroed_stretches_are_noticed() {
    let (rows, tombstones) = (sample_rows(), sample_tombstones());
    let sound = sample_table(Compression::None);
    for start in (0..sound.len()).step_by(100) {
        let mut bytes = sound.clone();
        let end = bytes.len().min(start + 100);
        bytes[start..end].fill(0);
        check_damaged(bytes, &rows, &tombstones, &format!("zeros from {start}"));
    }
}

#[test]
fn a_table_is_not_mistaken_for_another() {
    let (rows, tombstones) = (sample_rows(), sample_tombstones());
    let (bytes, _) = write_rows(&rows, &tombstones, &TableOptions::default(), ID + 1);
    let e = open_bytes(bytes).expect_err("other id");
    assert!(e.is_corruption() && e.to_string().contains("another table"), "{e}");
}

#[test]
fn blocks_do_not_answer_from_another_place() {
    let tombstones = Fragments::default();
    let row = |n: u32| (format!("k{n:03}").into_bytes(), 9, ValueKind::Put, vec![n as u8; 40]);
    let rows: Vec<Row> = (0..40).map(row).collect();
    let options = small_options(Compression::None);
    let (bytes, _) = write_rows(&rows, &tombstones, &options, ID);
    let (other, _) = write_rows(&rows, &tombstones, &options, ID + 1);
    let table = open_bytes(bytes.clone()).expect("sound");
    let index = table.index().expect("sound");
    let range = |i: usize| {
        let handle = index.handle(i).expect("block");
        handle.offset as usize..handle.end() as usize
    };
    assert_eq!(range(1).len(), range(2).len());
    let mut swapped = bytes.clone();
    swapped[range(1)].copy_from_slice(&bytes[range(2)]);
    swapped[range(2)].copy_from_slice(&bytes[range(1)]);
    assert!(!check_damaged(swapped, &rows, &tombstones, "swapped blocks"));
    let mut foreign = bytes.clone();
    foreign[range(1)].copy_from_slice(&other[range(1)]);
    assert!(!check_damaged(foreign, &rows, &tombstones, "block of another file"));
}

#[test]
fn a_damaged_filter_means_maybe() {
    let mut bytes = sample_table(Compression::Lz4);
    let filter = open_bytes(bytes.clone()).expect("sound").footer().filter;
    bytes[filter.offset as usize + 3] ^= 0x40;
    let table = open_bytes(bytes).expect("the filter is not needed");
    assert!(table.may_contain(0) && table.may_contain(u64::MAX));
    for (key, seq, kind, value) in sample_rows() {
        assert_eq!(get(&table, &key, seq).expect("readable"), Some((seq, kind, value)));
    }
    let e = table.verify().expect_err("damaged");
    assert!(matches!(e, Error::Corruption { offset, .. } if offset == filter.offset), "{e:?}");
}

#[test]
fn failed_reads_are_errors_and_pass() {
    let file = Bytes::new(sample_table(Compression::Lz4));
    let rows = sample_rows();
    for cache_bytes in [0, 1 << 20] {
        for reads in 0..40 {
            file.reads_left.store(u64::MAX, Ordering::SeqCst);
            let table = open_file(Arc::clone(&file), cache_bytes).expect("sound");
            file.reads_left.store(reads, Ordering::SeqCst);
            for (forward, hint) in
                [(true, CacheHint::Fill), (false, CacheHint::Fill), (true, CacheHint::NoFill)]
            {
                let mut it = table.iter(hint);
                let mut step = if forward { it.seek_to_first() } else { it.seek_to_last() };
                while step.is_ok() && it.valid() {
                    step = if forward { it.next() } else { it.prev() };
                }
                if step.is_err() {
                    file.reads_left.store(u64::MAX, Ordering::SeqCst);
                    it.next().expect("stays where it is");
                    assert!(!it.valid(), "an iterator does not go on after an error");
                    it.prev().expect("stays where it is");
                    assert!(!it.valid(), "an iterator does not go on after an error");
                    let (key, seq, kind, _) = &rows[50];
                    it.seek(InternalKey::new(key, SeqNo(*seq), *kind)).expect("readable again");
                    assert!(it.valid() && it.key().user_key == key);
                    file.reads_left.store(reads, Ordering::SeqCst);
                }
            }
            file.reads_left.store(0, Ordering::SeqCst);
            drop(get(&table, &rows[3].0, 1000).inspect_err(|e| assert!(!e.is_corruption())));
            file.reads_left.store(u64::MAX, Ordering::SeqCst);
            for (key, seq, kind, value) in &rows {
                assert_eq!(
                    get(&table, key, *seq).expect("readable"),
                    Some((*seq, *kind, value.clone()))
                );
            }
        }
    }
}
