//! Replay itself: segment by segment, record by record, until the log ends or breaks.

use base::{Error, Result};

use super::survey::{Start, Surveyed};
use super::trace::{Trace, next_record, trace};
use super::window::Window;
use super::{RecoveryMode, Replayed, Torn, Visit};
use crate::Lsn;
use crate::record::{self, Bad, Kind};
use crate::segment::{self, ClosedSegment, FIRST_RECORD, HEADER_LEN};

/// Whether replay goes on behind a segment.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Next,
    Stop,
}

pub(super) struct Engine<'a> {
    segments: Vec<Surveyed>,
    mode: RecoveryMode,
    visit: &'a mut Visit<'a>,
    window: Window,
    out: Replayed,
}

impl<'a> Engine<'a> {
    pub(super) fn new(
        segments: Vec<Surveyed>,
        mode: RecoveryMode,
        visit: &'a mut Visit<'a>,
    ) -> Self {
        let (window, out) = (Window::default(), Replayed::default());
        Engine { segments, mode, visit, window, out }
    }

    pub(super) fn run(mut self) -> Result<Replayed> {
        self.refuse_plain_damage()?;
        self.out.next = self.unused_position();
        for at in 0..self.segments.len() {
            self.window.reset();
            if self.replay_segment(at)? == Flow::Stop {
                break;
            }
        }
        self.out.end = self.last().map_or(Lsn(0), |last| last.end);
        Ok(self.out)
    }

    // --- before the first record ---

    fn refuse_plain_damage(&self) -> Result<()> {
        for segment in &self.segments {
            let Some((offset, detail)) = &segment.damage else { continue };
            let passed_over = match self.mode {
                RecoveryMode::SkipCorrupt => true,
                RecoveryMode::PointInTime => !segment.is_missing(),
                RecoveryMode::TolerateTornTail | RecoveryMode::Absolute => {
                    segment.superseded && !segment.is_missing()
                }
            };
            if !passed_over {
                return Err(Error::corruption(&segment.path, *offset, detail.clone()));
            }
        }
        Ok(())
    }

    /// Above everything that any listed segment can have used.
    fn unused_position(&self) -> Lsn {
        let (mut top, mut unplaced) = (0u64, 0u64);
        for segment in &self.segments {
            match segment.header() {
                // Salvage reads a file that a foreign header calls shorter to its end.
                Some(header) => {
                    let len = header.len.max(segment.len);
                    top = top.max(header.base.saturating_add(len));
                }
                None => unplaced = unplaced.saturating_add(segment.len),
            }
            for known in [segment.closed, segment.linked_end].into_iter().flatten() {
                top = top.max(known.end.0);
            }
        }
        Lsn(top.saturating_add(unplaced)).aligned()
    }

    // --- one segment ---

    fn replay_segment(&mut self, at: usize) -> Result<Flow> {
        let segment = &self.segments[at];
        if segment.superseded {
            base::probe!("segment left out by a later link");
            self.leave_out(at);
            return Ok(Flow::Next);
        }
        let cut = segment.damage.is_some();
        if let Some((offset, _)) = segment.damage {
            self.out.skipped.push((segment.path.clone(), offset));
        }
        let flow = match (self.segments[at].header().map(|h| h.base), self.mode) {
            (Some(base), _) => self.replay_headed(at, base)?,
            (None, RecoveryMode::SkipCorrupt) => self.salvage_headless(at)?,
            (None, _) if cut => {
                self.leave_out_from(at);
                Flow::Stop
            }
            (None, _) => self.pass_headless(at)?,
        };
        if flow == Flow::Next && cut && self.mode == RecoveryMode::PointInTime {
            self.leave_out_from(at + 1);
            return Ok(Flow::Stop);
        }
        Ok(flow)
    }

