//! Dots, and sets of them.
//!
//! ```text
//! context   number of actors varint, then for each, ascending:
//!           actor varint, number of runs varint (at least 1), then for each run, ascending:
//!           counters left out since the run before, varint (at least 1, but for the first run); length - 1, varint
//! ```

use crate::codec::DecodeError;
use crate::codec::wire::{Input, Wire, check, invalid};
use std::cmp::Ordering;
use std::fmt;

/// Most runs of a context that is decoded.
pub const RUNS_MAX: usize = 1 << 16;
/// Most runs that a write may say it replaces: its own dot comes to them in the answer.
pub(crate) const RUNS_NAMED_MAX: usize = RUNS_MAX - 1;
/// Most runs of a record's context, and of a floor: together they fit into one that is sent. A replica stores no more.
pub(crate) const RUNS_STORED_MAX: usize = RUNS_MAX / 2;

/// Who makes dots: a node with the disk that it has. Given once by whoever keeps the topology; a node that cannot prove
/// that its disk holds all dots it made is given a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Actor(pub u64);

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a{}", self.0)
    }
}

/// One write, for ever: the `counter`th of `actor` in a partition, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dot {
    /// Who made it.
    pub actor: Actor,
    /// Which of its writes, from 1.
    pub counter: u64,
}

impl Dot {
    /// The `counter`th write of `actor`.
    #[must_use]
    pub fn new(actor: Actor, counter: u64) -> Dot {
        Dot { actor, counter }
    }
}

impl fmt::Display for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.actor, self.counter)
    }
}

impl Wire for Actor {
    const LEN_MIN: usize = 1;
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
    }
    fn take(input: &mut Input<'_>) -> Result<Self, DecodeError> {
        u64::take(input).map(Actor)
    }
}

impl Wire for Dot {
    const LEN_MIN: usize = 2;
    fn put(&self, out: &mut Vec<u8>) {
        self.actor.put(out);
        self.counter.put(out);
    }
    fn take(input: &mut Input<'_>) -> Result<Self, DecodeError> {
        let dot = Dot { actor: Actor::take(input)?, counter: input.varint("dot")? };
        check(dot.counter > 0, "dot").map(|()| dot)
    }
}

/// Dots of one actor without a gap, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Run {
    /// Whose.
    pub actor: Actor,
    /// Counter of the first, at least 1.
    pub first: u64,
    /// Counter of the last.
    pub last: u64,
}

impl Run {
    /// True if `next`, which does not start before this one, overlaps it or goes on right behind it.
    fn touches(&self, next: &Run) -> bool {
        self.actor == next.actor && next.first <= self.last.saturating_add(1)
    }
}

/// A set of dots: what somebody has seen. A version vector that may have gaps.
///
/// Invariant: runs ascend by actor and counter, and do not touch each other. So a set has one form, equality is that of the
/// lists, and all operations walk two lists side by side.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Context {
    runs: Vec<Run>,
}

impl Context {
    /// No dots.
    #[must_use]
    pub fn new() -> Context {
        Context::default()
    }

    /// The runs, ascending.
    #[must_use]
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// True without dots.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// True if the set has `dot`. `O(log runs)`.
    #[must_use]
    pub fn contains(&self, dot: Dot) -> bool {
        let behind =
            self.runs.partition_point(|run| (run.actor, run.first) <= (dot.actor, dot.counter));
        let run = behind.checked_sub(1).and_then(|at| self.runs.get(at));
        run.is_some_and(|run| run.actor == dot.actor && dot.counter <= run.last)
    }

    /// True if the set has every dot of `other`.
    #[must_use]
    pub fn covers(&self, other: &Context) -> bool {
        let mut mine = self.runs.iter().peekable();
        other.runs.iter().all(|run| {
            while mine.next_if(|own| (own.actor, own.last) < (run.actor, run.first)).is_some() {}
            mine.peek().is_some_and(|own| {
                own.actor == run.actor && own.first <= run.first && run.last <= own.last
            })
        })
    }

