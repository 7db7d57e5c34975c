//! Failure detection, by nodes on a network that breaks, and by a thousand of them.

mod model;
mod network;
mod thousand;
