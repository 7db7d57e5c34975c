//! Panics as values: quiet, and with the place they came from.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

thread_local! {
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// A panic with this message is one of the test: it is no cause.
pub(crate) const ON_PURPOSE: &str = "a panic on purpose";

/// Panics of threads inside [`caught`] are noted instead of printed; all others go where they went.
fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !IS_QUIET.get() {
                return before(info);
            }
            let payload = info.payload();
            let text = payload.downcast_ref::<&str>().map(ToString::to_string);
            let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
            if text.as_deref() == Some(ON_PURPOSE) {
                return;
            }
            let place = info.location().map(|at| format!(" ({}:{})", at.file(), at.line()));
            let text = format!("{}{}", text.unwrap_or_default(), place.unwrap_or_default());
            // The first of several is the cause.
            LAST.with_borrow_mut(|last| *last = last.take().or(Some(text)));
        }));
    });
}

/// Runs `body`.
///
/// # Errors
/// The message and place of its first panic.
pub(crate) fn caught<T>(body: impl FnOnce() -> T) -> Result<T, String> {
    install();
    let was = IS_QUIET.replace(true);
    LAST.take();
    let result = catch_unwind(AssertUnwindSafe(body));
    IS_QUIET.set(was);
    result.map_err(|_| format!("panic: {}", LAST.take().unwrap_or_default()))
}
