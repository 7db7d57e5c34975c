//! What nodes send and store.

use crate::source::Source;
use base::KeyspaceId;
use base::checksum::xxh3_64;
use cluster::clock::{Context, Subject, Token};
use cluster::codec::message::{Answer, Request};
use cluster::codec::{DecodeError, frame};
use cluster::merkle::Tree;
use cluster::record::{Mode, Record};

const MAX: usize = 1 << 20;

/// Bytes as a frame, a message, a record, a context, a token or digests.
pub fn message(data: &[u8]) {
    crate::cap::decoding(data, || {
        let mut source = Source::new(data);
        match source.u8() % 7 {
            0 => whole_frame(source.rest()),
            1 => whole_frame(&sealed(source.rest())),
            2 => {
                let kind = source.u8();
                body(kind, source.rest());
            }
            3 => records(source.rest()),
            4 => contexts(source.rest()),
            5 => token(source.rest()),
            _ => {
                if let Ok(tree) = Tree::decode(source.rest()) {
                    assert_eq!(tree.encode(), source.rest());
                }
            }
        }
    });
}

/// With the length, version and checksum of a frame, so that what is inside is looked at.
fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().max(frame::OVERHEAD), 0);
    let (len, end) = (bytes.len() as u32, bytes.len() - 8);
    bytes[..4].copy_from_slice(&len.to_le_bytes());
    bytes[4] = frame::VERSION;
    let checksum = xxh3_64(&bytes[..end]);
    bytes[end..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

fn whole_frame(bytes: &[u8]) {
    let Ok(frame) = frame::decode(bytes, MAX) else { return };
    assert_eq!(frame::length(bytes, MAX), Ok(Some(bytes.len())));
    let again = frame::encode(&frame.header, |out| out.extend_from_slice(frame.body));
    assert_eq!(again, bytes);
    body(frame.header.kind, frame.body);
}

/// A message has one encoding.
fn body(kind: u8, bytes: &[u8]) {
    let header = frame::Header {
        kind,
        cluster: 1,
        call: 2,
        from: ring::NodeId(3),
        to: ring::NodeId(4),
        epoch: ring::Epoch(5),
        budget_micros: 6,
    };
    let again = match (Request::decode(kind, bytes), Answer::decode(kind, bytes)) {
        (Ok(request), Err(DecodeError::UnknownKind { .. })) => request.encode(header),
        (Err(DecodeError::UnknownKind { .. }), Ok(answer)) => answer.encode(header),
        (Ok(_), _) | (_, Ok(_)) => panic!("kind {kind} is a request and an answer"),
        _ => return,
    };
    assert_eq!(frame::decode(&again, usize::MAX).map(|frame| frame.body), Ok(bytes));
}

/// Two records out of one input: whatever they say, merging them does not depend on the order.
fn records(bytes: &[u8]) {
    let (left, right) = bytes.split_at(bytes.len() / 2);
    for bytes in [bytes, left, right] {
        if let Ok(record) = Record::decode(bytes) {
            assert_eq!(record.encode(), bytes);
        }
    }
    if let (Ok(a), Ok(b)) = (Record::decode(left), Record::decode(right)) {
        for mode in [Mode::Siblings, Mode::LastWriterWins] {
            let merged = a.merge(&b, mode);
            assert_eq!(merged.record, b.merge(&a, mode).record);
            assert_eq!(Record::decode(&merged.record.encode()), Ok(merged.record));
        }
    }
}

fn contexts(bytes: &[u8]) {
    if let Ok(context) = Context::decode(bytes) {
        assert_eq!(context.encode(), bytes);
    }
    let (left, right) = bytes.split_at(bytes.len() / 2);
    if let (Ok(a), Ok(b)) = (Context::decode(left), Context::decode(right)) {
        assert_eq!(a.union(&b), b.union(&a));
        assert_eq!(a.difference(&b).union(&a.intersection(&b)), a);
        assert_eq!(a.covers(&b), b.difference(&a).is_empty());
    }
}

fn token(bytes: &[u8]) {
    let subject = Subject { cluster: 0, keyspace: KeyspaceId(0), key: b"" };
    let sealed = [bytes, &xxh3_64(bytes).to_le_bytes()].concat();
    for bytes in [bytes, &sealed] {
        if let Ok(token) = Token::open(&subject, bytes) {
            assert_eq!(token.seal(&subject), bytes);
        }
    }
}
