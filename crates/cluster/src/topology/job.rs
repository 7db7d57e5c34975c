//! The job that moves data, as far as all have to agree on it.

use crate::codec::DecodeError;
use crate::codec::wire::{Input, Wire, fields, tags};
use ring::Epoch;
use std::fmt;

/// Names a job for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct JobId(pub u64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "j{}", self.0)
    }
}

impl Wire for JobId {
    const LEN_MIN: usize = 1;
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
    }
    fn take(input: &mut Input<'_>) -> Result<Self, DecodeError> {
        u64::take(input).map(JobId)
    }
}

tags! {
    /// Which way a job goes.
    JobKind {
        /// To the placement that the members ask for.
        Forward = 1,
        /// Back to the placement from before the job.
        Back = 2,
    }
}

fields! {
    /// A job. There is one at a time; what is left to do is in the placements.
    Job {
        /// Which one.
        id: JobId,
        /// Which way it goes.
        kind: JobKind,
        /// No further step begins, and no byte is copied.
        paused: bool,
        /// Most bytes a second that each receiver is sent; 0 is no limit.
        bytes_per_second: u64,
        /// The epoch that it began in.
        begun: Epoch,
    }
}
