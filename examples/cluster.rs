//! Five nodes, three owners of each key: a node joins, one leaves, one is lost, and a client that writes and reads all the time loses nothing.
//!
//! ```text
//! cargo run --release --example cluster
//! cargo run --release --example cluster -- --listens 200000 --rate 33554432
//! cargo run --release --example cluster -- --listens 20000 --bytes 4000
//! ```
//! Prints what each job had to move, and the times of the client while data moved beside those while none did. With records as large as in the
//! last line a partition has more than a MiB, so what moves goes into table files.
#![expect(clippy::disallowed_methods, reason = "an example is a program")]

use clap::Parser;
use cluster::{Cluster, Error, NodeId, NodeOptions, Rebalance};
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const SONGS: usize = 50;
/// Threads of the client.
const THREADS: usize = 4;
/// Records that are written at once.
const BATCH: usize = 5000;
/// How long a job may take, in microseconds.
const PATIENCE_MICROS: u64 = 600_000_000;

/// Five nodes, the fifty songs, and what happens to nodes.
#[derive(Parser)]
struct Args {
    /// Records beside the songs, so that there is something to move.
    #[arg(long, default_value_t = 20_000)]
    listens: usize,
    /// Least bytes of the value of each of them.
    #[arg(long, default_value_t = 0)]
    bytes: usize,
    /// Most bytes a second that nodes are sent while data moves, all together; 0 is no limit. The default is that of the library.
    #[arg(long)]
    rate: Option<u64>,
    /// What moves goes into table files where so many bytes of it come together; the default is that of the library.
    #[arg(long)]
    tables_from: Option<u64>,
    /// How long nothing is done before anything else, in milliseconds: what was written is looked at once more when all its owners have it.
    #[arg(long, default_value_t = 0)]
    settle_millis: u64,
    /// How long the client runs before anything moves, in milliseconds.
    #[arg(long, default_value_t = 2000)]
    quiet_millis: u64,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cluster: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let mut builder =
        Cluster::builder().nodes(5).replication(3).partitions(64).rebalance_by_itself(false);
    if let Some(rate) = args.rate {
        builder = builder.bytes_per_second(rate);
    }
    if let Some(bytes) = args.tables_from {
        builder = builder.tables_from_bytes(bytes);
    }
    let store = builder.open(dir.path())?;
    fill(&store, args.listens, args.bytes)?;
    println!("five nodes, each key at three of them; {SONGS} songs and {} listens", args.listens);

    std::thread::sleep(Duration::from_millis(args.settle_millis));
    let client = Client::start(&store);
    std::thread::sleep(Duration::from_millis(args.quiet_millis));
    let quiet = client.end(&store)?;
    println!("a client, while nothing moves: {quiet}\n");

    let added = store.add_node(&NodeOptions::new())?;
    println!("{added} joins");
    let client = Client::start(&store);
    let rebalance = store.rebalance();
    rebalance.start()?;
    watch(&rebalance)?;
    let busy = client.end(&store)?;
    println!("a client meanwhile: {busy}, p99 {:.1} times that of quiet", busy.p99 / quiet.p99);
    check(&store)?;

    let leaving = NodeId(2);
    println!("\n{leaving} leaves");
    let client = Client::start(&store);
    watch(&store.drain_node(leaving)?)?;
    store.remove_node(leaving, PATIENCE_MICROS)?;
    let busy = client.end(&store)?;
    println!("a client meanwhile: {busy}, p99 {:.1} times that of quiet", busy.p99 / quiet.p99);
    check(&store)?;

    let lost = NodeId(4);
    println!("\n{lost} is killed, and its disk is gone");
    store.stop_node(lost)?;
    check(&store)?;
    println!("two of three owners are enough: nothing is lost, reads and writes go on");
    let client = Client::start(&store);
    store.give_up_node(lost)?;
    let rebalance = store.rebalance();
    rebalance.start()?;
    watch(&rebalance)?;
    store.forget_node(lost)?;
    let busy = client.end(&store)?;
    println!("a client meanwhile: {busy}, p99 {:.1} times that of quiet", busy.p99 / quiet.p99);
    check(&store)?;
    println!("three owners of each key again, on {} nodes", store.nodes().len());
    store.close()?;
    Ok(())
}

