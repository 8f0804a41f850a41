//! How the store is set up: what memory goes where, and each tuned option with its reason.

use rocksdb::{BlockBasedOptions, Options};

/// What the backend may use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RocksSettings {
    /// For all state of the process: caches, write buffers, indexes and filters.
    pub memory_bytes: u64,
    /// Background threads of the process, for flushes and compactions.
    pub threads: u32,
    /// Options of RocksDB by its own names, above those that are tuned here.
    pub overrides: Vec<(String, String)>,
}

impl Default for RocksSettings {
    fn default() -> Self {
        Self {
            memory_bytes: 512 << 20,
            threads: 2,
            overrides: Vec::new(),
        }
    }
}

/// Where the memory goes.
///
/// Three eighths are for the write-behind caches of values: a value that is found there costs a fraction of one that is
/// read from a block, and what is written twice there is written once below. Three eighths are for RocksDB's cache;
/// write buffers (an eighth), indexes and filters are charged to it, and data blocks have the rest: they are also in the
/// system's page cache, which is free to give them up. A quarter is left for what nobody is charged for: batches on
/// their way, the buffers of compactions, open files, and what the allocator wastes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Split {
    /// Write-behind caches.
    pub(crate) values: u64,
    /// RocksDB's cache.
    pub(crate) blocks: usize,
    /// Of that, write buffers.
    pub(crate) buffers: usize,
}

impl Split {
    pub(crate) fn of(memory_bytes: u64) -> Self {
        let eighth = memory_bytes / 8;
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        Self {
            values: eighth * 3,
            blocks: size(eighth * 3),
            buffers: size(eighth),
        }
    }
}

/// Which access a column family has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    /// Whole keys alone.
    Values,
    /// Whole keys, and all that begins with a prefix.
    Entries,
}

/// Options of the database and of column families: name, value, reason.
const TUNED: [(&str, &str, &str); 22] = [
    ("create_if_missing", "true", "the folder is new"),
    ("create_missing_column_families", "true", "the same"),
    (
        "write_dbid_to_manifest",
        "false",
        "a database that begins with another's files has an identity of its own: its next files are not the other's",
    ),
    (
        "max_manifest_file_size",
        "262144",
        "it goes with every snapshot",
    ),
    (
        "avoid_flush_during_shutdown",
        "true",
        "what ends without a snapshot is not read again",
    ),
    (
        "max_open_files",
        "-1",
        "a file that is closed and opened again reads its index and filter again",
    ),
    (
        "stats_dump_period_sec",
        "0",
        "nobody reads the log of the store; the job has metrics of its own",
    ),
    ("stats_persist_period_sec", "0", "the same"),
    ("info_log_level", "WARN_LEVEL", "the same"),
    (
        "max_subcompactions",
        "1",
        "the budget of threads is for the process, not for one compaction",
    ),
    (
        "bytes_per_sync",
        "1048576",
        "dirty pages go out evenly instead of in one burst that stalls reads",
    ),
    (
        "compaction_readahead_size",
        "262144",
        "eight runs are merged at once, each with a buffer of this size that no budget knows",
    ),
    (
        "compression",
        "kNoCompression",
        "a value that is read at random decompresses its whole block: without it, a row of a state far larger than the \
         memory costs a fifth less CPU; numbers compress little",
    ),
    (
        "bottommost_compression",
        "kNoCompression",
        "the same: nearly all reads end there",
    ),
    (
        "compaction_style",
        "kCompactionStyleUniversal",
        "keyed state is rewritten at random: merging runs of equal size writes each byte 3 to 4 times where levels do 12 \
         or more, and a row costs two thirds; filters keep the price of the additional runs small for reads",
    ),
    (
        "compaction_options_universal",
        "{size_ratio=10;min_merge_width=8;max_size_amplification_percent=100}",
        "merges of few runs only move bytes, and every merge is uploaded with the next snapshot; space stays within \
         twice the live data",
    ),
    (
        "level0_file_num_compaction_trigger",
        "12",
        "runs before a merge: each costs a look into a filter, a merge costs rewriting and uploading",
    ),
    (
        "level0_slowdown_writes_trigger",
        "64",
        "a merge of everything takes long: meanwhile runs add up, and nobody has to wait for it",
    ),
    ("level0_stop_writes_trigger", "128", "the same"),
    (
        "max_write_buffer_number",
        "4",
        "writes go on while buffers are being flushed; the budget of all buffers is the bound",
    ),
    (
        "memtable_whole_key_filtering",
        "true",
        "a key that is not in the write buffer, which is most, is not searched there",
    ),
    ("memtable_prefix_bloom_size_ratio", "0.05", "the same"),
];

/// Options of tables: name, value, reason.
const TUNED_TABLES: [(&str, &str, &str); 9] = [
    (
        "block_size",
        "2048",
        "a value that is not cached costs a whole block, read and checked: 16 KiB cost more than twice the CPU of a \
         random read, 4 KiB a tenth more",
    ),
    (
        "filter_policy",
        "bloomfilter:10:false",
        "1 % of the runs that don't have a key are searched in vain",
    ),
    (
        "cache_index_and_filter_blocks",
        "true",
        "indexes and filters count towards the budget",
    ),
    (
        "cache_index_and_filter_blocks_with_high_priority",
        "true",
        "data blocks don't drive them out",
    ),
    (
        "metadata_cache_options",
        "{unpartitioned_pinning=kNone;}",
        "what is pinned counts, but does not yield: with many keys it would go beyond the budget, and the cache is asked \
         without a lock",
    ),
    (
        "format_version",
        "6",
        "shorter index entries, checksums that know their place",
    ),
    (
        "optimize_filters_for_memory",
        "true",
        "filters fit what the allocator gives",
    ),
    (
        "data_block_index_type",
        "kDataBlockBinaryAndHash",
        "a key is found in its block by a hash instead of ten comparisons",
    ),
    ("data_block_hash_table_util_ratio", "0.75", "the same"),
];

