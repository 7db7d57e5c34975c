//! Runs schedules: `RUSTFLAGS="--cfg shuttle" cargo run --release -p esker-concurrency -- [schedules] [scenario] [seed]`;
//! with `list` in place of the arguments it names the scenarios.
#![forbid(unsafe_code)]

#[cfg(shuttle)]
fn main() {
    let mut args = std::env::args().skip(1);
    let first = args.next();
    if first.as_deref() == Some("list") {
        concurrency::schedules::SCENARIOS.iter().for_each(|scenario| println!("{}", scenario.name));
        return;
    }
    let total = first.and_then(|n| n.parse().ok()).unwrap_or(20_000);
    let only = args.next().filter(|name| name != "all");
    let seed = args.next().and_then(|n| n.parse().ok());
    concurrency::schedules::run(total, only.as_deref(), seed.unwrap_or(1));
}

#[cfg(not(shuttle))]
fn main() {
    println!("built without --cfg shuttle: there is nothing to run, see docs/concurrency.md");
}
