//! Inputs to begin with: valid encodings of each format, and short histories.

use crate::TARGETS;
use base::batch::{BatchBuilder, BatchOp};
use base::{FileNum, Fragments, KeyspaceId, RangeTombstone, SeqNo, ValueKind};
use compaction::{LazyLeveled, Leveled, Policy, SizeTiered};
use manifest::{AddedTable, NewKeyspace, RunId, TableChanges, TableMeta, VersionEdit};
use sstable::fuzzing::{self, IndexRow, Row};
use testkit::rng::Rng;
use wal::record::{FileIdentity, Kind};

/// Seeds of a target: the same at every call.
#[must_use]
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    let mut all = match target {
        "log_record" => records(),
        "data_block" => data_blocks(),
        "index_block" => index_blocks(),
        "filter" => filters(),
        "manifest_edit" => edits(),
        "batch" => batches(),
        "properties" => properties(),
        "topology" => topologies(),
        "message" => messages(),
        "agreement" => agreements(),
        _ => Vec::new(),
    };
    let number = TARGETS.iter().position(|(name, _)| *name == target).unwrap_or(0) as u64;
    let mut rng = Rng::new(number + 1);
    for selector in 0..8u8 {
        for len in [20, 60, 160, 400] {
            let mut bytes = rng.bytes(len);
            bytes[0] = selector;
            all.push(bytes);
        }
    }
    all
}

fn with(selector: u8, bytes: &[u8]) -> Vec<u8> {
    [&[selector][..], bytes].concat()
}

fn records() -> Vec<Vec<u8>> {
    let mut file = Vec::new();
    let identity = FileIdentity::new(7, FileNum(3));
    for (kind, payload) in [
        (Kind::Link, &[7; 32][..]),
        (Kind::Data, b"esker"),
        (Kind::Marker, b""),
        (Kind::Data, &[1; 90]),
    ] {
        let at = file.len() as u64;
        wal::record::encode(&mut file, identity, at, 8, kind, payload).expect("short");
    }
    let torn = &file[..file.len() - 9];
    vec![with(0, &file), with(0, torn), with(1, &file)]
}

fn rows() -> Vec<Row> {
    let row = |i: u64| Row {
        key: format!("key/{:03}", i / 2).into_bytes(),
        seq: SeqNo(900 - i),
        kind: if i.is_multiple_of(5) { ValueKind::Delete } else { ValueKind::Put },
        value: vec![b'v'; i as usize % 9],
    };
    (0..24).map(row).collect()
}

fn data_blocks() -> Vec<Vec<u8>> {
    [1, 4, 16].map(|interval| with(0, &fuzzing::encode_block(&rows(), interval))).into()
}

fn index_blocks() -> Vec<Vec<u8>> {
    let row = |i: u64| IndexRow {
        key: format!("sep/{i:03}").into_bytes(),
        trailer: if i.is_multiple_of(3) { 0 } else { (i << 8) | 1 },
        offset: 0,
        len: 100 + i,
    };
    let rows: Vec<_> = (0..20).map(row).collect();
    vec![[&[0, 0][..], &fuzzing::encode_index(0, &rows)].concat()]
}

fn filters() -> Vec<Vec<u8>> {
    let filter = |bits, keys: u64| {
        let mut builder = bloom::Builder::new(bits).expect("in range");
        (0..keys).for_each(|n| builder.add(base::checksum::key_hash(&n.to_le_bytes())));
        with(0, &builder.finish())
    };
    vec![filter(10, 40), filter(1, 3), filter(20, 0)]
}

fn topologies() -> Vec<Vec<u8>> {
    let zones = ["a", "b", "", "rack-17"];
    let member = |id| ring::Member::new(id, 1 + id as u32 % 3, zones[id as usize % 4]);
    let of = |nodes: u64, partitions, replicas| {
        let members: Vec<_> = (0..nodes).map(member).collect();
        ring::Topology::new(partitions, replicas, &members).expect("in range").encode()
    };
    let (small, large) = (of(2, 2, 3), of(6, 32, 3));
    vec![with(0, &small), with(0, &large), with(1, &small), with(1, &large)]
}

fn messages() -> Vec<Vec<u8>> {
    use cluster::clock::Subject;
    use cluster::codec::{frame, samples};
    let frame =
        |bytes: Vec<u8>| frame::decode(&bytes, 1 << 20).map(|f| (f.header.kind, f.body.to_vec()));
    let header = frame::Header {
        kind: 0,
        cluster: 1,
        call: 2,
        from: ring::NodeId(3),
        to: ring::NodeId(4),
        epoch: ring::Epoch(5),
        budget_micros: 6,
    };
    let requests = samples::requests().into_iter().map(|request| request.encode(header));
    let answers = samples::answers().into_iter().map(|answer| answer.encode(header));
    let frames: Vec<_> = requests.chain(answers).collect();
    let mut all = vec![with(0, &frames[3]), with(1, &frames[4])];
    for (kind, body) in frames.into_iter().filter_map(|bytes| frame(bytes).ok()) {
        all.push([&[2, kind][..], &body].concat());
    }
    all.push(with(3, &samples::record().encode()));
    all.push(with(4, &samples::context().encode()));
    let subject = Subject { cluster: 0, keyspace: KeyspaceId(0), key: b"" };
    all.push(with(5, &samples::record().token(&samples::context()).seal(&subject)));
    all.push(with(6, &cluster::merkle::Tree::uncounted().encode()));
    all
}

