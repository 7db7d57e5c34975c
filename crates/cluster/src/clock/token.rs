//! A context in the hands of a client.
//!
//! ```text
//! offset size field
//!      0    1 version   u8, see `VERSION`
//!      1    8 cluster   u64 LE
//!      9    8 key       u64 LE, xxh3-64 of the key
//!     17    8 stamp     u64 LE, the greatest stamp that was read
//!     25    . keyspace  varint
//!      .    . context   1, then the context; or 2, then how many runs it had, varint, where these are more than a write may name
//!     -8    8 checksum  u64 LE, xxh3-64 of the bytes before it
//! ```

use super::context::RUNS_NAMED_MAX;
use super::{Context, Stamp};
use crate::codec::DecodeError;
use crate::codec::wire::{Input, Wire, check, invalid};
use base::KeyspaceId;
use base::checksum::xxh3_64;

const VERSION: u8 = 2;
const CONTEXT: u8 = 1;
const TOO_MANY_RUNS: u8 = 2;
const CHECKSUM_LEN: usize = size_of::<u64>();
const KEYSPACE_OFFSET: usize = size_of::<u8>() + 3 * size_of::<u64>();
const _: () = assert!(KEYSPACE_OFFSET == 25, "drawing and fields disagree");

/// What a read has seen, to be handed back with the write that replaces it.
///
/// Sealed with cluster, keyspace and key: what was read of one key says nothing about another. Not a secret and no signature; it
/// guards against mistakes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Token {
    /// The dots that were read, and those they replaced.
    pub context: Context,
    /// The greatest stamp that was read: the write will have a greater one.
    pub stamp: Stamp,
}

/// Whose writes a token speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject<'a> {
    /// The cluster; see [`Topology::cluster`](crate::topology::Topology::cluster).
    pub cluster: u64,
    /// The keyspace of that cluster.
    pub keyspace: KeyspaceId,
    /// The key in it.
    pub key: &'a [u8],
}

/// Why bytes are no token for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// They are no token at all, or one of a version that this one cannot read, or they have changed since they were one.
    #[error("not a token, or a damaged one; pass back the bytes that a read returned")]
    NotAToken,
    /// It was read from another cluster, where keyspaces and writes of the same numbers are others.
    #[error(
        "token of another cluster; pass back what a read of this one returned cluster={cluster:016x} token={token:016x}"
    )]
    OtherCluster {
        /// The cluster that was to take it.
        cluster: u64,
        /// The cluster that it was read from.
        token: u64,
    },
    /// It was read from another keyspace.
    #[error(
        "token of another keyspace; pass back what a read of this one returned keyspace={keyspace} token={token}"
    )]
    OtherKeyspace {
        /// The keyspace that was to take it.
        keyspace: KeyspaceId,
        /// The keyspace that it was read from.
        token: KeyspaceId,
    },
    /// It was read from another key.
    #[error("token of another key; pass back what a read of the same key returned")]
    OtherKey,
    /// What was read accounts for more separate runs of writes than a write can name. Exchanges between the owners close the gaps.
    #[error(
        "token would name {runs} runs of writes, the limit is {max}; read again later, once the owners have exchanged what they lack, and pass back that token"
    )]
    TooManyRuns {
        /// How many they are.
        runs: u64,
        /// How many a write can name.
        max: u64,
    },
}

