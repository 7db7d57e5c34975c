//! A few schedules of every scenario; `SHUTTLE_ITERATIONS` asks for more.
#![cfg(shuttle)]

#[test]
fn every_scenario() {
    let asked = std::env::var("SHUTTLE_ITERATIONS").ok().and_then(|n| n.parse().ok());
    concurrency::schedules::run(asked.unwrap_or(800), None, 1);
}
