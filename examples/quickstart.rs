//! A tour of Esker, then a proof: a process is killed while it writes, and nothing acknowledged is lost.
//!
//! ```text
//! cargo run --release --example quickstart            in a temporary directory, removed at the end
//! cargo run --release --example quickstart -- PATH    in a new or empty directory, which stays
//! ```
#![expect(clippy::disallowed_methods, reason = "an example is a program")]

use esker::{Db, Durability, KeyspaceOptions, Options, Result as DbResult};
use std::error::Error;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// First argument of the child process; not for users.
const WRITER: &str = "--writer";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args[..] {
        [WRITER, dir, mode] => write_until_killed(Path::new(dir), mode),
        [] => in_temporary_directory(),
        [dir] if !dir.starts_with('-') => in_directory(Path::new(dir)),
        _ => Err("usage: quickstart [PATH]".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("quickstart: {e}");
            ExitCode::FAILURE
        }
    }
}

fn in_temporary_directory() -> Result<()> {
    let dir = tempfile::tempdir()?;
    run(dir.path())?;
    dir.close()?;
    println!("\nThe temporary directory is gone again. Give a path to keep the data.");
    Ok(())
}

fn in_directory(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    if std::fs::read_dir(dir)?.next().is_some() {
        return Err(format!("{} is not empty; give a new directory", dir.display()).into());
    }
    run(dir)?;
    println!("\nThe data stay in {}.", dir.display());
    Ok(())
}

fn run(dir: &Path) -> Result<()> {
    tour(&dir.join("tour"))?;
    killed_while_writing(dir, Durability::Buffered, 100_000)?;
    killed_while_writing(dir, Durability::Sync, 300)
}

// ---------------------------------------------------------------------------------------------------------------------
// The tour
// ---------------------------------------------------------------------------------------------------------------------

fn tour(dir: &Path) -> Result<()> {
    println!("1. Write, read, scan");
    let db = Db::open(dir)?;
    write_and_scan(&db)?;

    println!("\n2. A snapshot does not change");
    look_back(&db)?;

    println!("\n3. A batch over two keyspaces: all of it or nothing");
    batch_over_keyspaces(&db)?;

    println!("\n4. Delete a range, whatever its size, by one record");
    delete_a_range(&db)?;

    println!("\n5. Compare and swap: of two who saw the same value, one wins");
    compare_and_swap(&db)?;

    println!("\n6. Close, open again, and all is there");
    db.close()?;
    let db = Db::open(dir)?;
    println!("   keyspaces {:?}", db.list_keyspaces());
    println!("   fruit:plum is {}", show(&db, "fruit:plum")?);
    println!("   health {:?}", db.health());
    Ok(db.close()?)
}

fn write_and_scan(db: &Db) -> DbResult<()> {
    db.put("fruit:apple", "red")?;
    db.put("fruit:plum", "blue")?;
    db.put("fruit:banana", "yellow")?;
    db.put("grain:rye", "brown")?;
    println!("   get fruit:apple -> {}", show(db, "fruit:apple")?);
    println!("   get fruit:cherry -> {}", show(db, "fruit:cherry")?);
    println!("   scan fruit:");
    for pair in db.prefix("fruit:") {
        let (key, value) = pair?;
        println!("      {} = {}", text(&key), text(&value));
    }
    let last = db.range("fruit:".."fruit;").next_back().transpose()?;
    println!("   the last fruit: {:?}", last.map(|(key, _)| text(&key)));
    Ok(())
}

fn look_back(db: &Db) -> DbResult<()> {
    let before = db.snapshot();
    db.put("fruit:apple", "green")?;
    db.delete("fruit:banana")?;
    let old = before.get("fruit:apple")?.map(|v| text(&v));
    println!(
        "   now      apple {}, {} fruits",
        show(db, "fruit:apple")?,
        count(db.prefix("fruit:"))?
    );
    println!(
        "   snapshot apple {}, {} fruits",
        old.unwrap_or_default(),
        count(before.prefix("fruit:"))?
    );
    Ok(())
}

fn batch_over_keyspaces(db: &Db) -> DbResult<()> {
    let users = db.keyspace("users", KeyspaceOptions::default())?;
    let by_city = db.keyspace("by_city", KeyspaceOptions::default())?;
    let mut batch = db.batch();
    for (id, name, city) in [("1", "Ada", "London"), ("2", "Nils", "Oslo"), ("3", "Kari", "Oslo")] {
        batch.put_in(&users, id, name);
        batch.put_in(&by_city, format!("{city}/{id}"), "");
    }
    println!("   {} operations in one batch", batch.len());
    // This one must be on the disk before we go on; the others need not.
    batch.commit_with(Durability::Sync)?;
    for pair in by_city.prefix("Oslo/") {
        let (key, _) = pair?;
        let id = key.get("Oslo/".len()..).unwrap_or_default();
        let name = users.get(id)?.map(|v| text(&v));
        println!("   lives in Oslo: {}", name.unwrap_or_default());
    }
    Ok(())
}

