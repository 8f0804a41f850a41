//! Building and running the product: `pelton`, its example jobs, the demo and the benchmarks.
//!
//! Needs: `setup`, `shell`. Invariant: `pelton` is run as a program, the way a user runs it; what it prints is its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::setup;
use crate::shell::{self, Repo, say};

/// The job of the demo, and its parameters: the only place that names them.
const DEMO_JOB: &str = "hot-items";
const DEMO_EVENTS: &str = "events=10000000";
const DEMO_RATE: &str = "rate=500000";

/// How the host is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// The one profile of all checks and tests.
    Dev,
    /// What a user runs.
    Release,
}

/// `cargo xtask demo`: ten million events at a fixed rate, then at full speed.
///
/// # Errors
/// When a build or a run fails.
pub(crate) fn demo(repo: &Repo) -> Result<()> {
    setup::run(repo)?;
    let pelton = build_with(repo, Profile::Release, &["--no-default-features"])?;
    let Some(examples) = repo.guest_examples() else {
        bail!("guest-examples has no jobs in this clone")
    };
    build_jobs(repo, &pelton, &examples.join(DEMO_JOB))?;
    let component = repo.components().join(DEMO_JOB).with_extension("wasm");
    let run = |params: &[&str]| {
        let mut command = Command::new(&pelton);
        command.arg("run").arg(&component);
        for param in params {
            command.args(["--param", param]);
        }
        shell::run(command.current_dir(&repo.root))
    };
    say(
        "\ndemo: the hottest items of ten million auction events, at 500,000 a second (20 seconds)",
    );
    run(&[DEMO_EVENTS, DEMO_RATE])?;
    say("\ndemo: the same at full speed");
    run(&[DEMO_EVENTS])
}

/// `cargo xtask bench ARGS`: the product's own benchmarks, in a release build.
///
/// # Errors
/// When a build or the benchmark fails.
pub(crate) fn bench(repo: &Repo, args: &[String]) -> Result<()> {
    setup::run(repo)?;
    let pelton = build(repo, Profile::Release)?;
    build_examples(repo, Profile::Release)?;
    let mut command = Command::new(pelton);
    command.arg("bench").args(args).current_dir(&repo.root);
    name_to(&mut command, repo, Profile::Release);
    shell::run(&mut command)
}

/// `cargo xtask chaos ARGS`: real jobs, killed at named points and started again, must write what an undisturbed run
/// writes.
///
/// # Errors
/// When a build fails, or a job writes something else.
pub(crate) fn chaos(repo: &Repo, args: &[String]) -> Result<()> {
    setup::run(repo)?;
    build(repo, Profile::Dev)?;
    let Some(examples) = repo.guest_examples() else {
        bail!("guest-examples has no jobs in this clone")
    };
    build_jobs(repo, &binary(repo, Profile::Dev), &examples.join("chaos"))?;
    shell::run(&mut repo.cargo(&["build", "-p", "pelton-chaos"]))?;
    let mut command = Command::new(repo.target.join("debug").join("chaos"));
    command.args(args).current_dir(&repo.root);
    name_to(&mut command, repo, Profile::Dev);
    shell::run(&mut command)
}

/// Builds the binary and returns its path.
///
/// # Errors
/// When the build fails.
pub(crate) fn build(repo: &Repo, profile: Profile) -> Result<PathBuf> {
    build_with(repo, profile, &[])
}

/// The same with more arguments: the demo needs no RocksDB, which takes minutes to compile.
fn build_with(repo: &Repo, profile: Profile, more: &[&str]) -> Result<PathBuf> {
    let mut command = repo.cargo(&["build", "-p", "pelton-node"]);
    command.args(more);
    if profile == Profile::Release {
        command.arg("--release");
    }
    shell::run(&mut command)?;
    Ok(binary(repo, profile))
}

/// Builds every example job to a component, through the binary of that profile; nothing where there are none.
///
/// # Errors
/// When the build fails.
pub(crate) fn build_examples(repo: &Repo, profile: Profile) -> Result<()> {
    match repo.guest_examples() {
        Some(folder) => build_jobs(repo, &binary(repo, profile), &folder),
        None => Ok(()),
    }
}

/// Tells a program where the binary and the components are: `PELTON_BIN` and `PELTON_COMPONENTS`.
pub(crate) fn name_to(command: &mut Command, repo: &Repo, profile: Profile) {
    command
        .env("PELTON_BIN", binary(repo, profile))
        .env("PELTON_COMPONENTS", repo.components());
}

fn build_jobs(repo: &Repo, pelton: &Path, folder: &Path) -> Result<()> {
    let mut command = Command::new(pelton);
    command
        .arg("build")
        .arg(folder)
        .arg("--out")
        .arg(repo.components());
    // One target folder for all guests, beside the host's and as long-lived.
    command
        .current_dir(&repo.root)
        .env("CARGO_TARGET_DIR", repo.target.join("guest"));
    shell::run(&mut command)
}

fn binary(repo: &Repo, profile: Profile) -> PathBuf {
    let folder = match profile {
        Profile::Dev => "debug",
        Profile::Release => "release",
    };
    repo.target.join(folder).join("pelton")
}
