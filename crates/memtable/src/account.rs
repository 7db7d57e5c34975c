//! Bytes held, counted by those who hold them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The sum of all live [`Charge`]s and of what was added for good.
#[derive(Debug, Default)]
pub(crate) struct Account(AtomicUsize);

impl Account {
    pub(crate) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts bytes that are held as long as the account is read.
    pub(crate) fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Bytes that leave the account when this is dropped, that is with the memory it stands beside.
#[derive(Debug)]
pub(crate) struct Charge {
    account: Arc<Account>,
    bytes: usize,
}

impl Charge {
    pub(crate) fn new(account: &Arc<Account>, bytes: usize) -> Charge {
        account.add(bytes);
        Charge { account: Arc::clone(account), bytes }
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Bytes of a `T` inside an `Arc`.
pub(crate) const fn shared_bytes<T>() -> usize {
    size_of::<T>() + 2 * size_of::<usize>()
}
