//! One in-memory file: what readers see, what is on the disk, and what lies between.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::content::{Content, PageWrite};

/// What a failed sync leaves behind.
///
/// # Source
/// Rebello et al., "Can Applications Recover from fsync Failures?", USENIX ATC 2020.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SyncOutcome {
    /// The dirty pages are marked clean although they never reached the disk: reads go on to show the
    /// new bytes, the next sync returns `Ok`, and a crash brings the old bytes back (ext4, XFS).
    PageCleanCacheNew,
    /// The file goes back to what the disk has, length included (Btrfs).
    PageReverted,
    /// The error is reported once, the pages stay dirty, and the next sync makes them durable.
    ErrorOnceThenOk,
}

/// One change of a file's bytes or length since its last sync.
#[derive(Debug, Clone)]
pub(crate) enum Effect {
    /// Everything before was cut away; length 0.
    Truncate,
    /// Part of one page was replaced.
    Write(PageWrite),
    /// An append moved the end.
    Grow { from: u64, to: u64 },
    /// Zeros were allocated in one step.
    Allocate { to: u64 },
}

/// Effects since the last sync, newest first. A persistent list: adding is one allocation, a clone one
/// pointer, and the snapshots of a history share their tails.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pending {
    newest: Option<Arc<Node>>,
}

#[derive(Debug)]
struct Node {
    effect: Effect,
    older: Option<Arc<Node>>,
}

impl Pending {
    pub(crate) fn push(&mut self, effect: Effect) {
        self.newest = Some(Arc::new(Node { effect, older: self.newest.take() }));
    }

    fn is_empty(&self) -> bool {
        self.newest.is_none()
    }

    pub(crate) fn oldest_first(&self) -> Vec<&Effect> {
        let mut effects = Vec::new();
        let mut next = self.newest.as_deref();
        while let Some(node) = next {
            effects.push(&node.effect);
            next = node.older.as_deref();
        }
        effects.reverse();
        effects
    }
}

impl Drop for Node {
    /// Frees the tail in a loop: a long list must not recurse.
    fn drop(&mut self) {
        let mut next = self.older.take();
        while let Some(mut node) = next.and_then(Arc::into_inner) {
            next = node.older.take();
        }
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct FileNode {
    /// What readers see.
    pub(crate) current: Content,
    /// What survives any crash.
    pub(crate) durable: Content,
    pub(crate) pending: Pending,
    /// Pages that a failed sync marked clean: the cache has them, the disk does not, and no sync will
    /// write them until they are dirtied again.
    pub(crate) unwritten: Arc<BTreeSet<u64>>,
    /// Names in the current tree.
    pub(crate) links: u32,
}

impl FileNode {
    pub(crate) fn write_at(&mut self, offset: u64, bytes: &[u8]) {
        let Self { current, pending, unwritten, .. } = self;
        let from = current.len;
        current.write_at(offset, bytes, |write| {
            if unwritten.contains(&write.page) {
                Arc::make_mut(unwritten).remove(&write.page);
            }
            pending.push(Effect::Write(write));
        });
        if current.len > from {
            pending.push(Effect::Grow { from, to: current.len });
        }
    }

    pub(crate) fn truncate(&mut self) {
        if self.current.len > 0 || !self.pending.is_empty() {
            self.current = Content::default();
            self.unwritten = Arc::default();
            self.pending.push(Effect::Truncate);
        }
    }

    pub(crate) fn allocate(&mut self, len: u64) {
        if len > 0 {
            self.current.set_len(len);
            self.pending.push(Effect::Allocate { to: len });
        }
    }

    pub(crate) fn sync(&mut self) {
        let mut synced = self.current.clone();
        for page in self.unwritten.iter() {
            synced.pages.set(*page, self.durable.pages.get(*page).cloned());
        }
        self.durable = synced;
        self.pending = Pending::default();
    }

    pub(crate) fn fail_sync(&mut self, outcome: SyncOutcome) {
        match outcome {
            SyncOutcome::ErrorOnceThenOk => {}
            SyncOutcome::PageCleanCacheNew => {
                let dirty =
                    self.pending.oldest_first().into_iter().filter_map(|effect| match effect {
                        Effect::Write(write) => Some(write.page),
                        _ => None,
                    });
                let mut unwritten = (*self.unwritten).clone();
                unwritten.extend(dirty);
                self.unwritten = Arc::new(unwritten);
                self.pending = Pending::default();
            }
            SyncOutcome::PageReverted => {
                self.current = self.durable.clone();
                self.unwritten = Arc::default();
                self.pending = Pending::default();
            }
        }
    }

    /// Replaces what readers see and what the disk has alike; for tests that edit the disk.
    pub(crate) fn replace(&mut self, content: Content) {
        self.current = content.clone();
        self.durable = content;
        self.pending = Pending::default();
        self.unwritten = Arc::default();
    }
}
