//! Where background work runs: on threads, or step by step under the hand of a test.
//!
//! The engine hands over jobs and waits on events. It never starts a thread itself, so that with
//! [`ManualExecutor`] a whole database runs on the thread of the caller, in an order picked by a seed.

use base::sync::thread::JoinHandle;
use base::sync::{Condvar, Mutex, MutexGuard, thread};
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What is done first when several jobs wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Writers wait for it: flushes and fresh log segments.
    High,
    /// Compactions and clean-up.
    Low,
    /// Code of the user, such as a listener: nothing of the engine may wait for it, so it has a thread of its own.
    Aside,
}

/// A piece of background work.
pub struct Job {
    /// What it is, for logs and tests.
    pub name: &'static str,
    /// When it should run.
    pub priority: Priority,
    /// The work. Catches its own errors; a panic is caught by the engine around it.
    pub run: Box<dyn FnOnce() + Send>,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("name", &self.name).field("priority", &self.priority).finish()
    }
}

/// Work repeated at an interval; returns false to be called no more.
pub type Tick = Box<dyn FnMut() -> bool + Send>;

/// Runs jobs. Shared as `Arc<dyn Executor>`; one executor may serve one database.
pub trait Executor: fmt::Debug + Send + Sync + 'static {
    /// Takes a job; it runs later, elsewhere. After [`shutdown`](Self::shutdown) jobs are dropped unrun.
    fn submit(&self, job: Job);

    /// Calls `tick` every `interval`.
    fn every(&self, interval: Duration, tick: Tick);

    /// Called by a thread that waits for background work, and may hold locks: runs one waiting job, but none that is
    /// [`Priority::Aside`], on this thread if that is how this executor works, and says whether it did. Executors with
    /// threads return false.
    fn drive(&self) -> bool;

    /// Waits for running jobs, drops waiting ones, stops ticks and threads. Called on a thread that is not
    /// one of the executor's.
    fn shutdown(&self);
}

/// A fixed number of threads for jobs, of which one is kept free of [`Priority::Low`] work if there are
/// several, one more thread for ticks, and one for [`Priority::Aside`] once there is such a job.
pub struct ThreadExecutor {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    queue: Mutex<Queue>,
    /// Signalled when there may be something to do for a worker.
    changed: Condvar,
    /// Signalled when there may be something to do for the thread aside.
    aside: Condvar,
    /// Signalled at shutdown. Ticks wait here: a wait that every job cut short would never see its interval end.
    ended: Condvar,
    low_max: usize,
}

#[derive(Default)]
struct Queue {
    high: VecDeque<Job>,
    low: VecDeque<Job>,
    aside: VecDeque<Job>,
    aside_started: bool,
    low_running: usize,
    stopped: bool,
}

impl Queue {
    fn take(&mut self, low_max: usize) -> Option<Job> {
        if let Some(job) = self.high.pop_front() {
            return Some(job);
        }
        if self.low_running == low_max {
            return None;
        }
        let job = self.low.pop_front()?;
        self.low_running += 1;
        Some(job)
    }
}

impl ThreadExecutor {
    /// Starts `threads` threads, at least one.
    #[must_use]
    pub fn new(threads: usize) -> Arc<Self> {
        let threads = threads.max(1);
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            changed: Condvar::new(),
            aside: Condvar::new(),
            ended: Condvar::new(),
            low_max: threads.saturating_sub(1).max(1),
        });
        let executor = Arc::new(ThreadExecutor { shared, threads: Mutex::default() });
        for i in 0..threads {
            let shared = Arc::clone(&executor.shared);
            executor.spawn(&format!("esker-{i}"), move || work(&shared));
        }
        executor
    }

    fn spawn(&self, name: &str, run: impl FnOnce() + Send + 'static) {
        // Without its threads a database could neither flush nor close; a process that cannot
        // start one is refused when the first write waits, not here.
        if let Ok(handle) = thread::spawn(name, run) {
            self.threads.lock().push(handle);
        }
    }
}

fn work(shared: &Shared) {
    let mut queue = shared.queue.lock();
    loop {
        if queue.stopped {
            return;
        }
        let Some(job) = queue.take(shared.low_max) else {
            shared.changed.wait(&mut queue);
            continue;
        };
        let priority = job.priority;
        MutexGuard::unlocked(&mut queue, || (job.run)());
        if priority == Priority::Low {
            queue.low_running -= 1;
            shared.changed.notify_one();
        }
    }
}

