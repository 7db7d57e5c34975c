//! Trees and searches against maps.

use super::*;
use crate::codec::message::{Compared, EntryDigest, RangeDigest};
use crate::codec::wire::Wire;
use crate::transport::Failure;
use base::Slice;
use base::checksum::xxh3_64;
use base::rng::Rng;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ops::Bound;

type Map = BTreeMap<Vec<u8>, u128>;

/// What a replica stores; counts what is read of it.
#[derive(Clone)]
struct Store {
    map: Map,
    read: u64,
    largest_read: u64,
}

impl Store {
    fn new(map: &Map) -> Store {
        Store { map: map.clone(), read: 0, largest_read: 0 }
    }

    fn between(&self, span: &Span) -> Vec<EntryDigest> {
        let end = span.end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let range = self.map.range::<[u8], _>((Bound::Included(&span.start[..]), end));
        range
            .map(|(key, print)| EntryDigest { key: Slice::from(&key[..]), fingerprint: *print })
            .collect()
    }
}

impl Source for Store {
    fn entries(&mut self, span: &Span) -> Result<Vec<EntryDigest>, Failure> {
        let entries = self.between(span);
        self.read += entries.len() as u64;
        self.largest_read = self.largest_read.max(entries.len() as u64);
        Ok(entries)
    }
}

fn print_of(n: u64) -> u128 {
    u128::from(xxh3_64(&n.to_le_bytes())) << 64 | u128::from(xxh3_64(&(!n).to_le_bytes()))
}

/// Counts all that is not counted, `step` entries at a time.
fn count(tree: &mut Tree, store: &Store, step: usize) {
    while let Some(mut span) = tree.next_to_count(&|_| false) {
        let mut entries = store.between(&span);
        if entries.len() > step {
            span.end = Some(entries[step].key.clone());
            entries.truncate(step);
        }
        tree.count(&span, &entries);
    }
}

fn counted(map: &Map) -> (Tree, Store) {
    let (mut tree, store) = (Tree::uncounted(), Store::new(map));
    count(&mut tree, &store, 1000);
    (tree, store)
}

struct Found {
    keys: BTreeMap<Vec<u8>, (Option<u128>, Option<u128>)>,
    requests: u64,
    bytes: usize,
    skipped: Vec<Span>,
}

/// Runs a search to its end, over encoded messages.
fn search(a: &mut (Tree, Store), b: &mut (Tree, Store)) -> Found {
    let mut search = Search::new(Span::all());
    let mut found = Found { keys: BTreeMap::new(), requests: 0, bytes: 0, skipped: Vec::new() };
    while let Some(ranges) = search.next(&mut a.0, &mut a.1).expect("readable") {
        let sent = ranges.to_bytes();
        let ranges: Vec<RangeDigest> = Wire::from_bytes(&sent).expect("own bytes");
        let answers = b.0.answer(&ranges, &mut b.1).expect("readable");
        let answered = answers.to_bytes();
        let answers: Vec<Compared> = Wire::from_bytes(&answered).expect("own bytes");
        search.take(answers, &mut a.0, &mut a.1).expect("an answer");
        found.bytes += sent.len() + answered.len();
        for difference in search.found() {
            let before =
                found.keys.insert(difference.key.to_vec(), (difference.ours, difference.theirs));
            assert_eq!(before, None, "found twice");
        }
        assert!(search.requests() < 10_000, "no end");
    }
    found.requests = search.requests();
    found.skipped = search.skipped().to_vec();
    found
}

fn difference(a: &Map, b: &Map) -> BTreeMap<Vec<u8>, (Option<u128>, Option<u128>)> {
    let keys = a.keys().chain(b.keys());
    let both = keys.map(|key| (key.clone(), (a.get(key).copied(), b.get(key).copied())));
    both.filter(|(_, (ours, theirs))| ours != theirs).collect()
}

fn check(tree: &Tree, store: &Store) {
    let total: Sum = store.map.values().copied().collect();
    if let Some(counted) = tree.total() {
        assert_eq!(counted, total);
    }
    assert_eq!(Tree::decode(&tree.encode()).as_ref(), Ok(tree));
}

fn any_map() -> impl Strategy<Value = Map> {
    let key =
        prop_oneof![vec(0..4u8, 0..6), vec(any::<u8>(), 0..3), Just(b"long prefix ".repeat(9))];
    btree_map(key, (0..9u64).prop_map(print_of), 0..60)
}

