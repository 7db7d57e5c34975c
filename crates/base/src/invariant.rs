//! Checks of what must always hold.

/// Panics with a message if `condition` is false, in debug builds and with the feature `invariants`.
///
/// Cheap enough to sit in hot paths: a release build without the feature compiles it away.
#[macro_export]
macro_rules! invariant {
    ($condition:expr, $($message:tt)+) => {
        if $crate::INVARIANTS {
            assert!($condition, $($message)+);
        }
    };
}

/// True where [`invariant!`] is compiled in.
pub const INVARIANTS: bool = cfg!(any(debug_assertions, feature = "invariants"));
