//! Compressing and writing blocks beside the thread that builds them.
//!
//! Blocks are handed over in groups, and a helper takes them one by one. It only ever helps: where several groups wait the thread
//! that builds compresses what it hands over, and with too many of them it writes the next one itself. So it does not matter when a
//! helper runs, or whether it does: what is written is the same.

use crate::Compression;
use crate::envelope::Packer;
use crate::sealing::Sealing;
use base::sync::Mutex;
use base::{Error, Result};
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

/// Blocks are handed over once they have so many bytes together.
const GROUP_BYTES: usize = if cfg!(loom) { 1 } else { 64 << 10 };
/// Most groups that wait.
const GROUPS_MAX: usize = if cfg!(loom) { 1 } else { 8 };

/// While so many wait, those that come are compressed before.
const PACKED_FROM: usize = GROUPS_MAX / 2;

/// Runs work on another thread, sooner or later, or never.
pub type Helper = Arc<dyn Fn(Box<dyn FnOnce() + Send>) + Send + Sync>;

/// Where blocks go once they are built.
#[derive(Debug)]
pub(crate) enum Back {
    /// Written at once.
    Here(Box<Sealing>),
    /// Written by whoever comes first.
    Aside(Box<Aside>),
}

impl Back {
    pub(crate) fn data_block(
        &mut self,
        payload: &[u8],
        separator: &[u8],
        trailer: u64,
    ) -> Result<()> {
        match self {
            Back::Here(sealing) => sealing.data_block(payload, separator, trailer),
            Back::Aside(aside) => aside.data_block(payload, separator, trailer),
        }
    }

    /// Bytes of the file so far, with the index. What may not be compressed yet counts as it is; the answer does not depend on when
    /// a helper ran.
    pub(crate) fn size_estimate(&self) -> u64 {
        match self {
            Back::Here(sealing) => sealing.offset() + sealing.index_bytes(),
            Back::Aside(aside) => aside.file_bytes + aside.handed_over + aside.group.len(),
        }
    }

    /// Bytes held in memory.
    pub(crate) fn buffer_bytes(&self) -> usize {
        match self {
            Back::Here(sealing) => sealing.buffer_bytes(),
            Back::Aside(aside) => aside.buffer_bytes(),
        }
    }

    pub(crate) fn check_failed(&self) -> Result<()> {
        match self {
            Back::Here(sealing) => sealing.check_failed(),
            Back::Aside(aside) => aside.failed.clone().map_or(Ok(()), Err),
        }
    }

    /// Ends helping: all blocks are written when this returns `Ok`.
    pub(crate) fn here(&mut self) -> Result<&mut Sealing> {
        if let Back::Aside(aside) = self {
            *self = Back::Here(aside.join()?);
        }
        match self {
            Back::Here(sealing) => Ok(sealing),
            Back::Aside(_) => Err(died()),
        }
    }
}

/// The end of the thread that builds.
pub(crate) struct Aside {
    shared: Arc<Shared>,
    helper: Helper,
    /// Not handed over yet.
    group: Group,
    /// Groups handed over.
    groups: u64,
    /// Bytes of file and index behind the last group that is noted.
    file_bytes: u64,
    /// Bytes of the groups handed over since, not compressed.
    handed_over: u64,
    failed: Option<Error>,
    compression: Compression,
    /// Made when it is needed.
    packer: Option<Box<Packer>>,
    /// What the next group is packed into.
    packed: Vec<u8>,
}

/// A group was written.
#[derive(Debug, Clone, Copy)]
struct Written {
    /// Bytes of file and index with it.
    file_bytes: u64,
    /// Its own, not compressed.
    group_bytes: u64,
}

struct Shared {
    /// Locked while a group is written; gone once the writer has taken it back, or if a thread panicked with it.
    sealing: Mutex<Option<Box<Sealing>>>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    groups: VecDeque<Group>,
    /// For the next groups.
    spare: Vec<Group>,
    /// Groups written, of which the writer has not heard.
    written: VecDeque<Written>,
    failed: Option<Error>,
    helped: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Written,
    /// No group waits.
    Nothing,
    /// There is nothing to write with any more.
    Gone,
}

/// Blocks, one behind the other, and their separators.
#[derive(Debug, Default)]
struct Group {
    payloads: Vec<u8>,
    separators: Vec<u8>,
    parts: Vec<Part>,
    /// Bytes of the blocks, not compressed.
    block_bytes: u64,
}

#[derive(Debug, Clone, Copy)]
struct Part {
    payload_len: usize,
    separator_len: usize,
    trailer: u64,
    /// How the payload is compressed, once it is packed.
    packed: Option<Compression>,
}

impl Group {
    fn len(&self) -> u64 {
        self.block_bytes
    }

    fn add(&mut self, payload: &[u8], separator: &[u8], trailer: u64) {
        self.payloads.extend_from_slice(payload);
        self.separators.extend_from_slice(separator);
        let (payload_len, separator_len) = (payload.len(), separator.len());
        self.parts.push(Part { payload_len, separator_len, trailer, packed: None });
        self.block_bytes += payload_len as u64;
    }

    /// Compresses the blocks, with `room` in place of the payloads.
    fn pack(&mut self, packer: &mut Packer, compression: Compression, room: &mut Vec<u8>) {
        room.clear();
        let mut payloads = &self.payloads[..];
        for part in &mut self.parts {
            let (payload, rest) = payloads.split_at(part.payload_len);
            payloads = rest;
            let before = room.len();
            part.packed = Some(packer.pack(payload, compression, room));
            part.payload_len = room.len() - before;
        }
        std::mem::swap(&mut self.payloads, room);
    }