fn agreements() -> Vec<Vec<u8>> {
    use cluster::topology::{Entry, ProposalId, Update, samples};
    let all = samples::topologies();
    let id = ProposalId { node: ring::NodeId(1), number: 2 };
    let entries: Vec<Entry> = (2..)
        .zip(samples::changes())
        .map(|(epoch, change)| Entry { epoch: ring::Epoch(epoch), id: id.clone(), change })
        .collect();
    let mut inputs: Vec<Vec<u8>> = entries.iter().map(|entry| with(3, &entry.encode())).collect();
    for topology in [&all[6], &all[14], &all[16]] {
        inputs.push(with(0, &topology.encode()));
        inputs.push(with(1, &topology.encode()));
    }
    inputs.push(with(2, &Update::Entries(entries).encode()));
    inputs
}

fn batches() -> Vec<Vec<u8>> {
    let mut builder = BatchBuilder::new();
    let op =
        |keyspace, kind, key, value| BatchOp { keyspace: KeyspaceId(keyspace), kind, key, value };
    builder.push(op(0, ValueKind::Put, b"k", b"val"));
    builder.push(op(300, ValueKind::Delete, b"", b""));
    builder.push(op(1, ValueKind::RangeDelete, b"a", b"f"));
    let long = [7; 200];
    builder.push(op(2, ValueKind::Put, &long, &long));
    vec![builder.seal(SeqNo(7)).to_vec(), builder.seal(SeqNo(SeqNo::MAX.0 - 4)).to_vec()]
}

fn edits() -> Vec<Vec<u8>> {
    let table = TableMeta {
        file: FileNum(5),
        table_id: 77,
        size_bytes: 4096,
        entries: 10,
        deletes: 1,
        range_tombstones: 1,
        raw_bytes: 5000,
        smallest: b"a".to_vec(),
        largest: b"m".to_vec(),
        largest_exclusive: true,
        seq_min: SeqNo(1),
        seq_max: SeqNo(9),
        created_micros: 1,
    };
    let added = AddedTable { level: 0, run: RunId(1), table };
    let keyspace = KeyspaceId(0);
    let edit = VersionEdit {
        next_file: Some(FileNum(9)),
        segments_added: vec![FileNum(3), FileNum(4)],
        segments_closed: vec![manifest::ClosedSegment {
            num: FileNum(3),
            end_offset: 800,
            end_lsn: 4000,
            chain: 3,
        }],
        keyspaces_created: vec![NewKeyspace {
            id: keyspace,
            name: "users".into(),
            options: vec![1, 2],
        }],
        tables: vec![TableChanges {
            keyspace,
            added: vec![added],
            removed: vec![],
            flushed_seq: Some(SeqNo(9)),
        }],
        ..VersionEdit::default()
    };
    let second = VersionEdit {
        segments_removed: vec![FileNum(3)],
        options_changed: vec![(keyspace, vec![3])],
        tables: vec![TableChanges {
            keyspace,
            added: vec![],
            removed: vec![FileNum(5)],
            flushed_seq: None,
        }],
        ..VersionEdit::default()
    };
    let mut bytes = Vec::new();
    edit.encode(&mut bytes);
    let first = bytes.len();
    second.encode(&mut bytes);
    let cut = (first * 256).div_ceil(bytes.len()) as u8;
    vec![with(255, &bytes[..first]), with(cut, &bytes)]
}

fn properties() -> Vec<Vec<u8>> {
    let range = |start: &str, end: &str, seq| RangeTombstone {
        start: start.into(),
        end: end.into(),
        seq: SeqNo(seq),
    };
    let fragments = Fragments::new([range("a", "g", 4), range("c", "z", 9), range("x", "y", 12)]);
    let mut properties = sstable::Properties::default();
    (properties.entries, properties.seq_max, properties.smallest) =
        (9, SeqNo(400), b"first".to_vec());
    let mut all = vec![
        with(0, &fuzzing::encode_properties(&properties)),
        with(1, &fuzzing::encode_tombstones(&fragments)),
    ];
    let policies = [
        Policy::Leveled(Leveled::default()),
        Policy::SizeTiered(SizeTiered::default()),
        Policy::LazyLeveled(LazyLeveled::default()),
    ];
    all.extend(policies.map(|policy| with(4, &policy.encode())));
    let mut footer = vec![3, 12, 0x00, 0x04];
    for (offset, len) in [(500u64, 100u64), (605, 0), (605, 0), (605, 414)] {
        footer.extend_from_slice(&offset.to_le_bytes());
        footer.extend_from_slice(&len.to_le_bytes());
    }
    footer.extend_from_slice(&[42, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
    all.push(footer);
    all
}
