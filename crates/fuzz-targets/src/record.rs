//! Framing of records.

use crate::damage::{edit, identity_hash, repair_records};
use crate::source::Source;
use base::FileNum;
use wal::record::{
    ALIGN, Bad, FileIdentity, HEADER_LEN, Kind, Tail, decode, encode, find, framed_len, unsearched,
    walk,
};

const DB_ID: u64 = 7;
const NUM: u64 = 3;

/// Bytes as a part of a file of records: as they are, or records made of them and then damaged.
pub fn log_record(data: &[u8]) {
    crate::cap::decoding(data, || {
        let mut source = Source::new(data);
        let selector = source.u8();
        let mut file = if selector & 2 == 0 { source.rest().to_vec() } else { made(&mut source) };
        if selector & 1 == 1 {
            repair_records(&mut file, 0, identity_hash(DB_ID, NUM));
        }
        check(&file);
    });
}

/// Records that the encoder made, and damage.
fn made(source: &mut Source<'_>) -> Vec<u8> {
    let identity = FileIdentity::new(DB_ID, FileNum(NUM));
    let mut file = Vec::new();
    for _ in 0..source.below(8) {
        let kind = source.pick(&[Kind::Data, Kind::Link, Kind::Marker]);
        let lag = source.pick(&[0, 8, 64, 1 << 20, u64::MAX]);
        let len = source.below(80);
        let payload = source.take(len);
        let (at, whole) = (file.len() as u64, file.len());
        let crc = encode(&mut file, identity, at, lag, kind, payload).expect("short");
        let record = decode(&file[whole..], identity, at).expect("own bytes");
        assert_eq!((record.kind, record.payload, record.crc), (kind, payload, crc));
        assert_eq!((record.len, file.len() - whole), (framed_len(payload.len()), record.len));
    }
    let end = file.len();
    let edits = source.below(4);
    edit(source, &mut file, 0..end, edits, 9);
    file.truncate(end.saturating_sub(source.below(20)));
    file
}

fn check(file: &[u8]) {
    let identity = FileIdentity::new(DB_ID, FileNum(NUM));
    for at in (0..=file.len()).step_by(ALIGN) {
        check_at(&file[at..], identity, at as u64);
    }
    check_find(file, identity);
    let mut next = 0;
    let walked = walk(file, 0, identity, &mut |at, record| {
        assert_eq!(at, next, "records follow one another");
        next = at + record.len as u64;
        Ok(())
    });
    let walked = walked.expect("visit does not fail");
    assert_eq!(walked.end, next);
    assert!(walked.end <= file.len() as u64);
    assert_eq!(walked.tail == Tail::Clean, walked.end == file.len() as u64);
}

fn check_at(bytes: &[u8], identity: FileIdentity, at: u64) {
    match decode(bytes, identity, at) {
        Ok(record) => {
            assert!(record.len <= bytes.len());
            assert_eq!(record.len, framed_len(record.payload.len()));
            assert_eq!(find(bytes, identity, at), Some(0), "a record is found where it stands");
            for cut in [0, HEADER_LEN - 1, HEADER_LEN, record.len - 1] {
                let cut = cut.min(record.len - 1);
                assert!(
                    matches!(decode(&bytes[..cut], identity, at), Err(Bad::NeedMore(n)) if n > cut)
                );
            }
            let elsewhere = decode(bytes, identity, at ^ 8);
            assert!(elsewhere.is_err(), "a record counts in one place only");
        }
        Err(Bad::NeedMore(n)) => assert!(n > bytes.len()),
        Err(Bad::NotHere | Bad::Damaged) => assert!(bytes.len() >= HEADER_LEN),
    }
}

/// The search agrees with a look at every place.
fn check_find(file: &[u8], identity: FileIdentity) {
    let stands = |at: &usize| {
        !matches!(
            decode(&file[*at..], identity, *at as u64),
            Err(Bad::NotHere | Bad::NeedMore(HEADER_LEN))
        )
    };
    let naive =
        (0..=file.len()).step_by(ALIGN).filter(|at| file.len() - at >= HEADER_LEN).find(stands);
    assert_eq!(find(file, identity, 0), naive);
    assert!(unsearched(file.len()) <= file.len().next_multiple_of(ALIGN));
}
