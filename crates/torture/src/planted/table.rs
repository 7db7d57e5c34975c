//! Which bugs there are, and where each was noticed first.

/// A planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planted {
    /// What `ESKER_PLANTED` is set to.
    pub id: u32,
    /// Entries of the catalogue of real bugs that it is modelled on.
    pub catalogue: &'static [u32],
    /// The mistake.
    pub what: &'static str,
    /// The family that must notice it within its `change` size.
    pub family: &'static str,
    /// The first seed of that size that does: so many are needed to find it.
    pub seed: u64,
    /// The part (workload, shape, variant, scenario) that does, where the family has parts.
    pub part: Option<&'static str>,
}

/// Where a bug was noticed: family, seed, and part if it has them.
type Place = (&'static str, u64, Option<&'static str>);

const fn bug(id: u32, catalogue: &'static [u32], place: Place, what: &'static str) -> Planted {
    let (family, seed, part) = place;
    Planted { id, catalogue, what, family, seed, part }
}

/// All of them, by id. A test of `base` compares them with the sources by way of `docs/planted.md`.
pub const TABLE: &[Planted] = &[
    bug(
        1,
        &[1, 31],
        ("fault", 1, Some("flushes/eio")),
        "appends go on behind a failed one, which leaves a hole",
    ),
    bug(2, &[2, 23], ("fault", 1, Some("flushes/eio")), "the error of a log sync is swallowed"),
    bug(
        3,
        &[20, 8],
        ("crash", 1, Some("puts")),
        "records are not bound to their segment: a recycled one replays its former life",
    ),
    bug(
        4,
        &[15, 8],
        ("corrupt", 1, Some("killed")),
        "damage below the synced position passes for a torn tail",
    ),
    bug(5, &[9], ("crash", 1, Some("puts")), "only the newest two listed segments are replayed"),
    bug(
        6,
        &[27],
        ("schedule", 1, Some("models")),
        "a follower returns after a sync that began before its record",
    ),
    bug(
        7,
        &[16],
        ("crash", 1, Some("puts")),
        "a flush does not sync the log first: a hole across keyspaces",
    ),
    bug(8, &[32], ("crash", 1, Some("puts")), "a segment that was rolled out of is not synced"),
    bug(9, &[31, 42], ("crash", 1, Some("puts")), "a log segment is used without being listed"),
    bug(10, &[10, 11], ("crash", 1, Some("puts")), "a table is installed unsynced"),
    bug(11, &[11, 17], ("crash", 1, Some("puts")), "the names of new tables are not synced"),
    bug(12, &[23, 66], ("crash", 1, Some("puts")), "an edit counts before it is synced"),
    bug(
        13,
        &[17],
        ("crash", 1, Some("puts")),
        "the directory is not synced after CURRENT was renamed",
    ),
    bug(
        14,
        &[13],
        ("fuzz", 1, Some("manifest_replay")),
        "the replay of the manifest stops silently at a bad checksum",
    ),
    bug(
        15,
        &[33, 44],
        ("crash", 1, Some("puts")),
        "an open after a kill shows what it has not made durable",
    ),
    bug(16, &[4], ("meta", 1, None), "dropping a keyspace is not logged"),
    bug(17, &[7], ("meta", 4, None), "an idle keyspace pins the log without bound"),
    bug(
        18,
        &[6],
        ("meta", 1, None),
        "memory once counted is never given back: writes halt for ever",
    ),
    bug(19, &[45], ("meta", 1, None), "two compactions take the same tables"),
    bug(20, &[59, 48], ("meta", 1, None), "a merge drops versions that snapshots read"),
    bug(21, &[75], ("meta", 1, None), "a tombstone goes although older data lies below"),
    bug(22, &[49], ("meta", 1, None), "a range tombstone goes although older data lies below"),
    bug(23, &[51], ("meta", 1, None), "range tombstones are not clipped where outputs are cut"),
    bug(24, &[52], ("meta", 3, None), "the filter denies one key in 4,096"),
    bug(25, &[53, 62], ("meta", 1, None), "the tag of a key is taken for the key"),
    bug(26, &[61, 63], ("corrupt", 1, Some("killed")), "a length read from disk is believed"),
    bug(
        27,
        &[14],
        ("corrupt", 1, Some("killed/files")),
        "a block checksum is not bound to table and offset",
    ),
    bug(
        28,
        &[46, 54],
        ("meta", 1, None),
        "a separator is smaller than the last entry of its block",
    ),
    bug(
        29,
        &[60],
        ("fault", 1, Some("flushes/eio")),
        "an iterator skips the table that it cannot read",
    ),
    bug(
        30,
        &[48],
        ("schedule", 1, Some("models")),
        "a snapshot reads its moment before it takes the lock",
    ),
    bug(31, &[82], ("meta", 1, None), "a table is deleted while a reader needs it"),
    bug(
        32,
        &[47],
        ("fault", 1, Some("flushes/short-read")),
        "a merge goes on after a read error with what it has",
    ),
    bug(
        33,
        &[21],
        ("fault", 1, Some("flushes/short-write")),
        "edits are written behind a failed append",
    ),
    bug(
        34,
        &[35, 24],
        ("fault", 1, Some("flushes/emfile")),
        "a close after a failed flush forgets the log",
    ),
    bug(
        35,
        &[46],
        ("crash", 1, Some("ingests")),
        "an ingest goes to the bottom whatever lies above",
    ),
    bug(36, &[48], ("meta", 1, None), "newer runs of level 0 count as older"),
    bug(
        37,
        &[67],
        ("schedule", 1, Some("snapshots")),
        "a batch becomes visible before it is all there",
    ),
    bug(38, &[66], ("fault", 1, Some("flushes/eio")), "a Sync write is visible before its sync"),
    bug(39, &[3], ("crash", 1, Some("puts")), "the replay skips one write too many behind a flush"),
    bug(40, &[53], ("meta", 2, None), "a multi-get has a mask of twelve bits"),
    bug(41, &[26], ("meta", 1, None), "the background sync does nothing"),
    bug(42, &[28], ("crash", 1, Some("puts")), "the checksum of log records is not looked at"),
    bug(43, &[14], ("corrupt", 1, Some("plain")), "the checksum of blocks is not looked at"),
    bug(44, &[18], ("crash", 1, Some("puts")), "a legal torn tail is refused as damage"),
    bug(45, &[64], ("crash", 1, Some("puts")), "files that a crash left behind are never removed"),
    bug(
        46,
        &[43],
        ("schedule", 1, Some("swap")),
        "compare-and-swap does not look again under the lock",
    ),
    bug(
        47,
        &[24],
        ("crash", 1, Some("puts")),
        "the log goes while a frozen memtable still needs it",
    ),
    bug(
        48,
        &[11],
        ("crash", 1, Some("puts")),
        "inputs are deleted before the edit that replaces them",
    ),
    bug(49, &[23, 26], ("crash", 1, Some("puts")), "the log counts as synced without a sync"),
    bug(50, &[54], ("meta", 1, None), "a merge loses the key before which it cuts its output"),
    bug(51, &[55], ("meta", 1, None), "tables share their places in the block cache"),
    bug(
        52,
        &[17],
        ("crash", 1, Some("checkpoints")),
        "the directory that a checkpoint lies in is not synced",
    ),
    bug(
        53,
        &[24],
        ("crash", 1, Some("puts")),
        "a log segment is deleted before the edit that lets it go",
    ),
    bug(
        54,
        &[43],
        ("schedule", 30, Some("log-reset")),
        "two trims of the log write their edits in any order",
    ),
    bug(
        55,
        &[48],
        ("schedule", 27, Some("snapshots")),
        "a memtable is frozen before its last write is published",
    ),
    bug(
        56,
        &[57],
        ("schedule", 20, Some("placing")),
        "an ingest looks for its level while a manual compaction begins",
    ),
    bug(
        57,
        &[57],
        ("schedule", 5, Some("close")),
        "a close does not wait for calls on other threads",
    ),
    bug(58, &[11, 34], ("crash", 1, Some("puts")), "CURRENT names a manifest that was not synced"),
    bug(
        59,
        &[17],
        ("crash", 1, Some("puts")),
        "CURRENT names a manifest whose name was not synced",
    ),
    bug(60, &[52], ("meta", 2, None), "a filter forgets one key in 1,000"),
    bug(
        61,
        &[43, 48],
        ("schedule", 1, Some("ingest")),
        "an ingest does not look through memtables again at the moment it is installed",
    ),
    bug(81, &[72], ("cluster", 2, None), "a node gives dots again after a restart"),
    bug(
        82,
        &[72],
        ("cluster", 28, None),
        "a node whose disk is older than it was goes on as who it was",
    ),
    bug(83, &[66, 69], ("cluster", 2, None), "a replica acknowledges before its disk has synced"),
    bug(
        84,
        &[76],
        ("cluster", 26, None),
        "a late copy is taken in although its successor was seen",
    ),
    bug(85, &[75], ("cluster", 583, None), "tombstones go before every owner has seen them"),
    bug(86, &[67], ("cluster", 7, None), "what a replica has seen is not stored with the records"),
    bug(87, &[68], ("cluster", 2, None), "a write that arrives twice is carried out twice"),
    bug(
        88,
        &[68],
        ("cluster", 1, None),
        "a write whose outcome is unknown is tried at another owner",
    ),
    bug(
        90,
        &[72],
        ("cluster", 8, None),
        "a replica that lost its disk is read before it is filled",
    ),
    bug(91, &[69], ("cluster", 1, None), "a write counts one owner too many"),
    bug(93, &[75], ("cluster", 77, None), "what the floor says is left out of what an owner sends"),
    bug(94, &[71], ("cluster", 302, None), "a partition is flipped without the exchange before it"),
    bug(95, &[82], ("cluster", 78, None), "the source deletes its copy before the flip"),
    bug(
        96,
        &[74, 78],
        ("cluster", 148, None),
        "a source that hands over counts without its receiver",
    ),
    bug(98, &[69], ("cluster", 226, None), "a damaged range is served before it is filled again"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_ascend_and_families_are_known() {
        assert!(TABLE.is_sorted_by(|a, b| a.id < b.id));
        for bug in TABLE {
            assert!(crate::family(bug.family).is_some(), "{}", bug.family);
            assert!(!bug.what.is_empty() && bug.catalogue.iter().all(|n| (1..=84).contains(n)));
        }
        assert!(TABLE.len() >= 25);
    }
}
