//! A sliding view of a file, so that records can be borrowed from one reused buffer.

use std::io;
use std::path::Path;
use std::sync::Arc;

use base::{IoContext, Result};
use vfs::RandomAccessFile;

/// Bytes read at a time. Stays in the cache of a core while it is worked on.
const CHUNK: usize = 512 << 10;

#[derive(Debug, Default)]
pub(super) struct Window {
    buf: Vec<u8>,
    /// Offset in the file of `buf[0]`.
    start: u64,
    /// Bytes of `buf` that hold bytes of the file.
    filled: usize,
}

impl Window {
    /// Forgets the bytes: another file comes next.
    pub(super) fn reset(&mut self) {
        (self.start, self.filled) = (0, 0);
    }

    /// The bytes of `file` from `offset`, at least `want` of them unless they would reach past `end`.
    ///
    /// Allocates no more than `end` or one chunk, whatever `want` is.
    #[inline]
    pub(super) fn at(
        &mut self,
        file: &Arc<dyn RandomAccessFile>,
        path: &Path,
        offset: u64,
        want: usize,
        end: u64,
    ) -> Result<&[u8]> {
        let skip = offset.wrapping_sub(self.start);
        if skip.checked_add(want as u64).is_none_or(|needed| needed > self.filled as u64) {
            self.fill(file, path, offset, want, end)?;
        }
        let skip = (offset - self.start) as usize;
        let len = self.filled.min(end.saturating_sub(self.start) as usize);
        Ok(self.buf.get(skip..len).unwrap_or_default())
    }

    fn fill(
        &mut self,
        file: &Arc<dyn RandomAccessFile>,
        path: &Path,
        offset: u64,
        want: usize,
        end: u64,
    ) -> Result<()> {
        let left = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX);
        let trusted = base::planted::is(26) && want > CHUNK;
        let wanted = if trusted { want } else { want.max(CHUNK).min(left) };
        if self.buf.len() < wanted {
            self.buf.resize(wanted, 0);
        }
        (self.start, self.filled) = (offset, 0);
        while self.filled < wanted {
            let target = &mut self.buf[self.filled..wanted];
            let got =
                file.read_at(target, offset + self.filled as u64).context("read segment", path)?;
            if got == 0 {
                // The length was asked for before: bytes that cannot be read are no end of the log.
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof))
                    .context("read segment", path);
            }
            self.filled += got;
        }
        Ok(())
    }
}
