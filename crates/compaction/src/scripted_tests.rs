//! The scripts in `testdata`: a tree, a step, the tree after it.
//!
//! ```text
//! define                       one line a run: L<level>[.<run id>]: <table> | <table>
//!                              a table: a@7 delete, b@3 put value, c..f@5 delete
//! snapshots 3 9                the open snapshots
//! compact from=L1 into=L2      all of a level into the one run of another
//! pick policy=.. name=value    one task of a policy: what and why
//! settle policy=.. name=value  tasks until there is none
//! range policy=.. from=a to=f  a manual compaction
//! ```

use crate::testing::{Entry, TestTree};
use crate::tree::{Tree, Wish, whole_runs};
use crate::{Fifo, LazyLeveled, Leveled, Policy, SizeTiered, Task};
use base::{RangeTombstone, SeqNo, ValueKind};
use manifest::RunId;
use std::ops::Bound;
use testkit::script::{self, Command};

#[test]
fn scripts() {
    script::run_dir("testdata", TestTree::new, command);
}

fn command(tree: &mut TestTree, command: &Command) -> String {
    match &command.verb[..] {
        "define" => define(tree, &command.input),
        "snapshots" => {
            tree.snapshots = command.words().map(|w| SeqNo(w.parse().expect("a number"))).collect();
            String::new()
        }
        "compact" => {
            let wish = Wish {
                seeds: whole_runs(
                    tree.version.levels[level(command, "from")]
                        .runs
                        .iter()
                        .map(|run| (level(command, "from"), run)),
                ),
                output_level: level(command, "into"),
                output_run: RunId(command.arg_as("run").unwrap_or(0)),
                target_table_bytes: command.arg_as("target").unwrap_or(1 << 20),
                reason: "script",
            };
            let task = Tree::new(&tree.view()).build(wish).expect("nothing is in the way");
            finish(tree, task);
            tree.show()
        }
        "pick" => match policy(command).pick(&tree.view()) {
            None => "nothing to do".to_owned(),
            Some(task) => describe(&task),
        },
        "settle" => {
            let policy = policy(command);
            let mut text = String::new();
            while let Some(task) = policy.pick(&tree.view()) {
                text += &describe(&task);
                finish(tree, task);
            }
            text + &tree.show()
        }
        "range" => {
            let policy = policy(command);
            let bound = |name| {
                command.arg(name).map_or(Bound::Unbounded, |k| Bound::Included(k.as_bytes()))
            };
            let mut text = String::new();
            while let Some(task) = policy.pick_range(&tree.view(), bound("from"), bound("to")) {
                text += &describe(&task);
                finish(tree, task);
            }
            text + &tree.show()
        }
        other => panic!("no command {other}"),
    }
}

fn finish(tree: &mut TestTree, task: Task) {
    tree.note_running(task);
    tree.finish(0);
    tree.check_order();
}

fn describe(task: &Task) -> String {
    let inputs: Vec<String> =
        task.inputs.iter().map(|r| format!("L{}.{} x{}", r.level, r.run, r.tables.len())).collect();
    let (kind, reason) = (task.kind, task.reason);
    format!(
        "{kind:?} {} -> L{}.{}: {reason}\n",
        inputs.join(" + "),
        task.output_level,
        task.output_run
    )
}

fn level(command: &Command, name: &str) -> usize {
    let text = command.arg(name).unwrap_or_else(|| panic!("{name}= is missing"));
    text.trim_start_matches('L').parse().expect("a level")
}

fn define(tree: &mut TestTree, input: &str) -> String {
    *tree = TestTree::new();
    for line in input.lines() {
        let (place, tables) = line.split_once(':').expect("L<level>: ..");
        let (level, run) = place
            .trim_start_matches('L')
            .split_once('.')
            .unwrap_or((place.trim_start_matches('L'), "0"));
        let (level, run) = (level.parse().expect("a level"), RunId(run.parse().expect("a run")));
        for table in tables.split('|') {
            let (entries, tombstones) = parse_table(table);
            tree.add_run(level, run, &entries, &tombstones, 1 << 20);
        }
    }
    String::new()
}

fn parse_table(text: &str) -> (Vec<Entry>, Vec<RangeTombstone>) {
    let (mut entries, mut tombstones) = (Vec::new(), Vec::new());
    for item in text.split(',') {
        let mut words = item.split_whitespace();
        let (key, seq) = words.next().and_then(|w| w.split_once('@')).expect("key@seq");
        let seq = SeqNo(seq.parse().expect("a number"));
        match (key.split_once(".."), words.next(), words.next()) {
            (Some((start, end)), Some("delete"), None) => {
                tombstones.push(RangeTombstone { start: start.into(), end: end.into(), seq });
            }
            (None, Some("delete"), None) => {
                entries.push((key.into(), seq, ValueKind::Delete, Vec::new()))
            }
            (None, Some("put"), Some(value)) => {
                entries.push((key.into(), seq, ValueKind::Put, value.into()));
            }
            _ => panic!("cannot read {item}"),
        }
    }
    (entries, tombstones)
}

fn policy(command: &Command) -> Policy {
    let number = |name: &str, default: u64| command.arg_as(name).unwrap_or(default);
    let target_table_bytes = number("target", 1 << 20);
    let tombstone_percent = number("tombstones", 0) as u32;
    match command.arg("policy").expect("policy=") {
        "leveled" => Leveled {
            l0_trigger: number("l0_trigger", 2) as usize,
            base_bytes: number("base", 2000),
            multiplier: number("multiplier", 2) as u32,
            target_table_bytes,
            tombstone_percent,
        }
        .into(),
        "size_tiered" => SizeTiered {
            min_threshold: number("min", 2) as usize,
            max_threshold: number("max", 4) as usize,
            min_run_bytes: 0,
            target_table_bytes,
            tombstone_percent,
            ..SizeTiered::default()
        }
        .into(),
        "lazy_leveled" => LazyLeveled {
            runs_per_level: number("runs", 2) as usize,
            target_table_bytes,
            tombstone_percent,
        }
        .into(),
        "fifo" => Fifo { max_bytes: number("max", 2000), ttl_micros: None }.into(),
        other => panic!("no policy {other}"),
    }
}
