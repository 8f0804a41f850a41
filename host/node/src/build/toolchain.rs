//! Which Rust toolchain compiles guests to WebAssembly on this machine.
//!
//! Needs: std alone. `cargo xtask` includes this very file, so that what it installs and what `pelton build` looks
//! for cannot drift apart; that is why nothing of ours is imported here.
//! Refuses: to install or to change anything. It looks, decides, and says what is missing and who must act.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The one target that guests are compiled for.
pub(crate) const TARGET: &str = "wasm32-unknown-unknown";

/// Debian's packages that together compile guests where rustup cannot fetch the target.
pub(crate) const DEBIAN_PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "lld-19"];

const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
/// The oldest compiler that the SDK builds with: 1.95. Debian's `rustc` package is older, its `rustc-web` is not.
const DEBIAN_MINOR_MIN: u32 = 95;
const DEBIAN_SOURCES: &str = "/usr/lib/rustlib/src/rust/library/std/src/lib.rs";

/// Linkers in the order of preference: the version that comes with `DEBIAN_PACKAGES` is the tried one.
const LINKERS: [&str; 5] = [
    "wasm-ld-19",
    "wasm-ld-20",
    "wasm-ld-21",
    "wasm-ld-22",
    "wasm-ld",
];

/// What the host's engine takes as a matter of course; all of it is part of WebAssembly 2.0.
const TARGET_FEATURES: &str =
    "-Ctarget-feature=+simd128,+bulk-memory,+nontrapping-fptoint,+sign-ext";

/// A way to compile guests that works on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Toolchain {
    /// The ordinary `cargo`, whose toolchain has the target's standard library.
    Rustup,
    /// Debian's own compiler. It has no standard library for the target and builds one from Debian's sources.
    Debian {
        /// Name of the WebAssembly linker, as found on the path.
        linker: String,
    },
}

/// What a look at the machine found. The decision from it is pure: see [`Found::decide`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// The ordinary `rustc` answers.
    pub(crate) rustc: bool,
    /// The ordinary `rustc` has the target's standard library.
    pub(crate) rustc_has_target: bool,
    /// Debian's `rustc` and `cargo` are installed and new enough.
    pub(crate) debian_compiler: bool,
    /// The sources of the standard library are where Debian's compiler looks for them.
    pub(crate) debian_sources: bool,
    /// The first WebAssembly linker on the path, as Debian's compiler brings none.
    pub(crate) linker: Option<String>,
}

/// Finds the toolchain that compiles guests.
///
/// # Errors
/// What is missing and the command that helps, as one message for the user.
pub(crate) fn find() -> Result<Toolchain, String> {
    Found::look().decide()
}

impl Found {
    /// Looks at this machine: runs the compilers' `--print` and `--version`, and else only reads folders.
    pub(crate) fn look() -> Self {
        let libdir = target_libdir();
        Self {
            rustc: libdir.is_some(),
            rustc_has_target: libdir.is_some_and(|folder| has_std(&folder)),
            debian_compiler: Path::new(DEBIAN_CARGO).is_file()
                && is_new_enough(&version(DEBIAN_RUSTC)),
            debian_sources: Path::new(DEBIAN_SOURCES).is_file(),
            linker: LINKERS
                .iter()
                .find(|name| on_path(name))
                .map(|name| (*name).to_owned()),
        }
    }

    /// Chooses: the ordinary toolchain where it has the target, else Debian's where it is complete.
    ///
    /// # Errors
    /// What is missing and what to do, as one message for the user.
    pub(crate) fn decide(&self) -> Result<Toolchain, String> {
        if self.rustc_has_target {
            return Ok(Toolchain::Rustup);
        }
        match &self.linker {
            Some(linker) if self.debian_compiler && self.debian_sources => Ok(Toolchain::Debian {
                linker: linker.clone(),
            }),
            _ => Err(self.missing()),
        }
    }

