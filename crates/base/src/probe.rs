//! Probes: states that tests must reach, each marked by a line `probe!("name")` where it is entered.
//!
//! Without the feature `probes` a probe is nothing but a check, at compile time, that its name is in [`ALL`]. With
//! it each one counts how often it was passed, in a static of its own: no lock, no allocation. A run of tests then
//! asks [`never_hit`] what it has not seen. If the environment variable `ESKER_PROBES` names a file, the first pass
//! of each probe in each process is noted there, so that the test binaries of many crates add up.
//!
//! # Source
//! FoundationDB's `TEST` and `CODE_PROBE` macros; SQLite's `testcase()`.

mod names;

pub use names::ALL;

/// Marks a state that tests must reach. The name must be in [`probe::ALL`](crate::probe::ALL), and used once.
#[cfg(feature = "probes")]
#[macro_export]
macro_rules! probe {
    ($name:literal) => {
        $crate::probe::hit(const { $crate::probe::place($name) })
    };
}

/// Marks a state that tests must reach. The name must be in [`probe::ALL`](crate::probe::ALL), and used once.
#[cfg(not(feature = "probes"))]
#[macro_export]
macro_rules! probe {
    ($name:literal) => {{
        const _: usize = $crate::probe::place($name);
    }};
}

/// The index of `name` in [`ALL`].
///
/// # Panics
/// If it is not there; at compile time, where [`probe!`](crate::probe!) calls it.
#[must_use]
pub const fn place(name: &str) -> usize {
    let mut at = 0;
    while at < ALL.len() {
        if same(ALL[at].as_bytes(), name.as_bytes()) {
            return at;
        }
        at += 1;
    }
    panic!("a probe whose name is not in base::probe::ALL")
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    let mut at = 0;
    while at < a.len() && at < b.len() && a[at] == b[at] {
        at += 1;
    }
    at == a.len() && at == b.len()
}

#[cfg(feature = "probes")]
mod counts {
    use super::ALL;
    use std::sync::atomic::{AtomicU64, Ordering};

    static HITS: [AtomicU64; ALL.len()] = [const { AtomicU64::new(0) }; ALL.len()];

    /// Counts a pass of the probe at index `at` of [`ALL`].
    #[inline]
    pub fn hit(at: usize) {
        if HITS[at].fetch_add(1, Ordering::Relaxed) == 0 {
            note(ALL[at]);
        }
    }

    /// How often each probe was passed since the start of the process, in the order of [`ALL`].
    #[must_use]
    pub fn hits() -> Vec<(&'static str, u64)> {
        ALL.iter().zip(&HITS).map(|(name, hits)| (*name, hits.load(Ordering::Relaxed))).collect()
    }

    #[cold]
    #[expect(clippy::disallowed_methods, reason = "for tests; beside the store, not of it")]
    fn note(name: &str) {
        use std::io::Write;
        let Some(path) = std::env::var_os("ESKER_PROBES") else { return };
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        // Only a report is lost.
        drop(file.and_then(|mut file| file.write_all(format!("{name}\n").as_bytes())));
    }
}

#[cfg(feature = "probes")]
pub use counts::{hit, hits};

/// The probes that were not passed since the start of the process; all of them without the feature `probes`.
#[must_use]
pub fn never_hit() -> Vec<&'static str> {
    #[cfg(feature = "probes")]
    return hits().into_iter().filter(|(_, hits)| *hits == 0).map(|(name, _)| name).collect();
    #[cfg(not(feature = "probes"))]
    ALL.to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_ascend_and_are_found() {
        assert!(ALL.is_sorted_by(|a, b| a < b), "sorted, each once");
        assert!(ALL.iter().enumerate().all(|(at, name)| place(name) == at));
        assert!(ALL.len() >= 60);
    }

    #[cfg(feature = "probes")]
    #[test]
    fn passes_are_counted() {
        let count = |name| hits().iter().find(|(n, _)| *n == name).map(|(_, hits)| *hits);
        let before = count("merge turned round");
        hit(place("merge turned round"));
        assert!(count("merge turned round") > before);
        assert!(!never_hit().contains(&"merge turned round"));
    }
}
