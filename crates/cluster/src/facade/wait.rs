//! From callbacks to answers: for a thread that waits, and for a task.

use crate::transport::Failure;
use base::sync::{Condvar, Mutex};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Beyond its own time a call is waited for so much longer, in microseconds; then its node is gone.
const SLACK_MICROS: u64 = 1_000_000;

struct Slot<T> {
    state: Mutex<State<T>>,
    told: Condvar,
}

struct State<T> {
    value: Option<T>,
    /// Who was to tell is gone.
    dropped: bool,
    waker: Option<Waker>,
}

/// An answer that comes later: [waited for](Self::wait) by a thread, or awaited by a task of any runtime.
#[must_use = "nobody sees the answer otherwise"]
pub struct Pending<T> {
    slot: Arc<Slot<T>>,
    patience_micros: u64,
}

/// Tells the answer.
pub(crate) struct Teller<T> {
    slot: Arc<Slot<T>>,
}

/// An answer that is told within `timeout_micros`, and who tells it.
pub(crate) fn pending<T>(timeout_micros: u64) -> (Teller<T>, Pending<T>) {
    let state = State { value: None, dropped: false, waker: None };
    let slot = Arc::new(Slot { state: Mutex::new(state), told: Condvar::new() });
    let patience_micros = timeout_micros.saturating_add(SLACK_MICROS);
    (Teller { slot: Arc::clone(&slot) }, Pending { slot, patience_micros })
}

impl<T> Teller<T> {
    pub(crate) fn tell(self, value: T) {
        self.slot.state.lock().value = Some(value);
    }

    /// False once whoever asked has gone, having waited long enough: nobody is to be told.
    pub(crate) fn is_awaited(&self) -> bool {
        Arc::strong_count(&self.slot) > 1
    }
}

impl<T> Drop for Teller<T> {
    fn drop(&mut self) {
        let waker = {
            let mut state = self.slot.state.lock();
            state.dropped = true;
            state.waker.take()
        };
        self.slot.told.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Pending<T> {
    /// Blocks until the answer is there.
    ///
    /// # Errors
    /// [`Failure::Closed`] if the node ended meanwhile, [`Failure::Timeout`] if it does not say anything: it is not known what became
    /// of the call.
    pub fn wait(self) -> Result<T, Failure> {
        let mut state = self.slot.state.lock();
        while state.value.is_none() && !state.dropped {
            let patience = Duration::from_micros(self.patience_micros);
            let timed_out = self.slot.told.wait_for(&mut state, patience).timed_out();
            if timed_out && state.value.is_none() {
                return Err(Failure::Timeout);
            }
        }
        state.value.take().ok_or(Failure::Closed)
    }
}

impl<T> Future for Pending<T> {
    type Output = Result<T, Failure>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.slot.state.lock();
        match state.value.take() {
            Some(value) => Poll::Ready(Ok(value)),
            None if state.dropped => Poll::Ready(Err(Failure::Closed)),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl<T> std::fmt::Debug for Pending<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pending")
    }
}
