//! Virtual time, one queue, one seed.

use super::{Runtime, Task, TimerId};
use base::clock::Clock;
use base::rng::Rng;
use base::sync::leaf::Mutex;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// How long work elsewhere takes at most, in virtual microseconds: a synced write to a fast disk.
const WORK_MICROS_MAX: u64 = 500;

/// A runtime whose time stands still until it is stepped. Of tasks that are due at the same moment the seed says which comes
/// first. All tasks run on the thread that steps.
pub struct SimRuntime {
    state: Mutex<State>,
    wall_at_start: u64,
}

struct State {
    now: u64,
    rng: Rng,
    /// Ascending by moment, then by a number drawn from the seed, then by timer.
    queue: BTreeMap<(u64, u64, TimerId), Task>,
    /// Where each timer is in the queue.
    places: BTreeMap<TimerId, (u64, u64)>,
    timers: u64,
    trace: u64,
}

impl SimRuntime {
    /// A runtime at moment 0, at some time of the wall that the seed says.
    #[must_use]
    pub fn new(seed: u64) -> Arc<SimRuntime> {
        let mut rng = Rng::new(seed);
        // Some time in 2026.
        let wall_at_start = 1_767_225_600_000_000 + rng.below(31_536_000_000_000);
        let state = State {
            now: 0,
            rng,
            queue: BTreeMap::new(),
            places: BTreeMap::new(),
            timers: 0,
            trace: 0,
        };
        Arc::new(SimRuntime { state: Mutex::new(state), wall_at_start })
    }

    /// Goes to the moment of the next task and runs it; false if there is none.
    pub fn step(&self) -> bool {
        self.step_until(u64::MAX)
    }

    /// Runs all tasks that are due within `micros` from now, and goes to the end of that time.
    pub fn run_for(&self, micros: u64) {
        let end = self.monotonic_micros().saturating_add(micros);
        while self.step_until(end) {}
        self.state.lock().now = end;
    }

    /// Steps until `done` says so, or `micros` have passed; what `done` said last.
    pub fn run_until(&self, micros: u64, done: &mut dyn FnMut() -> bool) -> bool {
        let end = self.monotonic_micros().saturating_add(micros);
        while !done() {
            if !self.step_until(end) {
                self.state.lock().now = end;
                return done();
            }
        }
        true
    }

    /// Tasks that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.state.lock().queue.len()
    }

    /// A hash of all that happened so far: two runs of one seed have the same.
    #[must_use]
    pub fn trace(&self) -> u64 {
        self.state.lock().trace
    }

    /// Adds something that happened to the trace.
    pub fn note(&self, what: u64) {
        self.state.lock().note(what);
    }

    /// A number below `n` from the seed; 0 if `n` is 0.
    pub fn below(&self, n: u64) -> u64 {
        self.state.lock().rng.below(n)
    }

    fn step_until(&self, end: u64) -> bool {
        let task = {
            let mut state = self.state.lock();
            let Some(entry) = state.queue.first_entry() else { return false };
            let (at, tie, timer) = *entry.key();
            if at > end {
                return false;
            }
            let task = entry.remove();
            state.places.remove(&timer);
            state.now = at;
            state.note(at);
            state.note(tie);
            task
        };
        task();
        true
    }

    fn push(&self, micros: u64, task: Task) -> TimerId {
        let mut state = self.state.lock();
        state.timers += 1;
        let (timer, tie) = (TimerId(state.timers), state.rng.next_u64());
        let at = state.now.saturating_add(micros);
        state.queue.insert((at, tie, timer), task);
        state.places.insert(timer, (at, tie));
        timer
    }
}

impl State {
    fn note(&mut self, what: u64) {
        // One step of a multiplicative hash: order matters, and no two steps cancel.
        self.trace = (self.trace.rotate_left(5) ^ what).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

impl Clock for SimRuntime {
    fn monotonic_micros(&self) -> u64 {
        self.state.lock().now
    }

    fn wall_micros(&self) -> u64 {
        self.wall_at_start.saturating_add(self.monotonic_micros())
    }
}

impl Runtime for SimRuntime {
    fn after(&self, micros: u64, task: Task) -> TimerId {
        self.push(micros, task)
    }

    fn cancel(&self, timer: TimerId) {
        let dropped = {
            let mut state = self.state.lock();
            let place = state.places.remove(&timer);
            place.and_then(|(at, tie)| state.queue.remove(&(at, tie, timer)))
        };
        // Outside the lock: what a task holds may call back when it is dropped.
        drop(dropped);
    }

    fn run(&self, task: Task) {
        let micros = self.below(WORK_MICROS_MAX);
        self.push(micros, task);
    }
}

impl fmt::Debug for SimRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("SimRuntime")
            .field("now", &state.now)
            .field("waiting", &state.queue.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order_of(seed: u64) -> (Vec<u32>, u64) {
        let runtime = SimRuntime::new(seed);
        let seen = Arc::new(Mutex::new(Vec::new()));
        for number in 0..20 {
            let (seen, again) = (Arc::clone(&seen), Arc::clone(&runtime));
            let task = move || {
                seen.lock().push(number);
                let seen = Arc::clone(&seen);
                again.run(Box::new(move || seen.lock().push(100 + number)));
            };
            runtime.after(u64::from(number / 10) * 10, Box::new(task));
        }
        while runtime.step() {}
        let seen = seen.lock().clone();
        (seen, runtime.trace())
    }

    #[test]
    fn one_seed_is_one_run_and_ties_are_drawn() {
        assert_eq!(order_of(7), order_of(7));
        assert_ne!(order_of(7), order_of(8));
        assert_eq!(order_of(7).0.len(), 40);
    }

    #[test]
    fn time_stands_still_between_steps() {
        let runtime = SimRuntime::new(1);
        let ran = Arc::new(Mutex::new(0));
        for _ in 0..2 {
            let ran = Arc::clone(&ran);
            runtime.after(1000, Box::new(move || *ran.lock() += 1));
        }
        let never = runtime.after(500, Box::new(|| panic!("it was cancelled")));
        runtime.cancel(never);
        runtime.cancel(never);
        runtime.run_for(999);
        assert_eq!((*ran.lock(), runtime.monotonic_micros()), (0, 999));
        assert!(runtime.run_until(1, &mut || *ran.lock() == 1), "one of the two");
        assert!(!runtime.run_until(10, &mut || *ran.lock() == 3));
        assert_eq!((*ran.lock(), runtime.monotonic_micros(), runtime.waiting()), (2, 1010, 0));
    }
}
