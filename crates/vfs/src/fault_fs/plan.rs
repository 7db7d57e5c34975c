//! Which operations fail, and how.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use crate::SyncOutcome;
use crate::rng::Rng;

/// The operations that a fault can be aimed at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each is the method of the same name")]
pub enum OpKind {
    Create,
    OpenAppend,
    Open,
    CreateSegment,
    OpenSegment,
    /// Its path is the new name.
    Rename,
    RemoveFile,
    /// Its path is the new name.
    HardLink,
    CreateDirAll,
    RemoveDir,
    List,
    Metadata,
    SyncDir,
    Lock,
    FreeSpace,
    /// Of a [`WritableFile`](crate::WritableFile).
    Append,
    /// Of a [`WritableFile`](crate::WritableFile).
    Sync,
    /// `read_at` of a [`RandomAccessFile`](crate::RandomAccessFile).
    Read,
    /// Of a [`RandomAccessFile`](crate::RandomAccessFile).
    Len,
    /// Of a [`SegmentFile`](crate::SegmentFile).
    WriteAt,
    /// Of a [`SegmentFile`](crate::SegmentFile).
    SegmentSync,
}

impl OpKind {
    fn opens(self) -> bool {
        use OpKind::{Create, CreateSegment, List, Lock, Open, OpenAppend, OpenSegment, SyncDir};
        matches!(
            self,
            Create | OpenAppend | Open | CreateSegment | OpenSegment | List | SyncDir | Lock
        )
    }

    /// True if the disk may be too full for it.
    fn takes_space(self) -> bool {
        use OpKind::{Append, Create, CreateDirAll, CreateSegment, HardLink, Lock, Rename};
        matches!(self, Create | CreateSegment | Rename | HardLink | CreateDirAll | Lock | Append)
    }
}

/// What happens to an operation that was hit.
#[derive(Clone)]
#[non_exhaustive]
pub enum Fault {
    /// Any operation fails with `EIO` and has no effect.
    Eio,
    /// Operations that need space fail with `StorageFull` and have no effect.
    NoSpace,
    /// Operations that need space fail with `QuotaExceeded` and have no effect.
    QuotaExceeded,
    /// Operations that open something fail with `EMFILE`.
    TooManyOpenFiles,
    /// Any operation fails with `Interrupted` and has no effect.
    Interrupted,
    /// A read gives the first half of what was asked for, as if the file ended there.
    ShortRead,
    /// An append or `write_at` writes the first half of its bytes, then fails with `EIO`.
    ShortWrite,
    /// A sync of a file fails with `EIO` and leaves this behind.
    SyncFailed(SyncOutcome),
    /// Any operation calls this hook first, then runs. The hook may block until the test lets it go.
    Slow(Arc<dyn Fn() + Send + Sync>),
    /// A read gives one wrong bit.
    BitRot,
    /// A hard link fails with `Unsupported`, as on a file system that has none.
    NoLinks,
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Eio => f.write_str("Eio"),
            Fault::NoSpace => f.write_str("NoSpace"),
            Fault::QuotaExceeded => f.write_str("QuotaExceeded"),
            Fault::TooManyOpenFiles => f.write_str("TooManyOpenFiles"),
            Fault::Interrupted => f.write_str("Interrupted"),
            Fault::ShortRead => f.write_str("ShortRead"),
            Fault::ShortWrite => f.write_str("ShortWrite"),
            Fault::SyncFailed(outcome) => f.debug_tuple("SyncFailed").field(outcome).finish(),
            Fault::Slow(_) => f.write_str("Slow"),
            Fault::BitRot => f.write_str("BitRot"),
            Fault::NoLinks => f.write_str("NoLinks"),
        }
    }
}

impl Fault {
    fn applies(&self, kind: OpKind) -> bool {
        match self {
            Fault::Eio | Fault::Interrupted | Fault::Slow(_) => true,
            Fault::NoSpace | Fault::QuotaExceeded => kind.takes_space(),
            Fault::TooManyOpenFiles => kind.opens(),
            Fault::ShortRead | Fault::BitRot => kind == OpKind::Read,
            Fault::ShortWrite => matches!(kind, OpKind::Append | OpKind::WriteAt),
            Fault::SyncFailed(_) => matches!(kind, OpKind::Sync | OpKind::SegmentSync),
            Fault::NoLinks => kind == OpKind::HardLink,
        }
    }

    /// The error that the caller sees.
    pub(super) fn error(&self) -> io::Error {
        match self {
            Fault::NoSpace => ErrorKind::StorageFull.into(),
            Fault::QuotaExceeded => ErrorKind::QuotaExceeded.into(),
            Fault::TooManyOpenFiles => os_error("too many open files", EMFILE),
            Fault::Interrupted => ErrorKind::Interrupted.into(),
            Fault::NoLinks => ErrorKind::Unsupported.into(),
            _ => os_error("input/output error", EIO),
        }
    }
}

