//! Properties: what a table says about itself.
//!
//! A sequence of `tag varint, length varint, bytes` with ascending tags. Numbers are varints inside
//! their field. A reader skips tags that it does not know below 128 and refuses the table for those
//! from 128 on. Field 12 says whether the largest key, field 25, is part of the table (0) or not (1), or that there is none
//! because a range tombstone without an end lies behind all keys (2). Reserved: 32 range digests, 33 expiry times, 34 merge operands, 35 separated values,
//! 128 encryption.

use crate::options::{Compression, KeyspaceLabel};
use base::SeqNo;
use base::coding::{Reader, put_length_prefixed, put_varint};
use base::limits::UNBOUNDED;

/// In place of the flag of the largest key: the last range tombstone has no end, and the largest key is left empty.
const NO_LARGEST: u64 = 2;
/// From this tag on a reader must know what a field means.
const MUST_KNOW: u64 = 128;
/// The software named in new tables.
const CREATED_BY: &str = if cfg!(test) {
    "esker-sstable test" // so that a release does not change the golden table
} else {
    concat!("esker-sstable ", env!("CARGO_PKG_VERSION"))
};

/// What a table says about itself. Sizes are bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Properties {
    /// Point entries, deletes included.
    pub entries: u64,
    /// Point entries that are deletes.
    pub deletes: u64,
    /// Range tombstones, counted in every fragment that they cover.
    pub range_tombstones: u64,
    /// Distinct user keys of point entries.
    pub user_keys: u64,
    /// User keys of point entries, uncompressed.
    pub raw_key_bytes: u64,
    /// Values, uncompressed.
    pub raw_value_bytes: u64,
    /// Number of data blocks.
    pub data_blocks: u64,
    /// Data blocks on disk.
    pub data_bytes: u64,
    /// Index partitions and top index on disk.
    pub index_bytes: u64,
    /// Filter on disk; 0 if there is none.
    pub filter_bytes: u64,
    /// Largest data block, uncompressed.
    pub block_bytes_max: u64,
    /// Smallest user key of an entry or range tombstone.
    pub smallest: Vec<u8>,
    /// Largest user key, or the end of a range tombstone if that is beyond it.
    pub largest: Vec<u8>,
    /// True if `largest` is a range tombstone's end, which is not part of it.
    pub largest_exclusive: bool,
    /// Smallest sequence number; 0 in a table without entries and tombstones.
    pub seq_min: SeqNo,
    /// Largest sequence number.
    pub seq_max: SeqNo,
    /// What data blocks were compressed with, where that paid.
    pub compression: Compression,
    /// Filter bits per distinct user key; 0 without a filter.
    pub filter_bits_per_key: u32,
    /// Target size of data blocks.
    pub block_size_bytes: u64,
    /// Entries that share one full key.
    pub restart_interval: u64,
    /// Name and version of the software that wrote the table.
    pub created_by: String,
    /// The keyspace that the table was written for, if it was told. A copy of what the manifest says, for salvage.
    pub keyspace: Option<KeyspaceLabel>,
}

impl Properties {
    pub(crate) fn created_here() -> Properties {
        Properties { created_by: CREATED_BY.into(), ..Properties::default() }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (tag, value) in self.numbers() {
            let mut field = Vec::new();
            put_varint(&mut field, value);
            put_varint(&mut out, tag);
            put_length_prefixed(&mut out, &field);
        }
        let largest = if self.is_unbounded() { &[][..] } else { &self.largest };
        for (tag, bytes) in
            [(24, &self.smallest[..]), (25, largest), (26, self.created_by.as_bytes())]
        {
            put_varint(&mut out, tag);
            put_length_prefixed(&mut out, bytes);
        }
        if let Some(keyspace) = &self.keyspace {
            let mut field = Vec::new();
            put_varint(&mut field, u64::from(keyspace.id));
            field.extend_from_slice(keyspace.name.as_bytes());
            put_varint(&mut out, 27);
            put_length_prefixed(&mut out, &field);
        }
        out
    }

    /// True if a range tombstone without an end is the last thing in the table.
    fn is_unbounded(&self) -> bool {
        self.largest_exclusive && self.largest == UNBOUNDED
    }

    fn numbers(&self) -> [(u64, u64); 18] {
        [
            (1, self.entries),
            (2, self.deletes),
            (3, self.range_tombstones),
            (4, self.user_keys),
            (5, self.raw_key_bytes),
            (6, self.raw_value_bytes),
            (7, self.data_blocks),
            (8, self.data_bytes),
            (9, self.index_bytes),
            (10, self.filter_bytes),
            (11, self.block_bytes_max),
            (12, if self.is_unbounded() { NO_LARGEST } else { u64::from(self.largest_exclusive) }),
            (13, self.seq_min.0),
            (14, self.seq_max.0),
            (15, u64::from(self.compression.tag())),
            (16, u64::from(self.filter_bits_per_key)),
            (17, self.block_size_bytes),
            (18, self.restart_interval),
        ]
    }

