use proptest::prelude::*;

use base::SeqNo;

use super::*;
use crate::testing::{added, table};

fn three_levels() -> Version {
    let tables = [
        added(0, 7, table(12, "a", "f")),
        added(0, 7, TableMeta { largest_exclusive: true, ..table(13, "g", "k") }),
        added(0, 9, table(14, "c", "z")),
        added(6, 1, table(3, "k", "m")),
        added(6, 1, table(2, "a", "j")),
    ];
    Version::empty().apply(&tables, &[]).expect("valid")
}

#[test]
fn runs_are_newest_first_and_tables_ascend() {
    let expected = "L0:\n  run 9: 000014[c..z]\n  run 7: 000012[a..f] 000013[g..k)\n\
                    L6:\n  run 1: 000002[a..j] 000003[k..m]\n";
    let version = three_levels();
    assert_eq!(version.to_string(), expected);
    assert_eq!(version.check_invariants(), Ok(()));
    assert_eq!((version.runs_total(), version.tables_total()), (3, 5));
    assert_eq!((version.level_size(6), version.level_size(99)), (500, 0));
    assert_eq!(version.size_bytes(), 4400);
    assert_eq!(
        version.find_file(FileNum(13)).map(|(level, run, _)| (level, run.id.0)),
        Some((0, 7))
    );
    assert!(version.find_file(FileNum(99)).is_none());
    assert!(!version.is_empty() && Version::empty().is_empty());
    let level = &version.levels[0];
    assert_eq!(level.run(RunId(7)).map(|run| (run.tables.len(), run.entries())), Some((2, 250)));
    assert_eq!(level.run(RunId(9)).map(|run| run.size_bytes()), Some(1400));
    assert!(level.run(RunId(8)).is_none());
}

#[test]
fn a_table_moves_when_it_is_removed_and_added_in_one_edit() {
    let version = three_levels();
    let moved = version.apply(&[added(3, 9, table(14, "c", "z"))], &[FileNum(14)]).expect("valid");
    assert_eq!(moved.find_file(FileNum(14)).map(|(level, ..)| level), Some(3));
    assert_eq!(moved.levels[0].runs.len(), 1);
    assert!(
        Arc::ptr_eq(&moved.levels[6].runs[0], &version.levels[6].runs[0]),
        "untouched runs are shared"
    );
}

#[test]
fn an_output_takes_the_place_of_its_inputs_in_a_run() {
    let output = [added(6, 1, table(20, "a", "c")), added(6, 1, table(21, "d", "j"))];
    let next = three_levels().apply(&output, &[FileNum(2), FileNum(14)]).expect("valid");
    let expected = "L0:\n  run 7: 000012[a..f] 000013[g..k)\n\
                    L6:\n  run 1: 000020[a..c] 000021[d..j] 000003[k..m]\n";
    assert_eq!(next.to_string(), expected);
}

#[test]
fn changes_that_do_not_fit_are_refused() {
    let exclusive = |t: TableMeta| TableMeta { largest_exclusive: true, ..t };
    let seqs = TableMeta { seq_max: SeqNo(0), ..table(30, "n", "o") };
    let cases: Vec<(Vec<AddedTable>, Vec<u64>, &str)> = vec![
        (vec![], vec![99], "removed table 000099 is not there"),
        (vec![], vec![12, 12], "table 000012 is removed twice"),
        (vec![added(0, 10, table(12, "a", "b"))], vec![], "000012[a..f] is already there"),
        (
            vec![added(0, 10, table(30, "a", "b")), added(1, 10, table(30, "a", "b"))],
            vec![],
            "added twice",
        ),
        (vec![added(6, 1, table(30, "j", "k"))], vec![], "overlap"),
        (vec![added(6, 1, table(30, "", "z"))], vec![], "overlap"),
        (vec![added(7, 1, table(30, "a", "b"))], vec![], "has level 7"),
        (vec![added(u32::MAX, 1, table(30, "a", "b"))], vec![], "has level 4294967295"),
        (vec![added(0, 1, table(30, "b", "a"))], vec![], "empty key range"),
        (vec![added(0, 1, exclusive(table(30, "b", "b")))], vec![], "empty key range"),
        (vec![added(0, 1, seqs)], vec![], "bad sequence range"),
    ];
    for (added, removed, expected) in cases {
        let removed: Vec<_> = removed.into_iter().map(FileNum).collect();
        let error = three_levels().apply(&added, &removed).expect_err(expected);
        assert!(error.contains(expected), "{error} / {expected}");
    }
}

#[test]
fn a_table_of_one_sequence_number_and_one_up_to_the_last_are_fine() {
    let seqs = |min, max| TableMeta { seq_min: min, seq_max: max, ..table(1, "a", "b") }.check();
    assert_eq!(seqs(SeqNo(5), SeqNo(5)), Ok(()));
    assert_eq!(seqs(SeqNo(0), SeqNo::MAX), Ok(()));
    assert!(seqs(SeqNo(6), SeqNo(5)).is_err());
    assert!(seqs(SeqNo(0), SeqNo(SeqNo::MAX.0 + 1)).is_err());
}

