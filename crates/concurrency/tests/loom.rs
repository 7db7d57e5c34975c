//! Small pieces of the real code under every schedule with at most `LOOM_MAX_PREEMPTIONS` (default 2) preemptions.
//!
//! Each model prints how many executions it took to run to completion.
#![cfg(loom)]

use base::sync::{Mutex, atomic, thread};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

mod models {
    mod commits;
    mod engine;
    mod log;
    mod memtable;
    mod pipeline;
}

/// Runs `body` in every schedule, on a thread with a stack for real code.
fn check(name: &str, preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    builder.max_branches = 20_000;
    let (body, count) = (Arc::new(body), Arc::new(AtomicU64::new(0)));
    let executions = Arc::clone(&count);
    builder.check(move || {
        executions.fetch_add(1, Ordering::Relaxed);
        let body = Arc::clone(&body);
        spawn(move || body()).join().expect("the model");
    });
    println!("{name}: {} executions", count.load(Ordering::Relaxed));
}

fn spawn(run: impl FnOnce() + Send + 'static) -> thread::JoinHandle<()> {
    thread::spawn("model", run).expect("a thread")
}

/// A file system in memory whose segments have a point before and behind each sync at which others go on, and which
/// may fail their syncs.
mod stepped {
    use super::*;
    use std::io;
    use std::path::Path;
    use vfs::{Fs, Layer, MemFs, SegmentFile};

    #[derive(Debug, Clone)]
    pub(crate) struct Stepped {
        pub(crate) inner: MemFs,
        pub(crate) step: Arc<atomic::AtomicU64>,
        /// Syncs of segments that still fail.
        pub(crate) failures: Arc<AtomicU64>,
    }

    impl Stepped {
        pub(crate) fn new() -> Stepped {
            let step = Arc::new(atomic::AtomicU64::new(0));
            Stepped { inner: MemFs::new(), step, failures: Arc::default() }
        }
    }

    #[derive(Debug)]
    struct Segment {
        fs: Stepped,
        inner: Arc<dyn SegmentFile>,
    }

    impl SegmentFile for Segment {
        fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
            self.inner.write_at(offset, bytes)
        }

        fn sync(&self) -> io::Result<()> {
            self.fs.step.fetch_add(1, Ordering::Relaxed);
            if self.fs.failures.load(Ordering::Relaxed) > 0 {
                self.fs.failures.fetch_sub(1, Ordering::Relaxed);
                return Err(io::Error::other("planned"));
            }
            self.inner.sync()
        }

        fn len(&self) -> u64 {
            self.inner.len()
        }
    }

    impl Layer for Stepped {
        fn below(&self) -> &dyn Fs {
            &self.inner
        }
        fn create_segment(&self, path: &Path, len: u64) -> io::Result<Arc<dyn SegmentFile>> {
            let inner = self.inner.create_segment(path, len)?;
            Ok(Arc::new(Segment { fs: self.clone(), inner }))
        }
        fn open_segment(&self, path: &Path) -> io::Result<Arc<dyn SegmentFile>> {
            let inner = self.inner.open_segment(path)?;
            Ok(Arc::new(Segment { fs: self.clone(), inner }))
        }
    }
}
