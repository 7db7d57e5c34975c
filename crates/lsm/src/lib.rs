//! The LSM database of the Esker family: one log, a tree for each keyspace, and what keeps them in order.
//!
//! | module | what it does |
//! | --- | --- |
//! | `db`, `keyspace`, `batch`, `snapshot`, `iter` | the public face |
//! | `engine` | what all handles share, and the order of its locks |
//! | `commit` | the write path: log, memtable, publish |
//! | `read`, `visible`, `run_iter` | point reads and scans |
//! | `flush`, `compact`, `segments`, `files` | background work: memtables to tables, tables to tables, old files away |
//! | `recover`, `replay`, `begin`, `close` | open, the log into memtables, the first change after it, close |
//! | `quiet`, `rest` | when nothing is written: runs merged, space given back |
//! | `ingest`, `checkpoint`, `verify`, `scrub` | whole tables in, whole database out, every byte checked |
//! | `salvage` | what can be read of a damaged database becomes a new one |
//! | `heal` | damaged blocks leave the tree of a database in use |
//! | `executor`, `event`, `stall`, `health` | threads or manual steps, waiting, back-pressure, states after a failure |
//! | `listener` | what is told of all that |
//!
//! # What this crate does not know
//! Nodes, networks, other databases: it is one store in one process.
#![forbid(unsafe_code)]

mod batch;
mod begin;
mod builder;
mod burst;
mod calls;
mod checkpoint;
mod close;
mod commit;
mod compact;
mod db;
mod engine;
mod event;
pub mod executor;
mod files;
mod flush;
mod heal;
mod health;
mod ingest;
mod ingest_output;
mod iter;
mod keyspace;
mod keyspaces;
mod limiter;
mod listener;
mod memory;
mod metrics;
#[cfg(loom)]
#[doc(hidden)]
pub mod models;
mod open_run;
mod options;
mod quiet;
mod read;
mod recover;
mod replay;
mod reserve;
mod rest;
mod run_iter;
mod run_scan;
mod salvage;
mod scan;
mod scan_tombstones;
#[cfg(test)]
mod scripted_tests;
mod scrub;
mod segments;
mod snapshot;
mod stall;
mod tree;
mod verify;
mod visible;

pub use base::{Error, ErrorKind, Result, Slice, clock, limits};
pub use batch::WriteBatch;
pub use builder::DbBuilder;
pub use compaction::{Fifo, LazyLeveled, Leveled, SizeTiered};
pub use db::Db;
pub use health::Health;
pub use iter::{Cursor, KeyRange, Range};
pub use keyspace::{CasMismatch, Keyspace};
pub use listener::{DamagedPlace, EngineEvent, Listener, StallReason};
pub use metrics::{KeyspaceMetrics, LevelMetrics, Metrics};
pub use options::{
    CompactionPolicy, Compression, Durability, KeyspaceOptions, Options, PerLevel, RecoveryMode,
    WriteOptions,
};
pub use recover::RecoveryReport;
pub use salvage::{
    KeyspaceSalvage, LostKeys, LostRange, SalvageDamage, SalvageProgress, SalvageReport,
    SalvageSource,
};
pub use snapshot::{KeyspaceSnapshot, Snapshot};
pub use sstable::BlockCache;
pub use verify::{VerifyOptions, VerifyProgress, VerifyReport};
