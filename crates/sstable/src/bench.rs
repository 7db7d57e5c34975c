//! Thin handles on block internals for the benchmark.
use crate::block::{Block, BlockBuilder, Cursor};
use base::{InternalKey, SeqNo, ValueKind};

/// Encodes one block of `pairs` with values, all of sequence number 7.
pub fn encode(pairs: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut builder = BlockBuilder::new(16);
    for (k, v) in pairs {
        let hash = base::checksum::key_hash(k);
        builder.add(InternalKey::new(k, SeqNo(7), ValueKind::Put), v, hash, false);
    }
    builder.finish().to_vec()
}

/// A parsed block.
#[derive(Debug, Clone)]
pub struct BenchBlock(Block);

impl BenchBlock {
    /// Parses and checks.
    pub fn parse(data: &[u8]) -> Option<BenchBlock> {
        let len = data.len();
        Block::parse(data.into(), len).ok().map(BenchBlock)
    }

    /// Looks a key up by its tag; the length of the value.
    pub fn get(&self, hash: u64, key: &[u8]) -> Option<usize> {
        self.0.get(hash, key, SeqNo::MAX)?.map(|f| self.0.value(&f).len())
    }

    /// Looks a key up by binary search; its entry number.
    pub fn seek(&self, key: &[u8]) -> Option<u32> {
        self.0.lower_bound(InternalKey::before_all(key))
    }

    /// Walks all entries; the sum of the lengths of keys and values.
    pub fn walk(&self) -> usize {
        let mut cursor = Cursor::new();
        let mut sum = 0;
        let mut more = cursor.enter(self.0.clone(), 0, false);
        while more.is_some() && cursor.valid() {
            sum += cursor.key().user_key.len() + cursor.value().len();
            more = cursor.next();
        }
        sum
    }
}
