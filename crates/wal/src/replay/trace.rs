//! What lies behind the end of the log: evidence of lost data, or nothing.

use base::Result;

use super::survey::Surveyed;
use super::window::Window;
use crate::record::{self, Bad, HEADER_LEN};

/// In a file that was never used before, this many zero bytes are looked at one by one; what follows them is
/// probed: [`PROBE`] bytes of each [`STRIDE`], until a probe shows something. So a stretch of records
/// is overlooked only if it is shorter than a stride and more than a mebibyte behind the end of the log.
/// Reading all of a large blank tail would cost more than the rest of an open.
const ZEROS_READ: u64 = 1 << 20;
const STRIDE: u64 = 64 << 10;
const PROBE: usize = 4 << 10;

/// What a stretch of a segment shows.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Trace {
    /// A record of this segment was begun here, whole or torn; or, if the file was never used before,
    /// some byte is not zero.
    pub(super) written: bool,
    /// Offset behind the last byte known to be written.
    pub(super) seen_end: u64,
    /// The furthest synced position that a whole record states, relative to the start of the
    /// segment: negative if it lies in an earlier one.
    pub(super) synced: Option<i64>,
}

/// Looks at the bytes of `segment` from `from`, a multiple of 8, to its end.
pub(super) fn trace(segment: &Surveyed, window: &mut Window, from: u64) -> Result<Trace> {
    let mut trace = Trace { seen_end: from, ..Trace::default() };
    let mut at = from;
    while let Some((found, record)) = next_record(segment, window, at, &mut trace)? {
        if let Some(lag) = record.lag {
            let synced = found as i64 - lag as i64;
            trace.synced = Some(trace.synced.map_or(synced, |s| s.max(synced)));
        }
        at = found + record.len;
        trace.seen_end = trace.seen_end.max(at);
    }
    Ok(trace)
}

/// A record without its payload.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) len: u64,
    pub(super) lag: Option<u64>,
}

/// The first whole record at or behind `from`. Notes in `trace` what was seen on the way.
pub(super) fn next_record(
    segment: &Surveyed,
    window: &mut Window,
    from: u64,
    trace: &mut Trace,
) -> Result<Option<(u64, Place)>> {
    let (mut at, mut zeros_from, fresh) = (from, from, segment.is_fresh());
    loop {
        let bytes = segment.bytes(window, at, HEADER_LEN)?;
        let found = record::find(bytes, segment.identity, at);
        let searched = record::unsearched(bytes.len()) as u64;
        if fresh {
            let written = record::written_len(&bytes[..found.unwrap_or(bytes.len())]) as u64;
            if written > 0 {
                zeros_from = at + written;
                trace.written = true;
                trace.seen_end = trace.seen_end.max(zeros_from);
            }
        }
        let Some(found) = found else {
            if searched == 0 {
                return Ok(None);
            }
            at += searched;
            if fresh && at.saturating_sub(zeros_from) >= ZEROS_READ {
                base::probe!("long blank tail of a segment skipped");
                at = skip_zeros(segment, at)?;
                zeros_from = at;
            }
            continue;
        };
        at += found as u64;
        trace.written = true;
        trace.seen_end = trace.seen_end.max(at + HEADER_LEN as u64);
        if let Ok(place) = whole_record(segment, window, at)? {
            return Ok(Some((at, place)));
        }
        at += record::ALIGN as u64;
    }
}

/// The last position, in steps of a stride from `at`, up to which all probes are zero.
fn skip_zeros(segment: &Surveyed, mut at: u64) -> Result<u64> {
    let mut probe = [0; PROBE];
    while at + STRIDE <= segment.len {
        segment.read(at + STRIDE - PROBE as u64, &mut probe)?;
        if record::written_len(&probe) > 0 {
            break;
        }
        at += STRIDE;
    }
    Ok(at)
}

fn whole_record(segment: &Surveyed, window: &mut Window, at: u64) -> Result<Result<Place, Bad>> {
    let mut want = HEADER_LEN;
    loop {
        let bytes = segment.bytes(window, at, want)?;
        match record::decode(bytes, segment.identity, at) {
            Ok(record) => return Ok(Ok(Place { len: record.len as u64, lag: record.lag })),
            Err(Bad::NeedMore(n)) if n > want && n as u64 <= segment.len.saturating_sub(at) => {
                want = n
            }
            Err(bad) => return Ok(Err(bad)),
        }
    }
}
