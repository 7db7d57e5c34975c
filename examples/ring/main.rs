//! Placement of `ring` beside classic random tokens, rendezvous and jump hash: how even, how little
//! moves, how fast.
//!
//! ```text
//! cargo run --release --example ring
//! cargo run --release --example ring -- --quick
//! ```

mod figures;
mod rivals;

use figures::{Shape, compare, grow};
use std::process::ExitCode;

const HELP: &str = "\
Prints how evenly data lies and how much of it moves, for esker-ring and for the classic ways.

Options:
  --quick    fewer nodes and keys: a check that it runs, not figures
  --help     this text

Columns:
  max/mean   load of the fullest node for its weight, over the mean
  primary    the same for first owners only
  join, leave, weight
             data copied when a node joins, leaves, doubles its weight; over the least that even
             shares allow
  drift      the same over a hundred random changes in a row; then max/mean after them
  zones      partitions or keys with two replicas in one zone although there are zones enough
  lookup     key to owners, hash of the key included
  new, next  time to place a new cluster, and to plan the next topology after a join
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let quick = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => false,
        ["--quick"] => true,
        ["--help" | "-h"] => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("ring: unknown arguments {args:?} (--help lists the options)");
            return ExitCode::FAILURE;
        }
    };
    match print_all(quick) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ring: {error}");
            ExitCode::FAILURE
        }
    }
}

fn print_all(quick: bool) -> Result<(), ring::Error> {
    let (nodes, keys_log2) = if quick { (20, 14) } else { (100, 19) };
    for (mixed, crowded) in [(false, false), (true, false), (false, true)] {
        compare(&Shape::new(nodes, mixed, crowded), keys_log2)?;
    }
    let sizes: &[usize] = if quick { &[3, 10, 30] } else { &[3, 10, 30, 100, 300, 1000] };
    for mixed in [false, true] {
        grow(sizes, mixed)?;
    }
    Ok(())
}
