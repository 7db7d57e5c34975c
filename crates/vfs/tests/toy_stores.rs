//! The crash images find the bugs they are made for: careless stores fail, careful ones do not.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;

use vfs::{CrashProfile, Fs, MemFs, Snapshot, read_all, write_file_synced};

const ROUNDS: u64 = 12;
const SEEDS: u64 = 40;
const RECORD: usize = 700;

/// A store of one counter that only grows.
trait Toy {
    /// Counts to [`ROUNDS`], calling `acknowledge` after each step.
    fn run(&self, fs: &dyn Fs, acknowledge: &mut dyn FnMut());
    /// The count found after a crash, or what is broken.
    fn recover(&self, fs: &dyn Fs) -> Result<u64, String>;
}

fn start(fs: &dyn Fs) -> &'static Path {
    let dir = Path::new("/toy");
    fs.create_dir_all(dir).unwrap();
    fs.sync_dir(Path::new("/")).unwrap();
    dir
}

fn record(count: u64) -> Vec<u8> {
    let mut bytes = vec![count as u8; RECORD];
    bytes[..8].copy_from_slice(&count.to_le_bytes());
    let sum = checksum(&bytes[..RECORD - 8]);
    bytes[RECORD - 8..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3)
    })
}

/// Appends a record for each step.
struct Log {
    sync: bool,
}

impl Toy for Log {
    fn run(&self, fs: &dyn Fs, acknowledge: &mut dyn FnMut()) {
        let dir = start(fs);
        let mut log = fs.create(&dir.join("log")).unwrap();
        fs.sync_dir(dir).unwrap();
        for count in 1..=ROUNDS {
            log.append(&record(count)).unwrap();
            if self.sync {
                log.sync().unwrap();
            }
            acknowledge();
        }
    }

    fn recover(&self, fs: &dyn Fs) -> Result<u64, String> {
        let Ok(bytes) = read_all(fs, Path::new("/toy/log"), 1 << 20) else { return Ok(0) };
        let whole =
            bytes.chunks(RECORD).zip(1..).take_while(|(bytes, count)| *bytes == record(*count));
        Ok(whole.count() as u64)
    }
}

/// Writes records into a preallocated segment.
struct Segment;

impl Toy for Segment {
    fn run(&self, fs: &dyn Fs, acknowledge: &mut dyn FnMut()) {
        let dir = start(fs);
        let log = fs.create_segment(&dir.join("log"), 1 << 20).unwrap();
        log.sync().unwrap();
        fs.sync_dir(dir).unwrap();
        for count in 1..=ROUNDS {
            log.write_at((count - 1) * RECORD as u64, &record(count)).unwrap();
            log.sync().unwrap();
            acknowledge();
        }
    }

    fn recover(&self, fs: &dyn Fs) -> Result<u64, String> {
        Log { sync: true }.recover(fs)
    }
}

/// Replaces a file for each step.
struct Swap {
    sync_file: bool,
    sync_dir: bool,
}

impl Toy for Swap {
    fn run(&self, fs: &dyn Fs, acknowledge: &mut dyn FnMut()) {
        let dir = start(fs);
        let (tmp, current) = (dir.join("tmp"), dir.join("current"));
        for count in 1..=ROUNDS {
            match self.sync_file {
                true => write_file_synced(fs, &tmp, &record(count)).unwrap(),
                false => fs.create(&tmp).unwrap().append(&record(count)).unwrap(),
            }
            fs.rename(&tmp, &current).unwrap();
            if self.sync_dir {
                fs.sync_dir(dir).unwrap();
            }
            acknowledge();
        }
    }

    fn recover(&self, fs: &dyn Fs) -> Result<u64, String> {
        let Ok(file) = fs.open(Path::new("/toy/current")) else { return Ok(0) };
        let mut bytes = vec![0; RECORD];
        file.read_exact_at(&mut bytes, 0).map_err(|error| error.to_string())?;
        let count = u64::from(bytes[8]);
        if bytes == record(count) { Ok(count) } else { Err("broken record".into()) }
    }
}

/// Crash images, over all operations and seeds, that lost an acknowledged step or show nonsense.
fn failures(toy: &dyn Toy, profile: CrashProfile) -> u64 {
    let fs = MemFs::new();
    fs.start_recording();
    let mut acknowledged = Vec::new();
    toy.run(&fs, &mut || acknowledged.push(fs.op_count()));
    let history = fs.take_history();
    let broken = |snapshot: &Snapshot, seed| {
        let done = snapshot.op().index + 1;
        let floor = acknowledged.iter().filter(|at| **at <= done).count() as u64;
        match toy.recover(&snapshot.crash(profile, seed)) {
            Ok(count) => count < floor || count > ROUNDS,
            Err(_) => true,
        }
    };
    history
        .iter()
        .map(|snapshot| (0..SEEDS).filter(|seed| broken(snapshot, *seed)).count() as u64)
        .sum()
}

#[test]
fn careless_stores_fail_under_every_profile_but_keep_all() {
    let careless: [(&str, Box<dyn Toy>); 4] = [
        ("acknowledges before the sync", Box::new(Log { sync: false })),
        ("renames unsynced data", Box::new(Swap { sync_file: false, sync_dir: true })),
        ("syncs nothing", Box::new(Swap { sync_file: false, sync_dir: false })),
        ("forgets the directory", Box::new(Swap { sync_file: true, sync_dir: false })),
    ];
    for (name, toy) in careless {
        for profile in CrashProfile::ALL {
            let failures = failures(&*toy, profile);
            println!("{name:30} {profile:10?} {failures:4}");
            // All names survive here by definition, so that this one store is safe.
            let harmless = profile == CrashProfile::KeepAll
                || (profile == CrashProfile::SizeFirst && name == "forgets the directory");
            assert_eq!(failures == 0, harmless, "{name} {profile:?}");
        }
    }
}

#[test]
fn careful_stores_fail_only_on_a_lying_disk() {
    let careful: [(&str, Box<dyn Toy>); 3] = [
        ("synced log", Box::new(Log { sync: true })),
        ("synced segment", Box::new(Segment)),
        ("synced swap", Box::new(Swap { sync_file: true, sync_dir: true })),
    ];
    for (name, toy) in careful {
        for profile in CrashProfile::ALL {
            let failures = failures(&*toy, profile);
            println!("{name:30} {profile:10?} {failures:4}");
            assert_eq!(failures == 0, profile != CrashProfile::LyingDisk, "{name} {profile:?}");
        }
    }
}
