//! Copies what can be read of a damaged database into a new one, and says what was lost.
//!
//! ```text
//! cargo run --release --example salvage -- data --into rescued
//! ```
//! The damaged database is not changed. The exit code is 0 if nothing was lost, 2 if something was, 1 if the salvage failed.
#![expect(clippy::disallowed_methods, reason = "an example is a program")]

use clap::Parser;
use esker::{Db, SalvageProgress};
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// Copies what can be read of a damaged Esker database into a new one.
#[derive(Debug, Parser)]
#[command(name = "salvage", version)]
struct Args {
    /// Directory of the damaged database, which is not changed.
    dir: PathBuf,
    /// Directory of the new database: empty, or not there yet.
    #[arg(long, value_name = "PATH")]
    into: PathBuf,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(2),
        Err(e) => {
            eprintln!("salvage: {e}");
            let mut cause = e.source();
            while let Some(e) = cause {
                eprintln!("  because: {e}");
                cause = e.source();
            }
            ExitCode::FAILURE
        }
    }
}

/// True if nothing was lost.
fn run(args: &Args) -> Result<bool, Box<dyn Error>> {
    let start = Instant::now();
    let bar = ProgressBar::new(0);
    bar.set_style(ProgressStyle::with_template("{bar:32} {pos}/{len} tables {msg}")?);
    let show = |at: &SalvageProgress<'_>| {
        bar.set_length(at.tables_total);
        bar.set_position(at.tables);
        bar.set_message(format!("of {}, {} pairs", at.keyspace, HumanCount(at.entries)));
    };
    let report = Db::builder(&args.dir).salvage_with(&args.into, show)?;
    bar.finish_and_clear();
    print!("{report}");
    println!("salvaged into {} in {:.2?}", args.into.display(), start.elapsed());
    Ok(report.is_whole())
}
