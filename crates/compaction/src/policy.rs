//! [`Policy`]: the choice of what to compact, without effects.

use crate::task::Task;
use crate::tree::Tree;
use crate::{Fifo, LazyLeveled, Leveled, SizeTiered, codec, manual};
use base::{Error, FileNum, Result, SeqNo};
use manifest::Version;
use std::ops::Bound;

/// How a keyspace is compacted. Plain values: cloned, compared, and stored with the keyspace.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Policy {
    /// One run a level, each level a multiple of the one above. Reads and space first; the default.
    Leveled(Leveled),
    /// Runs of similar size are merged into one. Writes first.
    SizeTiered(SizeTiered),
    /// Several runs a level, one run in the last. Between the two.
    LazyLeveled(LazyLeveled),
    /// Nothing is merged; the oldest tables are dropped by size or age.
    Fifo(Fifo),
}

impl Default for Policy {
    fn default() -> Self {
        Policy::Leveled(Leveled::default())
    }
}

/// What a policy looks at.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The tables of the keyspace.
    pub version: &'a Version,
    /// The tasks of this keyspace that are running: picked, and their changes not applied yet.
    pub running: &'a [Task],
    /// The time by the wall, in microseconds since 1970.
    pub now_micros: u64,
    /// The oldest snapshot that is still open; [`SeqNo::MAX`] if there is none. A reader that holds
    /// on to a whole version needs no mention here.
    pub oldest_snapshot: SeqNo,
    /// True while writes come so fast that merging had better wait until more is there to merge.
    pub burst: bool,
}

/// How far compaction is behind: what back-pressure goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Debt {
    /// Runs that wait for their first merge. For [`Policy::SizeTiered`] the longest bucket, for
    /// [`Policy::Fifo`] 0: many runs are no debt there.
    pub l0_runs: usize,
    /// Bytes that have to be rewritten until the policy is content.
    pub pending_bytes: u64,
}

impl Policy {
    /// The most urgent task that can start now; `None` if there is none.
    ///
    /// Put the task in [`View::running`], do it, apply its [`changes`](Task::changes), pick again:
    /// without new data this ends after finitely many steps.
    #[must_use]
    pub fn pick(&self, view: &View<'_>) -> Option<Task> {
        match self {
            Policy::Leveled(p) => p.pick(view),
            Policy::SizeTiered(p) => p.pick(view),
            Policy::LazyLeveled(p) => p.pick(view),
            Policy::Fifo(p) => p.pick(view),
        }
    }

    /// The next step towards few runs, for times when nothing is written; `begun` says that earlier steps were taken.
    ///
    /// Only [`Policy::Leveled`] has any: the others promise less writing, not fewer runs. Without new data it ends after
    /// finitely many steps.
    #[must_use]
    pub fn pick_quiet(&self, view: &View<'_>, begun: bool) -> Option<Task> {
        match self {
            Policy::Leveled(p) => p.pick_quiet(view, begun),
            _ => None,
        }
    }

    /// The next step of a manual compaction of the keys between `lower` and `upper`.
    ///
    /// Repeated until `None`, all tables with keys in the range end in one sorted run, without the
    /// tombstones that no snapshot needs. While tasks are running `None` may also mean that they are
    /// in the way: call again when one has ended. [`Policy::Fifo`] never merges and returns `None`.
    #[must_use]
    pub fn pick_range(
        &self,
        view: &View<'_>,
        lower: Bound<&[u8]>,
        upper: Bound<&[u8]>,
    ) -> Option<Task> {
        match self {
            Policy::Leveled(p) => p.pick_range(view, lower, upper),
            Policy::SizeTiered(p) => p.pick_range(view, lower, upper),
            Policy::LazyLeveled(p) => p.pick_range(view, lower, upper),
            Policy::Fifo(_) => None,
        }
    }

