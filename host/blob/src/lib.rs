//! Durable objects by URL: `file://`, `memory://`, `s3://`, `az://`; the only room that knows `object_store`.
//!
//! Needs: `model::blob`, whose trait it implements. Refuses: what the objects mean, and retries hidden within a store:
//! [`Retrying`] is put around one by whoever opens it.
//!
//! # What holds for every kind
//!
//! - A write is durable when the call returns: in a folder, the file and every folder above it are synced.
//! - An object is there as a whole or not at all. What a killed process left of one is never listed.
//! - `list("a")` has what lies below `a`: `a/1` and `a/b/2`, not `ab`, not an object that is `a` itself.
//! - A name is no beginning of another (`a` and `a/b`): a folder cannot hold both.
//!
//! # In a local folder
//!
//! Writing a file as an object, and the other way round, makes a hard link where it can: both are then one file, so
//! neither may be written to any more. It may be replaced or removed.

#[cfg(test)]
mod contract;
mod disk;
#[cfg(any(test, feature = "faults"))]
pub mod faults;
mod folder;
mod memory;
mod name;
#[cfg(any(feature = "s3", feature = "azure"))]
mod object;
mod retry;
mod url;

use std::fmt;
use std::sync::Arc;

use pelton_model::Result;
use pelton_model::blob::Blobs;

pub use folder::Folder;
pub use memory::Memory;
pub use retry::{Pace, RetryPolicy, Retrying, SystemPace};

use url::{Kind, Place};

/// How to reach a store.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// Options of an object store, by the names of its variables (`aws_endpoint`, `aws_region`), in front of those of the
    /// environment.
    pub options: Vec<(String, String)>,
    /// Nothing is going to be written: a store that does not let us, or not as it must, will do.
    pub read_only: bool,
    /// A request that takes longer has failed, milliseconds.
    pub timeout_ms: u64,
    /// A file above this size, in bytes, is sent and fetched in parts of this size.
    pub part_bytes: u64,
    /// Parts of one file that are on their way at once; so many are in memory.
    pub parts_at_once: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            options: Vec::new(),
            read_only: false,
            timeout_ms: 30_000,
            part_bytes: 8 << 20,
            parts_at_once: 4,
        }
    }
}

impl fmt::Debug for Settings {
    /// Without the values of options: some are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options: Vec<_> = self.options.iter().map(|(key, _)| key).collect();
        f.debug_struct("Settings")
            .field("options", &options)
            .field("read_only", &self.read_only)
            .field("timeout_ms", &self.timeout_ms)
            .field("part_bytes", &self.part_bytes)
            .field("parts_at_once", &self.parts_at_once)
            .finish()
    }
}

/// Opens the store that `url` names. `file:///path` and a plain path are a local folder, made by the first write;
/// `memory://name` is one store a name in this process; `s3://bucket/prefix` is there with the feature `s3`, its access
/// by the `AWS_` variables; `az://container/prefix` with the feature `azure`, by the `AZURE_` variables.
///
/// An object store is asked once whether it honours a put that must not replace; one that does not is refused.
///
/// # Errors
/// `StoreFailed` for a URL that cannot be used, with its reason; `StoreUnavailable` where the store does not answer.
pub fn open(url: &str, settings: &Settings) -> Result<Arc<dyn Blobs>> {
    match Place::parse(url)? {
        Place::Folder(path) => Ok(Arc::new(Folder::open(path)?)),
        Place::Memory(name) => Ok(Memory::named(&name)),
        Place::Bucket {
            kind,
            bucket,
            prefix,
        } => open_bucket(url, kind, &bucket, &prefix, settings),
    }
}

/// The local folder that `url` names, if it is one. Errors: `StoreFailed` for a URL that cannot be used.
pub fn local_folder(url: &str) -> Result<Option<std::path::PathBuf>> {
    Ok(match Place::parse(url)? {
        Place::Folder(path) => Some(path),
        Place::Memory(_) | Place::Bucket { .. } => None,
    })
}

#[cfg(any(feature = "s3", feature = "azure"))]
fn open_bucket(
    url: &str,
    kind: Kind,
    bucket: &str,
    prefix: &str,
    settings: &Settings,
) -> Result<Arc<dyn Blobs>> {
    Ok(Arc::new(object::Objects::open(
        url, kind, bucket, prefix, settings,
    )?))
}

#[cfg(not(any(feature = "s3", feature = "azure")))]
fn open_bucket(url: &str, kind: Kind, _: &str, _: &str, _: &Settings) -> Result<Arc<dyn Blobs>> {
    Err(url::not_built(url, kind))
}
