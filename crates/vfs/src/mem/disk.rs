//! The tree of an in-memory disk and the operations on names. Paths are purely lexical.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::content::Content;
use super::file::FileNode;

/// Number of an inode; never reused.
pub(crate) type Ino = u64;
pub(crate) const ROOT: Ino = 0;
/// Space of a disk whose capacity nobody set: 1 TiB.
const DEFAULT_CAPACITY_BYTES: u64 = 1 << 40;

pub(crate) type Names = BTreeMap<OsString, Ino>;

#[derive(Debug, Clone, Default)]
pub(crate) struct DirNode {
    pub(crate) current: Arc<Names>,
    pub(crate) durable: Arc<Names>,
}

#[derive(Debug, Clone)]
pub(crate) enum Node {
    File(FileNode),
    Dir(DirNode),
}

/// A name within a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    pub(crate) dir: Ino,
    pub(crate) name: OsString,
}

/// One change of names since the last sync of the directory.
#[derive(Debug, Clone)]
pub(crate) struct DirOp {
    /// Order of the operation among all of the disk.
    pub(crate) seq: u64,
    pub(crate) ino: Ino,
    pub(crate) change: NameChange,
}

#[derive(Debug, Clone)]
pub(crate) enum NameChange {
    Link(Entry),
    Unlink(Entry),
    Rename(Entry, Entry),
}

impl DirOp {
    pub(crate) fn dirs(&self) -> [Ino; 2] {
        match &self.change {
            NameChange::Link(entry) | NameChange::Unlink(entry) => [entry.dir, entry.dir],
            NameChange::Rename(from, to) => [from.dir, to.dir],
        }
    }
}

/// A whole disk. A clone costs a few pointers; the first change after it copies what it touches.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    pub(crate) nodes: Arc<BTreeMap<Ino, Arc<Node>>>,
    /// Changes of names not yet synced, oldest first.
    pub(crate) dir_ops: Arc<Vec<Arc<DirOp>>>,
    pub(crate) next_seq: u64,
    /// A journaling file system commits every name change below this with the last sync of anything.
    pub(crate) journal_floor: u64,
    next_ino: Ino,
    /// Bytes of all files that have a name.
    used: u64,
    capacity: Option<u64>,
    /// An inode may have lost its last name since the last collection.
    garbage: bool,
}

impl Disk {
    pub(crate) fn new() -> Self {
        let root = Arc::new(Node::Dir(DirNode::default()));
        Self::from_nodes(BTreeMap::from([(ROOT, root)]), ROOT + 1, None)
    }

    pub(crate) fn from_nodes(
        nodes: BTreeMap<Ino, Arc<Node>>,
        next_ino: Ino,
        capacity: Option<u64>,
    ) -> Self {
        Self {
            nodes: Arc::new(nodes),
            dir_ops: Arc::default(),
            next_seq: 0,
            journal_floor: 0,
            next_ino,
            used: 0,
            capacity,
            garbage: false,
        }
    }

    pub(crate) fn next_ino(&self) -> Ino {
        self.next_ino
    }

    pub(crate) fn capacity(&self) -> Option<u64> {
        self.capacity
    }

    pub(crate) fn set_capacity(&mut self, capacity: Option<u64>) {
        self.capacity = capacity;
    }

    pub(crate) fn used(&self) -> u64 {
        self.used
    }

    pub(crate) fn set_used(&mut self, used: u64) {
        self.used = used;
    }

    pub(crate) fn free(&self) -> u64 {
        self.capacity.unwrap_or(DEFAULT_CAPACITY_BYTES).saturating_sub(self.used)
    }

    // --- looking up ---

    pub(crate) fn lookup(&self, path: &Path) -> io::Result<Ino> {
        parts(path).iter().try_fold(ROOT, |dir, name| self.child(dir, name))
    }

    fn child(&self, dir: Ino, name: &OsStr) -> io::Result<Ino> {
        self.dir(dir)?.current.get(name).copied().ok_or_else(|| ErrorKind::NotFound.into())
    }

