//! The side that asks.

use super::tree::{ENTRIES_MAX, LEAF_ENTRIES_MAX};
use super::{Source, Span, Tree};
use crate::codec::message::{Compared, EntryDigest, RangeDigest};
use crate::transport::Failure;
use base::Slice;
use std::collections::VecDeque;

/// Ranges in one request, at first.
const RANGES_MAX: usize = 64;

/// A key that two replicas do not store alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The key.
    pub key: Slice,
    /// Its fingerprint here.
    pub ours: Option<u128>,
    /// Its fingerprint there.
    pub theirs: Option<u128>,
}

/// A search for what differs between this replica and another one. Without I/O: the caller sends [`next`](Self::next) and hands in
/// the answer by [`take`](Self::take), as slowly as it likes. Writes may go on meanwhile: then what they touch may be found or not.
///
/// What is found is bounded: nobody asks on before it was [taken away](Self::found).
#[derive(Debug)]
pub struct Search {
    /// To ask for.
    waiting: VecDeque<Span>,
    /// Asked for, in this order.
    asked: Vec<Span>,
    found: Vec<Difference>,
    /// Ranges that one of the two could not compare.
    skipped: Vec<Span>,
    /// Ranges in one request.
    ranges_max: usize,
    requests: u64,
}

impl Search {
    /// A search through `span`.
    #[must_use]
    pub fn new(span: Span) -> Search {
        Search {
            waiting: VecDeque::from([span]),
            asked: Vec::new(),
            found: Vec::new(),
            skipped: Vec::new(),
            ranges_max: RANGES_MAX,
            requests: 0,
        }
    }

    /// The ranges to ask for next; `None` when the search is over.
    ///
    /// # Errors
    /// What `source` says; then the search can go on where it is.
    pub fn next(
        &mut self,
        tree: &mut Tree,
        source: &mut dyn Source,
    ) -> Result<Option<Vec<RangeDigest>>, Failure> {
        // An answer that got lost is asked for again.
        for span in self.asked.drain(..).rev() {
            self.waiting.push_front(span);
        }
        let mut ranges: Vec<RangeDigest> = Vec::new();
        while let Some(span) = self.waiting.front().filter(|_| ranges.len() < self.ranges_max) {
            match tree.sum(span, source)? {
                Some(sum) => {
                    ranges.push(RangeDigest { span: span.clone(), sum });
                    self.asked.extend(self.waiting.pop_front());
                }
                None => {
                    let (holes, span) = (tree.holes(span), span.clone());
                    self.waiting.pop_front();
                    self.go_round(&span, holes)
                        .into_iter()
                        .rev()
                        .for_each(|part| self.waiting.push_front(part));
                }
            }
        }
        self.requests += u64::from(!ranges.is_empty());
        Ok((!ranges.is_empty()).then_some(ranges))
    }

    /// The answer to the last [`next`](Self::next) was too large: from now on half as many ranges are asked for at a time. False if it was
    /// a single one.
    pub fn ask_less(&mut self) -> bool {
        let fewer = self.asked.len() / 2;
        self.ranges_max = fewer.max(1);
        fewer > 0
    }

    /// Takes the answer to the last [`next`](Self::next).
    ///
    /// # Errors
    /// [`Failure::Invalid`](crate::transport::Failure::Invalid) if it is no answer to that; what `source` says.
    pub fn take(
        &mut self,
        answers: Vec<Compared>,
        tree: &mut Tree,
        source: &mut dyn Source,
    ) -> Result<(), Failure> {
        let asked = std::mem::take(&mut self.asked);
        if asked.len() != answers.len() {
            self.asked = asked;
            return Err(invalid("as many answers as ranges"));
        }
        let mut further = Vec::new();
        for (span, answer) in asked.into_iter().zip(answers) {
            match answer {
                Compared::Equal => {}
                Compared::NotReady(holes) => {
                    let holes: Vec<Span> =
                        holes.iter().filter_map(|hole| hole.within(&span)).collect();
                    if holes.is_empty() {
                        return Err(invalid("holes of the range"));
                    }
                    further.extend(self.go_round(&span, holes));
                }
                Compared::Split(parts) => narrow(&span, parts, tree, source, &mut further)?,
                Compared::Entries(theirs) => {
                    self.settle(span, theirs, tree, source, &mut further)?
                }
            }
        }
        // Depth first: what is open stays small.
        for span in further.into_iter().rev() {
            self.waiting.push_front(span);
        }
        Ok(())
    }

