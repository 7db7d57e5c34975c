//! The parts of a family, shared by a few threads, with a watch over parts that hang.

use crate::{Config, Failure};
use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A part that says nothing for so long hangs.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// What a thread is at, and how often it has said so.
#[derive(Debug, Default)]
struct Pulse {
    beats: AtomicUsize,
    place: Mutex<String>,
}

thread_local! {
    static PULSE: RefCell<Option<Arc<Pulse>>> = const { RefCell::new(None) };
}

/// Says that this thread is alive, and where.
pub(crate) fn beat(place: impl FnOnce() -> String) {
    PULSE.with_borrow(|pulse| {
        let Some(pulse) = pulse else { return };
        pulse.beats.fetch_add(1, Ordering::Relaxed);
        *pulse.place.lock().unwrap_or_else(PoisonError::into_inner) = place();
    });
}

/// Runs `work` on every part, on `config.threads` threads; it returns its result and the number of its checks.
///
/// # Errors
/// The failure of the first part that failed; parts not begun by then are left out.
pub(crate) fn share<P: Sync, R: Send>(
    family: &'static str,
    config: &Config<'_>,
    parts: &[P],
    work: impl Fn(&P) -> Result<(R, u64), Failure> + Sync,
) -> Result<Vec<R>, Failure> {
    config.progress.begin(family, parts.len() as u64);
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (results, failures) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let pulses: Vec<Arc<Pulse>> = (0..config.threads.max(1)).map(|_| Arc::default()).collect();
    let one_thread = |pulse: &Arc<Pulse>| {
        PULSE.set(Some(Arc::clone(pulse)));
        while !stop.load(Ordering::Relaxed) {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(part) = parts.get(at) else { break };
            beat(|| format!("part {at}"));
            match work(part) {
                Ok((result, checks)) => {
                    config.progress.part_done(checks);
                    results.lock().unwrap_or_else(PoisonError::into_inner).push((at, result));
                }
                Err(failure) => {
                    stop.store(true, Ordering::Relaxed);
                    failures.lock().unwrap_or_else(PoisonError::into_inner).push((at, failure));
                }
            }
        }
        beat(String::new);
        PULSE.set(None);
    };
    std::thread::scope(|scope| {
        let (done, watched) = channel::<()>();
        let pulses = &pulses;
        scope.spawn(move || watch(family, pulses, &watched));
        let threads: Vec<_> = pulses
            .iter()
            .map(|pulse| {
                let one_thread = &one_thread;
                scope.spawn(move || one_thread(pulse))
            })
            .collect();
        for thread in threads {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
        drop(done);
    });
    let mut failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    failures.sort_by_key(|(at, _)| *at);
    if let Some((_, failure)) = failures.into_iter().next() {
        return Err(failure);
    }
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(at, _)| *at);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

/// Ends the process, naming the place, if a thread says nothing for too long.
fn watch(family: &str, pulses: &[Arc<Pulse>], watched: &std::sync::mpsc::Receiver<()>) {
    let tick = Duration::from_secs(5);
    let mut silent = vec![(0, Duration::ZERO); pulses.len()];
    while watched.recv_timeout(tick) == Err(RecvTimeoutError::Timeout) {
        for (pulse, (beats, silence)) in pulses.iter().zip(&mut silent) {
            let now = pulse.beats.load(Ordering::Relaxed);
            *silence = if now == *beats { *silence + tick } else { Duration::ZERO };
            *beats = now;
            // A thread with nothing left to do is nowhere.
            let place = pulse.place.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if *silence > SILENCE_MAX && !place.is_empty() {
                eprintln!("{family} hangs: {place}");
                std::process::exit(101);
            }
        }
    }
}
