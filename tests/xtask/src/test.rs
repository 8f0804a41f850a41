//! `cargo xtask test`: every check and test of the project, cheapest first.
//!
//! Needs: `setup`, `steps`, and cargo's own tools. Invariant: one profile and one target folder for the host, one for
//! all guests, so that nothing is compiled twice. Refuses: to skip a check because its tool is missing; only
//! `cargo nextest` is a choice, since `cargo test` runs the same tests.

use std::process::Command;

use anyhow::{Result, bail};

use crate::shell::{self, Repo};
use crate::steps::Steps;
use crate::tally::Tally;
use crate::{deny, product, setup};

/// Crates whose documentation examples are tests.
const DOC_CRATES: [(&str, &str); 2] = [("pelton-model", "host/model"), ("pelton", "sdk/rust")];

/// Runs all steps; prints the table of minutes and the sum of the tests.
///
/// # Errors
/// The first step that failed.
pub(crate) fn run(repo: &Repo) -> Result<()> {
    let mut steps = Steps::default();
    let outcome = all(repo, &mut steps);
    steps.close(outcome)
}

fn all(repo: &Repo, steps: &mut Steps) -> Result<()> {
    steps.step("set-up", |_| setup::run(repo))?;
    steps.step("format", |_| format(repo))?;
    steps.step("rooms and arrows", |tally| {
        watch(&mut repo.cargo(&["test", "-p", "xtask"]), tally)
    })?;
    steps.step("licences, bans, sources", |_| deny::check(repo))?;
    steps.step("clippy", |_| {
        shell::run(&mut repo.cargo(&[
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]))
    })?;
    steps.step("build pelton", |_| {
        product::build(repo, product::Profile::Dev).map(drop)
    })?;
    if repo.guest_examples().is_some() {
        steps.step("build the example jobs", |_| {
            product::build_examples(repo, product::Profile::Dev)
        })?;
        steps.step("clippy of the example jobs", |_| {
            shell::run(&mut guests(
                repo,
                &[
                    "clippy",
                    "--workspace",
                    "--all-targets",
                    "--",
                    "-D",
                    "warnings",
                ],
            ))
        })?;
        steps.step("tests of the example jobs", |tally| {
            watch(
                &mut guests(repo, &["test", "--workspace", "--no-fail-fast"]),
                tally,
            )
        })?;
    }
    steps.step("tests", |tally| watch(&mut host_tests(repo), tally))?;
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
fn host_tests(repo: &Repo) -> Command {
    let exclude = ["--workspace", "--exclude", "xtask", "--no-fail-fast"];
    let mut command = if shell::succeeds(&mut repo.cargo(&["nextest", "--version"])) {
        let mut command = repo.cargo(&["nextest", "run", "--no-tests", "pass"]);
        command
            .arg("--config-file")
            .arg(repo.root.join("tests/xtask/nextest.toml"));
        command
    } else {
        repo.cargo(&["test", "--lib", "--bins", "--tests"])
    };
    command.args(exclude);
    product::name_to(&mut command, repo, product::Profile::Dev);
    command
}

fn doc_tests(repo: &Repo, tally: &mut Tally) -> Result<()> {
    for (name, folder) in DOC_CRATES {
        let manifest = std::fs::read_to_string(repo.root.join(folder).join("Cargo.toml"))?;
        if !manifest
            .lines()
            .any(|line| line.trim() == "doctest = false")
        {
            watch(&mut repo.cargo(&["test", "--doc", "-p", name]), tally)?;
        }
    }
    Ok(())
}

/// Runs a test runner, counting while its output passes through.
fn watch(command: &mut Command, tally: &mut Tally) -> Result<()> {
    if !shell::run_watched(command, &mut |line| tally.read(line))? {
        bail!("`{}` failed", shell::shown(command));
    }
    Ok(())
}
