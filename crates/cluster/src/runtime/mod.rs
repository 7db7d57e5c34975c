//! The seam for time and for work that may block.
//!
//! A node never sleeps and never waits: it asks the runtime to call it later. [`SimRuntime`] keeps all of it in one queue on virtual
//! time, stepped by a test, so that one seed replays one run. [`ThreadRuntime`] has threads.

mod sim;
mod thread;

pub use sim::SimRuntime;
pub use thread::ThreadRuntime;
pub(crate) use thread::processors;

use base::clock::Clock;
use std::fmt::Debug;

/// Something to do, once.
pub type Task = Box<dyn FnOnce() + Send>;

/// A timer that was set. Not reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerId(u64);

/// Clocks, timers, and work elsewhere. Shared as `Arc<dyn Runtime>`.
///
/// Tasks may run on any thread and side by side, unless the runtime says otherwise; never inside the call that hands them over.
pub trait Runtime: Clock + Debug {
    /// Runs `task` once, when `micros` have passed on the monotonic clock, or a little later.
    fn after(&self, micros: u64, task: Task) -> TimerId;

    /// Drops the task of `timer` if it has not begun yet.
    fn cancel(&self, timer: TimerId);

    /// Runs `task` soon, where it may block on a disk without holding timers or messages up.
    fn run(&self, task: Task);

    /// The same for work that nobody waits for and that there may be much of, such as moves and repairs: however much that is, other
    /// tasks find a thread. Unless the runtime says otherwise that is [`run`](Self::run).
    fn run_in_background(&self, task: Task) {
        self.run(task);
    }
}
