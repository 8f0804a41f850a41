//! How others reach a job that runs: a Unix socket in its checkpoint folder, for its owner alone.
//! Needs: driver, savepoint. Refuses: folders that are not on this machine.
//!
//! A line of JSON is a request, lines of JSON are the replies:
//!
//! ```text
//! {"v":1,"request":"savepoint","to":URL or null,"dir":URL or null,"wait":true}
//! {"v":1,"reply":"accepted","url":URL}
//! {"v":1,"reply":"done","url":URL,"savepoint":{..}}
//! {"v":1,"reply":"failed","error":{"code":"PLT-0406","message":..,"help":..}}
//! ```

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use pelton_model::blob::Blobs;
use pelton_model::{Error, ErrorCode, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::driver::Savepoints;
use super::{saved, show};
use crate::report::to_json;

/// The socket's name in the folder.
pub(crate) const SOCKET: &str = "run.sock";
/// The version of requests and replies.
const VERSION: u64 = 1;
/// Bytes of a request at most.
const REQUEST_BYTES: u64 = 64 << 10;
/// Whoever connects says at once what they want.
const SPEAK: Duration = Duration::from_secs(10);
/// How often a listener looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(50);

/// What is wanted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    /// Where the savepoint goes.
    pub(crate) to: Option<String>,
    /// Or the folder in which it gets one of its own.
    pub(crate) dir: Option<String>,
    /// Whether the end is waited for.
    pub(crate) wait: bool,
}

/// What the one who is asked needs to know.
#[derive(Clone)]
pub(crate) struct Hall {
    pub(crate) savepoints: Savepoints,
    /// The job's name.
    pub(crate) job: String,
    /// Where savepoints go that say nothing else.
    pub(crate) dir: Option<String>,
    /// What is said to people.
    pub(crate) say: Arc<dyn Fn(&str) + Send + Sync>,
}

