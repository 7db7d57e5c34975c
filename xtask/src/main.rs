//! Commands of the project itself.
//!
//! ```text
//! cargo xtask torture                              all families, in their quick size
//! cargo xtask torture crash meta --size change     two families, as before a merge
//! cargo xtask torture meta --seed 17               one seed again
//! cargo xtask torture --canary                     every family must notice what is planted for it
//! cargo xtask guards                               instructions of single operations, against their budget
//! cargo xtask guards --record                      makes what is counted now the budget
//! ```
#![forbid(unsafe_code)]

mod bar;
mod guards;
mod table;

use bar::Bar;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use torture::{Config, FAMILIES, Failure, Family, Report};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Commands of the Esker project")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the reliability programme.
    Torture(Torture),
    /// Counts the instructions of single operations (valgrind must be installed) and fails if they became more.
    Guards(guards::Guards),
}

#[derive(Clone, Copy, ValueEnum)]
enum Size {
    /// At most 3 minutes for all families.
    Quick,
    /// At most 25 minutes on two cores.
    Change,
    /// Up to 9 hours.
    Night,
}

impl Size {
    /// States of the engine, marked by probes, that all families together must reach.
    fn probes_min(self) -> usize {
        match self {
            Size::Quick => 100,
            Size::Change | Size::Night => 125,
        }
    }
}

#[derive(Args)]
struct Torture {
    /// Families to run; all, if none is named.
    families: Vec<String>,
    /// How much of each.
    #[arg(long, value_enum, default_value = "quick")]
    size: Size,
    /// Only this seed.
    #[arg(long)]
    seed: Option<u64>,
    /// Only the part (workload, shape, variant) of this name.
    #[arg(long)]
    part: Option<String>,
    /// Threads that share the work of a family.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Plants something wrong in each family: succeeds if every one of them fails.
    #[arg(long)]
    canary: bool,
    /// Tells a failing list of operations as it is.
    #[arg(long)]
    no_shrink: bool,
    /// Lists the families and ends.
    #[arg(long)]
    list: bool,
}

/// What came of one family.
pub(crate) struct Outcome {
    pub(crate) family: &'static Family,
    pub(crate) time: Duration,
    pub(crate) result: Result<Report, Failure>,
}

fn main() -> ExitCode {
    torture::child_if_asked();
    let is_fine = match Cli::parse().command {
        Command::Torture(args) => torture(&args),
        Command::Guards(args) => guards::run(&args).unwrap_or_else(|why| {
            eprintln!("FAILED: {why}");
            false
        }),
    };
    if is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// True if everything held.
fn torture(args: &Torture) -> bool {
    if args.list {
        FAMILIES.iter().for_each(|family| println!("{:10} {}", family.name, family.about));
        return true;
    }
    let families = match chosen(&args.families) {
        Ok(families) => families,
        Err(unknown) => {
            eprintln!("no family is called {unknown}; --list names them");
            return false;
        }
    };
    let outcomes: Vec<Outcome> = families.into_iter().map(|family| run(family, args)).collect();
    table::print(&outcomes);
    let is_complete = args.seed.is_none() && args.part.is_none();
    let is_everything = is_complete && args.families.is_empty() && !args.canary;
    let floor = if is_everything { args.size.probes_min() } else { 0 };
    let is_reached = table::print_probes(&torture::probes(), floor);
    is_reached
        && match args.canary {
            true => all_noticed(&outcomes),
            false => all_passed(&outcomes, is_complete),
        }
}

fn chosen(names: &[String]) -> Result<Vec<&'static Family>, &str> {
    if names.is_empty() {
        return Ok(FAMILIES.iter().collect());
    }
    names.iter().map(|name| torture::family(name).ok_or(name.as_str())).collect()
}

#[expect(clippy::disallowed_methods, reason = "times, for people")]
fn run(family: &'static Family, args: &Torture) -> Outcome {
    let bar = Bar::new();
    let config = Config {
        size: match args.size {
            Size::Quick => torture::Size::Quick,
            Size::Change => torture::Size::Change,
            Size::Night => torture::Size::Night,
        },
        seed: args.seed,
        part: args.part.clone(),
        threads: args.threads,
        canary: args.canary,
        shrink: !args.no_shrink,
        progress: &bar,
    };
    let start = Instant::now();
    let result = (family.run)(&config);
    let time = start.elapsed();
    bar.end(family.name, time, result.is_ok() != args.canary);
    Outcome { family, time, result }
}

/// Prints what failed, and what fell short of its goal.
fn all_passed(outcomes: &[Outcome], is_complete: bool) -> bool {
    let mut is_fine = true;
    for Outcome { family, result, .. } in outcomes {
        match result {
            Err(failure) => {
                eprintln!("\nFAILED {failure}");
                is_fine = false;
            }
            Ok(report) if is_complete && report.skipped.is_none() => {
                for figure in report.figures.iter().filter(|figure| !figure.is_reached()) {
                    let (value, goal) = (figure.value, figure.goal);
                    eprintln!("\nSHORT {}: {} {value}, goal {goal}", family.name, figure.name);
                    is_fine = false;
                }
            }
            Ok(_) => {}
        }
    }
    is_fine
}

/// With something planted in each of them, all must fail.
fn all_noticed(outcomes: &[Outcome]) -> bool {
    let mut is_fine = true;
    for Outcome { family, result, .. } in outcomes {
        match result {
            Err(failure) => println!("\n{} noticed: {failure}", family.name),
            Ok(Report { skipped: Some(why), .. }) => println!("\n{} skipped: {why}", family.name),
            Ok(_) => {
                eprintln!("\nFAILED: {} did not notice what was planted", family.name);
                is_fine = false;
            }
        }
    }
    is_fine
}
