//! The page.

use super::summary::{Cell, Line, Summary};
use super::terminal::{is_comparison, ratio_text, value_text};
use super::{Raw, number};
use crate::data::KeyShape;
use std::fmt::Write;

/// The whole page, with links to the `plots`.
pub fn page(raw: &Raw, summary: &Summary, plots: &[String]) -> String {
    let mut page = String::from("# Esker beside its neighbours\n\n");
    head(&mut page, raw);
    section(&mut page, VALUES_TITLE, VALUES, summary, values);
    for (engine, row) in &raw.unsupported {
        page.push_str(&format!("{engine} has no way to do `{row}`.\n\n"));
    }
    if summary.lines.iter().any(is_comparison) {
        losses(&mut page, summary);
    }
    section(
        &mut page,
        "Latency of a call: p50 / p99 / p99.9 / longest, in microseconds",
        LATENCIES,
        summary,
        latency,
    );
    section(&mut page, "Processor time of an operation, in microseconds", CPU, summary, cpu);
    section(&mut page, "Bytes issued to the disk / bytes given", ISSUED, summary, issued);
    section(&mut page, "Bytes on the disk / bytes of the pairs", SPACE, summary, space);
    section(&mut page, "Peak memory, in MiB", MEMORY, summary, memory);
    lost(&mut page, summary);
    page.push_str(
        "## Engines\n\n| engine | settings | how its idleness is known |\n| --- | --- | --- |\n",
    );
    for (name, setup, idle) in &summary.setups {
        line(&mut page, &[name.clone(), setup.clone(), idle.clone()]);
    }
    for failure in &raw.failures {
        let text = failure.replace('\n', " ");
        page.push_str(&format!("\nFailed: {text}\n"));
    }
    if !plots.is_empty() {
        page.push_str("\n## Plots\n\n");
        plots.iter().for_each(|name| page.push_str(&format!("![{name}]({name})\n")));
    }
    page
}

const VALUES_TITLE: &str = "Operations a second, and milliseconds where it says so";
const VALUES: &str = "Medians. `*`: the clock stopped it before all was done. `†`: records were lost by the kill. The ratio is \
                      above 1 where Esker is ahead of the best neighbour.";
const LATENCIES: &str = "Key, value, clock and histogram included. A call of `fillbatch` and `multireadrandom` is 100 pairs.";
const CPU: &str = "All threads, from the first call to the end of background work.";
const ISSUED: &str = "`write_bytes` of `/proc/self/io` until background work was done: pages dirtied by writes or mappings. In \
                      brackets: without those whose file was removed before they were written.";
const SPACE: &str = "Blocks of all files once background work is done, logs and reserves included, against the pairs that the \
                     workload wrote.";
const MEMORY: &str =
    "`VmHWM`: everything resident, mapped files included (LMDB maps its whole file).";

fn head(page: &mut String, raw: &Raw) {
    let (machine, settings) = (&raw.machine, &raw.settings);
    if !raw.note.is_empty() {
        page.push_str(&format!("**{}**\n\n", raw.note));
    }
    page.push_str(&format!(
        "{}, {} processors, {:.1} GiB, Linux {}; load {:.1} when the run began.\n",
        machine.processor,
        machine.processors,
        machine.memory_mib as f64 / 1024.0,
        machine.kernel,
        machine.load_before
    ));
    let keys = match settings.keys {
        KeyShape::Dense => "consecutive keys",
        KeyShape::Spread => "keys spread over the key space",
    };
    page.push_str(&format!(
        "{} pairs of 16 + {} bytes, {keys}; cache {} MiB, memtable {} MiB, {} background threads, {} filter bits.\n\n",
        settings.pairs,
        settings.value_bytes,
        settings.cache_bytes >> 20,
        settings.memtable_bytes >> 20,
        settings.background_threads,
        settings.filter_bits
    ));
    page.push_str(&format!("```sh\n{}\n```\n\n", raw.command));
}

type Render = fn(&Line, &Cell) -> Option<String>;

