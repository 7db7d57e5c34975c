//! The model test in parts: what can happen (`ops`), with which options (`config`), what should hold then (`state`),
//! and the world in which it is tried (`world`, `reads`).

pub(crate) mod config;
pub(crate) mod ops;
pub(crate) mod reads;
pub(crate) mod state;
pub(crate) mod world;
