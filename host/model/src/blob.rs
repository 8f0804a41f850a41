//! Durable objects under names, as everything else sees them. Needs: error. Implemented in `blob`, and by simulations.
//!
//! Names are relative, with `/` between their parts, and never begin or end with one. An object is written whole, under a
//! name that is used once, and never changed. The one conditional write is [`put_new`](Blobs::put_new): of all who write
//! under a name, one succeeds.

use std::io::Read;
use std::path::Path;

use crate::Result;

/// What became of a conditional write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PutNew {
    /// The object is there now, and it is ours.
    Created,
    /// There was one already; it is as it was.
    Exists,
}

/// An object, as a listing shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BlobInfo {
    /// Its name.
    pub name: String,
    /// Bytes.
    pub length: u64,
}

/// A store of objects. Calls wait for the outside: never from within a task's step.
///
/// Errors: `NotFound` for an object that is not there; `StoreUnavailable` for what may succeed later (the caller
/// retries); `StoreFailed` for a right, a full disk, a wrong URL. After an error of a write, the object may be there or
/// not, but never in part.
pub trait Blobs: Send + Sync {
    /// Writes an object; one of that name is replaced. It is durable when the call returns.
    fn put(&self, name: &str, bytes: &[u8]) -> Result<()>;

    /// Writes an object unless there is one of that name. After `StoreUnavailable` nobody knows: read it back and compare.
    fn put_new(&self, name: &str, bytes: &[u8]) -> Result<PutNew>;

    /// Writes a local file as an object, without holding all of it in memory.
    fn put_file(&self, name: &str, file: &Path) -> Result<()>;

    /// The whole object.
    fn get(&self, name: &str) -> Result<Vec<u8>>;

    /// Bytes of the object from `offset` on, at most `length`; fewer where it ends.
    fn get_range(&self, name: &str, offset: u64, length: u64) -> Result<Vec<u8>>;

    /// The object from its beginning, without holding all of it in memory.
    fn read(&self, name: &str) -> Result<Box<dyn Read + Send>>;

    /// Copies an object into a local file; where the store is a local folder, a hard link will do.
    fn get_file(&self, name: &str, file: &Path) -> Result<()>;

    /// All objects whose names begin with `prefix` (whole parts), ascending by name.
    fn list(&self, prefix: &str) -> Result<Vec<BlobInfo>>;

    /// Removes an object; one that is not there is removed already.
    fn delete(&self, name: &str) -> Result<()>;

    /// Removes what processes that are no more have left unfinished where names begin with `prefix` (whole parts). It was
    /// never an object. Stores that keep nothing unfinished have nothing to do.
    fn sweep(&self, _prefix: &str) -> Result<()> {
        Ok(())
    }
}
