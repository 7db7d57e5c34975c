//! Text to sections and back, keeping every byte that is not expected output.

use super::{Arg, Command};

const SEPARATOR: &str = "----";

pub(super) struct Script {
    pub(super) sections: Vec<Section>,
    /// Comments and blank lines after the last section.
    tail: Vec<String>,
}

pub(super) struct Section {
    /// Comments and blank lines before the command.
    lead: Vec<String>,
    /// The command and its input as written.
    source: Vec<String>,
    pub(super) command: Command,
    pub(super) expected: String,
}

/// Line number and what is wrong there.
type Fault = (usize, String);

pub(super) fn parse(text: &str) -> Result<Script, Fault> {
    let mut lines = Lines { lines: text.lines().collect(), at: 0 };
    let mut sections = Vec::new();
    loop {
        let lead = lines.take_while(|line| line.trim().is_empty() || line.starts_with('#'));
        let line = lines.at + 1;
        let source = lines.take_while(|line| line != SEPARATOR);
        let Some((head, input)) = source.split_first() else {
            return match lines.next() {
                None => Ok(Script { sections, tail: lead }),
                Some(_) => Err((line, "separator without a command".to_string())),
            };
        };
        if lines.next().is_none() {
            return Err((line, format!("command without {SEPARATOR}")));
        }
        let command = parse_command(head, input, line).map_err(|what| (line, what))?;
        let expected = parse_expected(&mut lines)?;
        sections.push(Section { lead, source, command, expected });
    }
}

fn parse_expected(lines: &mut Lines<'_>) -> Result<String, Fault> {
    let start = lines.at + 1;
    if lines.peek() != Some(SEPARATOR) {
        let expected = lines.take_while(|line| !line.trim().is_empty());
        return match expected.iter().position(|line| line == SEPARATOR) {
            None => Ok(joined(&expected)),
            Some(at) => Err((
                start + at,
                "separator in expected output: a blank line must come before a command".to_string(),
            )),
        };
    }
    lines.next();
    let mut expected = Vec::new();
    loop {
        match lines.next() {
            None => return Err((start, "output between double separators has no end".to_string())),
            Some(SEPARATOR) if lines.peek() == Some(SEPARATOR) => break,
            Some(line) => expected.push(line.to_string()),
        }
    }
    lines.next();
    Ok(joined(&expected))
}

fn parse_command(head: &str, input: &[String], line: usize) -> Result<Command, String> {
    let mut words = split_words(head)?.into_iter();
    let verb = words.next().ok_or("no command")?;
    let args = words
        .map(|word| match word.split_once('=') {
            None => Arg { key: word, value: None },
            Some((key, value)) => {
                Arg { key: key.to_string(), value: Some(unwrapped(value).to_string()) }
            }
        })
        .collect();
    Ok(Command { verb, args, input: joined(input), line })
}

/// Splits at spaces that are neither in quotes nor in parentheses.
fn split_words(head: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut quoted, mut depth) = (Vec::new(), String::new(), false, 0_u32);
    for c in head.chars() {
        match c {
            '"' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth = depth.checked_sub(1).ok_or("`)` without `(`")?,
            _ => {}
        }
        if c.is_whitespace() && !quoted && depth == 0 {
            words.push(std::mem::take(&mut word));
        } else {
            word.push(c);
        }
    }
    if quoted || depth > 0 {
        return Err("quote or parenthesis without its end".to_string());
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    Ok(words)
}

/// Without one pair of quotes or parentheses around it.
fn unwrapped(value: &str) -> &str {
    let pair = |open, close| value.strip_prefix(open)?.strip_suffix(close);
    pair('"', '"').or_else(|| pair('(', ')')).unwrap_or(value)
}

impl Script {
    /// The text again, with what `expected` holds now.
    pub(super) fn render(&self) -> String {
        let mut out = Vec::new();
        // A blank line must end plain output, unless the file ends there.
        let mut open_output = false;
        for section in &self.sections {
            push_lead(&mut out, &section.lead, open_output, true);
            out.extend(section.source.iter().map(String::as_str));
            out.push(SEPARATOR);
            open_output = !needs_double(&section.expected);
            if open_output {
                out.extend(section.expected.lines());
            } else {
                out.push(SEPARATOR);
                out.extend(section.expected.split_terminator('\n'));
                out.extend([SEPARATOR, SEPARATOR]);
            }
        }
        push_lead(&mut out, &self.tail, open_output, !self.tail.is_empty());
        out.iter().flat_map(|line| [*line, "\n"]).collect()
    }
}

fn push_lead<'a>(out: &mut Vec<&'a str>, lead: &'a [String], open_output: bool, more: bool) {
    if open_output && more && lead.first().is_none_or(|line| !line.trim().is_empty()) {
        out.push("");
    }
    out.extend(lead.iter().map(String::as_str));
}

/// Whether output could not be told from what follows it.
fn needs_double(output: &str) -> bool {
    output.lines().any(|line| line.trim().is_empty() || line == SEPARATOR)
}

fn joined(lines: &[String]) -> String {
    lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
}

struct Lines<'a> {
    lines: Vec<&'a str>,
    at: usize,
}

impl<'a> Lines<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.lines.get(self.at).copied()
    }

    fn next(&mut self) -> Option<&'a str> {
        let line = self.peek()?;
        self.at += 1;
        Some(line)
    }

    fn take_while(&mut self, keep: impl Fn(&str) -> bool) -> Vec<String> {
        let mut taken = Vec::new();
        while let Some(line) = self.peek().filter(|line| keep(line)) {
            taken.push(line.to_string());
            self.at += 1;
        }
        taken
    }
}
