//! Records against sets of events.

use super::*;
use crate::clock::Actor;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn version(dot: (u64, u64), stamp: u64, value: Option<&str>) -> Version {
    let dot = Dot::new(Actor(dot.0), dot.1);
    Version { dot, stamp: Stamp(stamp), expires_micros: 0, value: value.map(Slice::from) }
}

/// Any record that a replica may have: one dot, one content.
fn any_record(mode: Mode) -> impl Strategy<Value = Record> {
    let dots = vec((1..4u64, 1..6u64), 0..5);
    (dots.clone(), dots, any::<bool>()).prop_map(move |(stored, seen, raise)| {
        let content = |dot: (u64, u64)| {
            let value = format!("{dot:?}");
            // Stamps that do not follow the dots.
            version(
                dot,
                (dot.0 * 7 + dot.1 * 5) % 11,
                Some(&value)
                    .filter(|_| mode == Mode::Siblings || dot.1.is_multiple_of(2))
                    .map(|v| &**v),
            )
        };
        let mut versions: Vec<Version> = stored.into_iter().map(content).collect();
        versions.sort();
        versions.dedup();
        match mode {
            Mode::Siblings => {
                let dots = versions.iter().map(|version| version.dot);
                let mut context: Context =
                    dots.chain(seen.iter().map(|d| Dot::new(Actor(d.0), d.1))).collect();
                if let Some(first) = seen.first().filter(|_| raise) {
                    context.raise(Actor(first.0), first.1);
                }
                Record { versions, context }
            }
            Mode::LastWriterWins => {
                let record = Record {
                    versions: versions.into_iter().take(1).collect(),
                    context: Context::new(),
                };
                record.merge_last(&Record::default()).record
            }
        }
    })
}

fn modes() -> impl Strategy<Value = Mode> {
    prop_oneof![Just(Mode::Siblings), Just(Mode::LastWriterWins)]
}

