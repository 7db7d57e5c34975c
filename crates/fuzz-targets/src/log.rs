//! Replay of the log against what was appended.

use crate::damage::{UNREPAIRED_BYTES_MAX, edit, identity_hash, repair_header, repair_records};
use crate::source::Source;
use base::{Error, FileName, FileNum};
use std::path::{Path, PathBuf};
use vfs::{CrashProfile, Fs, MemFs};
use wal::segment::HEADER_LEN;
use wal::{Log, LogOptions, Lsn, RecoveryMode, Replayed, SegmentToReplay, prepare_segment, replay};

const DB_ID: u64 = 0xe5_4e_12;
const SEGMENT_LEN: u64 = 1024;
const MODES: [RecoveryMode; 4] = [
    RecoveryMode::TolerateTornTail,
    RecoveryMode::Absolute,
    RecoveryMode::PointInTime,
    RecoveryMode::SkipCorrupt,
];
const CRC_OFFSET: usize = 48;

fn dir() -> PathBuf {
    PathBuf::from("/db")
}

/// A history of a log, then a crash, then damage with or without checksums made right again, then replay in all modes.
pub fn log_replay(data: &[u8]) {
    crate::cap::decoding(data, || {
        let mut source = Source::new(data);
        let selector = source.u8();
        let mut history = History::new();
        for _ in 0..4 + source.below(40) {
            history.step(&mut source);
        }
        let disk = history.crash(&mut source);
        match selector % 4 {
            0 => history.check_all(&disk, Damage::None),
            1 => {
                let edits = 1 + source.below(UNREPAIRED_BYTES_MAX);
                let num = source.u8();
                history.damage(&disk, num, |file| edit(&mut source, file, 0..usize::MAX, edits, 1));
                history.check_all(&disk, Damage::Seen);
            }
            2 => {
                let (num, len) = (source.u8(), u64::from(source.u16()) % SEGMENT_LEN);
                if let Some(path) = history.path(&disk, num) {
                    disk.truncate(&path, len).expect("in memory");
                }
                history.check_all(&disk, Damage::Seen);
            }
            _ => {
                for _ in 0..1 + source.below(3) {
                    let (num, edits) = (source.u8(), source.below(4));
                    history.damage(&disk, num, |file| edit(&mut source, file, 0..200, edits, 9));
                    let edits = source.below(4);
                    history.damage(&disk, num, |file| {
                        edit(&mut source, file, 0..usize::MAX, edits, 9)
                    });
                }
                history.repair(&disk);
                history.check_all(&disk, Damage::Hidden);
            }
        }
    });
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Damage {
    None,
    /// Checksums tell.
    Seen,
    /// Checksums were made right again: anything may come out.
    Hidden,
}

struct History {
    mem: MemFs,
    log: Log,
    listed: Vec<SegmentToReplay>,
    free: Vec<FileNum>,
    next: u64,
    /// How many records were appended, and the end of each.
    ends: Vec<Lsn>,
    synced: usize,
    /// Records before this one are not needed any more.
    needed: usize,
    closed: bool,
}

fn payload(index: usize) -> Vec<u8> {
    let len = [8, 9, 40, 100, 300, 1500][index * 7 % 6];
    let mut bytes = (index as u64).to_le_bytes().to_vec();
    bytes.resize(len, index as u8 | 1);
    bytes
}

impl History {
    fn new() -> History {
        let mem = MemFs::new();
        mem.create_dir_all(&dir()).expect("in memory");
        mem.sync_dir(Path::new("/")).expect("in memory");
        let first =
            prepare_segment(&mem, &dir(), FileNum(1), SEGMENT_LEN, None).expect("in memory");
        let log =
            Log::start(LogOptions { db_id: DB_ID }, first, Lsn(1000), None).expect("in memory");
        let listed = vec![SegmentToReplay { num: FileNum(1), closed: None }];
        let (free, ends) = (Vec::new(), Vec::new());
        History { mem, log, listed, free, next: 2, ends, synced: 0, needed: 0, closed: false }
    }

    fn step(&mut self, source: &mut Source<'_>) {
        if self.closed {
            return;
        }
        match source.u8() % 16 {
            0..8 => self.append(),
            8..11 => self.sync(),
            11 => self.log.mark_synced().expect("in memory"),
            12 | 13 if self.log.wants_spare() => self.spare(SEGMENT_LEN),
            14 => self.trim(source.below(8)),
            15 if source.u8().is_multiple_of(4) => self.close(),
            _ => {}
        }
    }

    fn append(&mut self) {
        loop {
            match self.log.append(&payload(self.ends.len())).expect("in memory") {
                Ok(appended) => return self.ends.push(appended.end),
                Err(need) => self.spare(need.min_len.max(SEGMENT_LEN)),
            }
        }
    }

    fn sync(&mut self) {
        self.log.sync(self.log.end()).expect("in memory");
        self.synced = self.ends.len();
    }

    fn spare(&mut self, len: u64) {
        let recycle = if len == SEGMENT_LEN { self.free.pop() } else { None };
        let num = FileNum(self.next);
        self.next += 1;
        let spare = prepare_segment(&self.mem, &dir(), num, len, recycle).expect("in memory");
        self.listed.push(SegmentToReplay { num, closed: None });
        self.log.install_spare(spare);
    }

    fn trim(&mut self, keep: usize) {
        let at = self.ends.len().saturating_sub(keep);
        let floor = self.ends.get(at).copied().unwrap_or(Lsn(0));
        let len_of = |num: FileNum| {
            self.mem.metadata(&FileName::Segment(num).in_dir(&dir())).map_or(0, |m| m.len)
        };
        let gone = self.log.remove_before(floor);
        self.listed.retain(|s| !gone.contains(&s.num));
        self.free.extend(gone.into_iter().filter(|num| len_of(*num) == SEGMENT_LEN));
        // The floor is the end of record `at`: that one is not needed either.
        self.needed = self.needed.max(if floor == Lsn(0) { 0 } else { at + 1 });
    }

    fn close(&mut self) {
        let ends = self.log.close().expect("in memory");
        let close = |s: &SegmentToReplay| {
            let closed = ends.iter().find(|end| end.num == s.num).copied();
            closed.map(|end| SegmentToReplay { num: s.num, closed: Some(end) })
        };
        self.listed = self.listed.iter().filter_map(close).collect();
        (self.synced, self.closed) = (self.ends.len(), true);
    }

    fn crash(&self, source: &mut Source<'_>) -> MemFs {
        match source.below(8) {
            at @ 0..6 => self.mem.crash(CrashProfile::ALL[at], u64::from(source.u8())),
            _ => self.mem.crash(CrashProfile::KeepAll, 0),
        }
    }

    fn path(&self, disk: &MemFs, at: u8) -> Option<PathBuf> {
        let listed = self.listed.get(usize::from(at) % self.listed.len().max(1))?;
        Some(FileName::Segment(listed.num).in_dir(&dir()))
            .filter(|path| disk.metadata(path).is_ok())
    }

    fn damage(&self, disk: &MemFs, at: u8, change: impl FnOnce(&mut Vec<u8>)) {
        let Some(path) = self.path(disk, at) else { return };
        let mut bytes = disk.read_file(&path).expect("in memory");
        change(&mut bytes);
        disk.overwrite(&path, &bytes).expect("in memory");
    }

    fn repair(&self, disk: &MemFs) {
        for segment in &self.listed {
            let path = FileName::Segment(segment.num).in_dir(&dir());
            let mut bytes = disk.read_file(&path).expect("in memory");
            repair_header(&mut bytes, CRC_OFFSET);
            repair_records(&mut bytes, HEADER_LEN, identity_hash(DB_ID, segment.num.0));
            disk.overwrite(&path, &bytes).expect("in memory");
        }
    }

    fn check_all(&self, disk: &MemFs, damage: Damage) {
        for mode in MODES {
            self.check(disk, mode, damage);
        }
    }

    fn check(&self, disk: &MemFs, mode: RecoveryMode, damage: Damage) {
        let (mut seen, mut last) = (Vec::new(), Lsn(0));
        let result = replay(disk, &dir(), DB_ID, &self.listed, mode, &mut |end, _, _, bytes| {
            // Salvage of segments that somebody made goes by what each says of itself.
            let salvage = mode == RecoveryMode::SkipCorrupt && damage == Damage::Hidden;
            assert!(salvage || end > last, "position {end} after {last} in mode {mode:?}");
            last = end;
            seen.push(self.index_of(bytes, damage));
            Ok(())
        });
        match result {
            Ok(replayed) => self.check_lists(&replayed, mode, seen.len()),
            Err(Error::Corruption { .. } | Error::UnsupportedFormat { .. }) => {
                let legal = damage != Damage::None || mode == RecoveryMode::Absolute;
                assert!(legal, "a crash is taken for damage in mode {mode:?}");
            }
            Err(e) => panic!("{mode:?}: {e}"),
        }
        if damage == Damage::Hidden {
            return;
        }
        assert!(seen.windows(2).all(|w| w[0] < w[1]), "records out of order {seen:?}");
        if mode == RecoveryMode::SkipCorrupt {
            return;
        }
        assert!(seen.windows(2).all(|w| w[0] + 1 == w[1]), "a hole in {seen:?}");
        if damage == Damage::None && mode != RecoveryMode::Absolute {
            let end = seen.last().map_or(0, |last| last + 1);
            assert!(
                end >= self.synced || self.needed >= self.synced,
                "synced {} found {end}",
                self.synced
            );
            let start = seen.first().copied().unwrap_or(usize::MAX);
            assert!(
                start <= self.needed || self.needed >= self.synced,
                "needed {} found from {start}",
                self.needed
            );
        }
    }

    fn index_of(&self, bytes: &[u8], damage: Damage) -> usize {
        if damage == Damage::Hidden {
            return 0;
        }
        let index = bytes.first_chunk().map_or(u64::MAX, |b| u64::from_le_bytes(*b)) as usize;
        assert!(index < self.ends.len() && payload(index) == bytes, "never a wrong record");
        index
    }

    fn check_lists(&self, replayed: &Replayed, mode: RecoveryMode, seen: usize) {
        assert_eq!(replayed.records, seen as u64);
        assert!(replayed.next >= replayed.end);
        if mode == RecoveryMode::SkipCorrupt {
            return;
        }
        let mut all: Vec<_> = replayed.segments.iter().map(|s| s.num).collect();
        all.extend(replayed.unused.iter().chain(&replayed.dropped));
        all.sort_unstable();
        let mut listed: Vec<_> = self.listed.iter().map(|s| s.num).collect();
        listed.sort_unstable();
        assert_eq!(all, listed, "each segment is in one list");
    }
}
