//! Options: plain values with units. Components such as the file system go to the builder.

use crate::tree::LEVELS;
use base::limits::{self, WriteLimits};
use base::{Error, Result};
pub use compaction::Policy as CompactionPolicy;
pub use sstable::Compression;
use std::time::Duration;
pub use wal::RecoveryMode;

/// What `Ok` of a write means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// The record is with the operating system: it survives a kill of the process, and a power loss
    /// takes at most the suffix of the last [`Options::sync_interval`].
    #[default]
    Buffered,
    /// The record is on disk (`fdatasync`, shared by all writers waiting): it survives a power loss.
    Sync,
    /// No promise: a suffix may be lost at any end of the process. No background sync is asked for.
    Memory,
}

/// One setting for all levels, or one for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PerLevel<T>([T; LEVELS]);

impl<T: Copy> PerLevel<T> {
    /// The setting of `level`.
    #[must_use]
    pub fn at(&self, level: usize) -> T {
        self.0[level.min(LEVELS - 1)]
    }
}

impl<T: Copy> From<T> for PerLevel<T> {
    fn from(value: T) -> Self {
        PerLevel([value; LEVELS])
    }
}

impl<T: Copy, const N: usize> From<[T; N]> for PerLevel<T>
where
    T: Default,
{
    /// From the top level down; the last one given holds for all levels below.
    fn from(values: [T; N]) -> Self {
        values[..].into()
    }
}

impl<T: Copy> From<&[T]> for PerLevel<T>
where
    T: Default,
{
    /// From the top level down; the last one given holds for all levels below.
    fn from(values: &[T]) -> Self {
        let last = values.last().copied().unwrap_or_default();
        PerLevel(std::array::from_fn(|level| values.get(level).copied().unwrap_or(last)))
    }
}

