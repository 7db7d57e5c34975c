//! The sorted in-memory table: what was written since the last flush.
//!
//! A record log in an arena, with a hash index over it for point reads and an order that is built when
//! somebody iterates. `docs/memtable.md` has the measurements that chose it over a skip list and a radix tree.
//!
//! | module | what it holds |
//! | --- | --- |
//! | `arena` | chunks, records and published references; all `unsafe` code of the crate |
//! | `index` | user key to newest version, lock-free to read |
//! | `order`, `sort` | sorted runs of references, fed when an iterator is made |
//! | `fences` | search inside a run |
//! | `iter` | the merge of those runs, both ways |
//! | `tombstones` | range tombstones, fragmented by and by |
//! | `within` | whether there is anything of a range of keys |
//! | `account` | who holds how many bytes |
//!
//! # What this crate does not know
//! Files, logs, snapshots' lifetimes, when to freeze: it is told a sequence number and obeys.
#![deny(unsafe_code)]

mod account;
#[expect(
    unsafe_code,
    reason = "stable addresses and publication without locks; fenced in one module"
)]
mod arena;
mod fences;
mod index;
mod iter;
mod memtable;
mod order;
mod sort;
mod tombstones;
mod within;

pub use arena::Spares;
pub use iter::MemtableIterator;
pub use memtable::{Found, Memtable};
pub use within::Looked;

#[cfg(test)]
mod tests;
