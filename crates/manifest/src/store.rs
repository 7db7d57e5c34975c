//! [`Manifest`]: the log of edits on disk, and the switch from one file of it to the next.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::limits::EDIT_BYTES_MAX;
use base::{Error, FileName, FileNum, IoContext, Result};
use vfs::{Fs, WritableFile};
use wal::record::FileIdentity;

use crate::current::Current;
use crate::frame::{encode_edit, encode_marker};
use crate::io::{read_file, sync_failed};
use crate::replay::{Replayed, new_file, replay};
use crate::{State, VersionEdit};

/// A manifest larger than this is not read. Rotation keeps real ones far below.
pub(crate) const FILE_BYTES_MAX: u64 = 4 << 30;

/// Tuning of a [`Manifest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestOptions {
    /// A manifest is replaced by a snapshot in a new file once it is larger than this and than twice
    /// its own snapshot. 0 replaces it at every edit. Default 4 MiB.
    pub rotate_bytes: u64,
    /// Nothing is written, synced or removed. Default false.
    pub read_only: bool,
}

impl Default for ManifestOptions {
    fn default() -> Self {
        ManifestOptions { rotate_bytes: 4 << 20, read_only: false }
    }
}

/// The log of edits of one database. The only writer of `CURRENT` and of the `MANIFEST` files.
///
/// An edit counts once [`append`](Self::append) returned `Ok`: then it is on disk. If it returned an
/// error, whether the edit is on disk is unknown until the next successful append (then exactly that
/// append's state is) or the next [`recover`](Self::recover). Until then the caller must keep the
/// files that the failed edit adds as well as those it removes.
#[derive(Debug)]
pub struct Manifest {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    options: ManifestOptions,
    db_id: u64,
    num: FileNum,
    /// `None` if read-only.
    file: Option<Box<dyn WritableFile>>,
    /// Length of header and snapshot of this file.
    snapshot_len: u64,
    /// Bytes of this file that are known to be synced.
    synced: u64,
    health: Health,
    /// Largest payload of one record.
    part_bytes: usize,
    /// See [`was_closed`](Self::was_closed).
    was_closed: bool,
}

#[derive(Debug)]
enum Health {
    /// The next edit may be appended to the file.
    Clean,
    /// The file may have an end that is not whole, or `CURRENT` may name another one: the next edit
    /// goes to a new file.
    MustRotate,
    /// A sync failed, nothing is known any more.
    Broken(Error),
}

