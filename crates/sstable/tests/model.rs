//! A table answers like a sorted map of internal keys, whatever its options.

use base::checksum::key_hash;
use base::iter::VecIterator;
use base::{Fragments, InternalIterator, InternalKey, RangeTombstone, SeqNo, ValueKind};
use proptest::prelude::*;
use sstable::{BlockCache, CacheHint, Compression, TableOptions, TableReader, TableWriter};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use vfs::{Fs, MemFs};

const TABLE: &str = "/000007.sst";
const ID: u64 = 77;

type Model = BTreeMap<(Vec<u8>, Reverse<u64>), (ValueKind, Vec<u8>)>;

fn kind_of(put: bool) -> ValueKind {
    if put { ValueKind::Put } else { ValueKind::Delete }
}

fn any_key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(b'a'), Just(255)], 0..6),
        2 => (0u16..300).prop_map(|n| format!("user:{n:05}:name").into_bytes()),
        1 => (0u8..4, 60usize..200).prop_map(|(b, n)| vec![b; n]),
    ]
}

fn any_entries() -> impl Strategy<Value = Model> {
    let value = prop_oneof![
        3 => prop::collection::vec(any::<u8>(), 0..20),
        2 => (any::<u8>(), 0usize..400).prop_map(|(b, n)| vec![b; n]),
    ];
    let seq = prop_oneof![0u64..40, Just(SeqNo::MAX.0), Just(300), Just(1 << 40)];
    let entry = (any_key(), seq, prop::bool::weighted(0.8), value);
    prop::collection::vec(entry, 1..200).prop_map(|list| {
        list.into_iter().map(|(k, s, put, v)| ((k, Reverse(s)), (kind_of(put), v))).collect()
    })
}

fn hostile_options() -> impl Strategy<Value = TableOptions> {
    (
        prop_oneof![Just(64usize), Just(100), Just(512), Just(4096), Just(1 << 20)],
        prop_oneof![Just(1usize), Just(2), Just(3), Just(16), Just(1 << 15)],
        prop_oneof![Just(Compression::None), Just(Compression::Lz4)],
        0u32..=20,
        prop_oneof![Just(64usize), Just(4096)],
    )
        .prop_map(|(block, restart, compression, bits, index)| TableOptions {
            block_size_bytes: block,
            restart_interval: restart,
            compression,
            filter_bits_per_key: bits,
            index_block_size_bytes: index,
            keyspace: None,
        })
}

fn write(
    fs: &MemFs,
    options: &TableOptions,
    model: &Model,
    tombstones: &Fragments,
) -> sstable::TableSummary {
    let mut writer =
        TableWriter::create(fs, Path::new(TABLE), ID, options.clone()).expect("create");
    for ((key, Reverse(seq)), (kind, value)) in model {
        writer.add(InternalKey::new(key, SeqNo(*seq), *kind), value).expect("add");
    }
    writer.add_range_tombstones(tombstones).expect("tombstones");
    let (estimate, summary) = (writer.file_size_estimate(), writer.finish().expect("finish"));
    // The open block counts uncompressed.
    let open_block = options.block_size_bytes as u64;
    assert!(
        estimate <= summary.size_bytes + open_block + 4096,
        "{estimate} {}",
        summary.size_bytes
    );
    assert!(summary.size_bytes <= estimate * 2 + 4096, "{estimate} {}", summary.size_bytes);
    summary
}

fn open(fs: &MemFs, cache_bytes: usize) -> Arc<TableReader> {
    let file = fs.open(Path::new(TABLE)).expect("open");
    let cache = Arc::new(BlockCache::new(cache_bytes));
    Arc::new(TableReader::open(file, Path::new(TABLE), ID, cache).expect("a table"))
}

fn model_get(model: &Model, key: &[u8], snapshot: u64) -> Option<(u64, ValueKind, Vec<u8>)> {
    let ((k, Reverse(s)), (kind, v)) = model.range((key.to_vec(), Reverse(snapshot))..).next()?;
    (k == key).then(|| (*s, *kind, v.clone()))
}

