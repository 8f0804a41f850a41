//! `s3://` and `az://`: objects of an object store, through `object_store` and a small runtime of its own.
//!
//! Needs: `model::blob`, `object_store`. Invariants: a put that must not replace is sent once and never again below us, so
//! that its answer is about itself; a large file is sent in parts, several at once, and is there when all are. Refuses: a
//! store that does not honour such a put; calls from within an asynchronous task, as every call waits.

use std::error::Error as _;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::path::Path as LocalPath;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt};
use object_store::client::{HttpError, HttpErrorKind};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, WriteMultipart};
use pelton_model::blob::{BlobInfo, Blobs, PutNew};
use pelton_model::{Error, ErrorCode, Result};
use tokio::runtime::{Builder, Runtime};

use crate::folder::{local, remove_old};
use crate::memory::not_found;
use crate::url::{Kind, refused};
use crate::{Settings, name};

mod clients;

/// Threads that send and receive.
const WORKERS: usize = 2;

/// A store in a bucket.
pub(crate) struct Objects {
    /// As messages name it.
    url: String,
    /// What all names begin with in the bucket.
    prefix: String,
    shared: Arc<Shared>,
}

struct Shared {
    /// Sends a request again where it may have been lost.
    store: Box<dyn ObjectStore>,
    /// Sends it once.
    once: Box<dyn ObjectStore>,
    part_bytes: u64,
    parts_at_once: usize,
    runtime: Runtime,
}

impl Objects {
    /// The objects below `prefix` of a bucket, with the options of the environment below those of the settings.
    pub(crate) fn open(
        url: &str,
        kind: Kind,
        bucket: &str,
        prefix: &str,
        settings: &Settings,
    ) -> Result<Self> {
        let (store, once) = match kind {
            #[cfg(feature = "s3")]
            Kind::S3 => clients::s3(url, bucket, settings)?,
            #[cfg(feature = "azure")]
            Kind::Azure => clients::azure(url, bucket, settings)?,
            #[cfg(not(all(feature = "s3", feature = "azure")))]
            _ => return Err(crate::url::not_built(url, kind)),
        };
        let shared = Shared {
            store,
            once,
            // Less is refused by S3, and nobody needs more than a file fits into.
            part_bytes: settings.part_bytes.clamp(5 << 20, 1 << 30),
            parts_at_once: settings.parts_at_once.max(1),
            runtime: Builder::new_multi_thread()
                .worker_threads(WORKERS)
                .thread_name("blob")
                .enable_all()
                .build()
                .map_err(|e| refused(url, &format!("no threads for it: {e}")))?,
        };
        let objects = Self {
            url: url.trim_end_matches('/').to_owned(),
            prefix: if prefix.is_empty() {
                String::new()
            } else {
                format!("{prefix}/")
            },
            shared: Arc::new(shared),
        };
        if !settings.read_only {
            objects.check_put_new()?;
        }
        Ok(objects)
    }

    /// Writes a new object twice: the second time, the store must say that it is there.
    fn check_put_new(&self) -> Result<()> {
        // The name is nobody else's, and is shown by no listing where we are killed before it is removed.
        let name = format!(
            "{}put-new-{:016x}",
            name::UNFINISHED,
            RandomState::new().hash_one(0)
        );
        let path = self.path_of(&name)?;
        let refuse =
            |e: Error| match e.code() {
                ErrorCode::StoreUnavailable => e,
                _ => refused(&self.url, e.message()).help(e.help_text().unwrap_or(
                    "the bucket must be there, and ours to list, read, write and delete",
                )),
            };
        self.create(&path, &name, b"1").map_err(refuse)?;
        let second = self.create(&path, &name, b"2").map_err(refuse);
        let removed = self.shared.run(self.shared.store.delete(&path));
        match second? {
            PutNew::Exists => removed.map_err(|e| refuse(self.failed("delete", &name, &e))),
            PutNew::Created => Err(refused(
                &self.url,
                "it replaced an object by a put that asked for a new one (it ignores If-None-Match), so two processes \
                 could write one checkpoint",
            )),
        }
    }

    fn create(&self, path: &Path, name: &str, bytes: &[u8]) -> Result<PutNew> {
        let options = PutOptions::from(PutMode::Create);
        let put = self
            .shared
            .once
            .put_opts(path, bytes.to_vec().into(), options);
        match self.shared.run(put) {
            Ok(_) => Ok(PutNew::Created),
            Err(object_store::Error::AlreadyExists { source, .. }) if is_precondition(&*source) => {
                Ok(PutNew::Exists)
            }
            Err(e) => Err(self.failed("write", name, &e)),
        }
    }

    fn path(&self, name: &str) -> Result<Path> {
        name::check(name)?;
        self.path_of(name)
    }

    fn path_of(&self, name: &str) -> Result<Path> {
        Path::parse(format!("{}{name}", self.prefix)).map_err(|e| {
            Error::new(
                ErrorCode::StoreFailed,
                format!("'{name}' cannot be the name of an object: {e}"),
            )
        })
    }

