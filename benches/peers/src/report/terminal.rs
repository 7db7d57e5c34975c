//! The table on the terminal.

use super::number;
use super::summary::{Cell, Line, OURS, Summary};
use crate::workloads::Unit;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Attribute, Cell as Field, CellAlignment, Color, ContentArrangement, Table};

/// Workloads down, engines across; the best of each line is bold, and the ratio is green where the goal is met.
pub fn table(summary: &Summary) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    let mut header = vec!["workload".to_string()];
    header.extend(summary.engines.iter().cloned());
    header.extend(["best neighbour", "esker / best", "goal"].map(String::from));
    table.set_header(header);
    for line in &summary.lines {
        let mut fields = vec![Field::new(line.row)];
        fields.extend(summary.engines.iter().map(|engine| value_field(line, engine)));
        fields.push(Field::new(line.best_neighbour().map_or("-", |(name, _)| name)));
        fields.push(ratio_field(line));
        fields.push(Field::new(line.row.goal().map_or(String::new(), |g| format!("{g:.2}"))));
        table.add_row(fields);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn value_field(line: &Line, engine: &str) -> Field {
    let Some(cell) = line.cells.get(engine) else { return Field::new("-") };
    let field = Field::new(value_text(line, cell));
    let others = line.cells.iter().filter(|(name, c)| *name != engine && c.lost_records() == 0.0);
    let value = cell.median.value;
    let best = others.map(|(_, c)| c.median.value).all(|v| line.times_better(value, v) >= 1.0);
    if best && cell.lost_records() == 0.0 { field.add_attribute(Attribute::Bold) } else { field }
}

fn ratio_field(line: &Line) -> Field {
    let Some(ratio) = line.ratio() else { return Field::new("-") };
    let color = match line.row.goal() {
        Some(goal) if ratio >= goal => Color::Green,
        _ if ratio >= 1.0 => Color::Yellow,
        _ => Color::Red,
    };
    Field::new(ratio_text(ratio)).fg(color)
}

/// The value with its marks: `*` stopped by the clock, `†` lost records.
pub fn value_text(line: &Line, cell: &Cell) -> String {
    let unit = if line.unit() == Unit::Millis { " ms" } else { "" };
    let capped = if cell.median.capped { "*" } else { "" };
    let lost = if cell.lost_records() > 0.0 { "†" } else { "" };
    let value = match line.unit() {
        Unit::Millis if cell.median.value >= 999.5 => format!("{:.0}", cell.median.value),
        _ => number(cell.median.value),
    };
    format!("{value}{unit}{capped}{lost}")
}

/// A ratio in two digits behind the point, or in two that say something.
pub fn ratio_text(ratio: f64) -> String {
    if ratio < 0.1 { format!("{ratio:.4}") } else { format!("{ratio:.2}") }
}

/// True if the line has both sides of the comparison.
pub fn is_comparison(line: &Line) -> bool {
    line.cells.contains_key(OURS) && line.best_neighbour().is_some()
}