    pub(crate) fn dir(&self, ino: Ino) -> io::Result<&DirNode> {
        match self.nodes.get(&ino).map(|node| &**node) {
            Some(Node::Dir(dir)) => Ok(dir),
            Some(Node::File(_)) => Err(ErrorKind::NotADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    pub(crate) fn file(&self, ino: Ino) -> io::Result<&FileNode> {
        match self.nodes.get(&ino).map(|node| &**node) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Dir(_)) => Err(ErrorKind::IsADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    pub(crate) fn lookup_file(&self, path: &Path) -> io::Result<Ino> {
        let ino = self.lookup(path)?;
        self.file(ino).map(|_| ino)
    }

    pub(crate) fn is_dir(&self, ino: Ino) -> bool {
        self.dir(ino).is_ok()
    }

    /// The entry that `path` names, whether there is something or not; its directory must exist.
    fn entry(&self, path: &Path) -> io::Result<Entry> {
        let mut names = parts(path);
        let name = names.pop().ok_or(ErrorKind::IsADirectory)?;
        let dir = names.iter().try_fold(ROOT, |dir, name| self.child(dir, name))?;
        self.dir(dir)?;
        Ok(Entry { dir, name })
    }

    fn at(&self, entry: &Entry) -> Option<Ino> {
        self.child(entry.dir, &entry.name).ok()
    }

    /// Every file in the current tree with its path from the root, sorted.
    pub(crate) fn walk_files(&self) -> Vec<(PathBuf, Ino)> {
        let mut found = Vec::new();
        self.walk(ROOT, &PathBuf::from("/"), &mut |path, ino, is_dir| {
            if !is_dir {
                found.push((path.to_path_buf(), ino));
            }
        });
        found
    }

    /// Calls `visit(path, inode, is_dir)` for everything below `dir`, in order of names.
    pub(crate) fn walk(&self, dir: Ino, at: &Path, visit: &mut dyn FnMut(&Path, Ino, bool)) {
        let Ok(node) = self.dir(dir) else { return };
        for (name, ino) in node.current.iter() {
            let path = at.join(name);
            let is_dir = self.is_dir(*ino);
            visit(&path, *ino, is_dir);
            if is_dir {
                self.walk(*ino, &path, visit);
            }
        }
    }

    // --- changing ---

    fn node_mut(&mut self, ino: Ino) -> Option<&mut Node> {
        Arc::make_mut(&mut self.nodes).get_mut(&ino).map(Arc::make_mut)
    }

    pub(crate) fn file_mut(&mut self, ino: Ino) -> io::Result<&mut FileNode> {
        match self.node_mut(ino) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Dir(_)) => Err(ErrorKind::IsADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    /// Changes a file through `edit` and keeps the count of used bytes.
    pub(crate) fn edit<T>(
        &mut self,
        ino: Ino,
        edit: impl FnOnce(&mut FileNode) -> T,
    ) -> io::Result<T> {
        let file = self.file_mut(ino)?;
        let before = file.current.len;
        let result = edit(file);
        let (after, named) = (file.current.len, file.links > 0);
        if named {
            self.used = (self.used + after).saturating_sub(before);
        }
        Ok(result)
    }

    /// Appends what fits at the end of the file; `StorageFull` if that was not all.
    pub(crate) fn append(&mut self, ino: Ino, bytes: &[u8]) -> io::Result<()> {
        let fits = usize::try_from(self.free()).map_or(bytes.len(), |free| free.min(bytes.len()));
        self.edit(ino, |file| file.write_at(file.current.len, &bytes[..fits]))?;
        if fits < bytes.len() { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn add_node(&mut self, node: Node) -> Ino {
        let ino = self.next_ino;
        self.next_ino += 1;
        Arc::make_mut(&mut self.nodes).insert(ino, Arc::new(node));
        ino
    }

    fn names_mut(&mut self, dir: Ino) -> Option<&mut Names> {
        match self.node_mut(dir) {
            Some(Node::Dir(dir)) => Some(Arc::make_mut(&mut dir.current)),
            _ => None,
        }
    }

    fn set_name(&mut self, entry: &Entry, ino: Option<Ino>) {
        let Some(names) = self.names_mut(entry.dir) else { return };
        let old = match ino {
            Some(ino) => names.insert(entry.name.clone(), ino),
            None => names.remove(&entry.name),
        };
        for (ino, step) in [(old, -1), (ino, 1)] {
            self.count_link(ino, step);
        }
    }

    fn count_link(&mut self, ino: Option<Ino>, step: i32) {
        let Some(Ok(file)) = ino.map(|ino| self.file_mut(ino)) else { return };
        let (before, len) = (file.links, file.current.len);
        file.links = before.saturating_add_signed(step);
        match (before, file.links) {
            (0, 1) => self.used += len,
            (1, 0) => {
                self.used = self.used.saturating_sub(len);
                self.garbage = true;
            }
            _ => {}
        }
    }

    fn log(&mut self, ino: Ino, change: NameChange) {
        let seq = self.next_seq;
        self.next_seq += 1;
        Arc::make_mut(&mut self.dir_ops).push(Arc::new(DirOp { seq, ino, change }));
    }

    fn link(&mut self, entry: Entry, ino: Ino) {
        self.set_name(&entry, Some(ino));
        self.log(ino, NameChange::Link(entry));
    }

    fn unlink(&mut self, entry: Entry, ino: Ino) {
        self.set_name(&entry, None);
        self.log(ino, NameChange::Unlink(entry));
    }

    /// The file at `path`, made if missing.
    pub(crate) fn open_or_create(&mut self, path: &Path) -> io::Result<Ino> {
        let entry = self.entry(path)?;
        if let Some(ino) = self.at(&entry) {
            return self.file(ino).map(|_| ino);
        }
        let ino = self.add_node(Node::File(FileNode::default()));
        self.link(entry, ino);
        Ok(ino)
    }

    pub(crate) fn create(&mut self, path: &Path) -> io::Result<Ino> {
        let ino = self.open_or_create(path)?;
        self.edit(ino, FileNode::truncate)?;
        Ok(ino)
    }

    /// A fresh inode of `len` zero bytes under `path`; what was there keeps its bytes for its readers.
    pub(crate) fn create_segment(&mut self, path: &Path, len: u64) -> io::Result<Ino> {
        let entry = self.entry(path)?;
        let old = self.at(&entry);
        let freed = match old {
            Some(ino) => Some(self.file(ino)?)
                .filter(|file| file.links == 1)
                .map_or(0, |file| file.current.len),
            None => 0,
        };
        if self.free().saturating_add(freed) < len {
            return Err(ErrorKind::StorageFull.into());
        }
        if let Some(old) = old {
            self.unlink(entry.clone(), old);
        }
        let ino = self.add_node(Node::File(FileNode::default()));
        self.link(entry, ino);
        self.edit(ino, |file| file.allocate(len))?;
        Ok(ino)
    }

    pub(crate) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let from_parts = parts(from);
        let (from, ino) = self.existing(from)?;
        let to_parts = parts(to);
        let to = self.entry(to)?;
        if to_parts.len() > from_parts.len() && to_parts.starts_with(&from_parts) {
            return Err(ErrorKind::InvalidInput.into());
        }
        if let Some(target) = self.at(&to) {
            if target == ino {
                return Ok(());
            }
            self.check_replaceable(ino, target)?;
        }
        self.set_name(&from, None);
        self.set_name(&to, Some(ino));
        self.log(ino, NameChange::Rename(from, to));
        Ok(())
    }

    fn check_replaceable(&self, ino: Ino, target: Ino) -> io::Result<()> {
        match (self.is_dir(ino), self.dir(target)) {
            (false, Ok(_)) => Err(ErrorKind::IsADirectory.into()),
            (true, Err(_)) => Err(ErrorKind::NotADirectory.into()),
            (true, Ok(dir)) if !dir.current.is_empty() => Err(ErrorKind::DirectoryNotEmpty.into()),
            _ => Ok(()),
        }
    }

    fn existing(&self, path: &Path) -> io::Result<(Entry, Ino)> {
        let entry = self.entry(path)?;
        let ino = self.at(&entry).ok_or(ErrorKind::NotFound)?;
        Ok((entry, ino))
    }

    pub(crate) fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        let (entry, ino) = self.existing(path)?;
        self.file(ino)?;
        self.unlink(entry, ino);
        Ok(())
    }

    pub(crate) fn remove_dir(&mut self, path: &Path) -> io::Result<()> {
        let (entry, ino) = self.existing(path)?;
        if !self.dir(ino)?.current.is_empty() {
            return Err(ErrorKind::DirectoryNotEmpty.into());
        }
        self.garbage = true;
        self.unlink(entry, ino);
        Ok(())
    }

    pub(crate) fn hard_link(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let ino = self.lookup(from)?;
        let entry = self.entry(to)?;
        if self.at(&entry).is_some() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        if self.is_dir(ino) {
            return Err(ErrorKind::PermissionDenied.into());
        }
        self.link(entry, ino);
        Ok(())
    }

    pub(crate) fn create_dir_all(&mut self, path: &Path) -> io::Result<()> {
        let names = parts(path);
        let mut dir = ROOT;
        for (at, name) in names.iter().enumerate() {
            dir = match self.child(dir, name) {
                Ok(ino) if !self.is_dir(ino) && at + 1 == names.len() => {
                    return Err(ErrorKind::AlreadyExists.into());
                }
                Ok(ino) => ino,
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    let ino = self.add_node(Node::Dir(DirNode::default()));
                    self.link(Entry { dir, name: name.clone() }, ino);
                    ino
                }
                Err(error) => return Err(error),
            };
        }
        Ok(())
    }

    pub(crate) fn sync_file(&mut self, ino: Ino) -> io::Result<()> {
        self.file_mut(ino)?.sync();
        self.journal_floor = self.next_seq;
        Ok(())
    }

    /// Makes the names of `dir` durable, and those of directories that exchanged names with it: half a
    /// rename is never durable.
    pub(crate) fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        let dir = self.lookup(path)?;
        self.dir(dir)?;
        self.journal_floor = self.next_seq;
        let together = self.dirs_renamed_with(dir);
        for dir in &together {
            if let Some(Node::Dir(dir)) = self.node_mut(*dir) {
                dir.durable = Arc::clone(&dir.current);
            }
        }
        if self.dir_ops.iter().any(|op| together.contains(&op.dirs()[0])) {
            Arc::make_mut(&mut self.dir_ops).retain(|op| !together.contains(&op.dirs()[0]));
        }
        Ok(())
    }

    fn dirs_renamed_with(&self, dir: Ino) -> BTreeSet<Ino> {
        let mut together = BTreeSet::from([dir]);
        loop {
            let before = together.len();
            for op in self.dir_ops.iter() {
                let [a, b] = op.dirs();
                if together.contains(&a) || together.contains(&b) {
                    together.extend([a, b]);
                }
            }
            if together.len() == before {
                return together;
            }
        }
    }

    /// Forgets inodes that no name, no pending change of names and no handle can reach.
    pub(crate) fn collect(&mut self, open: &BTreeMap<Ino, usize>) {
        if !self.garbage {
            return;
        }
        let mut live: BTreeSet<Ino> = open.keys().copied().collect();
        let mut todo = vec![ROOT];
        todo.extend(self.dir_ops.iter().map(|op| op.ino));
        while let Some(ino) = todo.pop() {
            if live.insert(ino)
                && let Ok(dir) = self.dir(ino)
            {
                todo.extend(dir.current.values().chain(dir.durable.values()));
            }
        }
        Arc::make_mut(&mut self.nodes).retain(|ino, _| live.contains(ino));
        self.garbage =
            self.nodes.values().any(|node| matches!(&**node, Node::File(file) if file.links == 0));
    }

    /// Sets a file's bytes, now and on the disk, name included; for tests.
    pub(crate) fn replace(&mut self, path: &Path, content: Content) -> io::Result<()> {
        let ino = self.lookup_file(path)?;
        self.edit(ino, |file| file.replace(content))
    }
}

/// The names on the way from the root: `.` and the root go, `..` takes the last one away.
pub(crate) fn parts(path: &Path) -> Vec<OsString> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name.to_os_string()),
            Component::ParentDir => drop(names.pop()),
            Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
        }
    }
    names
}
