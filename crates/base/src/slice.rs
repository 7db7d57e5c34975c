//! [`Slice`]: bytes that are cheap to clone and may lie in a shared buffer.

use crate::buffer::Buffer;
use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

/// Longest value kept inside the `Slice` itself.
const INLINE_MAX: usize = 22;

/// Immutable bytes: small ones inline, others a range of a shared, reference-counted buffer.
///
/// A clone copies no bytes. A `Slice` of a block keeps the whole block in memory as long as it
/// lives; [`Slice::detach`] copies the bytes out.
#[derive(Clone)]
pub struct Slice(Repr);

#[derive(Clone)]
enum Repr {
    Inline { len: u8, bytes: [u8; INLINE_MAX] },
    Shared { buffer: Buffer, start: u32, len: u32 },
}

impl Slice {
    /// Copies `bytes`; allocates only if they are longer than 22.
    #[inline]
    #[must_use]
    pub fn copy_from(bytes: &[u8]) -> Slice {
        match Slice::inline(bytes) {
            Some(slice) => slice,
            None => Slice::whole(Buffer::from(bytes)),
        }
    }

    /// The range `start..start + len` of `buffer`, without a copy; `None` if it leaves the buffer.
    ///
    /// Offsets past `u32::MAX` are copied instead of shared.
    #[must_use]
    pub fn from_shared(buffer: &Buffer, start: usize, len: usize) -> Option<Slice> {
        let bytes = buffer.get(start..start.checked_add(len)?)?;
        let (Ok(start), Ok(len)) = (u32::try_from(start), u32::try_from(len)) else {
            return Some(Slice::copy_from(bytes));
        };
        Some(match Slice::inline(bytes) {
            Some(slice) => slice,
            None => Slice(Repr::Shared { buffer: buffer.clone(), start, len }),
        })
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Repr::Shared { buffer, start, len } => {
                &buffer[*start as usize..*start as usize + *len as usize]
            }
        }
    }

    /// A `Slice` with the same bytes that pins no larger buffer.
    #[must_use]
    pub fn detach(&self) -> Slice {
        match &self.0 {
            Repr::Shared { buffer, len, .. } if buffer.len() != *len as usize => {
                Slice::copy_from(self.as_bytes())
            }
            _ => self.clone(),
        }
    }

    #[inline]
    fn inline(source: &[u8]) -> Option<Slice> {
        if source.len() > INLINE_MAX {
            return None;
        }
        let mut bytes = [0; INLINE_MAX];
        bytes.get_mut(..source.len())?.copy_from_slice(source);
        Some(Slice(Repr::Inline { len: source.len() as u8, bytes }))
    }

    #[inline]
    fn whole(buffer: Buffer) -> Slice {
        // A buffer is shorter than 4 GiB.
        let len = buffer.len() as u32;
        Slice(Repr::Shared { buffer, start: 0, len })
    }
}

impl Default for Slice {
    fn default() -> Self {
        Slice(Repr::Inline { len: 0, bytes: [0; INLINE_MAX] })
    }
}

impl Deref for Slice {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

// `Hash`, `Eq` and `Ord` below all go by the bytes, as `Borrow` asks.
impl Borrow<[u8]> for Slice {
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl From<&[u8]> for Slice {
    fn from(bytes: &[u8]) -> Self {
        Slice::copy_from(bytes)
    }
}

impl From<Vec<u8>> for Slice {
    fn from(bytes: Vec<u8>) -> Self {
        Slice::copy_from(&bytes)
    }
}

impl From<&str> for Slice {
    fn from(text: &str) -> Self {
        Slice::copy_from(text.as_bytes())
    }
}

impl From<Buffer> for Slice {
    fn from(buffer: Buffer) -> Self {
        Slice::whole(buffer)
    }
}

impl From<Slice> for Vec<u8> {
    fn from(slice: Slice) -> Self {
        slice.to_vec()
    }
}

impl PartialEq for Slice {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Slice {}

impl<T: AsRef<[u8]> + ?Sized> PartialEq<T> for Slice
where
    T: NotSlice,
{
    fn eq(&self, other: &T) -> bool {
        self.as_bytes() == other.as_ref()
    }
}

/// Marks the types that a [`Slice`] may be compared with.
pub trait NotSlice {}
impl NotSlice for [u8] {}
impl<const N: usize> NotSlice for [u8; N] {}
impl NotSlice for Vec<u8> {}
impl NotSlice for str {}
impl<T: NotSlice + ?Sized> NotSlice for &T {}

impl PartialOrd for Slice {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Slice {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl Hash for Slice {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl fmt::Debug for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.as_bytes().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_and_large_bytes_come_back() {
        for len in [0, 1, 21, 22, 23, 1000] {
            let bytes: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let slice = Slice::copy_from(&bytes);
            assert_eq!(slice, bytes);
            assert_eq!(slice.clone().detach(), bytes);
        }
    }

    #[test]
    fn a_shared_range_is_bounds_checked() {
        let buffer = Buffer::from(&(0..100).collect::<Vec<u8>>()[..]);
        assert_eq!(Slice::from_shared(&buffer, 10, 40).expect("inside"), &buffer[10..50]);
        assert!(Slice::from_shared(&buffer, 90, 11).is_none());
        assert!(Slice::from_shared(&buffer, usize::MAX, 2).is_none());
    }

    #[test]
    fn detach_lets_the_buffer_go() {
        let buffer = Buffer::from(&[7; 4096][..]);
        let slice = Slice::from_shared(&buffer, 0, 100).expect("inside");
        assert_eq!(buffer.share_count(), 2);
        let detached = slice.detach();
        drop(slice);
        assert_eq!(buffer.share_count(), 1);
        assert_eq!(detached, vec![7; 100]);
    }

    #[test]
    fn a_slice_fits_three_words() {
        assert!(size_of::<Slice>() <= 24);
    }
}
