//! Keyspaces of the cluster.

use crate::codec::DecodeError;
use crate::codec::wire::{Input, Wire, fields, invalid};
use crate::record::Mode;
use base::KeyspaceId;
use base::limits::KEYSPACE_NAME_MAX;
use ring::REPLICAS_MAX;

/// Most keyspaces of a cluster.
pub const KEYSPACES_MAX: usize = 1 << 10;
/// Bytes of the longest name of a keyspace.
pub const NAME_LEN_MAX: usize = KEYSPACE_NAME_MAX;

fields! {
    /// A set of keys that are kept alike.
    Keyspace {
        /// Given when it is made, and not to another one after it.
        id: KeyspaceId,
        /// Its name, 1 to [`NAME_LEN_MAX`] bytes, unlike all others.
        name: String,
        /// N: how many nodes hold each key.
        replicas: u8,
        /// What happens to concurrent writes.
        mode: Mode,
        /// Most siblings that a write may leave.
        siblings_max: u16,
    }
}

impl Keyspace {
    pub(super) fn is_within_bounds(&self) -> bool {
        (1..=NAME_LEN_MAX).contains(&self.name.len())
            && (1..=REPLICAS_MAX).contains(&usize::from(self.replicas))
            && self.siblings_max > 0
    }
}

impl Wire for Mode {
    const LEN_MIN: usize = 1;
    fn put(&self, out: &mut Vec<u8>) {
        out.push(match self {
            Mode::Siblings => 1,
            Mode::LastWriterWins => 2,
        });
    }
    fn take(input: &mut Input<'_>) -> Result<Self, DecodeError> {
        match input.u8("mode")? {
            1 => Ok(Mode::Siblings),
            2 => Ok(Mode::LastWriterWins),
            _ => Err(invalid("mode")),
        }
    }
}
