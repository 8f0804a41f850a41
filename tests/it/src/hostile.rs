//! Running the job `hostile`, which behaves as badly as its parameter `mode` says, for a bounded time.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use crate::components::component;
use crate::pelton::{Ended, Place};

/// What no command of these tests may take, however loaded the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

/// A command whose compiled component is kept from one test to the next.
pub(crate) fn command(place: &Place, args: &[String]) -> Command {
    let mut command = place.command(args);
    let this = std::env::current_exe().unwrap();
    if let Some(debug) = this.ancestors().find(|p| p.ends_with("debug")) {
        command.env(
            "PELTON_CACHE__DIR",
            debug.with_file_name("tmp").join("hostile"),
        );
    }
    command
}

/// The arguments of a run or a check of `hostile` in one mode.
pub(crate) fn hostile(command: &str, mode: &str, more: &[&str]) -> Vec<String> {
    let mut args = vec![command.to_owned(), component("hostile")];
    args.extend(["--param".to_owned(), format!("mode={mode}")]);
    args.extend(more.iter().map(|a| (*a).to_owned()));
    args
}

/// Runs a command to its end. One that hangs is killed, and the test fails.
#[track_caller]
pub(crate) fn bounded(place: &Place, args: &[String]) -> Ended {
    let mut command = command(place, args);
    finish(
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap(),
        args,
    )
}

/// Waits for the end of a process whose output is piped.
#[track_caller]
pub(crate) fn finish(mut child: Child, args: &[String]) -> Ended {
    let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
    let (done, waits) = mpsc::channel::<()>();
    let id = child.id();
    let (stdout, stderr, status, hangs) = std::thread::scope(|threads| {
        let stdout = threads.spawn(|| all(&mut out));
        let stderr = threads.spawn(|| all(&mut err));
        let hangs = threads.spawn(move || {
            let hangs = waits.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout);
            if hangs {
                signal(id, "-KILL");
            }
            hangs
        });
        let status = child.wait().unwrap();
        drop(done);
        (
            stdout.join().unwrap(),
            stderr.join().unwrap(),
            status,
            hangs.join().unwrap(),
        )
    });
    assert!(
        !hangs,
        "{args:?} hangs: {}",
        String::from_utf8_lossy(&stderr)
    );
    let ended = Ended::of(Output {
        status,
        stdout,
        stderr,
    });
    assert!(!ended.stderr.contains("panicked at"), "{}", ended.stderr);
    ended
}

fn all(pipe: &mut Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.read_to_end(&mut bytes).unwrap();
    }
    bytes
}

/// It failed with this exit code, without results, and its error has this beginning and these words.
#[track_caller]
pub(crate) fn refused(ended: &Ended, exit: i32, start: &str, words: &[&str]) {
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(exit), ""),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.starts_with(start), "{}", ended.stderr);
    for word in words {
        assert!(
            ended.stderr.contains(word),
            "'{word}' is not in {}",
            ended.stderr
        );
    }
}

/// What stands in a folder under names that readers look at.
pub(crate) fn visible(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !name.starts_with(['.', '_'])).collect()
}

/// Sends a signal to a process.
pub(crate) fn signal(id: u32, name: &str) {
    let sent = Command::new("kill")
        .args([name, &id.to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
}
