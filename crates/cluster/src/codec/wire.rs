//! How fields lie in a message: integers as varints in their shortest form, bytes and lists behind their length.

use super::DecodeError;
use base::coding::{Reader, put_length_prefixed, put_varint, varint_len};
use base::{KeyspaceId, Slice};
use ring::{Epoch, NodeId, Partition};

/// Most items of a list.
pub(crate) const ITEMS_MAX: usize = 1 << 16;
/// Items for which room is made before the first one was read.
const RESERVED_MAX: usize = 256;

/// A field of a message.
///
/// Invariant: `take` consumes exactly what `put` wrote, and accepts nothing that `put` would not write.
pub(crate) trait Wire: Sized {
    /// Bytes of the shortest encoding, at least 1: how many items a list can have at most.
    const LEN_MIN: usize;

    fn put(&self, out: &mut Vec<u8>);

    fn take(input: &mut Input<'_>) -> Result<Self, DecodeError>;

    /// The whole of `bytes` as one value.
    fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Input::new(bytes);
        let value = Self::take(&mut input)?;
        input.end()?;
        Ok(value)
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.put(&mut out);
        out
    }
}

/// Bytes not read yet.
#[derive(Debug, Clone)]
pub(crate) struct Input<'a>(Reader<'a>);

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Input(Reader::new(bytes))
    }

    pub(crate) fn rest(&self) -> usize {
        self.0.rest().len()
    }

    pub(crate) fn end(&self) -> Result<(), DecodeError> {
        match self.rest() {
            0 => Ok(()),
            len => Err(DecodeError::Trailing { len }),
        }
    }

    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        self.0.u8().ok_or(DecodeError::Truncated { what })
    }

    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        self.0.u64().ok_or(DecodeError::Truncated { what })
    }

    /// A varint in its shortest form.
    pub(crate) fn varint(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        let before = self.0.position();
        let value = self.0.varint().ok_or(DecodeError::Truncated { what })?;
        let shortest = self.0.position() - before == varint_len(value);
        if shortest { Ok(value) } else { Err(DecodeError::Invalid { what }) }
    }

    pub(crate) fn bytes(&mut self, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let len = self.varint(what)?;
        let len = usize::try_from(len).map_err(|_| DecodeError::Truncated { what })?;
        self.0.bytes(len).ok_or(DecodeError::Truncated { what })
    }

    /// The number of items that follow: no more than `max`, and no more than there are bytes for.
    pub(crate) fn count(
        &mut self,
        what: &'static str,
        len_min: usize,
        max: usize,
    ) -> Result<usize, DecodeError> {
        let len = usize::try_from(self.varint(what)?).unwrap_or(usize::MAX);
        if len > max {
            return Err(DecodeError::TooLong { what, len, max });
        }
        let needed = len.saturating_mul(len_min);
        if needed > self.rest() { Err(DecodeError::Truncated { what }) } else { Ok(len) }
    }

    /// A list of at most `max` items.
    pub(crate) fn list<T: Wire>(
        &mut self,
        what: &'static str,
        max: usize,
    ) -> Result<Vec<T>, DecodeError> {
        let count = self.count(what, T::LEN_MIN, max)?;
        let mut items = Vec::with_capacity(count.min(RESERVED_MAX));
        for _ in 0..count {
            items.push(T::take(self)?);
        }
        Ok(items)
    }
}

pub(crate) fn invalid(what: &'static str) -> DecodeError {
    DecodeError::Invalid { what }
}

pub(crate) fn check(holds: bool, what: &'static str) -> Result<(), DecodeError> {
    if holds { Ok(()) } else { Err(invalid(what)) }
}

macro_rules! integers {
    ($($type:ty),*) => {$(
        impl Wire for $type {
            const LEN_MIN: usize = 1;
            fn put(&self, out: &mut Vec<u8>) {
                put_varint(out, u64::from(*self));
            }
            fn take(input: &mut Input<'_>) -> Result<Self, DecodeError> {
                <$type>::try_from(input.varint("integer")?).map_err(|_| invalid("integer"))
            }
        }
    )*};
}
integers!(u16, u32, u64);

macro_rules! newtypes {
    ($($type:ident($inner:ty)),*) => {$(
        impl Wire for $type {
            const LEN_MIN: usize = <$inner as Wire>::LEN_MIN;
            fn put(&self, out: &mut Vec<u8>) {
                self.0.put(out);
            }
            fn take(input: &mut Input<'_>) -> Result<Self, DecodeError> {
                <$inner>::take(input).map($type)
            }
        }
    )*};
}
newtypes!(NodeId(u64), Epoch(u64), KeyspaceId(u32), Partition(u32));

impl Wire for u8 {
    const LEN_MIN: usize = 1;
    fn put(&self, out: &mut Vec<u8>) {
        out.push(*self);
    }
    fn take(input: &mut Input<'_>) -> Result<Self, DecodeError> {
        input.u8("byte")
    }
}

impl Wire for bool {
    const LEN_MIN: usize = 1;
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn take(input: &mut Input<'_>) -> Result<Self, DecodeError> {
        match input.u8("flag")? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(invalid("flag")),
        }
    }
}

/// Sixteen bytes, little endian: a digest has no small values.
impl Wire for u128 {
    const LEN_MIN: usize = 16;
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }
    fn take(input: &mut Input<'_>) -> Result<Self, DecodeError> {
        let (low, high) = (input.u64("digest")?, input.u64("digest")?);
        Ok(u128::from(high) << 64 | u128::from(low))
    }
}

