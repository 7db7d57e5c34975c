//! Messages as bytes: what was sent arrives, what nobody sent is refused.

use super::*;
use crate::codec::samples;
use base::checksum::xxh3_64;
use proptest::collection::vec;
use proptest::prelude::*;

fn header() -> Header {
    Header {
        kind: 0,
        cluster: 1,
        call: 2,
        from: NodeId(3),
        to: NodeId(4),
        epoch: Epoch(5),
        budget_micros: 6,
    }
}

/// Kind and body of every sample.
fn bodies() -> Vec<(u8, Vec<u8>)> {
    let body = |frame: Vec<u8>| {
        let frame = frame::decode(&frame, 1 << 20).expect("own bytes");
        (frame.header.kind, frame.body.to_vec())
    };
    let requests = samples::requests().into_iter().map(|request| request.encode(header()));
    let answers = samples::answers().into_iter().map(|answer| answer.encode(header()));
    requests.chain(answers).map(body).collect()
}

/// The body that a kind and its message have again.
fn again(kind: u8, body: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut out = Vec::new();
    match kind {
        0..frame::ANSWER => Request::decode(kind, body)?.put_body(&mut out),
        _ => Answer::decode(kind, body)?.put_body(&mut out),
    }
    Ok(out)
}

#[test]
fn there_is_a_sample_of_every_kind_and_it_arrives_as_it_was_sent() {
    let (requests, answers) = (samples::requests(), samples::answers());
    assert_eq!(requests.iter().map(Request::kind).collect::<Vec<_>>(), Request::KINDS);
    assert_eq!(answers.iter().map(Answer::kind).collect::<Vec<_>>(), Answer::KINDS);
    for request in requests {
        let bytes = request.encode(header());
        let frame = frame::decode(&bytes, 1 << 20).expect("own bytes");
        assert_eq!(Request::of(&frame), Ok(request));
        assert_eq!(frame.header, Header { kind: frame.header.kind, ..header() });
        assert!(frame.header.kind < frame::ANSWER);
    }
    for answer in answers {
        let bytes = answer.encode(header());
        let frame = frame::decode(&bytes, 1 << 20).expect("own bytes");
        assert_eq!(Answer::of(&frame), Ok(answer));
        assert!(frame.header.kind >= frame::ANSWER);
    }
}

#[test]
fn any_cut_is_noticed_and_nothing_may_follow() {
    for (kind, body) in bodies() {
        for cut in 0..body.len() {
            assert!(again(kind, &body[..cut]).is_err(), "kind {kind} cut at {cut}");
        }
        let longer = [&body[..], &[0]].concat();
        assert_eq!(again(kind, &longer), Err(DecodeError::Trailing { len: 1 }), "kind {kind}");
    }
}

#[test]
fn kinds_that_nobody_knows_are_told_from_bodies_that_are_wrong() {
    for kind in 0..=255u8 {
        let unknown = Err(DecodeError::UnknownKind { kind });
        assert_eq!(
            Request::decode(kind, &[0xee; 3]).map(drop) == unknown,
            !Request::KINDS.contains(&kind)
        );
        assert_eq!(
            Answer::decode(kind, &[0xee; 3]).map(drop) == unknown,
            !Answer::KINDS.contains(&kind)
        );
    }
}

/// If this changes, so does the format: nodes of two versions in one cluster would not understand each other.
#[test]
fn golden_bytes() {
    let all: Vec<String> = bodies()
        .iter()
        .map(|(kind, body)| format!("{kind:02x} {} {:016x}", body.len(), xxh3_64(body)))
        .collect();
    let expected = include_str!("golden_messages.txt").lines().collect::<Vec<_>>();
    assert_eq!(all, expected, "\n{}", all.join("\n"));
    let read = &bodies()[5];
    assert_eq!(read.1, [2, 2, 2, 1, b'a', 0, 5], "keyspace, wanted, keys, start");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Whatever decodes has one encoding.
    #[test]
    fn hostile_bodies_do_no_harm(
        which: prop::sample::Index,
        edits in vec((any::<prop::sample::Index>(), any::<u8>()), 0..5),
        cut in 0..8usize,
    ) {
        let all = bodies();
        let (kind, mut body) = all[which.index(all.len())].clone();
        if !body.is_empty() {
            for (at, byte) in edits {
                let at = at.index(body.len());
                body[at] = byte;
            }
        }
        body.truncate(body.len().saturating_sub(cut));
        if let Ok(bytes) = again(kind, &body) {
            prop_assert_eq!(bytes, body);
        }
    }

    #[test]
    fn noise_does_no_harm(kind: u8, body in vec(prop_oneof![0..4u8, any::<u8>()], 0..100)) {
        if let Ok(bytes) = again(kind, &body) {
            prop_assert_eq!(bytes, body);
        }
    }
}