fn same_place(a: &dyn InternalIterator, b: &dyn InternalIterator) -> Result<(), TestCaseError> {
    prop_assert_eq!(a.valid(), b.valid());
    if a.valid() {
        prop_assert_eq!(a.key(), b.key());
        prop_assert_eq!(a.value(), b.value());
        prop_assert_eq!(a.value_slice(), b.value());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn a_table_agrees_with_a_map(
        model in any_entries(),
        options in hostile_options(),
        cache_bytes in prop_oneof![Just(0usize), Just(3000), Just(1 << 20)],
        probes in prop::collection::vec((any_key(), prop_oneof![0u64..45, Just(SeqNo::MAX.0)]), 30),
        steps in prop::collection::vec((0u8..6, any::<prop::sample::Index>()), 60),
        hint in prop_oneof![Just(CacheHint::Fill), Just(CacheHint::NoFill)],
        ranges in prop::collection::vec((any_key(), any_key(), 0u64..50), 0..4),
    ) {
        let fs = MemFs::new();
        let tombstones = Fragments::new(
            ranges.into_iter().map(|(start, end, seq)| RangeTombstone { start, end, seq: SeqNo(seq) }));
        let summary = write(&fs, &options, &model, &tombstones);
        let table = open(&fs, cache_bytes);
        let report = table.verify().expect("sound");
        prop_assert_eq!(report.bytes, summary.size_bytes);
        prop_assert_eq!(report.entries, model.len() as u64);
        prop_assert_eq!(&**table.range_tombstones(), &tombstones);
        prop_assert_eq!(summary.entries, model.len() as u64);

        let stored = model.keys().map(|(k, s)| (k.clone(), s.0));
        for (key, snapshot) in probes.into_iter().chain(stored) {
            for snapshot in [snapshot, snapshot.saturating_sub(1), SeqNo::MAX.0] {
                let found = table.get(key_hash(&key), &key, SeqNo(snapshot)).expect("readable");
                let found = found.map(|e| (e.seq.0, e.kind, e.value.to_vec()));
                prop_assert_eq!(found, model_get(&model, &key, snapshot), "{:?}@{}", key, snapshot);
            }
        }

        let entries: Vec<_> = model.iter()
            .map(|((k, Reverse(s)), (kind, v))| (k.clone(), SeqNo(*s), *kind, v.clone())).collect();
        let mut by_list = VecIterator::new(entries.clone());
        let mut by_table = table.iter(hint);
        prop_assert!(!by_table.valid());
        by_table.seek_to_first().expect("readable");
        by_list.seek_to_first().expect("in memory");
        while by_list.valid() {
            same_place(&by_table, &by_list)?;
            by_table.next().expect("readable");
            by_list.next().expect("in memory");
        }
        prop_assert!(!by_table.valid());
        by_table.seek_to_last().expect("readable");
        by_list.seek_to_last().expect("in memory");
        while by_list.valid() {
            same_place(&by_table, &by_list)?;
            by_table.prev().expect("readable");
            by_list.prev().expect("in memory");
        }
        prop_assert!(!by_table.valid());
        for (step, index) in steps {
            let (key, seq, kind, _) = index.get(&entries);
            let seq = SeqNo(seq.0.saturating_sub(u64::from(step % 2)));
            let target = InternalKey::new(key, seq, *kind);
            match step {
                0 | 1 => { by_table.seek(target).expect("ok"); by_list.seek(target).expect("ok"); }
                2 | 3 => {
                    by_table.seek_for_prev(target).expect("ok");
                    by_list.seek_for_prev(target).expect("ok");
                }
                4 if by_list.valid() => { by_table.next().expect("ok"); by_list.next().expect("ok"); }
                5 if by_list.valid() => { by_table.prev().expect("ok"); by_list.prev().expect("ok"); }
                _ => {}
            }
            same_place(&by_table, &by_list)?;
        }
    }
}