/// Keys by number, so that there are many.
fn numbered(range: std::ops::Range<u64>) -> Map {
    range.map(|n| (format!("key/{n:08}").into_bytes(), print_of(n))).collect()
}

#[derive(Debug, Clone)]
enum Step {
    Put(u64, u64),
    Delete(u64),
    Forget(u64, u64),
    Count(usize),
    Cut(u64),
    Tidy,
}

fn step() -> impl Strategy<Value = Step> {
    let key = || 0..3000u64;
    prop_oneof![
        6 => (key(), 0..50u64).prop_map(|(key, value)| Step::Put(key, value)),
        3 => key().prop_map(Step::Delete),
        1 => (key(), 0..500u64).prop_map(|(from, len)| Step::Forget(from, len)),
        1 => (1..700usize).prop_map(Step::Count),
        1 => key().prop_map(Step::Cut),
        1 => Just(Step::Tidy),
    ]
}

fn apply(tree: &mut Tree, store: &mut Store, step: &Step) {
    let name = |n: u64| format!("key/{n:08}").into_bytes();
    let span = |from: u64, to: u64| Span { start: name(from).into(), end: Some(name(to).into()) };
    match *step {
        Step::Put(n, value) => {
            let print = print_of(n << 8 | value);
            let old = store.map.insert(name(n), print);
            tree.update(&name(n), old, Some(print));
        }
        Step::Delete(n) => {
            let old = store.map.remove(&name(n));
            tree.update(&name(n), old, None);
        }
        Step::Forget(from, len) => tree.forget(&span(from, from + len + 1)),
        Step::Count(step) => count(tree, store, step),
        Step::Cut(n) => {
            let sum = tree.sum(&span(n, n + 7), store).expect("readable");
            let real: Sum =
                store.between(&span(n, n + 7)).iter().map(|entry| entry.fingerprint).collect();
            assert!(sum.is_none_or(|sum| sum == real));
        }
        Step::Tidy => tree.tidy(),
    }
}