    /// Reads properties; the error says what is wrong.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Properties, String> {
        let mut r = Reader::new(bytes);
        let (mut properties, mut last) = (Properties::default(), 0);
        while !r.is_empty() {
            let (Some(tag), Some(field)) = (r.varint(), r.length_prefixed()) else {
                return Err("property ends early".into());
            };
            if tag <= last {
                return Err(format!("property tags not ascending tag={tag}"));
            }
            last = tag;
            if tag >= MUST_KNOW {
                return Err(format!("property of a newer format tag={tag}"));
            }
            properties
                .set(tag, field)
                .ok_or_else(|| format!("property does not decode tag={tag}"))?;
        }
        Ok(properties)
    }

    fn set(&mut self, tag: u64, field: &[u8]) -> Option<()> {
        let number = || {
            let mut r = Reader::new(field);
            r.varint().filter(|_| r.is_empty())
        };
        match tag {
            1 => self.entries = number()?,
            2 => self.deletes = number()?,
            3 => self.range_tombstones = number()?,
            4 => self.user_keys = number()?,
            5 => self.raw_key_bytes = number()?,
            6 => self.raw_value_bytes = number()?,
            7 => self.data_blocks = number()?,
            8 => self.data_bytes = number()?,
            9 => self.index_bytes = number()?,
            10 => self.filter_bytes = number()?,
            11 => self.block_bytes_max = number()?,
            12 if number()? == NO_LARGEST => {
                (self.largest_exclusive, self.largest) = (true, UNBOUNDED.to_vec());
            }
            12 => self.largest_exclusive = number().filter(|&n| n <= 1)? == 1,
            13 => self.seq_min = SeqNo(number()?),
            14 => self.seq_max = SeqNo(number()?),
            15 => self.compression = Compression::from_tag(u8::try_from(number()?).ok()?)?,
            16 => self.filter_bits_per_key = u32::try_from(number()?).ok()?,
            17 => self.block_size_bytes = number()?,
            18 => self.restart_interval = number()?,
            24 => self.smallest = field.to_vec(),
            // Empty behind the mark.
            25 if self.is_unbounded() => field.is_empty().then_some(())?,
            25 => self.largest = field.to_vec(),
            26 => self.created_by = String::from_utf8(field.to_vec()).ok()?,
            27 => {
                let mut r = Reader::new(field);
                let id = r.varint32()?;
                let name = String::from_utf8(r.rest().to_vec()).ok()?;
                self.keyspace = Some(KeyspaceLabel { id, name });
            }
            _ => {}
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_without_a_largest_key_says_so_in_few_bytes() {
        let open = Properties {
            largest: UNBOUNDED.to_vec(),
            largest_exclusive: true,
            ..Properties::created_here()
        };
        let bytes = open.encode();
        assert!(bytes.len() < 200, "{}", bytes.len());
        assert_eq!(Properties::decode(&bytes), Ok(open));
        assert!(Properties::decode(&[12, 1, 3]).is_err());
        assert!(Properties::decode(&[12, 1, 2, 25, 1, b'z']).is_err());
    }

    #[test]
    fn properties_round_trip_and_unknown_tags_are_skipped() {
        let properties = Properties {
            entries: 7,
            seq_max: SeqNo::MAX,
            smallest: b"a".to_vec(),
            largest: b"z".to_vec(),
            largest_exclusive: true,
            compression: Compression::Lz4,
            keyspace: Some(KeyspaceLabel { id: 300, name: "users".into() }),
            ..Properties::created_here()
        };
        let mut bytes = properties.encode();
        assert_eq!(Properties::decode(&bytes), Ok(properties.clone()));
        bytes.extend_from_slice(&[100, 2, 0xff, 0xff]);
        assert_eq!(Properties::decode(&bytes), Ok(properties));
        bytes.extend_from_slice(&[0x80, 0x01, 0]);
        assert!(Properties::decode(&bytes).is_err_and(|e| e.contains("newer")));
        assert!(Properties::decode(&[1, 1]).is_err());
        assert!(Properties::decode(&[1, 1, 0x80]).is_err());
        assert!(Properties::decode(&[2, 1, 5, 1, 1, 5]).is_err());
    }
}
