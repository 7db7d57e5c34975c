//! Counts beside their budget.

use super::budget::Budget;
use super::counts::Count;

/// Above tolerance and budget: one more instruction in a probe of twenty is no rot.
const SLACK: f64 = 2.0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Within,
    Over,
    /// So far below that the budget guards nothing any more.
    Under,
    /// Not in the budget.
    New,
    /// In the budget, and not counted.
    Gone,
}

/// One operation.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    operation: String,
    budget: Option<f64>,
    counted: Option<f64>,
    verdict: Verdict,
}

/// One row for each operation that was counted or is in the budget; `tolerance` in percent.
pub(crate) fn compare(budget: &Budget, counts: &[Count], tolerance: f64) -> Vec<Row> {
    let counted = counts.iter().map(|count| {
        let budget = budget.instructions.get(&count.operation).copied();
        let verdict = budget.map_or(Verdict::New, |budget| verdict(budget, count.each, tolerance));
        Row { operation: count.operation.clone(), budget, counted: Some(count.each), verdict }
    });
    let is_counted = |operation: &String| counts.iter().any(|count| count.operation == *operation);
    let gone = budget.instructions.iter().filter(|(operation, _)| !is_counted(operation));
    let gone = gone.map(|(operation, budget)| {
        let (operation, budget) = (operation.clone(), Some(*budget));
        Row { operation, budget, counted: None, verdict: Verdict::Gone }
    });
    counted.chain(gone).collect()
}

fn verdict(budget: f64, counted: f64, tolerance: f64) -> Verdict {
    let width = budget * tolerance / 100.0 + SLACK;
    match counted - budget {
        more if more > width => Verdict::Over,
        more if more < -width => Verdict::Under,
        _ => Verdict::Within,
    }
}

/// Prints the table; true if nothing is over, new or gone.
pub(crate) fn tell(rows: &[Row], tolerance: f64) -> bool {
    println!("{:18} {:>10} {:>10} {:>8}", "operation", "budget", "counted", "change");
    rows.iter().for_each(|row| println!("{}", line(row)));
    let any = |verdicts: &[Verdict]| rows.iter().any(|row| verdicts.contains(&row.verdict));
    if any(&[Verdict::Under]) {
        println!(
            "\nNOTE: some are cheaper by more than {tolerance} %: cargo xtask guards --record"
        );
    }
    let is_fine = !any(&[Verdict::Over, Verdict::New, Verdict::Gone]);
    match is_fine {
        true => println!("\nall within {tolerance} % of their budget"),
        false => eprintln!(
            "\nFAILED: see the rows marked above; where the cost is meant to be: cargo xtask guards --record"
        ),
    }
    is_fine
}

fn line(row: &Row) -> String {
    let number = |n: Option<f64>| n.map_or(String::from("-"), |n| format!("{n:.1}"));
    let change = row.budget.zip(row.counted).map(|(budget, counted)| {
        format!("{:+.1} %", (counted / budget.max(f64::MIN_POSITIVE) - 1.0) * 100.0)
    });
    let mark = match row.verdict {
        Verdict::Within => "",
        Verdict::Over => "  OVER",
        Verdict::Under => "  under",
        Verdict::New => "  NEW: not in the budget",
        Verdict::Gone => "  GONE: not counted any more",
    };
    let (budget, counted) = (number(row.budget), number(row.counted));
    let change = change.unwrap_or_default();
    format!("{:18} {budget:>10} {counted:>10} {change:>8}{mark}", row.operation)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(list: &[(&str, f64)]) -> Vec<Count> {
        let count = |(name, each): &(&str, f64)| Count { operation: name.to_string(), each: *each };
        list.iter().map(count).collect()
    }

    fn verdicts(budget: &[(&str, f64)], counted: &[(&str, f64)]) -> Vec<(String, Verdict)> {
        let rows = compare(&Budget::of(&counts(budget), "rustc 1"), &counts(counted), 4.0);
        rows.into_iter().map(|row| (row.operation, row.verdict)).collect()
    }

    fn one(budget: f64, counted: f64) -> Verdict {
        verdicts(&[("put", budget)], &[("put", counted)])[0].1
    }

    #[test]
    fn a_count_may_leave_its_budget_by_the_tolerance_and_two() {
        assert_eq!(one(1000.0, 1000.0), Verdict::Within);
        assert_eq!(one(1000.0, 1042.0), Verdict::Within);
        assert_eq!(one(1000.0, 1042.5), Verdict::Over);
        assert_eq!(one(1000.0, 958.0), Verdict::Within);
        assert_eq!(one(1000.0, 957.5), Verdict::Under);
        assert_eq!(one(10.0, 12.0), Verdict::Within);
        assert_eq!(one(10.0, 13.0), Verdict::Over);
    }

    #[test]
    fn only_a_cheaper_operation_passes_with_a_note() {
        let passes = |budget: &[(&str, f64)], counted: &[(&str, f64)]| {
            tell(&compare(&Budget::of(&counts(budget), "rustc 1"), &counts(counted), 4.0), 4.0)
        };
        assert!(passes(&[("put", 100.0), ("get", 50.0)], &[("put", 100.0), ("get", 20.0)]));
        assert!(!passes(&[("put", 100.0), ("get", 50.0)], &[("put", 100.0), ("get", 60.0)]));
        assert!(!passes(&[("put", 100.0)], &[("put", 100.0), ("get", 60.0)]));
        assert!(!passes(&[("put", 100.0), ("get", 50.0)], &[("put", 100.0)]));
    }

    #[test]
    fn new_and_missing_operations_are_told() {
        let told = verdicts(&[("get", 5.0), ("put", 9.0)], &[("put", 9.0), ("seek", 1.0)]);
        let expected = [("put", Verdict::Within), ("seek", Verdict::New), ("get", Verdict::Gone)];
        assert_eq!(told, expected.map(|(name, verdict)| (name.to_string(), verdict)));
    }

    #[test]
    fn a_row_says_how_much() {
        let budget = Budget::of(&counts(&[("put", 200.0)]), "rustc 1");
        let rows = compare(&budget, &counts(&[("put", 230.0)]), 4.0);
        assert_eq!(line(&rows[0]), "put                     200.0      230.0  +15.0 %  OVER");
    }
}