/// Against the keys themselves: those of two letters from `a` to `d`.
#[test]
fn a_table_covers_and_overlaps_as_its_keys_do() {
    let keys: Vec<[u8; 2]> =
        (b'a'..=b'd').flat_map(|x| (b'a'..=b'd').map(move |y| [x, y])).collect();
    let within = |key: &[u8], from: &[u8], to: UpperBound<'_>| {
        from <= key && (key < to.key || key == to.key && !to.exclusive)
    };
    for (from, to, largest_exclusive) in
        [("ab", "cc", false), ("ab", "cc", true), ("bb", "bb", false), ("aa", "dd", false)]
    {
        let table = TableMeta { largest_exclusive, ..table(1, from, to) };
        let inside = |key: &[u8]| within(key, from.as_bytes(), table.upper());
        for lower in &keys {
            assert_eq!(table.covers_key(lower), inside(lower), "{table} {lower:?}");
            for (upper, exclusive) in keys.iter().flat_map(|k| [(k, false), (k, true)]) {
                let upper = UpperBound { key: upper, exclusive };
                let shared = keys.iter().any(|key| inside(key) && within(key, lower, upper));
                assert_eq!(table.overlaps(lower, upper), shared, "{table} {lower:?} {upper:?}");
            }
        }
    }
}

#[test]
fn a_key_at_an_exclusive_end_belongs_to_the_next_table() {
    let left = TableMeta { largest_exclusive: true, ..table(1, "a", "f") };
    let tables = [added(1, 1, left), added(1, 1, table(2, "f", "h"))];
    let version = Version::empty().apply(&tables, &[]).expect("they only touch");
    let run = &version.levels[1].runs[0];
    let find = |key: &[u8]| run.find(key).map(|t| t.file.0);
    assert_eq!([b"a", b"e", b"f", b"h"].map(|k| find(k)), [Some(1), Some(1), Some(2), Some(2)]);
    assert_eq!((find(b""), find(b"i")), (None, None));
}

#[test]
fn an_exclusive_bound_is_below_the_inclusive_one() {
    let mut bounds = [
        UpperBound::inclusive(b"b"),
        UpperBound::exclusive(b"b"),
        UpperBound::inclusive(b"a"),
        UpperBound::exclusive(b"ba"),
    ];
    bounds.sort();
    let shown = bounds.map(|b| (b.key, b.exclusive));
    assert_eq!(shown, [(&b"a"[..], false), (b"b", true), (b"b", false), (b"ba", true)]);
}

#[test]
fn broken_versions_are_noticed() {
    let run = |id, tables: Vec<TableMeta>| {
        Arc::new(Run { id: RunId(id), tables: tables.into_iter().map(Arc::new).collect() })
    };
    let with = |runs: Vec<Arc<Run>>| {
        let mut version = Version::empty();
        version.levels[2].runs = runs;
        version.check_invariants()
    };
    let (a, b) = (table(1, "a", "c"), table(2, "d", "f"));
    assert_eq!(with(vec![run(2, vec![a.clone()]), run(1, vec![b.clone()])]), Ok(()));
    assert!(with(vec![run(1, vec![a.clone()]), run(2, vec![b.clone()])]).is_err());
    assert!(with(vec![run(1, vec![b.clone(), a.clone()])]).is_err());
    assert!(with(vec![run(1, vec![])]).is_err());
    assert!(with(vec![run(2, vec![a.clone()]), run(1, vec![a])]).is_err());
    assert!(Version { levels: vec![] }.check_invariants().is_err());
}

proptest! {
    #[test]
    fn lookups_answer_like_a_walk_over_all_tables(
        mut cuts in prop::collection::btree_set("[a-e]{0,2}", 2..12),
        exclusive: Vec<bool>, keys in prop::collection::vec("[a-f]{0,3}", 8), open: bool,
    ) {
        if cuts.len() % 2 == 1 {
            cuts.pop_last();
        }
        let cuts: Vec<String> = cuts.into_iter().collect();
        let tables: Vec<AddedTable> = cuts.chunks(2).enumerate().map(|(i, c)| {
            let largest_exclusive = exclusive.get(i).copied().unwrap_or(false);
            added(1, 1, TableMeta { largest_exclusive, ..table(i as u64 + 1, &c[0], &c[1]) })
        }).collect();
        let version = Version::empty().apply(&tables, &[]).expect("disjoint");
        let run = &version.levels[1].runs[0];
        for pair in keys.windows(2) {
            let key = pair[0].as_bytes();
            let walked = run.tables.iter().find(|t| t.covers_key(key));
            prop_assert_eq!(run.find(key), walked);
            let upper = UpperBound { key: pair[1].as_bytes(), exclusive: open };
            let walked: Vec<_> = run.tables.iter().filter(|t| t.overlaps(key, upper)).cloned().collect();
            prop_assert_eq!(run.overlapping(key, upper), &walked[..]);
        }
    }
}