/// A table of one kind of figure; lines and columns that have none are left out.
fn section(page: &mut String, title: &str, about: &str, summary: &Summary, render: Render) {
    let with_ratio = title == VALUES_TITLE && summary.lines.iter().any(is_comparison);
    let text = |line: &Line, engine: &String| match line.cells.get(engine) {
        Some(cell) => render(line, cell),
        None => None,
    };
    let has_any = |line: &&Line| summary.engines.iter().any(|e| text(line, e).is_some());
    let lines: Vec<&Line> = summary.lines.iter().filter(has_any).collect();
    if lines.is_empty() {
        return;
    }
    page.push_str(&format!("## {title}\n\n{about}\n\n"));
    let mut header = vec!["workload".to_string()];
    header.extend(summary.engines.iter().cloned());
    if with_ratio {
        header.extend(["best neighbour", "esker / best", "goal"].map(String::from));
    }
    line(page, &header);
    line(page, &vec!["---".to_string(); header.len()]);
    for row in lines {
        let mut fields = vec![row.row.to_string()];
        fields.extend(summary.engines.iter().map(|e| text(row, e).unwrap_or_else(|| "-".into())));
        if with_ratio {
            fields.push(row.best_neighbour().map_or("-".into(), |(name, _)| name.to_string()));
            fields.push(row.ratio().map_or("-".into(), |r| format!("**{}**", ratio_text(r))));
            fields.push(row.row.goal().map_or(String::new(), |g| format!("{g:.2}")));
        }
        line(page, &fields);
    }
    page.push('\n');
}

fn line(page: &mut String, fields: &[String]) {
    page.push_str(&format!("| {} |\n", fields.join(" | ")));
}

/// The lines where a neighbour is ahead, in words.
fn losses(page: &mut String, summary: &Summary) {
    let behind: Vec<String> = summary
        .lines
        .iter()
        .filter(|line| line.ratio().is_some_and(|r| r < 1.0))
        .filter_map(|line| {
            let (name, _) = line.best_neighbour()?;
            Some(format!("{} ({name}, {})", line.row, ratio_text(line.ratio()?)))
        })
        .collect();
    match behind.is_empty() {
        true => page.push_str("Esker is behind nowhere.\n\n"),
        false => page.push_str(&format!("Esker is behind in: {}.\n\n", behind.join(", "))),
    }
}

fn values(line: &Line, cell: &Cell) -> Option<String> {
    let mut text = value_text(line, cell);
    if cell.runs > 1 {
        let (low, high) = cell.spread;
        // A string takes any write.
        let _ = write!(text, " ({}..{})", number(low), number(high));
    }
    Some(text)
}

fn latency(_: &Line, cell: &Cell) -> Option<String> {
    let latency = &cell.median.latency;
    let micros = |nanos: u64| number(nanos as f64 / 1e3);
    let points = [latency.p50, latency.p99, latency.p999, latency.max].map(micros);
    (latency.max > 0 && cell.median.operations > 1).then(|| points.join(" / "))
}

fn cpu(_: &Line, cell: &Cell) -> Option<String> {
    let figures = &cell.median;
    let micros = figures.cpu_settled_seconds * 1e6 / figures.operations.max(1) as f64;
    (figures.operations > 1).then(|| number(micros))
}

fn issued(_: &Line, cell: &Cell) -> Option<String> {
    let figures = &cell.median;
    let given = figures.bytes_logical as f64;
    let share = |bytes: u64| bytes as f64 / given;
    let kept = figures.bytes_issued.saturating_sub(figures.bytes_cancelled);
    (given > 0.0).then(|| format!("{:.2} ({:.2})", share(figures.bytes_issued), share(kept)))
}

fn space(line: &Line, cell: &Cell) -> Option<String> {
    let figures = &cell.median;
    let fresh = line.row.workload.definition().start == crate::workloads::Start::Empty;
    let share = figures.space_bytes as f64 / figures.bytes_logical as f64;
    (fresh && figures.bytes_logical > 0).then(|| format!("{share:.2}"))
}

fn memory(_: &Line, cell: &Cell) -> Option<String> {
    Some(format!("{}", cell.median.peak_memory_bytes >> 20))
}

/// Who lost records by the kill.
fn lost(page: &mut String, summary: &Summary) {
    for line in &summary.lines {
        let lost = line.cells.iter().filter(|(_, cell)| cell.lost_records() > 0.0);
        for (name, cell) in lost {
            page.push_str(&format!(
                "`{}`: {name} lost {} records whose writes had returned.\n\n",
                line.row,
                cell.lost_records()
            ));
        }
    }
}