    /// Sends what `source` has in parts.
    fn put_parts(&self, name: &str, path: &Path, mut source: impl Read) -> Result<()> {
        let shared = &*self.shared;
        let part_bytes = usize::try_from(shared.part_bytes).unwrap_or(usize::MAX);
        let upload = shared
            .run(shared.store.put_multipart(path))
            .map_err(|e| self.failed("write", name, &e))?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, part_bytes);
        // What is sent in parts is seen by nobody until it is finished; what is given up takes room until it is aborted.
        loop {
            let mut part = Vec::new();
            let read = source
                .by_ref()
                .take(shared.part_bytes)
                .read_to_end(&mut part);
            let sent = read.map_err(|e| self.unread(name, &e)).and_then(|read| {
                shared
                    .run(upload.wait_for_capacity(shared.parts_at_once))
                    .map_err(|e| self.failed("write", name, &e))?;
                Ok(read)
            });
            match sent {
                Ok(0) => break,
                Ok(_) => {
                    // Parts are sent by tasks of the runtime.
                    let _entered = shared.runtime.enter();
                    upload.put(part.into());
                }
                Err(e) => {
                    let _ = shared.run(upload.abort());
                    return Err(e);
                }
            }
        }
        match shared.run(upload.finish()) {
            Ok(_) => Ok(()),
            // The reply to a completion was lost, and the upload is gone when it is asked for again; or it was aborted.
            Err(object_store::Error::NotFound { .. }) => Err(Error::new(
                ErrorCode::StoreUnavailable,
                format!(
                    "cannot write {}/{name}: the upload in parts is gone",
                    self.url
                ),
            )),
            Err(e) => Err(self.failed("write", name, &e)),
        }
    }

    fn length(&self, name: &str, path: &Path) -> Result<u64> {
        let found = self.shared.run(self.shared.store.head(path));
        Ok(found.map_err(|e| self.failed("read", name, &e))?.size)
    }

    fn unread(&self, name: &str, e: &io::Error) -> Error {
        let message = format!("cannot read the file that becomes {}/{name}: {e}", self.url);
        Error::new(ErrorCode::Io, message)
    }

    fn failed(&self, verb: &str, name: &str, e: &object_store::Error) -> Error {
        use object_store::Error as E;
        let code = match e {
            E::NotFound { .. } if verb == "read" => return not_found(name),
            E::Generic { .. } if may_pass(e) => ErrorCode::StoreUnavailable,
            // Somebody else writes under this name just now, and nobody knows yet who succeeds.
            E::AlreadyExists { .. } => ErrorCode::StoreUnavailable,
            _ => ErrorCode::StoreFailed,
        };
        let words = words(e);
        // Without credentials, those of the machine are asked for, at an address under which few machines find something.
        let unknown = [
            "/latest/api/token",
            "/latest/meta-data/",
            "/metadata/identity/",
        ]
        .iter()
        .any(|path| words.contains(path));
        let error = Error::new(code, format!("cannot {verb} {}/{name}: {words}", self.url));
        if !unknown {
            return error;
        }
        error.help(
            "no credentials are given, and this machine has none of its own: set AWS_ACCESS_KEY_ID and \
             AWS_SECRET_ACCESS_KEY, or AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
        )
    }
}

