//! [`GuardFs`]: files in memory, and log segments that cost what mapped ones cost.
//!
//! `MemFs` keeps a history of every write for its power cuts, which would be most of the instructions of a put; a real
//! disk may or may not map its segments, which would make the count depend on the disk.

use base::sync::Mutex;
use std::io;
use std::path::Path;
use std::sync::Arc;
use vfs::{Fs, Layer, MemFs, SegmentFile};

/// A `MemFs`, but that what is written to a fresh segment is never read again.
#[derive(Debug, Default)]
pub(crate) struct GuardFs(MemFs);

/// Bytes behind a lock, as the mapped segment of `StdFs` has them.
#[derive(Debug)]
struct Segment {
    bytes: Mutex<Box<[u8]>>,
    len: u64,
}

impl SegmentFile for Segment {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut all = self.bytes.lock();
        let place = all.get_mut(start..).and_then(|rest| rest.get_mut(..bytes.len()));
        place.ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> u64 {
        self.len
    }
}

impl Layer for GuardFs {
    fn below(&self) -> &dyn Fs {
        &self.0
    }

    fn create_segment(&self, path: &Path, len: u64) -> io::Result<Arc<dyn SegmentFile>> {
        self.0.create_segment(path, len)?;
        let room = usize::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?;
        Ok(Arc::new(Segment { bytes: Mutex::new(vec![0; room].into()), len }))
    }
}
