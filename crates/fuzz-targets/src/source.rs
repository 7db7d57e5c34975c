//! Choices out of bytes. Never fails: behind the end there are zeros.

#[derive(Debug, Clone)]
pub(crate) struct Source<'a> {
    rest: &'a [u8],
}

impl<'a> Source<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Source<'a> {
        Source { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Up to `n` bytes.
    pub(crate) fn take(&mut self, n: usize) -> &'a [u8] {
        let (head, tail) = self.rest.split_at(n.min(self.rest.len()));
        self.rest = tail;
        head
    }

    pub(crate) fn u8(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from(self.u8()) | u16::from(self.u8()) << 8
    }

    pub(crate) fn u64(&mut self) -> u64 {
        let mut word = [0; 8];
        let bytes = self.take(8);
        word[..bytes.len()].copy_from_slice(bytes);
        u64::from_le_bytes(word)
    }

    /// A number of any size, small ones more often: a byte says how many bits of the next eight bytes count.
    pub(crate) fn number(&mut self) -> u64 {
        let bits = u32::from(self.u8()) % 65;
        let bytes = self.take(bits.div_ceil(8) as usize);
        let word = bytes.iter().rev().fold(0u64, |word, &b| word << 8 | u64::from(b));
        if bits == 64 { word } else { word & ((1 << bits) - 1) }
    }

    /// Below `n`, which is at least 1 and at most 256.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        usize::from(self.u8()) % n.max(1)
    }

    pub(crate) fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.u8() & 1 == 1
    }
}
