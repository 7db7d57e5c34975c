//! What tests do to a disk behind the engine's back. None of it counts as an operation; edits are durable
//! at once.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::MemFs;
use super::content::{Content, PAGE, Page};
use super::disk::{Disk, ROOT};

impl MemFs {
    /// Limits the disk to `bytes` of file lengths, or lifts the limit to 1 TiB. Appends past it write what
    /// fits and fail with `StorageFull`; what is already there stays.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.shared.state.lock().disk_mut().set_capacity(bytes);
    }

    /// Sum of the lengths of all files that have a name, holes included, hard links once.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.shared.state.lock().disk().used()
    }

    /// Paths and lengths of all files, sorted by path.
    #[must_use]
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let disk = self.shared.state.lock().disk().clone();
        let len = |ino| disk.file(ino).map_or(0, |file| file.current.len);
        disk.walk_files().into_iter().map(|(path, ino)| (path, len(ino))).collect()
    }

    /// All bytes of a file.
    ///
    /// # Errors
    /// `NotFound` or `IsADirectory` if `path` names no file.
    pub fn read_file(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.content(path).map(|content| content.to_vec())
    }

    /// Replaces the bytes of an existing file.
    ///
    /// # Errors
    /// `NotFound` or `IsADirectory` if `path` names no file.
    pub fn overwrite(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut content = Content::default();
        content.write_at(0, bytes, |_| {});
        self.replace(path, content)
    }

    /// Changes one byte of a file.
    ///
    /// # Errors
    /// `InvalidInput` if the file ends before `offset`; `NotFound` or `IsADirectory` if there is no file.
    pub fn corrupt(&self, path: &Path, offset: u64, edit: impl FnOnce(&mut u8)) -> io::Result<()> {
        let mut content = self.content(path)?;
        let mut byte = [0];
        if content.read_at(&mut byte, offset) == 0 {
            return Err(ErrorKind::InvalidInput.into());
        }
        edit(&mut byte[0]);
        content.write_at(offset, &byte, |_| {});
        self.replace(path, content)
    }

    /// Flips bit `bit % 8` of the byte at `offset`.
    ///
    /// # Errors
    /// As [`corrupt`](Self::corrupt).
    pub fn flip_bit(&self, path: &Path, offset: u64, bit: u32) -> io::Result<()> {
        self.corrupt(path, offset, |byte| *byte ^= 1 << (bit % 8))
    }

    /// Cuts a file to `len` bytes, or lets it grow by zeros.
    ///
    /// # Errors
    /// `NotFound` or `IsADirectory` if `path` names no file.
    pub fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        let mut content = self.content(path)?;
        content.set_len(len);
        self.replace(path, content)
    }

    /// Adds `bytes` at the end of a file.
    ///
    /// # Errors
    /// `NotFound` or `IsADirectory` if `path` names no file.
    pub fn extend(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut content = self.content(path)?;
        content.write_at(content.len, bytes, |_| {});
        self.replace(path, content)
    }

    /// A number that changes with any name, length or byte on the disk (FNV-1a, 64 bits).
    #[must_use]
    pub fn hash(&self) -> u64 {
        let disk = self.shared.state.lock().disk().clone();
        hash_disk(&disk)
    }

    fn content(&self, path: &Path) -> io::Result<Content> {
        self.read(|disk| Ok(disk.file(disk.lookup(path)?)?.current.clone()))
    }

    fn replace(&self, path: &Path, content: Content) -> io::Result<()> {
        self.shared.state.lock().disk_mut().replace(path, content)
    }
}

fn hash_disk(disk: &Disk) -> u64 {
    let mut hash = Fnv::new();
    disk.walk(ROOT, Path::new("/"), &mut |path, ino, is_dir| {
        hash.add(path.as_os_str().as_encoded_bytes());
        hash.add(&[0, u8::from(is_dir)]);
        if let Ok(file) = disk.file(ino) {
            hash.add(&file.current.len.to_le_bytes());
            for (number, page) in file.current.pages.iter().filter(|(_, page)| ***page != [0; PAGE])
            {
                hash.add(&number.to_le_bytes());
                hash.add_page(page);
            }
        }
    });
    hash.0
}

struct Fnv(u64);

impl Fnv {
    const PRIME: u64 = 0x0000_0100_0000_01B3;

    fn new() -> Self {
        Self(0xCBF2_9CE4_8422_2325)
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.step(u64::from(*byte));
        }
    }

    /// Pages go in by words: each step is a bijection, so any single change still shows.
    fn add_page(&mut self, page: &Page) {
        for word in page.chunks_exact(8) {
            self.step(word.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)));
            self.0 ^= self.0 >> 29;
        }
    }

    fn step(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(Self::PRIME);
    }
}
