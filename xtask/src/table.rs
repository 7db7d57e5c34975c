//! What was counted, beside what it should be.

use crate::Outcome;
use torture::Figure;

pub(crate) fn print(outcomes: &[Outcome]) {
    println!("\n{:10} {:30} {:>10} {:>10}", "family", "figure", "value", "goal");
    for Outcome { family, time, result } in outcomes {
        let Ok(report) = result else {
            println!("{:10} failed after {:.1} s", family.name, time.as_secs_f64());
            continue;
        };
        if let Some(why) = &report.skipped {
            println!("{:10} skipped: {why}", family.name);
        }
        let rate = report.seeds as f64 / time.as_secs_f64().max(0.001);
        let summary =
            format!("{:.1} s, {} seeds, {rate:.2} a second", time.as_secs_f64(), report.seeds);
        println!("{:10} {summary}", family.name);
        for Figure { name, value, goal } in &report.figures {
            let goal = if *goal == 0 { String::from("-") } else { goal.to_string() };
            println!("{:10} {name:30} {value:>10} {goal:>10}", "");
        }
    }
    let total: f64 = outcomes.iter().map(|outcome| outcome.time.as_secs_f64()).sum();
    println!("{:10} {total:.1} s", "together");
}

/// Prints which states of the engine were reached, and which never; true if those are `floor` at least.
pub(crate) fn print_probes(probes: &[(&'static str, u64)], floor: usize) -> bool {
    if probes.is_empty() {
        return true;
    }
    let missed: Vec<_> =
        probes.iter().filter(|(_, hits)| *hits == 0).map(|(name, _)| name).collect();
    let hit = probes.len() - missed.len();
    let goal = if floor == 0 { String::new() } else { format!(", goal {floor}") };
    println!("probes: {hit} of {} hit{goal}; never: {missed:?}", probes.len());
    if hit < floor {
        eprintln!("\nSHORT probes: {hit}, goal {floor}");
    }
    hit >= floor
}
