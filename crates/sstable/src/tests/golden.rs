//! One small table, byte by byte: what version 1 of the format looks like.

use super::*;

fn golden_rows() -> Vec<Row> {
    vec![
        (b"apple".to_vec(), 3, ValueKind::Put, b"red".to_vec()),
        (b"apple".to_vec(), 1, ValueKind::Delete, vec![]),
        (b"apricot".to_vec(), 0x1234, ValueKind::Put, b"orange".to_vec()),
        (b"banana".to_vec(), 2, ValueKind::Put, vec![b'y'; 80]),
        (b"cherry".to_vec(), 4, ValueKind::Delete, vec![]),
    ]
}

#[test]
fn the_format_does_not_change() {
    let options = TableOptions {
        block_size_bytes: 64,
        restart_interval: 2,
        compression: Compression::Lz4,
        filter_bits_per_key: 10,
        index_block_size_bytes: 64,
        keyspace: None,
    };
    let range = RangeTombstone { start: b"b".to_vec(), end: b"d".to_vec(), seq: SeqNo(9) };
    let (bytes, _) = write_rows(&golden_rows(), &Fragments::new([range]), &options, ID);
    let lines: Vec<String> =
        bytes.chunks(32).map(|line| line.iter().map(|b| format!("{b:02x}")).collect()).collect();
    let golden = include_str!("../../testdata/table_v1.hex");
    assert_eq!(lines.join("\n"), golden.trim_end(), "the bytes of a table have changed");
    // The same table by writers that stored offsets, and that let keys share prefixes that save little.
    let offsets = include_str!("../../testdata/table_v1_offsets.hex");
    for stored in [golden, offsets, include_str!("../../testdata/table_v1_shared.hex")] {
        let table = open_bytes(bytes_of(stored)).expect("golden");
        table.verify().expect("golden");
        assert_eq!(rows_of(&table, true, CacheHint::Fill), golden_rows());
    }
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| {
        let text = std::str::from_utf8(pair).expect("ascii");
        u8::from_str_radix(text, 16).expect("hex")
    };
    digits.chunks(2).map(byte).collect()
}