/// Tuning of one database. Plain values: cloned and compared.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Options {
    /// Durability of writes that do not name their own. Default `Buffered`.
    pub durability: Durability,
    /// Longest time that a `Buffered` write waits for its background sync. Default 100 ms.
    pub sync_interval: Duration,
    /// Time without a write after which the runs of a keyspace are merged into one where that is worth the rewriting, so that
    /// reads look in one place. With [`Leveled`](compaction::Leveled) compaction only. `None` never. Default 1 s.
    pub idle_compaction: Option<Duration>,
    /// Upper bound, in bytes, of memtables, block cache, indexes and filters of tables, buffers of jobs, and blocks that
    /// iterators hold, together. `None`, the default, bounds the parts that have a size: the block cache, and four
    /// memtables. At least 1 MiB, and two memtables more than [`block_cache_bytes`](field@Self::block_cache_bytes).
    pub memory_budget_bytes: Option<usize>,
    /// A memtable is frozen past this size. Bigger: fewer flushes, longer recovery. Default 64 MiB, at least 1 KiB.
    pub memtable_size_bytes: usize,
    /// Bytes of decompressed blocks kept in memory; 0 keeps none. `None`, the default, is 256 MiB, or what a memory
    /// budget leaves. With a budget it gives way to what the other parts need.
    pub block_cache_bytes: Option<usize>,
    /// Size of a data block before compression. Default 4 KiB, 64 bytes to 1 MiB.
    pub block_size_bytes: usize,
    /// Compression of data blocks, one for all levels or one for each. Default `Lz4`. A flush goes without while another
    /// memtable waits for it: its table is the first that will be merged.
    pub compression: PerLevel<Compression>,
    /// Bits per key of the Bloom filters at the lowest levels; upper, smaller levels get a few more. Default 10,
    /// 0 (no filters) to 20.
    pub filter_bits_per_key: u32,
    /// How tables are merged. Default `Leveled`.
    pub compaction: CompactionPolicy,
    /// Threads for flushes and compactions. Default 2, 1 to 64.
    pub background_threads: usize,
    /// Bytes a second that compactions may write; `None`, the default, is no limit. At least 64 KiB.
    pub rate_limit_bytes_per_second: Option<u64>,
    /// How often a pass over all tables begins that reads and checks them in the background; see
    /// [`Metrics::damaged_places`](crate::Metrics::damaged_places). `None`, the default, is never; the first pass begins at the open. A database that is
    /// opened read-only is not scrubbed.
    pub scrub_interval: Option<Duration>,
    /// Bytes a second that the scrub reads at most. Default 4 MiB, at least 4 KiB. Less if `sync_interval` is above a second.
    pub scrub_bytes_per_second: u64,
    /// Make a database where there is none. Default true.
    pub create_if_missing: bool,
    /// Open without writing a byte. Default false.
    pub read_only: bool,
    /// How damage in the log is met when opening. Default `TolerateTornTail`.
    pub recovery_mode: RecoveryMode,
    /// Size of one preallocated log segment. Default 64 MiB, at least 4 KiB.
    pub log_segment_bytes: u64,
    /// Log bytes past which the keyspace that holds the oldest one is flushed. Default 512 MiB; at least one
    /// segment. Bounds the disk space of the log and the time of recovery.
    pub log_bytes_max: u64,
    /// Disk space kept back, and given up to flushes and compactions when the disk is full, so that they can free
    /// more. Default 64 MiB; 0 keeps none. Made in the background, and not on a disk with less than 16 times as much free; it
    /// goes when nothing is left to flush.
    pub disk_reserve_bytes: u64,
    /// Table files kept open. Default 1,000, at least 1.
    pub open_files_max: usize,
    /// The manifest is rewritten past this size. Default 4 MiB.
    pub manifest_rotate_bytes: u64,
    /// Longest key that a write may bring. Default 65,535 bytes, which is the most the format has room for; at least 1.
    /// What was written under a higher limit stays readable.
    pub key_bytes_max: usize,
    /// Longest value that a write may bring. Default 64 MiB, which is the most the format has room for.
    pub value_bytes_max: usize,
    /// Largest batch, encoded. Default 64 MiB and 128 KiB, which is the most the format has room for; at least one entry
    /// of the longest key and value.
    pub batch_bytes_max: usize,
    /// Most operations in a batch. Default 1,048,576, which is the most the format has room for; at least 1.
    pub batch_ops_max: usize,
    /// Age at which a snapshot is told to the listener, once. Default 1 h.
    pub snapshot_age_warn: Duration,
    /// Iterators and cursors open at a time; more are refused with [`Error::Overloaded`]. `None`, the default, is no
    /// limit.
    pub open_iterators_max: Option<usize>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            durability: Durability::Buffered,
            sync_interval: Duration::from_millis(100),
            idle_compaction: Some(Duration::from_secs(1)),
            memory_budget_bytes: None,
            memtable_size_bytes: 64 << 20,
            block_cache_bytes: None,
            block_size_bytes: 4 << 10,
            compression: Compression::Lz4.into(),
            filter_bits_per_key: 10,
            compaction: CompactionPolicy::default(),
            background_threads: 2,
            rate_limit_bytes_per_second: None,
            scrub_interval: None,
            scrub_bytes_per_second: 4 << 20,
            create_if_missing: true,
            read_only: false,
            recovery_mode: RecoveryMode::TolerateTornTail,
            log_segment_bytes: 64 << 20,
            log_bytes_max: 512 << 20,
            disk_reserve_bytes: 64 << 20,
            open_files_max: 1000,
            manifest_rotate_bytes: 4 << 20,
            key_bytes_max: limits::KEY_BYTES_MAX,
            value_bytes_max: limits::VALUE_BYTES_MAX,
            batch_bytes_max: limits::BATCH_BYTES_MAX,
            batch_ops_max: limits::BATCH_OPS_MAX,
            snapshot_age_warn: Duration::from_secs(3600),
            open_iterators_max: None,
        }
    }
}

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $type:ty),* $(,)?) => {$(
        $(#[$doc])*
        #[must_use]
        pub fn $name(mut self, $name: $type) -> Self {
            self.$name = $name.into();
            self
        }
    )*};
}

