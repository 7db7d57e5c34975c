//! The filter of a table in memory, its lines aligned to cache lines.

/// Bytes that start at a multiple of 64.
#[derive(Debug)]
pub(crate) struct Aligned {
    buf: Vec<u8>,
    start: usize,
}

impl Aligned {
    /// Copies `bytes`.
    pub(crate) fn copy_from(bytes: &[u8]) -> Aligned {
        let mut buf: Vec<u8> = Vec::with_capacity(bytes.len() + bloom::LINE_LEN);
        let start = buf.as_ptr().align_offset(bloom::LINE_LEN).min(bloom::LINE_LEN);
        buf.resize(start, 0);
        buf.extend_from_slice(bytes);
        Aligned { buf, start }
    }
}

impl AsRef<[u8]> for Aligned {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        self.buf.get(self.start..).unwrap_or_default()
    }
}

/// A parsed filter.
pub(crate) type Filter = bloom::Filter<Aligned>;
