//! Loads `key<TAB>value` lines into a database, then proves that what was read is what is stored.
//!
//! ```text
//! cargo run --release --example import -- words.tsv
//! generate | cargo run --release --example import -- --db data -
//! cargo run --release --example import -- --sorted sorted.tsv
//! ```
//!
//! How the proof works: while lines are read, a hash of each key and of each pair goes into one of 256 spill files,
//! chosen by the hash of the key. At the end each spill file is sorted, which gives the last pair of each key whatever
//! was overwritten, in bounded memory and without asking the database. The sum of those hashes must be the sum over a
//! scan of the database after it was closed and opened again.
#![expect(clippy::disallowed_methods, reason = "an example is a program")]

use clap::Parser;
use esker::{Db, limits};
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::error::Error;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128};

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// Loads `key<TAB>value` lines into an Esker database and verifies the result.
///
/// A line ends in LF or CR LF. The key reaches to the first tab, the value to the end of the line; both are bytes, of any
/// encoding. Of lines with the same key the last wins. Empty lines are passed over.
#[derive(Debug, Parser)]
#[command(name = "import", version)]
struct Args {
    /// The file to read; `-` reads the standard input.
    input: PathBuf,
    /// Directory of the database, which is kept. Default: a temporary one, removed at the end.
    #[arg(long, value_name = "PATH")]
    db: Option<PathBuf>,
    /// The keys ascend and none occurs twice: write table files directly, without the log.
    #[arg(long)]
    sorted: bool,
    /// Count and skip lines that cannot be stored, instead of stopping at the first.
    #[arg(long)]
    skip_bad: bool,
    /// Do not verify.
    #[arg(long)]
    no_verify: bool,
}

/// Lines and bytes in one batch, whichever comes first.
const BATCH_LINES: usize = 1000;
const BATCH_BYTES: usize = 1 << 20;
/// Bytes of pairs in one ingest of `--sorted`.
const INGEST_BYTES: usize = 64 << 20;

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("import: {e}");
            let mut cause = e.source();
            while let Some(e) = cause {
                eprintln!("  because: {e}");
                cause = e.source();
            }
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let dir = args.db.clone().unwrap_or_else(|| scratch.path().join("db"));
    let db = Db::open(&dir)?;
    if !args.no_verify && db.iter().next().transpose()?.is_some() {
        return Err("the database is not empty, so it cannot be verified; add --no-verify".into());
    }
    let mut lines = Lines::open(&args.input, args.skip_bad)?;
    let mut digest = if args.no_verify { None } else { Some(Spill::new(scratch.path())?) };

    let start = Instant::now();
    if args.sorted {
        ingest(&db, &mut lines, &mut digest)?;
    } else {
        load(&db, &mut lines, &mut digest)?;
    }
    lines.progress.finish();
    report_load(&lines, start.elapsed());
    settle(&db)?;
    db.close()?;
    drop(db);
    if let Some(spill) = digest {
        verify(&dir, spill)?;
    }
    if let Some(bytes) = peak_memory() {
        println!("peak memory {}", HumanBytes(bytes));
    }
    Ok(scratch.close()?)
}

fn load(db: &Db, lines: &mut Lines, digest: &mut Option<Spill>) -> Result<()> {
    let mut batch = db.batch();
    while let Some((key, value)) = lines.next_pair()? {
        batch.put(key, value);
        if let Some(spill) = digest {
            spill.add(key, value)?;
        }
        if batch.len() >= BATCH_LINES || batch.size_bytes() >= BATCH_BYTES {
            batch.commit()?;
            batch = db.batch();
        }
    }
    Ok(batch.commit()?)
}

/// Each ingest is atomic. Its pairs are read before it starts, so that a bad line never leaves half of one behind.
fn ingest(db: &Db, lines: &mut Lines, digest: &mut Option<Spill>) -> Result<()> {
    let (mut pairs, mut bytes) = (Vec::new(), 0);
    let mut last: Option<Vec<u8>> = None;
    while let Some((key, value)) = lines.next_pair()? {
        if last.as_deref().is_some_and(|last| last >= key) {
            let line = lines.line;
            return Err(format!("line {line}: the key is not larger than the one before").into());
        }
        last = Some(key.to_vec());
        bytes += key.len() + value.len();
        if let Some(spill) = digest {
            spill.add(key, value)?;
        }
        pairs.push((key.to_vec(), value.to_vec()));
        if bytes >= INGEST_BYTES {
            db.ingest(pairs.drain(..))?;
            bytes = 0;
        }
    }
    db.ingest(pairs)?;
    Ok(())
}

fn report_load(lines: &Lines, took: Duration) {
    let seconds = took.as_secs_f64().max(1e-9);
    println!(
        "loaded {} pairs, {} in {took:.2?}: {} pairs/s, {}/s",
        HumanCount(lines.pairs),
        HumanBytes(lines.bytes),
        HumanCount((lines.pairs as f64 / seconds) as u64),
        HumanBytes((lines.bytes as f64 / seconds) as u64),
    );
    if lines.blank + lines.bad > 0 {
        println!("passed over {} empty and {} bad lines", lines.blank, lines.bad);
    }
}

