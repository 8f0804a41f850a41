//! Compiled components on disk, by component, engine configuration and version.
//!
//! A compiled component is machine code that is run as it is. So that nobody else's file is ever run, each carries a
//! keyed BLAKE3 code under a random key that only this user can read; a file that is damaged, foreign or of another
//! version is passed over and made again. Nothing here is an error: without a cache the component is compiled.
//!
//! File: magic (8 bytes, with the format's version), length of the rest (8, little-endian), code (32), machine code.

use std::fs::{self, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use wasmtime::Engine;
use wasmtime::component::Component;

const MAGIC: [u8; 8] = *b"PLTNCMP1";
const HEADER: usize = 8 + 8 + 32;
/// Files that are kept; the oldest go first.
const FILES_MAX: usize = 256;

/// A folder of compiled components.
#[derive(Debug)]
pub(crate) struct Cache {
    dir: PathBuf,
    key: [u8; 32],
    /// What the machine code depends on besides the component.
    engine: u64,
}

impl Cache {
    /// Makes the folder and its key where they are missing; `None` if they can't be used or others could write there.
    pub(crate) fn open(dir: PathBuf, engine: &Engine) -> Option<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .ok()?;
        let folder = fs::metadata(&dir).ok()?;
        if folder.mode() & 0o022 != 0 {
            return None;
        }
        let key = key(&dir.join("key"), folder.uid())?;
        let mut hasher = std::hash::DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        env!("CARGO_PKG_VERSION").hash(&mut hasher);
        Some(Self {
            dir,
            key,
            engine: hasher.finish(),
        })
    }

    /// The compiled form, if there is one that this user made.
    pub(crate) fn load(&self, digest: &blake3::Hash, engine: &Engine) -> Option<Component> {
        let bytes = fs::read(self.path(digest)).ok()?;
        let code = self.verify(digest, &bytes)?;
        // SAFETY: `deserialize` trusts its input to be what `serialize` gave. The code was just held against a keyed
        // BLAKE3 code whose key only this user can read, over a copy in memory that nobody else can change; and
        // wasmtime itself checks its version and configuration.
        unsafe { Component::deserialize(engine, code) }.ok()
    }

    /// Keeps a compiled form. Written whole under another name first.
    pub(crate) fn store(&self, digest: &blake3::Hash, component: &Component) {
        static UNIQUE: AtomicU64 = AtomicU64::new(0);
        let Ok(code) = component.serialize() else {
            return;
        };
        let unique = UNIQUE.fetch_add(1, Ordering::Relaxed);
        let temporary = self
            .dir
            .join(format!("{}.{unique}.new", std::process::id()));
        let written = self
            .write(&temporary, digest, &code)
            .and_then(|()| fs::rename(&temporary, self.path(digest)));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        } else {
            self.prune();
        }
    }

    fn write(&self, path: &Path, digest: &blake3::Hash, code: &[u8]) -> std::io::Result<()> {
        let mut file = create_private(path)?;
        file.write_all(&MAGIC)?;
        file.write_all(&(code.len() as u64).to_le_bytes())?;
        file.write_all(self.mac(digest, code).as_bytes())?;
        file.write_all(code)
    }

    /// The machine code in a file's bytes, if it is whole and ours.
    fn verify<'a>(&self, digest: &blake3::Hash, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let (header, code) = bytes.split_at_checked(HEADER)?;
        let (magic, rest) = header.split_at_checked(8)?;
        let (length, mac) = rest.split_at_checked(8)?;
        let length = u64::from_le_bytes(length.try_into().ok()?);
        if magic != MAGIC || length != code.len() as u64 {
            return None;
        }
        let mac = blake3::Hash::from_slice(mac).ok()?;
        // This comparison takes the same time wherever the difference is.
        (mac == self.mac(digest, code)).then_some(code)
    }

    fn mac(&self, digest: &blake3::Hash, code: &[u8]) -> blake3::Hash {
        blake3::Hasher::new_keyed(&self.key)
            .update(&MAGIC)
            .update(&self.engine.to_le_bytes())
            .update(digest.as_bytes())
            .update(code)
            .finalize()
    }

    fn path(&self, digest: &blake3::Hash) -> PathBuf {
        self.dir
            .join(format!("{}-{:016x}", digest.to_hex(), self.engine))
    }

    fn prune(&self) {
        let Ok(entries) = fs::read_dir(&self.dir) else {
            return;
        };
        let mut files: Vec<_> = entries
            .filter_map(|e| {
                let e = e.ok()?;
                let made = e.metadata().ok()?.modified().ok()?;
                (e.file_name() != "key").then(|| (made, e.path()))
            })
            .collect();
        files.sort();
        let excess = files.len().saturating_sub(FILES_MAX);
        for (_, path) in files.iter().take(excess) {
            let _ = fs::remove_file(path);
        }
    }
}

/// The user's key, made at first. `None` if it is not a private file of `owner`.
fn key(path: &Path, owner: u32) -> Option<[u8; 32]> {
    if let Some(key) = read_key(path, owner) {
        return Some(key);
    }
    let mut key = [0; 32];
    File::open("/dev/urandom").ok()?.read_exact(&mut key).ok()?;
    // Two processes may come here at once: each writes a file of its own, and the first link wins for both.
    let temporary = path.with_extension(format!("{}.new", std::process::id()));
    let _ = fs::remove_file(&temporary);
    let made = create_private(&temporary)
        .and_then(|mut f| f.write_all(&key))
        .and_then(|()| match fs::symlink_metadata(path) {
            // A damaged key is replaced: what it vouched for is made again.
            Ok(_) => fs::rename(&temporary, path),
            Err(_) => fs::hard_link(&temporary, path),
        });
    let _ = fs::remove_file(&temporary);
    match made {
        Ok(()) => Some(key),
        Err(_) => read_key(path, owner),
    }
}

fn read_key(path: &Path, owner: u32) -> Option<[u8; 32]> {
    let found = fs::symlink_metadata(path).ok()?;
    if !found.is_file() || found.mode() & 0o077 != 0 || found.uid() != owner {
        return None;
    }
    fs::read(path).ok()?.try_into().ok()
}

fn create_private(path: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}
