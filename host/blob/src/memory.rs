//! `memory://NAME`: objects in this process, gone with it. For tests, and for jobs that survive failures of tasks alone.
//! Needs: `model::blob`. Invariant: all who name it see the same objects.

use std::collections::{BTreeMap, HashMap};
use std::io::{Cursor, Read};
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use pelton_model::blob::{BlobInfo, Blobs, PutNew};
use pelton_model::{Error, ErrorCode, Result};

use crate::folder::{local, remove_old};
use crate::name;

/// Objects in memory.
#[derive(Default)]
pub struct Memory {
    objects: Mutex<BTreeMap<String, Arc<[u8]>>>,
}

impl Memory {
    /// An empty store that nobody else sees.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The store of that name in this process, empty when it is first named.
    #[must_use]
    pub fn named(name: &str) -> Arc<Self> {
        static NAMED: LazyLock<Mutex<HashMap<String, Arc<Memory>>>> = LazyLock::new(Mutex::default);
        locked(&NAMED).entry(name.to_owned()).or_default().clone()
    }

    fn object(&self, name: &str) -> Result<Arc<[u8]>> {
        name::check(name)?;
        locked(&self.objects)
            .get(name)
            .cloned()
            .ok_or_else(|| not_found(name))
    }
}

impl Blobs for Memory {
    fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        name::check(name)?;
        locked(&self.objects).insert(name.to_owned(), bytes.into());
        Ok(())
    }

    fn put_new(&self, name: &str, bytes: &[u8]) -> Result<PutNew> {
        name::check(name)?;
        let mut objects = locked(&self.objects);
        if objects.contains_key(name) {
            return Ok(PutNew::Exists);
        }
        objects.insert(name.to_owned(), bytes.into());
        Ok(PutNew::Created)
    }

    fn put_file(&self, name: &str, file: &Path) -> Result<()> {
        name::check(name)?;
        let bytes = std::fs::read(file).map_err(|e| local("read", file, &e))?;
        locked(&self.objects).insert(name.to_owned(), bytes.into());
        Ok(())
    }

    fn get(&self, name: &str) -> Result<Vec<u8>> {
        Ok(self.object(name)?.to_vec())
    }

    fn get_range(&self, name: &str, offset: u64, length: u64) -> Result<Vec<u8>> {
        let object = self.object(name)?;
        let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(object.len());
        let range = at(offset)..at(offset.saturating_add(length));
        Ok(object.get(range).unwrap_or_default().to_vec())
    }

    fn read(&self, name: &str) -> Result<Box<dyn Read + Send>> {
        Ok(Box::new(Cursor::new(self.object(name)?)))
    }

    fn get_file(&self, name: &str, file: &Path) -> Result<()> {
        let object = self.object(name)?;
        remove_old(file)?;
        std::fs::write(file, &object).map_err(|e| local("write", file, &e))
    }

    fn list(&self, prefix: &str) -> Result<Vec<BlobInfo>> {
        let prefix = prefix.trim_end_matches('/');
        name::check_prefix(prefix)?;
        Ok(locked(&self.objects)
            .iter()
            .filter(|(name, _)| name::is_below(name, prefix))
            .map(|(name, bytes)| BlobInfo {
                name: name.clone(),
                length: bytes.len() as u64,
            })
            .collect())
    }

    fn delete(&self, name: &str) -> Result<()> {
        name::check(name)?;
        locked(&self.objects).remove(name);
        Ok(())
    }
}

/// The error for an object that is not there.
pub(crate) fn not_found(name: &str) -> Error {
    Error::new(
        ErrorCode::NotFound,
        format!("the store has no object '{name}'"),
    )
}

/// A map is whole after each of its calls, so a panic elsewhere spoils nothing.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
