//! What manifests say that an open would refuse: for salvage. Nothing is written.

use std::path::{Path, PathBuf};

use base::{Error, FileName, FileNum, IoContext, Result};
use vfs::Fs;

use crate::State;
use crate::current::Current;
use crate::io::read_file;
use crate::replay::{db_id_of, replay, replay_start};
use crate::store::FILE_BYTES_MAX;

/// What a directory says of the database in it.
#[derive(Debug)]
pub struct Remains {
    /// Identity of the database, if `CURRENT` or a manifest tells.
    pub db_id: Option<u64>,
    /// What is wrong with `CURRENT`, or with the manifest it names; `None`: nothing.
    pub damage: Option<Error>,
    /// The manifests that can be read, from the start at least, the best first: the one that `CURRENT` names, then by falling number.
    pub manifests: Vec<ManifestRemains>,
}

/// One manifest file.
#[derive(Debug)]
pub struct ManifestRemains {
    /// Where it lies.
    pub path: PathBuf,
    /// What the edits before the first damage add up to.
    pub state: State,
    /// Why there may have been more; `None` if the file is whole.
    pub damage: Option<Error>,
}

/// Reads whatever can be read of `CURRENT` and all manifests in `dir`.
///
/// # Errors
/// [`Error::Io`] if `dir` cannot be listed.
pub fn remains(fs: &dyn Fs, dir: &Path) -> Result<Remains> {
    let listing = fs.list(dir).context("list", dir)?;
    let mut files: Vec<FileNum> = listing
        .iter()
        .filter_map(|name| match FileName::parse(name) {
            Some(FileName::Manifest(num)) => Some(num),
            _ => None,
        })
        .collect();
    let missing = || Error::corruption(&FileName::Current.in_dir(dir), 0, "file is missing");
    let current = Current::read(fs, dir).and_then(|current| current.ok_or_else(missing));
    let named = current.as_ref().ok().map(|current| current.manifest);
    files.sort_unstable_by_key(|&num| (Some(num) != named, std::cmp::Reverse(num)));
    let mut out = Remains { db_id: None, damage: None, manifests: Vec::new() };
    out.db_id = current.as_ref().ok().map(|current| current.db_id);
    for num in files {
        let expected = current.as_ref().ok().filter(|c| c.manifest == num).map_or(0, |c| c.len);
        match look_at(fs, dir, num, out.db_id, expected) {
            Ok(found) => {
                out.db_id.get_or_insert(found.state.db_id);
                out.manifests.push(found);
            }
            Err(e) if Some(num) == named => out.damage = Some(e),
            Err(_) => {}
        }
    }
    let named_is_read = |path: PathBuf| out.manifests.iter().any(|m| m.path == path);
    match current {
        Err(e) => out.damage = Some(e),
        Ok(current) if out.damage.is_none() => {
            let path = FileName::Manifest(current.manifest).in_dir(dir);
            if !named_is_read(path.clone()) {
                out.damage = Some(Error::corruption(&path, 0, "file is missing"));
            }
        }
        Ok(_) => {}
    }
    if out.damage.is_none() {
        out.damage = out.manifests.first().and_then(|m| m.damage.clone());
    }
    Ok(out)
}

fn look_at(
    fs: &dyn Fs,
    dir: &Path,
    num: FileNum,
    db_id: Option<u64>,
    expected_len: u64,
) -> Result<ManifestRemains> {
    let path = FileName::Manifest(num).in_dir(dir);
    let missing = || Error::corruption(&path, 0, "file is missing");
    let bytes = read_file(fs, &path, FILE_BYTES_MAX)?.ok_or_else(missing)?;
    let db_id = db_id
        .or_else(|| db_id_of(&bytes))
        .ok_or_else(|| Error::corruption(&path, 0, "checksum of the file header is wrong"))?;
    let (state, damage) = match replay(dir, num, db_id, &bytes) {
        Ok(found) if found.valid_len < expected_len => {
            let detail = format!("manifest ends here, it had {expected_len} bytes");
            let damage = Error::corruption(&path, found.valid_len, detail);
            (found.state, Some(damage))
        }
        Ok(found) => (found.state, None),
        Err(e) => match replay_start(num, db_id, &bytes) {
            Some(state) => (state, Some(e)),
            None => return Err(e),
        },
    };
    Ok(ManifestRemains { path, state, damage })
}

#[cfg(test)]
mod tests;