impl Options {
    setters! {
        /// Sets [`Options::durability`](field@Options::durability).
        durability: Durability,
        /// Sets [`Options::sync_interval`](field@Options::sync_interval).
        sync_interval: Duration,
        /// Sets [`Options::idle_compaction`](field@Options::idle_compaction); `None` for never.
        idle_compaction: Option<Duration>,
        /// Sets [`Options::memory_budget_bytes`](field@Options::memory_budget_bytes).
        memory_budget_bytes: usize,
        /// Sets [`Options::memtable_size_bytes`](field@Options::memtable_size_bytes).
        memtable_size_bytes: usize,
        /// Sets [`Options::block_cache_bytes`](field@Options::block_cache_bytes).
        block_cache_bytes: usize,
        /// Sets [`Options::block_size_bytes`](field@Options::block_size_bytes).
        block_size_bytes: usize,
        /// Sets [`Options::compression`](field@Options::compression).
        compression: impl Into<PerLevel<Compression>>,
        /// Sets [`Options::filter_bits_per_key`](field@Options::filter_bits_per_key).
        filter_bits_per_key: u32,
        /// Sets [`Options::compaction`](field@Options::compaction).
        compaction: impl Into<CompactionPolicy>,
        /// Sets [`Options::background_threads`](field@Options::background_threads).
        background_threads: usize,
        /// Sets [`Options::rate_limit_bytes_per_second`](field@Options::rate_limit_bytes_per_second).
        rate_limit_bytes_per_second: u64,
        /// Sets [`Options::scrub_interval`](field@Options::scrub_interval).
        scrub_interval: Duration,
        /// Sets [`Options::scrub_bytes_per_second`](field@Options::scrub_bytes_per_second).
        scrub_bytes_per_second: u64,
        /// Sets [`Options::create_if_missing`](field@Options::create_if_missing).
        create_if_missing: bool,
        /// Sets [`Options::read_only`](field@Options::read_only).
        read_only: bool,
        /// Sets [`Options::recovery_mode`](field@Options::recovery_mode).
        recovery_mode: RecoveryMode,
        /// Sets [`Options::log_segment_bytes`](field@Options::log_segment_bytes).
        log_segment_bytes: u64,
        /// Sets [`Options::log_bytes_max`](field@Options::log_bytes_max).
        log_bytes_max: u64,
        /// Sets [`Options::disk_reserve_bytes`](field@Options::disk_reserve_bytes).
        disk_reserve_bytes: u64,
        /// Sets [`Options::open_files_max`](field@Options::open_files_max).
        open_files_max: usize,
        /// Sets [`Options::manifest_rotate_bytes`](field@Options::manifest_rotate_bytes).
        manifest_rotate_bytes: u64,
        /// Sets [`Options::key_bytes_max`](field@Options::key_bytes_max).
        key_bytes_max: usize,
        /// Sets [`Options::value_bytes_max`](field@Options::value_bytes_max).
        value_bytes_max: usize,
        /// Sets [`Options::batch_bytes_max`](field@Options::batch_bytes_max).
        batch_bytes_max: usize,
        /// Sets [`Options::batch_ops_max`](field@Options::batch_ops_max).
        batch_ops_max: usize,
        /// Sets [`Options::snapshot_age_warn`](field@Options::snapshot_age_warn).
        snapshot_age_warn: Duration,
        /// Sets [`Options::open_iterators_max`](field@Options::open_iterators_max).
        open_iterators_max: usize,
    }

    /// What a write may bring.
    pub(crate) fn write_limits(&self) -> WriteLimits {
        WriteLimits {
            key_bytes_max: self.key_bytes_max,
            value_bytes_max: self.value_bytes_max,
            batch_bytes_max: self.batch_bytes_max,
            batch_ops_max: self.batch_ops_max,
        }
    }

