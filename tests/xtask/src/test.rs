//! `cargo xtask test`: every check and test of the project, cheapest first.
//!
//! Needs: `setup`, `steps`, and cargo's own tools. Invariant: one profile and one target folder for the host, one for
//! all guests, so that nothing is compiled twice. Refuses: to skip a check because its tool is missing; only
//! `cargo nextest` is a choice, since `cargo test` runs the same tests.

use std::process::{Command, ExitCode};

use anyhow::{Result, bail};

use crate::product::Profile;
use crate::shell::{self, Repo};
use crate::steps::Steps;
use crate::tally::{Runner, Tally};
use crate::{deny, product, setup};

/// Crates whose documentation examples are tests.
const DOC_CRATES: [(&str, &str); 2] = [("pelton-model", "host/model"), ("pelton", "sdk/rust")];

const CLIPPY: [&str; 6] = [
    "clippy",
    "--workspace",
    "--all-targets",
    "--",
    "-D",
    "warnings",
];

/// Runs all steps; prints the table of minutes and the sum of the tests.
///
/// Fails with the first step that failed.
pub(crate) fn run(repo: &Repo) -> ExitCode {
    let mut steps = Steps::default();
    let outcome = all(repo, &mut steps);
    steps.close(outcome)
}

fn all(repo: &Repo, steps: &mut Steps) -> Result<()> {
    steps.step("set-up", |_| setup::run(repo))?;
    steps.step("format", |_| format(repo))?;
    steps.step("rooms and arrows", |tally| {
        cargo_test(&mut repo.cargo(&["test", "-p", "xtask"]), tally)
    })?;
    steps.step("licences, bans, sources", |_| deny::check(repo))?;
    steps.step("clippy", |_| shell::run(&mut repo.cargo(&CLIPPY)))?;
    steps.step("build pelton", |_| {
        product::build(repo, Profile::Dev).map(drop)
    })?;
    if repo.guest_examples().is_some() {
        steps.step("build the example jobs", |_| {
            product::build_examples(repo, Profile::Dev)
        })?;
        steps.step("clippy of the example jobs", |_| {
            shell::run(&mut guests(repo, &CLIPPY))
        })?;
        let tests = ["test", "--workspace", "--no-fail-fast"];
        steps.step("tests of the example jobs", |tally| {
            cargo_test(&mut guests(repo, &tests), tally)
        })?;
    }
    steps.step("tests", |tally| host_tests(repo, tally))?;
    steps.step("documentation examples", |tally| doc_tests(repo, tally))
}

fn format(repo: &Repo) -> Result<()> {
    shell::run(&mut repo.cargo(&["fmt", "--all", "--check"]))?;
    if repo.guest_examples().is_some() {
        shell::run(&mut guests(repo, &["fmt", "--all", "--check"]))?;
    }
    Ok(())
}

/// `cargo ARGS` in the workspace of the example jobs, compiled natively, in a target folder of their own: they have
/// another lock file, so they share nothing with the host's.
fn guests(repo: &Repo, args: &[&str]) -> Command {
    let mut command = repo.cargo(args);
    command.current_dir(repo.root.join("guest-examples"));
    command.env("CARGO_TARGET_DIR", repo.target.join("guest-native"));
    command
}

/// All tests but those of this program, which ran first; the real binary and the components are named to them.
fn host_tests(repo: &Repo, tally: &mut Tally) -> Result<()> {
    let nextest = shell::succeeds(&mut repo.cargo(&["nextest", "--version"]));
    let (mut command, runner) = if nextest {
        let mut command = repo.cargo(&["nextest", "run", "--no-tests", "pass"]);
        command
            .arg("--config-file")
            .arg(repo.root.join("tests/xtask/nextest.toml"));
        (command, Runner::Nextest)
    } else {
        (
            repo.cargo(&["test", "--lib", "--bins", "--tests"]),
            Runner::CargoTest,
        )
    };
    command.args(["--workspace", "--exclude", "xtask", "--no-fail-fast"]);
    product::name_to(&mut command, repo, Profile::Dev);
    watch(&mut command, runner, tally)
}

fn doc_tests(repo: &Repo, tally: &mut Tally) -> Result<()> {
    for (name, folder) in DOC_CRATES {
        let manifest = std::fs::read_to_string(repo.root.join(folder).join("Cargo.toml"))?;
        if !manifest
            .lines()
            .any(|line| line.trim() == "doctest = false")
        {
            cargo_test(&mut repo.cargo(&["test", "--doc", "-p", name]), tally)?;
        }
    }
    Ok(())
}

/// Runs a test runner, counting while its output passes through.
fn watch(command: &mut Command, runner: Runner, tally: &mut Tally) -> Result<()> {
    if !shell::run_watched(command, &mut |line| tally.read(runner, line))? {
        bail!("`{}` failed", shell::shown(command));
    }
    Ok(())
}

fn cargo_test(command: &mut Command, tally: &mut Tally) -> Result<()> {
    watch(command, Runner::CargoTest, tally)
}
