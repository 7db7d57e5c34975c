//! What is too large. Checked before anything is allocated or written.

/// Longest key: 64 KiB - 1.
pub const KEY_BYTES_MAX: usize = (64 << 10) - 1;
/// Longest bound of a range tombstone: one byte more than a key, to lie right behind the longest one.
pub const BOUND_BYTES_MAX: usize = KEY_BYTES_MAX + 1;
/// The end of a range that has none: longer than any key and nothing but 0xff, so it lies behind every key there can be.
/// Log and tables hold a mark in its place, see [`put_bound`](crate::coding::put_bound).
pub static UNBOUNDED: [u8; BOUND_BYTES_MAX] = [0xff; BOUND_BYTES_MAX];
/// Longest value: 64 MiB.
pub const VALUE_BYTES_MAX: usize = 64 << 20;
/// Largest encoded batch. A batch may hold one value of the largest size.
pub const BATCH_BYTES_MAX: usize = (64 << 20) + (128 << 10);
/// Most operations in a batch: 1 M.
pub const BATCH_OPS_MAX: usize = 1 << 20;
/// Bytes that a batch of one operation takes beside key and value, at most.
pub const BATCH_OVERHEAD: usize = 64;
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

/// What the writes to one database may bring: at most what the format has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteLimits {
    /// Longest key.
    pub key_bytes_max: usize,
    /// Longest value.
    pub value_bytes_max: usize,
    /// Largest encoded batch.
    pub batch_bytes_max: usize,
    /// Most operations in a batch.
    pub batch_ops_max: usize,
}

impl WriteLimits {
    /// What the format has room for.
    pub const CEILINGS: WriteLimits = WriteLimits {
        key_bytes_max: KEY_BYTES_MAX,
        value_bytes_max: VALUE_BYTES_MAX,
        batch_bytes_max: BATCH_BYTES_MAX,
        batch_ops_max: BATCH_OPS_MAX,
    };

    /// Every broken rule, a line each.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let top = Self::CEILINGS;
        let mut faults = Vec::new();
        for (name, value, least, most) in [
            ("key_bytes_max", self.key_bytes_max, 1, top.key_bytes_max),
            ("value_bytes_max", self.value_bytes_max, 0, top.value_bytes_max),
            ("batch_bytes_max", self.batch_bytes_max, 1, top.batch_bytes_max),
            ("batch_ops_max", self.batch_ops_max, 1, top.batch_ops_max),
        ] {
            if !(least..=most).contains(&value) {
                faults.push(format!("{name} {value} is outside {least} to {most}"));
            }
        }
        let entry = self.key_bytes_max.saturating_add(self.value_bytes_max);
        let least = entry.saturating_add(BATCH_OVERHEAD);
        if self.batch_bytes_max < least {
            let batch = self.batch_bytes_max;
            faults.push(format!("batch_bytes_max {batch} is below the largest entry, {least}"));
        }
        faults
    }

    /// Checks a key.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] naming the key.
    #[inline]
    pub fn check_key(&self, key: &[u8]) -> Result<()> {
        check("key", key.len(), self.key_bytes_max)
    }

    /// Checks a bound of a range of keys: one byte more than a key, to lie right behind the longest one.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] naming the range.
    #[inline]
    pub fn check_bound(&self, bound: &[u8]) -> Result<()> {
        check("range", bound.len(), self.key_bytes_max.saturating_add(1))
    }

    /// Checks a value.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] naming the value.
    #[inline]
    pub fn check_value(&self, value: &[u8]) -> Result<()> {
        check("value", value.len(), self.value_bytes_max)
    }

    /// Checks the size of a batch of `ops` operations in `bytes` bytes.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] naming the batch.
    #[inline]
    pub fn check_batch(&self, bytes: usize, ops: usize) -> Result<()> {
        let detail = if bytes > self.batch_bytes_max {
            format!("{bytes} bytes, the limit is {}; split it", self.batch_bytes_max)
        } else if ops > self.batch_ops_max {
            format!("{ops} operations, the limit is {}; split it", self.batch_ops_max)
        } else {
            return Ok(());
        };
        Err(Error::invalid("batch", detail))
    }
}

#[inline]
fn check(what: &'static str, len: usize, max: usize) -> Result<()> {
    if len <= max { Ok(()) } else { Err(too_long(what, len, max)) }
}

#[cold]
fn too_long(what: &'static str, len: usize, max: usize) -> Error {
    Error::invalid(what, format!("{len} bytes, the limit is {max}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceilings_keep_all_rules_and_every_broken_one_is_told() {
        assert_eq!(WriteLimits::CEILINGS.faults(), Vec::<String>::new());
        let small = WriteLimits {
            key_bytes_max: 8,
            value_bytes_max: 100,
            batch_bytes_max: 108 + BATCH_OVERHEAD,
            batch_ops_max: 1,
        };
        assert_eq!(small.faults(), Vec::<String>::new());
        let tight = WriteLimits { batch_bytes_max: small.batch_bytes_max - 1, ..small };
        assert!(tight.faults()[0].contains("largest entry"), "{:?}", tight.faults());
        let none = WriteLimits {
            key_bytes_max: 0,
            value_bytes_max: VALUE_BYTES_MAX + 1,
            batch_bytes_max: BATCH_BYTES_MAX + 1,
            batch_ops_max: BATCH_OPS_MAX + 1,
        };
        assert_eq!(none.faults().len(), 4, "{:?}", none.faults());
        assert!(small.check_key(&[0; 8]).is_ok() && small.check_key(&[0; 9]).is_err());
        assert!(small.check_bound(&[0; 9]).is_ok() && small.check_bound(&[0; 10]).is_err());
        assert!(small.check_value(&[0; 100]).is_ok() && small.check_value(&[0; 101]).is_err());
        assert!(small.check_batch(172, 1).is_ok());
        assert!(small.check_batch(173, 1).is_err() && small.check_batch(172, 2).is_err());
    }

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
