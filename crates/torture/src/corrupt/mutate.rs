//! The damage: to single bytes, and to files as a whole.
#![expect(clippy::unwrap_used, reason = "a disk in memory")]

use super::base::Base;
use super::judge::Outcome;
use crate::caught::caught;
use crate::pool::beat;
use crate::store::DIR;
use fuzz_targets::cap;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use testkit::rng::Rng;
use vfs::{Fs, MemFs};

/// Bytes that one allocation may take while a damaged database is read.
const ALLOCATION_MAX: usize = 4 << 20;
/// So many wrong outcomes tell enough.
const FAILURES_TOLD: u64 = 40;

/// Mutations by what came of them.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) mutations: u64,
    pub(super) refused: u64,
    pub(super) read_errors: u64,
    pub(super) shorter_tail: u64,
    pub(super) names_rolled_back: u64,
    pub(super) harmless: u64,
    /// Of these, those that `verify` flags all the same.
    pub(super) flagged: u64,
}

/// Applies its share of the mutations to copies of one base and judges them, collecting what is wrong.
pub(super) struct Sweep<'a> {
    pub(super) base: &'a Base,
    /// This one of so many.
    slice: (u64, u64),
    met: u64,
    pub(super) counts: Counts,
    wrong: BTreeMap<String, (u64, String)>,
    failures: u64,
    failures_max: u64,
}

impl<'a> Sweep<'a> {
    /// `tells_all`: go on behind the first wrong outcome.
    pub(super) fn new(base: &'a Base, slice: (u64, u64), tells_all: bool) -> Sweep<'a> {
        Sweep {
            base,
            slice,
            met: 0,
            counts: Counts::default(),
            wrong: BTreeMap::new(),
            failures: 0,
            failures_max: if tells_all { FAILURES_TOLD } else { 1 },
        }
    }

    pub(super) fn try_one(&mut self, what: &str, target: &Path, damage: impl FnOnce(&MemFs)) {
        self.met += 1;
        if self.met % self.slice.1 != self.slice.0 || self.failures >= self.failures_max {
            return;
        }
        beat(|| format!("{what} {}", target.display()));
        let fs = self.base.copy();
        damage(&fs);
        self.counts.mutations += 1;
        let thorough = self.counts.mutations.is_multiple_of(16);
        let judged = caught(|| {
            let mut judged = Err(String::new());
            cap::limited(ALLOCATION_MAX, || judged = self.base.judge(&fs, target, thorough));
            judged
        });
        match judged.and_then(|judged| judged) {
            Ok(Outcome::NamesRolledBack) if what.starts_with("byte") => {
                self.note_wrong(what, target, "a byte of the manifest hides whole edits");
            }
            Ok(outcome) => self.counts.note(outcome),
            Err(wrong) => self.note_wrong(what, target, &wrong),
        }
    }

    fn note_wrong(&mut self, what: &str, target: &Path, wrong: &str) {
        self.failures += 1;
        let kind = what.split(' ').next().unwrap_or_default();
        let brief: String =
            wrong.chars().map(|c| if c.is_ascii_digit() { '#' } else { c }).take(60).collect();
        let extension = target.extension().unwrap_or_default().to_string_lossy();
        let key = format!("{kind} {extension} {brief}");
        let shown = format!("{what} {}: {wrong}", target.display());
        self.wrong.entry(key).or_insert((0, shown)).0 += 1;
    }

    /// # Errors
    /// One example of each kind of wrong outcome.
    pub(super) fn finish(self) -> Result<Counts, String> {
        if self.wrong.is_empty() {
            return Ok(self.counts);
        }
        let mut text = format!("{} kinds of wrong outcomes", self.wrong.len());
        for (count, first) in self.wrong.values() {
            text += &format!("\n  {count} x {}", first.chars().take(700).collect::<String>());
        }
        Err(text)
    }
}

impl Counts {
    fn note(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Refused => self.refused += 1,
            Outcome::ReadError => self.read_errors += 1,
            Outcome::ShorterTail => self.shorter_tail += 1,
            Outcome::NamesRolledBack => self.names_rolled_back += 1,
            Outcome::Harmless { flagged } => {
                self.harmless += 1;
                self.flagged += u64::from(flagged);
            }
        }
    }

    pub(super) fn add(&mut self, other: &Counts) {
        self.mutations += other.mutations;
        self.refused += other.refused;
        self.read_errors += other.read_errors;
        self.shorter_tail += other.shorter_tail;
        self.names_rolled_back += other.names_rolled_back;
        self.harmless += other.harmless;
        self.flagged += other.flagged;
    }
}

