//! Write batches.

use base::SeqNo;
use base::batch::{Batch, BatchBuilder, HEADER_LEN};

/// Bytes as a batch.
pub fn batch(data: &[u8]) {
    crate::cap::decoding(data, || match Batch::decode(data) {
        Ok(decoded) => check(data, &decoded),
        Err(e) => assert!(e.offset <= data.len() && !e.detail.is_empty()),
    });
}

fn check(data: &[u8], decoded: &Batch<'_>) {
    let mut builder = BatchBuilder::new();
    let mut expected = decoded.seq;
    for (seq, op) in decoded.ops() {
        assert_eq!(seq, expected);
        assert!(seq <= SeqNo::MAX);
        expected = SeqNo(seq.0 + 1);
        builder.push(op);
    }
    assert_eq!(builder.count(), decoded.count as usize, "every operation is handed out");
    assert!(builder.ops().eq(decoded.ops().map(|(_, op)| op)));
    assert!(builder.check_limits().is_ok());
    let again = builder.seal(decoded.seq).to_vec();
    assert!(again.len() <= data.len(), "the encoder writes the shortest form");
    if again.len() == data.len() {
        assert_eq!(again, data);
    }
    let twice = Batch::decode(&again).expect("own bytes");
    assert!(twice.ops().eq(decoded.ops()));
    for cut in [0, HEADER_LEN, again.len() - 1] {
        assert!(cut >= again.len() || Batch::decode(&again[..cut]).is_err() || cut == again.len());
    }
}