fn settle(db: &Db) -> Result<()> {
    let start = Instant::now();
    db.flush()?;
    db.wait_idle()?;
    println!("flush and compactions done {:.2?} later\n{}", start.elapsed(), db.metrics());
    Ok(())
}

fn verify(dir: &Path, spill: Spill) -> Result<()> {
    let start = Instant::now();
    let expected = spill.finish()?;
    println!("{} distinct keys read, digest made in {:.2?}", expected.pairs, start.elapsed());

    let start = Instant::now();
    let db = Db::open(dir)?;
    println!("opened again in {:.2?}", start.elapsed());
    let start = Instant::now();
    let mut found = Digest::default();
    for pair in db.iter() {
        let (key, value) = pair?;
        found.add(pair_hash(&key, &value));
        // A scan does not use the filters and the search in the index; every thousandth key also goes through `get`.
        if found.pairs.is_multiple_of(1000) && db.get(&key)?.as_deref() != Some(&value[..]) {
            return Err(format!("a scan and a get differ on key \"{}\"", key.escape_ascii()).into());
        }
    }
    db.close()?;
    println!("{} pairs scanned in {:.2?}", found.pairs, start.elapsed());
    if found != expected {
        return Err(
            format!("what is stored differs: expected {expected:?}, found {found:?}").into()
        );
    }
    println!("verified: digest {:016x} over {} pairs", found.sum, found.pairs);
    Ok(())
}

/// The most memory the process had, where the system tells.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

// ---------------------------------------------------------------------------------------------------------------------
// Reading lines
// ---------------------------------------------------------------------------------------------------------------------

/// The longest line that can be stored, with its tab and its end.
const LINE_MAX: u64 = (limits::KEY_BYTES_MAX + limits::VALUE_BYTES_MAX + 3) as u64;

struct Lines {
    input: Box<dyn BufRead>,
    skip_bad: bool,
    buffer: Vec<u8>,
    /// The number of the line in `buffer`, from 1.
    line: u64,
    bytes: u64,
    pairs: u64,
    blank: u64,
    bad: u64,
    progress: Progress,
}

impl Lines {
    fn open(path: &Path, skip_bad: bool) -> Result<Lines> {
        let (input, len): (Box<dyn Read>, _) = if path == Path::new("-") {
            (Box::new(io::stdin().lock()), None)
        } else {
            let open = File::open(path).and_then(|file| Ok((file.metadata()?, file)));
            let (found, file) = open.map_err(|e| format!("{}: {e}", path.display()))?;
            (Box::new(file), found.is_file().then_some(found.len()))
        };
        Ok(Lines {
            input: Box::new(BufReader::with_capacity(1 << 20, input)),
            skip_bad,
            buffer: Vec::new(),
            line: 0,
            bytes: 0,
            pairs: 0,
            blank: 0,
            bad: 0,
            progress: Progress::new(len),
        })
    }

    /// The next pair; `None` at the end of the input.
    fn next_pair(&mut self) -> Result<Option<(&[u8], &[u8])>> {
        let tab = loop {
            if !self.read_line()? {
                return Ok(None);
            }
            if self.buffer.is_empty() {
                self.blank += 1;
                continue;
            }
            match check(&self.buffer) {
                Ok(tab) => break tab,
                Err(_) if self.skip_bad => self.bad += 1,
                Err(why) => return Err(format!("line {}: {why}", self.line).into()),
            }
        };
        self.pairs += 1;
        if self.line.is_multiple_of(1024) {
            self.progress.update(self.bytes, self.pairs);
        }
        let (key, rest) = self.buffer.split_at(tab);
        Ok(Some((key, rest.get(1..).unwrap_or_default())))
    }

    /// Reads a line into the buffer, without its end. False at the end of the input. Of a line that is too long only the
    /// start is kept, as long as it takes to be refused.
    fn read_line(&mut self) -> Result<bool> {
        self.buffer.clear();
        let read = (&mut self.input).take(LINE_MAX).read_until(b'\n', &mut self.buffer)?;
        if read == 0 {
            return Ok(false);
        }
        self.line += 1;
        self.bytes += read as u64;
        if self.buffer.last() == Some(&b'\n') {
            self.buffer.pop();
            if self.buffer.last() == Some(&b'\r') {
                self.buffer.pop();
            }
        } else if read as u64 == LINE_MAX {
            self.bytes += skip_line(&mut self.input)?;
        }
        Ok(true)
    }
}

