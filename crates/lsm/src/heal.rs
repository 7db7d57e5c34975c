//! Healing: damaged blocks leave the tree, and what was in them is given up.
//!
//! A reader refuses a damaged block and a compaction refuses its table, so damage stays where it is until somebody decides what is to
//! become of it. Who can bring back from elsewhere what is lost asks which keys may be concerned, cuts the damage out, and writes what was
//! lost. Until that is done those keys may show older versions, or deleted ones.

use crate::engine::Engine;
use crate::tree::Tree;
use base::{
    Error, FileName, FileNum, Fragments, InternalIterator, InternalKey, IoContext, Result, SeqNo,
    Slice,
};
use compaction::{Job, OlderData, Task};
use manifest::TableMeta;
use sstable::TableRemains;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

/// Keys of which something may be in blocks that cannot be read.
type Lost = RangeInclusive<Slice>;

impl Engine {
    /// The keys that damage known so far may concern, table by table; they may overlap. Reads the damaged tables.
    pub(crate) fn damaged_ranges(&self, tree: &Tree) -> Result<Vec<Lost>> {
        self.health.check_open()?;
        let mut lost = Vec::new();
        for table in self.damaged_tables(tree) {
            lost.extend(self.look_through(&table)?);
        }
        Ok(lost)
    }

    /// Rewrites damaged tables without what cannot be read, unless that concerns keys outside `given_up`. Returns how many.
    pub(crate) fn cut_damage(
        self: &Arc<Self>,
        tree: &Arc<Tree>,
        given_up: &[Lost],
    ) -> Result<usize> {
        let _call = self.begin_call()?;
        tree.compactions.lock().manual += 1;
        let done = self.cut_tables(tree, given_up);
        tree.compactions.lock().manual -= 1;
        self.purge();
        self.schedule_compactions(tree);
        self.event.notify();
        done
    }

    fn cut_tables(self: &Arc<Self>, tree: &Arc<Tree>, given_up: &[Lost]) -> Result<usize> {
        let policy = &tree.options.compaction;
        let tables = self.damaged_tables(tree);
        for table in &tables {
            let pick = |view: &compaction::View<'_>| policy.pick_rewrite(view, table.file);
            self.run_by_hand(tree, pick, &|task, job| self.rewrite(task, job, given_up))?;
        }
        Ok(tables.len())
    }

    /// Tables in which damage was met and that are still in use.
    fn damaged_tables(&self, tree: &Tree) -> Vec<Arc<TableMeta>> {
        let places = self.events.places();
        let names = places.iter().filter_map(|place| place.path.file_name());
        let file = |name| match FileName::parse(Path::new(name)) {
            Some(FileName::Table(file)) => Some(file),
            _ => None,
        };
        let files: Vec<FileNum> = names.filter_map(file).collect();
        let version = Arc::clone(&tree.view().version);
        let damaged = version.tables().filter(|(_, _, table)| files.contains(&table.file));
        damaged.map(|(_, _, table)| Arc::clone(table)).collect()
    }

    fn remains(&self, table: &TableMeta) -> Result<TableRemains> {
        let path = FileName::Table(table.file).in_dir(&self.dir);
        let file = self.fs.open(&path).context("open", &path)?;
        Ok(TableRemains::open(file, &path, Some(table.table_id), Some(table.entries)))
    }

    /// The keys that may be concerned by what cannot be read of one table.
    fn look_through(&self, table: &TableMeta) -> Result<Vec<Lost>> {
        let mut remains = Remains::new(self.remains(table)?, table);
        remains.seek_to_first()?;
        while remains.valid() {
            remains.next()?;
        }
        Ok(remains.lost)
    }

    /// The merge of a task, over what can be read of its inputs.
    fn rewrite(&self, task: &Task, job: &Job<'_>, given_up: &[Lost]) -> Result<Vec<TableMeta>> {
        let mut tombstones = Vec::new();
        let mut inputs = Vec::new();
        for table in task.tables() {
            for lost in self.look_through(table)? {
                let is_given_up =
                    |given: &Lost| given.start() <= lost.start() && lost.end() <= given.end();
                if !given_up.iter().any(is_given_up) {
                    let detail = "more of the table is damaged; ask for the ranges again";
                    return Err(Error::invalid("ranges to give up", detail));
                }
            }
            let remains = Remains::new(self.remains(table)?, table);
            tombstones.extend(remains.tombstones());
            inputs.push(remains);
        }
        let mut merged = base::MergingIterator::new(inputs);
        let older = OlderData::within(&task.older);
        compaction::write_tables(&mut merged, &Fragments::new(tombstones), &older, job)
    }
}

/// What can be read of one table, as an input of a merge.
struct Remains<'t> {
    table: &'t TableMeta,
    /// `None` where not only blocks of data are damaged: then all of the table is given up.
    readable: Option<TableRemains>,
    /// The number of all entries, if they were written without.
    sequence: Option<SeqNo>,
    lost: Vec<Lost>,
}

impl<'t> Remains<'t> {
    fn new(remains: TableRemains, table: &'t TableMeta) -> Remains<'t> {
        let unsequenced =
            remains.properties().is_some_and(|p| p.seq_max == SeqNo(0) && p.entries > 0);
        let whole = || Slice::copy_from(&table.smallest)..=Slice::copy_from(&table.largest);
        let is_readable = remains.damage().is_none();
        Remains {
            table,
            readable: is_readable.then_some(remains),
            sequence: unsequenced.then_some(table.seq_max),
            lost: if is_readable { Vec::new() } else { vec![whole()] },
        }
    }

    fn tombstones(&self) -> Vec<base::RangeTombstone> {
        let fragments = self.readable.as_ref().and_then(TableRemains::range_tombstones);
        fragments.map(|fragments| fragments.tombstones().collect()).unwrap_or_default()
    }

    fn advance(&mut self) {
        let (table, lost) = (self.table, &mut self.lost);
        let Some(remains) = &mut self.readable else { return };
        remains.advance(&mut |blocks| {
            let lower = blocks.lower.as_deref().unwrap_or(&table.smallest).max(&table.smallest);
            let upper = blocks.upper.as_deref().unwrap_or(&table.largest);
            lost.push(Slice::copy_from(lower)..=Slice::copy_from(upper));
        });
    }
}

impl InternalIterator for Remains<'_> {
    fn valid(&self) -> bool {
        self.readable.as_ref().is_some_and(TableRemains::valid)
    }

    fn key(&self) -> InternalKey<'_> {
        let Some(remains) = &self.readable else { return InternalKey::after_all(&[]) };
        let key = remains.key();
        InternalKey { seq: self.sequence.unwrap_or(key.seq), ..key }
    }

    fn value(&self) -> &[u8] {
        self.readable.as_ref().map_or(&[], TableRemains::value)
    }

    fn seek_to_first(&mut self) -> Result<()> {
        self.advance();
        Ok(())
    }

    fn next(&mut self) -> Result<()> {
        self.advance();
        Ok(())
    }

    fn seek_to_last(&mut self) -> Result<()> {
        Err(forward_only())
    }

    fn seek(&mut self, _: InternalKey<'_>) -> Result<()> {
        Err(forward_only())
    }

    fn seek_for_prev(&mut self, _: InternalKey<'_>) -> Result<()> {
        Err(forward_only())
    }

    fn prev(&mut self) -> Result<()> {
        Err(forward_only())
    }
}

fn forward_only() -> Error {
    Error::invalid("move", "what is left of a table is read forward, once")
}
