//! Plots as SVG: how far ahead or behind on every line, and the latency curves.

use super::summary::{Cell, Line, Summary};
use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use std::path::Path;

/// Colours that can be told apart, also by most who do not see all of them (Okabe and Ito).
const COLORS: [RGBColor; 8] = [
    RGBColor(213, 94, 0),
    RGBColor(0, 114, 178),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(110, 110, 110),
    RGBColor(0, 0, 0),
];
const FONT: &str = "sans-serif";
const LINE_HEIGHT: u32 = 24;

/// Writes all plots into `dir`; returns their names.
///
/// # Errors
/// A file cannot be written.
pub fn write(summary: &Summary, dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let compared: Vec<&Line> =
        summary.lines.iter().filter(|l| l.best_neighbour().is_some()).collect();
    if !compared.is_empty() {
        let name = "relative.svg".to_string();
        let size = (1000, 140 + LINE_HEIGHT * compared.len() as u32);
        let path = dir.join(&name);
        let area = SVGBackend::new(&path, size).into_drawing_area();
        relative(summary, &compared, &area).map_err(|e| anyhow!("{name}: {e}"))?;
        names.push(name);
    }
    for line in &summary.lines {
        let has_curve = |cell: &Cell| cell.median.latency.curve.len() > 4;
        if !line.cells.values().any(has_curve) {
            continue;
        }
        let name = format!("latency-{}.svg", line.row.to_string().replace('@', "-"));
        let path = dir.join(&name);
        let area = SVGBackend::new(&path, (800, 480)).into_drawing_area();
        latency(summary, line, &area).map_err(|e| anyhow!("{name}: {e}"))?;
        names.push(name);
    }
    Ok(names)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

/// A dot for each engine on each line: its figure over that of the best neighbour, on a logarithmic axis.
fn relative(summary: &Summary, lines: &[&Line], area: &Area<'_>) -> Drawn {
    area.fill(&WHITE)?;
    let dot = |line: &Line, engine: &String| {
        let (_, best) = line.best_neighbour()?;
        Some(line.times_better(line.cells.get(engine)?.median.value, best))
    };
    let all = || lines.iter().flat_map(|line| summary.engines.iter().filter_map(|e| dot(line, e)));
    let low = all().fold(0.1, f64::min).max(0.001);
    let high = all().fold(10.0, f64::max).min(1000.0);
    let mut chart = ChartBuilder::on(area)
        .caption("times the best neighbour (1 = level; right is better)", (FONT, 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(150)
        .build_cartesian_2d((low * 0.9..high * 1.1).log_scale(), -0.5..lines.len() as f64 - 0.5)?;
    let name_of = |y: &f64| {
        let at = lines.len() as f64 - 1.0 - y;
        let whole = (at - at.round()).abs() < 0.01 && at > -0.01;
        let line = lines.get(at.round().max(0.0) as usize).filter(|_| whole);
        line.map_or(String::new(), |line| line.row.to_string())
    };
    chart
        .configure_mesh()
        .y_labels(2 * lines.len() + 1)
        .y_label_formatter(&name_of)
        .x_label_formatter(&|x| format!("{x}"))
        .disable_y_mesh()
        .light_line_style(WHITE)
        .draw()?;
    let level = [(1.0, -0.5), (1.0, lines.len() as f64 - 0.5)];
    chart.draw_series(LineSeries::new(level, BLACK.mix(0.6)))?;
    for (i, engine) in summary.engines.iter().enumerate() {
        let color = COLORS[i % COLORS.len()];
        let size = if i == 0 { 6 } else { 4 };
        let dots = lines.iter().enumerate().filter_map(|(at, line)| {
            let y = (lines.len() - 1 - at) as f64;
            Some(Circle::new((dot(line, engine)?.clamp(low, high), y), size, color.filled()))
        });
        chart
            .draw_series(dots)?
            .label(engine)
            .legend(move |(x, y)| Circle::new((x + 8, y), size, color.filled()));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::MiddleLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .label_font((FONT, 13))
        .draw()?;
    Ok(area.present()?)
}

/// Latency over the share of calls that are faster, from the median outwards.
fn latency(summary: &Summary, line: &Line, area: &Area<'_>) -> Drawn {
    area.fill(&WHITE)?;
    // The axis counts nines: 0 is every call, 1 is p90, 2 is p99.
    let nines = |share: f64| -(1.0 - share).log10();
    let curves: Vec<_> = summary
        .engines
        .iter()
        .enumerate()
        .filter_map(|(i, engine)| Some((i, engine, &line.cells.get(engine)?.median.latency.curve)))
        .collect();
    let points = || curves.iter().flat_map(|(_, _, curve)| curve.iter());
    let low = points().map(|p| p.1.max(1) as f64).fold(f64::MAX, f64::min) / 1e3;
    let high = points().map(|p| p.1 as f64).fold(0.0, f64::max) / 1e3;
    let right = points().map(|p| nines(p.0)).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(format!("{}: latency of a call, microseconds", line.row), (FONT, 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..right, (low * 0.8..high * 1.2).log_scale())?;
    let share = |x: &f64| {
        let digits = (x.round() as usize).saturating_sub(2);
        format!("{:.digits$} %", 100.0 - 100.0 / 10f64.powf(*x))
    };
    chart
        .configure_mesh()
        .x_labels(right as usize + 1)
        .x_label_formatter(&share)
        .y_label_formatter(&|y| format!("{y}"))
        .light_line_style(WHITE)
        .draw()?;
    for (i, engine, curve) in curves {
        let color = COLORS[i % COLORS.len()];
        let style = color.stroke_width(if i == 0 { 3 } else { 2 });
        let points = curve.iter().map(|&(q, nanos)| (nines(q), nanos.max(1) as f64 / 1e3));
        chart
            .draw_series(LineSeries::new(points, style))?
            .label(engine.as_str())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .label_font((FONT, 13))
        .draw()?;
    Ok(area.present()?)
}
