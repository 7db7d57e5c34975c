//! Tuning of one table. Plain values.

use base::{Error, Result};

/// How data blocks are compressed. The numbers lie on disk; 2 is reserved for zstd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Compression {
    /// Stored as they are.
    None,
    /// LZ4 block format. A block that does not shrink by an eighth is stored as it is.
    #[default]
    Lz4,
}

impl Compression {
    /// The number on disk.
    #[must_use]
    pub fn tag(self) -> u8 {
        match self {
            Compression::None => 0,
            Compression::Lz4 => 1,
        }
    }

    /// The reverse of [`tag`](Self::tag).
    #[must_use]
    pub fn from_tag(tag: u8) -> Option<Compression> {
        match tag {
            0 => Some(Compression::None),
            1 => Some(Compression::Lz4),
            _ => None,
        }
    }
}

/// Whether blocks that had to be read enter the block cache. Lookups happen either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CacheHint {
    /// They do: point reads and short scans.
    #[default]
    Fill,
    /// They do not, and the iterator reads ahead instead: long scans and compactions.
    NoFill,
}

/// Tuning of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableOptions {
    /// A data block is closed before it would pass this size, uncompressed; a larger entry gets a
    /// block of its own. 64 bytes to 1 MiB. Default 4 KiB.
    pub block_size_bytes: usize,
    /// Entries that share one full key. 1 to 32768. Default 16.
    pub restart_interval: usize,
    /// Compression of data blocks. Default LZ4.
    pub compression: Compression,
    /// Filter bits for each distinct user key; 0 for no filter, at most 32. Default 10 (1 % false positives).
    pub filter_bits_per_key: u32,
    /// An index partition is closed once it passes this size. 64 bytes to 1 MiB. Default 16 KiB.
    pub index_block_size_bytes: usize,
    /// Noted in the properties, for salvage without a manifest. Default none.
    pub keyspace: Option<KeyspaceLabel>,
}

/// The keyspace that a table belongs to, as the table itself says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeyspaceLabel {
    /// Its id in the database that wrote the table.
    pub id: u32,
    /// Its name.
    pub name: String,
}

impl Default for TableOptions {
    fn default() -> Self {
        TableOptions {
            block_size_bytes: 4 << 10,
            restart_interval: 16,
            compression: Compression::Lz4,
            filter_bits_per_key: 10,
            index_block_size_bytes: 16 << 10,
            keyspace: None,
        }
    }
}

impl TableOptions {
    /// Checks every field.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] listing each field out of its range.
    pub fn validate(&self) -> Result<()> {
        let bits = self.filter_bits_per_key as usize;
        let rules = [
            ("block_size_bytes", self.block_size_bytes, 64, 1 << 20),
            ("restart_interval", self.restart_interval, 1, 1 << 15),
            ("filter_bits_per_key", bits, 0, bloom::BITS_PER_KEY_MAX as usize),
            ("index_block_size_bytes", self.index_block_size_bytes, 64, 1 << 20),
        ];
        let broken: Vec<String> = rules
            .iter()
            .filter(|(_, value, min, max)| !(min..=max).contains(&value))
            .map(|(name, value, min, max)| format!("{name}={value} is outside {min}..={max}"))
            .collect();
        if broken.is_empty() {
            return Ok(());
        }
        Err(Error::invalid("table options", broken.join("; ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_broken_rules_are_listed() {
        assert!(TableOptions::default().validate().is_ok());
        let bad = TableOptions { block_size_bytes: 63, restart_interval: 0, ..Default::default() };
        let text = bad.validate().expect_err("out of range").to_string();
        assert!(
            text.contains("block_size_bytes=63") && text.contains("restart_interval=0"),
            "{text}"
        );
    }
}
