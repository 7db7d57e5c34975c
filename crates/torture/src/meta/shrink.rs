//! Makes a failing list of operations shorter, and its options plainer.

use super::config::{OptionSet, SETTINGS};
use super::ops::Op;
use super::{Case, run_list};
use crate::pool::beat;

/// Longer keys are told by their beginning and their length.
const SHOWN_MAX: usize = 100;
/// Runs spent on it.
const TRIES: usize = 400;

/// A case that still fails, and how.
pub(super) struct Shrunk {
    pub(super) case: Case,
    pub(super) ops: Vec<Op>,
    pub(super) message: String,
    tries: usize,
}

impl Shrunk {
    /// From `ops`, of which the last one failed.
    pub(super) fn find(case: Case, ops: Vec<Op>, message: String) -> Shrunk {
        let mut shrunk = Shrunk { case, ops, message, tries: 0 };
        shrunk.drop_pieces();
        shrunk.simplify_options();
        shrunk.drop_parts_of_batches();
        shrunk.drop_pieces();
        shrunk
    }

    /// Takes `ops` and `case` over if they fail too.
    fn keep_if_it_fails(&mut self, case: Case, mut ops: Vec<Op>) -> bool {
        self.tries += 1;
        if self.tries > TRIES {
            return false;
        }
        beat(|| format!("shrinking seed {}: {} operations", case.seed, ops.len()));
        let Err((begun, message)) = run_list(&case, &ops) else { return false };
        ops.truncate(begun);
        (self.case, self.ops, self.message) = (case, ops, message);
        true
    }

    /// Cuts out pieces, ever smaller ones, as long as it still fails.
    fn drop_pieces(&mut self) {
        let mut piece = (self.ops.len() / 2).max(1);
        loop {
            let mut at = 0;
            while at < self.ops.len() {
                let mut fewer = self.ops.clone();
                fewer.drain(at..(at + piece).min(fewer.len()));
                if !self.keep_if_it_fails(self.case, fewer) {
                    at += piece;
                }
            }
            if piece == 1 {
                return;
            }
            piece /= 2;
        }
    }

    /// Cuts parts out of batches, and pairs out of ingests.
    fn drop_parts_of_batches(&mut self) {
        let mut at = 0;
        while at < self.ops.len() {
            let mut part = 0;
            loop {
                let mut ops = self.ops.clone();
                match &mut ops[at] {
                    Op::Batch(parts, _) if part < parts.len() => drop(parts.remove(part)),
                    Op::Ingest(_, pairs) if part < pairs.len() => drop(pairs.remove(part)),
                    _ => break,
                }
                // A shorter list may end before this operation.
                if !self.keep_if_it_fails(self.case, ops) {
                    part += 1;
                } else if at >= self.ops.len() {
                    return;
                }
            }
            at += 1;
        }
    }

    fn simplify_options(&mut self) {
        let fixed = OptionSet { is_fixed: true, ..self.case.set };
        self.keep_if_it_fails(Case { set: fixed, ..self.case }, self.ops.clone());
        for bit in 0..SETTINGS.len() {
            let set = OptionSet { plain: self.case.set.plain | (1 << bit), ..self.case.set };
            self.keep_if_it_fails(Case { set, ..self.case }, self.ops.clone());
        }
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let set = &self.case.set;
        let kept = SETTINGS.iter().enumerate().filter(|(bit, _)| set.plain & (1 << bit) == 0);
        let kept: Vec<_> = kept.map(|(_, (name, _))| *name).collect();
        let options = set.options(self.case.seed);
        let mut text = format!(
            "shrunk to {} operations in {} runs: {}\noption set {}, of which matter {kept:?}: {options:?}",
            self.ops.len(),
            self.tries,
            self.message,
            set.number
        );
        self.ops.iter().for_each(|op| text += &format!("\n  {}", readable(&format!("{op:?}"))));
        text
    }
}

/// Lists of bytes in the text become strings of bytes.
fn readable(debug: &str) -> String {
    let mut text = String::new();
    let mut rest = debug;
    while let Some((before, after)) = rest.split_once('[') {
        text += before;
        let (inside, behind) = after.split_once(']').unwrap_or((after, ""));
        let bytes: Result<Vec<u8>, _> = inside.split(", ").map(str::parse).collect();
        match bytes {
            Ok(bytes) if bytes.len() > SHOWN_MAX => {
                let head = bytes[..16].escape_ascii();
                text += &format!("b\"{head}..\" of {} bytes", bytes.len());
            }
            Ok(bytes) => text += &format!("b\"{}\"", bytes.escape_ascii()),
            Err(_) if inside.is_empty() => text += "b\"\"",
            Err(_) => {
                text.push('[');
                rest = after;
                continue;
            }
        }
        rest = behind;
    }
    text + rest
}

#[cfg(test)]
mod tests {
    #[test]
    fn lists_of_bytes_become_strings() {
        let shown = super::readable("Batch([Put(0, [97, 0], 11), Delete(1, [])], None)");
        assert_eq!(shown, "Batch([Put(0, b\"a\\x00\", 11), Delete(1, b\"\")], None)");
    }
}
