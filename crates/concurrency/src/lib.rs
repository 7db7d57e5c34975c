//! Esker under checkers of concurrency. `docs/concurrency.md` says how to run them and what they have seen.
//!
//! | build | what is here |
//! | --- | --- |
//! | `--cfg shuttle` | `schedules`: a real database over a file system in memory, threads and jobs in an order drawn by a seed |
//! | `--cfg loom` | `tests/loom.rs`: small pieces of the real code, in every order |
//! | default | nothing, so that the tests of the workspace stay short |
//!
//! # What this crate does not know
//! How the engine keeps its promises: it uses the public face, and for `loom` the few pieces that `lsm` lends.
#![forbid(unsafe_code)]

#[cfg(shuttle)]
pub mod schedules;
