//! The reserve: disk space given up when the disk is full, so that flushes and compactions can go on and free more.

use crate::engine::Engine;
use crate::executor::Priority;
use base::sync::Mutex;
use base::{FileName, IoContext, Result};
use std::sync::Arc;

/// Free space, in reserves, below which none is made: it would only bring the full disk nearer.
const FREE_MIN: u64 = 16;

/// Whether the reserve stands.
#[derive(Debug, Default)]
pub(crate) struct Reserve(Mutex<State>);

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Missing,
    Queued,
    Standing,
}

impl Engine {
    /// Asks for the reserve, if it is missing, there is room, and the log holds what may have to be flushed.
    pub(crate) fn queue_reserve(self: &Arc<Self>) {
        let mut state = self.reserve.0.lock();
        let wanted = self.options.disk_reserve_bytes > 0
            && !self.segments.is_blank()
            && self.health.retrying().is_none();
        if *state != State::Missing || !wanted {
            return;
        }
        *state = State::Queued;
        drop(state);
        self.submit("disk reserve", Priority::Low, |engine| {
            let made = engine.make_reserve().unwrap_or(false);
            *engine.reserve.0.lock() = if made { State::Standing } else { State::Missing };
        });
    }

    /// True if it stands now. Not synced: it is space, not data.
    fn make_reserve(&self) -> Result<bool> {
        let (path, len) = (FileName::Reserve.in_dir(&self.dir), self.options.disk_reserve_bytes);
        if self.fs.metadata(&path).is_ok_and(|found| found.len == len) {
            return Ok(true);
        }
        let free = self.fs.free_space(&self.dir).context("inspect", &self.dir)?;
        if free / FREE_MIN < len {
            base::probe!("disk too full for a reserve");
            return Ok(false);
        }
        let made = self.fs.create_segment(&path, len).context("create", &path);
        if made.is_err() {
            drop(self.fs.remove_file(&path));
        }
        made.map(|_| true)
    }

    /// Removes it because there is nothing to flush: it is asked for again by the next write.
    pub(crate) fn lay_reserve_down(&self) {
        let mut state = self.reserve.0.lock();
        if *state == State::Standing {
            drop(self.fs.remove_file(&FileName::Reserve.in_dir(&self.dir)));
            *state = State::Missing;
        }
    }

    /// Removes it, whoever made it: the database is closed, and was written to.
    pub(crate) fn remove_reserve(&self) {
        if self.options.disk_reserve_bytes > 0 && self.segments.has_begun() {
            drop(self.fs.remove_file(&FileName::Reserve.in_dir(&self.dir)));
        }
    }

    /// Gives the space back to the file system. It is asked for again once nothing is failing.
    pub(crate) fn release_reserve(&self) {
        let mut state = self.reserve.0.lock();
        if *state == State::Standing {
            base::probe!("disk reserve given up");
            drop(self.fs.remove_file(&FileName::Reserve.in_dir(&self.dir)));
            *state = State::Missing;
        }
    }
}
