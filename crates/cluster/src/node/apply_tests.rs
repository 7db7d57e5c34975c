//! Gaps in what was seen, and in what records account for: no more than can be read again.

use crate::clock::{Actor, Context, Dot, RUNS_STORED_MAX, Stamp};
use crate::codec::message::{Cause, Item, Op, Outcome};
use crate::exchange::Ended;
use crate::record::Mode;
use crate::simulation::{SIBLINGS, Sim};
use crate::transport::Failure;

/// Every other dot of somebody else.
fn gaps(count: usize) -> impl Iterator<Item = Dot> {
    (0..count as u64).map(|n| Dot::new(Actor(1 << 40), 2 * n + 1))
}

fn seen_only(dot: Dot) -> Item {
    Item { key: "key".into(), record: Default::default(), made_by: Some(dot) }
}

#[test]
fn what_was_seen_has_no_more_gaps_than_can_be_read_again() {
    let mut sim = Sim::new(3, 1);
    let partition = sim.partition_of("key");
    let apply = |sim: &Sim, n: u64, cause: Cause, dots: &[Dot]| {
        let items: Vec<Item> = dots.iter().map(|dot| seen_only(*dot)).collect();
        sim.node(n).replica().apply(SIBLINGS, partition, Mode::Siblings, cause, &items)
    };
    let dots: Vec<Dot> = gaps(2 * RUNS_STORED_MAX + 1).collect();
    let taken = apply(&sim, 1, Cause::Write, &dots);
    let full = Err(Failure::Overloaded { retry_after_micros: 1_000_000 });
    assert_eq!(taken[RUNS_STORED_MAX - 1], Ok(Outcome::Known));
    assert!(taken[RUNS_STORED_MAX..].iter().all(|taken| *taken == full));
    // What it knows already it hears again; what closes gaps goes beyond, and it can be read after a restart.
    assert_eq!(apply(&sim, 1, Cause::Hint, &dots[..1]), [Ok(Outcome::Known)]);
    let more = apply(&sim, 1, Cause::Exchange, &dots[RUNS_STORED_MAX..]);
    assert_eq!(more.last(), Some(&full));
    assert_eq!(more.iter().filter(|taken| taken.is_ok()).count(), RUNS_STORED_MAX);
    sim.restart(1, false);
    let runs = |sim: &Sim| {
        let part = sim.node(1).replica().part(SIBLINGS, partition).expect("it can be read");
        part.hold().state.seen.runs().len()
    };
    assert_eq!(runs(&sim), 2 * RUNS_STORED_MAX);
    // Somebody who has seen all of it closes the gaps.
    let last = dots[dots.len() - 1].counter;
    let all: Vec<Dot> = (1..=last).map(|n| Dot::new(Actor(1 << 40), n)).collect();
    for some in all.chunks(10_000) {
        assert!(apply(&sim, 2, Cause::Exchange, some).iter().all(Result::is_ok));
    }
    assert!(matches!(sim.exchange(1, 2, "key"), Ended::Complete { .. }));
    assert!(runs(&sim) < 10);
}

#[test]
fn a_write_accounts_for_no_more_than_can_be_read_again() {
    let sim = Sim::new(3, 1);
    let write = |replaces: Context| {
        let value = Some("value".into());
        let op = Op { key: "key".into(), value, expires_micros: 0, replaces, after: Stamp::ZERO };
        sim.write_op(1, SIBLINGS, op, 3)
    };
    let refused = write(gaps(RUNS_STORED_MAX + 1).collect()).expect_err("too many");
    assert!(matches!(refused, Failure::Invalid(_)), "{refused:?}");
    assert!(refused.to_string().contains("with a token of this key that a read returned"));
    assert_eq!(sim.held(1, "key"), None);
    write(gaps(RUNS_STORED_MAX - 1).collect()).expect("as many as fit");
    for n in 1..=3 {
        assert_eq!(sim.held(n, "key").expect("it can be read").versions().len(), 1);
    }
}
