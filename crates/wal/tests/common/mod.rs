//! A log with a make-believe manifest: which segments are listed, since which operation of the disk.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test file uses a part")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::{FileName, FileNum, Result};
use vfs::{CrashProfile, Fs, MemFs};
use wal::*;

pub const DB_ID: u64 = 0xe5_4e_12;

pub fn payload(index: u64) -> Vec<u8> {
    let len = 8 + (index * 37 % 90) as usize;
    let mut bytes = index.to_le_bytes().to_vec();
    bytes.resize(len, index as u8 | 1);
    bytes
}

#[derive(Debug, Clone)]
pub struct Listed {
    pub segment: SegmentToReplay,
    /// Operations of the disk done when the manifest listed it, and when it stopped.
    pub from: u64,
    pub until: u64,
}

pub struct Rig {
    pub fs: Arc<dyn Fs>,
    pub mem: MemFs,
    pub dir: PathBuf,
    pub log: Log,
    pub len: u64,
    pub listed: Vec<Listed>,
    pub free: Vec<FileNum>,
    pub next_num: u64,
    /// Payload indexes appended with success, in order, and the position behind each.
    pub appended: Vec<(u64, Lsn)>,
    /// After so many operations, so many records were synced.
    pub floors: Vec<(u64, usize)>,
}

pub fn dir() -> PathBuf {
    PathBuf::from("/db")
}

pub fn new_disk() -> MemFs {
    let mem = MemFs::new();
    mem.create_dir_all(&dir()).unwrap();
    mem.sync_dir(Path::new("/")).unwrap();
    mem
}

pub fn path_of(num: u64) -> PathBuf {
    FileName::Segment(FileNum(num)).in_dir(&dir())
}

impl Rig {
    pub fn new(len: u64) -> Rig {
        let mem = new_disk();
        Rig::on(mem.clone(), Arc::new(mem), len)
    }

    pub fn on(mem: MemFs, fs: Arc<dyn Fs>, len: u64) -> Rig {
        let first = prepare_segment(&*fs, &dir(), FileNum(1), len, None).unwrap();
        let listed = vec![Listed { segment: plain(1), from: mem.op_count(), until: u64::MAX }];
        let log = Log::start(LogOptions { db_id: DB_ID }, first, Lsn(1000), None).unwrap();
        let dir = dir();
        Rig {
            fs,
            mem,
            dir,
            log,
            len,
            listed,
            free: vec![],
            next_num: 2,
            appended: vec![],
            floors: vec![],
        }
    }

    /// Prepares a segment, lists it and hands it to the log.
    pub fn spare(&mut self, len: u64) {
        let recycle = if len == self.len { self.free.pop() } else { None };
        let num = FileNum(self.next_num);
        self.next_num += 1;
        let spare = prepare_segment(&*self.fs, &self.dir, num, len, recycle).unwrap();
        self.listed.push(Listed {
            segment: plain(num.0),
            from: self.mem.op_count(),
            until: u64::MAX,
        });
        self.log.install_spare(spare);
    }

    pub fn try_append(&mut self, index: u64) -> Result<Appended> {
        let bytes = payload(index);
        loop {
            match self.log.append(&bytes)? {
                Ok(appended) => {
                    self.appended.push((index, appended.end));
                    return Ok(appended);
                }
                Err(need) => self.spare(self.len.max(need.min_len)),
            }
        }
    }

    pub fn append(&mut self, index: u64) {
        self.try_append(index).unwrap();
        if self.log.wants_spare() {
            self.spare(self.len);
        }
    }

    pub fn sync(&mut self) {
        let count = self.appended.len();
        self.log.sync(self.log.end()).unwrap();
        self.floors.push((self.mem.op_count(), count));
    }

    /// Forgets what ends before the newest `keep` records, and frees the files.
    pub fn trim(&mut self, keep: usize) {
        let at = self.appended.len().saturating_sub(keep);
        let floor = self.appended.get(at).map_or(Lsn(0), |(_, end)| *end);
        let before: Vec<_> = self.log.segments();
        let gone = self.log.remove_before(floor);
        for num in gone {
            assert!(before.iter().all(|s| s.num != num || s.end <= floor));
            for listed in self.listed.iter_mut().filter(|l| l.segment.num == num) {
                listed.until = self.mem.op_count();
            }
            self.free.push(num);
        }
    }

    /// The manifest after `ops` operations of the disk.
    pub fn manifest_at(&self, ops: u64) -> Vec<SegmentToReplay> {
        let live = self.listed.iter().filter(|l| l.from <= ops && ops < l.until);
        live.map(|l| l.segment).collect()
    }

    pub fn manifest(&self) -> Vec<SegmentToReplay> {
        self.manifest_at(self.mem.op_count().min(u64::MAX - 1))
    }

    pub fn floor_at(&self, ops: u64) -> usize {
        self.floors.iter().filter(|(at, _)| *at <= ops).map(|(_, n)| *n).max().unwrap_or(0)
    }
}

pub fn plain(num: u64) -> SegmentToReplay {
    SegmentToReplay { num: FileNum(num), closed: None }
}

/// Replays and returns the indexes of the records; checks that each payload is what was once written.
pub fn read(
    fs: &dyn Fs,
    manifest: &[SegmentToReplay],
    mode: RecoveryMode,
) -> Result<(Vec<u64>, Replayed)> {
    let mut seen = Vec::new();
    let mut last = Lsn(0);
    let replayed = replay(fs, &dir(), DB_ID, manifest, mode, &mut |end, path, offset, bytes| {
        assert!(end > last, "positions ascend");
        assert!(offset >= 104 || mode == RecoveryMode::SkipCorrupt, "{path:?}");
        last = end;
        let index = u64::from_le_bytes(bytes[..8].try_into().unwrap());
        assert_eq!(bytes, payload(index), "never a wrong record");
        seen.push(index);
        Ok(())
    })?;
    assert_eq!(replayed.records, seen.len() as u64);
    assert!(replayed.next >= replayed.end);
    if mode != RecoveryMode::SkipCorrupt {
        let mut all: Vec<_> = replayed.segments.iter().map(|s| s.num).collect();
        all.extend(replayed.unused.iter().chain(&replayed.dropped));
        all.sort();
        let mut listed: Vec<_> = manifest.iter().map(|s| s.num).collect();
        listed.sort();
        assert_eq!(all, listed, "each segment is in one list");
    }
    Ok((seen, replayed))
}

/// True if `seen` is what `appended` begins with, behind what was trimmed: a run without a hole.
pub fn run_from(appended: &[(u64, Lsn)], seen: &[u64]) -> Option<usize> {
    let Some(first) = seen.first() else { return Some(0) };
    let at = appended.iter().position(|(index, _)| index == first)?;
    let same = appended[at..].iter().map(|(i, _)| *i).zip(seen).all(|(a, b)| a == *b);
    (same && at + seen.len() <= appended.len()).then_some(at + seen.len())
}

/// Four segments or more, and a spare; the last three records state that all before them is synced.
pub fn small_log(len: u64) -> (Rig, usize) {
    let mut rig = Rig::new(len);
    let mut index = 0;
    while rig.log.segments().len() < 4 {
        rig.append(index);
        index += 1;
    }
    for more in index..index + 2 {
        rig.append(more);
    }
    rig.sync();
    let synced = rig.appended.len();
    for more in index + 2..index + 5 {
        rig.append(more);
    }
    (rig, synced)
}

pub fn damaged(rig: &Rig, edit: impl FnOnce(&MemFs)) -> MemFs {
    let copy = rig.mem.crash(CrashProfile::KeepAll, 0);
    edit(&copy);
    copy
}