const EIO: i32 = 5;
const EMFILE: i32 = 24;

/// The kernel's own error where its numbers are known.
fn os_error(text: &'static str, number: i32) -> io::Error {
    if cfg!(unix) { io::Error::from_raw_os_error(number) } else { io::Error::other(text) }
}

type PathFilter = Arc<dyn Fn(&Path) -> bool + Send + Sync>;

/// A fault and the operations it is meant for. All conditions must hold; none given means all.
///
/// ```
/// use vfs::{Fault, FaultPlan, OpKind, SyncOutcome};
/// // The disk is full from operation 100 until `FaultFs::clear`.
/// let full = FaultPlan::from(100, Fault::NoSpace);
/// // The second sync of any table fails.
/// let sync = FaultPlan::any(Fault::SyncFailed(SyncOutcome::ErrorOnceThenOk))
///     .kinds(&[OpKind::Sync]).suffix(".sst").skip(1).times(1);
/// ```
#[derive(Clone)]
pub struct FaultPlan {
    fault: Fault,
    from: u64,
    to: u64,
    kinds: Vec<OpKind>,
    path: Option<PathFilter>,
    skip: u64,
    times: u64,
    /// Chance in 1,000 and the seed that draws it.
    chance: Option<(u32, u64)>,
}

impl fmt::Debug for FaultPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultPlan")
            .field("fault", &self.fault)
            .field("from", &self.from)
            .field("to", &self.to)
            .field("kinds", &self.kinds)
            .field("by_path", &self.path.is_some())
            .field("skip", &self.skip)
            .field("times", &self.times)
            .field("chance", &self.chance)
            .finish()
    }
}

impl FaultPlan {
    /// Every operation from now on.
    #[must_use]
    pub fn any(fault: Fault) -> Self {
        Self {
            fault,
            from: 0,
            to: u64::MAX,
            kinds: Vec::new(),
            path: None,
            skip: 0,
            times: u64::MAX,
            chance: None,
        }
    }

    /// The operation with this index alone.
    #[must_use]
    pub fn at(index: u64, fault: Fault) -> Self {
        Self { from: index, to: index, ..Self::any(fault) }
    }

    /// Every operation from this index on.
    #[must_use]
    pub fn from(index: u64, fault: Fault) -> Self {
        Self { from: index, ..Self::any(fault) }
    }

    /// Only operations of these kinds.
    #[must_use]
    pub fn kinds(mut self, kinds: &[OpKind]) -> Self {
        self.kinds = kinds.to_vec();
        self
    }

    /// Only paths that `accepts` accepts. For open files it is the name at opening.
    #[must_use]
    pub fn path(mut self, accepts: impl Fn(&Path) -> bool + Send + Sync + 'static) -> Self {
        self.path = Some(Arc::new(accepts));
        self
    }

    /// Only paths that end in `suffix`, compared as text.
    #[must_use]
    pub fn suffix(self, suffix: &str) -> Self {
        let suffix = suffix.to_string();
        self.path(move |path| path.to_string_lossy().ends_with(&suffix))
    }

    /// Spares the first `count` operations that match all other conditions.
    #[must_use]
    pub fn skip(mut self, count: u64) -> Self {
        self.skip = count;
        self
    }

    /// Fires `count` times at most.
    #[must_use]
    pub fn times(mut self, count: u64) -> Self {
        self.times = count;
        self
    }

    /// Fires for `permille` in 1,000 matching operations, drawn by `seed`.
    #[must_use]
    pub fn chance(mut self, permille: u32, seed: u64) -> Self {
        self.chance = Some((permille, seed));
        self
    }

    fn matches(&self, index: u64, kind: OpKind, path: &Path) -> bool {
        (self.from..=self.to).contains(&index)
            && self.fault.applies(kind)
            && (self.kinds.is_empty() || self.kinds.contains(&kind))
            && self.path.as_ref().is_none_or(|accepts| accepts(path))
    }
}

/// A plan at work.
#[derive(Debug)]
pub(super) struct Armed {
    plan: FaultPlan,
    rng: Rng,
}

impl Armed {
    pub(super) fn new(plan: FaultPlan) -> Self {
        let rng = Rng::new(plan.chance.map_or(0, |(_, seed)| seed));
        Self { plan, rng }
    }

    /// The fault, if this operation is to fail.
    pub(super) fn fire(&mut self, index: u64, kind: OpKind, path: &Path) -> Option<Fault> {
        if !self.plan.matches(index, kind, path) || self.plan.times == 0 {
            return None;
        }
        if self.plan.chance.is_some_and(|(permille, _)| self.rng.below(1000) >= u64::from(permille))
        {
            return None;
        }
        if self.plan.skip > 0 {
            self.plan.skip -= 1;
            return None;
        }
        self.plan.times -= 1;
        Some(self.plan.fault.clone())
    }
}
