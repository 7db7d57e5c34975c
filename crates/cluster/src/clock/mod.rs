//! Time and causality.
//!
//! [`HybridClock`] stamps writes so that the later of two that follow each other has the greater stamp. [`Dot`] names one
//! write for ever; a [`Context`] is a set of dots: what somebody has seen. [`Token`] is a context in the hands of a client.
//!
//! # Source
//! Kulkarni et al., "Logical Physical Clocks", OPODIS 2014. Preguiça et al., "Dotted Version Vectors", 2010. Gonçalves et al.,
//! "DottedDB: Anti-Entropy without Merkle Trees, Deletes without Tombstones", SRDS 2017.

mod context;
mod hybrid;
mod token;

pub use context::{Actor, Context, Dot, RUNS_MAX, Run};
pub(crate) use context::{RUNS_NAMED_MAX, RUNS_STORED_MAX};
pub use hybrid::{ClockError, DRIFT_MAX_DEFAULT, HybridClock, RESERVE_MICROS, Stamp};
pub use token::{Subject, Token, TokenError};