    /// The greatest counter of `actor`, 0 if there is none.
    #[must_use]
    pub fn newest(&self, actor: Actor) -> u64 {
        let behind = self.runs.partition_point(|run| run.actor <= actor);
        let run = behind.checked_sub(1).and_then(|at| self.runs.get(at));
        run.filter(|run| run.actor == actor).map_or(0, |run| run.last)
    }

    /// The counter up to which all dots of `actor` are there, 0 if the first is not.
    #[must_use]
    pub fn complete_to(&self, actor: Actor) -> u64 {
        let at = self.runs.partition_point(|run| run.actor < actor);
        let run = self.runs.get(at).filter(|run| run.actor == actor && run.first == 1);
        run.map_or(0, |run| run.last)
    }

    /// Adds one dot.
    pub fn insert(&mut self, dot: Dot) {
        self.insert_run(Run { actor: dot.actor, first: dot.counter, last: dot.counter });
    }

    /// Adds the dots `1..=counter` of `actor`: what an owner says whose writes all went through itself. With `u64::MAX`:
    /// all that an actor that is gone ever made.
    pub fn raise(&mut self, actor: Actor, counter: u64) {
        self.insert_run(Run { actor, first: 1, last: counter });
    }

    /// Adds a run; one that is empty, or that begins at 0, adds nothing there.
    fn insert_run(&mut self, run: Run) {
        let mut run = Run { first: run.first.max(1), ..run };
        if run.first > run.last {
            return;
        }
        // The runs that touch it lie side by side: from the first that ends at its start or later, to the last that
        // begins at its end or before.
        let start = self.runs.partition_point(|own| {
            (own.actor, own.last.saturating_add(1)) < (run.actor, run.first)
        });
        let mut end = start;
        while let Some(own) = self.runs.get(end) {
            if own.actor != run.actor || own.first > run.last.saturating_add(1) {
                break;
            }
            (run.first, run.last) = (run.first.min(own.first), run.last.max(own.last));
            end += 1;
        }
        self.runs.splice(start..end, [run]);
    }

    /// The dots of either.
    #[must_use]
    pub fn union(&self, other: &Context) -> Context {
        let (mut left, mut right) = (self.runs.iter().peekable(), other.runs.iter().peekable());
        let mut runs: Vec<Run> = Vec::with_capacity(self.runs.len().max(other.runs.len()));
        loop {
            let next = match (left.peek(), right.peek()) {
                (Some(a), Some(b)) if a <= b => left.next(),
                (Some(_), None) => left.next(),
                _ => right.next(),
            };
            let Some(next) = next else { return Context { runs } };
            match runs.last_mut() {
                Some(last) if last.touches(next) => last.last = last.last.max(next.last),
                _ => runs.push(*next),
            }
        }
    }

    /// The dots of both.
    #[must_use]
    pub fn intersection(&self, other: &Context) -> Context {
        let (mut a, mut b) = (self.runs.iter().peekable(), other.runs.iter().peekable());
        let mut runs = Vec::new();
        while let (Some(left), Some(right)) = (a.peek(), b.peek()) {
            if left.actor == right.actor {
                let (first, last) = (left.first.max(right.first), left.last.min(right.last));
                if first <= last {
                    runs.push(Run { actor: left.actor, first, last });
                }
            }
            match (left.actor, left.last).cmp(&(right.actor, right.last)) {
                Ordering::Less => a.next(),
                _ => b.next(),
            };
        }
        Context { runs }
    }

