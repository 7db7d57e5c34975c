//! What a request or a keyspace may ask for.

use crate::record::{Bounds, Mode};

/// How long a request waits unless it or the cluster says otherwise, in microseconds.
pub(super) const TIMEOUT_MICROS_DEFAULT: u64 = 5_000_000;

/// How a keyspace is replicated. Fixed when it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyspaceOptions {
    /// N: owners of each key. `None`, the default, is that of the cluster.
    pub replication: Option<usize>,
    /// What happens to concurrent writes. Default [`Mode::Siblings`].
    pub mode: Mode,
    /// How many siblings a key may have by writes, and how many bytes they may have. Default 16, and 8 MiB; at most
    /// [`siblings_max`](crate::record::siblings_max) siblings.
    pub bounds: Bounds,
}

impl Default for KeyspaceOptions {
    fn default() -> Self {
        KeyspaceOptions { replication: None, mode: Mode::Siblings, bounds: Bounds::default() }
    }
}

impl KeyspaceOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets N.
    #[must_use]
    pub fn replication(mut self, owners: usize) -> Self {
        self.replication = Some(owners);
        self
    }

    /// Of concurrent writes the one with the greatest stamp is kept, the others are lost.
    #[must_use]
    pub fn last_writer_wins(mut self) -> Self {
        self.mode = Mode::LastWriterWins;
        self
    }
}

/// How a read is done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GetOptions {
    /// R: owners that have to answer. `None`, the default, is a majority of them.
    pub owners: Option<usize>,
    /// What one read shows no later one misses, also if the write was never acknowledged: it is stored at as many owners as that
    /// takes before it is answered. Default false.
    pub monotonic: bool,
    /// How long to wait, in microseconds. `None`, the default, is that of the cluster.
    pub timeout_micros: Option<u64>,
}

impl GetOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets R.
    #[must_use]
    pub fn owners(mut self, owners: usize) -> Self {
        self.owners = Some(owners);
        self
    }

    /// Asks for a monotonic read.
    #[must_use]
    pub fn monotonic(mut self) -> Self {
        self.monotonic = true;
        self
    }

    /// Sets how long to wait.
    #[must_use]
    pub fn timeout_micros(mut self, micros: u64) -> Self {
        self.timeout_micros = Some(micros);
        self
    }
}

/// How a write is done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PutOptions {
    /// W: owners that have to have it synced. `None`, the default, is a majority of them.
    pub owners: Option<usize>,
    /// What it replaces.
    pub replaces: Replaces,
    /// Stand-ins may keep it for owners that cannot be reached, and then count; [`Put::hinted`](super::Put::hinted) names them. Reads
    /// do not see it before it was handed over. One owner at least has to be reached. Default false.
    pub sloppy: bool,
    /// When it counts as deleted, in microseconds since 1970; 0, the default, is never.
    pub expires_micros: u64,
    /// How long to wait, in microseconds. `None`, the default, is that of the cluster.
    pub timeout_micros: Option<u64>,
}

/// What a write replaces, where siblings are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Replaces {
    /// What a read just before it shows.
    #[default]
    Current,
    /// What the read showed that gave this token.
    Token(Vec<u8>),
    /// Nothing: it stands beside what is there.
    Nothing,
}

impl PutOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets W.
    #[must_use]
    pub fn owners(mut self, owners: usize) -> Self {
        self.owners = Some(owners);
        self
    }

    /// It replaces what the read showed that gave this token, and nothing else.
    #[must_use]
    pub fn token(mut self, token: &[u8]) -> Self {
        self.replaces = Replaces::Token(token.to_vec());
        self
    }

    /// It replaces nothing.
    #[must_use]
    pub fn beside(mut self) -> Self {
        self.replaces = Replaces::Nothing;
        self
    }

    /// Stand-ins may take the place of owners.
    #[must_use]
    pub fn sloppy(mut self) -> Self {
        self.sloppy = true;
        self
    }

    /// Sets when it counts as deleted.
    #[must_use]
    pub fn expires_micros(mut self, micros: u64) -> Self {
        self.expires_micros = micros;
        self
    }

    /// Sets how long to wait.
    #[must_use]
    pub fn timeout_micros(mut self, micros: u64) -> Self {
        self.timeout_micros = Some(micros);
        self
    }
}