/// Keys come at the end and go at the beginning, as those of a queue do.
#[test]
fn leaves_go_with_their_entries() {
    let (mut tree, mut store) = counted(&Map::new());
    for n in 0..20_000 {
        apply(&mut tree, &mut store, &Step::Put(n, 1));
        if n >= 1000 {
            apply(&mut tree, &mut store, &Step::Delete(n - 1000));
        }
        if n % 100 == 0 {
            count(&mut tree, &store, 300);
            tree.tidy_if_cut_up();
            check(&tree, &store);
            assert!(tree.leaves() <= 40, "{} leaves", tree.leaves());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn a_search_finds_what_differs_and_nothing_else(a in any_map(), b in any_map()) {
        let (mut left, mut right) = (counted(&a), counted(&b));
        let found = search(&mut left, &mut right);
        prop_assert_eq!(found.keys, difference(&a, &b));
        prop_assert!(found.skipped.is_empty());
        check(&left.0, &left.1);
        check(&right.0, &right.1);
    }

    /// Large maps that differ in few places, with trees that have a history of their own.
    #[test]
    fn leaves_follow_writes(
        size in 0..3000u64,
        left in vec(step(), 0..80),
        right in vec(step(), 0..80),
    ) {
        let map = numbered(0..size);
        let mut sides = [counted(&map), counted(&map)];
        for ((tree, store), steps) in sides.iter_mut().zip([left, right]) {
            for step in &steps {
                apply(tree, store, step);
                check(tree, store);
            }
            count(tree, store, 300);
            let total: Sum = store.map.values().copied().collect();
            prop_assert_eq!(tree.total(), Some(total));
            prop_assert!(tree.next_to_count(&|_| false).is_none());
        }
        let [mut a, mut b] = sides;
        let found = search(&mut a, &mut b);
        prop_assert_eq!(found.keys, difference(&a.1.map, &b.1.map));
        for (tree, store) in [&a, &b] {
            check(tree, store);
            prop_assert!(store.largest_read <= LEAF_ENTRIES_MAX, "{} entries at once", store.largest_read);
        }
    }

    #[test]
    fn hostile_leaves_do_no_harm(map in any_map(), edits in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut bytes = counted(&map).0.encode();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(tree) = Tree::decode(&bytes) {
            prop_assert_eq!(tree.encode(), bytes);
        }
    }
}

#[test]
fn one_key_of_a_hundred_thousand_is_found_in_few_steps() {
    let map = numbered(0..100_000);
    let mut rng = Rng::new(5);
    for _ in 0..5 {
        let (mut a, mut other) = (counted(&map), map.clone());
        let key = format!("key/{:08}", rng.below(100_000)).into_bytes();
        other.remove(&key);
        let mut b = counted(&other);
        let found = search(&mut a, &mut b);
        assert_eq!(found.keys, difference(&map, &other));
        println!(
            "1 of 100000 keys: {} requests, {} bytes, {} entries read here and {} there, {} leaves",
            found.requests,
            found.bytes,
            a.1.read,
            b.1.read,
            a.0.leaves()
        );
        assert!(found.requests <= 5 && found.bytes < 12_000, "{} {}", found.requests, found.bytes);
        assert!(a.1.read + b.1.read < 20 * LEAF_ENTRIES_MAX, "{} {}", a.1.read, b.1.read);
    }
    let (mut a, mut b) = (counted(&map), counted(&map));
    let found = search(&mut a, &mut b);
    assert_eq!((found.requests, a.1.read, b.1.read), (1, 0, 0), "nothing differs");
}

#[test]
fn an_empty_replica_lacks_everything_and_no_read_is_large() {
    let map = numbered(0..20_000);
    for (left, right) in [(&map, &Map::new()), (&Map::new(), &map)] {
        let (mut a, mut b) = (counted(left), counted(right));
        let found = search(&mut a, &mut b);
        assert_eq!(found.keys.len(), 20_000);
        assert!(a.1.largest_read.max(b.1.largest_read) <= LEAF_ENTRIES_MAX);
    }
}

#[test]
fn what_is_not_counted_takes_no_part() {
    let map = numbered(0..5000);
    let (mut a, mut b) = (counted(&map), counted(&numbered(0..5010)));
    let name = |n: u64| Slice::from(format!("key/{n:08}").as_str());
    let lost = Span { start: name(1000), end: Some(name(1010)) };
    b.1.map.remove(&name(1005)[..]);
    b.1.map.remove(&name(3005)[..]);
    b.0.update(&name(3005), map.get(&name(3005)[..]).copied(), None);
    for own_side in [false, true] {
        let (forgets, other) = if own_side { (&mut a.0, &mut b.0) } else { (&mut b.0, &mut a.0) };
        forgets.forget(&lost);
        assert_eq!((forgets.total(), other.total().is_some()), (None, true));
        let found = search(&mut a, &mut b);
        assert_eq!(found.keys.len(), 11, "all that differs elsewhere");
        assert!(
            found.skipped.len() == 1 && found.skipped[0].contains(&name(1005)),
            "{:?}",
            found.skipped
        );
        count(&mut a.0, &a.1, 100);
        count(&mut b.0, &b.1, 100);
    }
    let found = search(&mut a, &mut b);
    assert_eq!(found.keys, difference(&a.1.map, &b.1.map));
    assert!(found.keys.len() == 12 && found.skipped.is_empty());
}

#[test]
fn answers_that_are_none_are_refused() {
    let (mut tree, mut store) = counted(&numbered(0..1000));
    let mut search = Search::new(Span::all());
    let asked = search.next(&mut tree, &mut store).expect("readable").expect("a range");
    let entry = EntryDigest { key: "other".into(), fingerprint: 1 };
    let part = |start: &str, end: Option<&str>| RangeDigest {
        span: Span { start: start.into(), end: end.map(Slice::from) },
        sum: Sum::default(),
    };
    let mut narrow = Search::new(Span { start: "a".into(), end: Some("b".into()) });
    narrow.next(&mut tree, &mut store).expect("readable").expect("a range");
    assert!(matches!(
        narrow.take(vec![Compared::Entries(vec![entry])], &mut tree, &mut store),
        Err(Failure::Invalid(_))
    ));
    for answer in [
        vec![],
        vec![Compared::Equal, Compared::Equal],
        vec![Compared::Split(vec![part("", None)])],
        vec![Compared::Split(vec![part("", Some("a")), part("b", None)])],
        vec![Compared::Split(vec![part("a", Some("b")), part("b", None)])],
    ] {
        let again = search.next(&mut tree, &mut store).expect("readable");
        let refused = search.take(answer.clone(), &mut tree, &mut store);
        assert!(matches!(refused, Err(Failure::Invalid(_))), "{answer:?}");
        if let Some(again) = again {
            assert_eq!(again, asked);
        }
        search = Search::new(Span::all());
    }
}
