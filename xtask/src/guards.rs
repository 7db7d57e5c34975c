//! `cargo xtask guards`: counts the instructions of single operations, and compares them with what they may be.
//!
//! Time cannot be guarded on a machine that others use; instructions can: the same binary executes the same number of
//! them in every run. `crates/guards` does the operations, callgrind counts, `crates/guards/budget.toml` says what they
//! may cost.

mod budget;
mod compare;
mod counts;

use budget::Budget;
use counts::Count;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

const PACKAGE: &str = "esker-guards";
/// Two patterns for the same functions: callgrind remembers one wish for a pattern.
const COUNT_INSIDE: &str = "--toggle-collect=*::measured::*_counted";
const WRITE_BEHIND: &str = "--dump-after=*measured::*_counted";
/// The C library picks its copies by the processor it is on. These are there on every x86-64, so that counts made on one
/// machine hold on another.
const PLAIN_COPIES: &str = "glibc.cpu.hwcaps=-AVX_Fast_Unaligned_Load,-AVX2,-AVX2_Usable,-AVX,-AVX_Usable,-ERMS,-FSRM,-BMI1,-BMI2,-SSSE3,-SSE4_1,-SSE4_2,-MOVBE,-Fast_Unaligned_Copy";

#[derive(clap::Args)]
pub(crate) struct Guards {
    /// Makes what is counted now the budget.
    #[arg(long)]
    record: bool,
}

/// Says whether all operations are within their budget; the error is why that is not known.
pub(crate) fn run(args: &Guards) -> Result<bool, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let file = root.join("crates/guards/budget.toml");
    let compiler = compiler()?;
    let counts = count(&build(&root)?)?;
    if args.record {
        write(&file, &Budget::of(&counts, &compiler).to_string())?;
        counts.iter().for_each(|count| println!("{:18} {:>10.1}", count.operation, count.each));
        println!("recorded in {}", file.display());
        return Ok(true);
    }
    let budget: Budget = read(&file)?.parse()?;
    if let Some(other) = budget.other_machine() {
        println!("SKIPPED: the budget was recorded on {other}, this is {}", env::consts::ARCH);
        return Ok(true);
    }
    let tolerance = budget.tolerance(&compiler);
    if compiler != budget.compiler {
        let other = &budget.compiler;
        println!("recorded with {other}, this is {compiler}: {tolerance} % are tolerated");
    }
    Ok(compare::tell(&compare::compare(&budget, &counts, tolerance), tolerance))
}

/// As `rustc 1.95.0`.
fn compiler() -> Result<String, String> {
    let rustc = env::var("RUSTC").unwrap_or_else(|_| String::from("rustc"));
    let version = output(Command::new(rustc).arg("--version"))?;
    Ok(version.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
}

/// Builds the program; where it is.
fn build(root: &Path) -> Result<PathBuf, String> {
    let cargo = env::var("CARGO").unwrap_or_else(|_| String::from("cargo"));
    let mut build = Command::new(cargo);
    build.current_dir(root).args(["build", "--release", "--package", PACKAGE]);
    let messages = output(build.args(["--message-format", "json-render-diagnostics"]))?;
    counts::executable(&messages).ok_or_else(|| format!("cargo built no program of {PACKAGE}"))
}

/// Runs the program under callgrind.
fn count(program: &Path) -> Result<Vec<Count>, String> {
    let dir = program.with_file_name("guards-callgrind");
    clear(&dir)?;
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--quiet", "--tool=callgrind", COUNT_INSIDE, WRITE_BEHIND]);
    valgrind.arg(format!("--callgrind-out-file={}", dir.join("out").display()));
    let done = output(valgrind.arg(program).env("GLIBC_TUNABLES", PLAIN_COPIES))?;
    counts::join(&done, &texts(&dir)?)
}

/// What a command prints, if it succeeds. What it says of errors goes to the terminal.
fn output(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let done = command.stderr(Stdio::inherit()).output();
    let done = done.map_err(|error| format!("{program} does not run: {error}"))?;
    match done.status.success() {
        true => Ok(String::from_utf8_lossy(&done.stdout).into_owned()),
        false => Err(format!("{program} failed: {}", done.status)),
    }
}

#[expect(clippy::disallowed_methods, reason = "a folder for the output of a tool, not a store")]
fn clear(dir: &Path) -> Result<(), String> {
    drop(fs::remove_dir_all(dir));
    fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))
}

#[expect(clippy::disallowed_methods, reason = "reads the output of a tool, not a store")]
fn texts(dir: &Path) -> Result<Vec<String>, String> {
    let entries = fs::read_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    entries.filter_map(|entry| Some(read(&entry.ok()?.path()))).collect()
}

#[expect(clippy::disallowed_methods, reason = "reads the source tree and a tool's output")]
fn read(file: &Path) -> Result<String, String> {
    fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))
}

#[expect(clippy::disallowed_methods, reason = "writes into the source tree, not a store")]
fn write(file: &Path, text: &str) -> Result<(), String> {
    fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))
}
