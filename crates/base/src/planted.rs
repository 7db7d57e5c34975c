//! Planted bugs: mistakes that real stores made, put back on purpose to see whether the tests notice.
//!
//! A place that guards against one asks [`is`](is()) whether the guard is to be left out. In an ordinary build the
//! answer is the constant `false`, and the mistake is not in the program. A build with `--cfg planted` holds
//! all of them; the environment variable `ESKER_PLANTED` names the one that is alive, so that one build serves all.
//! `docs/planted.md` lists them; `--cfg planted` does not compile without debug assertions, hence in no release.

#[cfg(all(planted, not(debug_assertions)))]
compile_error!("planted bugs are for test builds with debug assertions; drop --cfg planted");

/// True if bug `id` is alive: never, but in a build with `--cfg planted`.
#[cfg(not(planted))]
#[inline(always)]
#[must_use]
pub const fn is(_id: u32) -> bool {
    false
}

/// True if bug `id` is alive: the one that the environment variable `ESKER_PLANTED` names.
#[cfg(planted)]
#[inline]
#[must_use]
pub fn is(id: u32) -> bool {
    static ALIVE: std::sync::LazyLock<u32> = std::sync::LazyLock::new(|| {
        std::env::var("ESKER_PLANTED").ok().and_then(|id| id.parse().ok()).unwrap_or(0)
    });
    *ALIVE == id
}

#[cfg(test)]
mod tests {
    #[test]
    fn nothing_is_planted_unless_asked_for() {
        assert!(!super::is(u32::MAX));
    }
}