impl Wire for Slice {
    const LEN_MIN: usize = 1;
    fn put(&self, out: &mut Vec<u8>) {
        put_length_prefixed(out, self);
    }
    fn take(input: &mut Input<'_>) -> Result<Self, DecodeError> {
        input.bytes("bytes").map(Slice::copy_from)
    }
}

impl Wire for String {
    const LEN_MIN: usize = 1;
    fn put(&self, out: &mut Vec<u8>) {
        put_length_prefixed(out, self.as_bytes());
    }
    fn take(input: &mut Input<'_>) -> Result<Self, DecodeError> {
        let text = std::str::from_utf8(input.bytes("text")?).map_err(|_| invalid("text"))?;
        Ok(text.to_string())
    }
}

impl<T: Wire> Wire for Option<T> {
    const LEN_MIN: usize = 1;
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }
    fn take(input: &mut Input<'_>) -> Result<Self, DecodeError> {
        if bool::take(input)? { T::take(input).map(Some) } else { Ok(None) }
    }
}

impl<T: Wire, E: Wire> Wire for Result<T, E> {
    const LEN_MIN: usize = 2;
    fn put(&self, out: &mut Vec<u8>) {
        self.is_ok().put(out);
        match self {
            Ok(value) => value.put(out),
            Err(error) => error.put(out),
        }
    }
    fn take(input: &mut Input<'_>) -> Result<Self, DecodeError> {
        if bool::take(input)? { T::take(input).map(Ok) } else { E::take(input).map(Err) }
    }
}

impl<T: Wire> Wire for Vec<T> {
    const LEN_MIN: usize = 1;
    fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.len() as u64);
        self.iter().for_each(|item| item.put(out));
    }
    fn take(input: &mut Input<'_>) -> Result<Self, DecodeError> {
        input.list("list", ITEMS_MAX)
    }
}

/// A struct whose fields lie one behind the other.
macro_rules! fields {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type),* }

        impl $crate::codec::wire::Wire for $name {
            const LEN_MIN: usize = 0 $(+ <$type as $crate::codec::wire::Wire>::LEN_MIN)*;
            fn put(&self, out: &mut Vec<u8>) {
                $($crate::codec::wire::Wire::put(&self.$field, out);)*
                // A struct without fields uses neither.
                let _ = out;
            }
            fn take(
                input: &mut $crate::codec::wire::Input<'_>,
            ) -> Result<Self, $crate::codec::DecodeError> {
                let _ = &input;
                Ok($name { $($field: $crate::codec::wire::Wire::take(input)?),* })
            }
        }
    };
}

/// An enum without fields, as one byte that is never renumbered.
macro_rules! tags {
    ($(#[$doc:meta])* $name:ident { $($(#[$tag_doc:meta])* $tag:ident = $number:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$tag_doc])* $tag = $number),* }

        impl $crate::codec::wire::Wire for $name {
            const LEN_MIN: usize = 1;
            fn put(&self, out: &mut Vec<u8>) {
                out.push(*self as u8);
            }
            fn take(
                input: &mut $crate::codec::wire::Input<'_>,
            ) -> Result<Self, $crate::codec::DecodeError> {
                match input.u8(stringify!($name))? {
                    $($number => Ok($name::$tag),)*
                    _ => Err($crate::codec::wire::invalid(stringify!($name))),
                }
            }
        }
    };
}
pub(crate) use {fields, tags};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip<T: Wire + PartialEq + std::fmt::Debug>(value: &T) {
        let bytes = value.to_bytes();
        assert!(bytes.len() >= T::LEN_MIN);
        assert_eq!(T::from_bytes(&bytes).as_ref(), Ok(value));
        for cut in 0..bytes.len() {
            assert!(T::from_bytes(&bytes[..cut]).is_err());
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(T::from_bytes(&longer), Err(DecodeError::Trailing { len: 1 }));
    }

    proptest! {
        #[test]
        fn fields_round_trip(a: u64, b: u128, c: Vec<u8>, d: Option<String>, e: Vec<bool>, f: Result<u16, u8>) {
            round_trip(&a);
            round_trip(&b);
            round_trip(&Slice::from(c));
            round_trip(&d);
            round_trip(&e);
            round_trip(&f);
        }
    }

    #[test]
    fn a_list_promises_no_more_than_there_is() {
        let mut bytes = Vec::new();
        put_varint(&mut bytes, 60_000);
        bytes.extend_from_slice(&[0; 100]);
        let cut = DecodeError::Truncated { what: "list" };
        assert_eq!(Vec::<u128>::from_bytes(&bytes), Err(cut));
        bytes.clear();
        put_varint(&mut bytes, u64::MAX);
        let long = DecodeError::TooLong { what: "list", len: usize::MAX, max: ITEMS_MAX };
        assert_eq!(Vec::<u8>::from_bytes(&bytes), Err(long));
    }

    #[test]
    fn there_is_one_encoding() {
        assert_eq!(u64::from_bytes(&[0x80, 0x00]), Err(invalid("integer")));
        assert_eq!(bool::from_bytes(&[2]), Err(invalid("flag")));
        assert_eq!(u16::from_bytes(&[0x80, 0x80, 0x04]), Err(invalid("integer")));
        assert_eq!(String::from_bytes(&[1, 0xff]), Err(invalid("text")));
    }
}