    /// Lists every broken rule in one error, so a user repairs the options in one go.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] naming each option and its rule.
    pub fn validate(&self) -> Result<()> {
        let mut faults = Faults::default();
        faults.unless(
            self.memtable_size_bytes >= 1 << 10,
            format!("memtable_size_bytes {} is below 1 KiB", self.memtable_size_bytes),
        );
        faults.unless(
            self.memtable_size_bytes <= 1 << 30,
            format!("memtable_size_bytes {} is above 1 GiB", self.memtable_size_bytes),
        );
        faults.table(self.block_size_bytes, self.filter_bits_per_key, &self.compaction);
        faults.unless(
            (1..=64).contains(&self.background_threads),
            format!("background_threads {} is outside 1 to 64", self.background_threads),
        );
        faults.unless(
            !self.sync_interval.is_zero(),
            "sync_interval is zero; use Durability::Sync to sync every write".into(),
        );
        if let Some(rate) = self.rate_limit_bytes_per_second {
            let rule = format!("rate_limit_bytes_per_second {rate} is below 64 KiB");
            faults.unless(rate >= 64 << 10, rule);
        }
        let rate = self.scrub_bytes_per_second;
        faults.unless(rate >= 4 << 10, format!("scrub_bytes_per_second {rate} is below 4 KiB"));
        let zero = self.scrub_interval.is_some_and(|interval| interval.is_zero());
        faults.unless(!zero, "scrub_interval is zero".into());
        faults.unless(
            self.log_segment_bytes >= 4 << 10 && self.log_segment_bytes <= 1 << 30,
            format!("log_segment_bytes {} is outside 4 KiB to 1 GiB", self.log_segment_bytes),
        );
        faults.unless(
            self.log_bytes_max >= self.log_segment_bytes,
            format!(
                "log_bytes_max {} is below log_segment_bytes {}",
                self.log_bytes_max, self.log_segment_bytes
            ),
        );
        faults.unless(self.open_files_max >= 1, "open_files_max is 0".into());
        faults.unless(self.open_iterators_max != Some(0), "open_iterators_max is 0".into());
        faults.0.extend(self.write_limits().faults());
        if let Some(budget) = self.memory_budget_bytes {
            let cache = self.block_cache_bytes.unwrap_or(0);
            let least = cache.saturating_add(2 * self.memtable_size_bytes);
            let rule = format!(
                "memory_budget_bytes {budget} is below block_cache_bytes plus two memtables, {least}"
            );
            faults.unless(budget >= least, rule);
            let rule = format!("memory_budget_bytes {budget} is below 1 MiB");
            faults.unless(budget >= 1 << 20, rule);
        }
        faults.into_result("options")
    }
}

/// Tuning of one keyspace; what is `None` is taken from the [`Options`] of the database when the keyspace
/// is created. The result is stored and comes back at every open.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct KeyspaceOptions {
    /// See [`Options::memtable_size_bytes`](field@Options::memtable_size_bytes).
    pub memtable_size_bytes: Option<usize>,
    /// See [`Options::block_size_bytes`](field@Options::block_size_bytes).
    pub block_size_bytes: Option<usize>,
    /// See [`Options::compression`](field@Options::compression).
    pub compression: Option<PerLevel<Compression>>,
    /// See [`Options::filter_bits_per_key`](field@Options::filter_bits_per_key).
    pub filter_bits_per_key: Option<u32>,
    /// See [`Options::compaction`](field@Options::compaction).
    pub compaction: Option<CompactionPolicy>,
}

impl KeyspaceOptions {
    /// Everything as in the database's [`Options`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the memtable size, in bytes.
    #[must_use]
    pub fn memtable_size_bytes(mut self, bytes: usize) -> Self {
        self.memtable_size_bytes = Some(bytes);
        self
    }

    /// Sets the size of a data block before compression, in bytes.
    #[must_use]
    pub fn block_size_bytes(mut self, bytes: usize) -> Self {
        self.block_size_bytes = Some(bytes);
        self
    }

    /// Sets the compression of data blocks, one for all levels or one for each.
    #[must_use]
    pub fn compression(mut self, compression: impl Into<PerLevel<Compression>>) -> Self {
        self.compression = Some(compression.into());
        self
    }

    /// Sets the bits per key of the Bloom filters; 0 for no filters.
    #[must_use]
    pub fn filter_bits_per_key(mut self, bits: u32) -> Self {
        self.filter_bits_per_key = Some(bits);
        self
    }

    /// Sets how tables are merged.
    #[must_use]
    pub fn compaction(mut self, policy: impl Into<CompactionPolicy>) -> Self {
        self.compaction = Some(policy.into());
        self
    }