fn fill(store: &Cluster, listens: usize, bytes: usize) -> Result<(), Error> {
    let songs = (0..SONGS).map(|n| (format!("song:{n:02}"), format!("the song number {n}")));
    let note =
        "played to the end, and once more from the beginning, late at night with the windows open";
    let listen = |n: usize| {
        let mut listen = format!("{note}; listen {n} of song {}", n % SONGS);
        let mut digits = n as u64;
        while listen.len() < bytes {
            digits = digits.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            listen.push_str(&format!("; {digits:016x}"));
        }
        (format!("listen:{n:07}"), listen)
    };
    let mut pairs = songs.chain((0..listens).map(listen)).peekable();
    while pairs.peek().is_some() {
        for put in store.multi_put(pairs.by_ref().take(BATCH))? {
            put?;
        }
    }
    Ok(())
}

/// All songs are there, in order.
fn check(store: &Cluster) -> Result<(), Error> {
    let songs = store.scan("song:".."song;").collect::<Result<Vec<_>, _>>()?;
    let keys: Vec<_> = songs.iter().map(|(key, _)| key.clone()).collect();
    assert!(keys.len() == SONGS && keys.is_sorted(), "fifty songs in order");
    for (n, (_, found)) in songs.iter().enumerate() {
        assert_eq!(found.siblings(), [&*format!("the song number {n}")]);
    }
    println!("all {SONGS} songs are there");
    Ok(())
}

/// Shows how far the job is until it is over.
fn watch(rebalance: &Rebalance) -> Result<(), Error> {
    let plan = rebalance.plan()?;
    println!(
        "to do: {} partitions change owners, {} copies of them, about {} KiB",
        plan.partitions,
        plan.copies,
        plan.bytes >> 10
    );
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} partitions  {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let (begun, mut bytes) = (Instant::now(), 0);
    while rebalance.wait(100_000) == Err(Error::Unfinished) {
        let Some(progress) = rebalance.progress() else { continue };
        bytes = bytes.max(progress.bytes_moved);
        bar.set_length(progress.partitions.partitions as u64);
        bar.set_position(progress.partitions.flipped as u64);
        let left = progress.left_micros.map_or("?".into(), |m| (m / 1_000_000).to_string());
        bar.set_message(format!("{} KiB, {left} s left", progress.bytes_moved >> 10));
    }
    bar.finish_and_clear();
    println!(
        "done in {:.1} s; about {} KiB were copied",
        begun.elapsed().as_secs_f64(),
        bytes >> 10
    );
    Ok(())
}

/// How long operations took, and what was written last under each key.
type Done = Result<(Vec<f64>, BTreeMap<String, u64>), Error>;

/// Threads that write and read their own keys all the time, and note how long that takes.
struct Client {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Done>>,
}

/// How long operations took, in milliseconds.
struct Times {
    count: usize,
    median: f64,
    p99: f64,
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Times { count, median, p99 } = self;
        write!(f, "{count} puts and gets, median {median:.2} ms, p99 {p99:.2} ms")
    }
}

impl Client {
    fn start(store: &Cluster) -> Client {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = |number| {
            let (store, stopped) = (store.clone(), Arc::clone(&stop));
            std::thread::spawn(move || Client::run(&store, number, &stopped))
        };
        let threads = (0..THREADS).map(thread).collect();
        Client { stop, threads }
    }

    fn run(store: &Cluster, thread: usize, stopped: &AtomicBool) -> Done {
        let (mut times, mut last, mut n) = (Vec::new(), BTreeMap::new(), 0u64);
        while !stopped.load(Ordering::SeqCst) {
            let key = format!("client:{thread}:{:03}", n % 500);
            let begun = Instant::now();
            store.put(&key, n.to_string())?;
            times.push(begun.elapsed().as_secs_f64() * 1e3);
            let begun = Instant::now();
            let found = store.get(&key)?;
            times.push(begun.elapsed().as_secs_f64() * 1e3);
            assert_eq!(found.siblings(), [&*n.to_string()], "a read sees the write before it");
            last.insert(key, n);
            n += 1;
        }
        Ok((times, last))
    }

    /// Ends the client; all that it was told is written must be there.
    fn end(self, store: &Cluster) -> Result<Times, Box<dyn std::error::Error>> {
        self.stop.store(true, Ordering::SeqCst);
        let mut times = Vec::new();
        for thread in self.threads {
            let (took, last) = thread.join().map_err(|_| "the client panicked")??;
            times.extend(took);
            for (key, n) in last {
                let found = store.get(&key)?;
                assert_eq!(found.siblings(), [&*n.to_string()], "nothing acknowledged is lost");
            }
        }
        times.sort_by(f64::total_cmp);
        let at =
            |share: f64| times.get((times.len() as f64 * share) as usize).copied().unwrap_or(0.0);
        Ok(Times { count: times.len(), median: at(0.5), p99: at(0.99) })
    }
}
