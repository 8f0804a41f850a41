//! Checkpoints while a sink takes nothing: unaligned ones are complete within a second, aligned ones not before it takes
//! rows again. Whole jobs, each in a process of its own. When a checkpoint began stands in its entry of the log; when it
//! was complete, the time of that entry's file tells. Needs: the component `bench-jobs`.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use pelton_model::checkpoint::log_name;
use pelton_model::{Error, ErrorCode, Result};

use super::jobs::command;
use super::{Bench, Figure};
use crate::checkpoint::folder::Folder;
use crate::checkpoint::saved::store;
use crate::process;
use crate::summary::grouped;

/// How long the sink takes nothing.
const BLOCKED_MS: u64 = 60_000;
const BLOCKED_MS_QUICK: u64 = 5_000;
/// The last of that is not looked at: each task's sink has its own beginning.
const MARGIN_MS: u64 = 500;
/// More than any run comes to.
const EVENTS: u64 = 100_000_000_000;
/// A job that has not begun by then does not.
const START_NS: u64 = 120_000_000_000;
const LOOK: Duration = Duration::from_millis(20);

/// What was complete while the sink took nothing: milliseconds from the beginning of each checkpoint.
type Complete = Vec<f64>;

pub(super) fn blocked(bench: &mut Bench<'_>) -> Result<()> {
    let ms = match bench.quick {
        true => BLOCKED_MS_QUICK,
        false => BLOCKED_MS,
    };
    let name = format!("checkpoints of a sink blocked for {} ms", grouped(ms));
    (bench.progress)("unaligned checkpoints");
    let unaligned = run(bench, ms, "exactly-once")?;
    let count = unaligned.len() as f64;
    let longest = unaligned.into_iter().reduce(f64::max);
    bench.add(Figure::plain(
        format!("{name}: unaligned, complete meanwhile"),
        count,
        "checkpoints",
    ));
    bench.add(Figure::bounded(
        format!("{name}: unaligned, the longest"),
        longest.unwrap_or(ms as f64),
        "ms",
        1_000.0,
    ));
    (bench.progress)("aligned checkpoints");
    let aligned = run(bench, ms, "aligned")?.len() as f64;
    bench.add(Figure::bounded(
        format!("{name}: aligned, complete meanwhile"),
        aligned,
        "checkpoints",
        0.0,
    ));
    Ok(())
}

/// Ends with what holds it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended by itself cannot be killed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A keyed sum whose sink is blocked, from its start to the end of that.
fn run(bench: &Bench<'_>, ms: u64, mode: &str) -> Result<Complete> {
    let folder = super::json::folder()?;
    let url = folder.path().display().to_string();
    let params = [
        ("job".to_owned(), "keyed-sum".to_owned()),
        ("events".to_owned(), EVENTS.to_string()),
        ("blocked_ms".to_owned(), ms.to_string()),
    ];
    let mut command = command(&bench.component("bench-jobs"), &params)?;
    command.args(["--checkpoint-dir", &url, "--checkpoint-interval", "1s"]);
    command.args(["--checkpoint-mode", mode]);
    command.env("PELTON_CHECKPOINT__ALIGNMENT_TIMEOUT", "0ms");
    command.env("PELTON_CHECKPOINT__RETAINED", "1000");
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let child = command
        .spawn()
        .map_err(|e| Error::new(ErrorCode::Io, format!("a run cannot be started: {e}")))?;
    let mut running = Running(child);
    let log = Folder::new(store(&url)?);
    let from = process::monotonic();
    while log.read()?.starts.is_empty() {
        if running.has_ended() || process::monotonic().since(from) > START_NS {
            return Err(failed());
        }
        std::thread::sleep(LOOK);
    }
    std::thread::sleep(Duration::from_millis(ms.saturating_sub(MARGIN_MS)));
    if running.has_ended() {
        return Err(failed());
    }
    drop(running);
    let mut complete = Vec::new();
    for (number, metadata, _) in log.read()?.checkpoints {
        let put = put_ms(&folder.path().join(log_name(number)))?;
        complete.push(put - metadata.at_ms as f64);
    }
    Ok(complete)
}

impl Running {
    fn has_ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }
}

fn failed() -> Error {
    Error::new(
        ErrorCode::TestFailed,
        "a job that is measured has ended before its sink took rows again, or has not begun",
    )
}

/// When a file was written, in milliseconds since 1970.
fn put_ms(file: &Path) -> Result<f64> {
    let written = std::fs::metadata(file).and_then(|m| m.modified());
    let written = written.map_err(|e| {
        Error::new(ErrorCode::Io, format!("an entry of the log is gone: {e}"))
            .at("file", file.display())
    })?;
    let since = written.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(since.as_secs_f64() * 1e3)
}
