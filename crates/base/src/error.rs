//! The one error type of the family, and what a caller can do about each error.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// `Result` with the family's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong, with the place where it did.
///
/// Messages are lower case, values last, causes in [`source`](std::error::Error::source).
/// Cloning is cheap: background failures are kept and shown to every later caller.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system refused `op` on `path`.
    #[error("{op} failed path={}", path.display())]
    Io {
        /// The operation, such as `"append"`.
        op: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
    /// The disk or the quota is full. Nothing of the failed call took effect; free space and retry.
    #[error("no space left for {op}; free some and retry path={}", path.display())]
    NoSpace {
        /// The operation that found the disk full.
        op: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
    /// Stored bytes break the format; `offset` is where the reader noticed.
    #[error("corruption: {detail} path={} offset={offset}", path.display())]
    Corruption {
        /// The damaged file.
        path: PathBuf,
        /// Byte offset in `path` at which the damage was noticed.
        offset: u64,
        /// What was expected and what was found.
        detail: String,
    },
    /// No retry helps: the argument or option named by `what` is wrong.
    #[error("invalid {what}: {detail}")]
    InvalidArgument {
        /// The argument or option.
        what: &'static str,
        /// The broken rule and the offending value; several, if several rules are broken.
        detail: String,
    },
    /// The file was written by a version of this library that this one does not read.
    #[error("unsupported format version {found}, this build reads up to {supported} path={}", path.display())]
    UnsupportedFormat {
        /// The file with the foreign version.
        path: PathBuf,
        /// The version found.
        found: u32,
        /// The newest version this build reads.
        supported: u32,
    },
    /// Another handle, in this process or another one, has the database open.
    #[error("database is in use by another handle or process; close it first path={}", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The path does not hold a database, and was not to be made into one.
    #[error("not a database: {detail} path={}", path.display())]
    NotADatabase {
        /// The path given to `open`.
        path: PathBuf,
        /// What stands in the way, and what to do.
        detail: String,
    },
    /// No keyspace of this name, or it was dropped.
    #[error("no keyspace named {name:?}; create it with Db::keyspace")]
    KeyspaceNotFound {
        /// The name asked for.
        name: String,
    },
    /// A sync failed, so what is on disk is unknown. Reads go on; writes resume after a reopen.
    ///
    /// The write that met the failure is *indeterminate*: it may be there after a crash or not.
    #[error("sync failed, writes stopped until the database is reopened")]
    SyncFailed {
        /// The failed sync.
        source: Arc<Error>,
    },
    /// A background job broke an invariant or panicked. Reads go on; writes resume after a reopen.
    #[error("writes stopped after an internal failure until the database is reopened: {detail}")]
    Poisoned {
        /// What happened.
        detail: String,
    },
    /// An earlier background failure stopped writes; reads still work.
    #[error("writes stopped by an earlier failure; reopen the database")]
    WritesStopped {
        /// The earlier failure.
        source: Arc<Error>,
    },
    /// As many of `what` are in use as there may be. Try again when some are given back.
    #[error("too many {what}, the limit is {max}; try again when some are closed")]
    Overloaded {
        /// What there is too much of, such as `"open iterators"`.
        what: &'static str,
        /// How many there may be.
        max: u64,
    },
    /// The database was closed.
    #[error("database is closed")]
    Closed,
    /// The database was opened read-only.
    #[error("database is open read-only; reopen it without read_only to write")]
    ReadOnly,
}

/// The action open to the caller. Status codes of other protocols derive from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Try again, now or a little later.
    Retry,
    /// Free disk space or quota, then try again; no reopen needed.
    FreeSpace,
    /// The call is wrong; trying again does not help.
    FixCall,
    /// Stored data is damaged: restore it from a checkpoint, a backup or a replica.
    RestoreData,
    /// Close the database and open it again.
    Reopen,
}

impl Error {
    /// What the caller should do.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Io { .. } | Error::Locked { .. } | Error::Overloaded { .. } => ErrorKind::Retry,
            Error::NoSpace { .. } => ErrorKind::FreeSpace,
            Error::InvalidArgument { .. }
            | Error::UnsupportedFormat { .. }
            | Error::NotADatabase { .. }
            | Error::KeyspaceNotFound { .. }
            | Error::ReadOnly => ErrorKind::FixCall,
            Error::Corruption { .. } => ErrorKind::RestoreData,
            Error::SyncFailed { .. } | Error::Poisoned { .. } | Error::Closed => ErrorKind::Reopen,
            Error::WritesStopped { source } => match source.kind() {
                ErrorKind::RestoreData => ErrorKind::RestoreData,
                _ => ErrorKind::Reopen,
            },
        }
    }

    /// Wraps an [`io::Error`]; a full disk or quota becomes [`Error::NoSpace`].
    #[must_use]
    pub fn io(op: &'static str, path: &Path, source: io::Error) -> Error {
        let (path, full) = (path.to_path_buf(), is_full(&source));
        let source = Arc::new(source);
        if full { Error::NoSpace { op, path, source } } else { Error::Io { op, path, source } }
    }

    /// Stored bytes at `offset` of `path` are wrong.
    #[must_use]
    pub fn corruption(path: &Path, offset: u64, detail: impl Into<String>) -> Error {
        Error::Corruption { path: path.to_path_buf(), offset, detail: detail.into() }
    }

    /// The argument or option `what` breaks a rule.
    #[must_use]
    pub fn invalid(what: &'static str, detail: impl Into<String>) -> Error {
        Error::InvalidArgument { what, detail: detail.into() }
    }

    /// True if the disk or quota was full.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        matches!(self, Error::NoSpace { .. })
    }

    /// True if stored bytes are damaged.
    #[must_use]
    pub fn is_corruption(&self) -> bool {
        matches!(self, Error::Corruption { .. })
    }
}

fn is_full(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Adds operation and path to an [`io::Result`].
pub trait IoContext<T> {
    /// Turns an [`io::Error`] into an [`Error`] that names `op` and `path`.
    fn context(self, op: &'static str, path: &Path) -> Result<T>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn context(self, op: &'static str, path: &Path) -> Result<T> {
        self.map_err(|e| Error::io(op, path, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    #[test]
    fn full_disk_and_full_quota_are_no_space() {
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded] {
            let e = Error::io("append", Path::new("a"), kind.into());
            assert!(e.is_no_space());
            assert_eq!(e.kind(), ErrorKind::FreeSpace);
        }
        let e = Error::io("append", Path::new("a"), io::ErrorKind::Other.into());
        assert_eq!(e.kind(), ErrorKind::Retry);
        assert!(e.source().is_some());
    }

    #[test]
    fn stopped_writes_keep_the_advice_of_their_cause() {
        let bad = Arc::new(Error::corruption(Path::new("t"), 7, "x"));
        assert_eq!(Error::WritesStopped { source: bad }.kind(), ErrorKind::RestoreData);
        let sync = Arc::new(Error::io("sync", Path::new("t"), io::ErrorKind::Other.into()));
        assert_eq!(Error::WritesStopped { source: sync.clone() }.kind(), ErrorKind::Reopen);
        assert_eq!(Error::SyncFailed { source: sync }.kind(), ErrorKind::Reopen);
    }

    #[test]
    fn messages_are_lower_case_with_values_last() {
        let e = Error::corruption(Path::new("000012.sst"), 4096, "crc mismatch");
        assert_eq!(e.to_string(), "corruption: crc mismatch path=000012.sst offset=4096");
    }
}
