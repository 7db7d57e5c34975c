//! Starts writers and kills them, and checks what each left.

use super::child::{apply, counter, open, write_of};
use super::{Aim, CHILD, TEST};
use crate::pool::beat;
use crate::probes::noted;
use crate::store::{CATALOG, read_state, show};
use lsm::KeyspaceOptions;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use testkit::model::ModelOp;
use testkit::oracle::Oracle;
use testkit::rng::Rng;

/// Writes after each recovery that is looked at.
const MORE: u64 = 40;

/// What happened.
#[derive(Debug, Default, Clone)]
pub(super) struct Counts {
    pub(super) kills: u64,
    /// By [`Aim`].
    pub(super) hits: [u64; Aim::ALL.len()],
    pub(super) writes: u64,
    pub(super) checks: u64,
}

/// What a writer said before it was killed.
#[derive(Debug, Default)]
struct Heard {
    opened: Option<u64>,
    acked: Option<u64>,
    /// What it was about to do when the kill was aimed.
    is_hit: bool,
}

impl Heard {
    fn hear(&mut self, line: &str) {
        match line.split_once(' ') {
            // It opens again after each close.
            Some(("opened", n)) if self.opened.is_none() => self.opened = n.parse().ok(),
            Some(("ack", n)) => self.acked = n.parse().ok(),
            _ => {}
        }
    }
}

/// Starts a writer, waits until it is about to do what is aimed at, and kills it a moment later.
fn run_and_kill(dir: &Path, aim: Aim, rng: &mut Rng) -> Heard {
    let mut command = Command::new(std::env::current_exe().expect("own path"));
    let mut child = noted(&mut command)
        .args(["--exact", TEST, "--nocapture", "--test-threads=1"])
        .env(CHILD, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a second process");
    let out = child.stdout.take().expect("piped");
    let mut lines = BufReader::new(out).lines().map_while(Result::ok);
    let mut heard = Heard::default();
    for line in lines.by_ref() {
        heard.hear(&line);
        if line.starts_with(aim.word()) {
            heard.is_hit = true;
            break;
        }
    }
    #[expect(clippy::disallowed_methods, reason = "a kill at any moment")]
    std::thread::sleep(Duration::from_micros(rng.below(aim.micros_max())));
    child.kill().expect("a kill");
    lines.for_each(|line| heard.hear(&line));
    let mut errors = String::new();
    let read = child.stderr.take().expect("piped").read_to_string(&mut errors);
    let status = child.wait().expect("an end");
    assert!(
        read.is_ok() && !status.success() && errors.is_empty(),
        "the writer failed: {status} {errors}"
    );
    heard
}

/// A directory on which writers are killed, one after the other.
pub(super) fn chain(dir: &Path, seed: u64, kills: u64, canary: bool) -> Counts {
    let mut rng = Rng::new(seed);
    let mut oracle = Oracle::new();
    // Commits before the writes: the keyspace. It may be made by any child.
    oracle.issue(&[ModelOp::put(CATALOG, "k1", "")]);
    let (mut known, mut counts) = (0u64, Counts::default());
    for kill in 0..kills {
        let number = rng.index(Aim::ALL.len());
        let aim = Aim::ALL[number];
        beat(|| format!("kill {kill} of seed {seed}: {aim:?}"));
        let heard = run_and_kill(dir, aim, &mut rng);
        counts.kills += 1;
        counts.hits[number] += u64::from(heard.is_hit);
        if let Some(found) = heard.opened {
            assert!(found == known || found == known + 1, "kill {kill}: {known} became {found}");
            extend(&mut oracle, found);
            known = found;
        }
        if let Some(acked) = heard.acked {
            counts.writes += acked - known;
            extend(&mut oracle, acked);
            known = acked;
        }
        // Now and then nobody looks, and the next writer recovers from both kills.
        if rng.below(3) == 0 && kill + 1 < kills {
            continue;
        }
        counts.checks += 1;
        let expected = if canary { known + 3 } else { known };
        known = reopen(dir, &mut oracle, expected);
    }
    counts
}

/// Adds the writes up to `n` to the model.
fn extend(oracle: &mut Oracle, n: u64) {
    for next in oracle.model().commits() as u64..=n {
        oracle.issue(&write_of(next).0);
    }
}

/// Checks what a killed writer left, writes on, and opens once more. Returns the new counter.
fn reopen(dir: &Path, oracle: &mut Oracle, known: u64) -> u64 {
    extend(oracle, known + 1);
    let db = open(dir);
    let found = counter(&db);
    assert!(found == known || found == known + 1, "{known} became {found}");
    let state = read_state(&db).expect("readable");
    let prefix = oracle.check(&state, if known > 0 { known as usize + 1 } else { 0 }, usize::MAX);
    let prefix = prefix.unwrap_or_else(|e| panic!("after a kill at {known}: {e}"));
    oracle.recovered(prefix.max(1));
    let second = db.keyspace("k1", KeyspaceOptions::new()).expect("keyspace");
    for n in found + 1..=found + MORE {
        apply(&db, &second, n).expect("a write after a recovery");
    }
    extend(oracle, found + MORE);
    drop((db, second));
    let db = open(dir);
    let all = oracle.model().commits();
    let state = read_state(&db).expect("readable");
    oracle.check(&state, all, all).unwrap_or_else(|e| panic!("reopened: {e}"));
    db.verify().unwrap_or_else(|e| panic!("verify: {}", show(&e)));
    found + MORE
}