    fn missing(&self) -> String {
        let first = if self.rustc {
            format!("rustc has no standard library for {TARGET}")
        } else {
            "rustc does not answer".to_owned()
        };
        let half_debian = match (self.debian_compiler, self.debian_sources, &self.linker) {
            (true, true, None) => "; Debian's compiler is there but lacks a linker (wasm-ld-19)",
            (true, false, _) => "; Debian's compiler is there but lacks its sources (rust-web-src)",
            _ => "",
        };
        format!(
            "{first}{half_debian}: run `rustup target add {TARGET}`, or on Debian `apt-get install --no-install-recommends {}`",
            DEBIAN_PACKAGES.join(" ")
        )
    }
}

impl Toolchain {
    /// `cargo build` of the package or workspace in `manifest_dir` for the guests' target, artefacts below
    /// `target_dir/wasm32-unknown-unknown/{release,debug}`. The caller adds packages and flags, then runs it.
    pub(crate) fn command(&self, manifest_dir: &Path, target_dir: &Path, release: bool) -> Command {
        let mut command = match self {
            Self::Rustup => Command::new("cargo"),
            Self::Debian { linker } => debian_cargo(linker),
        };
        command
            .arg("build")
            .arg("--manifest-path")
            .arg(manifest_dir.join("Cargo.toml"));
        command
            .args(["--target", TARGET])
            .arg("--target-dir")
            .arg(target_dir);
        if matches!(self, Self::Debian { .. }) {
            command.arg("-Zbuild-std=std,panic_abort");
        }
        if release {
            command.arg("--release");
        }
        // Flags of the target, so that build scripts and macros keep the host's. Flags meant for the user's host
        // programs would replace them, and a lint driver or the profile flags of a caller have no business here.
        command.env(
            "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS",
            TARGET_FEATURES,
        );
        for name in [
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "RUSTC_WORKSPACE_WRAPPER",
            "CARGO_BUILD_TARGET",
        ] {
            command.env_remove(name);
        }
        command.current_dir(manifest_dir);
        command
    }
}

fn debian_cargo(linker: &str) -> Command {
    let mut command = Command::new(DEBIAN_CARGO);
    command.env("RUSTC", DEBIAN_RUSTC);
    // Building the standard library is an unstable feature of cargo; the sources are those of this very compiler.
    command.env("RUSTC_BOOTSTRAP", "1");
    command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
    // A parent `cargo run` points this at the other toolchain's libraries.
    command.env_remove("LD_LIBRARY_PATH");
    command
}

fn target_libdir() -> Option<PathBuf> {
    let mut command = Command::new("rustc");
    command
        .args(["--print", "target-libdir", "--target", TARGET])
        .stdin(Stdio::null());
    let output = command
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(PathBuf::from(text.trim_end()))
}

/// First line of `rustc --version`; empty where it does not answer.
fn version(rustc: &str) -> String {
    let mut command = Command::new(rustc);
    command
        .arg("--version")
        .env_remove("LD_LIBRARY_PATH")
        .stdin(Stdio::null());
    let output = command
        .output()
        .map(|output| output.stdout)
        .unwrap_or_default();
    String::from_utf8_lossy(&output).into_owned()
}

/// Reads `rustc 1.96.0 (...)`.
fn is_new_enough(version: &str) -> bool {
    let number = version.split_whitespace().nth(1).unwrap_or_default();
    let mut parts = number
        .split('.')
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let (major, minor) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    major > 1 || (major == 1 && minor >= DEBIAN_MINOR_MIN)
}

