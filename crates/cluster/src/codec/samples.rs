//! One message of each kind, with every field in use: what golden bytes, fuzzers and the suite of transports begin with.

use super::message::*;
use crate::clock::{Actor, Context, Dot, Stamp};
use crate::merkle::{Span, Sum};
use crate::rebalance::{self, Cursor, MoveRecord, MoveReport, Moving};
use crate::record::{Bounds, Floor, Mode, Record, Write};
use crate::topology::JobId;
use crate::transport::{Detail, Failure, NotUnderstood};
use base::{KeyspaceId, Slice};
use ring::{Epoch, NodeId, Partition};

const KEYSPACE: KeyspaceId = KeyspaceId(2);
const PARTITION: Partition = Partition(77);

/// A move that is half way, and one that is over.
fn report() -> rebalance::Report {
    let moving = |n| Moving { replicas: 3, partition: Partition(n) };
    let cursor = Some(Cursor { keyspace: KEYSPACE, key: "m".into() });
    let record = MoveRecord {
        job: JobId(3),
        cursor,
        copied: true,
        caught_up: Some(Epoch(9)),
        bytes: 1 << 20,
    };
    let moves = vec![MoveReport { moving: moving(5), record }];
    rebalance::Report { epoch: Epoch(12), moves, cleaned: vec![moving(7)] }
}

fn floor() -> Floor {
    Floor { round: 5, dots: context(), stamp: Stamp(1000) }
}

/// A context with a gap.
#[must_use]
pub fn context() -> Context {
    let mut context = Context::new();
    context.raise(Actor(1), 300);
    context.insert(Dot::new(Actor(4), 2));
    context.insert(Dot::new(Actor(4), 9));
    context
}

/// A record with two siblings, of which one expires.
///
/// # Panics
/// Never: both writes are within the bounds.
#[must_use]
pub fn record() -> Record {
    let nothing = Context::new();
    let write = |actor, counter, value: &str, expires_micros| Write {
        dot: Dot::new(Actor(actor), counter),
        stamp: Stamp::at_micros(1_800_000_000_000_000),
        value: Some(value.into()),
        expires_micros,
        replaces: &nothing,
        by_owner: true,
    };
    let writes = [write(1, 5, "one", 0), write(2, 7, "two", 1_900_000_000_000_000)];
    writes.iter().fold(Record::default(), |record, write| {
        record.write(write, Mode::Siblings, &Bounds::default()).expect("two siblings are few")
    })
}

fn item(key: &str) -> Item {
    Item { key: key.into(), record: record(), made_by: Some(Dot::new(Actor(2), 7)) }
}

fn digest(start: &str, end: Option<&str>, sum: u128) -> RangeDigest {
    let span = Span { start: start.into(), end: end.map(Slice::from) };
    RangeDigest { span, sum: Sum { sum, entries: 12 } }
}

/// One request of each kind, in the order of their numbers.
#[must_use]
pub fn requests() -> Vec<Request> {
    let (keyspace, partition) = (KEYSPACE, PARTITION);
    let put = Op {
        key: "key".into(),
        value: Some("value".into()),
        expires_micros: 7,
        replaces: context(),
        after: Stamp(9),
    };
    let delete = Op { value: None, replaces: Context::new(), ..put.clone() };
    vec![
        Ping {}.into(),
        Gossip { payload: "who lives".into() }.into(),
        Topology { known: Epoch(12) }.into(),
        Coordinate {
            keyspace,
            id: WriteId { node: NodeId(3), number: 1 << 40 },
            start: 6,
            owners_min: 2,
            sloppy: true,
            ops: vec![put, delete],
        }
        .into(),
        Apply {
            keyspace,
            partition,
            cause: Cause::Exchange,
            items: vec![item("a"), Item { made_by: None, ..item("b") }],
        }
        .into(),
        Read {
            keyspace,
            wanted: Wanted::Digest,
            keys: vec!["a".into(), Slice::default()],
            of_start: 5,
        }
        .into(),
        Scan {
            keyspace,
            partition,
            start: "a".into(),
            end: Some("q".into()),
            backward: true,
            entries_max: 1000,
            bytes_max: 1 << 20,
        }
        .into(),
        Digests {
            keyspace,
            partition,
            ranges: vec![digest("", Some("m"), 1 << 100), digest("m", None, 3)],
            of_start: 5,
        }
        .into(),
        StoreHint { target: NodeId(5), keyspace, partition, items: vec![item("a")] }.into(),
        Seen { keyspace, partition, round: 5, stamp: Stamp(1000) }.into(),
        SetFloor { keyspace, partition, floor: floor() }.into(),
        Transfer {
            keyspace,
            partition,
            start: "a".into(),
            end: Some("q".into()),
            beyond: Some(context()),
            bytes_max: 1 << 18,
            of_start: 5,
        }
        .into(),
        Hello { session: 6, nonce: 1 << 50 }.into(),
        Report {}.into(),
    ]
}