    /// Rewrites table `file` where it is, so that it loses the versions and tombstones that no snapshot needs any more;
    /// `None` if there is no such table, a running task is in the way, or the policy is [`Policy::Fifo`].
    ///
    /// Versions that newer ones hide are not counted in the description of a table, so it is for the caller to know
    /// that there are some, and not to ask for ever.
    #[must_use]
    pub fn pick_rewrite(&self, view: &View<'_>, file: FileNum) -> Option<Task> {
        match self {
            Policy::Leveled(_) | Policy::SizeTiered(_) | Policy::LazyLeveled(_) => {
                manual::rewrite(&Tree::new(view), file, self.target_table_bytes())
            }
            Policy::Fifo(_) => None,
        }
    }

    /// How far behind compaction is.
    #[must_use]
    pub fn debt(&self, version: &Version) -> Debt {
        match self {
            Policy::Leveled(p) => p.debt(version),
            Policy::SizeTiered(p) => p.debt(version),
            Policy::LazyLeveled(p) => p.debt(version),
            Policy::Fifo(_) => Debt::default(),
        }
    }

    /// Tables are closed past this size, also those of a flush.
    #[must_use]
    pub fn target_table_bytes(&self) -> u64 {
        match self {
            Policy::Leveled(p) => p.target_table_bytes,
            Policy::SizeTiered(p) => p.target_table_bytes,
            Policy::LazyLeveled(p) => p.target_table_bytes,
            Policy::Fifo(_) => Leveled::default().target_table_bytes,
        }
    }

    /// `leveled`, `size_tiered`, `lazy_leveled` or `fifo`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Policy::Leveled(_) => "leveled",
            Policy::SizeTiered(_) => "size_tiered",
            Policy::LazyLeveled(_) => "lazy_leveled",
            Policy::Fifo(_) => "fifo",
        }
    }

    /// Checks the fields against their documented ranges.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] that lists every broken rule.
    pub fn validate(&self) -> Result<()> {
        let mut rules = Rules::default();
        match self {
            Policy::Leveled(p) => p.check(&mut rules),
            Policy::SizeTiered(p) => p.check(&mut rules),
            Policy::LazyLeveled(p) => p.check(&mut rules),
            Policy::Fifo(p) => p.check(&mut rules),
        }
        rules.finish(self.name())
    }

    /// The bytes stored in the options of a keyspace; see [`decode`](Self::decode).
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads what [`encode`](Self::encode) wrote. Fields that are missing get their defaults.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the bytes are damaged, hold a policy or field that this build
    /// does not know, or values that [`validate`](Self::validate) refuses.
    pub fn decode(bytes: &[u8]) -> Result<Policy> {
        codec::decode(bytes)
    }
}

macro_rules! each_policy {
    ($($name:ident)*) => {$(
        impl From<$name> for Policy {
            fn from(policy: $name) -> Policy {
                Policy::$name(policy)
            }
        }
        impl $name {
            /// See [`Policy::validate`].
            ///
            /// # Errors
            /// [`Error::InvalidArgument`] that lists every broken rule.
            pub fn validate(&self) -> Result<()> {
                Policy::from(self.clone()).validate()
            }
        }
    )*};
}
each_policy!(Leveled SizeTiered LazyLeveled Fifo);

/// Collects broken rules.
#[derive(Debug, Default)]
pub(crate) struct Rules(Vec<String>);

impl Rules {
    /// `what` must lie in `range`.
    pub(crate) fn within<T: PartialOrd + std::fmt::Display>(
        &mut self,
        what: &str,
        value: T,
        range: std::ops::RangeInclusive<T>,
    ) {
        if !range.contains(&value) {
            let (low, high) = range.into_inner();
            self.0.push(format!("{what} is {value}, allowed is {low} to {high}"));
        }
    }

    pub(crate) fn holds(&mut self, ok: bool, rule: &str) {
        if !ok {
            self.0.push(rule.to_owned());
        }
    }

    fn finish(self, name: &str) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        Err(Error::invalid("compaction policy", format!("{name}: {}", self.0.join("; "))))
    }
}

/// Smallest table or level size that makes sense to anyone but a test: none smaller is accepted.
pub(crate) const BYTES_MIN: u64 = 1;
/// Largest configurable size: 1 EiB, so that sums and small products fit.
pub(crate) const BYTES_MAX: u64 = 1 << 60;
