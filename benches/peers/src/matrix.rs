//! Runs every cell: workload by workload, the engines in turn, each in a process and a directory of its own.

use crate::cell::{Figures, MARK, Report};
use crate::cli::MatrixArgs;
use crate::limit;
use crate::machine::Machine;
use crate::report::Raw;
use crate::spec::{CellSpec, Phase, Settings};
use crate::workloads::{Row, Start};
use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How often a running process is looked at.
const POLL: Duration = Duration::from_millis(20);

struct Matrix<'a> {
    args: &'a MatrixArgs,
    settings: Settings,
    bar: ProgressBar,
    raw: Raw,
}

/// Runs everything. A cell that fails is noted and the others go on.
///
/// # Errors
/// The arguments are wrong, or the directories cannot be made.
pub fn run(args: &MatrixArgs) -> Result<Raw> {
    let settings = args.settings()?;
    let rows = args.rows();
    fs::create_dir_all(&args.dir).with_context(|| format!("make {}", args.dir.display()))?;
    fs::create_dir_all(&args.report)?;
    let cells = args.runs() * rows.len() as u64 * args.engines.len() as u64;
    let style = "{elapsed_precise} {wide_bar} {pos}/{len}  {msg}  about {eta} left";
    let raw = Raw {
        machine: Machine::look(),
        settings: settings.clone(),
        engines: args.engines.clone(),
        note: args.note.clone(),
        command: command_line(),
        figures: Vec::new(),
        unsupported: Vec::new(),
        failures: Vec::new(),
    };
    let mut matrix = Matrix {
        args,
        settings,
        bar: ProgressBar::new(cells).with_style(ProgressStyle::with_template(style)?),
        raw,
    };
    for run in 0..args.runs() {
        matrix.run_once(run, &rows)?;
    }
    matrix.bar.finish_and_clear();
    Ok(matrix.raw)
}

/// Waits until what earlier cells wrote is on the disk, so that no cell pays for another one's writes. Without the command
/// nothing happens.
fn settle() {
    let _without = Command::new("sync").status().is_err();
}

