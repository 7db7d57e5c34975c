//! The bodies of the fuzz targets: plain functions over bytes, so that the fuzzer and `cargo test` run the same code.
//!
//! | target | what the bytes become | what is compared |
//! | --- | --- | --- |
//! | [`log_record`] | bytes at a place of a file | lengths, the search for records, the walk over them |
//! | [`log_replay`] | a history of a log, a crash, damage | what replay hands out with what was appended |
//! | [`data_block`] | a block, or a block and damage | both directions, lookups |
//! | [`index_block`] | an index, or an index and damage | the search with a walk |
//! | [`filter`] | a filter, or keys | no key is denied |
//! | [`table`] | a table and damage | both directions, lookups, `verify` |
//! | [`manifest_edit`] | an edit | round trips, the state it makes |
//! | [`manifest_replay`] | edits, a crash, damage | the state with those that were there |
//! | [`batch`] | a batch | round trips |
//! | [`properties`] | properties, range tombstones, footer, stored policy | round trips |
//! | [`database`] | operations, faults, crashes | a map of every version |
//! | [`picker`] | a version, a policy, a schedule | the rules of a task, reads, an end |
//! | [`topology`] | a topology, or a membership and changes | round trips, zones, plans with where they lead |
//! | [`agreement`] | a topology of a cluster, an update, a change, or changes one after the other | round trips, owners, fences |
//! | [`message`] | a frame, a message, a record, a context, a token, digests | round trips, the laws of merging |
//!
//! The first byte of an input chooses: where a checksum guards the bytes it is made right again in half of the
//! runs, so that the parser behind it is reached. Each body runs with a limit on single allocations ([`cap`]).
#![deny(unsafe_code)]

mod agreement;
mod batch;
mod blocks;
pub mod cap;
mod damage;
mod database;
mod edit;
mod filter;
mod log;
mod manifests;
mod message;
mod picker;
mod properties;
mod record;
pub mod seeds;
mod source;
mod table;
mod topology;

pub use agreement::agreement;
pub use batch::batch;
pub use blocks::{data_block, index_block};
pub use database::database;
pub use edit::manifest_edit;
pub use filter::filter;
pub use log::log_replay;
pub use manifests::manifest_replay;
pub use message::message;
pub use picker::picker;
pub use properties::properties;
pub use record::log_record;
pub use table::table;
pub use topology::topology;

/// A target by its name.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("log_record", log_record),
    ("log_replay", log_replay),
    ("data_block", data_block),
    ("index_block", index_block),
    ("filter", filter),
    ("table", table),
    ("manifest_edit", manifest_edit),
    ("manifest_replay", manifest_replay),
    ("batch", batch),
    ("properties", properties),
    ("database", database),
    ("picker", picker),
    ("topology", topology),
    ("message", message),
    ("agreement", agreement),
];