impl Token {
    /// The bytes to hand to whoever has read `subject`. They are bounded: of a context with more runs than a write may name they say that
    /// alone, and will not [`open`](Self::open).
    #[must_use]
    pub fn seal(&self, subject: &Subject<'_>) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&subject.cluster.to_le_bytes());
        bytes.extend_from_slice(&xxh3_64(subject.key).to_le_bytes());
        self.stamp.put(&mut bytes);
        base::invariant!(bytes.len() == KEYSPACE_OFFSET, "drawing and fields disagree");
        subject.keyspace.put(&mut bytes);
        match self.check() {
            Ok(()) => {
                bytes.push(CONTEXT);
                self.context.put(&mut bytes);
            }
            Err(_) => {
                bytes.push(TOO_MANY_RUNS);
                (self.context.runs().len() as u64).put(&mut bytes);
            }
        }
        let checksum = xxh3_64(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// The token in `bytes`.
    ///
    /// # Errors
    /// [`TokenError`] unless it was sealed for this subject, with a context that a write can name.
    pub fn open(subject: &Subject<'_>, bytes: &[u8]) -> Result<Token, TokenError> {
        let not_a_token = |_: DecodeError| TokenError::NotAToken;
        let (body, stored) =
            bytes.split_last_chunk::<CHECKSUM_LEN>().ok_or(TokenError::NotAToken)?;
        if body.first() != Some(&VERSION) || xxh3_64(body) != u64::from_le_bytes(*stored) {
            return Err(TokenError::NotAToken);
        }
        let mut input = Input::new(&body[1..]);
        let told = Told::take(&mut input).map_err(not_a_token)?;
        input.end().map_err(not_a_token)?;
        told.check_subject(subject)?;
        told.token
    }

    /// Whether a write can name what the token does.
    ///
    /// # Errors
    /// [`TokenError::TooManyRuns`].
    pub fn check(&self) -> Result<(), TokenError> {
        match self.context.runs().len() {
            0..=RUNS_NAMED_MAX => Ok(()),
            runs => Err(too_many(runs as u64)),
        }
    }
}

/// What the bytes of a token say.
struct Told {
    cluster: u64,
    keyspace: KeyspaceId,
    key_hash: u64,
    token: Result<Token, TokenError>,
}

impl Told {
    fn take(input: &mut Input<'_>) -> Result<Told, DecodeError> {
        let cluster = input.u64("cluster")?;
        let key_hash = input.u64("key")?;
        let stamp = Stamp::take(input)?;
        let keyspace = KeyspaceId::take(input)?;
        let token = match input.u8("context")? {
            CONTEXT => Ok(Token { stamp, context: Context::take(input)? }),
            TOO_MANY_RUNS => {
                let runs = input.varint("runs")?;
                check(runs > RUNS_NAMED_MAX as u64, "runs")?;
                Err(too_many(runs))
            }
            _ => return Err(invalid("context")),
        };
        Ok(Told { cluster, keyspace, key_hash, token })
    }

    fn check_subject(&self, subject: &Subject<'_>) -> Result<(), TokenError> {
        let Subject { cluster, keyspace, key } = *subject;
        if self.cluster != cluster {
            return Err(TokenError::OtherCluster { cluster, token: self.cluster });
        }
        if self.keyspace != keyspace {
            return Err(TokenError::OtherKeyspace { keyspace, token: self.keyspace });
        }
        if self.key_hash != xxh3_64(key) {
            return Err(TokenError::OtherKey);
        }
        Ok(())
    }
}

fn too_many(runs: u64) -> TokenError {
    TokenError::TooManyRuns { runs, max: RUNS_NAMED_MAX as u64 }
}

#[cfg(test)]
mod tests {
    use super::super::context::tests::any_context;
    use super::*;
    use crate::clock::{Actor, Dot};
    use proptest::prelude::*;

    fn of(key: &[u8]) -> Subject<'_> {
        Subject { cluster: 0xabcd, keyspace: KeyspaceId(7), key }
    }

    /// A context of so many runs.
    fn with_runs(runs: usize) -> Context {
        (1..=runs as u64).map(|n| Dot::new(Actor(1), 2 * n)).collect()
    }

    proptest! {
        #[test]
        fn it_opens_for_its_key_alone(context in any_context(), stamp: u64, key: Vec<u8>, other: Vec<u8>, flip: prop::sample::Index) {
            let token = Token { context, stamp: Stamp(stamp) };
            let bytes = token.seal(&of(&key));
            prop_assert_eq!(Token::open(&of(&key), &bytes), Ok(token));
            let elsewhere = Subject { cluster: 1, ..of(&key) };
            let error = TokenError::OtherCluster { cluster: 1, token: 0xabcd };
            prop_assert_eq!(Token::open(&elsewhere, &bytes), Err(error));
            let elsewhere = Subject { keyspace: KeyspaceId(8), ..of(&key) };
            let error = TokenError::OtherKeyspace { keyspace: KeyspaceId(8), token: KeyspaceId(7) };
            prop_assert_eq!(Token::open(&elsewhere, &bytes), Err(error));
            if other != key {
                prop_assert_eq!(Token::open(&of(&other), &bytes), Err(TokenError::OtherKey));
            }
            let mut damaged = bytes.clone();
            damaged[flip.index(bytes.len())] ^= 1;
            let cut = &bytes[..flip.index(bytes.len())];
            prop_assert_eq!(Token::open(&of(&key), &damaged), Err(TokenError::NotAToken));
            prop_assert_eq!(Token::open(&of(&key), cut), Err(TokenError::NotAToken));
        }
    }

    #[test]
    fn one_with_too_many_runs_says_so_and_is_short() {
        let most = Token { context: with_runs(RUNS_NAMED_MAX), stamp: Stamp(1) };
        assert_eq!(Token::open(&of(b"k"), &most.seal(&of(b"k"))), Ok(most));
        let more = Token { context: with_runs(RUNS_NAMED_MAX + 1), stamp: Stamp(1) };
        let bytes = more.seal(&of(b"k"));
        assert!(bytes.len() < 64, "{}", bytes.len());
        let error = TokenError::TooManyRuns { runs: 65_536, max: 65_535 };
        assert_eq!(Token::open(&of(b"k"), &bytes), Err(error));
        assert_eq!(more.check(), Err(error));
        assert_eq!(Token::open(&of(b"other"), &bytes), Err(TokenError::OtherKey));
    }

    #[test]
    fn golden_bytes() {
        let context: Context = [(1, 1), (1, 2), (1, 5), (300, 9)]
            .map(|(a, n)| Dot::new(Actor(a), n))
            .into_iter()
            .collect();
        let bytes = Token { context, stamp: Stamp(0x0102_0304) }.seal(&of(b"key"));
        let hex = |bytes: &[u8]| {
            bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(hex(&bytes[..9]), "02 cd ab 00 00 00 00 00 00");
        assert_eq!(bytes[9..17], xxh3_64(b"key").to_le_bytes());
        assert_eq!(
            hex(&bytes[17..bytes.len() - CHECKSUM_LEN]),
            "04 03 02 01 00 00 00 00 07 01 02 01 02 00 01 02 00 ac 02 01 08 00"
        );
        let (body, checksum) = bytes.split_last_chunk::<CHECKSUM_LEN>().expect("long enough");
        assert_eq!(*checksum, xxh3_64(body).to_le_bytes());
    }
}
