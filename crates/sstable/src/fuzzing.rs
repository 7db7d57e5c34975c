//! Thin handles on the decoders, for fuzz targets. Only with feature `fuzzing`.

use crate::TableReader;
use crate::block::{Block, BlockBuilder, Cursor};
use crate::envelope::Handle;
use crate::footer::{FOOTER_LEN, Footer};
use crate::index::{self, Index, IndexBlockBuilder};
use crate::{Properties, tombstones};
use base::checksum::key_hash;
use base::{Fragments, InternalKey, Result, SeqNo, ValueKind};
use std::path::Path;

/// One entry of a data block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The user key.
    pub key: Vec<u8>,
    /// When it was written.
    pub seq: SeqNo,
    /// Whether it is a value or a delete.
    pub kind: ValueKind,
    /// The value.
    pub value: Vec<u8>,
}

/// The bytes of a data block of `rows`, which ascend.
#[must_use]
pub fn encode_block(rows: &[Row], restart_interval: usize) -> Vec<u8> {
    let mut builder = BlockBuilder::new(restart_interval);
    let mut last: Option<&Row> = None;
    for row in rows {
        let key = InternalKey::new(&row.key, row.seq, row.kind);
        let same_key = last.is_some_and(|l| l.key == row.key);
        builder.add(key, &row.value, key_hash(&row.key), same_key);
        last = Some(row);
    }
    builder.finish().to_vec()
}

/// A parsed data block.
#[derive(Debug)]
pub struct DataBlock(Block);

impl DataBlock {
    /// Parses and checks, as a reader does behind the checksum.
    ///
    /// # Errors
    /// What is wrong.
    pub fn parse(bytes: &[u8]) -> Result<DataBlock, &'static str> {
        Block::parse(bytes.into(), bytes.len()).map(DataBlock)
    }

    /// Number of entries.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a block is never empty")]
    pub fn len(&self) -> usize {
        self.0.len() as usize
    }

    /// All entries in order; `None` if the block is broken.
    #[must_use]
    pub fn forward(&self) -> Option<Vec<Row>> {
        self.walk(0, Cursor::next)
    }

    /// All entries in the opposite order; `None` if the block is broken.
    #[must_use]
    pub fn backward(&self) -> Option<Vec<Row>> {
        self.walk(self.0.len().saturating_sub(1), Cursor::prev)
    }

    fn walk(&self, from: u32, step: impl Fn(&mut Cursor) -> Option<()>) -> Option<Vec<Row>> {
        let (mut cursor, mut rows) = (Cursor::new(), Vec::new());
        cursor.enter(self.0.clone(), from, false)?;
        while cursor.valid() {
            let (key, value) = (cursor.key(), cursor.value().to_vec());
            rows.push(Row { key: key.user_key.to_vec(), seq: key.seq, kind: key.kind, value });
            step(&mut cursor)?;
        }
        Some(rows)
    }

    /// The newest version of `key` at or below `snapshot`. The outer `None`: the block is broken.
    #[must_use]
    pub fn get(&self, key: &[u8], snapshot: SeqNo) -> Option<Option<(SeqNo, ValueKind, Vec<u8>)>> {
        let found = self.0.get(key_hash(key), key, snapshot)?;
        Some(found.map(|f| (f.seq, f.kind, self.0.value(&f).to_vec())))
    }

    /// Number of entries before `target`.
    #[must_use]
    pub fn lower_bound(&self, target: InternalKey<'_>) -> Option<usize> {
        self.0.lower_bound(target).map(|i| i as usize)
    }

    /// Number of entries at or before `target`.
    #[must_use]
    pub fn upper_bound(&self, target: InternalKey<'_>) -> Option<usize> {
        self.0.upper_bound(target).map(|i| i as usize)
    }

    /// As [`lower_bound`](Self::lower_bound), by way of the tags.
    #[must_use]
    pub fn seek(&self, target: InternalKey<'_>) -> Option<usize> {
        self.0.seek(target).map(|i| i as usize)
    }
}

/// One block and its separator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexRow {
    /// User key of the separator.
    pub key: Vec<u8>,
    /// Its trailer; 0 = behind all versions.
    pub trailer: u64,
    /// Where the block lies.
    pub offset: u64,
    /// Its bytes without the trailer.
    pub len: u64,
}

/// The bytes of an index block; only the first block's offset is stored.
#[must_use]
pub fn encode_index(first_offset: u64, rows: &[IndexRow]) -> Vec<u8> {
    let mut builder = IndexBlockBuilder::default();
    for row in rows {
        builder.add(&row.key, row.trailer, Handle { offset: first_offset, len: row.len });
    }
    builder.encode()
}

/// A decoded index block, made searchable.
#[derive(Debug)]
pub struct FlatIndex(Index);

/// Decodes an index block whose first block lies at `first_offset`.
#[must_use]
pub fn decode_index(bytes: &[u8], first_offset: u64) -> Option<FlatIndex> {
    let (mut index, mut next) = (Index::default(), first_offset);
    index::decode(bytes, &mut next, |entry| index.push(&entry))?;
    index.freeze().map(FlatIndex)
}

impl FlatIndex {
    /// The first separator at or after `target`.
    #[must_use]
    pub fn find(&self, target: InternalKey<'_>) -> usize {
        self.0.find(target)
    }

    /// All separators and blocks.
    #[must_use]
    pub fn rows(&self) -> Vec<IndexRow> {
        let row = |i| {
            let ((key, trailer), handle) = (self.0.separator(i)?, self.0.handle(i)?);
            Some(IndexRow { key: key.to_vec(), trailer, offset: handle.offset, len: handle.len })
        };
        (0..self.0.len()).map_while(row).collect()
    }
}

/// Decodes properties.
///
/// # Errors
/// What is wrong.
pub fn decode_properties(bytes: &[u8]) -> Result<Properties, String> {
    Properties::decode(bytes)
}

/// Encodes properties.
#[must_use]
pub fn encode_properties(properties: &Properties) -> Vec<u8> {
    properties.encode()
}

/// Decodes range tombstones.
#[must_use]
pub fn decode_tombstones(bytes: &[u8]) -> Option<Fragments> {
    tombstones::decode(bytes)
}

/// Encodes range tombstones.
#[must_use]
pub fn encode_tombstones(fragments: &Fragments) -> Vec<u8> {
    tombstones::encode(fragments)
}

/// Offset and length of top index, filter, range tombstones and properties.
///
/// # Errors
/// As opening a table.
pub fn decode_footer(
    bytes: &[u8; FOOTER_LEN],
    path: &Path,
    table_id: u64,
    offset: u64,
) -> Result<[(u64, u64); 4]> {
    let footer = Footer::decode(bytes, path, table_id, offset)?;
    let all = [footer.top_index, footer.filter, footer.tombstones, footer.properties];
    Ok(all.map(|handle| (handle.offset, handle.len)))
}

/// Offset and length, without the trailer, of every block of a table.
///
/// # Errors
/// As reading the index.
pub fn blocks(table: &TableReader) -> Result<Vec<(u64, u64)>> {
    let mut handles = Vec::new();
    let index = table.read_index(|handle| handles.push(handle))?;
    handles.extend((0..index.len()).filter_map(|i| index.handle(i)));
    let footer = table.footer();
    handles.extend([footer.filter, footer.tombstones, footer.properties]);
    handles.retain(|handle| handle.len > 0);
    Ok(handles.into_iter().map(|handle| (handle.offset, handle.len)).collect())
}