    fn clear(&mut self) {
        self.payloads.clear();
        self.separators.clear();
        self.parts.clear();
        self.block_bytes = 0;
    }

    fn write_to(&self, sealing: &mut Sealing) -> Result<()> {
        let (mut payloads, mut separators) = (&self.payloads[..], &self.separators[..]);
        for part in &self.parts {
            let (payload, rest) = payloads.split_at(part.payload_len);
            let (separator, others) = separators.split_at(part.separator_len);
            (payloads, separators) = (rest, others);
            match part.packed {
                None => sealing.data_block(payload, separator, part.trailer)?,
                Some(packed) => sealing.packed_block(payload, packed, separator, part.trailer)?,
            }
        }
        Ok(())
    }
}

impl Aside {
    pub(crate) fn new(sealing: Box<Sealing>, helper: Helper) -> Aside {
        let compression = sealing.compression();
        let shared = Shared { sealing: Mutex::new(Some(sealing)), queue: Mutex::default() };
        Aside {
            shared: Arc::new(shared),
            helper,
            group: Group::default(),
            groups: 0,
            file_bytes: 0,
            handed_over: 0,
            failed: None,
            compression,
            packer: None,
            packed: Vec::new(),
        }
    }

    fn data_block(&mut self, payload: &[u8], separator: &[u8], trailer: u64) -> Result<()> {
        self.group.add(payload, separator, trailer);
        if self.group.payloads.len() >= GROUP_BYTES { self.hand_over() } else { Ok(()) }
    }

    fn hand_over(&mut self) -> Result<()> {
        self.groups += 1;
        self.handed_over += self.group.len();
        if self.compression != Compression::None
            && self.shared.queue.lock().groups.len() >= PACKED_FROM
        {
            base::probe!("group of blocks packed by the thread that builds");
            let packer = self.packer.get_or_insert_default();
            self.group.pack(packer, self.compression, &mut self.packed);
        }
        let (waiting, helped) = {
            let mut queue = self.shared.queue.lock();
            let next = queue.spare.pop().unwrap_or_default();
            queue.groups.push_back(std::mem::replace(&mut self.group, next));
            (queue.groups.len(), std::mem::replace(&mut queue.helped, true))
        };
        if !helped {
            let shared = Arc::clone(&self.shared);
            (self.helper)(Box::new(move || shared.help()));
        }
        // The helper may have been faster meanwhile.
        if waiting > GROUPS_MAX && self.shared.write_group() == Step::Gone {
            self.failed = Some(died());
        }
        self.learn()
    }

    /// Takes note of the oldest group not noted yet, if it is written whatever happened meanwhile: all groups but `GROUPS_MAX` were
    /// taken from the queue, and all of these but the last are done.
    fn learn(&mut self) -> Result<()> {
        let mut queue = self.shared.queue.lock();
        if self.failed.is_none() {
            self.failed.clone_from(&queue.failed);
        }
        if self.groups > GROUPS_MAX as u64 + 1
            && let Some(written) = queue.written.pop_front()
        {
            self.handed_over -= written.group_bytes;
            self.file_bytes = written.file_bytes;
        }
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// Writes what waits, and gives back what it was written with.
    fn join(&mut self) -> Result<Box<Sealing>> {
        let last = std::mem::take(&mut self.group);
        self.shared.queue.lock().groups.push_back(last);
        while self.shared.write_group() == Step::Written {}
        self.learn()?;
        let sealing = self.shared.sealing.lock().take().ok_or_else(died)?;
        sealing.check_failed().map(|()| sealing)
    }

    fn buffer_bytes(&self) -> usize {
        // With the one that groups are packed into.
        (GROUPS_MAX + 3) * (GROUP_BYTES + GROUP_BYTES / 4)
    }
}

impl Drop for Aside {
    /// Whoever removes the file of a table that came to nothing must not meet a helper that still writes it.
    fn drop(&mut self) {
        drop(self.shared.sealing.lock().take());
    }
}

impl Shared {
    /// Writes the group that waits longest.
    fn write_group(&self) -> Step {
        let mut place = self.sealing.lock();
        // Out of its place while it is at work, so that nobody goes on with what a panic left.
        let Some(mut sealing) = place.take() else { return Step::Gone };
        let group = self.queue.lock().groups.pop_front();
        let Some(mut group) = group else {
            *place = Some(sealing);
            return Step::Nothing;
        };
        let written = group.write_to(&mut sealing);
        let file_bytes = sealing.offset() + sealing.index_bytes();
        *place = Some(sealing);
        let mut queue = self.queue.lock();
        queue.written.push_back(Written { file_bytes, group_bytes: group.len() });
        if let Err(e) = written {
            queue.failed.get_or_insert(e);
        }
        group.clear();
        queue.spare.push(group);
        Step::Written
    }

    /// Writes as long as there is something to write. What comes in right behind the last look waits for the next helper, or for none.
    fn help(&self) {
        while self.write_group() == Step::Written {}
        self.queue.lock().helped = false;
    }
}

fn died() -> Error {
    Error::Poisoned { detail: "a thread died while it wrote a table".into() }
}

impl fmt::Debug for Aside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aside").field("groups", &self.groups).finish_non_exhaustive()
    }
}
