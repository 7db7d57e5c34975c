//! Esker beside its neighbours.
//!
//! ```text
//! main ── matrix: for each run, workload and engine ──> a process of its own: cell ──> workload ──> engine
//!            └── report: table on the terminal, report.md, raw.json, *.svg
//! ```
#![deny(unsafe_code)]

mod cell;
mod cli;
mod data;
mod engine;
mod engines;
mod limit;
mod machine;
mod matrix;
mod measure;
mod report;
mod spec;
mod workloads;

use clap::Parser;
use cli::{Cli, Command};

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    match &cli.command {
        Some(Command::Cell { spec }) => cell::run(spec),
        Some(Command::Render { raw, report }) => report::write(&report::Raw::read(raw)?, report),
        None => report::write(&matrix::run(&cli.matrix)?, &cli.matrix.report),
    }
}
