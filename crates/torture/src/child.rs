//! Programs of their own, run to their end or to a limit.

use crate::pool::beat;
use std::io::{Read, Seek};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// With success.
    Passed,
    /// Without.
    Failed,
    /// By a signal: it aborted.
    Aborted,
    /// Not by itself: it was killed at its limit.
    Hung,
}

/// How a program ended, and what it said.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) end: End,
    pub(crate) text: String,
}

impl Ran {
    /// The last lines of what it said.
    pub(crate) fn tail(&self) -> String {
        let lines: Vec<&str> = self.text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }
}

/// Runs `command` for at most `limit`; `place` is what the watch of the pool is told meanwhile.
///
/// # Errors
/// If it cannot be started.
pub(crate) fn run(command: &mut Command, limit: Duration, place: &str) -> Result<Ran, String> {
    let shown = |e: std::io::Error| format!("{}: {e}", command_name(place));
    let mut said = tempfile::tempfile().map_err(shown)?;
    let (out, err) = (said.try_clone().map_err(shown)?, said.try_clone().map_err(shown)?);
    command.stdin(Stdio::null()).stdout(out).stderr(err);
    let mut child = command.spawn().map_err(shown)?;
    let start = now();
    let end = loop {
        beat(|| place.into());
        if let Some(status) = child.try_wait().map_err(shown)? {
            break match status.code() {
                Some(0) => End::Passed,
                Some(_) => End::Failed,
                None => End::Aborted,
            };
        }
        if start.elapsed() > limit {
            child.kill().map_err(shown)?;
            child.wait().map_err(shown)?;
            break End::Hung;
        }
        pause();
    };
    let mut bytes = Vec::new();
    said.rewind().and_then(|()| said.read_to_end(&mut bytes)).map_err(shown)?;
    Ok(Ran { end, text: String::from_utf8_lossy(&bytes).into_owned() })
}

fn command_name(place: &str) -> String {
    format!("{place} cannot be run")
}

#[expect(clippy::disallowed_methods, reason = "times of programs, for people")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "a program of its own has no event to wait on")]
fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}