    fn replay_headed(&mut self, at: usize, base: u64) -> Result<Flow> {
        let segment = &self.segments[at];
        let known = segment.closed.or(segment.linked_end);
        let until = known.map_or(segment.len, |known| known.end_offset);
        let (num, linked) = (segment.num, segment.link.is_some());
        let (end_offset, end) = (HEADER_LEN as u64, Lsn(base + HEADER_LEN as u64));
        let mut so_far = ClosedSegment { num, end_offset, end, chain: 0 };
        if let Some(detail) = self.break_before(at)
            && self.pass_over(at, HEADER_LEN as u64, detail)? == Flow::Stop
        {
            self.leave_out_from(at);
            return Ok(Flow::Stop);
        }
        if linked {
            self.read_run(at, until, &mut so_far)?;
        }
        if self.mode == RecoveryMode::SkipCorrupt {
            self.salvage(at, until, &mut so_far)?;
            self.keep(so_far);
            return Ok(Flow::Next);
        }
        match known {
            Some(known) if known.end_offset == so_far.end_offset => {
                self.keep(so_far);
                self.check_whole(at, &known, &so_far)
            }
            _ => {
                let here = trace(&self.segments[at], &mut self.window, so_far.end_offset)?;
                self.keep(so_far);
                self.end_log(at, so_far.end_offset, Some(so_far.end.0), here)?;
                Ok(Flow::Stop)
            }
        }
    }

    /// The segment has the length that link or manifest say; it must also be the same bytes.
    fn check_whole(
        &mut self,
        at: usize,
        known: &ClosedSegment,
        found: &ClosedSegment,
    ) -> Result<Flow> {
        if known == found {
            base::probe!("closed segment replayed whole");
            return Ok(Flow::Next);
        }
        base::probe!("closed segment holds other records");
        let detail =
            format!("records are not those that were recorded: {found:?}, expected {known:?}");
        let flow = self.pass_over(at, found.end_offset, detail)?;
        if flow == Flow::Stop {
            self.leave_out_from(at + 1);
        }
        Ok(flow)
    }

    /// Why the segment cannot follow the last one, if so.
    fn break_before(&self, at: usize) -> Option<String> {
        let last = self.last()?;
        let base = self.segments[at].header()?.base;
        match self.segments[at].link? {
            Some(previous) if previous == *last && base >= last.end.0 => None,
            Some(previous) if previous == *last => {
                Some(format!("segment begins at {base}, before the end of {last:?}"))
            }
            Some(previous) if previous.num == last.num => {
                Some(format!("previous segment is {last:?}, the link says {previous:?}"))
            }
            Some(previous) => Some(format!(
                "link names segment {}, but {} comes before it",
                previous.num, last.num
            )),
            None => Some(format!("link names no segment, but {} comes before it", last.num)),
        }
    }

    /// A listed segment without a header of its own: never used, or the log ends before it.
    fn pass_headless(&mut self, at: usize) -> Result<Flow> {
        let here = trace(&self.segments[at], &mut self.window, 0)?;
        let segment = &self.segments[at];
        let referenced = segment.closed.is_some() || segment.linked_end.is_some();
        if referenced || here.written {
            let base = segment.linked_end.map(|end| end.end.0.saturating_sub(end.end_offset));
            let position = base.or(self.last().map(|last| last.end.0));
            self.out.dropped.push(segment.num);
            self.end_log(at, 0, position, here)?;
            return Ok(Flow::Stop);
        }
        if segment.start == Start::Garbage {
            base::probe!("torn header of a segment");
            self.tear(at, 0, HEADER_LEN as u64)?;
            self.out.dropped.push(self.segments[at].num);
        } else {
            self.out.unused.push(segment.num);
        }
        Ok(Flow::Next)
    }

