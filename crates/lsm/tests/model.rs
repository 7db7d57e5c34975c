//! The database against a map: random operations, hostile options, restarts and power cuts, all on one thread and all
//! chosen by one seed.
//!
//! ```text
//! ESKER_SEED=17 ESKER_OPS=3000 cargo test -p esker-lsm --test model       one seed
//! ESKER_MODEL_SEEDS=1000 cargo test --release -p esker-lsm --test model   many
//! ```

mod model_support;

use model_support::ops::{Generator, Op};
use model_support::world::World;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// Seeds of an ordinary run, and operations of each.
const SEEDS: u64 = 100;
const OPS: usize = 2000;
/// Tries spent on making a failing list shorter.
const SHRINK_TRIES: usize = 300;

fn env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect(name))
}

/// How far the run has come; read by the watchdog.
static DONE: AtomicUsize = AtomicUsize::new(0);

/// Runs `ops`; `Err` is the number of operations that were begun, and the message.
fn run(seed: u64, ops: &[Op]) -> Result<(), (usize, String)> {
    let begun = AtomicUsize::new(0);
    let result = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(seed);
        for op in ops {
            begun.fetch_add(1, Ordering::Relaxed);
            DONE.fetch_add(1, Ordering::Relaxed);
            world.run(op);
        }
        world.finish();
    }));
    result.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        (begun.load(Ordering::Relaxed), text.unwrap_or_default())
    })
}

fn generate(seed: u64, count: usize) -> Vec<Op> {
    let mut generator = Generator::new(seed);
    (0..count).map(|_| generator.op()).collect()
}

/// Cuts pieces out of a failing list, ever smaller ones, as long as it still fails.
fn shrink(seed: u64, mut ops: Vec<Op>) -> (Vec<Op>, String) {
    let mut message = String::new();
    let mut tries = 0;
    let mut fails = |ops: &[Op]| {
        tries += 1;
        (tries <= SHRINK_TRIES).then(|| run(seed, ops).err()).flatten()
    };
    let mut piece = ops.len() / 2;
    while piece > 0 {
        let mut at = 0;
        while at < ops.len() {
            let mut fewer = ops.clone();
            fewer.drain(at..(at + piece).min(ops.len()));
            match fails(&fewer) {
                Some((begun, text)) => {
                    fewer.truncate(begun);
                    (ops, message) = (fewer, text);
                }
                None => at += piece,
            }
        }
        piece /= 2;
    }
    (ops, message)
}

/// Ends the process with the seed at hand if nothing moves any more.
fn watch(seed: u64, count: usize) -> Sender<()> {
    let (sender, receiver) = channel();
    #[expect(clippy::disallowed_methods, reason = "a test's own thread")]
    std::thread::spawn(move || {
        let mut before = usize::MAX;
        while receiver.recv_timeout(Duration::from_secs(60)) == Err(RecvTimeoutError::Timeout) {
            let done = DONE.load(Ordering::Relaxed);
            if done == before {
                eprintln!("hangs: ESKER_SEED={seed} ESKER_OPS={count}");
                std::process::exit(101);
            }
            before = done;
        }
    });
    sender
}

fn check_seed(seed: u64, count: usize) {
    let _watchdog = watch(seed, count);
    let mut ops = generate(seed, count);
    let Err((begun, text)) = run(seed, &ops) else { return };
    eprintln!(
        "replay with: ESKER_SEED={seed} ESKER_OPS={count} cargo test -p esker-lsm --test model"
    );
    eprintln!("failed in operation {begun} of {count}: {text}");
    ops.truncate(begun);
    let (fewest, text) = shrink(seed, ops);
    if !text.is_empty() {
        eprintln!("these fail too: {text}");
        fewest.iter().for_each(|op| eprintln!("  {op:?}"));
    }
    panic!("seed {seed} failed");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "times of seeds, for people")]
fn agrees_with_a_map_through_restarts_and_power_cuts() {
    let count = env("ESKER_OPS").map_or(OPS, |n| n as usize);
    if let Some(seed) = env("ESKER_SEED") {
        return check_seed(seed, count);
    }
    let first = env("ESKER_MODEL_FIRST").unwrap_or(0);
    for seed in first..first + env("ESKER_MODEL_SEEDS").unwrap_or(SEEDS) {
        let before = Instant::now();
        check_seed(seed, count);
        if env("ESKER_VERBOSE").is_some() {
            println!("seed {seed}: {:?}", before.elapsed());
        }
    }
    println!("{} operations", DONE.load(Ordering::Relaxed));
}