/// Listens as long as it lives.
pub(crate) struct Door {
    path: PathBuf,
    /// Device and file: a later process may have put its own in our place.
    own: Option<(u64, u64)>,
    over: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// The local folder of a URL. Errors: `Usage` for one that is elsewhere.
fn folder(url: &str) -> Result<PathBuf> {
    pelton_blob::local_folder(url)?.ok_or_else(|| {
        let message = format!("'{url}' is not a folder of this machine: a job is reached by a socket in its checkpoint folder");
        Error::new(ErrorCode::Usage, message)
            .help("stop the job, and go on from its last checkpoint: it can be given to --from")
    })
}

/// A path to a socket that is short enough, and what must be held for it.
fn short(folder: &Path, name: &str) -> std::io::Result<(PathBuf, File)> {
    let held = File::open(folder)?;
    let path = format!("/proc/self/fd/{}/{name}", held.as_raw_fd());
    Ok((path.into(), held))
}

impl Door {
    /// Listens in a checkpoint folder. Errors: `Io`.
    pub(crate) fn open(folder: &Path, hall: Hall) -> Result<Self> {
        let failed = |e: std::io::Error| {
            let message = format!("the socket for `pelton savepoint create` cannot be made: {e}");
            Error::new(ErrorCode::Io, message).at("folder", folder.display())
        };
        let path = folder.join(SOCKET);
        let (listener, own) = listen(folder, &path).map_err(failed)?;
        let over = Arc::<AtomicBool>::default();
        let seen = Arc::clone(&over);
        let thread = std::thread::Builder::new()
            .name("door".into())
            .spawn(move || serve(&listener, &hall, &seen))
            .map_err(failed)?;
        Ok(Self {
            path,
            own,
            over,
            thread: Some(thread),
        })
    }
}

/// A socket that nobody else could ever open: made in a folder of our own, then put in its place.
fn listen(folder: &Path, path: &Path) -> std::io::Result<(UnixListener, Option<(u64, u64)>)> {
    let made = tempfile::Builder::new()
        .prefix(".tmp-")
        .permissions(std::fs::Permissions::from_mode(0o700))
        .tempdir_in(folder)?;
    let (short, _held) = short(made.path(), SOCKET)?;
    let listener = UnixListener::bind(short)?;
    listener.set_nonblocking(true)?;
    let inside = made.path().join(SOCKET);
    std::fs::set_permissions(&inside, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&inside, path)?;
    Ok((listener, identity(path)))
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

impl Drop for Door {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        if self.own.is_some() && identity(&self.path) == self.own {
            // What stays is replaced by the next start.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn serve(listener: &UnixListener, hall: &Hall, over: &AtomicBool) {
    while !over.load(Ordering::Acquire) {
        match listener.accept() {
            Ok((stream, _)) => {
                let hall = hall.clone();
                let one = std::thread::Builder::new().name("visitor".into());
                // Who cannot be served sees the connection end.
                let _ = one.spawn(move || visit(stream, &hall));
            }
            Err(_) => std::thread::sleep(LOOK),
        }
    }
}

fn visit(stream: UnixStream, hall: &Hall) {
    let ready = stream
        .set_nonblocking(false)
        .and_then(|()| stream.set_read_timeout(Some(SPEAK)));
    if ready.is_err() {
        return;
    }
    let mut line = String::new();
    let mut reader = BufReader::new((&stream).take(REQUEST_BYTES));
    if reader.read_line(&mut line).is_err() {
        return;
    }
    let mut say = |reply: Value| {
        // Who has gone does not want to know.
        let _ = writeln!(&stream, "{reply}");
    };
    if let Err(error) = answer(&line, hall, &mut say) {
        say(json!({"v": VERSION, "reply": "failed", "error": to_json(&error)}));
    }
}

fn answer(line: &str, hall: &Hall, say: &mut dyn FnMut(Value)) -> Result<()> {
    let bad = |why: String| Error::new(ErrorCode::Usage, why);
    let value: Value = serde_json::from_str(line)
        .map_err(|e| bad(format!("the request is not understood: {e}")))?;
    if value["v"] != VERSION || value["request"] != "savepoint" {
        return Err(
            bad("the request is not understood: the job runs with another release".into())
                .help("use the release of `pelton` that runs the job"),
        );
    }
    let request: Request = serde_json::from_value(value)
        .map_err(|e| bad(format!("the request is not understood: {e}")))?;
    let url = match (&request.to, request.dir.as_ref().or(hall.dir.as_ref())) {
        (Some(to), _) => to.clone(),
        (None, Some(dir)) => saved::below(dir, &name(&hall.job)),
        (None, None) => {
            return Err(bad("nobody has said where the savepoint goes".into())
                .help("say it with --to, or --savepoint-dir, or set `savepoint.dir`"));
        }
    };
    let to = crate::supervise::store(&url)?;
    refuse_full(to.as_ref(), &url)?;
    let (reply, made) = channel();
    hall.savepoints.create(to, reply);
    say(json!({"v": VERSION, "reply": "accepted", "url": url}));
    let made = made.recv().unwrap_or_else(|_| {
        let message = "the job has ended before the savepoint was complete";
        Err(Error::new(ErrorCode::CheckpointFailed, message))
    });
    match &made {
        Ok(metadata) => (hall.say)(&format!("savepoint {}: {url}", metadata.id)),
        Err(error) => (hall.say)(&format!("the savepoint {url} has failed: {error}")),
    }
    let savepoint = show::item(&name_of(&url), &url, &made?);
    say(json!({"v": VERSION, "reply": "done", "url": url, "savepoint": savepoint}));
    Ok(())
}

fn refuse_full(to: &dyn Blobs, url: &str) -> Result<()> {
    match to.list("")?.first() {
        None => Ok(()),
        Some(there) => {
            let message = format!("'{url}' has something already: '{}'", there.name);
            Err(Error::new(ErrorCode::Conflict, message)
                .help("a savepoint has a folder of its own; name another"))
        }
    }
}

/// `<job>-<id>`: the id begins with the time, so that names sort by it.
fn name(job: &str) -> String {
    let plain = |c: char| match c {
        c if c.is_ascii_alphanumeric() || "-_.".contains(c) => c,
        _ => '_',
    };
    let job: String = job.trim_start_matches('.').chars().map(plain).collect();
    let now = crate::process::now().0;
    let random = crate::supervise::draw() & 0xffff_ffff;
    format!("{job}-{now:012x}{random:08x}")
}

fn name_of(url: &str) -> String {
    let name = url.trim_end_matches('/').rsplit('/').next();
    name.unwrap_or_default().to_owned()
}

/// Why there is no good answer.
#[derive(Debug)]
pub(crate) enum Unanswered {
    /// Not yet.
    TimedOut,
    /// There will be none.
    Failed(Error),
}

impl From<Error> for Unanswered {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Asks the job whose checkpoint folder this is; an object of kind `savepoint`. Errors: `NotFound` where none runs; what
/// the job says.
pub(crate) fn ask(
    url: &str,
    request: &Request,
    wait: Option<Duration>,
) -> Result<Value, Unanswered> {
    let folder = folder(url)?;
    let nobody = |e: std::io::Error| {
        let message = match e.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
                format!("no job runs with the checkpoint folder '{url}'")
            }
            _ => format!("the job with the checkpoint folder '{url}' cannot be reached: {e}"),
        };
        let code = match e.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => ErrorCode::NotFound,
            _ => ErrorCode::Io,
        };
        Error::new(code, message)
            .help("a savepoint is taken by a job that runs: `pelton run FILE --checkpoint-dir URL`")
    };
    let (path, _held) = short(&folder, SOCKET).map_err(nobody)?;
    let mut stream = UnixStream::connect(path).map_err(nobody)?;
    let lost = |e: std::io::Error| match e.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Unanswered::TimedOut,
        _ => Error::new(ErrorCode::Io, format!("the job does not answer: {e}")).into(),
    };
    let mut line =
        serde_json::to_value(request).map_err(|e| Error::bug(format!("a request: {e}")))?;
    if let Some(fields) = line.as_object_mut() {
        fields.insert("v".into(), VERSION.into());
        fields.insert("request".into(), "savepoint".into());
    }
    writeln!(stream, "{line}").map_err(lost)?;
    stream.set_read_timeout(wait).map_err(lost)?;
    let mut lines = BufReader::new(stream).lines();
    loop {
        let line = lines.next().ok_or_else(|| {
            let message = "the job has ended before the savepoint was complete";
            Error::new(ErrorCode::CheckpointFailed, message)
        })?;
        let reply: Value = serde_json::from_str(&line.map_err(lost)?)
            .map_err(|e| Error::new(ErrorCode::Io, format!("the job's answer is broken: {e}")))?;
        match reply["reply"].as_str() {
            Some("accepted") if request.wait => {}
            Some("accepted") => {
                return Ok(json!({"kind": "savepoint", "url": reply["url"], "complete": false}));
            }
            Some("done") => {
                let mut object = reply["savepoint"].clone();
                object["kind"] = "savepoint".into();
                object["complete"] = true.into();
                return Ok(object);
            }
            _ => return Err(failure(&reply["error"]).into()),
        }
    }
}

/// An error that was sent.
fn failure(object: &Value) -> Error {
    let text = |name: &str| object[name].as_str();
    let code = text("code").and_then(ErrorCode::parse);
    let message = text("message").unwrap_or("the job's answer is not understood");
    let mut error = Error::new(code.unwrap_or(ErrorCode::CheckpointFailed), message);
    for (label, value) in object["at"].as_object().into_iter().flatten() {
        let label = match label.as_str() {
            "operator" => "operator",
            "object" => "object",
            _ => continue,
        };
        error = error.at(label, value.as_str().unwrap_or_default());
    }
    match text("help") {
        Some(help) => error.help(help),
        None => error,
    }
}

#[cfg(test)]
mod tests;
