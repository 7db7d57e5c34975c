//! The block cache and the cache of open tables.

use super::*;
use crate::TableCache;
use base::{FileName, FileNum};
use std::path::PathBuf;

fn rows(n: u32) -> Vec<Row> {
    (0..n)
        .map(|n| (format!("{n:06}").into_bytes(), 1, ValueKind::Put, vec![n as u8; 100]))
        .collect()
}

fn write_file(fs: &MemFs, file: u64, id: u64) {
    let path = FileName::Table(FileNum(file)).in_dir(Path::new("/"));
    let options = TableOptions { compression: Compression::None, ..TableOptions::default() };
    let mut writer = TableWriter::create(fs, &path, id, options).expect("create");
    for (key, seq, kind, value) in rows(2000) {
        let value = [&id.to_le_bytes()[..], &value].concat();
        writer.add(InternalKey::new(&key, SeqNo(seq), kind), &value).expect("add");
    }
    writer.finish().expect("finish");
}

fn table_cache(fs: &MemFs, max_open: usize, block_cache: &Arc<BlockCache>) -> TableCache {
    TableCache::new(Arc::new(fs.clone()), PathBuf::from("/"), max_open, Arc::clone(block_cache))
}

#[test]
fn the_budget_of_blocks_holds() {
    let (bytes, _) = write_rows(&rows(20_000), &Fragments::default(), &TableOptions::default(), ID);
    let file = Bytes::new(bytes);
    for capacity in [0usize, 1, 10_000, 300_000, 5 << 20] {
        let table = open_file(Arc::clone(&file), capacity).expect("sound");
        let cache = Arc::new(BlockCache::new(capacity));
        let table_2 =
            TableReader::open(Arc::clone(&file) as _, Path::new(PATH), ID, Arc::clone(&cache))
                .expect("sound");
        for (key, ..) in rows(20_000) {
            assert!(get(&table, &key, 1).expect("readable").is_some());
            assert!(get(&table_2, &key, 1).expect("readable").is_some());
            assert!(cache.usage_bytes() <= capacity);
        }
        assert_eq!(cache.capacity_bytes(), capacity);
        if capacity == 5 << 20 {
            assert!(
                cache.usage_bytes() > 2_000_000 && cache.hits() > 30_000 && cache.misses() > 400
            );
        }
    }
}

#[test]
fn scans_leave_hot_blocks_in_the_cache() {
    let (bytes, _) = write_rows(&rows(20_000), &Fragments::default(), &TableOptions::default(), ID);
    let cache = Arc::new(BlockCache::new(400_000));
    let file = Bytes::new(bytes);
    let table =
        Arc::new(TableReader::open(file, Path::new(PATH), ID, Arc::clone(&cache)).expect("sound"));
    let hot: Vec<Vec<u8>> = rows(20_000).into_iter().step_by(1000).map(|row| row.0).collect();
    let misses_of_hot = || {
        let before = cache.misses();
        hot.iter().for_each(|key| assert!(get(&table, key, 1).expect("readable").is_some()));
        cache.misses() - before
    };
    for _ in 0..5 {
        misses_of_hot();
    }
    assert_eq!(misses_of_hot(), 0);
    walk(&table, true, CacheHint::NoFill);
    assert_eq!(misses_of_hot(), 0, "a scan without filling changes nothing");
    walk(&table, true, CacheHint::Fill);
    assert!(misses_of_hot() < 5, "a scan that fills hardly harms");
}

#[test]
fn open_tables_are_bounded_and_readers_outlive_them() {
    let fs = MemFs::new();
    let blocks = Arc::new(BlockCache::new(1 << 20));
    for file in 1..=20 {
        write_file(&fs, file, 100 + file);
    }
    for max_open in [0, 1, 3, 200] {
        let tables = table_cache(&fs, max_open, &blocks);
        let held = tables.get(FileNum(1), 101, SeqNo::MAX).expect("table");
        for round in 0..3 {
            for file in 1..=20 {
                let table = tables.get(FileNum(file), 100 + file, SeqNo::MAX).expect("table");
                let (_, _, value) = get(&table, b"000777", 1).expect("readable").expect("present");
                assert_eq!(value[..8], (100 + file).to_le_bytes(), "round {round}");
                assert!(tables.open_count() <= max_open.max(1));
            }
        }
        assert!(get(&held, b"000001", 1).expect("still open").is_some());
        assert!(tables.usage().table_bytes() > 0);
        let count = tables.open_count();
        tables.evict(FileNum(20));
        assert_eq!(tables.open_count(), count - 1);
        assert!(tables.get(FileNum(21), 121, SeqNo::MAX).is_err());
        assert!(tables.get(FileNum(5), 999, SeqNo::MAX).expect_err("wrong id").is_corruption());
    }
}

