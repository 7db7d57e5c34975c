//! The tables of one ingest while they are written.
//!
//! The caller's thread makes the blocks; a background thread, if one is free, compresses and writes them, and finishes and syncs a
//! table while the next one begins. Nothing waits for it: what it has not begun the caller does.

use crate::engine::Engine;
use crate::executor::Priority;
use crate::tree::{LEVELS, Tree};
use base::sync::Mutex;
use base::{Error, FileName, FileNum, InternalKey, Result, SeqNo, ValueKind};
use manifest::TableMeta;
use sstable::{Helper, TableSummary, TableWriter};
use std::sync::Arc;

pub(crate) struct IngestOutput<'a> {
    engine: &'a Arc<Engine>,
    tree: &'a Tree,
    helper: Helper,
    writer: Option<(FileNum, TableWriter)>,
    finishing: Option<(FileNum, Arc<Finishing>)>,
    target_bytes: u64,
    /// The last key of the table before the current one.
    last_of_table: Option<Vec<u8>>,
    tables: Vec<TableMeta>,
    files: Vec<FileNum>,
}

impl<'a> IngestOutput<'a> {
    pub(crate) fn new(engine: &'a Arc<Engine>, tree: &'a Tree) -> Self {
        let of_engine = Arc::clone(engine);
        let helper: Helper = Arc::new(move |work| {
            of_engine.submit("ingest", Priority::Low, move |_| work());
        });
        IngestOutput {
            engine,
            tree,
            helper,
            writer: None,
            finishing: None,
            target_bytes: tree.options.compaction.target_table_bytes(),
            last_of_table: None,
            tables: Vec::new(),
            files: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let limits = self.engine.options.write_limits();
        limits.check_key(key).and_then(|()| limits.check_value(value))?;
        if self.writer.as_ref().is_some_and(|(_, w)| w.file_size_estimate() >= self.target_bytes) {
            self.finish_beside()?;
        }
        let writer = match &mut self.writer {
            Some((_, writer)) => writer,
            none => {
                let _call = self.engine.begin_call()?;
                let num = self.engine.new_file();
                self.files.push(num);
                let writer = create_table(self.engine, self.tree, num)?;
                &mut none.insert((num, writer.helped_by(Arc::clone(&self.helper)))).1
            }
        };
        if writer.is_empty() {
            check_order(self.last_of_table.as_deref(), key)?;
        }
        let added = writer.add(InternalKey::new(key, SeqNo(0), ValueKind::Put), value);
        // Key and value are within their limits, so what the writer can object to is the order.
        added.map_err(|e| if let Error::InvalidArgument { .. } = e { out_of_order(key) } else { e })
    }

    /// All tables, synced, once nothing more comes.
    pub(crate) fn finish(&mut self) -> Result<Vec<TableMeta>> {
        // Nothing is left to do beside it, but for the table before it.
        let last = self.writer.take().map(|(num, writer)| (num, writer.finish()));
        self.join()?;
        if let Some((num, made)) = last {
            self.note(num, made?);
        }
        Ok(std::mem::take(&mut self.tables))
    }

    /// Lets the current table be finished while the next one begins, once the one before it is.
    fn finish_beside(&mut self) -> Result<()> {
        self.join()?;
        let Some((num, writer)) = self.writer.take() else { return Ok(()) };
        self.last_of_table = Some(writer.last_key().to_vec());
        let finishing = Finishing::new(writer);
        self.finishing = Some((num, Arc::clone(&finishing)));
        // Above the compression of the next one, which would wait for its sync in a queue of one.
        self.engine.submit("finish ingested table", Priority::High, move |engine| {
            finishing.run();
            engine.event.notify();
        });
        Ok(())
    }

    /// Takes the table that is being finished.
    fn join(&mut self) -> Result<()> {
        let Some((num, finishing)) = self.finishing.take() else { return Ok(()) };
        finishing.run();
        let made = self.engine.event.wait(&*self.engine.executor, || finishing.made())?;
        self.note(num, made);
        Ok(())
    }

    fn note(&mut self, num: FileNum, made: TableSummary) {
        let now = self.engine.clock.wall_micros();
        self.tables.push(compaction::table_meta(num, made, now));
    }

    /// Removes all files.
    pub(crate) fn discard(&mut self) {
        self.writer = None;
        // It failed, or what failed was something else: the files go either way.
        drop(self.join());
        let Ok(_call) = self.engine.begin_call() else { return };
        for num in self.files.drain(..) {
            // What stays is removed by the next open.
            drop(self.engine.fs.remove_file(&FileName::Table(num).in_dir(&self.engine.dir)));
        }
    }
}

/// A table that is being finished by whoever comes first.
struct Finishing(Mutex<Step>);

enum Step {
    Waiting(Box<TableWriter>),
    UnderWay,
    Made(Result<TableSummary>),
}

impl Finishing {
    fn new(writer: TableWriter) -> Arc<Finishing> {
        Arc::new(Finishing(Mutex::new(Step::Waiting(Box::new(writer)))))
    }

    /// Does it, unless somebody has begun.
    fn run(&self) {
        let Some(writer) = self.begin() else { return };
        // Stays so if this thread panics.
        let died = Error::Poisoned { detail: "a thread died while it finished a table".into() };
        let mut ended = Ended { of: self, made: Some(Err(died)) };
        ended.made = Some(writer.finish());
    }

    fn begin(&self) -> Option<Box<TableWriter>> {
        let mut step = self.0.lock();
        match std::mem::replace(&mut *step, Step::UnderWay) {
            Step::Waiting(writer) => Some(writer),
            other => {
                *step = other;
                None
            }
        }
    }

    /// What came of it; once.
    fn made(&self) -> Option<Result<TableSummary>> {
        let mut step = self.0.lock();
        match std::mem::replace(&mut *step, Step::UnderWay) {
            Step::Made(made) => Some(made),
            other => {
                *step = other;
                None
            }
        }
    }
}

/// Says what was made, also on the way out of a panic.
struct Ended<'a> {
    of: &'a Finishing,
    made: Option<Result<TableSummary>>,
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        if let Some(made) = self.made.take() {
            *self.of.0.lock() = Step::Made(made);
        }
    }
}

/// Within a table its writer looks at the order.
fn check_order(last: Option<&[u8]>, key: &[u8]) -> Result<()> {
    if last.is_some_and(|last| last >= key) { Err(out_of_order(key)) } else { Ok(()) }
}

fn out_of_order(key: &[u8]) -> Error {
    let shown = key[..key.len().min(32)].escape_ascii();
    Error::invalid("pairs", format!("key \"{shown}\" is not larger than the one before it"))
}

fn create_table(engine: &Engine, tree: &Tree, num: FileNum) -> Result<TableWriter> {
    let path = FileName::Table(num).in_dir(&engine.dir);
    let options = tree.table_options(LEVELS - 1);
    let writer = TableWriter::create(&*engine.fs, &path, engine.new_table_id(), options)?;
    Ok(writer.counted_in(engine.tables.usage()))
}
