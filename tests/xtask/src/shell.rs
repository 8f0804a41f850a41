//! Running other programs, and the few paths that every command shares.
//!
//! Needs: std. Invariant: a program that a user waits for is announced before it starts. Refuses: shells; arguments
//! go to programs as they are.

use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Where the repository is and where its products go.
#[derive(Clone, Debug)]
pub(crate) struct Repo {
    /// The folder with the workspace's `Cargo.toml`.
    pub(crate) root: PathBuf,
    /// Cargo's target folder: `CARGO_TARGET_DIR`, else `target` below the root.
    pub(crate) target: PathBuf,
}

impl Repo {
    /// Reads where cargo says that this program's manifest is, so that a cached binary serves a moved clone.
    pub(crate) fn locate() -> Self {
        let built_from = env!("CARGO_MANIFEST_DIR").into();
        let manifest_dir: PathBuf =
            std::env::var_os("CARGO_MANIFEST_DIR").map_or(built_from, PathBuf::from);
        let root = manifest_dir
            .ancestors()
            .nth(2)
            .unwrap_or(&manifest_dir)
            .to_owned();
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(folder) => root.join(folder),
            None => root.join("target"),
        };
        Self { root, target }
    }

    /// `cargo ARGS`, in the root, with this workspace's target folder.
    pub(crate) fn cargo(&self, args: &[&str]) -> Command {
        let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(program);
        command
            .args(args)
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", &self.target);
        command
    }

    /// The workspace of the example jobs, once there is one.
    pub(crate) fn guest_examples(&self) -> Option<PathBuf> {
        let folder = self.root.join("guest-examples");
        folder.join("Cargo.toml").is_file().then_some(folder)
    }

    /// Where `pelton build` puts the components of the example jobs.
    pub(crate) fn components(&self) -> PathBuf {
        self.target.join("pelton")
    }
}

/// A folder for what should outlive the clone: `PELTON_CACHE`, else `~/.cache/pelton`.
pub(crate) fn cache() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("PELTON_CACHE") {
        return Ok(folder.into());
    }
    let home = std::env::var_os("HOME")
        .context("neither PELTON_CACHE nor HOME is set: set one of them")?;
    Ok(Path::new(&home).join(".cache/pelton"))
}

/// Tells the user something, on standard error.
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}

/// Prints a result, on standard output.
#[expect(
    clippy::print_stdout,
    reason = "the one place where a command's result leaves"
)]
pub(crate) fn print(text: &str) {
    println!("{text}");
}

/// The present, for the minutes of a step and the bounds of a program; nothing here is simulated.
#[expect(
    clippy::disallowed_methods,
    reason = "the one clock of a developer's tool"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Whether a program of that name is on the path.
pub(crate) fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// The command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let program = program
        .file_name()
        .unwrap_or(program.as_os_str())
        .to_string_lossy()
        .into_owned();
    let args = command
        .get_args()
        .map(|arg| arg.to_string_lossy().into_owned());
    std::iter::once(program)
        .chain(args)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Runs a program to its end on the user's terminal.
///
/// # Errors
/// When it does not start or does not end with success.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    say(&format!("$ {}", shown(command)));
    let status = command
        .status()
        .with_context(|| format!("could not start `{}`", shown(command)))?;
    ended(command, status)
}

/// Runs a program for at most `bound`, with nothing to read, and kills it after that.
///
/// # Errors
/// When it does not start, does not end in time, or does not end with success.
pub(crate) fn run_bounded(command: &mut Command, bound: Duration) -> Result<()> {
    say(&format!("$ {}", shown(command)));
    let started = now();
    let mut child = command
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("could not start `{}`", shown(command)))?;
    loop {
        if let Some(status) = child.try_wait()? {
            return ended(command, status);
        }
        if now().duration_since(started) > bound {
            child.kill()?;
            child.wait()?;
            bail!(
                "`{}` was stopped after {} seconds",
                shown(command),
                bound.as_secs()
            );
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Runs a program silently and tells whether it ended with success.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    let quiet = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// What a program printed on standard output; empty where it failed.
pub(crate) fn output(command: &mut Command) -> String {
    match command.stdin(Stdio::null()).stderr(Stdio::null()).output() {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).into_owned()
        }
        _ => String::new(),
    }
}

/// Runs a program whose two streams pass through while `line` sees each line of either. Returns whether it succeeded.
///
/// # Errors
/// When it does not start or cannot be waited for.
pub(crate) fn run_watched(command: &mut Command, line: &mut dyn FnMut(&str)) -> Result<bool> {
    say(&format!("$ {}", shown(command)));
    if std::io::stderr().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .with_context(|| format!("could not start `{}`", shown(command)))?;
    let Child { stdout, stderr, .. } = &mut child;
    let (Some(stdout), Some(stderr)) = (stdout.take(), stderr.take()) else {
        bail!("a stream of the child is missing")
    };
    let (lines, seen) = std::sync::mpsc::channel();
    let other = lines.clone();
    thread::scope(|scope| {
        scope.spawn(move || pass_through(stdout, std::io::stdout(), &lines));
        scope.spawn(move || pass_through(stderr, std::io::stderr(), &other));
        for text in seen {
            line(&text);
        }
    });
    Ok(child.wait()?.success())
}

fn pass_through(from: impl Read, mut to: impl Write, seen: &std::sync::mpsc::Sender<String>) {
    let mut from = BufReader::new(from);
    let mut bytes = Vec::new();
    // A closed terminal must not end the program that is being watched: its streams are read to the end anyway.
    while from
        .read_until(b'\n', &mut bytes)
        .is_ok_and(|read| read > 0)
    {
        let _ = to.write_all(&bytes).and_then(|()| to.flush());
        let _ = seen.send(String::from_utf8_lossy(&bytes).into_owned());
        bytes.clear();
    }
}

fn ended(command: &Command, status: ExitStatus) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    bail!("`{}` failed ({status})", shown(command))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watched_program_shows_both_streams_and_its_outcome() {
        let mut lines = Vec::new();
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo two >&2; exit 3"]);
        let succeeded = run_watched(&mut command, &mut |line| {
            lines.push(line.trim_end().to_owned())
        })
        .unwrap();
        lines.sort();
        assert_eq!(lines, ["one", "two"]);
        assert!(!succeeded);
    }

    #[test]
    fn a_hanging_program_is_stopped_at_its_bound() {
        let error =
            run_bounded(Command::new("sleep").arg("600"), Duration::from_millis(10)).unwrap_err();
        assert!(error.to_string().contains("was stopped after"), "{error}");
    }

    #[test]
    fn a_failure_names_the_command_as_typed() {
        let error = run(Command::new("/bin/sh").args(["-c", "exit 4"])).unwrap_err();
        assert_eq!(error.to_string(), "`sh -c exit 4` failed (exit status: 4)");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = run(&mut Command::new("/nonexistent/tool")).unwrap_err();
        assert_eq!(error.to_string(), "could not start `tool`");
    }
}
