//! Medians over the runs, and who is ahead.

use super::Raw;
use crate::cell::Figures;
use crate::engine::setup_of;
use crate::workloads::{Row, Unit};
use std::collections::BTreeMap;

/// Our own engine; the others are its neighbours.
pub const OURS: &str = "esker";

/// The medians of all runs.
#[derive(Debug)]
pub struct Summary {
    /// Engines, in the order of the columns.
    pub engines: Vec<String>,
    /// Lines of the table.
    pub lines: Vec<Line>,
    /// How each engine is set up and how its idleness is known.
    pub setups: Vec<(String, String, String)>,
}

/// One line: a workload with its threads.
#[derive(Debug)]
pub struct Line {
    /// Which.
    pub row: Row,
    /// Medians by engine.
    pub cells: BTreeMap<String, Cell>,
}

/// The median run of one engine.
#[derive(Debug)]
pub struct Cell {
    /// The run whose value is the median (the better one of the middle two).
    pub median: Figures,
    /// The smallest and the largest value.
    pub spread: (f64, f64),
    /// Runs.
    pub runs: usize,
}

impl Cell {
    /// Records that a kill took although their writes had returned.
    pub fn lost_records(&self) -> f64 {
        self.median.extra.get("lost_records").copied().unwrap_or(0.0)
    }
}

impl Line {
    /// What the values count.
    pub fn unit(&self) -> Unit {
        self.row.workload.definition().unit
    }

    /// How many times better `a` is than `b`.
    pub fn times_better(&self, a: f64, b: f64) -> f64 {
        match self.unit() {
            Unit::PerSecond => a / b,
            Unit::Millis => b / a,
        }
    }

    /// The best neighbour; one that lost records has not done the work.
    pub fn best_neighbour(&self) -> Option<(&str, f64)> {
        let neighbours = self.cells.iter().filter(|(name, _)| *name != OURS);
        let honest = neighbours.filter(|(_, cell)| cell.lost_records() == 0.0);
        let values = honest.map(|(name, cell)| (name.as_str(), cell.median.value));
        values.reduce(|a, b| if self.times_better(a.1, b.1) >= 1.0 { a } else { b })
    }

    /// Our value over that of the best neighbour; above 1 we are ahead.
    pub fn ratio(&self) -> Option<f64> {
        let ours = self.cells.get(OURS)?.median.value;
        Some(self.times_better(ours, self.best_neighbour()?.1))
    }
}

impl Summary {
    /// Sums the runs up.
    pub fn of(raw: &Raw) -> Self {
        let mut by_row: BTreeMap<Row, BTreeMap<String, Vec<Figures>>> = BTreeMap::new();
        for figures in &raw.figures {
            let engines = by_row.entry(figures.row).or_default();
            engines.entry(figures.engine.clone()).or_default().push(figures.clone());
        }
        let lines = by_row.into_iter().map(|(row, engines)| Line {
            row,
            cells: engines.into_iter().map(|(name, runs)| (name, median(row, runs))).collect(),
        });
        let setup = |name: &String| {
            let (setup, idle) = setup_of(name).unwrap_or(("not in this build", ""));
            (name.clone(), setup.to_string(), idle.to_string())
        };
        Summary {
            engines: raw.engines.clone(),
            lines: lines.collect(),
            setups: raw.engines.iter().map(setup).collect(),
        }
    }
}

fn median(row: Row, mut runs: Vec<Figures>) -> Cell {
    runs.sort_by(|a, b| a.value.total_cmp(&b.value));
    let spread = (runs[0].value, runs[runs.len() - 1].value);
    let at = match row.workload.definition().unit {
        Unit::PerSecond => runs.len() / 2,
        Unit::Millis => (runs.len() - 1) / 2,
    };
    Cell { runs: runs.len(), median: runs.swap_remove(at), spread }
}