/// Those of the table's options that an override may name, beside the tuned ones.
const TABLES: [&str; 9] = [
    "index_type",
    "metadata_block_size",
    "partition_filters",
    "whole_key_filtering",
    "checksum",
    "block_restart_interval",
    "index_block_restart_interval",
    "verify_compression",
    "pin_l0_filter_and_index_blocks_in_cache",
];

/// The options of the database (`access` none) or of a column family. `tables` has the cache.
pub(crate) fn options(
    access: Option<Access>,
    split: Split,
    settings: &RocksSettings,
    base: &mut Options,
    tables: &BlockBasedOptions,
) -> Result<Options, rocksdb::Error> {
    base.set_block_based_table_factory(tables);
    base.get_options_from_string(text(access, split, settings))
}

/// Bytes of a write buffer: one is written to while another is flushed.
pub(crate) fn buffer_bytes(split: Split, settings: &RocksSettings) -> usize {
    let mut overrides = settings.overrides.iter().rev();
    let own = overrides.find(|(name, _)| name == "write_buffer_size");
    own.and_then(|(_, value)| value.parse().ok())
        .unwrap_or_else(|| (split.buffers / 2).max(64 << 10))
}

/// All options in RocksDB's own notation.
fn text(access: Option<Access>, split: Split, settings: &RocksSettings) -> String {
    let mut own: Vec<(String, String)> = Vec::new();
    let mut table: Vec<(String, String)> = Vec::new();
    own.extend(TUNED.iter().map(|(n, v, _)| pair(n, v)));
    table.extend(TUNED_TABLES.iter().map(|(n, v, _)| pair(n, v)));
    let buffer = buffer_bytes(split, settings);
    own.push(pair("write_buffer_size", &buffer.to_string()));
    own.push(pair(
        "target_file_size_base",
        &(buffer * 2).max(1 << 20).to_string(),
    ));
    own.push(pair(
        "max_background_jobs",
        &settings.threads.max(1).to_string(),
    ));
    if access == Some(Access::Entries) {
        // Entries are read by prefix, many at a time: larger blocks, compressed, no hash in them.
        set(&mut own, "compression", "kLZ4Compression");
        set(&mut own, "bottommost_compression", "kLZ4Compression");
        set(&mut table, "block_size", "16384");
        set(
            &mut table,
            "data_block_index_type",
            "kDataBlockBinarySearch",
        );
    }
    for (name, value) in &settings.overrides {
        let tuned = TUNED_TABLES.iter().any(|(n, ..)| n == name);
        if tuned || TABLES.contains(&name.as_str()) {
            set(&mut table, name, value);
        } else {
            set(&mut own, name, value);
        }
    }
    let join = |pairs: &[(String, String)]| -> String {
        pairs.iter().map(|(n, v)| format!("{n}={v};")).collect()
    };
    format!(
        "{}block_based_table_factory={{{}}}",
        join(&own),
        join(&table)
    )
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

fn set(pairs: &mut Vec<(String, String)>, name: &str, value: &str) {
    pairs.retain(|(n, _)| n != name);
    pairs.push(pair(name, value));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(overrides: &[(&str, &str)]) -> Result<Options, rocksdb::Error> {
        let settings = RocksSettings {
            overrides: overrides.iter().map(|(n, v)| pair(n, v)).collect(),
            ..RocksSettings::default()
        };
        let split = Split::of(settings.memory_bytes);
        let mut all = [None, Some(Access::Values), Some(Access::Entries)].map(|access| {
            options(
                access,
                split,
                &settings,
                &mut Options::default(),
                &BlockBasedOptions::default(),
            )
        });
        std::mem::replace(&mut all[1], Ok(Options::default()))
    }

    #[test]
    fn the_store_takes_every_tuned_option_and_overrides() {
        taken(&[]).unwrap();
        taken(&[("block_size", "8192"), ("write_buffer_size", "1048576")]).unwrap();
        let refused = taken(&[("no_such_option", "1")]).err().unwrap();
        assert!(refused.to_string().contains("no_such_option"), "{refused}");
        assert!(taken(&[("write_buffer_size", "much")]).is_err());
    }

    #[test]
    fn every_part_of_the_memory_is_within_the_budget() {
        for memory in [1 << 20, 8 << 20, 512 << 20, 64_u64 << 30] {
            let split = Split::of(memory);
            assert!(split.values + split.blocks as u64 <= memory * 3 / 4);
            assert!(split.buffers < split.blocks);
        }
    }

    #[test]
    fn every_option_has_a_reason() {
        assert!(
            TUNED
                .iter()
                .chain(&TUNED_TABLES)
                .all(|(.., why)| !why.is_empty())
        );
    }
}
