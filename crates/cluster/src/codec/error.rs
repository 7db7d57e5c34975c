//! Why bytes are no message.

/// Why bytes cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end before the message does.
    #[error("message cut short field={what}")]
    Truncated {
        /// The field that is not whole.
        what: &'static str,
    },
    /// The bytes say what no message says.
    #[error("invalid message field={what}")]
    Invalid {
        /// The field.
        what: &'static str,
    },
    /// More than a frame or field may have; none of it was read.
    #[error("message too long field={what} len={len} max={max}")]
    TooLong {
        /// The field.
        what: &'static str,
        /// What it has.
        len: usize,
        /// What it may have.
        max: usize,
    },
    /// Bytes follow behind the end of the message.
    #[error("bytes behind the end of a message len={len}")]
    Trailing {
        /// How many.
        len: usize,
    },
    /// Written by a version that this one cannot read.
    #[error("unknown version of a message version={version}")]
    UnknownVersion {
        /// The version found.
        version: u8,
    },
    /// A kind of message that this version does not know, or that does not belong here.
    #[error("unknown kind of message kind={kind}")]
    UnknownKind {
        /// The kind found.
        kind: u8,
    },
    /// The bytes are not those that were sent.
    #[error("checksum mismatch in a message")]
    ChecksumMismatch,
}
