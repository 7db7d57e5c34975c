//! A write, as the owner that makes its dot carries it out.

use super::{Mode, Record, Version};
use crate::clock::{Context, Dot, Stamp};
use base::Slice;

/// What is written, and what it replaces.
#[derive(Debug, Clone)]
pub struct Write<'a> {
    /// The write's own dot, greater than all its maker made before in the partition.
    pub dot: Dot,
    /// The write's stamp.
    pub stamp: Stamp,
    /// The value; `None` deletes.
    pub value: Option<Slice>,
    /// From when on the value counts as deleted, in microseconds since 1970; 0 is never.
    pub expires_micros: u64,
    /// What the client had read.
    pub replaces: &'a Context,
    /// The maker is an owner: `self` holds all that it wrote to this key. False for a stand-in, which has handed earlier
    /// writes on.
    pub by_owner: bool,
}

/// How far a record may grow by writes. Merges pass them: nothing that was acknowledged is dropped for space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Most siblings. Default 16.
    pub siblings_max: usize,
    /// Most bytes of all values together. Default 8 MiB.
    pub value_bytes_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds { siblings_max: 16, value_bytes_max: 8 << 20 }
    }
}

/// Why a write is not carried out. Nothing has changed then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The key has as many concurrent values as it may; read them, merge them, and write with the token of that read.
    #[error(
        "too many siblings, the limit is {max}; read, merge and write back with the token of the read"
    )]
    TooManySiblings {
        /// How many there may be.
        max: usize,
    },
    /// All values of the key together would be larger than they may be.
    #[error(
        "values of the key would take {bytes} bytes, the limit is {max}; read, merge and write back"
    )]
    TooManyBytes {
        /// What they would take.
        bytes: usize,
        /// What they may take.
        max: usize,
    },
    /// What is stored has a later stamp; ask the clock for one after `stored`.
    #[error("a write with a later stamp is stored stamp={stored}")]
    StampTooOld {
        /// The stamp of what is stored.
        stored: Stamp,
    },
    /// The dot was used, or somebody claims to have seen it already: the maker does not know all it made. It needs a new
    /// actor.
    #[error("dot {dot} is known already")]
    DotKnown {
        /// The dot.
        dot: Dot,
    },
}

impl Record {
    /// The record after `write`.
    ///
    /// # Errors
    /// [`Refused`]; the record is as it was.
    pub fn write(&self, write: &Write<'_>, mode: Mode, bounds: &Bounds) -> Result<Record, Refused> {
        let actor = write.dot.actor;
        let stored = self.versions.iter().filter(|version| version.dot.actor == actor);
        let known = stored.map(|version| version.dot.counter).max().unwrap_or(0);
        let claimed = self.context.newest(actor).max(write.replaces.newest(actor));
        if known.max(claimed) >= write.dot.counter {
            return Err(Refused::DotKnown { dot: write.dot });
        }
        let version = Version {
            dot: write.dot,
            stamp: write.stamp,
            expires_micros: write.expires_micros,
            value: write.value.clone(),
        };
        let record = match mode {
            Mode::Siblings => self.with_sibling(version, write),
            Mode::LastWriterWins => self.with_last(version)?,
        };
        record.within(bounds, self)
    }

    fn with_sibling(&self, version: Version, write: &Write<'_>) -> Record {
        let mut context = self.context.union(write.replaces);
        if write.by_owner {
            context.raise(write.dot.actor, write.dot.counter);
        } else {
            context.insert(write.dot);
        }
        let replaced = |version: &&Version| write.replaces.contains(version.dot);
        let mut versions: Vec<_> = self.versions.iter().filter(|v| !replaced(v)).cloned().collect();
        versions.extend(Some(version).filter(|version| version.value.is_some()));
        versions.sort_by_key(|version| version.dot);
        Record { versions, context }
    }

    fn with_last(&self, version: Version) -> Result<Record, Refused> {
        match self.versions.first() {
            Some(stored) if stored.age() > version.age() => {
                Err(Refused::StampTooOld { stored: stored.stamp })
            }
            _ => Ok(Record { versions: vec![version], context: Context::new() }),
        }
    }

    /// A write that leaves a record no larger than it was is taken, also where merges went past the bounds.
    fn within(self, bounds: &Bounds, before: &Record) -> Result<Record, Refused> {
        let (siblings, bytes) = (self.versions.len(), self.value_bytes());
        if siblings > bounds.siblings_max.max(before.versions.len()) {
            return Err(Refused::TooManySiblings { max: bounds.siblings_max });
        }
        if bytes > bounds.value_bytes_max.max(before.value_bytes()) {
            return Err(Refused::TooManyBytes { bytes, max: bounds.value_bytes_max });
        }
        Ok(self)
    }
}
