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

#[cfg(test)]
mod tests {
    use vfs::{Fault, FaultFs, FaultPlan, MemFs};

    use super::*;

    /// A file that cannot be read, or is longer than it may be, is neither missing nor empty.
    #[test]
    fn only_a_file_that_is_not_there_is_none() {
        let (mem, path) = (MemFs::new(), Path::new("/file"));
        assert_eq!(read_file(&mem, path, 4).expect("no error"), None);
        mem.create(path).expect("in memory").append(b"four").expect("in memory");
        assert_eq!(read_file(&mem, path, 4).expect("no error").as_deref(), Some(&b"four"[..]));
        assert!(matches!(read_file(&mem, path, 3), Err(Error::Corruption { offset: 3, .. })));
        let faulty = FaultFs::over_mem(mem);
        faulty.inject(FaultPlan::any(Fault::Eio));
        assert!(matches!(read_file(&faulty, path, 4), Err(Error::Io { .. })));
    }
}