fn three() -> impl Strategy<Value = (Mode, Record, Record, Record)> {
    modes().prop_flat_map(|mode| (Just(mode), any_record(mode), any_record(mode), any_record(mode)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn merge_is_a_join((mode, a, b, c) in three()) {
        let join = |a: &Record, b: &Record| {
            let merged = a.merge(b, mode);
            assert_eq!(merged.conflict, None);
            merged.record
        };
        prop_assert_eq!(join(&a, &b), join(&b, &a));
        prop_assert_eq!(join(&join(&a, &b), &c), join(&a, &join(&b, &c)));
        prop_assert_eq!(join(&a, &a), a.clone());
        prop_assert_eq!(join(&a, &join(&a, &b)), join(&a, &b));
        prop_assert_eq!(join(&a, &Record::default()), a);
    }

    #[test]
    fn bytes_round_trip((_, a, _, _) in three()) {
        let bytes = a.encode();
        prop_assert_eq!(Record::decode(&bytes), Ok(a));
        for cut in 0..bytes.len() {
            prop_assert!(Record::decode(&bytes[..cut]).is_err());
        }
    }

    #[test]
    fn hostile_bytes_do_no_harm((_, a, _, _) in three(), edits in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut bytes = a.encode();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(record) = Record::decode(&bytes) {
            prop_assert_eq!(record.encode(), bytes);
            for mode in [Mode::Siblings, Mode::LastWriterWins] {
                let merged = record.merge(&a, mode).record;
                prop_assert_eq!(Record::decode(&merged.encode()), Ok(merged));
            }
        }
    }
}

#[test]
fn golden_bytes() {
    let mut context = Context::new();
    context.raise(Actor(1), 3);
    let record = Record { versions: vec![version((1, 3), 0x0a0b, Some("song"))], context };
    let shown: Vec<String> = record.encode().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        shown.join(" "),
        "01 01 01 03 0b 0a 00 00 00 00 00 00 00 01 04 73 6f 6e 67 01 01 01 00 02"
    );
    assert_eq!(record.fingerprint(b"k"), record.fingerprint(b"k"));
    assert_ne!(record.fingerprint(b"k"), record.fingerprint(b"l"));
}

#[test]
fn a_dot_with_two_contents_is_told_and_settled_alike() {
    for mode in [Mode::Siblings, Mode::LastWriterWins] {
        let one = |value| Record {
            versions: vec![version((1, 1), 5, Some(value))],
            context: Context::new(),
        };
        let (a, b) = (one("a"), one("b"));
        let dot = Some(Dot::new(Actor(1), 1));
        assert_eq!(a.merge(&b, mode), b.merge(&a, mode));
        assert_eq!(a.merge(&b, mode), Merged { record: b, conflict: dot });
    }
}

#[test]
fn siblings_are_bounded_by_writes_not_by_merges() {
    let bounds = Bounds { siblings_max: 2, value_bytes_max: 6 };
    let (nothing, mut record) = (Context::new(), Record::default());
    let put = |record: &Record, actor, counter, value: &str, replaces: &Context| {
        let write = Write {
            dot: Dot::new(Actor(actor), counter),
            stamp: Stamp(1),
            value: Some(value.into()),
            expires_micros: 0,
            replaces,
            by_owner: true,
        };
        record.write(&write, Mode::Siblings, &bounds)
    };
    record = put(&record, 1, 1, "a", &nothing).expect("room");
    assert_eq!(
        put(&record, 1, 2, "abcdef", &nothing),
        Err(Refused::TooManyBytes { bytes: 7, max: 6 })
    );
    record = put(&record, 1, 2, "b", &nothing).expect("room");
    assert_eq!(put(&record, 1, 3, "c", &nothing), Err(Refused::TooManySiblings { max: 2 }));
    let known = Dot::new(Actor(1), 2);
    assert_eq!(put(&record, 1, 2, "c", &nothing), Err(Refused::DotKnown { dot: known }));
    let elsewhere = put(&Record::default(), 2, 1, "c", &nothing).expect("room");
    let merged = record.merge(&elsewhere, Mode::Siblings).record;
    assert_eq!(merged.versions().len(), 3);
    let seen = merged.token(&nothing).context;
    assert_eq!(put(&merged, 1, 9, "all", &seen).expect("fewer").versions().len(), 1);
}

#[test]
fn the_last_writer_needs_a_later_stamp() {
    let nothing = Context::new();
    let put = |record: &Record, dot: (u64, u64), stamp, value: Option<&str>| {
        let write = Write {
            dot: Dot::new(Actor(dot.0), dot.1),
            stamp: Stamp(stamp),
            value: value.map(Slice::from),
            expires_micros: 0,
            replaces: &nothing,
            by_owner: true,
        };
        record.write(&write, Mode::LastWriterWins, &Bounds::default())
    };
    let record = put(&Record::default(), (1, 1), 10, Some("a")).expect("first");
    assert_eq!(put(&record, (2, 1), 9, Some("b")), Err(Refused::StampTooOld { stored: Stamp(10) }));
    let deleted = put(&record, (2, 1), 11, None).expect("later");
    assert!(deleted.is_deleted() && deleted.context().is_empty());
    assert_eq!(record.merge(&deleted, Mode::LastWriterWins).record, deleted);
    let dots = deleted.token(&nothing).context;
    assert!(
        !deleted.can_go(&Floor { round: 1, dots: dots.clone(), stamp: Stamp(10) }),
        "a loser may still come"
    );
    assert!(deleted.can_go(&Floor { round: 1, dots, stamp: Stamp(11) }));
}

#[test]
fn expiry_hides_a_value() {
    let expiring = Version { expires_micros: 100, ..version((1, 1), 1, Some("v")) };
    assert!(expiring.value_at(99).is_some() && expiring.value_at(100).is_none());
    assert!(version((1, 1), 1, Some("v")).value_at(u64::MAX).is_some());
}

// ---- replicas of one key, against what each write has replaced ----

const OWNERS: usize = 3;
const STAND_IN: u64 = 9;

/// What really happened: for each write, the writes it replaced.
#[derive(Default)]
struct History {
    replaced: BTreeMap<Dot, BTreeSet<Dot>>,
    deletes: BTreeSet<Dot>,
}

impl History {
    /// The values that somebody sees who knows these writes.
    fn siblings(&self, known: &BTreeSet<Dot>) -> BTreeSet<Dot> {
        let gone: BTreeSet<Dot> =
            known.iter().flat_map(|dot| &self.replaced[dot]).copied().collect();
        let alive = |dot: &Dot| !gone.contains(dot) && !self.deletes.contains(dot);
        known.iter().copied().filter(alive).collect()
    }
}

/// One owner, or a copy under way: the record, and the writes it knows of.
#[derive(Clone, Default)]
struct Replica {
    record: Option<Record>,
    known: BTreeSet<Dot>,
}

#[derive(Default)]
struct Cluster {
    history: History,
    owners: [Replica; OWNERS],
    seen: [Context; OWNERS],
    stand_in: Replica,
    /// Records under way, of owners and of stand-ins; each may arrive late, and twice.
    sent: Vec<Sent>,
    floor: Context,
    counters: BTreeMap<u64, u64>,
    purged: usize,
    late: usize,
}

#[derive(Clone)]
struct Sent {
    replica: Replica,
    from_owner: bool,
}

#[derive(Debug, Clone)]
enum Step {
    /// At an owner, with what another owner shows (or nothing) as the context; deleting or not.
    Write {
        at: usize,
        read: Option<usize>,
        delete: bool,
    },
    /// At a stand-in, with what an owner shows.
    StandIn {
        read: Option<usize>,
        delete: bool,
    },
    HandOff,
    Send {
        from: usize,
    },
    Deliver {
        at: usize,
        to: usize,
    },
    Exchange {
        a: usize,
        b: usize,
    },
    /// A write to some other key, so that counters have gaps for this one.
    Elsewhere {
        at: usize,
    },
    Round,
}

fn step() -> impl Strategy<Value = Step> {
    let owner = || 0..OWNERS;
    let read = || prop::option::of(0..OWNERS);
    prop_oneof![
        4 => (owner(), read(), prop::bool::weighted(0.3)).prop_map(|(at, read, delete)| Step::Write { at, read, delete }),
        1 => (read(), prop::bool::weighted(0.3)).prop_map(|(read, delete)| Step::StandIn { read, delete }),
        1 => Just(Step::HandOff),
        2 => owner().prop_map(|from| Step::Send { from }),
        4 => (any::<usize>(), owner()).prop_map(|(at, to)| Step::Deliver { at, to }),
        2 => (owner(), owner()).prop_map(|(a, b)| Step::Exchange { a, b }),
        1 => owner().prop_map(|at| Step::Elsewhere { at }),
        1 => Just(Step::Round),
    ]
}

impl Cluster {
    fn next_dot(&mut self, actor: u64) -> Dot {
        let counter = self.counters.entry(actor).or_default();
        *counter += 1;
        Dot::new(Actor(actor), *counter)
    }

    fn write(&mut self, actor: u64, read: Option<usize>, delete: bool) -> (Dot, Context) {
        let shown = read.and_then(|at| self.owners[at].record.as_ref());
        let shown = shown.map(|record| record.token(&self.floor));
        let read_dots = read.map(|at| self.owners[at].known.clone()).unwrap_or_default();
        let dot = self.next_dot(actor);
        // What was read and is replaced is all that the reader knew, if it was shown a record.
        let replaced = if shown.is_some() { read_dots } else { BTreeSet::new() };
        let replaces = shown.unwrap_or_default().context;
        self.history.replaced.insert(dot, replaced);
        if delete {
            self.history.deletes.insert(dot);
        }
        (dot, replaces)
    }

    fn carried_out(
        &self,
        record: Option<&Record>,
        dot: Dot,
        replaces: &Context,
        by_owner: bool,
    ) -> Record {
        let deletes = self.history.deletes.contains(&dot);
        let value = (!deletes).then(|| Slice::from(dot.to_string().as_str()));
        let write = Write { dot, stamp: Stamp(0), value, expires_micros: 0, replaces, by_owner };
        let bounds = Bounds { siblings_max: 1000, value_bytes_max: 1 << 20 };
        let before = record.cloned().unwrap_or_default();
        before.write(&write, Mode::Siblings, &bounds).expect("within the bounds")
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Write { at, read, delete } => {
                let (dot, replaces) = self.write(at as u64, read, delete);
                let mut record =
                    self.carried_out(self.owners[at].record.as_ref(), dot, &replaces, true);
                record.strip(&self.floor);
                let replaced = self.history.replaced[&dot].clone();
                let owner = &mut self.owners[at];
                owner.record = Some(record);
                owner.known.extend(replaced);
                owner.known.insert(dot);
                self.seen[at].insert(dot);
            }
            Step::StandIn { read, delete } => {
                let (dot, replaces) = self.write(STAND_IN, read, delete);
                let record = self.carried_out(self.stand_in.record.as_ref(), dot, &replaces, false);
                self.stand_in.record = Some(record);
                self.stand_in.known.extend(self.history.replaced[&dot].clone());
                self.stand_in.known.insert(dot);
            }
            Step::HandOff => {
                let replica = std::mem::take(&mut self.stand_in);
                if replica.record.is_some() {
                    self.sent.push(Sent { replica, from_owner: false });
                }
            }
            Step::Send { from } => {
                let mut replica = self.owners[from].clone();
                if let Some(record) = &mut replica.record {
                    record.fill(&self.floor);
                    self.sent.push(Sent { replica, from_owner: true });
                }
            }
            Step::Deliver { at, to } if !self.sent.is_empty() => {
                let sent = self.sent[at % self.sent.len()].clone();
                self.receive(to, &sent);
            }
            Step::Deliver { .. } => {}
            Step::Exchange { a, b } => self.exchange(a, b),
            Step::Elsewhere { at } => {
                let dot = self.next_dot(at as u64);
                self.seen[at].insert(dot);
            }
            Step::Round => self.round(),
        }
    }

    fn receive(&mut self, to: usize, sent: &Sent) {
        let (owner, seen, floor) = (&mut self.owners[to], &mut self.seen[to], &self.floor);
        let Some(mut incoming) = sent.replica.record.clone() else { return };
        let news: Vec<Dot> = incoming.versions().iter().map(|version| version.dot).collect();
        incoming.drop_late(owner.record.as_ref(), seen);
        self.late += news.len() - incoming.versions().len();
        let mut local = owner.record.clone().unwrap_or_default();
        local.fill(floor);
        let merged = local.merge(&incoming, Mode::Siblings);
        assert_eq!(merged.conflict, None);
        let mut record = merged.record;
        record.strip(floor);
        owner.record = Some(record);
        owner.known.extend(&sent.replica.known);
        news.into_iter().for_each(|dot| seen.insert(dot));
    }

    /// Both ways, to the end: each has then seen what the other had.
    fn exchange(&mut self, a: usize, b: usize) {
        for (from, to) in [(a, b), (b, a)] {
            let mut replica = self.owners[from].clone();
            if let Some(record) = &mut replica.record {
                record.fill(&self.floor);
            }
            self.receive(to, &Sent { replica, from_owner: true });
        }
        let both = self.seen[a].union(&self.seen[b]);
        (self.seen[a], self.seen[b]) = (both.clone(), both);
    }

    /// As `docs/cluster-design.md` says, all at once: hints are handed in, all exchange, what all have seen is the floor, and
    /// what it lets go is gone.
    fn round(&mut self) {
        self.step(&Step::HandOff);
        let kept: Vec<Sent> = self.sent.iter().filter(|sent| !sent.from_owner).cloned().collect();
        kept.iter().for_each(|sent| self.receive(0, sent));
        for (a, b) in [(0, 1), (1, 2), (0, 2), (0, 1)] {
            self.exchange(a, b);
        }
        self.floor =
            self.seen.iter().skip(1).fold(self.seen[0].clone(), |all, seen| all.intersection(seen));
        let floor = Floor { round: 1, dots: self.floor.clone(), stamp: Stamp(u64::MAX) };
        for owner in &mut self.owners {
            if owner.record.as_ref().is_some_and(|record| record.can_go(&floor)) {
                owner.record = None;
                self.purged += 1;
            } else if let Some(record) = &mut owner.record {
                record.strip(&floor.dots);
            }
        }
    }

    fn check(&self) {
        for (at, owner) in self.owners.iter().enumerate() {
            let stored = owner.record.iter().flat_map(|record| record.versions());
            let dots: BTreeSet<Dot> = stored.map(|version| version.dot).collect();
            assert_eq!(dots, self.history.siblings(&owner.known), "owner {at}");
            assert!(self.seen[at].covers(&self.floor));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    /// After every step each owner shows exactly the values that nothing it knows of has replaced: no value is lost, none comes
    /// back, whatever is late, twice, purged or stripped.
    #[test]
    fn replicas_show_what_was_not_replaced(steps in vec(step(), 1..60)) {
        let mut cluster = Cluster::default();
        for step in &steps {
            cluster.step(step);
            cluster.check();
        }
        cluster.round();
        cluster.check();
        let first = &cluster.owners[0];
        for owner in &cluster.owners {
            prop_assert_eq!(&owner.known, &first.known);
            prop_assert_eq!(&owner.record, &first.record);
        }
    }
}

/// The test above is worth nothing unless it gets where it hurts.
#[test]
fn the_model_purges_and_meets_late_copies() {
    let mut cluster = Cluster::default();
    let write = |at, read, delete| Step::Write { at, read, delete };
    let steps = [
        write(0, None, false),
        Step::Send { from: 0 },
        write(0, Some(0), true),
        Step::Round,
        Step::Deliver { at: 0, to: 2 },
    ];
    for step in &steps {
        cluster.step(step);
        cluster.check();
    }
    assert_eq!((cluster.purged, cluster.late), (OWNERS, 1));
    assert!(cluster.owners[2].record.as_ref().is_none_or(Record::is_deleted));
}