    /// Fills what is `None` from `options` and checks the result.
    pub(crate) fn resolve(&self, options: &Options) -> Result<TreeOptions> {
        let resolved = TreeOptions {
            memtable_size_bytes: self.memtable_size_bytes.unwrap_or(options.memtable_size_bytes),
            block_size_bytes: self.block_size_bytes.unwrap_or(options.block_size_bytes),
            compression: self.compression.unwrap_or(options.compression),
            filter_bits_per_key: self.filter_bits_per_key.unwrap_or(options.filter_bits_per_key),
            compaction: self.compaction.clone().unwrap_or_else(|| options.compaction.clone()),
        };
        let mut faults = Faults::default();
        let size = resolved.memtable_size_bytes;
        let rule = format!("memtable_size_bytes {size} is outside 1 KiB to 1 GiB");
        faults.unless((1 << 10..=1 << 30).contains(&size), rule);
        faults.table(resolved.block_size_bytes, resolved.filter_bits_per_key, &resolved.compaction);
        faults.into_result("keyspace options")?;
        Ok(resolved)
    }
}

/// The options of one tree, complete.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TreeOptions {
    pub(crate) memtable_size_bytes: usize,
    pub(crate) block_size_bytes: usize,
    pub(crate) compression: PerLevel<Compression>,
    pub(crate) filter_bits_per_key: u32,
    pub(crate) compaction: CompactionPolicy,
}

impl TreeOptions {
    /// Table options of `level`. Upper levels hold little data and are probed on every read that
    /// misses, so a few more filter bits there cost little and save most.
    ///
    /// Source: Dayan, Athanassoulis and Idreos, "Monkey", SIGMOD 2017.
    pub(crate) fn table(&self, level: usize) -> sstable::TableOptions {
        let extra = match level {
            0 | 1 => 4,
            2 => 2,
            _ => 0,
        };
        let bits = match self.filter_bits_per_key {
            0 => 0,
            bits => (bits + extra).min(24),
        };
        sstable::TableOptions {
            block_size_bytes: self.block_size_bytes,
            compression: self.compression.at(level),
            filter_bits_per_key: bits,
            ..sstable::TableOptions::default()
        }
    }

    pub(crate) fn public(&self) -> KeyspaceOptions {
        KeyspaceOptions {
            memtable_size_bytes: Some(self.memtable_size_bytes),
            block_size_bytes: Some(self.block_size_bytes),
            compression: Some(self.compression),
            filter_bits_per_key: Some(self.filter_bits_per_key),
            compaction: Some(self.compaction.clone()),
        }
    }
}

/// Options of a single write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct WriteOptions {
    /// Durability of this write; `None` takes that of the [`Options`].
    pub durability: Option<Durability>,
}

impl WriteOptions {
    /// The durability of the database's [`Options`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the durability of this write.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }
}

impl From<Durability> for WriteOptions {
    fn from(durability: Durability) -> Self {
        WriteOptions::new().durability(durability)
    }
}

