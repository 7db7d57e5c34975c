//! Real time and threads.

use super::{Runtime, Task, TimerId};
use base::clock::{Clock, SystemClock};
use base::sync::{Condvar, Mutex, thread};
use lsm::executor::{Executor, Job, Priority, ThreadExecutor};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// Longest wait of the timer thread when there is nothing to wait for.
const IDLE_MICROS: u64 = 3_600_000_000;

/// A runtime of threads: one sleeps until the next timer is due, the others run tasks. Dropping the last handle ends them; tasks
/// that have not begun are dropped then.
pub struct ThreadRuntime {
    shared: Arc<Shared>,
    executor: Arc<ThreadExecutor>,
    background: Arc<ThreadExecutor>,
    timer_thread: Option<thread::JoinHandle<()>>,
}

struct Shared {
    clock: SystemClock,
    timers: Mutex<Timers>,
    /// Signalled when the next timer may be an earlier one, or at the end.
    changed: Condvar,
}

#[derive(Default)]
struct Timers {
    queue: BTreeMap<(u64, TimerId), Task>,
    due: BTreeMap<TimerId, u64>,
    given: u64,
    stopped: bool,
}

/// Processors that this process may use, as the system tells; 2 if it does not.
pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

impl ThreadRuntime {
    /// A runtime that runs up to `threads` tasks side by side, at least two: one of them is kept free of work that blocks. Of what
    /// runs in the background as many run beside them as half of the processors, at least one.
    #[must_use]
    pub fn new(threads: usize) -> Arc<ThreadRuntime> {
        let shared = Arc::new(Shared {
            clock: SystemClock::new(),
            timers: Mutex::default(),
            changed: Condvar::new(),
        });
        let executor = ThreadExecutor::new(threads.max(2));
        let background = ThreadExecutor::new((processors() / 2).max(1));
        let (ours, theirs) = (Arc::clone(&shared), Arc::clone(&executor));
        // Without it no timer fires and every call runs into the caller's own patience; tasks still run.
        let timer_thread = thread::spawn("esker-timer", move || ours.fire(&theirs)).ok();
        Arc::new(ThreadRuntime { shared, executor, background, timer_thread })
    }
}

impl Shared {
    /// The timer thread: hands over what is due, sleeps until the next is.
    fn fire(&self, executor: &ThreadExecutor) {
        let mut timers = self.timers.lock();
        while !timers.stopped {
            let now = self.clock.monotonic_micros();
            let wait = match timers.queue.first_entry() {
                Some(entry) if entry.key().0 <= now => {
                    let timer = entry.key().1;
                    let task = entry.remove();
                    timers.due.remove(&timer);
                    executor.submit(job("timer", Priority::High, task));
                    continue;
                }
                Some(entry) => entry.key().0 - now,
                None => IDLE_MICROS,
            };
            self.changed.wait_for(&mut timers, Duration::from_micros(wait));
        }
    }
}

thread_local! {
    /// This thread belongs to a runtime.
    static IN_TASK: Cell<bool> = const { Cell::new(false) };
}

/// A task that panics takes nothing else with it.
fn job(name: &'static str, priority: Priority, task: Task) -> Job {
    let run = move || {
        IN_TASK.set(true);
        drop(catch_unwind(AssertUnwindSafe(task)));
    };
    Job { name, priority, run: Box::new(run) }
}

impl Clock for ThreadRuntime {
    fn monotonic_micros(&self) -> u64 {
        self.shared.clock.monotonic_micros()
    }

    fn wall_micros(&self) -> u64 {
        self.shared.clock.wall_micros()
    }
}

impl Runtime for ThreadRuntime {
    fn after(&self, micros: u64, task: Task) -> TimerId {
        let at = self.monotonic_micros().saturating_add(micros);
        let mut timers = self.shared.timers.lock();
        timers.given += 1;
        let timer = TimerId(timers.given);
        timers.queue.insert((at, timer), task);
        timers.due.insert(timer, at);
        self.shared.changed.notify_one();
        timer
    }

    fn cancel(&self, timer: TimerId) {
        let dropped = {
            let mut timers = self.shared.timers.lock();
            let at = timers.due.remove(&timer);
            at.and_then(|at| timers.queue.remove(&(at, timer)))
        };
        // Outside the lock: what a task holds may call back when it is dropped.
        drop(dropped);
    }

    fn run(&self, task: Task) {
        self.executor.submit(job("task", Priority::Low, task));
    }

    fn run_in_background(&self, task: Task) {
        self.background.submit(job("background", Priority::High, task));
    }
}

impl Drop for ThreadRuntime {
    fn drop(&mut self) {
        let dropped = {
            let mut timers = self.shared.timers.lock();
            timers.stopped = true;
            self.shared.changed.notify_one();
            std::mem::take(&mut timers.queue)
        };
        drop(dropped);
        let timer_thread = self.timer_thread.take();
        let executors = [Arc::clone(&self.executor), Arc::clone(&self.background)];
        let end = move || {
            // A task cannot panic it: tasks run elsewhere.
            drop(timer_thread.map(thread::JoinHandle::join));
            executors.iter().for_each(|executor| executor.shutdown());
        };
        if IN_TASK.get() {
            // A thread cannot wait for its own end. If there is no room for one more thread, the threads stay asleep.
            drop(thread::spawn("esker-end", end));
        } else {
            end();
        }
    }
}

impl fmt::Debug for ThreadRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadRuntime")
            .field("timers", &self.shared.timers.lock().queue.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn timers_fire_when_they_are_due_and_a_panic_ends_nothing() {
        let runtime = ThreadRuntime::new(2);
        let (sender, receiver) = mpsc::channel();
        let start = runtime.monotonic_micros();
        runtime.run(Box::new(|| panic!("a task that is wrong")));
        let never = runtime.after(20_000, Box::new(|| panic!("it was cancelled")));
        runtime.cancel(never);
        for millis in [60u64, 1, 30] {
            let sender = sender.clone();
            runtime.after(
                millis * 1000,
                Box::new(move || sender.send(millis).expect("it is awaited")),
            );
        }
        let fired: Vec<u64> = (0..3)
            .map(|_| {
                let millis = receiver.recv().expect("every timer fires");
                assert!(runtime.monotonic_micros() >= start + millis * 1000, "{millis} too early");
                millis
            })
            .collect();
        assert_eq!(fired.len(), 3);
        assert_eq!(fired.iter().sum::<u64>(), 91);
    }

    #[test]
    fn the_last_handle_may_go_in_a_task() {
        let runtime = ThreadRuntime::new(2);
        let (sender, receiver) = mpsc::channel();
        let last = Arc::clone(&runtime);
        runtime.run(Box::new(move || {
            // The test's handle is gone by now, or goes first: either end of it must come.
            drop(last);
            sender.send(()).expect("it is awaited");
        }));
        drop(runtime);
        receiver.recv().expect("it ended");
    }

    #[test]
    fn the_end_drops_what_waits() {
        let runtime = ThreadRuntime::new(1);
        let held = Arc::new(());
        let task = Arc::clone(&held);
        runtime.after(u64::MAX, Box::new(move || drop(task)));
        drop(runtime);
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