    /// Visits records one behind the other until `until` or the first that is not whole.
    fn read_run(&mut self, at: usize, until: u64, so_far: &mut ClosedSegment) -> Result<()> {
        let Engine { segments, window, visit, out, .. } = self;
        let segment = &segments[at];
        let mut want = record::HEADER_LEN;
        while so_far.end_offset < until {
            let offset = so_far.end_offset;
            let bytes = segment.bytes(window, offset, want)?;
            let record = match record::decode(bytes, segment.identity, offset) {
                Ok(record) => record,
                Err(Bad::NeedMore(n))
                    if n > want && n as u64 <= segment.len.saturating_sub(offset) =>
                {
                    base::probe!("record asked for in two reads");
                    want = n;
                    continue;
                }
                Err(Bad::NeedMore(n)) if base::planted::is(26) && n > want => {
                    want = n;
                    continue;
                }
                Err(_) => return Ok(()),
            };
            let len = record.len as u64;
            if len > until - offset {
                return Ok(());
            }
            want = record::HEADER_LEN;
            if let Some(lag) = record.lag {
                out.synced = out.synced.max(Lsn(so_far.end.0.saturating_sub(lag)));
            }
            so_far.end_offset += len;
            so_far.end.0 += len;
            so_far.chain = segment::chain(so_far.chain, record.crc);
            if record.kind == Kind::Data {
                out.records += 1;
                out.payload_bytes += record.payload.len() as u64;
                visit(so_far.end, &segment.path, offset, record.payload)?;
            }
        }
        Ok(())
    }

    // --- the end ---

    /// The log ends at `offset` of segment `at`, which is `position` if that is known: decides by all
    /// the evidence whether it may.
    fn end_log(
        &mut self,
        at: usize,
        offset: u64,
        position: Option<u64>,
        here: Trace,
    ) -> Result<()> {
        let segment = &self.segments[at];
        let mut proof =
            segment.closed.filter(|closed| closed.end_offset > offset).map(|closed| closed.end.0);
        proof = proof.max(lost(segment, &here, position, true));
        let mut unclean = here.written;
        let mut dropped_bytes = here.seen_end.saturating_sub(offset);
        // Where to look: if this segment ends cleanly, the trouble is with the next one.
        let mut blame = (at, offset);
        let whole = !here.written && segment.closed.is_none() && segment.linked_end.is_none();
        for later in at + 1..self.segments.len() {
            if self.segments[later].superseded {
                self.leave_out(later);
                continue;
            }
            self.window.reset();
            let segment = &self.segments[later];
            let from = segment.header().map_or(0, |_| HEADER_LEN as u64);
            if let Some((offset, _)) = segment.damage {
                self.out.skipped.push((segment.path.clone(), offset));
            }
            let trace = trace(segment, &mut self.window, from)?;
            proof = proof
                .max(lost(segment, &trace, position, false))
                .max(segment.closed.map(|c| c.end.0));
            if segment.header().is_some() || trace.written || segment.start == Start::Garbage {
                if whole && !unclean {
                    blame = (later, from);
                }
                unclean = true;
                dropped_bytes += trace.seen_end;
                self.out.dropped.push(segment.num);
            } else {
                self.out.unused.push(segment.num);
            }
        }
        if base::planted::is(4) {
            proof = None;
        }
        if let Some(synced) = proof {
            base::probe!("log damaged below the synced position");
            let detail = format!("no valid record, but the log was synced up to position {synced}");
            self.pass_over(blame.0, blame.1, detail)?;
        }
        // A link that says the segment was longer stands in a later one, which is unclean.
        if unclean || proof.is_some() {
            self.tear(at, offset, dropped_bytes)?;
        }
        Ok(())
    }

    /// Damage: an error, unless the mode passes over it.
    fn pass_over(&mut self, at: usize, offset: u64, detail: String) -> Result<Flow> {
        let path = &self.segments[at].path;
        match self.mode {
            RecoveryMode::TolerateTornTail | RecoveryMode::Absolute => {
                Err(Error::corruption(path, offset, detail))
            }
            RecoveryMode::PointInTime => {
                base::probe!("damage ended the log, point in time");
                self.out.skipped.push((path.clone(), offset));
                Ok(Flow::Stop)
            }
            RecoveryMode::SkipCorrupt => {
                base::probe!("damage passed over, salvage");
                let place = (path.clone(), offset);
                // A break that follows from one already reported is not reported again.
                if self.out.skipped.is_empty() {
                    self.out.skipped.push(place);
                }
                Ok(Flow::Next)
            }
        }
    }

