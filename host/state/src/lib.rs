//! The RocksDB state backend: keyed state that is larger than memory.
