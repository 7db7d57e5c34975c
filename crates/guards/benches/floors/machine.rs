//! The machine: copies, checksums, compression, cache misses, system calls.

use super::clock::Table;
use base::checksum::{block_checksum, crc32, key_hash};
use base::rng::Rng;
use memmap2::{Advice, MmapMut};
use std::hint::black_box;
use vfs::{Fs, StdFs};

/// Bytes that no cache of a processor holds.
const FAR_BYTES: usize = 512 << 20;
const LINE_BYTES: usize = 64;
/// A pair, a log record of one, a block.
const SIZES: [usize; 3] = [116, 136, 4096];

pub(crate) fn copies(table: &mut Table) {
    for len in SIZES {
        let (from, mut to) = (vec![7u8; len], vec![0u8; len]);
        table.step(&format!("copy {len} bytes, in the cache"), || {
            black_box(&mut to).copy_from_slice(black_box(&from));
        });
    }
    let len = 64 << 20;
    let (from, mut to) = (vec![7u8; len], vec![0u8; len]);
    table.step("copy 64 MiB", || black_box(&mut to).copy_from_slice(black_box(&from)));
}

pub(crate) fn checksums(table: &mut Table) {
    let bytes = vec![7u8; 4096];
    table.step("hash of a key of 16 bytes", || {
        black_box(key_hash(black_box(&[1; 16])));
    });
    for len in SIZES {
        let bytes = &bytes[..len];
        table.step(&format!("crc32 of {len} bytes"), || {
            black_box(crc32(0, &[black_box(bytes)]));
        });
        table.step(&format!("xxh3 of {len} bytes"), || {
            black_box(block_checksum(black_box(bytes), 1, 0));
        });
    }
}

/// Pairs of 16 + 100 bytes one after the other: keys that count up, values half noise and half zeros.
fn block() -> Vec<u8> {
    let (mut rng, mut block) = (Rng::new(1), Vec::new());
    for n in 0..36u64 {
        block.extend(n.to_be_bytes());
        block.extend([b'0'; 8]);
        (0..7).for_each(|_| block.extend(rng.next_u64().to_le_bytes()));
        block.extend([0; 44]);
    }
    block.truncate(4096);
    block
}

pub(crate) fn compression(table: &mut Table) {
    use lz4_flex::block::{compress_into, decompress_into, get_maximum_output_size};
    let plain = block();
    let mut room = vec![0; get_maximum_output_size(plain.len())];
    let len = compress_into(&plain, &mut room).expect("room for the worst case");
    let (packed, mut again) = (room[..len].to_vec(), vec![0; plain.len()]);
    table.step(&format!("lz4: 4096 bytes to {len}"), || {
        black_box(compress_into(black_box(&plain), &mut room).expect("room"));
    });
    table.step(&format!("lz4: {len} bytes to 4096"), || {
        black_box(decompress_into(black_box(&packed), &mut again).expect("own bytes"));
    });
}

/// One ring through all lines of memory in random order: each line holds the number of the next.
fn ring(advice: Advice) -> MmapMut {
    let mut memory = MmapMut::map_anon(FAR_BYTES).expect("memory");
    // Where the system has no huge pages, both rings are of small ones.
    memory.advise(advice).unwrap_or_else(|error| eprintln!("{advice:?}: {error}"));
    let (mut rng, lines) = (Rng::new(1), FAR_BYTES / LINE_BYTES);
    let mut order: Vec<u32> = (0..lines as u32).collect();
    (1..lines).rev().for_each(|i| order.swap(i, rng.below(i as u64 + 1) as usize));
    for (i, line) in order.iter().enumerate() {
        let next = order[(i + 1) % lines];
        let at = *line as usize * LINE_BYTES;
        memory[at..at + 4].copy_from_slice(&next.to_le_bytes());
    }
    memory
}

fn next(memory: &[u8], line: u32) -> u32 {
    let at = line as usize * LINE_BYTES;
    memory[at..at + 4].try_into().map_or(0, u32::from_le_bytes)
}

pub(crate) fn misses(table: &mut Table) {
    if !table.wants("cache miss") {
        return;
    }
    for (pages, advice) in [("4 KiB", Advice::NoHugePage), ("2 MiB", Advice::HugePage)] {
        let memory = ring(advice);
        let mut line = 0;
        table.step(&format!("cache miss, pages of {pages}"), || line = next(&memory, line));
        let mut lines = [line; 8];
        for i in 1..8 {
            lines[i] = (0..1000).fold(lines[i - 1], |line, _| next(&memory, line));
        }
        table.step(&format!("cache miss, 8 at a time, pages of {pages}"), || {
            lines.iter_mut().for_each(|line| *line = next(&memory, *line));
        });
        black_box((line, lines));
    }
}

/// A record of 136 bytes on its way to the disk.
pub(crate) fn system_calls(table: &mut Table) {
    const SEGMENT: u64 = 64 << 20;
    const RECORD: [u8; 136] = [7; 136];
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name);
    let segment = |fs: StdFs, name: &str| {
        let segment = fs.create_segment(&path(name), SEGMENT).expect("segment");
        // Through it once: no page is touched for the first time while the clock runs.
        (0..SEGMENT / 4096)
            .for_each(|page| segment.write_at(page * 4096, &[7; 4096]).expect("room"));
        segment
    };
    let mapped = segment(StdFs::new(), "mapped");
    let called = segment(StdFs::without_mapping(), "called");
    let mut at = 0;
    let mut place = || {
        at = (at + RECORD.len() as u64) % (SEGMENT - RECORD.len() as u64);
        at
    };
    table.step("136 bytes stored in a mapped file", || {
        mapped.write_at(place(), &RECORD).expect("room")
    });
    table.step("136 bytes by pwrite()", || called.write_at(place(), &RECORD).expect("room"));
    let mut file = StdFs::new().create(&path("file")).expect("file");
    table.step("136 bytes appended by write()", || file.append(&RECORD).expect("space"));
    table.step("64 KiB appended by write()", || file.append(&[7; 64 << 10]).expect("space"));
    mapped.sync().expect("sync");
    table.step("136 bytes stored, and fdatasync()", || {
        mapped.write_at(place(), &RECORD).expect("room");
        mapped.sync().expect("sync");
    });
}
