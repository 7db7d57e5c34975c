//! Reads and writes of clients: any node takes them, owners carry them out.
//!
//! A write goes to an owner of its key, which makes its dot, stores it, and sends it to the others ([`Node::write`]); a read asks
//! owners and merges what they say ([`Node::read`]). What is tried again, and what is not, follows `docs/cluster-design.md`.

mod check;
mod forward;
mod read;
#[cfg(test)]
mod read_tests;
mod scan;
mod served;
#[cfg(test)]
mod tests;
mod write;

pub use forward::WriteOptions;
pub use read::{Answered, ReadOptions};
pub use scan::{PageOf, ScanOptions};
pub(crate) use served::Served;

#[cfg(doc)]
use crate::node::Node;
