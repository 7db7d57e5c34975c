use super::*;

/// Prints the command back: verb, arguments, input.
fn echo(count: &mut usize, command: &Command) -> String {
    *count += 1;
    match command.verb.as_str() {
        "count" => count.to_string(),
        "nothing" => String::new(),
        "gap" => "a\n\nb".to_string(),
        _ => format!(
            "{:?} {}",
            command.args.iter().map(|arg| (&arg.key, &arg.value)).collect::<Vec<_>>(),
            command.input
        ),
    }
}

fn run(text: &str, rewrite: bool) -> Result<String, String> {
    run_text("file", text, rewrite, &mut 0, &mut echo)
}

#[test]
fn right_expectations_pass_unchanged() {
    let text = "# why\n\ncount\n----\n1\n\n# again\n\ncount\n----\n2\n\ngap\n----\n----\na\n\nb\n----\n----\nnothing\n----\n\n# end\n";
    assert_eq!(run(text, false).as_deref(), Ok(text));
    assert_eq!(run(text, true).as_deref(), Ok(text));
    assert_eq!(run("", false).as_deref(), Ok(""));
}

#[test]
fn a_wrong_expectation_fails_with_place_and_diff() {
    let error = run("count\n----\n1\n\n# c\ncount\n----\n7\n", false).unwrap_err();
    assert!(error.starts_with("file:6: `count`"), "{error}");
    assert!(error.ends_with("- 7\n+ 2\n"), "{error}");
    assert!(run("nothing\n----\nsomething\n", false).is_err());
    assert!(run("count\n----\n", false).is_err());
}

#[test]
fn rewriting_changes_expectations_only() {
    let wrong = "# head\n\ncount\n----\nx\ny\n\n# kept\ngap\n----\n\nnothing\n----\n----\nz\n----\n----\ncount\n----\n";
    let right = "# head\n\ncount\n----\n1\n\n# kept\ngap\n----\n----\na\n\nb\n----\n----\n\nnothing\n----\n\ncount\n----\n4\n";
    assert_eq!(run(wrong, true).as_deref(), Ok(right));
    assert_eq!(run(right, false).as_deref(), Ok(right));
}

#[test]
fn arguments_are_split_at_spaces_outside_quotes() {
    let text = "verb word n=-3 text=\"two words\" list=(a (b) c) empty=\nin 1\n# in 2\n----\n";
    let command = parse::parse(text).ok().map(|script| script.sections[0].command.clone()).unwrap();
    assert_eq!((command.verb.as_str(), command.line), ("verb", 1));
    assert_eq!(command.input, "in 1\n# in 2\n");
    assert_eq!(command.arg("text"), Some("two words"));
    assert_eq!(command.arg("list"), Some("a (b) c"));
    assert_eq!(command.arg("empty"), Some(""));
    assert_eq!(command.arg_as::<i32>("n"), Some(-3));
    assert_eq!(command.arg_as::<i32>("m"), None);
    assert!(command.flag("word") && !command.flag("n"));
}

#[test]
fn malformed_scripts_name_the_line() {
    for (text, line) in [
        ("# c\n\nverb\ninput\n", 3),
        ("----\n", 1),
        ("a\n----\nb\n----\nc\n", 4),
        ("a\n----\n----\nx\n----\n", 3),
        ("a k=(1\n----\n", 1),
        ("a k=1)\n----\n", 1),
        ("a \"\n----\n", 1),
    ] {
        let error = run(text, true).unwrap_err();
        assert!(error.starts_with(&format!("file:{line}: ")), "{text:?}: {error}");
    }
}

#[test]
fn diffs_show_what_is_common_once() {
    assert_eq!(diff::lines("a\nb\nc\nd\n", "a\nc\nx\nd\n"), "  a\n- b\n  c\n+ x\n  d\n");
    assert_eq!(diff::lines("", "a\n"), "+ a\n");
    let long: String = (0..3000).map(|i| format!("{i}\n")).collect();
    let other: String = (0..3000).map(|i| format!("{}\n", i + 5000)).collect();
    assert_eq!(diff::lines(&long, &other).lines().count(), 6000);
}
