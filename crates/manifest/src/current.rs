//! `CURRENT`: which manifest is the live one.
//!
//! ```text
//! MANIFEST-000007
//! <database id, 16 hex digits> <CRC-32 of all before, 8 hex digits>
//! ```
//! Both lines end in a newline. Only these exact bytes are accepted.

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
}

impl Current {
    fn encode(&self) -> String {
        let covered = format!("{}\n{:016x} ", FileName::Manifest(self.manifest), self.db_id);
        format!("{covered}{:08x}\n", crc32(0, &[covered.as_bytes()]))
    }

    fn decode(bytes: &[u8]) -> Option<Current> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (name, rest) = text.split_once('\n')?;
        let FileName::Manifest(manifest) = FileName::parse(Path::new(name))? else { return None };
        let db_id = u64::from_str_radix(rest.split_once(' ')?.0, 16).ok()?;
        let current = Current { manifest, db_id };
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
        fs.sync_dir(dir).map_err(|e| sync_failed("sync_dir", dir, e))
    }
}
