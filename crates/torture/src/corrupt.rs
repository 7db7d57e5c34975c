//! Damage to every byte of every file, and to files as a whole.
//!
//! Small databases hold every kind of file in every format variant. Each mutation is opened and read in full. Allowed is
//! an error that says what is wrong, or the right answer. Never: a wrong value, a key missing without an error, a deleted
//! key, a panic, a huge allocation, or a change to the damaged file. What a read meets, `verify` must find.

mod base;
mod blocks;
mod judge;
mod mutate;

use crate::caught::caught;
use crate::store::{NAMES, open, read_state};
use crate::{Config, Failure, Family, Figure, Report, pool, store};
use base::{Base, VARIANTS, Variant, build};
use mutate::{Counts, Sweep, every_byte, whole_files};
use std::sync::Arc;

const NAME: &str = "corrupt";

pub(crate) const FAMILY: Family =
    Family { name: NAME, about: "damage to every byte of every kind of file", run };

struct Part {
    variant: &'static Variant,
    /// Mutations of each byte; 0 for files as a whole.
    of_each_byte: usize,
    slice: (u64, u64),
}

/// What the parts of a variant are called.
const BYTES: &str = "bytes";
const FILES: &str = "files";

impl Part {
    fn name(&self) -> String {
        format!("{}/{}", self.variant.name, if self.of_each_byte > 0 { BYTES } else { FILES })
    }
}

fn run(config: &Config<'_>) -> Result<Report, Failure> {
    let mut parts = Vec::new();
    for variant in VARIANTS {
        let wants = |what: &str| {
            config.wants(variant.name) || config.wants(&format!("{}/{what}", variant.name))
        };
        // A quick run takes a slice of each.
        let of_each_byte = config.size.pick(1, 2, 11);
        let part = |of_each_byte, slice| Part { variant, of_each_byte, slice };
        let taken = if wants(BYTES) { config.size.pick(1, 5, 5) } else { 0 };
        parts.extend((0..taken).map(|slice| part(of_each_byte, (slice, 5))));
        let taken = if wants(FILES) { config.size.pick(1, 16, 16) } else { 0 };
        parts.extend((0..taken).map(|slice| part(0, (slice, 16))));
    }
    let counts = pool::share(NAME, config, &parts, |part| {
        let swept = caught(|| sweep(config, part)).and_then(|result| result);
        let counts = swept.map_err(|e| Failure::new(NAME, config, 1, Some(&part.name()), e))?;
        let mutations = counts.mutations;
        Ok(((part.of_each_byte > 0, counts), mutations))
    })?;
    let (mut sum, mut bytes) = (Counts::default(), 0);
    for (is_bytes, counts) in &counts {
        sum.add(counts);
        bytes += if *is_bytes { counts.mutations } else { 0 };
    }
    let size = config.size;
    Ok(Report {
        seeds: VARIANTS.len() as u64,
        figures: vec![
            Figure::new("format variants", VARIANTS.len() as u64, 6),
            Figure::new("mutations", sum.mutations, size.pick(20_000, 65_000, 1_000_000)),
            Figure::new("of these of single bytes", bytes, size.pick(15_000, 65_000, 900_000)),
            Figure::new(
                "of these of whole files",
                sum.mutations - bytes,
                size.pick(2_000, 20_000, 20_000),
            ),
            Figure::new("refused at open", sum.refused, 1),
            Figure::new("errors of reads, all verified", sum.read_errors, 1),
            Figure::new("unsynced tails cut", sum.shorter_tail, 1),
            Figure::new("empty keyspaces rolled back", sum.names_rolled_back, 0),
            Figure::new("harmless", sum.harmless, 1),
            Figure::new("harmless but verified", sum.flagged, 0),
        ],
        skipped: None,
    })
}

fn sweep(config: &Config<'_>, part: &Part) -> Result<Counts, String> {
    let mut base = build(part.variant);
    check_complete(part.variant, &base);
    if config.canary {
        base.expect_too_much();
    }
    let mut sweep = Sweep::new(&base, part.slice, config.shrink);
    match part.of_each_byte {
        0 => {
            whole_files(&mut sweep);
            blocks::exchanged_blocks(&mut sweep);
        }
        count => every_byte(&mut sweep, count),
    }
    sweep.finish()
}

/// Undamaged it is right, and no kind of file is missing.
fn check_complete(variant: &Variant, base: &Base) {
    let files = base.files();
    let count = |extension: &str| {
        files.iter().filter(|(p, _)| p.extension().is_some_and(|e| e == extension)).count()
    };
    let logs = if variant.is_closed() { 0 } else { 2 };
    assert!(count("sst") >= 3 && count("log") >= logs, "a kind of file is missing");
    let (db, _) = open(Arc::new(base.copy()), store::DIR, &base.options, 1).expect("undamaged");
    assert!(read_state(&db).expect("undamaged") == base.state, "wrong before any damage");
    assert_eq!(db.list_keyspaces().len(), NAMES.len() - 1);
    db.verify().expect("undamaged");
}