/// `rustc` names the folder whether or not anything was ever installed there.
fn has_std(folder: &Path) -> bool {
    let Ok(entries) = fs::read_dir(folder) else {
        return false;
    };
    entries.flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("libstd-") && name.ends_with(".rlib")
    })
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn debian() -> Found {
        Found {
            rustc: true,
            rustc_has_target: false,
            debian_compiler: true,
            debian_sources: true,
            linker: Some("wasm-ld-19".to_owned()),
        }
    }

    fn environment<'a>(command: &'a Command, name: &str) -> Option<Option<&'a str>> {
        let found = command.get_envs().find(|(key, _)| *key == name);
        found.map(|(_, value)| value.and_then(|value| value.to_str()))
    }

    #[test]
    fn the_ordinary_toolchain_wins_where_it_has_the_target() {
        let found = Found {
            rustc_has_target: true,
            ..debian()
        };
        assert_eq!(found.decide(), Ok(Toolchain::Rustup));
    }

    #[test]
    fn debian_serves_where_the_target_is_missing() {
        assert_eq!(
            debian().decide(),
            Ok(Toolchain::Debian {
                linker: "wasm-ld-19".to_owned()
            })
        );
    }

    #[test]
    fn a_bare_machine_is_told_both_ways() {
        let message = Found::default().decide().unwrap_err();
        assert!(message.starts_with("rustc does not answer: "), "{message}");
        assert!(
            message.contains("`rustup target add wasm32-unknown-unknown`"),
            "{message}"
        );
        assert!(
            message.contains("rustc-web cargo-web rust-web-src lld-19"),
            "{message}"
        );
    }

    #[test]
    fn each_missing_part_of_debian_is_named() {
        let no_linker = Found {
            linker: None,
            ..debian()
        }
        .decide()
        .unwrap_err();
        assert!(
            no_linker.contains("lacks a linker (wasm-ld-19)"),
            "{no_linker}"
        );
        let no_sources = Found {
            debian_sources: false,
            ..debian()
        }
        .decide()
        .unwrap_err();
        assert!(
            no_sources.contains("lacks its sources (rust-web-src)"),
            "{no_sources}"
        );
        let no_compiler = Found {
            debian_compiler: false,
            ..debian()
        }
        .decide()
        .unwrap_err();
        assert!(
            no_compiler.starts_with("rustc has no standard library"),
            "{no_compiler}"
        );
    }

    #[test]
    fn the_ordinary_command_builds_no_standard_library() {
        let command = Toolchain::Rustup.command(Path::new("/guest"), Path::new("/out"), true);
        let args: Vec<_> = command
            .get_args()
            .map(|arg| arg.to_string_lossy())
            .collect();
        let expected = [
            "build",
            "--manifest-path",
            "/guest/Cargo.toml",
            "--target",
            TARGET,
            "--target-dir",
            "/out",
            "--release",
        ];
        assert_eq!(args, expected);
        assert_eq!(environment(&command, "RUSTC_BOOTSTRAP"), None);
        assert_eq!(
            environment(&command, "RUSTFLAGS"),
            Some(None),
            "the host's flags must not replace the target's"
        );
    }

    #[test]
    fn debians_command_names_compiler_linker_and_sources() {
        let toolchain = Toolchain::Debian {
            linker: "wasm-ld-19".to_owned(),
        };
        let command = toolchain.command(Path::new("/guest"), Path::new("/out"), false);
        assert_eq!(command.get_program(), DEBIAN_CARGO);
        assert!(
            command
                .get_args()
                .any(|arg| arg == "-Zbuild-std=std,panic_abort")
        );
        assert!(!command.get_args().any(|arg| arg == "--release"));
        assert_eq!(environment(&command, "RUSTC"), Some(Some(DEBIAN_RUSTC)));
        assert_eq!(environment(&command, "RUSTC_BOOTSTRAP"), Some(Some("1")));
        let linker = environment(&command, "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER");
        assert_eq!(linker, Some(Some("wasm-ld-19")));
    }

    #[test]
    fn an_older_or_silent_compiler_is_none() {
        assert!(is_new_enough(
            "rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)\n"
        ));
        assert!(is_new_enough("rustc 1.95.0-nightly (x 2026-01-01)"));
        assert!(is_new_enough("rustc 2.0.0"));
        assert!(!is_new_enough("rustc 1.63.0"));
        assert!(!is_new_enough(""));
        assert!(!is_new_enough("command not found"));
    }

    #[test]
    fn a_folder_without_a_library_is_no_target() {
        assert!(!has_std(Path::new("/nonexistent")));
        assert!(!has_std(Path::new(env!("CARGO_MANIFEST_DIR"))));
    }
}