#[test]
fn a_used_table_stays_open() {
    let fs = MemFs::new();
    let blocks = Arc::new(BlockCache::new(0));
    (1..=20).for_each(|file| write_file(&fs, file, file));
    let tables = table_cache(&fs, 4, &blocks);
    let hot = tables.get(FileNum(1), 1, SeqNo::MAX).expect("table");
    for file in 2..=20 {
        tables.get(FileNum(file), file, SeqNo::MAX).expect("table");
        assert!(
            Arc::ptr_eq(&hot, &tables.get(FileNum(1), 1, SeqNo::MAX).expect("table")),
            "after {file}"
        );
    }
}

#[test]
fn a_table_opened_again_finds_its_blocks() {
    let fs = MemFs::new();
    let blocks = Arc::new(BlockCache::new(1 << 20));
    write_file(&fs, 1, 1);
    write_file(&fs, 2, 2);
    let tables = table_cache(&fs, 1, &blocks);
    let read = |tables: &TableCache, file| {
        let table = tables.get(FileNum(file), file, SeqNo::MAX).expect("table");
        get(&table, b"000001", 1).expect("readable").expect("present").2
    };
    let (one, two) = (read(&tables, 1), read(&tables, 2));
    let misses = blocks.misses();
    assert_eq!((read(&tables, 1), read(&tables, 2)), (one.clone(), two));
    assert_eq!(blocks.misses(), misses);
    // Another database that shares the cache, with other contents under the same ids.
    let other_fs = MemFs::new();
    write_file(&other_fs, 1, 1);
    let other = table_cache(&other_fs, 1, &blocks);
    assert_eq!(read(&other, 1), one);
    assert!(blocks.misses() > misses, "another database's block is not mine");
}

#[test]
fn readers_are_shared_among_threads() {
    fn assert_shareable<T: Send + Sync>() {}
    fn assert_send<T: Send>() {}
    assert_shareable::<TableReader>();
    assert_shareable::<TableCache>();
    assert_shareable::<BlockCache>();
    assert_send::<crate::TableIterator>();
    assert_send::<TableWriter>();
    let fs = MemFs::new();
    (1..=8).for_each(|file| write_file(&fs, file, file));
    let tables = table_cache(&fs, 3, &Arc::new(BlockCache::new(200_000)));
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let tables = &tables;
            scope.spawn(move || {
                let mut rng = base::rng::Rng::new(thread);
                for _ in 0..3000 {
                    let (file, n) = (1 + rng.below(8), rng.below(2000));
                    let table = tables.get(FileNum(file), file, SeqNo::MAX).expect("table");
                    let key = format!("{n:06}");
                    let value =
                        get(&table, key.as_bytes(), 1).expect("readable").expect("present").2;
                    assert_eq!(value[..8], file.to_le_bytes());
                }
            });
        }
    });
}

#[test]
fn memory_is_counted_where_it_is_taken_and_given_back() {
    let fs = MemFs::new();
    let blocks = Arc::new(BlockCache::new(1 << 20));
    (1..=3).for_each(|file| write_file(&fs, file, file));
    let tables = table_cache(&fs, 10, &blocks);
    let usage = Arc::clone(tables.usage());
    let table = tables.get(FileNum(1), 1, SeqNo::MAX).expect("table");
    let opened = usage.table_bytes();
    assert_eq!(opened, table.memory_bytes());
    get(&table, b"000001", 1).expect("readable").expect("present");
    assert!(usage.table_bytes() > opened, "index and filter are loaded at first use");
    assert_eq!(usage.table_bytes(), table.memory_bytes());
    for hint in [CacheHint::NoFill, CacheHint::Fill] {
        let mut iter = table.iter(hint);
        assert_eq!(usage.pinned_bytes(), 0);
        iter.seek_to_first().expect("readable");
        let mut most = 0;
        while iter.valid() {
            assert!(usage.pinned_bytes() >= 100, "it stands in a block");
            most = most.max(usage.pinned_bytes());
            iter.next().expect("readable");
        }
        // Read ahead or not, beside one block.
        let expected = if hint == CacheHint::NoFill { 16 << 10..1 << 20 } else { 1..16 << 10 };
        assert!(expected.contains(&most), "{hint:?}: {most}");
        drop(iter);
        assert_eq!(usage.pinned_bytes(), 0, "{hint:?}");
    }
    tables.evict(FileNum(1));
    assert!(usage.table_bytes() > 0, "it is still read");
    drop(table);
    assert_eq!(usage.table_bytes(), 0);
    let path = Path::new("/99.sst");
    let options = TableOptions::default();
    let writer = TableWriter::create(&fs, path, 99, options).expect("create");
    let mut writer = writer.counted_in(&usage);
    for i in 0..50_000u32 {
        let key = i.to_be_bytes();
        writer.add(InternalKey::new(&key, SeqNo(1), ValueKind::Put), &[0; 20]).expect("added");
    }
    assert!(usage.buffer_bytes() >= 50_000 * 8, "hashes for the filter: {}", usage.buffer_bytes());
    writer.finish().expect("written");
    assert_eq!(usage.buffer_bytes(), 0);
}

