//! What callgrind and the program say, read.

use std::path::PathBuf;

/// What one operation costs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Count {
    pub(crate) operation: String,
    /// Instructions of a single one.
    pub(crate) each: f64,
}

/// The last program that cargo tells of among its JSON messages.
pub(crate) fn executable(messages: &str) -> Option<PathBuf> {
    let path = |line: &str| {
        let (_, rest) = line.split_once("\"executable\":\"")?;
        Some(PathBuf::from(rest.split_once('"')?.0))
    };
    messages.lines().filter_map(path).next_back()
}

/// Joins the lines `<operation> <how many>` of the program with the dumps of callgrind, one for each operation.
pub(crate) fn join(done: &str, dumps: &[String]) -> Result<Vec<Count>, String> {
    let mut dumps = dumps.iter().filter_map(|text| dump(text)).collect::<Vec<_>>();
    let mut counts = Vec::new();
    for line in done.lines() {
        let (operation, times) = operations(line).ok_or_else(|| format!("not a count: {line}"))?;
        let place = dumps.iter().position(|(of, _)| *of == operation);
        let (_, instructions) = dumps.swap_remove(place.ok_or_else(|| {
            format!(
                "callgrind has no count of {operation}: is there a function {operation}_counted?"
            )
        })?);
        let each = instructions as f64 / times as f64;
        counts.push(Count { operation: operation.to_string(), each });
    }
    match dumps.first() {
        _ if counts.is_empty() => Err(String::from("the program did nothing")),
        None => Ok(counts),
        Some((operation, _)) => {
            Err(format!("{operation} was counted twice, or without a line for it"))
        }
    }
}

/// A line of the program.
fn operations(line: &str) -> Option<(&str, u64)> {
    let (operation, times) = line.split_once(' ')?;
    times.parse().ok().filter(|times| *times > 0).map(|times| (operation, times))
}

/// Operation and instructions of a dump that was written when a counted function returned; `None` for others.
fn dump(text: &str) -> Option<(&str, u64)> {
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let function = value("desc: Trigger: --dump-after=")?;
    let operation = function.rsplit("::").next()?.strip_suffix("_counted")?;
    Some((operation, value("totals:")?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(function: &str, total: u64) -> String {
        format!(
            "# callgrind format\nversion: 1\npart: 3\n\ndesc: I1 cache: \ndesc: Trigger: --dump-after={function}\n\n\
             positions: line\nevents: Ir\nsummary: {total}\n\nfl=(1) x.rs\nfn=(2) {function}\n16 300\n\ntotals: {total}\n"
        )
    }

    fn end() -> String {
        String::from("desc: Trigger: Program termination\nevents: Ir\nsummary: 0\n\ntotals: 0\n")
    }

    #[test]
    fn counts_are_those_of_one_operation_in_the_order_of_the_program() {
        let dumps = [
            text("a::measured::get_hot_counted", 9000),
            end(),
            text("a::measured::put_counted", 250),
        ];
        let counts = join("put 100\nget_hot 1000\n", &dumps).expect("joined");
        let count = |operation: &str, each| Count { operation: operation.into(), each };
        assert_eq!(counts, [count("put", 2.5), count("get_hot", 9.0)]);
    }

    #[test]
    fn nothing_goes_uncounted() {
        let put = text("a::measured::put_counted", 250);
        let wrong = |done: &str, dumps: &[String]| join(done, dumps).expect_err("refused");
        assert!(wrong("put 100\nget 1\n", std::slice::from_ref(&put)).contains("no count of get"));
        assert!(wrong("put 100\n", &[put.clone(), put.clone()]).contains("put was counted twice"));
        assert!(wrong("", &[]).contains("nothing"));
        assert!(wrong("put\n", std::slice::from_ref(&put)).contains("not a count"));
        assert!(wrong("put 0\n", &[put]).contains("not a count"));
    }

    #[test]
    fn the_program_is_found_among_messages() {
        let messages = "{\"reason\":\"compiler-artifact\",\"executable\":null}\n\
                        {\"reason\":\"compiler-artifact\",\"executable\":\"/t/release/esker-guards\",\"fresh\":true}\n\
                        {\"reason\":\"build-finished\",\"success\":true}\n";
        assert_eq!(executable(messages), Some(PathBuf::from("/t/release/esker-guards")));
        assert_eq!(executable("{\"executable\":null}"), None);
    }
}