/// Drops what is left of a line; returns its length in bytes.
fn skip_line(input: &mut dyn BufRead) -> io::Result<u64> {
    let mut skipped = 0;
    loop {
        let chunk = input.fill_buf()?;
        let end = chunk.iter().position(|&b| b == b'\n');
        let used = end.map_or(chunk.len(), |at| at + 1);
        input.consume(used);
        skipped += used as u64;
        if end.is_some() || used == 0 {
            return Ok(skipped);
        }
    }
}

/// Where the tab is, or why the line cannot be stored.
fn check(line: &[u8]) -> Result<usize, String> {
    let tab = line.iter().position(|&b| b == b'\t');
    let tab = tab.ok_or("no tab between key and value")?;
    if tab > limits::KEY_BYTES_MAX {
        return Err(format!("a key of {tab} bytes, the limit is {}", limits::KEY_BYTES_MAX));
    }
    let value = line.len() - tab - 1;
    if value > limits::VALUE_BYTES_MAX {
        return Err(format!("a value over the limit of {} bytes", limits::VALUE_BYTES_MAX));
    }
    Ok(tab)
}

/// A bar on a terminal, a line every other second elsewhere.
struct Progress {
    bar: ProgressBar,
    plain: bool,
    len: Option<u64>,
    start: Instant,
    last: Instant,
}

impl Progress {
    fn new(len: Option<u64>) -> Progress {
        let plain = !io::stderr().is_terminal();
        let target =
            if plain { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(len, target);
        let template = match len {
            Some(_) => "{bar:32} {bytes}/{total_bytes} {bytes_per_sec} {msg} left {eta}",
            None => "{spinner} {bytes} {bytes_per_sec} {msg} after {elapsed}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        let now = Instant::now();
        Progress { bar, plain, len, start: now, last: now }
    }

    fn update(&mut self, bytes: u64, pairs: u64) {
        if !self.plain {
            self.bar.set_position(bytes);
            self.bar.set_message(format!("{} pairs", HumanCount(pairs)));
        } else if self.last.elapsed() >= Duration::from_secs(2) {
            self.last = Instant::now();
            let seconds = self.start.elapsed().as_secs_f64();
            let rate = bytes as f64 / seconds;
            let left = self.len.map(|len| len.saturating_sub(bytes) as f64 / rate);
            let left = left.map(|s| format!(", about {s:.0} s left")).unwrap_or_default();
            let (bytes, rate) = (HumanBytes(bytes), HumanBytes(rate as u64));
            eprintln!("{seconds:6.1} s  {bytes}  {rate}/s  {} pairs{left}", HumanCount(pairs));
        }
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// The digest
// ---------------------------------------------------------------------------------------------------------------------

/// Number of pairs and sum of their hashes, whatever their order.
#[derive(Debug, Default, PartialEq, Eq)]
struct Digest {
    pairs: u64,
    sum: u64,
}

impl Digest {
    fn add(&mut self, hash: u64) {
        self.pairs += 1;
        self.sum = self.sum.wrapping_add(hash);
    }
}

/// The hash of the key is the seed of that of the value, so no byte can move from one to the other.
fn pair_hash(key: &[u8], value: &[u8]) -> u64 {
    xxh3_64_with_seed(value, xxh3_128(key) as u64)
}

const PARTS: usize = 256;
/// 16 bytes of key hash, 8 of pair hash.
const ENTRY: usize = 24;

/// Hashes of all pairs read, in the order of the input, in files by the hash of the key.
struct Spill {
    parts: Vec<(PathBuf, BufWriter<File>)>,
}

impl Spill {
    fn new(dir: &Path) -> Result<Spill> {
        let part = |i| {
            let path = dir.join(format!("spill-{i:03}"));
            let file = BufWriter::with_capacity(16 << 10, File::create(&path)?);
            Ok((path, file))
        };
        Ok(Spill { parts: (0..PARTS).map(part).collect::<io::Result<_>>()? })
    }

    fn add(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let key_hash = xxh3_128(key);
        let part = (key_hash >> 120) as usize;
        let pair = xxh3_64_with_seed(value, key_hash as u64);
        if let Some((_, file)) = self.parts.get_mut(part) {
            file.write_all(&key_hash.to_be_bytes())?;
            file.write_all(&pair.to_be_bytes())?;
        }
        Ok(())
    }

    /// The digest of the last pair of each key.
    fn finish(self) -> Result<Digest> {
        let mut digest = Digest::default();
        for (path, file) in self.parts {
            file.into_inner().map_err(|e| e.into_error())?;
            let bytes = std::fs::read(&path)?;
            let mut entries: Vec<&[u8]> = bytes.chunks_exact(ENTRY).collect();
            // Stable: entries of one key stay in the order of the input.
            entries.sort_by(|a, b| a[..16].cmp(&b[..16]));
            for same_key in entries.chunk_by(|a, b| a[..16] == b[..16]) {
                if let Some(Ok(hash)) = same_key.last().map(|last| last[16..].try_into()) {
                    digest.add(u64::from_be_bytes(hash));
                }
            }
        }
        Ok(digest)
    }
}
