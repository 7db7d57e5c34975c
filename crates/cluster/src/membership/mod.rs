//! Who is there: failure detection by gossip.
//!
//! SWIM with suspicion, by the library `foca`. Each node probes one other in each period, directly, then by way of others; one that does
//! not answer is *suspected*, which it can refute by a higher incarnation, and *dead* some periods later. What is learnt rides on the
//! probes, so a node sends a number of messages that does not depend on how many nodes there are.
//!
//! [`Swim`] is the state machine: events in, effects out. [`Gossip`] runs it on a [`Runtime`](crate::runtime::Runtime), over
//! the `Gossip` messages of a [`Transport`](crate::transport::Transport).
//!
//! What is learnt here is an opinion: it may differ between nodes, and be wrong. Nobody loses data or a vote by it. Who *owns* what
//! is agreed on (`topology`, `consensus`); a death seen here is a reason to propose something there.
//!
//! # Identities
//! A node is known by its [`Peer`]: id, generation, zone and weight. A node that starts takes a greater generation than before, and
//! one that was declared dead while it lives takes a greater one by itself, so a death is never argued about: it stays true of the
//! generation that died.
//!
//! # What this module does not know
//! Topologies, data, addresses: a transport finds a node by its id.

mod agent;
mod codec;
mod peer;
mod rng;
mod swim;

#[cfg(test)]
mod tests;

pub use agent::{Gossip, Listener, Sent};
pub use peer::{Liveness, Peer, PeerState};
pub use swim::{Config, Effect, Event, Swim, SwimTimer};
