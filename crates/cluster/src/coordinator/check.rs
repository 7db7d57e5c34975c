//! What is wrong with a request and can be told before anything happens.

use crate::clock::RUNS_NAMED_MAX;
use crate::codec::message::Op;
use crate::layout::KEY_BYTES_MAX;
use crate::node::Policy;
use crate::record::{self, Bounds};
use crate::transport::{Detail, Failure};

fn invalid(detail: String) -> Failure {
    Failure::Invalid(Detail::new(detail))
}

/// R or W, and the time for it.
pub(super) fn goal(policy: &Policy, owners_min: usize, timeout_micros: u64) -> Result<(), Failure> {
    let n = policy.replicas;
    if owners_min == 0 {
        return Err(invalid(format!("0 owners wanted; ask for 1 to {n}")));
    }
    if timeout_micros == 0 {
        return Err(invalid("0 microseconds are no time; give a longer timeout".into()));
    }
    match owners_min <= n {
        true => Ok(()),
        false => Err(Failure::Unavailable { reached: n as u64, wanted: owners_min as u64 }),
    }
}

pub(super) fn key(key: &[u8]) -> Result<(), Failure> {
    match key.len() {
        0..=KEY_BYTES_MAX => Ok(()),
        len => Err(invalid(format!("key of {len} bytes, {KEY_BYTES_MAX} at most; shorten it"))),
    }
}

/// A write whose value no owner would take, or which no message would hold.
pub(super) fn op(op: &Op, bounds: &Bounds) -> Result<(), Failure> {
    key(&op.key)?;
    let runs = op.replaces.runs().len();
    if runs > RUNS_NAMED_MAX {
        let detail =
            format!("{runs} runs of writes replaced, {RUNS_NAMED_MAX} at most; read again");
        return Err(invalid(detail));
    }
    let (len, max) = (op.value.as_ref().map_or(0, |value| value.len()), bounds.value_bytes_max);
    match len <= max {
        true => Ok(()),
        false => {
            Err(invalid(format!("value of {len} bytes, {max} at most; split it over several keys")))
        }
    }
}

/// The bounds of a keyspace where frames are so long: what its owners write side by side fits into one when it is merged, together with
/// keys and contexts.
pub(super) fn bounds(policy: &Policy, frame_bytes_max: usize) -> Bounds {
    let share = frame_bytes_max / (policy.replicas + 1);
    Bounds {
        value_bytes_max: policy.bounds.value_bytes_max.min(share),
        siblings_max: policy.bounds.siblings_max.min(record::siblings_max(policy.replicas)),
    }
}