impl Matrix<'_> {
    fn run_once(&mut self, run: u64, rows: &[Row]) -> Result<()> {
        let engines = self.args.engines.len();
        for (i, &row) in rows.iter().enumerate() {
            for turn in 0..engines {
                // Nobody is always first, and nobody always runs behind the same one.
                let engine = self.args.engines[(turn + i + run as usize) % engines].clone();
                self.bar.set_message(format!("{row} {engine}"));
                settle();
                self.run_cell(run, row, &engine)?;
                self.bar.inc(1);
            }
            self.raw.save(&self.args.report)?;
        }
        for engine in &self.args.engines {
            remove(&self.full_dir(engine))?;
        }
        Ok(())
    }

    fn run_cell(&mut self, run: u64, row: Row, engine: &str) -> Result<()> {
        let dir = self.args.dir.join(format!("{engine}-{row}"));
        remove(&dir)?;
        let spec = CellSpec {
            engine: engine.to_string(),
            workload: row.workload,
            threads: row.threads,
            phase: Phase::Measure,
            dir: dir.clone(),
            run,
            memory_max_bytes: self.args.memory_max_bytes(),
            settings: self.settings.clone(),
        };
        match self.prepare(&spec).and_then(|()| self.spawn(&spec)) {
            Ok(Report::Measured(figures)) => self.note_figures(*figures),
            Ok(Report::Unsupported) => self.raw.note_unsupported(engine, row),
            Ok(Report::Loaded) => bail!("{engine} {row} reported no figures"),
            Err(e) => self.note_failure(run, row, engine, &e),
        }
        remove(&dir)?;
        remove(&dir.with_extension("scratch"))
    }

    fn note_figures(&mut self, figures: Figures) {
        let unit = match figures.row.workload.definition().unit {
            crate::workloads::Unit::PerSecond => "/s",
            crate::workloads::Unit::Millis => " ms",
        };
        let text = crate::report::number(figures.value);
        self.say(&format!("{:<18} {:<10} {text}{unit}", figures.row.to_string(), figures.engine));
        self.raw.figures.push(figures);
    }

    fn note_failure(&mut self, run: u64, row: Row, engine: &str, e: &anyhow::Error) {
        let text = format!("{engine}, {row}, run {run}: {e:#}");
        self.say(&format!("FAILED {text}"));
        self.raw.failures.push(text);
    }

    /// A line above the bar; where nobody watches, a line of a log.
    fn say(&self, line: &str) {
        match self.bar.is_hidden() {
            true => eprintln!("{line}"),
            false => self.bar.println(line),
        }
    }

    /// Makes the directory that the workload starts from.
    fn prepare(&self, spec: &CellSpec) -> Result<()> {
        match spec.workload.definition().start {
            Start::Empty => {}
            Start::Full => {
                let full = self.full_dir(&spec.engine);
                if !full.exists() {
                    self.load(spec, &full)?;
                }
                copy_durably(&full, &spec.dir).context("copy the full database")?;
            }
            Start::Killed => {
                let crash =
                    CellSpec { phase: Phase::Crash, memory_max_bytes: None, ..spec.clone() };
                self.wait(start(&crash)?, &crash).map(drop)?;
            }
        }
        if spec.memory_max_bytes.is_some() {
            limit::drop_page_cache()?;
        }
        Ok(())
    }

    fn load(&self, spec: &CellSpec, full: &Path) -> Result<()> {
        self.bar.set_message(format!("loading {}", spec.engine));
        let dir = full.with_extension("loading");
        remove(&dir)?;
        let load = CellSpec {
            phase: Phase::Load,
            dir: dir.clone(),
            memory_max_bytes: None,
            ..spec.clone()
        };
        self.spawn(&load).context("load all pairs")?;
        Ok(fs::rename(&dir, full)?)
    }

    fn full_dir(&self, engine: &str) -> PathBuf {
        self.args.dir.join(format!("{engine}-full"))
    }

    /// Runs a process to its end and reads its report.
    fn spawn(&self, spec: &CellSpec) -> Result<Report> {
        let (ok, output, errors) = self.wait(start(spec)?, spec)?;
        if !ok {
            // Of a panic or an error that brings its backtrace along, what comes before it.
            let is_reason = |line: &&str| !line.to_lowercase().starts_with("stack backtrace");
            let reason: Vec<&str> = errors.trim().lines().take_while(is_reason).collect();
            bail!("{}", reason.join(" ").trim());
        }
        let report = output.lines().rev().find_map(|line| line.strip_prefix(MARK));
        let report = report.context("the process ended without a report")?;
        Ok(serde_json::from_str(report)?)
    }

    /// Waits for the process; whether it ended well, and what it printed.
    fn wait(&self, mut child: Child, spec: &CellSpec) -> Result<(bool, String, String)> {
        let output = read_aside(child.stdout.take());
        let errors = read_aside(child.stderr.take());
        let deadline = Instant::now() + Duration::from_secs(self.args.cell_seconds_max);
        let status = loop {
            match child.try_wait()? {
                Some(status) => break Some(status),
                None if Instant::now() > deadline => {
                    child.kill()?;
                    child.wait()?;
                    break None;
                }
                None => thread::sleep(POLL),
            }
        };
        if spec.memory_max_bytes.is_some() {
            limit::remove(child.id());
        }
        let text = |t: thread::JoinHandle<String>| t.join().unwrap_or_default();
        let (output, errors) = (text(output), text(errors));
        let Some(status) = status else {
            bail!("ended after {} s", self.args.cell_seconds_max);
        };
        let errors = if errors.is_empty() { status.to_string() } else { errors };
        Ok((status.success(), output, errors))
    }
}

fn start(spec: &CellSpec) -> Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("cell").arg(serde_json::to_string(spec)?);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().context("start the process of a cell")
}

fn read_aside(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What was read before an error is still worth showing.
            drop(pipe.read_to_end(&mut bytes));
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Copies a closed database and waits until the copy is on the disk, so that its writing disturbs nobody.
fn copy_durably(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy_durably(&entry.path(), &target)?,
            false => {
                fs::copy(entry.path(), &target)?;
                fs::File::open(&target)?.sync_all()?;
            }
        }
    }
    Ok(())
}

fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// The arguments that this process was started with, as one would type them.
fn command_line() -> String {
    let args = std::env::args().skip(1);
    let quoted = args.map(|a| if a.contains(' ') { format!("'{a}'") } else { a });
    std::iter::once("esker-peers".to_string()).chain(quoted).collect::<Vec<_>>().join(" ")
}
