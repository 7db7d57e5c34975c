//! Frames and messages as bytes.
//!
//! [`frame`] is the envelope, which a transport reads; [`message`] is what nodes say. Bytes come from anywhere: every length is
//! checked against what is there before anything is allocated, and what decodes has one encoding, the bytes given.

mod error;
pub mod frame;
pub mod message;
pub mod samples;
mod weight;
pub(crate) mod wire;

pub use error::DecodeError;