/// Every byte becomes `count` others, of eleven: each bit flipped, nothing, all ones, one more.
pub(super) fn every_byte(sweep: &mut Sweep<'_>, count: usize) {
    for (path, bytes) in sweep.base.files() {
        for (at, &byte) in bytes.iter().enumerate() {
            let flips = (0..8).map(|bit| byte ^ (1 << bit));
            let others = [0x00, 0xff, byte.wrapping_add(1)];
            let all: Vec<u8> = flips.chain(others).collect();
            // Others for its neighbours.
            for &new in all.iter().cycle().skip((at * 5) % all.len()).step_by(4).take(count) {
                if new != byte {
                    sweep.try_one(&format!("byte {at} {byte:#x} to {new:#x}"), &path, |fs| {
                        fs.corrupt(&path, at as u64, |b| *b = new).unwrap();
                    });
                }
            }
        }
    }
}

/// Files cut, extended, with parts of zeros and parts exchanged, deleted, doubled, replaced by others and by older ones.
pub(super) fn whole_files(sweep: &mut Sweep<'_>) {
    let base = sweep.base;
    let mut rng = Rng::new(17);
    let files = base.files();
    for (path, bytes) in &files {
        let replace = |fs: &MemFs, new: &[u8]| {
            fs.truncate(path, 0).unwrap();
            fs.overwrite(path, new).unwrap();
        };
        let step = if bytes.len() > 1024 { 3 } else { 1 };
        for len in (0..bytes.len()).step_by(step) {
            sweep.try_one(&format!("truncate to {len}"), path, |fs| {
                fs.truncate(path, len as u64).unwrap();
            });
        }
        for more in [1, 7, 8, 16, 512, 4096] {
            let noise = rng.bytes(more);
            sweep.try_one(&format!("extend by {more} zeros"), path, |fs| {
                fs.extend(path, &vec![0; more]).unwrap();
            });
            sweep.try_one(&format!("extend by {more} bytes"), path, |fs| {
                fs.extend(path, &noise).unwrap();
            });
        }
        for unit in [16, 64, 512] {
            for at in (0..bytes.len()).step_by(unit) {
                let end = (at + unit).min(bytes.len());
                let mut new = bytes.clone();
                new[at..end].fill(0);
                if new != *bytes {
                    sweep.try_one(&format!("zero {at}..{end}"), path, |fs| replace(fs, &new));
                }
            }
        }
        for _ in 0..60.min(bytes.len() / 32) {
            let unit = *rng.pick(&[8, 16, 64, 128]);
            let blocks = bytes.len() / unit;
            if blocks < 2 {
                continue;
            }
            let (a, b) = (rng.index(blocks) * unit, rng.index(blocks) * unit);
            let mut new = bytes.clone();
            (0..unit).for_each(|i| new.swap(a + i, b + i));
            if new != *bytes {
                sweep.try_one(&format!("swap {unit} bytes at {a} and {b}"), path, |fs| {
                    replace(fs, &new);
                });
            }
        }
        sweep.try_one("delete", path, |fs| fs.remove_file(path).unwrap());
        duplicate(sweep, path, bytes);
    }
    swap_files(sweep, &files);
    for (path, old) in &base.older {
        sweep.try_one("older", path, |fs| {
            fs.truncate(path, 0).unwrap();
            fs.overwrite(path, old).unwrap();
        });
    }
}

/// Puts a copy of a file under another number.
fn duplicate(sweep: &mut Sweep<'_>, path: &Path, bytes: &[u8]) {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    for number in [0, 77, 999_999, u64::MAX - 1, u64::MAX] {
        let other = match (name.split_once('.'), name.split_once('-')) {
            (Some((_, extension)), _) => format!("{number:06}.{extension}"),
            (_, Some((stem, _))) => format!("{stem}-{number:06}"),
            _ => return,
        };
        sweep.try_one(&format!("duplicate as {other}"), path, |fs| {
            let other = Path::new(DIR).join(&other);
            if fs.metadata(&other).is_err() {
                drop(fs.create(&other).unwrap());
                fs.overwrite(&other, bytes).unwrap();
            }
        });
    }
}

/// Exchanges files of a kind, and puts one in the place of another.
fn swap_files(sweep: &mut Sweep<'_>, files: &[(PathBuf, Vec<u8>)]) {
    for (a, bytes_a) in files {
        for (b, bytes_b) in files.iter().filter(|(b, _)| b != a) {
            if a.extension() != b.extension() || bytes_a == bytes_b {
                continue;
            }
            let put = |fs: &MemFs, path: &Path, bytes: &[u8]| {
                fs.truncate(path, 0).unwrap();
                fs.overwrite(path, bytes).unwrap();
            };
            sweep.try_one(&format!("replaced-by {}", b.display()), a, |fs| put(fs, a, bytes_b));
            sweep.try_one(&format!("exchanged-with {}", b.display()), a, |fs| {
                put(fs, a, bytes_b);
                put(fs, b, bytes_a);
            });
        }
    }
}
