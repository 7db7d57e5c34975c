//! What a store over several databases costs beside a bare database: 100,000 pairs of 16 + 100 bytes, one thread.
//!
//! `cargo bench -p esker-cluster --bench sharded [-- WORD]` runs the steps whose name holds the word, in the directory of temporary
//! files (`TMPDIR`). The stores take turns of less than a millisecond, some hundred times, so that what else the machine does meets all
//! of them, and most turns not at all. The table has medians over the turns, and of the differences to the bare database in the same turn.
#![forbid(unsafe_code)]

use base::clock::{Clock, SystemClock};
use base::rng::Rng;
use cluster::sharded::Sharded;
use lsm::{Db, Options};
use std::path::Path;

const PAIRS: u64 = 100_000;
const VALUE: [u8; 100] = [7; 100];
const BATCH: usize = 100;
const TURNS: usize = 501;

type Key = [u8; 16];

/// The steps, alike on both sides. Callers see the concrete type, so nothing is paid for the trait.
trait Store {
    fn put(&self, key: &Key);
    fn get(&self, key: &Key) -> bool;
    fn multi_put(&self, keys: &[Key]);
    fn scan(&self, from: &Key) -> usize;
    fn settle(&self);
}

macro_rules! store {
    ($type:ty, $multi_put:expr) => {
        impl Store for $type {
            fn put(&self, key: &Key) {
                <$type>::put(self, key, VALUE).expect("a healthy disk");
            }
            fn get(&self, key: &Key) -> bool {
                <$type>::get(self, key).expect("a healthy disk").is_some()
            }
            fn multi_put(&self, keys: &[Key]) {
                let multi_put: fn(&$type, &[Key]) -> lsm::Result<()> = $multi_put;
                multi_put(self, keys).expect("a healthy disk");
            }
            fn scan(&self, from: &Key) -> usize {
                let pairs = self.range(&from[..]..).take(BATCH);
                pairs.map(|pair| pair.expect("a healthy disk").1.len()).sum()
            }
            fn settle(&self) {
                self.flush().and_then(|()| self.wait_idle()).expect("a healthy disk");
            }
        }
    };
}

store!(Db, |db, keys| {
    let mut batch = db.batch();
    keys.iter().for_each(|key| batch.put(key, VALUE));
    batch.commit()
});
store!(Sharded, |store, keys| store.multi_put(keys.iter().map(|key| (key, VALUE))));

struct Stores {
    bare: Db,
    one: Sharded,
    four: Sharded,
}

impl Stores {
    fn open(dir: &Path) -> lsm::Result<Stores> {
        // No flush falls into a turn.
        let options = Options::default().memtable_size_bytes(512 << 20);
        let sharded = |name: &str, shards: usize| {
            let dirs = (0..shards).map(|n| dir.join(format!("{name}-{n}")));
            let builder = Sharded::builder().options(options.clone());
            dirs.fold(builder, |builder, dir| builder.shard(dir)).open()
        };
        let bare = Db::builder(dir.join("bare")).options(options.clone()).open()?;
        Ok(Stores { bare, one: sharded("one", 1)?, four: sharded("four", 4)? })
    }

    fn each(&self, run: impl Fn(&dyn Store)) {
        run(&self.bare);
        run(&self.one);
        run(&self.four);
    }
}

struct Table {
    clock: SystemClock,
    word: String,
}

impl Table {
    /// Runs `step` `times` times in each turn of each store, with a key that it is given.
    fn step<A, B>(&self, stores: &Stores, name: &str, times: usize, bare: A, sharded: B)
    where
        A: Fn(&Db, &mut Rng),
        B: Fn(&Sharded, &mut Rng),
    {
        if !name.contains(&self.word) {
            return;
        }
        let mut turns: [Vec<f64>; 3] = Default::default();
        for turn in 0..TURNS as u64 {
            // Each begins a turn as often as the others, and all meet the same keys.
            for store in (0..3).map(|n| (n + turn as usize) % 3) {
                let mut rng = Rng::new(turn);
                let start = self.clock.monotonic_micros();
                for _ in 0..times {
                    match store {
                        0 => bare(&stores.bare, &mut rng),
                        1 => sharded(&stores.one, &mut rng),
                        _ => sharded(&stores.four, &mut rng),
                    }
                }
                let micros = self.clock.monotonic_micros() - start;
                turns[store].push(micros as f64 * 1e3 / times as f64);
            }
        }
        let more = |n: usize| {
            let pairs = turns[n].iter().zip(&turns[0]);
            median(pairs.map(|(sharded, bare)| sharded - bare).collect())
        };
        let [bare, one, four] = [0, 1, 2].map(|n| median(turns[n].clone()));
        let (one_more, four_more) = (more(1), more(2));
        println!(
            "{name:18} {bare:>10.0} {one:>10.0} {four:>10.0} {one_more:>+12.0} {four_more:>+12.0}"
        );
    }
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

/// A key that is there if `is_there`.
fn key(rng: &mut Rng, is_there: bool) -> Key {
    numbered(2 * rng.below(PAIRS) + u64::from(!is_there))
}

fn numbered(n: u64) -> Key {
    let [low, high] = [n.to_be_bytes(), n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()];
    let mut key = [0; 16];
    key[..8].copy_from_slice(&high);
    key[8..].copy_from_slice(&low);
    key
}

fn main() -> lsm::Result<()> {
    // Cargo adds `--bench`.
    let word = std::env::args().skip(1).find(|word| !word.starts_with('-')).unwrap_or_default();
    let dir = tempfile::tempdir().expect("a directory");
    let stores = Stores::open(dir.path())?;
    stores.each(|store| {
        (0..PAIRS).for_each(|n| store.put(&numbered(2 * n)));
        store.settle();
    });
    let table = Table { clock: SystemClock::new(), word };
    let heads = ("step, ns", "bare", "1 shard", "4 shards", "1 - bare", "4 - bare");
    let (step, bare, one, four, one_more, four_more) = heads;
    println!("{step:18} {bare:>10} {one:>10} {four:>10} {one_more:>12} {four_more:>12}");
    macro_rules! step {
        ($name:literal, $times:literal, |$store:ident, $rng:ident| $run:expr) => {
            table.step(
                &stores,
                $name,
                $times,
                |$store: &Db, $rng| $run,
                |$store: &Sharded, $rng| $run,
            );
        };
    }
    step!("get, hit", 500, |store, rng| assert!(Store::get(store, &key(rng, true))));
    step!("get, miss", 2_000, |store, rng| assert!(!Store::get(store, &key(rng, false))));
    step!("scan of 100", 10, |store, rng| {
        assert_eq!(Store::scan(store, &key(rng, true)) % VALUE.len(), 0);
    });
    step!("put", 500, |store, rng| Store::put(store, &key(rng, true)));
    step!("multi_put of 100", 10, |store, rng| {
        let keys: [Key; BATCH] = std::array::from_fn(|_| key(rng, true));
        Store::multi_put(store, &keys);
    });
    Ok(())
}