    /// The dots of this set that are not in `other`.
    #[must_use]
    pub fn difference(&self, other: &Context) -> Context {
        let mut holes = other.runs.iter().peekable();
        let mut runs = Vec::new();
        for run in &self.runs {
            let mut first = run.first;
            while holes.next_if(|hole| (hole.actor, hole.last) < (run.actor, run.first)).is_some() {
            }
            // A hole may reach into the next run as well, so it is looked at, not taken.
            let mut ahead = holes.clone();
            while let Some(hole) =
                ahead.next_if(|hole| hole.actor == run.actor && hole.first <= run.last)
            {
                if first < hole.first {
                    runs.push(Run { actor: run.actor, first, last: hole.first - 1 });
                }
                let Some(next) = hole.last.checked_add(1) else {
                    first = 0;
                    break;
                };
                first = next;
            }
            if (1..=run.last).contains(&first) {
                runs.push(Run { first, ..*run });
            }
        }
        Context { runs }
    }
}

impl Context {
    /// The bytes to store.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.to_bytes()
    }

    /// The context in `bytes`.
    ///
    /// # Errors
    /// [`DecodeError`] unless they are what [`encode`](Self::encode) makes.
    pub fn decode(bytes: &[u8]) -> Result<Context, DecodeError> {
        Context::from_bytes(bytes)
    }
}

impl FromIterator<Dot> for Context {
    fn from_iter<I: IntoIterator<Item = Dot>>(dots: I) -> Context {
        let mut context = Context::new();
        dots.into_iter().for_each(|dot| context.insert(dot));
        context
    }
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (at, Run { actor, first, last }) in self.runs.iter().enumerate() {
            let comma = if at > 0 { " " } else { "" };
            write!(f, "{comma}{actor}:{first}")?;
            if first < last {
                write!(f, "-{last}")?;
            }
        }
        f.write_str("}")
    }
}

impl Wire for Context {
    const LEN_MIN: usize = 1;

    fn put(&self, out: &mut Vec<u8>) {
        base::invariant!(
            self.runs.len() <= RUNS_MAX,
            "{} runs: nobody could read it",
            self.runs.len()
        );
        let actors: Vec<&[Run]> = self.runs.chunk_by(|a, b| a.actor == b.actor).collect();
        (actors.len() as u64).put(out);
        for runs in actors {
            runs[0].actor.put(out);
            (runs.len() as u64).put(out);
            let mut free = 1;
            for run in runs {
                (run.first - free).put(out);
                (run.last - run.first).put(out);
                free = run.last.saturating_add(1);
            }
        }
    }

