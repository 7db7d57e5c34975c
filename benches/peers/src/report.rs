//! The report: raw figures as JSON, a table for the terminal, a page of Markdown, plots.

mod markdown;
mod plots;
mod summary;
mod terminal;

use crate::cell::Figures;
use crate::machine::Machine;
use crate::spec::Settings;
use crate::workloads::Row;
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

/// Everything that was measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Raw {
    /// What it ran on.
    pub machine: Machine,
    /// Settings of all engines.
    pub settings: Settings,
    /// Engines, in the order of the columns.
    pub engines: Vec<String>,
    /// What the user wants said at the head.
    pub note: String,
    /// The command.
    pub command: String,
    /// One for each cell and run.
    pub figures: Vec<Figures>,
    /// What an engine has no way to do.
    pub unsupported: Vec<(String, Row)>,
    /// What went wrong, in words.
    pub failures: Vec<String>,
}

impl Raw {
    /// Reads what earlier runs left; several are joined.
    ///
    /// # Errors
    /// A file is not there or is of another kind; the settings differ.
    pub fn read(paths: &[PathBuf]) -> Result<Raw> {
        let mut all: Option<Raw> = None;
        for path in paths {
            let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
            let raw: Raw =
                serde_json::from_str(&text).with_context(|| path.display().to_string())?;
            match &mut all {
                None => all = Some(raw),
                Some(all) => all.join(raw).with_context(|| path.display().to_string())?,
            }
        }
        all.context("no raw figures were named")
    }

    fn join(&mut self, other: Raw) -> Result<()> {
        ensure!(self.settings == other.settings, "measured with other settings");
        for engine in other.engines {
            if !self.engines.contains(&engine) {
                self.engines.push(engine);
            }
        }
        self.figures.extend(other.figures);
        self.unsupported.extend(other.unsupported);
        self.failures.extend(other.failures);
        self.command = format!("{}; {}", self.command, other.command);
        Ok(())
    }

    /// Remembers that `engine` has no way to do `row`.
    pub fn note_unsupported(&mut self, engine: &str, row: Row) {
        let cell = (engine.to_string(), row);
        if !self.unsupported.contains(&cell) {
            self.unsupported.push(cell);
        }
    }

    /// Writes the raw figures into `dir`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, dir: &Path) -> Result<()> {
        fs::create_dir_all(dir)?;
        let path = dir.join("raw.json");
        fs::write(&path, serde_json::to_string(self)?).with_context(|| path.display().to_string())
    }
}

/// Prints the table, and writes `raw.json`, `report.md` and the plots into `dir`.
///
/// # Errors
/// A file cannot be written; or a cell failed, once everything is written.
pub fn write(raw: &Raw, dir: &Path) -> Result<()> {
    raw.save(dir)?;
    let summary = summary::Summary::of(raw);
    println!("{}", terminal::table(&summary));
    let plots = plots::write(&summary, dir)?;
    let page = dir.join("report.md");
    fs::write(&page, markdown::page(raw, &summary, &plots))?;
    println!("{}", page.display());
    ensure!(
        raw.failures.is_empty(),
        "{} cells failed:\n{}",
        raw.failures.len(),
        raw.failures.join("\n")
    );
    Ok(())
}

/// A number in three digits: `1.23M`, `456K`, `78.9`.
pub fn number(x: f64) -> String {
    let (x, unit) = match x {
        x if x >= 999_500_000.0 => (x / 1e9, "G"),
        x if x >= 999_500.0 => (x / 1e6, "M"),
        x if x >= 999.5 => (x / 1e3, "K"),
        x => (x, ""),
    };
    let digits = match x {
        x if x >= 99.95 => 0,
        x if x >= 9.995 => 1,
        x if x >= 0.9995 || x == 0.0 => 2,
        _ => 3,
    };
    format!("{x:.digits$}{unit}")
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_have_three_digits() {
        let cases = [
            (1_234_567.0, "1.23M"),
            (999_600.0, "1.00M"),
            (45_600.0, "45.6K"),
            (7.0, "7.00"),
            (0.0512, "0.051"),
        ];
        for (x, text) in cases {
            assert_eq!(number(x), text);
        }
    }
}
