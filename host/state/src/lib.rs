//! The RocksDB state backend: keyed state that is larger than memory by far, with memory held to a budget.
//!
//! Needs: model, `engine::state` (the traits, the index of keys). Refuses: knowledge of operators and timers. It is the
//! only crate with RocksDB. Invariant: a state's bytes on disk depend on nothing but its contents and its stamps.
//!
//! # Layout
//!
//! A job has one folder. Each task of an operator has a database of its own there, so that a snapshot is its files and
//! nobody else's; all share memory and threads. Each state has a column family, named `state/` and its name. Numbers are
//! big-endian, rows stand in their [canonical encoding](pelton_model::encoding), which ends by itself.
//!
//! ```text
//! owner            locked as long as the process lives
//! db/N             a database
//! snapshot/N       links to the files of a cut, or a delta, as long as snapshots are made of them
//! restore/N        files that are read, until what is wanted of them is copied
//! ```
//!
//! | state | key | value |
//! |---|---|---|
//! | value, reducing, aggregating | key group u16, key | stamp, value |
//! | list | key group u16, length of the key u32, key, number of the item u64 | stamp, item |
//! | map | key group u16, length of the key u32, key, map key | stamp, value |
//! | map of lists | key group u16, length of the key u32, key, map key, number of the item u64 | stamp, item |
//!
//! State of an operator has its task's number instead of a key group, and a key of no bytes. The stamp, an i64, is there
//! where the state has a time to live: when the value was last written, or read, where that counts. Items of lists are
//! numbered by their task in the order in which they are added, all lists together. So whatever belongs to a key group
//! lies side by side, and so does whatever belongs to a key, in the order in which it is read.
//!
//! # Snapshots
//!
//! In the native form, `rocksdb-1`, a snapshot is the database's own files: tables that never change, and the list of
//! them. A table is called after the database that made it, so that it is uploaded once, whoever has it later. As long as
//! nothing but caches has changed since, snapshots are these same files with a chain of deltas, copied from the caches
//! alone: that is `rocksdb-2`. In the canonical form a snapshot is read from the database at such a cut, or copied from the
//! caches where the database never had anything. What is linked, and when, is in `store`; what a task does at a barrier is in `rocks::snapshot` and `rocks::chain`.

mod backend;
mod canonical;
mod delta;
mod entries;
mod fault;
mod folder;
mod layout;
mod native;
mod options;
mod rocks;
mod store;
#[cfg(test)]
mod tests;
mod values;

pub use backend::RocksBackend;
pub use folder::remove_stale;
pub use options::RocksSettings;
