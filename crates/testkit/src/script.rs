//! Folders of scripted tests: a command, what it should print, a diff when it does not.
//!
//! ````text
//! # a comment, up to the first command or between two
//! verb word key=value key="two words" key=(a b c)
//! input lines
//! ----
//! expected output, up to a blank line
//!
//! verb
//! ----
//! ----
//! expected output that has
//!
//! blank lines, up to the next pair of separators
//! ----
//! ----
//! ````
//! `REWRITE=1` in the environment stores what commands print instead of comparing it.
//!
//! # Source
//! The format is that of `github.com/cockroachdb/datadriven`.
#![expect(
    clippy::disallowed_methods,
    reason = "scripts are files of the source tree, not of a store"
)]

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::{env, fs, thread};

mod diff;
mod parse;
#[cfg(test)]
mod tests;

/// One command of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Command {
    /// The first word.
    pub verb: String,
    /// The other words, in order.
    pub args: Vec<Arg>,
    /// The lines below up to `----`, each with its end of line.
    pub input: String,
    /// Number of the command's line in the file, from 1.
    pub line: usize,
}

/// One argument: a bare word, or `key=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Arg {
    /// The word, or what is left of `=`.
    pub key: String,
    /// What is right of `=`, without the quotes or parentheses around it.
    pub value: Option<String>,
}

impl Command {
    /// The value of `key=value`.
    pub fn arg(&self, key: &str) -> Option<&str> {
        self.args.iter().find(|arg| arg.key == key)?.value.as_deref()
    }

    /// The value of `key=value` as a `T`.
    ///
    /// # Panics
    /// If it is there but is no `T`.
    pub fn arg_as<T: FromStr>(&self, key: &str) -> Option<T> {
        let text = self.arg(key)?;
        let Ok(value) = text.parse() else {
            panic!("line {}: cannot read {key}={text}", self.line)
        };
        Some(value)
    }

    /// The words without `=`.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.args.iter().filter(|arg| arg.value.is_none()).map(|arg| arg.key.as_str())
    }

    /// Whether the bare word `name` is there.
    pub fn flag(&self, name: &str) -> bool {
        self.words().any(|word| word == name)
    }
}

/// Runs every script below `dir` (relative to the caller's `CARGO_MANIFEST_DIR`), each on a state
/// of its own. A script stops at its first difference, the others still run.
///
/// # Panics
/// With file, line and diff if an output differs or a script is malformed; if there is no script.
pub fn run_dir<S>(
    dir: &str,
    mut new_state: impl FnMut() -> S,
    mut run: impl FnMut(&mut S, &Command) -> String,
) {
    let rewrite = env::var_os("REWRITE").is_some_and(|value| value == "1");
    let root = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default().join(dir);
    let files = scripts_below(&root);
    assert!(!files.is_empty(), "no scripts below {}", root.display());
    let failures: Vec<String> = files
        .iter()
        .filter_map(|file| run_file(file, rewrite, &mut new_state(), &mut run).err())
        .collect();
    assert!(failures.is_empty(), "\n{}\n(REWRITE=1 accepts new output)", failures.join("\n"));
}

/// All files below `root` but hidden ones and editors' copies, in the order of their names.
fn scripts_below(root: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root).unwrap_or_else(|error| panic!("{}: {error}", root.display()));
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap_or_else(|error| panic!("{}: {error}", root.display())).path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            !name.starts_with('.') && !name.ends_with('~')
        })
        .collect();
    paths.sort_unstable();
    paths
        .into_iter()
        .flat_map(|path| if path.is_dir() { scripts_below(&path) } else { vec![path] })
        .collect()
}

fn run_file<S>(
    file: &Path,
    rewrite: bool,
    state: &mut S,
    run: &mut impl FnMut(&mut S, &Command) -> String,
) -> Result<(), String> {
    let name = file.display().to_string();
    let text = fs::read_to_string(file).map_err(|error| format!("{name}: {error}"))?;
    let result = run_text(&name, &text, rewrite, state, run)?;
    if rewrite && result != text {
        fs::write(file, result).map_err(|error| format!("{name}: {error}"))?;
    }
    Ok(())
}

/// Runs the script `text`; returns it with the outputs that were printed.
fn run_text<S>(
    name: &str,
    text: &str,
    rewrite: bool,
    state: &mut S,
    run: &mut impl FnMut(&mut S, &Command) -> String,
) -> Result<String, String> {
    let mut script = parse::parse(text).map_err(|(line, what)| format!("{name}:{line}: {what}"))?;
    for section in &mut script.sections {
        let place = Place { name, line: section.command.line };
        let output = whole_lines(run(state, &section.command));
        drop(place);
        if !rewrite && output != section.expected {
            let (line, verb) = (section.command.line, &section.command.verb);
            let diff = diff::lines(&section.expected, &output);
            return Err(format!(
                "{name}:{line}: `{verb}` printed something else (- expected, + printed)\n{diff}"
            ));
        }
        section.expected = output;
    }
    Ok(script.render())
}

/// Ends text with an end of line, unless it is empty.
fn whole_lines(mut text: String) -> String {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// Says which command was running if it panics.
struct Place<'a> {
    name: &'a str,
    line: usize,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("panic while running {}:{}", self.name, self.line);
        }
    }
}
