//! Bytes as a person reads them in a failure message.

use std::fmt::Write as _;

const SHOWN: usize = 40;

/// `b"..."` with escapes, cut after 40 bytes with the length appended.
pub(crate) fn bytes(bytes: &[u8]) -> String {
    let mut text = format!("b\"{}\"", bytes[..bytes.len().min(SHOWN)].escape_ascii());
    if bytes.len() > SHOWN {
        let _cannot_fail = write!(text, "..len={}", bytes.len());
    }
    text
}

/// A value, or the word for its absence.
pub(crate) fn value(value: Option<&[u8]>) -> String {
    value.map_or_else(|| "absent".to_string(), bytes)
}