impl Blobs for Objects {
    fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.path(name)?;
        if bytes.len() as u64 > self.shared.part_bytes {
            return self.put_parts(name, &path, bytes);
        }
        match self
            .shared
            .run(self.shared.store.put(&path, bytes.to_vec().into()))
        {
            Ok(_) => Ok(()),
            Err(e) => Err(self.failed("write", name, &e)),
        }
    }

    fn put_new(&self, name: &str, bytes: &[u8]) -> Result<PutNew> {
        self.create(&self.path(name)?, name, bytes)
    }

    fn put_file(&self, name: &str, file: &LocalPath) -> Result<()> {
        let path = self.path(name)?;
        let read = |e| local("read", file, &e);
        let mut source = File::open(file).map_err(read)?;
        if source.metadata().map_err(read)?.len() > self.shared.part_bytes {
            return self.put_parts(name, &path, source);
        }
        let mut bytes = Vec::new();
        source.read_to_end(&mut bytes).map_err(read)?;
        self.put(name, &bytes)
    }

    fn get(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.path(name)?;
        let store = &self.shared.store;
        let got = self
            .shared
            .run(async { store.get(&path).await?.bytes().await });
        Ok(got.map_err(|e| self.failed("read", name, &e))?.into())
    }

    fn get_range(&self, name: &str, offset: u64, length: u64) -> Result<Vec<u8>> {
        let path = self.path(name)?;
        // An empty range is an error below us, and one behind the end is one that does not tell itself apart.
        let end = offset.saturating_add(length).min(i64::MAX.cast_unsigned());
        if offset < end {
            let got = self
                .shared
                .run(self.shared.store.get_range(&path, offset..end));
            match got {
                Ok(bytes) => return Ok(bytes.into()),
                Err(e) if may_pass(&e) || self.length(name, &path)? > offset => {
                    return Err(self.failed("read", name, &e));
                }
                Err(_) => return Ok(Vec::new()),
            }
        }
        self.length(name, &path).map(|_| Vec::new())
    }

    fn read(&self, name: &str) -> Result<Box<dyn Read + Send>> {
        let path = self.path(name)?;
        let length = self.length(name, &path)?;
        Ok(Box::new(Reader {
            shared: self.shared.clone(),
            path,
            rest: 0..length,
            part: io::Cursor::default(),
        }))
    }

    fn get_file(&self, name: &str, file: &LocalPath) -> Result<()> {
        let path = self.path(name)?;
        let length = self.length(name, &path)?;
        remove_old(file)?;
        let mut to = File::create_new(file).map_err(|e| local("write", file, &e))?;
        let shared = &*self.shared;
        let parts = (0..length.div_ceil(shared.part_bytes)).map(|part| {
            let from = part * shared.part_bytes;
            shared
                .store
                .get_range(&path, from..length.min(from + shared.part_bytes))
        });
        let mut parts = futures_util::stream::iter(parts).buffered(shared.parts_at_once);
        while let Some(part) = shared.run(parts.next()) {
            let part = part.map_err(|e| self.failed("read", name, &e))?;
            to.write_all(&part).map_err(|e| local("write", file, &e))?;
        }
        Ok(())
    }

    fn list(&self, prefix: &str) -> Result<Vec<BlobInfo>> {
        let prefix = prefix.trim_end_matches('/');
        name::check_prefix(prefix)?;
        let below = self.path_of(prefix)?;
        let listed: Vec<_> = self
            .shared
            .run(self.shared.store.list(Some(&below)).try_collect())
            .map_err(|e| self.failed("list", prefix, &e))?;
        let mut found: Vec<_> = listed
            .into_iter()
            .filter_map(|object| {
                let name = object.location.as_ref().strip_prefix(&*self.prefix)?;
                // Not ours, or a probe of ours.
                name::check(name).ok()?;
                name::is_below(name, prefix).then(|| BlobInfo {
                    name: name.to_owned(),
                    length: object.size,
                })
            })
            .collect();
        found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    fn delete(&self, name: &str) -> Result<()> {
        let path = self.path(name)?;
        match self.shared.run(self.shared.store.delete(&path)) {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(self.failed("delete", name, &e)),
        }
    }
}

impl Shared {
    fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }
}

/// Reads an object part by part.
struct Reader {
    shared: Arc<Shared>,
    path: Path,
    /// What has not been asked for.
    rest: Range<u64>,
    part: io::Cursor<Vec<u8>>,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.part.read(buffer)?;
        if read > 0 || buffer.is_empty() || self.rest.is_empty() {
            return Ok(read);
        }
        let end = self.rest.end.min(self.rest.start + self.shared.part_bytes);
        let get = self
            .shared
            .store
            .get_range(&self.path, self.rest.start..end);
        let part = self.shared.run(get).map_err(io::Error::other)?;
        self.rest.start = end;
        self.part = io::Cursor::new(part.into());
        self.part.read(buffer)
    }
}

/// Whether a conflict is the answer to our condition: 412, or 409 with Azure's own word. Another 409 says that a write is
/// under way, whose end is not known.
fn is_precondition(e: &(dyn std::error::Error + 'static)) -> bool {
    let condition = matches!(
        e.downcast_ref(),
        Some(object_store::Error::Precondition { .. } | object_store::Error::NotModified { .. })
    );
    let words = e.to_string();
    condition || words.contains("status code: 412") || words.contains("BlobAlreadyExists")
}

/// Whether the same request may succeed later. `object_store` keeps the status to itself, so its words are read.
fn may_pass(e: &object_store::Error) -> bool {
    let mut cause = e.source();
    while let Some(e) = cause {
        if let Some(e) = e.downcast_ref::<HttpError>() {
            // Unknown: the address is not one, or its scheme is not allowed.
            return e.kind() != HttpErrorKind::Unknown;
        }
        cause = e.source();
    }
    let words = e.to_string();
    match words
        .split_once("status code: ")
        .map(|(_, rest)| rest.get(..3))
    {
        Some(Some("501" | "505")) => false,
        Some(Some(status)) => {
            status.starts_with('5') || matches!(status, "408" | "409" | "425" | "429")
        }
        // A reply that began well and ends with an error.
        _ => words.contains("Server returned error response"),
    }
}

/// The words of an error and of what caused it, each once, in one line.
fn words(e: &object_store::Error) -> String {
    let mut words = e.to_string();
    let mut cause = e.source();
    while let Some(e) = cause {
        let more = e.to_string();
        if !words.contains(&more) {
            words = format!("{words}: {more}");
        }
        cause = e.source();
    }
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}
