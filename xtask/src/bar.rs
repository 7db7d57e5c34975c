//! Progress of a family: a bar on a terminal, a line now and then elsewhere.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use torture::Progress;

pub(crate) struct Bar {
    bar: ProgressBar,
    is_plain: bool,
    parts: AtomicU64,
    done: AtomicU64,
    checks: AtomicU64,
}

impl Bar {
    pub(crate) fn new() -> Bar {
        let is_plain = !std::io::stderr().is_terminal();
        let bar = if is_plain { ProgressBar::hidden() } else { ProgressBar::new(0) };
        let shape = "{prefix:>9} {wide_bar} {pos}/{len} {msg} {elapsed} eta {eta}";
        if let Ok(style) = ProgressStyle::with_template(shape) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(500));
        let zero = AtomicU64::default;
        Bar { bar, is_plain, parts: zero(), done: zero(), checks: zero() }
    }

    pub(crate) fn end(&self, family: &str, time: Duration, is_fine: bool) {
        self.bar.finish_and_clear();
        let word = if is_fine { "ok" } else { "FAILED" };
        let checks = self.checks.load(Ordering::Relaxed);
        let rate = checks as f64 / time.as_secs_f64().max(0.001);
        eprintln!(
            "{family:>9} {word}: {checks} checks in {:.1} s, {rate:.0} a second",
            time.as_secs_f64()
        );
    }
}

impl Progress for Bar {
    fn begin(&self, family: &str, parts: u64) {
        self.parts.store(parts, Ordering::Relaxed);
        self.bar.set_prefix(family.to_string());
        self.bar.set_length(parts);
        if self.is_plain {
            eprintln!("{family:>9} begins: {parts} parts");
        }
    }

    fn part_done(&self, checks: u64) {
        let (parts, done) =
            (self.parts.load(Ordering::Relaxed), self.done.fetch_add(1, Ordering::Relaxed) + 1);
        let checks = self.checks.fetch_add(checks, Ordering::Relaxed) + checks;
        let rate = checks as f64 / self.bar.elapsed().as_secs_f64().max(0.001);
        self.bar.set_message(format!("{rate:.0} checks/s"));
        self.bar.set_position(done);
        // Ten lines a family.
        if self.is_plain && done * 10 / parts.max(1) > (done - 1) * 10 / parts.max(1) {
            eprintln!("          {done}/{parts} parts, {checks} checks, {rate:.0} a second");
        }
    }

    fn note(&self, text: &str) {
        match self.is_plain {
            true => eprintln!("          {text}"),
            false => self.bar.println(text),
        }
    }
}
