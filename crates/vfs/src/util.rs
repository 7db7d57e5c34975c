//! Whole-file helpers over any [`Fs`].

use std::io;
use std::path::Path;

use crate::Fs;

/// Bytes moved at a time by [`copy`] and [`read_all`].
const CHUNK_BYTES: usize = 256 << 10;

/// Reads the whole file at `path`.
///
/// Memory grows with the bytes that were really read, never with a length that was only claimed.
///
/// # Errors
/// `InvalidData` if the file is longer than `limit` bytes; else what the file system says.
pub fn read_all(fs: &dyn Fs, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = fs.open(path)?;
    let len = file.len()?;
    if len > limit {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("file is too long len={len} limit={limit}"),
        ));
    }
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < len {
        let start = bytes.len();
        let want =
            usize::try_from(len - start as u64).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
        bytes.resize(start + want, 0);
        let got = file.read_at(&mut bytes[start..], start as u64)?;
        bytes.truncate(start + got);
        if got == 0 {
            break;
        }
    }
    Ok(bytes)
}

/// Creates or truncates `path`, appends `bytes` and syncs the file. The caller syncs the directory.
///
/// # Errors
/// What the file system says; the file may then exist with part of the bytes.
pub fn write_file_synced(fs: &dyn Fs, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs.create(path)?;
    file.append(bytes)?;
    file.sync()
}

/// Copies the file `from` to `to`, syncs the copy, and returns its length in bytes. The caller syncs
/// the directory. The end of the copy is the end of `from` when it is reached.
///
/// # Errors
/// What the file system says; `to` may then exist with part of the bytes.
pub fn copy(fs: &dyn Fs, from: &Path, to: &Path) -> io::Result<u64> {
    let source = fs.open(from)?;
    let mut target = fs.create(to)?;
    let mut buf = vec![0; CHUNK_BYTES];
    let mut done = 0;
    loop {
        let got = source.read_at(&mut buf, done)?;
        if got == 0 {
            break;
        }
        target.append(&buf[..got])?;
        done += got as u64;
    }
    target.sync()?;
    Ok(done)
}
