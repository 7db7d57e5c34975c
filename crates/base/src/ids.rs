//! Ids and file names.
//!
//! ```text
//! LOCK             held by the process that has the database open
//! CURRENT          name of the live manifest
//! MANIFEST-000007  log of version edits
//! 000012.log       segment of the write-ahead log
//! 000013.sst       table
//! RESERVE          space kept back for the moment the disk is full
//! *.tmp            being written; removed by the next open
//! ```
//! One counter numbers manifests, segments and tables, so a number is used once in the life of a database.

use std::fmt;
use std::path::{Path, PathBuf};

/// Number of a manifest, log segment or table file; unique in one database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FileNum(pub u64);

impl fmt::Display for FileNum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06}", self.0)
    }
}

/// Id of a keyspace; never reused, also after a drop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct KeyspaceId(pub u32);

impl KeyspaceId {
    /// The keyspace that every database has.
    pub const DEFAULT: KeyspaceId = KeyspaceId(0);
}

impl fmt::Display for KeyspaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a file name in a database directory says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileName {
    /// `LOCK`
    Lock,
    /// `CURRENT`
    Current,
    /// `RESERVE`
    Reserve,
    /// `MANIFEST-000007`
    Manifest(FileNum),
    /// `000012.log`
    Segment(FileNum),
    /// `000013.sst`
    Table(FileNum),
    /// `000013.tmp` or `CURRENT.tmp`, being written
    Temp,
}

impl FileName {
    /// Reads a name; `None` if it is not one of ours. Only the exact spelling that
    /// [`Display`](fmt::Display) prints is accepted, so that two names never mean one file.
    #[must_use]
    pub fn parse(name: &Path) -> Option<FileName> {
        let name = name.file_name()?.to_str()?;
        let parsed = match name {
            "LOCK" => FileName::Lock,
            "CURRENT" => FileName::Current,
            "RESERVE" => FileName::Reserve,
            _ if name.ends_with(".tmp") => return Some(FileName::Temp),
            _ => match name.split_once(['-', '.'])? {
                ("MANIFEST", n) => FileName::Manifest(FileNum(n.parse().ok()?)),
                (n, "log") => FileName::Segment(FileNum(n.parse().ok()?)),
                (n, "sst") => FileName::Table(FileNum(n.parse().ok()?)),
                _ => return None,
            },
        };
        (parsed.to_string() == name).then_some(parsed)
    }

    /// The path of this file in `dir`.
    #[must_use]
    pub fn in_dir(&self, dir: &Path) -> PathBuf {
        dir.join(self.to_string())
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileName::Lock => f.write_str("LOCK"),
            FileName::Current => f.write_str("CURRENT"),
            FileName::Reserve => f.write_str("RESERVE"),
            FileName::Manifest(n) => write!(f, "MANIFEST-{n}"),
            FileName::Segment(n) => write!(f, "{n}.log"),
            FileName::Table(n) => write!(f, "{n}.sst"),
            FileName::Temp => f.write_str("CURRENT.tmp"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_others_are_not_ours() {
        for name in [
            FileName::Lock,
            FileName::Current,
            FileName::Reserve,
            FileName::Temp,
            FileName::Manifest(FileNum(1)),
            FileName::Segment(FileNum(1_234_567)),
            FileName::Table(FileNum(0)),
        ] {
            assert_eq!(FileName::parse(&name.in_dir(Path::new("/x"))), Some(name));
        }
        for name in ["12.sst", "+00012.sst", "000012.SST", "MANIFEST", "a", "", "000012.sst.bak"] {
            assert_eq!(FileName::parse(Path::new(name)), None, "{name}");
        }
    }
}
