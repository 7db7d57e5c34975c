//! What the store asks of a file system, with the family's errors.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use base::{Error, Result};
use vfs::Fs;

/// The bytes of the file at `path`; `None` if there is none.
pub(crate) fn read_file(fs: &dyn Fs, path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    match vfs::read_all(fs, path, limit) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) if e.kind() == ErrorKind::InvalidData => {
            Err(Error::corruption(path, limit, e.to_string()))
        }
        Err(e) => Err(Error::io("read", path, e)),
    }
}

/// The error after which nothing is known about what is on disk.
pub(crate) fn sync_failed(op: &'static str, path: &Path, e: io::Error) -> Error {
    Error::SyncFailed { source: Arc::new(Error::io(op, path, e)) }
}
