//! An embeddable, ordered, crash-safe key-value store.
//!
//! ```
//! # fn main() -> esker::Result<()> {
//! # let dir = tempfile::tempdir().expect("a directory");
//! # let path = dir.path().join("data");
//! let db = esker::Db::open(path)?;
//! db.put("apple", "red")?;
//! for pair in db.range("a".."b") {
//!     let (key, value) = pair?;
//!     assert_eq!((&key[..], &value[..]), (&b"apple"[..], &b"red"[..]));
//! }
//! db.close()
//! # }
//! ```
//!
//! Start at [`Db`]. [`Options`] tune it, [`KeyspaceOptions`] one of its keyspaces, [`Durability`] says what `Ok` of a
//! write means. Every error is an [`Error`], whose [`kind`](Error::kind) says what to do.
//!
//! # What this crate does not know
//! How anything is done: it is the door to `esker-lsm`.
#![forbid(unsafe_code)]

pub use lsm::*;
