//! What the tests of every Esker crate share: scripts, models, generators. For `dev-dependencies` only.
//!
//! | module | what it is for |
//! | --- | --- |
//! | [`script`] | folders of scripted tests; `REWRITE=1` accepts new output |
//! | [`rng`] | one seed replays one run |
//! | [`keys`] | keys that stores find hard |
//! | [`value`] | values that name the write they came from |
//! | [`model`] | a map of every version, to compare a store with |
//! | [`oracle`] | what a store may look like after a crash |
//!
//! # What this crate does not know
//! Any other crate of the family: bytes in, bytes and text out. Helpers panic on misuse, as tests do.
#![forbid(unsafe_code)]

mod hash;
pub mod keys;
pub mod model;
pub mod oracle;
pub mod rng;
pub mod script;
mod show;
pub mod value;