#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn unless(&mut self, ok: bool, rule: String) {
        if !ok {
            self.0.push(rule);
        }
    }

    fn table(&mut self, block_size: usize, filter_bits: u32, policy: &CompactionPolicy) {
        let rule = format!("block_size_bytes {block_size} is outside 64 bytes to 1 MiB");
        self.unless((64..=1 << 20).contains(&block_size), rule);
        let rule = format!("filter_bits_per_key {filter_bits} is above 20");
        self.unless(filter_bits <= 20, rule);
        if let Err(e) = policy.validate() {
            self.0.push(match e {
                Error::InvalidArgument { detail, .. } => format!("compaction: {detail}"),
                other => format!("compaction: {other}"),
            });
        }
    }

    fn into_result(self, what: &'static str) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::invalid(what, self.0.join("; "))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The doc comment right above a field of [`Options`].
    fn doc_of(field: &str) -> String {
        let source = include_str!("options.rs");
        let (above, _) = source.split_once(&format!("\n    pub {field}: ")).expect("a field");
        let lines: Vec<_> =
            above.lines().rev().map_while(|l| l.trim().strip_prefix("///")).collect();
        lines.into_iter().rev().collect()
    }

    #[test]
    fn the_defaults_in_the_docs_are_the_defaults() {
        let d = Options::default();
        let mib = |bytes: u64| format!("Default {} MiB", bytes >> 20);
        let debug = |value: &dyn std::fmt::Debug| format!("Default `{value:?}`");
        for (field, default) in [
            ("durability", debug(&d.durability)),
            ("sync_interval", format!("Default {} ms", d.sync_interval.as_millis())),
            ("idle_compaction", "Default 1 s".into()),
            ("memory_budget_bytes", "`None`, the default".into()),
            ("memtable_size_bytes", mib(d.memtable_size_bytes as u64)),
            ("block_cache_bytes", "`None`, the default, is 256 MiB".into()),
            ("block_size_bytes", format!("Default {} KiB", d.block_size_bytes >> 10)),
            ("compression", debug(&d.compression.at(3))),
            ("filter_bits_per_key", format!("Default {}", d.filter_bits_per_key)),
            ("compaction", "Default `Leveled`".into()),
            ("background_threads", format!("Default {}", d.background_threads)),
            ("rate_limit_bytes_per_second", "`None`, the default".into()),
            ("scrub_interval", "`None`, the default".into()),
            ("scrub_bytes_per_second", mib(d.scrub_bytes_per_second)),
            ("create_if_missing", format!("Default {}", d.create_if_missing)),
            ("read_only", format!("Default {}", d.read_only)),
            ("recovery_mode", debug(&d.recovery_mode)),
            ("log_segment_bytes", mib(d.log_segment_bytes)),
            ("log_bytes_max", mib(d.log_bytes_max)),
            ("disk_reserve_bytes", mib(d.disk_reserve_bytes)),
            ("open_files_max", "Default 1,000".into()),
            ("manifest_rotate_bytes", mib(d.manifest_rotate_bytes)),
            ("key_bytes_max", "Default 65,535 bytes".into()),
            ("value_bytes_max", mib(d.value_bytes_max as u64)),
            ("batch_bytes_max", "Default 64 MiB and 128 KiB".into()),
            ("batch_ops_max", "Default 1,048,576,".into()),
            ("snapshot_age_warn", format!("Default {} h", d.snapshot_age_warn.as_secs() / 3600)),
            ("open_iterators_max", "`None`, the default".into()),
        ] {
            let doc = doc_of(field);
            assert!(doc.contains(&default), "{field}: {doc:?} lacks {default:?}");
        }
        assert_eq!(d.open_files_max, 1000);
        assert_eq!((d.key_bytes_max, d.batch_ops_max), (65_535, 1_048_576));
        assert_eq!(d.batch_bytes_max, (64 << 20) + (128 << 10));
        assert_eq!(d.open_iterators_max, None);
        assert_eq!(d.idle_compaction, Some(Duration::from_secs(1)));
        assert_eq!((d.memory_budget_bytes, d.block_cache_bytes), (None, None));
        assert_eq!(d.rate_limit_bytes_per_second, None);
        assert_eq!(d.scrub_interval, None);
        assert!(matches!(d.compaction, CompactionPolicy::Leveled(_)));
    }

    #[test]
    fn all_faults_are_in_one_error() {
        let options = Options::default()
            .memtable_size_bytes(10)
            .block_size_bytes(1)
            .background_threads(0)
            .log_segment_bytes(1 << 20)
            .log_bytes_max(1 << 10)
            .memory_budget_bytes(1 << 19)
            .key_bytes_max(1 << 16)
            .value_bytes_max(65 << 20)
            .batch_bytes_max(usize::MAX)
            .batch_ops_max(0)
            .open_iterators_max(0usize);
        let message = options.validate().expect_err("refused").to_string();
        for name in [
            "memtable_size",
            "block_size",
            "background_threads",
            "log_bytes_max",
            "memory_budget",
            "key_bytes_max",
            "value_bytes_max",
            "batch_bytes_max",
            "batch_ops_max",
            "open_iterators_max",
        ] {
            assert!(message.contains(name), "{message} lacks {name}");
        }
    }

    #[test]
    fn one_setting_or_one_a_level() {
        use Compression::{Lz4, None};
        let all: PerLevel<Compression> = Lz4.into();
        assert!((0..LEVELS).all(|level| all.at(level) == Lz4));
        let some: PerLevel<Compression> = [None, None, Lz4].into();
        assert_eq!((0..4).map(|l| some.at(l)).collect::<Vec<_>>(), [None, None, Lz4, Lz4]);
    }
}
