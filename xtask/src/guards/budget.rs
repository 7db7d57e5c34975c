//! What operations may cost: `crates/guards/budget.toml`.

use super::counts::Count;
use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::fmt;
use std::str::FromStr;

const HEAD: &str = "\
# Instructions of one operation of `crates/guards`, as callgrind counts them. `cargo xtask guards` fails where one takes more
# than `tolerance_percent` above its figure (with another compiler: above `tolerance_other_compiler_percent`).
#
# When a change is meant to cost more, or made something cheaper: `cargo xtask guards --record`, and say why in the commit.
";
/// Written into a new budget.
const TOLERANCE: [f64; 2] = [3.0, 20.0];

/// The file, read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Budget {
    /// That made the recorded figures, as `rustc 1.95.0`.
    pub(crate) compiler: String,
    /// The architecture they are for, as `x86_64`.
    machine: String,
    /// In percent: with that compiler, and with another.
    tolerance: [f64; 2],
    /// Instructions by operation.
    pub(crate) instructions: BTreeMap<String, f64>,
}

impl Budget {
    /// What was counted, as a budget.
    pub(crate) fn of(counts: &[Count], compiler: &str) -> Budget {
        let tenths = |each: f64| (each * 10.0).round() / 10.0;
        let instructions = counts.iter().map(|c| (c.operation.clone(), tenths(c.each))).collect();
        let (compiler, machine) = (compiler.to_string(), ARCH.to_string());
        Budget { compiler, machine, tolerance: TOLERANCE, instructions }
    }

    /// The architecture of the figures, if it is not that of this machine.
    pub(crate) fn other_machine(&self) -> Option<&str> {
        (self.machine != ARCH).then_some(&*self.machine)
    }

    /// Percent above the budget that pass.
    pub(crate) fn tolerance(&self, compiler: &str) -> f64 {
        self.tolerance[usize::from(compiler != self.compiler)]
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [same, other] = self.tolerance;
        writeln!(f, "{HEAD}\ncompiler = \"{}\"\nmachine = \"{}\"", self.compiler, self.machine)?;
        writeln!(f, "tolerance_percent = {same}\ntolerance_other_compiler_percent = {other}")?;
        writeln!(f, "\n[instructions]")?;
        self.instructions.iter().try_for_each(|(name, each)| writeln!(f, "{name} = {each}"))
    }
}

/// Reads the subset of TOML that `Display` writes. The error names the line.
impl FromStr for Budget {
    type Err = String;

    fn from_str(text: &str) -> Result<Budget, String> {
        let (mut words, mut numbers) = (BTreeMap::new(), BTreeMap::new());
        let lines = text.lines().map(str::trim);
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with(['#', '['])) {
            let wrong = || format!("budget: not `name = value`: {line}");
            let (name, value) = line.split_once(" = ").ok_or_else(wrong)?;
            match value.strip_prefix('"').and_then(|value| value.strip_suffix('"')) {
                Some(word) => drop(words.insert(name, word.to_string())),
                None => {
                    let number = value.parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0);
                    numbers.insert(name.to_string(), number.ok_or_else(wrong)?);
                }
            }
        }
        let mut word = |name| words.remove(name).ok_or_else(|| format!("budget: no {name}"));
        let (compiler, machine) = (word("compiler")?, word("machine")?);
        let mut number = |name| numbers.remove(name).ok_or_else(|| format!("budget: no {name}"));
        let tolerance = [number("tolerance_percent")?, number("tolerance_other_compiler_percent")?];
        Ok(Budget { compiler, machine, tolerance, instructions: numbers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted() -> Vec<Count> {
        let count = |operation: &str, each| Count { operation: operation.into(), each };
        vec![count("put", 812.34), count("filter_probe", 17.0)]
    }

    #[test]
    fn what_is_written_is_read_again() {
        let budget = Budget::of(&counted(), "rustc 1.95.0");
        let again: Budget = budget.to_string().parse().expect("own text");
        assert_eq!(again, budget);
        assert_eq!(again.instructions["put"], 812.3);
        assert_eq!(again.other_machine(), None);
    }

    #[test]
    fn another_compiler_and_another_machine_are_noticed() {
        let mut budget = Budget::of(&counted(), "rustc 1.95.0");
        assert_eq!(budget.tolerance("rustc 1.95.0"), TOLERANCE[0]);
        assert_eq!(budget.tolerance("rustc 1.96.0"), TOLERANCE[1]);
        budget.machine = String::from("pdp11");
        assert_eq!(budget.other_machine(), Some("pdp11"));
    }

    #[test]
    fn a_broken_budget_is_no_budget() {
        let text = Budget::of(&counted(), "rustc 1.95.0").to_string();
        for (from, to) in [
            ("put = 812.3", "put 812.3"),
            ("put = 812.3", "put = much"),
            ("put = 812.3", "put = NaN"),
            ("compiler =", "compilers ="),
            ("tolerance_percent", "tolerance"),
        ] {
            let broken = text.replace(from, to);
            assert_ne!(broken, text);
            broken.parse::<Budget>().expect_err(to);
        }
    }

    #[test]
    fn the_recorded_budget_is_whole() {
        let text = include_str!("../../../crates/guards/budget.toml");
        let budget: Budget = text.parse().expect("readable");
        assert!(budget.instructions.len() >= 20, "{:?}", budget.instructions);
        assert!((1.0..=5.0).contains(&budget.tolerance(&budget.compiler)));
    }
}
