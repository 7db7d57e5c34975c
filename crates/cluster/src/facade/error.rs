//! What can go wrong.

use crate::clock::TokenError;
use crate::consensus::OpenError;
use crate::topology::Refusal;
use crate::transport::Failure;
use ring::NodeId;

/// Why a call of a client failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The nodes say so.
    #[error(transparent)]
    Call(#[from] Failure),
    /// The database of a node says so.
    #[error("database of a node: {detail}")]
    Store {
        /// What it says.
        detail: String,
    },
    /// The bytes handed in as a token are none, or one of another cluster, keyspace or key, or it names more than a write can.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The options contradict each other, or what the cluster was made with.
    #[error("invalid options: {detail}")]
    Options {
        /// The rule.
        detail: String,
    },
    /// The node does not run, or none does.
    #[error("node is down; start it, or ask another one")]
    NodeIsDown {
        /// Which; `None` if none runs.
        node: Option<NodeId>,
    },
    /// There are fewer nodes, or would be left, than each key has owners. Add some first.
    #[error(
        "{left} nodes for {replicas} owners of each key; add nodes first, or ask for fewer owners"
    )]
    TooFewNodes {
        /// Nodes that there are, or would be left.
        left: usize,
        /// Owners that a keyspace asks for.
        replicas: usize,
    },
    /// There is no such node.
    #[error("no such node; Cluster::view names those there are node={node}")]
    UnknownNode {
        /// Its number.
        node: NodeId,
    },
    /// Data was still on its way when the time was up. It goes on; wait again, or look at the progress.
    #[error("not over yet; it goes on: wait again, or look at the progress")]
    Unfinished,
    /// The members, keyspaces and jobs that there are do not allow it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Nothing can be agreed on any more, or it is not known whether it was.
    #[error("no agreement on the topology: {detail}")]
    Agreement {
        /// Why.
        detail: String,
    },
}

impl Error {
    /// True if a write that failed so may be there all the same, or appear later: once.
    #[must_use]
    pub fn may_have_happened(&self) -> bool {
        matches!(self, Error::Call(failure) if failure.may_have_happened())
    }

    pub(super) fn options(detail: impl Into<String>) -> Error {
        Error::Options { detail: detail.into() }
    }
}

impl From<lsm::Error> for Error {
    fn from(error: lsm::Error) -> Error {
        let mut detail = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(inner) = cause {
            detail = format!("{detail}: {inner}");
            cause = inner.source();
        }
        Error::Store { detail }
    }
}

impl From<OpenError> for Error {
    fn from(error: OpenError) -> Error {
        match error {
            OpenError::Db(error) => error.into(),
            other => Error::Agreement { detail: other.to_string() },
        }
    }
}

impl From<ring::Error> for Error {
    fn from(error: ring::Error) -> Error {
        Error::options(error.to_string())
    }
}
