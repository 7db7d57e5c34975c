//! States of the engine that runs reach, in this process and in those that it starts.

use std::process::Command;

/// States of the engine that runs should reach, and how often those of this process did, and at least how often those of
/// the processes it started; empty without the feature `probes`.
#[must_use]
pub fn probes() -> Vec<(&'static str, u64)> {
    #[cfg(feature = "probes")]
    return counted::all();
    #[cfg(not(feature = "probes"))]
    Vec::new()
}

/// Lets `command` note what it reaches.
pub(crate) fn noted(command: &mut Command) -> &mut Command {
    #[cfg(feature = "probes")]
    counted::note(command);
    command
}

#[cfg(feature = "probes")]
mod counted {
    use std::process::Command;
    use std::sync::OnceLock;
    use tempfile::TempPath;

    /// A line for each state, from each process.
    static NOTES: OnceLock<Option<TempPath>> = OnceLock::new();

    pub(super) fn note(command: &mut Command) {
        let file = || Some(tempfile::NamedTempFile::new().ok()?.into_temp_path());
        if let Some(path) = NOTES.get_or_init(file) {
            command.env("ESKER_PROBES", path);
        }
    }

    #[expect(clippy::disallowed_methods, reason = "notes of programs, not a store")]
    pub(super) fn all() -> Vec<(&'static str, u64)> {
        let path = NOTES.get().and_then(Option::as_ref);
        let noted = path.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
        let count = |name: &str| noted.lines().filter(|line| *line == name).count() as u64;
        base::probe::hits().into_iter().map(|(name, hits)| (name, hits + count(name))).collect()
    }
}