    /// Bytes are dropped that no sync covered.
    fn tear(&mut self, at: usize, offset: u64, dropped_bytes: u64) -> Result<()> {
        let path = &self.segments[at].path;
        if at + 1 < self.segments.len() {
            base::probe!("torn tail with segments behind it");
        } else {
            base::probe!("torn tail in the last segment");
        }
        if self.mode == RecoveryMode::Absolute || base::planted::is(44) {
            return Err(Error::corruption(path, offset, "torn tail, refused in mode Absolute"));
        }
        let torn = Torn { path: path.clone(), offset, dropped_bytes };
        self.out.torn.get_or_insert(torn);
        Ok(())
    }

    // --- salvage ---

    /// Goes on behind bad places until `until`.
    fn salvage(&mut self, at: usize, until: u64, so_far: &mut ClosedSegment) -> Result<()> {
        while so_far.end_offset < until {
            let (segment, from) = (&self.segments[at], so_far.end_offset);
            let mut seen = Trace::default();
            let next = next_record(segment, &mut self.window, from, &mut seen)?;
            let next = next.filter(|(start, place)| start + place.len <= until);
            let expected = segment.closed.is_some() || segment.linked_end.is_some();
            if next.is_some() || seen.written || expected {
                self.out.skipped.push((segment.path.clone(), from));
            }
            let Some((start, _)) = next else { break };
            so_far.end.0 += start - from;
            so_far.end_offset = start;
            self.read_run(at, until, so_far)?;
        }
        Ok(())
    }

    fn salvage_headless(&mut self, at: usize) -> Result<Flow> {
        let segment = &self.segments[at];
        if segment.is_missing() {
            return Ok(Flow::Next);
        }
        let (num, until) = (segment.num, segment.len);
        let base = segment.linked_end.map(|end| end.end.0.saturating_sub(end.end_offset));
        let end = Lsn(base.or(self.last().map(|last| last.end.0)).unwrap_or(0));
        let blank = matches!(segment.start, Start::Stale | Start::Blank);
        let (skipped, mut so_far) =
            (self.out.skipped.len(), ClosedSegment { num, end_offset: 0, end, chain: 0 });
        self.salvage(at, until, &mut so_far)?;
        if so_far.end_offset == 0 && blank && self.out.skipped.len() == skipped {
            self.out.unused.push(num);
        } else {
            self.keep(so_far);
        }
        Ok(Flow::Next)
    }

    // --- results ---

    fn last(&self) -> Option<&ClosedSegment> {
        self.out.segments.last()
    }

    fn keep(&mut self, so_far: ClosedSegment) {
        if so_far.end_offset >= FIRST_RECORD as u64 {
            self.out.segments.push(so_far);
        } else {
            self.out.dropped.push(so_far.num);
        }
    }

    fn leave_out(&mut self, at: usize) {
        let segment = &self.segments[at];
        match segment.start {
            Start::Stale | Start::Blank => self.out.unused.push(segment.num),
            Start::Header(_) | Start::Garbage => self.out.dropped.push(segment.num),
        }
    }

    fn leave_out_from(&mut self, from: usize) {
        (from..self.segments.len()).for_each(|at| self.leave_out(at));
    }
}

/// How far `trace` proves the log synced, if that is behind `position`, where it ends.
///
/// Without the base of the segment a stated position is known only relative to its start. If it lies in
/// the segment, everything before the segment was synced too. `here`: the log ends in this segment.
fn lost(segment: &Surveyed, trace: &Trace, position: Option<u64>, here: bool) -> Option<u64> {
    let relative = trace.synced?;
    match (segment.header(), position) {
        (Some(header), Some(position)) => {
            let stated = header.base.saturating_add_signed(relative);
            (stated > position).then_some(stated)
        }
        (Some(header), None) if !here => (relative >= 0).then_some(header.base),
        _ => (relative > 0).then(|| position.unwrap_or(0).saturating_add_signed(relative)),
    }
}
