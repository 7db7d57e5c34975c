//! Runnable examples of Esker.
