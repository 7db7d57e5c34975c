//! What the machine charges for the steps that operations are made of, and what Esker's own steps cost: `docs/floors.md`
//! adds them up.
//!
//! `cargo bench -p esker-guards --bench floors [-- WORD]` runs those whose name holds the word. It takes 512 MiB of memory
//! twice, and writes to the directory of temporary files (`TMPDIR`).
#![forbid(unsafe_code)]

mod clock;
mod gets;
mod machine;
mod parts;

use clock::Table;

fn main() {
    // Cargo adds `--bench`.
    let word = std::env::args().skip(1).find(|word| !word.starts_with('-')).unwrap_or_default();
    let mut table = Table::new(word);
    machine::copies(&mut table);
    machine::checksums(&mut table);
    machine::compression(&mut table);
    machine::misses(&mut table);
    machine::system_calls(&mut table);
    parts::put(&mut table);
    parts::reads(&mut table);
    gets::gets(&mut table);
    parts::flush(&mut table);
    parts::compaction(&mut table);
}