    fn take(input: &mut Input<'_>) -> Result<Self, DecodeError> {
        // An actor takes four bytes at least, each run more of it two.
        let actors = input.count("context", 4, RUNS_MAX)?;
        let mut context = Context::new();
        let mut before = None;
        for _ in 0..actors {
            let actor = Actor::take(input)?;
            check(before.replace(actor).is_none_or(|before| before < actor), "actor")?;
            let count = input.count("context", 2, RUNS_MAX - context.runs.len())?;
            check(count > 0, "context")?;
            let mut free = 1u64;
            for at in 0..count {
                let skipped = input.varint("context")?;
                check(at == 0 || skipped > 0, "context")?;
                let first = free.checked_add(skipped).ok_or(invalid("context"))?;
                let last = first.checked_add(input.varint("context")?).ok_or(invalid("context"))?;
                context.runs.push(Run { actor, first, last });
                // Behind the last counter there is none: a further run would overflow.
                free = last.saturating_add(1);
                check(at + 1 == count || free > last, "context")?;
            }
        }
        Ok(context)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    type Model = BTreeSet<(u64, u64)>;

    fn of(model: &Model) -> Context {
        model.iter().map(|&(actor, counter)| Dot::new(Actor(actor), counter)).collect()
    }

    fn check_form(context: &Context) {
        for pair in context.runs.windows(2) {
            assert!(pair[0] < pair[1] && !pair[0].touches(&pair[1]), "{context}");
        }
        assert!(context.runs.iter().all(|run| 1 <= run.first && run.first <= run.last));
    }

    /// Small enough that runs meet.
    fn model() -> impl Strategy<Value = Model> {
        btree_set((1..4u64, 1..20u64), 0..40)
    }

    /// Any context, large counters among them.
    pub(crate) fn any_context() -> impl Strategy<Value = Context> {
        let run = (0..5u64, prop_oneof![1..30u64, u64::MAX - 5..=u64::MAX], 0..6u64);
        vec(run, 0..8).prop_map(|runs| {
            let mut context = Context::new();
            for (actor, first, more) in runs {
                let last = first.saturating_add(more);
                context.insert_run(Run { actor: Actor(actor), first, last });
            }
            context
        })
    }

    proptest! {
        #[test]
        fn it_is_a_set_of_dots(a in model(), b in model()) {
            let (x, y) = (of(&a), of(&b));
            check_form(&x);
            for (actor, counter) in (0..5).flat_map(|actor| (1..22).map(move |n| (actor, n))) {
                prop_assert_eq!(x.contains(Dot::new(Actor(actor), counter)), a.contains(&(actor, counter)));
            }
            let all = [
                (x.union(&y), &a | &b),
                (x.intersection(&y), &a & &b),
                (x.difference(&y), &a - &b),
            ];
            for (context, model) in all {
                check_form(&context);
                prop_assert_eq!(context, of(&model));
            }
            prop_assert_eq!(x.covers(&y), a.is_superset(&b));
            for actor in 0..5 {
                let own = || a.iter().filter(|dot| dot.0 == actor).map(|dot| dot.1);
                prop_assert_eq!(x.newest(Actor(actor)), own().max().unwrap_or(0));
                let complete = (1..).zip(own()).take_while(|(n, counter)| n == counter).count();
                prop_assert_eq!(x.complete_to(Actor(actor)), complete as u64);
            }
            let mut raised = x;
            raised.raise(Actor(2), 7);
            check_form(&raised);
            let more: Model = (1..=7).map(|counter| (2, counter)).collect();
            prop_assert_eq!(raised, of(&(&a | &more)));
        }

        #[test]
        fn laws_hold_for_large_counters_too(a in any_context(), b in any_context(), c in any_context()) {
            for context in [a.union(&b), a.intersection(&b), a.difference(&b)] {
                check_form(&context);
            }
            prop_assert_eq!(a.union(&b), b.union(&a));
            prop_assert_eq!(a.union(&b).union(&c), a.union(&b.union(&c)));
            prop_assert_eq!(a.union(&a), a.clone());
            prop_assert_eq!(a.difference(&b).union(&a.intersection(&b)), a.clone());
            prop_assert!(a.difference(&b).intersection(&b).is_empty());
            prop_assert_eq!(a.covers(&b), b.difference(&a).is_empty());
        }

        #[test]
        fn bytes_round_trip(context in any_context()) {
            let bytes = context.to_bytes();
            prop_assert_eq!(Context::from_bytes(&bytes), Ok(context));
            for cut in 0..bytes.len() {
                prop_assert!(Context::from_bytes(&bytes[..cut]).is_err());
            }
        }

        #[test]
        fn whatever_decodes_has_one_encoding(bytes in vec(prop_oneof![0..4u8, any::<u8>()], 0..24)) {
            if let Ok(context) = Context::from_bytes(&bytes) {
                check_form(&context);
                prop_assert_eq!(context.to_bytes(), bytes);
            }
        }
    }

    #[test]
    fn an_actor_that_is_gone_is_covered_whole() {
        let mut floor = Context::new();
        floor.raise(Actor(3), u64::MAX);
        assert!(floor.contains(Dot::new(Actor(3), u64::MAX)));
        let context: Context =
            [(3, 9), (3, 11), (4, 1)].map(|(a, n)| Dot::new(Actor(a), n)).into_iter().collect();
        assert_eq!(context.difference(&floor).to_string(), "{a4:1}");
        assert_eq!(floor.to_string(), format!("{{a3:1-{}}}", u64::MAX));
    }
}
