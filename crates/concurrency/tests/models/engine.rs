//! Version references, shutdown against jobs, waiting for events: the real tree, graveyard, executor and event.

use crate::{Mutex, check, spawn};
use lsm::executor::{Executor, Job, Priority, ThreadExecutor};
use lsm::models::{Events, Tables};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[test]
fn a_reader_finds_the_files_of_its_version() {
    check("engine: version reference", 3, || {
        let tables = Arc::new(Tables::new());
        let disk = Arc::new(Mutex::new(BTreeSet::from([1, 2, 3])));
        let compactor = {
            let (tables, disk) = (Arc::clone(&tables), Arc::clone(&disk));
            spawn(move || {
                for old in [1, 2] {
                    tables.replace(old, old + 1);
                    for file in tables.purge() {
                        assert!(disk.lock().remove(&file), "removed twice");
                    }
                }
            })
        };
        let held = tables.hold();
        for file in held.files() {
            assert!(disk.lock().contains(&file), "table {file} is gone under its reader");
        }
        drop(held);
        compactor.join().expect("the compactor");
        for file in tables.purge() {
            disk.lock().remove(&file);
        }
        assert_eq!(*disk.lock(), BTreeSet::from([3]), "what nobody needs is removed");
    });
}

/// Counts how a job ended: by running, or by being dropped.
struct Ticket {
    ended: Arc<AtomicU64>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.ended.fetch_add(1, Ordering::SeqCst);
    }
}

fn job(running: &Arc<Mutex<bool>>, ended: &Arc<AtomicU64>, priority: Priority) -> Job {
    let (running, ticket) = (Arc::clone(running), Ticket { ended: Arc::clone(ended) });
    let run = Box::new(move || {
        let _ticket = ticket;
        *running.lock() = true;
        *running.lock() = false;
    });
    Job { name: "job", priority, run }
}

#[test]
fn a_shutdown_beside_jobs() {
    check("engine: shutdown against a job", 3, || {
        let executor = ThreadExecutor::new(1);
        let (running, ended) = (Arc::new(Mutex::new(false)), Arc::new(AtomicU64::new(0)));
        let submitter = {
            let (executor, running, ended) =
                (Arc::clone(&executor), Arc::clone(&running), Arc::clone(&ended));
            spawn(move || {
                executor.submit(job(&running, &ended, Priority::Low));
                executor.submit(job(&running, &ended, Priority::High));
            })
        };
        executor.shutdown();
        assert!(!*running.lock(), "a job runs after the shutdown");
        submitter.join().expect("the submitter");
        assert_eq!(ended.load(Ordering::SeqCst), 2, "every job ends once");
    });
}

#[test]
fn every_job_runs_without_a_shutdown() {
    check("engine: no lost wake-up of a worker", 3, || {
        let executor = ThreadExecutor::new(1);
        let (running, ended) = (Arc::new(Mutex::new(false)), Arc::new(AtomicU64::new(0)));
        let events = Arc::new(Events::default());
        let done = Arc::new(Mutex::new(0));
        for priority in [Priority::Low, Priority::High] {
            let mut job = job(&running, &ended, priority);
            let (events, done, run) = (Arc::clone(&events), Arc::clone(&done), job.run);
            job.run = Box::new(move || {
                run();
                *done.lock() += 1;
                events.notify();
            });
            executor.submit(job);
        }
        // Nobody shuts down before both have run: if a wake-up of worker or waiter is lost, all wait for ever.
        events.wait(&*executor, || (*done.lock() == 2).then_some(()));
        executor.shutdown();
    });
}
