//! A context in the hands of a client.
//!
//! ```text
//! offset size field
//!      0    1 version   u8, see `VERSION`
//!      1    8 stamp     u64 LE, the greatest stamp that was read
//!      9    . context
//!     -8    8 checksum  u64 LE, xxh3-64 of keyspace u32 LE, length of the key u32 LE, key, and the bytes before it
//! ```

use super::{Context, Stamp};
use crate::codec::wire::{Input, Wire};
use base::KeyspaceId;
use base::checksum::xxh3_64;

const VERSION: u8 = 1;
const CHECKSUM_LEN: usize = size_of::<u64>();

/// What a read has seen, to be handed back with the write that replaces it.
///
/// Sealed with keyspace and key: what was read of one key says nothing about another. Not a secret and no signature; it
/// guards against mistakes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Token {
    /// The dots that were read, and those they replaced.
    pub context: Context,
    /// The greatest stamp that was read: the write will have a greater one.
    pub stamp: Stamp,
}

/// Why bytes are no token for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// They are no token at all, or one of a version that this one cannot read.
    #[error("not a token; pass back the bytes that a read returned")]
    NotAToken,
    /// It was read from another key or keyspace, or its bytes have changed.
    #[error("token does not belong to this key; pass back what a read of the same key returned")]
    OtherKey,
}

impl Token {
    /// The bytes to hand to whoever has read `key`.
    #[must_use]
    pub fn seal(&self, keyspace: KeyspaceId, key: &[u8]) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        self.stamp.put(&mut bytes);
        self.context.put(&mut bytes);
        let checksum = checksum(keyspace, key, &bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// The token in `bytes`.
    ///
    /// # Errors
    /// [`TokenError`] unless it was sealed for this keyspace and key.
    pub fn open(keyspace: KeyspaceId, key: &[u8], bytes: &[u8]) -> Result<Token, TokenError> {
        let (body, stored) =
            bytes.split_last_chunk::<CHECKSUM_LEN>().ok_or(TokenError::NotAToken)?;
        if body.first() != Some(&VERSION) {
            return Err(TokenError::NotAToken);
        }
        if checksum(keyspace, key, body) != u64::from_le_bytes(*stored) {
            return Err(TokenError::OtherKey);
        }
        let mut input = Input::new(&body[1..]);
        let token = Stamp::take(&mut input)
            .and_then(|stamp| Ok(Token { stamp, context: Context::take(&mut input)? }))
            .and_then(|token| input.end().map(|()| token));
        token.map_err(|_| TokenError::NotAToken)
    }
}

fn checksum(keyspace: KeyspaceId, key: &[u8], body: &[u8]) -> u64 {
    let (id, len) = (keyspace.0.to_le_bytes(), (key.len() as u32).to_le_bytes());
    xxh3_64(&[&id, &len, key, body].concat())
}

#[cfg(test)]
mod tests {
    use super::super::context::tests::any_context;
    use super::*;
    use crate::clock::{Actor, Dot};
    use proptest::prelude::*;

    const USERS: KeyspaceId = KeyspaceId(7);

    proptest! {
        #[test]
        fn it_opens_for_its_key_alone(context in any_context(), stamp: u64, key: Vec<u8>, other: Vec<u8>, flip: prop::sample::Index) {
            let token = Token { context, stamp: Stamp(stamp) };
            let bytes = token.seal(USERS, &key);
            prop_assert_eq!(Token::open(USERS, &key, &bytes), Ok(token));
            prop_assert_eq!(Token::open(KeyspaceId(8), &key, &bytes), Err(TokenError::OtherKey));
            if other != key {
                prop_assert_eq!(Token::open(USERS, &other, &bytes), Err(TokenError::OtherKey));
            }
            let mut damaged = bytes.clone();
            damaged[flip.index(bytes.len())] ^= 1;
            prop_assert!(Token::open(USERS, &key, &damaged).is_err());
            prop_assert!(Token::open(USERS, &key, &bytes[..flip.index(bytes.len())]).is_err());
        }
    }

    #[test]
    fn golden_bytes() {
        let context: Context = [(1, 1), (1, 2), (1, 5), (300, 9)]
            .map(|(a, n)| Dot::new(Actor(a), n))
            .into_iter()
            .collect();
        let bytes = Token { context, stamp: Stamp(0x0102_0304) }.seal(USERS, b"key");
        let shown: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            shown[..shown.len() - CHECKSUM_LEN].join(" "),
            "01 04 03 02 01 00 00 00 00 02 01 02 00 01 02 00 ac 02 01 08 00"
        );
        let sealed = [&7u32.to_le_bytes()[..], &3u32.to_le_bytes(), b"key", &bytes[..21]].concat();
        assert_eq!(bytes[21..], xxh3_64(&sealed).to_le_bytes());
    }
}