#[test]
fn tables_and_block_cache_share_a_limit() {
    let fs = MemFs::new();
    let blocks = Arc::new(BlockCache::new(1 << 20));
    (1..=20).for_each(|file| write_file(&fs, file, file));
    let tables = table_cache(&fs, 100, &blocks);
    let read_all = || {
        for file in 1..=20 {
            let table = tables.get(FileNum(file), file, SeqNo::MAX).expect("table");
            walk(&table, true, CacheHint::Fill);
            get(&table, b"000777", 1).expect("readable").expect("present");
        }
    };
    read_all();
    let one = tables.usage().table_bytes() / 20;
    assert_eq!(tables.open_count(), 20);
    let together = 16 * one;
    tables.limit_memory(together, Some(usize::MAX - 1));
    let within = |slack: usize| {
        assert!(tables.usage().table_bytes() <= together / 2 + slack);
        let cache = blocks.usage_bytes();
        assert!(tables.usage().table_bytes() + cache <= together + slack, "{cache}");
    };
    within(0);
    assert!((1..=8).contains(&tables.open_count()), "{}", tables.open_count());
    let held: Vec<_> =
        (1..=8).map(|file| tables.get(FileNum(file), file, SeqNo::MAX).expect("table")).collect();
    read_all();
    // The one that was opened last is not yet weighed in with its index.
    within(2 * one + held.len() * one);
    drop(held);
    read_all();
    within(2 * one);
    tables.limit_memory(1 << 20, Some(1 << 19));
    assert_eq!(blocks.capacity_bytes(), 1 << 19, "it grows again, to its own bound");
    tables.limit_memory(10, None);
    assert_eq!(blocks.capacity_bytes(), 1 << 19, "a shared cache is not touched");
}

/// Blocks of many sizes in a cache large enough to have its memory in huge pages.
#[test]
fn the_budget_of_a_pooled_cache_holds() {
    const CAPACITY: usize = 128 << 20;
    let cache = Arc::new(BlockCache::new(CAPACITY));
    for (id, value_bytes) in [(1, 100), (2, 9_000), (3, 700), (4, 40_000), (5, 2_500)] {
        let value = vec![id as u8; value_bytes];
        let rows: Vec<Row> = (0..(60 << 20) / (value_bytes as u32 + 20))
            .map(|n| (format!("{n:08}").into_bytes(), 1, ValueKind::Put, value.clone()))
            .collect();
        let options = TableOptions { compression: Compression::None, ..TableOptions::default() };
        let (bytes, _) = write_rows(&rows, &Fragments::default(), &options, id);
        let file = Bytes::new(bytes);
        let table =
            TableReader::open(file, Path::new(PATH), id, Arc::clone(&cache)).expect("sound");
        for (key, ..) in rows.iter().step_by(3) {
            let (_, _, found) = get(&table, key, 1).expect("readable").expect("present");
            assert_eq!(found, value);
        }
        let usage = cache.usage_bytes();
        assert!(usage <= CAPACITY + CAPACITY / 32, "{usage} bytes after table {id}");
        assert!(cache.pool().is_some_and(|pool| pool.mapped_bytes() <= usage));
    }
    assert!(cache.usage_bytes() > CAPACITY / 2, "it is used, too");
}
