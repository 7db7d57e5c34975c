//! The script runner on files, seen from outside.

use testkit::script::{Command, run_dir};

fn command(total: &mut u64, command: &Command) -> String {
    match command.verb.as_str() {
        "add" => {
            *total += command.arg_as::<u64>("n").unwrap_or(0);
            total.to_string()
        }
        "list" => command.input.lines().collect::<Vec<_>>().join("\n\n"),
        verb => panic!("unknown verb {verb}"),
    }
}

#[test]
fn scripts_below_a_folder_run_on_fresh_states() {
    run_dir("testdata/counter", || 0, command);
}

/// Not under `REWRITE=1`, which would repair the script that is wrong on purpose.
#[test]
fn a_wrong_expectation_panics() {
    if std::env::var_os("REWRITE").is_some() {
        return;
    }
    let panic = std::panic::catch_unwind(|| run_dir("testdata/wrong", || 0, command))
        .expect_err("must fail");
    let text = panic.downcast_ref::<String>().expect("a message");
    assert!(text.contains("testdata/wrong/expectation:2: `add`"), "{text}");
    assert!(text.contains("- 2\n+ 1\n"), "{text}");
}

#[test]
#[should_panic(expected = "no-such-folder")]
fn a_missing_folder_panics() {
    run_dir("testdata/no-such-folder", || 0, command);
}
