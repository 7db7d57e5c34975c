//! Calls under way on threads of the user that change files: a close waits for them.
//!
//! Whoever closes a database may open it again at once. By then no thread may go on to write the manifest, or to make
//! or remove a file by its name, whose number the next open may have given away.

use crate::engine::Engine;
use base::Result;
use base::sync::Mutex;
use std::sync::Arc;

/// How many there are.
#[derive(Debug, Default)]
pub(crate) struct Calls(Mutex<u64>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub(crate) struct Call<'a>(&'a Engine);

impl Engine {
    /// Begins a call that changes files.
    ///
    /// # Errors
    /// [`Error::Closed`](base::Error::Closed).
    pub(crate) fn begin_call(&self) -> Result<Call<'_>> {
        let mut calls = self.calls.0.lock();
        // Under the lock: a close that has marked the database sees this call, or this call sees the mark.
        self.health.check_open()?;
        *calls += 1;
        Ok(Call(self))
    }

    /// Waits for the end of all calls; the database is marked as closed, so no more begin.
    pub(crate) fn wait_for_calls(self: &Arc<Self>) {
        self.event.wait(&*self.executor, || (*self.calls.0.lock() == 0).then_some(()));
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        *self.0.calls.0.lock() -= 1;
        if self.0.is_closing() {
            self.0.event.notify();
        }
    }
}