impl Manifest {
    /// True if `dir` holds a database, false if one may be created there.
    ///
    /// A creation that a crash cut short leaves at most manifests and temporary files, and counts as no
    /// database. So log segments and tables must not be created before [`create`](Self::create) returned.
    ///
    /// # Errors
    /// [`Error::Corruption`] naming `CURRENT` if it is missing although there are log segments or
    /// tables; [`Error::Io`].
    pub fn exists(fs: &dyn Fs, dir: &Path) -> Result<bool> {
        let listing = match fs.list(dir) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            listing => listing.context("list", dir)?,
        };
        let names: Vec<_> = listing.iter().filter_map(|name| FileName::parse(name)).collect();
        if names.contains(&FileName::Current) {
            return Ok(true);
        }
        let is_data = |n: &&FileName| matches!(n, FileName::Segment(_) | FileName::Table(_));
        match names.iter().find(is_data) {
            Some(name) => {
                let path = FileName::Current.in_dir(dir);
                Err(Error::corruption(&path, 0, format!("file is missing, but there is {name}")))
            }
            None => Ok(false),
        }
    }

    /// Makes `state` the database of `dir`, with manifest `num`. The directory exists.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] unless `num` is below `state.next_file`; [`Error::SyncFailed`],
    /// [`Error::NoSpace`], [`Error::Io`]: nothing may rely on the database, but it may be there.
    pub fn create(
        fs: Arc<dyn Fs>,
        dir: &Path,
        state: &State,
        num: FileNum,
        options: ManifestOptions,
    ) -> Result<Manifest> {
        if options.read_only {
            return Err(Error::ReadOnly);
        }
        if num >= state.next_file {
            let detail = format!("{num} is not below the next number {}", state.next_file);
            return Err(Error::invalid("manifest number", detail));
        }
        let mut manifest = Manifest {
            fs,
            dir: dir.to_path_buf(),
            options,
            db_id: state.db_id,
            num,
            file: None,
            snapshot_len: 0,
            synced: 0,
            health: Health::MustRotate,
            part_bytes: EDIT_BYTES_MAX,
            was_closed: false,
        };
        manifest.switch_to(num, state)?;
        Ok(manifest)
    }

    /// Reads the live manifest, and makes what it returns durable unless read-only.
    ///
    /// A torn last edit, whose append never returned `Ok`, is dropped. The recovered state may take a
    /// file number for a new manifest, so take numbers only from the returned `next_file` on.
    ///
    /// # Errors
    /// [`Error::NotADatabase`] if there is none; [`Error::Corruption`] and [`Error::UnsupportedFormat`]
    /// with the disk unchanged; [`Error::SyncFailed`], [`Error::Io`].
    pub fn recover(
        fs: Arc<dyn Fs>,
        dir: &Path,
        options: ManifestOptions,
    ) -> Result<(Manifest, State)> {
        let current = read_current(&*fs, dir)?;
        let path = FileName::Manifest(current.manifest).in_dir(dir);
        let bytes = read_file(&*fs, &path, FILE_BYTES_MAX)?;
        let bytes = bytes.ok_or_else(|| Error::corruption(&path, 0, "file is missing"))?;
        let replayed = replay(dir, current.manifest, current.db_id, &bytes)?;
        if replayed.valid_len < current.len {
            base::probe!("manifest shorter than it was");
            let detail = format!("manifest ends here, it had {} bytes", current.len);
            return Err(Error::corruption(&path, replayed.valid_len, detail));
        }
        let mut manifest = Manifest {
            fs,
            dir: dir.to_path_buf(),
            options,
            db_id: current.db_id,
            num: current.manifest,
            file: None,
            snapshot_len: replayed.snapshot_len,
            synced: replayed.valid_len,
            health: Health::Clean,
            part_bytes: EDIT_BYTES_MAX,
            was_closed: replayed.edits_end <= current.len
                && replayed.valid_len == bytes.len() as u64,
        };
        let Replayed { mut state, proven, .. } = replayed;
        if !manifest.options.read_only {
            manifest.make_durable(&mut state, proven)?;
        }
        Ok((manifest, state))
    }

    /// Makes `edit` durable. `state_after` is the state with the edit applied.
    ///
    /// If the file has grown past its limit, or an earlier append failed, a new manifest with a snapshot
    /// of `state_after` takes its place. Its number is `new_file()`, which must be unused; the snapshot's
    /// `next_file` is raised past it.
    ///
    /// # Errors
    /// [`Error::NoSpace`] and [`Error::Io`]: the next append starts a new manifest, so edits are accepted
    /// again as soon as it succeeds. [`Error::SyncFailed`]: this and every later append fails with it.
    /// [`Error::ReadOnly`]. For the fate of the edit see [`Manifest`].
    pub fn append(
        &mut self,
        state_after: &State,
        edit: &VersionEdit,
        new_file: &mut dyn FnMut() -> FileNum,
    ) -> Result<()> {
        if self.options.read_only {
            return Err(Error::ReadOnly);
        }
        if let Health::Broken(error) = &self.health {
            base::probe!("edit refused after a failed sync");
            return Err(error.clone());
        }
        if self.must_rotate() {
            if matches!(self.health, Health::MustRotate) {
                base::probe!("manifest replaced after a failed append");
            } else {
                base::probe!("manifest replaced for its size");
            }
            return self.rotate(state_after, new_file());
        }
        let appended = self.append_synced(edit);
        self.note(&appended);
        appended?;
        self.mark_synced();
        Ok(())
    }

    /// Notes the length of the manifest in `CURRENT`, so that a later loss of its end is noticed. The manifest can go
    /// on afterwards, but nothing more is expected.
    ///
    /// # Errors
    /// [`Error::SyncFailed`], [`Error::NoSpace`], [`Error::Io`]; nothing is lost.
    pub fn close(&mut self) -> Result<()> {
        let Some(file) = self.file.as_mut().filter(|_| matches!(self.health, Health::Clean)) else {
            return Ok(());
        };
        let path = FileName::Manifest(self.num).in_dir(&self.dir);
        file.sync().map_err(|e| sync_failed("sync", &path, e))?;
        let current = Current { manifest: self.num, db_id: self.db_id, len: self.synced };
        current.write(&*self.fs, &self.dir)
    }

    /// True if it was read as a [`close`](Self::close) or a rotation left it: `CURRENT`, which is written only when all
    /// before it is durable, covers every edit, and nothing is torn. What was read stays, without a sync by the reader.
    #[must_use]
    pub fn was_closed(&self) -> bool {
        self.was_closed
    }

    /// True if it was opened for reading alone: every [`append`](Self::append) fails.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.options.read_only
    }

    /// Number of the live manifest file.
    #[must_use]
    pub fn file(&self) -> FileNum {
        self.num
    }

    /// Identity of the database.
    #[must_use]
    pub fn db_id(&self) -> u64 {
        self.db_id
    }

    /// Length of the live manifest file in bytes.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        self.file.as_ref().map_or(self.synced, |f| f.len())
    }

    /// Those of the file names in `listing` that this manifest has made obsolete: other manifests and
    /// temporary files. Empty while an error leaves open which manifest is the live one.
    ///
    /// Temporary files of other writers are among them: call it while nobody else writes any.
    #[must_use]
    pub fn obsolete_files(&self, listing: &[PathBuf]) -> Vec<PathBuf> {
        if self.options.read_only || !matches!(self.health, Health::Clean) {
            return Vec::new();
        }
        let obsolete = |name: &&PathBuf| match FileName::parse(name) {
            Some(FileName::Manifest(num)) => num != self.num,
            Some(FileName::Temp) => true,
            _ => false,
        };
        listing.iter().filter(obsolete).cloned().collect()
    }

    fn must_rotate(&self) -> bool {
        let limit = match self.options.rotate_bytes {
            0 => 0,
            bytes => bytes.max(self.snapshot_len.saturating_mul(2)),
        };
        matches!(self.health, Health::MustRotate) || self.len_bytes() > limit
    }

    /// What an error of an append or a rotation means for those that follow.
    fn note(&mut self, result: &Result<()>) {
        match result {
            Ok(()) => {}
            Err(error @ Error::SyncFailed { .. }) => self.health = Health::Broken(error.clone()),
            Err(_) if base::planted::is(33) => {}
            Err(_) => self.health = Health::MustRotate,
        }
    }

    fn append_synced(&mut self, edit: &VersionEdit) -> Result<()> {
        let path = FileName::Manifest(self.num).in_dir(&self.dir);
        let Some(file) = &mut self.file else { return Err(Error::ReadOnly) };
        let mut bytes = Vec::new();
        edit.encode(&mut bytes);
        let identity = FileIdentity::new(self.db_id, self.num);
        let records = encode_edit(identity, file.len(), self.synced, &bytes, self.part_bytes)?;
        file.append(&records).context("append", &path)?;
        if !base::planted::is(12) {
            file.sync().map_err(|e| sync_failed("sync", &path, e))?;
        }
        self.synced = file.len();
        Ok(())
    }

    /// Notes in the file that all of it was synced. Nothing depends on it but the power to tell a torn
    /// end from damage, so if it fails it is enough not to write behind it.
    fn mark_synced(&mut self) {
        let Some(file) = &mut self.file else { return };
        let marker = encode_marker(FileIdentity::new(self.db_id, self.num), self.synced);
        if !marker.is_ok_and(|marker| file.append(&marker).is_ok()) {
            base::probe!("marker of the manifest failed");
            self.health = Health::MustRotate;
        }
    }

    /// Starts manifest `num` with a snapshot of `state`.
    fn rotate(&mut self, state: &State, num: FileNum) -> Result<()> {
        if num <= self.num {
            let detail = format!("{num} is not above that of the live one, {}", self.num);
            return Err(Error::invalid("manifest number", detail));
        }
        let mut state = state.clone();
        state.next_file = state.next_file.max(FileNum(num.0.saturating_add(1)));
        let switched = self.switch_to(num, &state);
        self.note(&switched);
        switched
    }

    fn switch_to(&mut self, num: FileNum, state: &State) -> Result<()> {
        let path = FileName::Manifest(num).in_dir(&self.dir);
        let bytes = new_file(num, state, self.part_bytes)?;
        let mut file = self.fs.create(&path).context("create", &path)?;
        file.append(&bytes).context("append", &path)?;
        if !base::planted::is(58) {
            file.sync().map_err(|e| sync_failed("sync", &path, e))?;
        }
        if !base::planted::is(59) {
            self.fs.sync_dir(&self.dir).map_err(|e| sync_failed("sync_dir", &self.dir, e))?;
        }
        let len = bytes.len() as u64;
        Current { manifest: num, db_id: self.db_id, len }.write(&*self.fs, &self.dir)?;
        (self.num, self.file, self.health) = (num, Some(file), Health::Clean);
        (self.snapshot_len, self.synced) = (len, len);
        Ok(())
    }

    /// What was read may be in the cache only, and even a sync that returns `Ok` now does not prove the
    /// contrary if an earlier one failed. So an edit that nothing proves synced is written anew.
    fn make_durable(&mut self, state: &mut State, proven: bool) -> Result<()> {
        let path = FileName::Manifest(self.num).in_dir(&self.dir);
        let mut file = self.fs.open_append(&path).context("open", &path)?;
        file.sync().map_err(|e| sync_failed("sync", &path, e))?;
        self.fs.sync_dir(&self.dir).map_err(|e| sync_failed("sync_dir", &self.dir, e))?;
        // Never write behind a torn end.
        if file.len() != self.synced {
            base::probe!("torn edit dropped");
            self.health = Health::MustRotate;
        }
        self.file = Some(file);
        if proven {
            return Ok(());
        }
        base::probe!("recovered manifest written anew");
        let num = state.next_file;
        match self.rotate(state, num) {
            Ok(()) => state.next_file = FileNum(num.0.saturating_add(1)),
            Err(e @ Error::SyncFailed { .. }) => return Err(e),
            // A full disk must not keep a database shut: the sync has to do, the next append tries again.
            Err(_) => {}
        }
        Ok(())
    }
}

fn read_current(fs: &dyn Fs, dir: &Path) -> Result<Current> {
    if let Some(current) = Current::read(fs, dir)? {
        return Ok(current);
    }
    Manifest::exists(fs, dir)?;
    let detail = "there is no file CURRENT; create a database first".to_string();
    Err(Error::NotADatabase { path: dir.to_path_buf(), detail })
}

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
pub(crate) mod tests;
