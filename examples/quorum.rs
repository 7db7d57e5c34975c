//! Five nodes, three owners of each key: what R and W buy, what a partition does, and how siblings are merged.
//!
//! ```text
//! cargo run --release --example quorum
//! ```

use cluster::{Cluster, Error, Found, GetOptions, NodeId, PutOptions};
use std::process::ExitCode;

const KEY: &str = "cart:42";
/// A write that cannot reach enough owners is given up after so long, in microseconds.
const PATIENCE_MICROS: u64 = 500_000;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quorum: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let store = Cluster::builder().nodes(5).replication(3).open(dir.path())?;
    let owners = store.owners_of(KEY)?;
    println!("five nodes; {KEY} lies on {}\n", names(&owners));
    settings(&store)?;
    partition(&store, &owners)?;
    siblings(&store)?;
    stand_ins(&store, &owners)?;
    store.close()?;
    Ok(())
}

/// The four settings that are usually named, for N = 3.
fn settings(store: &Cluster) -> Result<(), Error> {
    println!("R W   a read sees every write that was Ok before   one owner down: reads, writes");
    for (r, w) in [(1, 3), (3, 1), (2, 2), (1, 1)] {
        let (key, keyspace) = (format!("setting:{r}{w}"), store.default_keyspace());
        let put = keyspace.put_with(&key, "value", &PutOptions::new().owners(w))?;
        let found = keyspace.get_with(&key, &GetOptions::new().owners(r))?;
        let sees = if r + w > 3 { "yes, R + W > N" } else { "no, it may be older" };
        let go_on = |quorum| if quorum < 3 { "go on" } else { "stop" };
        println!(
            "{r} {w}   {sees:<44}   {}, {}   (written to {}, read from {})",
            go_on(r),
            go_on(w),
            names(put.owners()),
            names(found.served_by())
        );
        assert!(put.owners().len() >= w && found.served_by().len() >= r);
        assert!(r + w <= 3 || found.siblings() == ["value"]);
    }
    Ok(())
}

/// One owner is cut off: those on its side cannot write, the others do not notice.
fn partition(store: &Cluster, owners: &[NodeId]) -> Result<(), Error> {
    let alone = owners[0];
    let others: Vec<NodeId> = store.nodes().into_iter().filter(|node| *node != alone).collect();
    store.network().partition(&[&[alone], &others]);
    println!("\n{alone} is cut off from the others");
    let patient = PutOptions::new().timeout_micros(PATIENCE_MICROS);
    let put = store.via(owners[1]).put(KEY, "milk")?;
    println!("written through {}: Ok, at {}", owners[1], names(put.owners()));
    let beside = patient.clone().beside();
    match store.via(alone).put_with(KEY, "bread", &beside) {
        Err(error) if error.may_have_happened() => {
            println!("written through {alone}: {error}; it is there, and may appear later");
        }
        other => println!("written through {alone}: {other:?}"),
    }
    store.network().mend_all();
    println!("the network is whole again");
    Ok(())
}

/// Both writes are there: the client that knows what a cart is makes one of them.
fn siblings(store: &Cluster) -> Result<(), Error> {
    let keyspace = store.default_keyspace();
    // All three owners: what one of them knows alone is in the answer.
    let found = keyspace.get_with(KEY, &GetOptions::new().owners(3))?;
    println!("\nread from all owners: {}", texts(&found).join(" and "));
    assert_eq!(texts(&found), ["bread", "milk"], "nothing that is concurrent is lost");
    let merged = texts(&found).join(", ");
    keyspace.put_with(KEY, &merged, &PutOptions::new().token(found.token()))?;
    let found = store.get(KEY)?;
    println!("merged and written back with the token of the read: {}", texts(&found).join(" and "));
    assert_eq!(texts(&found), ["bread, milk"]);
    Ok(())
}

/// Two of three owners are gone: strict writes stop; sloppy ones go to stand-ins, and say so.
fn stand_ins(store: &Cluster, owners: &[NodeId]) -> Result<(), Error> {
    for owner in &owners[1..] {
        store.stop_node(*owner)?;
    }
    println!("\n{} are down", names(&owners[1..]));
    let patient = PutOptions::new().beside().timeout_micros(PATIENCE_MICROS);
    let strict = store.default_keyspace().put_with(KEY, "eggs", &patient);
    println!("strict write: {}", strict.map_or_else(|error| error.to_string(), |_| "Ok".into()));
    let put =
        store.default_keyspace().put_with(KEY, "jam", &PutOptions::new().beside().sloppy())?;
    println!(
        "sloppy write: at {}, kept for the others by {}",
        names(put.owners()),
        names(put.hinted())
    );
    for owner in &owners[1..] {
        store.start_node(*owner)?;
    }
    store.hints_delivered(60_000_000)?;
    let alone = GetOptions::new().owners(1);
    for owner in owners {
        let found = store.via(*owner).get_with(KEY, &alone)?;
        println!("{owner} has {}", texts(&found).join(" and "));
    }
    Ok(())
}

fn texts(found: &Found) -> Vec<String> {
    let text = |value: &esker::Slice| String::from_utf8_lossy(value).into_owned();
    let mut texts: Vec<String> = found.siblings().iter().map(text).collect();
    texts.sort();
    texts
}

fn names(nodes: &[NodeId]) -> String {
    nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
