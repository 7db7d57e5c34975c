//! `CURRENT`: which manifest is the live one.
//!
//! ```text
//! MANIFEST-000007
//! <database id, 16 hex digits> <length, 16 hex digits> <CRC-32 of all before, 8 hex digits>
//! ```
//! Both lines end in a newline. Only these exact bytes are accepted. The manifest has at least that length: what it
//! had when it became the live one, or when the database was last closed. So an older copy of it, or one cut
//! short at an edit, which looks whole in itself, is noticed.

use std::path::Path;

use base::checksum::crc32;
use base::{Error, FileName, FileNum, IoContext, Result};
use vfs::Fs;

use crate::io::{read_file, sync_failed};

/// Larger than any `CURRENT`.
const BYTES_MAX: u64 = 256;

/// What `CURRENT` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Current {
    pub(crate) manifest: FileNum,
    pub(crate) db_id: u64,
    /// Bytes that the manifest has at least.
    pub(crate) len: u64,
}

impl Current {
    fn encode(&self) -> String {
        let name = FileName::Manifest(self.manifest);
        let covered = format!("{name}\n{:016x} {:016x} ", self.db_id, self.len);
        format!("{covered}{:08x}\n", crc32(0, &[covered.as_bytes()]))
    }

    fn decode(bytes: &[u8]) -> Option<Current> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (name, rest) = text.split_once('\n')?;
        let FileName::Manifest(manifest) = FileName::parse(Path::new(name))? else { return None };
        let mut numbers = rest.split(' ').map(|digits| u64::from_str_radix(digits, 16).ok());
        let (db_id, len) = (numbers.next()??, numbers.next()??);
        let current = Current { manifest, db_id, len };
        (current.encode() == text).then_some(current)
    }

    /// Reads `CURRENT`; `None` if there is none.
    pub(crate) fn read(fs: &dyn Fs, dir: &Path) -> Result<Option<Current>> {
        let path = FileName::Current.in_dir(dir);
        let Some(bytes) = read_file(fs, &path, BYTES_MAX)? else { return Ok(None) };
        let bad =
            || Error::corruption(&path, 0, "does not name a manifest, or its checksum is wrong");
        Current::decode(&bytes).ok_or_else(bad).map(Some)
    }

    /// Makes `CURRENT` say this, in one step.
    ///
    /// On [`Error::SyncFailed`], or an error of the rename itself, either the old or the new one is there.
    pub(crate) fn write(&self, fs: &dyn Fs, dir: &Path) -> Result<()> {
        let (temp, path) = (FileName::Temp.in_dir(dir), FileName::Current.in_dir(dir));
        let mut file = fs.create(&temp).context("create", &temp)?;
        file.append(self.encode().as_bytes()).context("append", &temp)?;
        file.sync().map_err(|e| sync_failed("sync", &temp, e))?;
        drop(file);
        fs.rename(&temp, &path).context("rename", &path)?;
        if base::planted::is(13) {
            return Ok(());
        }
        fs.sync_dir(dir).map_err(|e| sync_failed("sync_dir", dir, e))
    }
}
