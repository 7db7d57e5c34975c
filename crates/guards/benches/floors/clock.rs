//! A table of times. Criterion's intervals would be worth little for steps of nanoseconds, whose loop is ours.

use base::clock::{Clock, SystemClock};

/// Rounds of one step.
const ROUNDS: usize = 9;
/// A round is at least so long.
const ROUND_MICROS: u64 = 20_000;

pub(crate) struct Table {
    clock: SystemClock,
    word: String,
}

impl Table {
    /// Of the steps whose name holds `word`.
    pub(crate) fn new(word: String) -> Table {
        println!("{:44} {:>10} {:>10}", "step", "median ns", "least ns");
        Table { clock: SystemClock::new(), word }
    }

    pub(crate) fn wants(&self, name: &str) -> bool {
        name.contains(&self.word)
    }

    /// Prints what one call of `step` takes.
    pub(crate) fn step(&mut self, name: &str, mut step: impl FnMut()) {
        if !self.wants(name) {
            return;
        }
        let mut times = 1;
        while self.micros(times, &mut step) < ROUND_MICROS {
            times *= 2;
        }
        let rounds = (0..ROUNDS).map(|_| self.micros(times, &mut step)).collect();
        self.print(name, rounds, times);
    }

    /// Prints what one of the `pairs` takes that `run` handles. What `run` returns goes before the clock starts again.
    pub(crate) fn pairs<T>(&mut self, name: &str, pairs: u64, mut run: impl FnMut() -> Timed<T>) {
        if !self.wants(name) {
            return;
        }
        let rounds = (0..ROUNDS).map(|_| run().micros).collect();
        self.print(name, rounds, pairs);
    }

    /// Runs something under the clock.
    pub(crate) fn timed<T>(clock: &SystemClock, run: impl FnOnce() -> T) -> Timed<T> {
        let start = clock.monotonic_micros();
        let result = run();
        Timed { micros: clock.monotonic_micros() - start, _result: result }
    }

    fn micros(&self, times: u64, step: &mut impl FnMut()) -> u64 {
        let start = self.clock.monotonic_micros();
        (0..times).for_each(|_| step());
        self.clock.monotonic_micros() - start
    }

    fn print(&self, name: &str, mut micros: Vec<u64>, times: u64) {
        micros.sort_unstable();
        let each = |micros: u64| micros as f64 * 1e3 / times as f64;
        println!("{name:44} {:>10.1} {:>10.1}", each(micros[ROUNDS / 2]), each(micros[0]));
    }
}

/// How long something took, and what came of it.
pub(crate) struct Timed<T> {
    micros: u64,
    _result: T,
}
