//! Consistent hashing in equal partitions: who owns which key, and what moves when nodes come and go.
//!
//! ```
//! use ring::{Member, Topology, plan};
//!
//! let mut members: Vec<Member> =
//!     (0..5).map(|n| Member::new(n, 1, ["north", "south", "west"][n as usize % 3])).collect();
//! let old = Topology::new(256, 3, &members)?;
//! assert_eq!(old.owners_of(b"song:42").len(), 3);         // in three zones, the primary first
//!
//! members.push(Member::new(5, 2, "west"));                // twice the capacity of the others
//! let new = old.next(&members)?;
//! for step in plan(&old, &new)?.moves {
//!     println!("copy {} to {}, in place of {:?}", step.partition, step.to, step.from);
//! }
//! # Ok::<(), ring::Error>(())
//! ```
//!
//! # The rules
//! - The xxh3-64 space is cut into equal partitions, a power of two fixed when the cluster is made
//!   ([`Ring`]). How many: [`Ring::partitions_for`] the largest cluster that is planned.
//! - A partition has as many owners as replicas are asked for, or all nodes if there are fewer. A node
//!   owns a partition once at most.
//! - Zones come first: the owners of each partition lie in as many zones as there are, and as evenly
//!   over them as the nodes of each zone allow (five replicas in three zones: two, two and one). This
//!   holds always; a zone with one small node and three zones in all means a full copy on that node.
//! - Weights come second: within what zones and "once at most" allow, a node's share is in proportion
//!   to its weight, to the replica. What a node or zone at its limit cannot take goes to the others.
//!   The load of the fullest node over its share is below `1 + nodes / replicas in all`.
//! - The primary, the first owner, is every node for its part of what it holds, rounded down or up.
//!
//! # A function of what?
//! [`Topology::new`] is a pure function of the membership. [`Topology::next`] is one of the topology
//! before and the new membership: to move little one has to know where things are. So all who see
//! the same topologies in the same order agree. What depends on the past is only *which* partitions a
//! node has. *How many* it has follows from the membership alone, up to who of equals has one more,
//! so nothing drifts, however long the history.
//!
//! The loads of the new membership are fixed first, then the placement with these loads and zones that
//! is nearest to the old one is searched for, as a flow of least cost. Each node that did not change
//! only gives when others join, only takes when others leave.
//!
//! A keyspace with another number of replicas has a topology of its own over the same ring and members.
//!
//! # Figures
//! From `cargo run --release --example ring`, on two busy cores: what is counted is
//! exact, what is timed is not. Goals: max/mean 1.03 (1.05 with mixed weights), moves 1.05, lookup
//! 20 ns.
//!
//! Load of the fullest node over its share (also after 99 random changes); data moved over the least
//! that even shares allow, on a join, a leave, a doubled weight, and over those 99 changes:
//!
//! ```text
//! 3 replicas, 5 equal zones, 16384 partitions, which is the rule for 1,000 nodes
//!                        nodes  max/mean    join   leave  weight   99 changes    lookup   plan
//! equal weights             10  1.000      1.000   1.000   1.000  1.000 1.000   4-14 ns  10 ms
//!                          100  1.001      0.999   0.999   1.000  0.999 1.001   4-14 ns  10 ms
//!                         1000  1.017      0.998   0.997   1.019  0.998 1.017   4-14 ns  12 ms
//! weights 1, 2 and 4        10  1.000      1.000   1.000   1.000  1.020 1.000   4-14 ns  20 ms
//!                          100  1.002      1.000   1.000   1.002  1.000 1.001   4-14 ns  20 ms
//!                         1000  1.004      0.994   0.992   1.007  1.001 1.007   4-14 ns  20 ms
//! ```
//!
//! Beside the classic ways, each taking nodes until zones are distinct where it says so:
//!
//! ```text
//! 100 nodes, weights 1, 2 and 4, 5 equal zones, 3 replicas, 2048 partitions
//!                      max/mean    join   leave  weight   in one zone  lookup
//! esker-ring              1.013   0.999   1.003   1.005       0 %       10 ns
//! tokens, 1               2.220   1.653   0.783   0.820      52 %      100 ns
//! tokens, 16              1.163   0.904   1.090   0.999      50 %      100 ns
//! tokens, 256             1.078   0.999   0.968   0.936      50 %      170 ns
//! rendezvous              1.031   0.997   0.986   0.971      50 %     3400 ns
//! jump                    1.032   1.015  27.375   1.013      50 %      340 ns
//! tokens, 256, zones      1.150   1.010   0.949   0.966       0 %      360 ns
//! rendezvous, zones       1.049   0.996   1.013   0.977       0 %     3800 ns
//! jump, zones             1.046   1.462  33.254   1.447       0 %      940 ns
//! ```
//! Below 1 a way moves less than even shares ask for: it gives a node less than its share. Rendezvous
//! and jump are sampled at 2^19 keys; about 0.02 of their max/mean is that sample. Tokens are per unit
//! of weight. Jump can only lose its last node, so it moves nearly everything for any other.
//!
//! Where a zone holds nearly a full copy, zones force moves of their own: with zones of 30, 25, 20, 15
//! and 10 % of a hundred equal nodes, the first is in nine of ten partitions, and to spread what a
//! lost node held evenly takes 1.09 of that. The tests compare such plans with a textbook flow of
//! minimal cost: no shorter one exists in any of 900.
//!
//! # What this crate does not know
//! What lies in a partition, which nodes are alive, how data is moved, who decides that a topology is
//! in force.
//!
//! # Cost
//! A topology takes `8 * replicas + 1` bytes a partition; encoded, `2 * owners + 1`. Of a cluster of 1,000
//! nodes that is 410 kB and 115 kB. A change that concerns everything (all nodes replaced, two
//! replicas more) takes 0.6 s there.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod canonical;
mod chain;
mod codec;
mod error;
mod fit;
mod member;
mod mix;
mod placement;
mod plan;
mod primary;
mod ring;
mod shares;
mod shorten;
mod topology;
mod view;

pub use codec::{DecodeError, ENCODED_LEN_MAX, VERSION};
pub use error::Error;
pub use member::{MEMBERS_MAX, Member, NodeId, REPLICAS_MAX, ZONE_LEN_MAX};
pub use plan::{Move, Plan, Promotion, Removal, Role, plan};
pub use ring::{PARTITIONS_DEFAULT, PARTITIONS_MAX, Partition, Ring, SHARE_MIN};
pub use topology::{Epoch, Load, Topology};
