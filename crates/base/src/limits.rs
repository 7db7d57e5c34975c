//! What is too large. Checked before anything is allocated or written.

/// Longest key: 64 KiB - 1.
pub const KEY_BYTES_MAX: usize = (64 << 10) - 1;
/// Longest bound of a range tombstone: one byte more than a key, to lie right behind the longest one.
pub const BOUND_BYTES_MAX: usize = KEY_BYTES_MAX + 1;
/// Longest value: 64 MiB.
pub const VALUE_BYTES_MAX: usize = 64 << 20;
/// Largest encoded batch. A batch may hold one value of the largest size.
pub const BATCH_BYTES_MAX: usize = (64 << 20) + (128 << 10);
/// Most operations in a batch: 1 M.
pub const BATCH_OPS_MAX: usize = 1 << 20;
/// Longest keyspace name. Names are made of `A-Z a-z 0-9 _ -`.
pub const KEYSPACE_NAME_MAX: usize = 64;
/// Largest block after decompression, unless it holds a single larger entry.
pub const BLOCK_BYTES_MAX: usize = 4 << 20;
/// Largest manifest edit.
pub const EDIT_BYTES_MAX: usize = 16 << 20;

use crate::{Error, Result};

/// Checks a key against [`KEY_BYTES_MAX`].
///
/// # Errors
/// [`Error::InvalidArgument`] naming the key.
pub fn check_key(key: &[u8]) -> Result<()> {
    if key.len() <= KEY_BYTES_MAX {
        return Ok(());
    }
    Err(Error::invalid("key", format!("{} bytes, the limit is {KEY_BYTES_MAX}", key.len())))
}

/// Checks a bound of a range tombstone against [`BOUND_BYTES_MAX`].
///
/// # Errors
/// [`Error::InvalidArgument`] naming the bound.
pub fn check_bound(bound: &[u8]) -> Result<()> {
    if bound.len() <= BOUND_BYTES_MAX {
        return Ok(());
    }
    Err(Error::invalid(
        "range",
        format!("bound of {} bytes, the limit is {KEY_BYTES_MAX}", bound.len()),
    ))
}

/// Checks a value against [`VALUE_BYTES_MAX`].
///
/// # Errors
/// [`Error::InvalidArgument`] naming the value.
pub fn check_value(value: &[u8]) -> Result<()> {
    if value.len() <= VALUE_BYTES_MAX {
        return Ok(());
    }
    Err(Error::invalid("value", format!("{} bytes, the limit is {VALUE_BYTES_MAX}", value.len())))
}

/// Checks a keyspace name: 1 to 64 characters of `A-Z a-z 0-9 _ -`.
///
/// # Errors
/// [`Error::InvalidArgument`] naming the keyspace.
pub fn check_keyspace_name(name: &str) -> Result<()> {
    let ok = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if !name.is_empty() && name.len() <= KEYSPACE_NAME_MAX && name.bytes().all(ok) {
        return Ok(());
    }
    let shown: String = name.chars().take(80).collect();
    Err(Error::invalid(
        "keyspace name",
        format!("{shown:?}; use 1 to {KEYSPACE_NAME_MAX} characters of A-Z a-z 0-9 _ -"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_inclusive() {
        assert!(check_key(&vec![0; KEY_BYTES_MAX]).is_ok());
        assert!(check_key(&vec![0; KEY_BYTES_MAX + 1]).is_err());
        assert!(check_key(b"").is_ok());
        for name in ["a", "users-2_B", &"x".repeat(64)] {
            assert!(check_keyspace_name(name).is_ok(), "{name}");
        }
        for name in ["", "..", "a/b", "é", "a b", "a\0", &"x".repeat(65)] {
            assert!(check_keyspace_name(name).is_err(), "{name}");
        }
    }
}