fn delete_a_range(db: &Db) -> DbResult<()> {
    let log = db.keyspace("log", KeyspaceOptions::default())?;
    for day in 1..=30 {
        log.put(format!("2026-11-{day:02}"), "what happened")?;
    }
    let before = count(log.iter())?;
    log.delete_range("2026-11-01".."2026-11-21")?;
    println!("   {before} days before, {} after", count(log.iter())?);
    Ok(())
}

fn compare_and_swap(db: &Db) -> DbResult<()> {
    db.put("stock", "1")?;
    for buyer in ["first", "second"] {
        match db.compare_and_swap("stock", Some(b"1"), Some(b"0"))? {
            Ok(()) => println!("   {buyer} buyer got the last one"),
            Err(mismatch) => {
                let now = mismatch.current.map(|v| text(&v)).unwrap_or_default();
                println!("   {buyer} buyer came too late, stock is {now}");
            }
        }
    }
    Ok(())
}

fn show(db: &Db, key: &str) -> DbResult<String> {
    Ok(db.get(key)?.map_or_else(|| "nothing".to_owned(), |value| text(&value)))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn count(pairs: esker::Range) -> DbResult<usize> {
    pairs.map(|pair| pair.map(|_| 1)).sum()
}

// ---------------------------------------------------------------------------------------------------------------------
// The proof
// ---------------------------------------------------------------------------------------------------------------------

/// Starts a process that writes, kills it (SIGKILL) after `enough` acknowledged records, and counts what is left.
fn killed_while_writing(dir: &Path, durability: Durability, enough: u64) -> Result<()> {
    println!(
        "\n{durability:?}: a second process writes numbered records; we kill it while it does"
    );
    let dir = dir.join(format!("{durability:?}").to_lowercase());
    let start = Instant::now();
    let acknowledged = run_and_kill(&dir, durability, enough)?;
    println!("   killed after {:.2?}: {acknowledged} records were acknowledged", start.elapsed());

    let start = Instant::now();
    let db = Db::open(&dir)?;
    println!("   opened again in {:.2?}", start.elapsed());
    let survived = count_without_holes(&db)?;
    db.close()?;
    println!("   {survived} records survived, none missing between the first and the last");
    if survived < acknowledged {
        return Err(format!("{} acknowledged records are lost", acknowledged - survived).into());
    }
    Ok(())
}

/// Returns how many records the writer reported before it died.
fn run_and_kill(dir: &Path, durability: Durability, enough: u64) -> Result<u64> {
    let mut child = Command::new(std::env::current_exe()?)
        .args([PathBuf::from(WRITER), dir.to_path_buf(), format!("{durability:?}").into()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut reports = child.stdout.take().ok_or("no pipe to the child")?;
    let (mut acknowledged, mut killed, mut report) = (0, false, [0; 8]);
    // After the kill the pipe still holds reports that count: the writer had its `Ok` when it sent them.
    while reports.read_exact(&mut report).is_ok() {
        acknowledged = u64::from_le_bytes(report);
        if acknowledged >= enough && !killed {
            child.kill()?;
            killed = true;
        }
    }
    let status = child.wait()?;
    if killed {
        Ok(acknowledged)
    } else {
        Err(format!("the writer stopped by itself: {status}").into())
    }
}

/// The child: writes record after record and reports each as soon as it is acknowledged.
fn write_until_killed(dir: &Path, mode: &str) -> Result<()> {
    let durability = match mode {
        "Sync" => Durability::Sync,
        _ => Durability::Buffered,
    };
    let db = Db::builder(dir).options(Options::default().durability(durability)).open()?;
    let mut parent = std::io::stdout().lock();
    for number in 1u64.. {
        db.put(record_key(number), number.to_le_bytes())?;
        // Without the parent there is nobody to write for.
        parent.write_all(&number.to_le_bytes())?;
        parent.flush()?;
    }
    Ok(())
}

fn record_key(number: u64) -> String {
    format!("record/{number:012}")
}

fn count_without_holes(db: &Db) -> Result<u64> {
    let mut last = 0;
    for pair in db.prefix("record/") {
        let (key, value) = pair?;
        let expected = last + 1;
        if key[..] != *record_key(expected).as_bytes() || value[..] != expected.to_le_bytes() {
            return Err(
                format!("record {expected} is missing or wrong; found {}", text(&key)).into()
            );
        }
        last = expected;
    }
    Ok(last)
}