fn work_aside(shared: &Shared) {
    let mut queue = shared.queue.lock();
    while !queue.stopped {
        match queue.aside.pop_front() {
            Some(job) => MutexGuard::unlocked(&mut queue, || (job.run)()),
            None => shared.aside.wait(&mut queue),
        }
    }
}

impl ThreadExecutor {
    fn submit_aside(&self, mut queue: MutexGuard<'_, Queue>, job: Job) {
        queue.aside.push_back(job);
        let start = !std::mem::replace(&mut queue.aside_started, true);
        drop(queue);
        if start {
            let shared = Arc::clone(&self.shared);
            self.spawn("esker-aside", move || work_aside(&shared));
        }
        self.shared.aside.notify_one();
    }
}

impl Executor for ThreadExecutor {
    fn submit(&self, job: Job) {
        let mut queue = self.shared.queue.lock();
        if queue.stopped {
            return;
        }
        match job.priority {
            Priority::High => queue.high.push_back(job),
            Priority::Low => queue.low.push_back(job),
            Priority::Aside => return self.submit_aside(queue, job),
        }
        // A worker may be woken for a job that it may not take, so all are.
        self.shared.changed.notify_all();
    }

    fn every(&self, interval: Duration, mut tick: Tick) {
        let shared = Arc::clone(&self.shared);
        self.spawn("esker-tick", move || {
            let mut queue = shared.queue.lock();
            while !queue.stopped {
                shared.ended.wait_while_for(&mut queue, |queue| !queue.stopped, interval);
                if !queue.stopped && !MutexGuard::unlocked(&mut queue, &mut tick) {
                    return;
                }
            }
        });
    }

    fn drive(&self) -> bool {
        false
    }

    fn shutdown(&self) {
        let dropped = {
            let mut queue = self.shared.queue.lock();
            queue.stopped = true;
            self.shared.changed.notify_all();
            self.shared.aside.notify_all();
            self.shared.ended.notify_all();
            let queue = &mut *queue;
            [&mut queue.high, &mut queue.low, &mut queue.aside].map(std::mem::take)
        };
        drop(dropped);
        for thread in std::mem::take(&mut *self.threads.lock()) {
            // The engine catches panics inside jobs, so there is none to pass on.
            drop(thread.join());
        }
    }
}

impl fmt::Debug for ThreadExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadExecutor").field("threads", &self.threads.lock().len()).finish()
    }
}

/// Runs nothing by itself: a test steps through the jobs by hand, and a caller that has to wait runs them.
#[derive(Debug, Default)]
pub struct ManualExecutor {
    queue: Mutex<Vec<Job>>,
    ticks: Mutex<Ticks>,
    stopped: Mutex<bool>,
}

#[derive(Default)]
struct Ticks(Vec<Tick>);

impl fmt::Debug for Ticks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ticks", self.0.len())
    }
}

impl ManualExecutor {
    /// An executor without jobs.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Names of the waiting jobs, in the order of their submission.
    #[must_use]
    pub fn waiting(&self) -> Vec<&'static str> {
        self.queue.lock().iter().map(|job| job.name).collect()
    }

    /// Runs the waiting job number `index` on this thread; false if there is none.
    pub fn step(&self, index: usize) -> bool {
        let job = {
            let mut queue = self.queue.lock();
            if index >= queue.len() {
                return false;
            }
            queue.remove(index)
        };
        (job.run)();
        true
    }

    /// Runs waiting jobs, also those they submit, until none is left.
    pub fn run_all(&self) {
        while self.step(0) {}
    }

    /// Lets one interval pass: calls every tick once.
    pub fn tick(&self) {
        let mut ticks = std::mem::take(&mut self.ticks.lock().0);
        ticks.retain_mut(|tick| tick());
        self.ticks.lock().0.append(&mut ticks);
    }
}

impl Executor for ManualExecutor {
    fn submit(&self, job: Job) {
        if !*self.stopped.lock() {
            self.queue.lock().push(job);
        }
    }

    fn every(&self, _interval: Duration, tick: Tick) {
        self.ticks.lock().0.push(tick);
    }

    fn drive(&self) -> bool {
        let next = {
            let queue = self.queue.lock();
            let of = |priority| queue.iter().position(|job| job.priority == priority);
            of(Priority::High).or_else(|| of(Priority::Low))
        };
        next.is_some_and(|index| self.step(index))
    }

    fn shutdown(&self) {
        *self.stopped.lock() = true;
        drop(std::mem::take(&mut *self.queue.lock()));
        drop(std::mem::take(&mut self.ticks.lock().0));
    }
}
