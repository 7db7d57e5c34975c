use super::*;
use crate::rng::Rng;
use Bound::{Excluded, Included, Unbounded};

fn random_ops(rng: &mut Rng) -> Vec<ModelOp> {
    let key = |rng: &mut Rng| vec![b'a' + rng.below(20) as u8];
    (0..rng.below(5))
        .map(|_| {
            let ks = rng.below(3) as u32;
            match rng.below(10) {
                0 => ModelOp::delete_range(ks, key(rng)..key(rng)),
                1 => ModelOp::delete_range(ks, ..=key(rng)),
                2 | 3 => ModelOp::delete(ks, key(rng)),
                _ => {
                    let len = rng.index(4);
                    ModelOp::put(ks, key(rng), rng.bytes(len))
                }
            }
        })
        .collect()
}

/// The obvious way: one map, changed in place, cloned after each commit.
fn apply_naively(state: &mut State, op: &ModelOp) {
    match op.clone() {
        ModelOp::Put { ks, key, value } => drop(state.insert((ks, key), value)),
        ModelOp::Delete { ks, key } => drop(state.remove(&(ks, key))),
        ModelOp::DeleteRange { ks, lower, upper } => {
            state.retain(|(space, key), _| {
                *space != ks || !(lower.clone(), upper.clone()).contains(key)
            });
        }
    }
}

fn history(seed: u64, commits: usize) -> (VersionedModel, Vec<State>) {
    let (mut rng, mut model) = (Rng::new(seed), VersionedModel::new());
    let mut states = vec![State::new()];
    for number in 1..=commits {
        let (ops, mut state) = (random_ops(&mut rng), states[number - 1].clone());
        ops.iter().for_each(|op| apply_naively(&mut state, op));
        assert_eq!(model.commit(&ops), number);
        states.push(state);
    }
    (model, states)
}

#[test]
fn every_prefix_is_kept_and_found() {
    let (model, states) = history(1, 3000);
    assert_eq!(model.current(), &states[3000]);
    for (number, state) in states.iter().enumerate().step_by(7) {
        assert_eq!(&model.state_at(number), state);
        let last_equal = states.iter().rposition(|other| other == state);
        assert_eq!(model.find_prefix(state, 0, usize::MAX), last_equal);
        assert_eq!(model.find_prefix(state, number, number), Some(number));
    }
}

#[test]
fn what_is_no_prefix_is_not_found() {
    let (model, states) = history(2, 500);
    let mut state = states[400].clone();
    assert_eq!(model.find_prefix(&state, 401, 400), None, "empty window");
    state.insert((0, b"phantom".to_vec()), vec![]);
    assert_eq!(model.find_prefix(&state, 0, 500), None);
}

#[test]
fn rewound_history_is_as_if_it_never_was() {
    let (mut model, states) = history(3, 200);
    model.rewind(120);
    assert_eq!((model.commits(), model.current()), (120, &states[120]));
    assert_eq!(model.commit(&[ModelOp::put(0, "z", "new")]), 121);
    assert_eq!(model.get(0, b"z"), Some(&b"new"[..]));
    assert_eq!(model.find_prefix(&model.current().clone(), 0, 999), Some(121));
    assert_eq!(model.state_at(60), states[60]);
}

#[test]
fn ops_of_one_commit_apply_in_order() {
    let mut model = VersionedModel::new();
    let all = || ModelOp::delete_range(0, ..);
    model.commit(&[
        ModelOp::put(0, "a", "1"),
        ModelOp::put(1, "a", "1"),
        all(),
        ModelOp::put(0, "b", "2"),
    ]);
    model.commit(&[
        ModelOp::delete(0, "never"),
        ModelOp::put(0, "b", "3"),
        ModelOp::put(0, "b", "4"),
    ]);
    assert_eq!(model.scan(0, Unbounded, Unbounded, false), [(b"b".to_vec(), b"4".to_vec())]);
    assert_eq!(model.get(1, b"a"), Some(&b"1"[..]), "another keyspace is untouched");
    assert_eq!((model.get_at(1, 0, b"b"), model.get_at(0, 0, b"b")), (Some(&b"2"[..]), None));
    assert_eq!(model.versions(0, b"b").len(), 2);
    assert!(model.versions(0, b"never").is_empty());
}

#[test]
fn scans_keep_bounds_and_direction() {
    let mut model = VersionedModel::new();
    let puts: Vec<_> =
        ["a", "b", "c", "d"].iter().map(|key| ModelOp::put(u32::MAX, *key, "")).collect();
    model.commit(&puts);
    let scan = |lower, upper, reverse| {
        let keys: Vec<Vec<u8>> =
            model.scan(u32::MAX, lower, upper, reverse).into_iter().map(|(key, _)| key).collect();
        String::from_utf8(keys.concat()).unwrap()
    };
    assert_eq!(scan(Unbounded, Unbounded, false), "abcd");
    assert_eq!(scan(Unbounded, Unbounded, true), "dcba");
    assert_eq!(scan(Included(b"b"), Excluded(b"d"), false), "bc");
    assert_eq!(scan(Excluded(b"b"), Included(b"d"), true), "dc");
    assert_eq!(scan(Included(b"d"), Excluded(b"b"), false), "");
    assert_eq!(scan(Excluded(b"b"), Excluded(b"b"), false), "");
}
