//! Starting the binary in a folder and a home of its own, and reading how it ended.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A folder to work in, and a home that holds nothing yet.
pub(crate) struct Place {
    root: TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        for folder in ["home", "work"] {
            std::fs::create_dir(root.path().join(folder)).unwrap();
        }
        Self { root }
    }

    /// The folder that commands run in.
    pub(crate) fn work(&self) -> PathBuf {
        self.root.path().join("work")
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    /// Writes a file below the working folder and returns its path.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.work().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// The binary, without anything of the machine's own settings.
    pub(crate) fn command(&self, args: &[impl AsRef<OsStr>]) -> Command {
        let mut command = Command::new(binary());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PELTON_") {
                command.env_remove(name);
            }
        }
        for name in ["XDG_CACHE_HOME", "XDG_CONFIG_HOME", "NO_COLOR"] {
            command.env_remove(name);
        }
        command
            .args(args)
            .current_dir(self.work())
            .env("HOME", self.home())
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn pelton(&self, args: &[impl AsRef<OsStr>]) -> Ended {
        Ended::of(self.command(args).output().unwrap())
    }
}

impl Ended {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// It is done, with nothing to complain of.
    #[track_caller]
    pub(crate) fn ok(&self) -> &str {
        assert_eq!(
            (self.code, self.stderr.as_str()),
            (Some(0), ""),
            "{}",
            self.stdout
        );
        &self.stdout
    }

    /// The one object on the standard output.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(self.ok()).unwrap()
    }

    /// It failed with this code and this text on the standard error, and without results.
    #[track_caller]
    pub(crate) fn failed(&self, code: i32, stderr: &str) {
        assert_eq!(
            (self.code, self.stderr.as_str(), self.stdout.as_str()),
            (Some(code), stderr, "")
        );
    }
}

/// A build. All share one folder, so that the SDK is compiled once.
pub(crate) fn built_in_common(mut command: Command) -> Ended {
    let this = std::env::current_exe().unwrap();
    let target = this
        .ancestors()
        .find(|p| p.ends_with("debug"))
        .unwrap()
        .parent()
        .unwrap()
        .join("guest");
    command.env("CARGO_TARGET_DIR", target);
    // The toolchain lives in the real home.
    for name in ["CARGO_HOME", "RUSTUP_HOME"] {
        if std::env::var_os(name).is_none() {
            let folder = if name == "CARGO_HOME" {
                ".cargo"
            } else {
                ".rustup"
            };
            command.env(
                name,
                Path::new(&std::env::var_os("HOME").unwrap()).join(folder),
            );
        }
    }
    Ended::of(command.output().unwrap())
}

fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("PELTON_BIN") {
        return path.into();
    }
    let this = std::env::current_exe().unwrap();
    let debug = this
        .ancestors()
        .find(|p| p.ends_with("debug"))
        .unwrap_or(Path::new("."));
    let path = debug.join("pelton");
    assert!(
        path.is_file(),
        "{} is not there: `cargo build -p pelton-node` makes it",
        path.display()
    );
    path
}