/// One answer of each kind, in the order of their numbers.
#[must_use]
pub fn answers() -> Vec<Answer> {
    let written = Written {
        dot: Dot::new(Actor(1), 6),
        stamp: Stamp(77),
        context: context(),
        owners: vec![NodeId(1), NodeId(2)],
        hinted: vec![NodeId(9)],
    };
    let entry = EntryDigest { key: "k".into(), fingerprint: 5 << 90 };
    vec![
        Pong {}.into(),
        Gossiped { payload: "all live".into() }.into(),
        TopologyIs { topology: Some("as ring encodes it".into()) }.into(),
        Coordinated {
            results: vec![Ok(written), Err(Failure::Unknown { acknowledged: 1, wanted: 2 })],
        }
        .into(),
        Applied { results: vec![Ok(Outcome::Stored), Ok(Outcome::Known), Err(Failure::Damaged)] }
            .into(),
        Records {
            records: vec![
                Stored::Absent,
                Stored::Whole(record()),
                Stored::Digest(7),
                Stored::Failed(Failure::Damaged),
            ],
        }
        .into(),
        Page { items: vec![item("a")], more: true }.into(),
        Digested {
            ranges: vec![
                Compared::Equal,
                Compared::Split(vec![digest("", Some("c"), 1), digest("c", None, 2)]),
                Compared::Entries(vec![entry]),
                Compared::NotReady(vec![digest("x", Some("y"), 0).span]),
            ],
        }
        .into(),
        HintStored { bytes: 4096 }.into(),
        SeenIs { seen: context(), hinted: Context::new(), floor: floor(), start: 6 }.into(),
        FloorSet {}.into(),
        Transferred { items: vec![item("a")], next: Some("b".into()) }.into(),
        HelloIs { known: 5 }.into(),
        Reported { report: report() }.into(),
        Failed { failure: Failure::StaleEpoch { current: Epoch(13) } }.into(),
    ]
}

/// One failure of each kind.
#[must_use]
pub fn failures() -> Vec<Failure> {
    vec![
        Failure::Timeout,
        Failure::Unreachable,
        Failure::Disconnected,
        Failure::Closed,
        Failure::Overloaded { retry_after_micros: 10 },
        Failure::TooLarge { bytes: 11, max: 10 },
        Failure::AnswerTooLarge { bytes: 11, max: 10 },
        Failure::NotUnderstood(NotUnderstood::Kind),
        Failure::NotUnderstood(NotUnderstood::Body),
        Failure::StaleEpoch { current: Epoch(3) },
        Failure::UnknownKeyspace { id: KEYSPACE },
        Failure::NotReady,
        Failure::Damaged,
        Failure::NoSpace,
        Failure::TooManySiblings { max: 16 },
        Failure::StaleStamp { after: Stamp(9) },
        Failure::Invalid(Detail::new("a range whose end lies before its start")),
        Failure::Unknown { acknowledged: 1, wanted: 2 },
        Failure::Unavailable { reached: 1, wanted: 2 },
        Failure::Internal(Detail::new("a job panicked")),
        Failure::OtherStart { current: 6 },
    ]
}
