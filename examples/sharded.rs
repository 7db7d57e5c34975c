//! One store over four directories, as if each were a disk: the same verbs, scans in key order; then what it costs per operation.
//!
//! ```text
//! cargo run --release --example sharded                 100,000 keys in temporary directories
//! cargo run --release --example sharded -- --keys 1000000
//! cargo run --release --example sharded -- DIR DIR ..   in directories of your own, which stay; no figures
//! ```
#![expect(clippy::disallowed_methods, reason = "an example is a program")]

use cluster::sharded::Sharded;
use esker::{Db, Slice};
use std::error::Error;
use std::hint::black_box;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match &args[..] {
        [] => in_temporary_directories(100_000),
        [flag, keys] if flag == "--keys" => {
            keys.parse().map_err(Into::into).and_then(in_temporary_directories)
        }
        dirs if dirs.iter().all(|dir| !dir.starts_with('-')) => {
            tour(dirs.iter().map(PathBuf::from).collect())
        }
        _ => Err("usage: sharded [--keys N | DIR DIR ..]".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sharded: {error}");
            ExitCode::FAILURE
        }
    }
}

fn in_temporary_directories(keys: u64) -> Result<()> {
    let root = tempfile::tempdir()?;
    tour((1..=4).map(|disk| root.path().join(format!("disk{disk}"))).collect())?;
    cost(&root, keys)?;
    root.close()?;
    Ok(())
}

fn tour(dirs: Vec<PathBuf>) -> Result<()> {
    let store = Sharded::open(&dirs)?;
    let songs = (0..50).map(|n| (format!("song:{n:02}"), format!("the song number {n}")));
    store.multi_put(songs)?;
    for (number, shard) in store.shards().iter().enumerate() {
        println!(
            "disk {number}: {} songs in {}",
            shard.prefix("song:").count(),
            dirs[number].display()
        );
    }
    println!("song:07 lies on disk {}", store.shard_of("song:07"));
    let all = store.prefix("song:").collect::<Result<Vec<_>, _>>()?;
    assert!(all.len() == 50 && all.is_sorted(), "fifty songs in order");
    println!(
        "a scan merges {} disks: {} songs, from {:?} to {:?}",
        dirs.len(),
        all.len(),
        all[0].0,
        all[49].0
    );
    let last: Vec<Slice> = store
        .range("song:".."song:~")
        .rev()
        .take(3)
        .map(|pair| pair.map(|(key, _)| key))
        .collect::<Result<_, _>>()?;
    println!("backwards: {last:?}");
    store.delete_range("song:10".."song:50")?;
    store.close()?;
    let again = Sharded::open(dirs.iter().rev())?;
    println!("opened again, the directories in another order: {} songs left", again.iter().count());
    assert_eq!(again.iter().count(), 10);
    again.close()?;
    Ok(())
}

// ---- what it costs ----

/// What is measured: the verbs that a bare database and a sharded one share.
trait Store {
    fn put(&self, key: &[u8]) -> Result<()>;
    fn get(&self, key: &[u8]) -> Result<usize>;
    fn scan(&self) -> Result<usize>;
}

macro_rules! store {
    ($($store:ty),*) => {$(
        impl Store for $store {
            fn put(&self, key: &[u8]) -> Result<()> {
                Ok(<$store>::put(self, key, [7; 100])?)
            }
            fn get(&self, key: &[u8]) -> Result<usize> {
                Ok(<$store>::get_with(self, key, <[u8]>::len)?.ok_or("a key is missing")?)
            }
            fn scan(&self) -> Result<usize> {
                let mut bytes = 0;
                for pair in <$store>::iter(self) {
                    let (key, value) = pair?;
                    bytes += key.len() + value.len();
                }
                Ok(bytes)
            }
        }
    )*};
}
store!(Db, Sharded);

fn cost(root: &tempfile::TempDir, keys: u64) -> Result<()> {
    println!(
        "\n{keys} keys of 16 bytes, values of 100, one thread; nanoseconds an operation, best of three"
    );
    println!("{:<24}{:>10}{:>10}{:>10}", "", "put", "get", "scan");
    let dirs = |name: &str, count: u32| {
        (0..count).map(|n| root.path().join(format!("{name}{n}"))).collect::<Vec<_>>()
    };
    let bare = Db::open(root.path().join("bare"))?;
    let (one, four) = (Sharded::open(dirs("one", 1))?, Sharded::open(dirs("four", 4))?);
    let stores: [(&str, &dyn Store); 3] =
        [("one database, bare", &bare), ("sharded over 1", &one), ("sharded over 4", &four)];
    let mut best = [[u128::MAX; 3]; 3];
    // In turns, so that what else the machine does falls on all.
    for _ in 0..3 {
        for ((_, store), best) in stores.iter().zip(&mut best) {
            let figures = measure(*store, keys)?;
            best.iter_mut().zip(figures).for_each(|(best, figure)| *best = figure.min(*best));
        }
    }
    for ((name, _), [put, get, scan]) in stores.iter().zip(best) {
        println!("{name:<24}{put:>10}{get:>10}{scan:>10}");
    }
    bare.close()?;
    one.close()?;
    four.close()?;
    Ok(())
}

fn measure(store: &dyn Store, keys: u64) -> Result<[u128; 3]> {
    let key = |n: u64| format!("{:016x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let names: Vec<String> = (0..keys).map(key).collect();
    let each = |run: &dyn Fn(&[u8]) -> Result<()>| -> Result<u128> {
        let start = Instant::now();
        names.iter().try_for_each(|name| run(name.as_bytes()))?;
        Ok(start.elapsed().as_nanos() / u128::from(keys.max(1)))
    };
    let put = each(&|key| store.put(key))?;
    let get = each(&|key| {
        black_box(store.get(key)?);
        Ok(())
    })?;
    let start = Instant::now();
    black_box(store.scan()?);
    Ok([put, get, start.elapsed().as_nanos() / u128::from(keys.max(1))])
}
