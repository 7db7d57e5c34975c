//! What each compaction policy costs, from a hundred megabytes to a petabyte, without a disk.
//!
//! ```text
//! cargo run --release --example policies -- --updates 0.9 --hot 0.01:0.5
//! cargo run --release --example policies -- --total 10TB --memtable 256MiB --entry 1000
//! ```

use compaction::simulator::{Costs, Shape, simulate};
use compaction::{Fifo, LazyLeveled, Leveled, Policy, SizeTiered};
use std::process::ExitCode;

const HELP: &str = "\
Simulates the compaction policies on made-up tables and prints what they cost.

Options:
  --total SIZE        live data, e.g. 500GB; all decades from 100MB to 1PB without it
  --entry SIZE        key and value of one entry        [116]
  --memtable SIZE     memtable                          [64MiB]
  --updates SHARE     writes that replace a value       [0.5]
  --deletes SHARE     writes that delete a key          [0]
  --hot KEYS:UPDATES  share of hot keys and of the updates that go to them  [0.2:0.2, uniform]
  --filter-bits BITS  filter bits a key                 [10]
  --multiplier N      leveled: level size over the one above                [10]
  --threshold N       size_tiered, lazy_leveled: runs that start a merge    [4]
  --help              this text

Columns:
  write          bytes written to tables for each byte put, flushes included, the log not
  space, peak    bytes in tables over live bytes, mean and worst moment
  runs           sorted runs: what a scan merges, what a get without filters looks into
  get, absent    tables looked into for a key that is there, or not, behind filters
  ~              part of the levels was counted, not simulated (see compaction::simulator)
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|a| a == "--help" || a == "-h") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    match parse(&args).and_then(|setup| print_all(&setup)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("policies: {message} (--help lists the options)");
            ExitCode::FAILURE
        }
    }
}

/// What the arguments ask for.
struct Setup {
    shape: Shape,
    totals: Vec<f64>,
    policies: Vec<Policy>,
}

fn parse(args: &[String]) -> Result<Setup, String> {
    let mut shape = Shape::default();
    let mut totals: Vec<f64> = (8..=15).map(|power| 10f64.powi(power)).collect();
    let (mut multiplier, mut threshold) = (10, 4);
    for pair in args.chunks(2) {
        let [name, value] = pair else { return Err(format!("{} needs a value", pair[0])) };
        match &name[..] {
            "--total" => totals = vec![size(value)?],
            "--entry" => shape.entry_bytes = size(value)?,
            "--memtable" => shape.memtable_bytes = size(value)?,
            "--updates" => shape.updates = number(value)?,
            "--deletes" => shape.deletes = number(value)?,
            "--filter-bits" => shape.filter_bits = number(value)?,
            "--multiplier" => multiplier = number(value)?,
            "--threshold" => threshold = number(value)?,
            "--hot" => {
                let (keys, updates) = value.split_once(':').ok_or("--hot is KEYS:UPDATES")?;
                (shape.hot_keys, shape.hot_updates) = (number(keys)?, number(updates)?);
            }
            _ => return Err(format!("unknown option {name}")),
        }
    }
    let memtable = shape.memtable_bytes as u64;
    let leveled = Leveled {
        base_bytes: memtable.saturating_mul(4),
        target_table_bytes: memtable,
        multiplier,
        ..Leveled::default()
    };
    let size_tiered = SizeTiered {
        min_threshold: threshold,
        max_threshold: threshold.max(32),
        target_table_bytes: memtable,
        ..SizeTiered::default()
    };
    let lazy_leveled = LazyLeveled {
        runs_per_level: threshold,
        target_table_bytes: memtable,
        ..LazyLeveled::default()
    };
    let policies =
        vec![leveled.into(), lazy_leveled.into(), size_tiered.into(), Fifo::default().into()];
    Ok(Setup { shape, totals, policies })
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text} is not a number in range"))
}

/// A number with an optional unit: B, kB, MB, GB, TB, PB, or KiB, MiB, GiB, TiB, PiB.
fn size(text: &str) -> Result<f64, String> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (value, unit) = text.split_at(split);
    let decimal = ["b", "kb", "mb", "gb", "tb", "pb"];
    let binary = ["b", "kib", "mib", "gib", "tib", "pib"];
    let place = |units: [&str; 6]| units.iter().position(|u| *u == unit.to_lowercase());
    let factor = match (place(decimal), place(binary)) {
        _ if unit.is_empty() => 1.0,
        (Some(i), _) => 1000f64.powi(i as i32),
        (None, Some(i)) => 1024f64.powi(i as i32),
        (None, None) => return Err(format!("unknown unit {unit}")),
    };
    number::<f64>(value.trim()).map(|n| n * factor)
}

fn print_all(setup: &Setup) -> Result<(), String> {
    let s = &setup.shape;
    println!(
        "entries of {} B, memtable {}, {:.0} % updates, {:.0} % deletes, {} filter bits a key",
        s.entry_bytes,
        shown(s.memtable_bytes),
        s.updates * 100.0,
        s.deletes * 100.0,
        s.filter_bits
    );
    println!(
        "{:>8}  {:<13}{:>8}{:>8}{:>8}{:>10}{:>8}{:>8}{:>8}{:>12}",
        "total", "policy", "write", "space", "peak", "runs", "get", "absent", "levels", "tables"
    );
    for &total_bytes in &setup.totals {
        for policy in &setup.policies {
            let shape = Shape { total_bytes, ..s.clone() };
            let costs = simulate(policy, &shape).map_err(|e| e.to_string())?;
            print_row(&shown(total_bytes), policy.name(), &costs);
        }
        println!();
    }
    Ok(())
}

fn print_row(total: &str, policy: &str, c: &Costs) {
    let mark = if c.levels_left_out > 0 { "~" } else { " " };
    println!(
        "{total:>8}  {policy:<13}{:>7.1}{mark}{:>8.2}{:>8.2}{:>10.1}{:>8.2}{:>8.2}{:>8}{:>12.0}",
        c.write,
        c.space,
        c.space_peak,
        c.runs,
        c.probes_present,
        c.probes_absent,
        c.levels,
        c.tables
    );
}

/// Bytes with three digits and a decimal unit.
fn shown(bytes: f64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let power = ((bytes.max(1.0).log10() / 3.0) as usize).min(units.len() - 1);
    format!("{:.3}", bytes / 1000f64.powi(power as i32))
        .trim_end_matches('0')
        .trim_end_matches('.')
        .to_owned()
        + " "
        + units[power]
}