    /// Leaves out `holes`; what is left of `span`.
    fn go_round(&mut self, span: &Span, holes: Vec<Span>) -> Vec<Span> {
        let left = span.without(&holes);
        self.skipped.extend(holes);
        left
    }

    /// Compares entry by entry; where there are too many here to do it at once, part by part.
    fn settle(
        &mut self,
        span: Span,
        theirs: Vec<EntryDigest>,
        tree: &mut Tree,
        source: &mut dyn Source,
        further: &mut Vec<Span>,
    ) -> Result<(), Failure> {
        if theirs.iter().any(|entry| !span.contains(&entry.key)) {
            return Err(invalid("entries of the range"));
        }
        let Some(own) = tree.sum(&span, source)? else {
            further.push(span);
            return Ok(());
        };
        let parts = tree.parts(&span);
        if own.entries > ENTRIES_MAX.max(LEAF_ENTRIES_MAX) && parts.len() > 1 {
            further.extend(parts.into_iter().map(|part| part.span));
            return Ok(());
        }
        let ours = source.entries(&span)?;
        self.found.extend(differences(&ours, &theirs));
        Ok(())
    }

    /// What was found since this was asked last. The caller sends and fetches these records.
    pub fn found(&mut self) -> Vec<Difference> {
        std::mem::take(&mut self.found)
    }

    /// Ranges that were left out, since one of the two has not counted them or cannot read them.
    #[must_use]
    pub fn skipped(&self) -> &[Span] {
        &self.skipped
    }

    /// Requests so far.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests
    }
}

/// The parts that differ here.
fn narrow(
    span: &Span,
    parts: Vec<RangeDigest>,
    tree: &mut Tree,
    source: &mut dyn Source,
    further: &mut Vec<Span>,
) -> Result<(), Failure> {
    let (first, last) = (parts.first().map(|part| &part.span), parts.last().map(|part| &part.span));
    let side_by_side =
        parts.windows(2).all(|pair| pair[0].span.end.as_ref() == Some(&pair[1].span.start));
    let whole = first.map(|first| &first.start) == Some(&span.start)
        && last.map(|last| &last.end) == Some(&span.end);
    if !side_by_side || !whole || parts.len() < 2 {
        return Err(invalid("parts of the range"));
    }
    for part in parts {
        if tree.sum(&part.span, source)? != Some(part.sum) {
            further.push(part.span);
        }
    }
    Ok(())
}

/// Walks two ascending lists side by side.
fn differences(ours: &[EntryDigest], theirs: &[EntryDigest]) -> Vec<Difference> {
    let (mut ours, mut theirs) = (ours.iter().peekable(), theirs.iter().peekable());
    let mut found = Vec::new();
    loop {
        let key = match (ours.peek(), theirs.peek()) {
            (Some(a), Some(b)) => a.key.clone().min(b.key.clone()),
            (Some(one), None) | (None, Some(one)) => one.key.clone(),
            (None, None) => return found,
        };
        let a = ours.next_if(|entry| entry.key == key).map(|entry| entry.fingerprint);
        let b = theirs.next_if(|entry| entry.key == key).map(|entry| entry.fingerprint);
        if a != b {
            found.push(Difference { key, ours: a, theirs: b });
        }
    }
}

fn invalid(what: &str) -> Failure {
    Failure::Invalid(crate::transport::Detail::new(format!("the answer does not hold {what}")))
}
