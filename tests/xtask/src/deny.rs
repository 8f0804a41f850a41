//! cargo-deny: bans, licences and sources of every dependency, by `deny.toml`.
//!
//! Needs: a network at its first run, when it compiles the tool into a cache outside the clone (about three minutes on
//! two cores). Refuses: the advisories' database, which would make the outcome depend on the day.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::shell::{self, Repo, say};

const VERSION: &str = "0.20.2";

/// Checks the workspace of the host.
///
/// # Errors
/// When the tool cannot be had, or when a dependency breaks a rule.
pub(crate) fn check(repo: &Repo) -> Result<()> {
    let tool = tool(repo)?;
    let mut command = Command::new(tool);
    command.current_dir(&repo.root);
    // A parent that is allowed and absent is no news: `deny.toml` says who may, not who does.
    command.args([
        "--locked",
        "check",
        "--hide-inclusion-graph",
        "--allow",
        "unused-wrapper",
    ]);
    command.args(["bans", "licenses", "sources"]);
    shell::run(&mut command)
}

fn tool(repo: &Repo) -> Result<PathBuf> {
    let root = shell::cache()?.join("tools");
    let cached = root.join("bin/cargo-deny");
    for tool in ["cargo-deny".into(), cached.clone()] {
        if is_wanted(&shell::output(Command::new(&tool).arg("--version"))) {
            return Ok(tool);
        }
    }
    say(&format!(
        "compiling cargo-deny {VERSION} into {}, once: it checks the licences",
        root.display()
    ));
    let build = root.join("build");
    let mut install = repo.cargo(&[
        "install",
        "cargo-deny",
        "--version",
        VERSION,
        "--locked",
        "--force",
    ]);
    install
        .arg("--root")
        .arg(&root)
        .arg("--target-dir")
        .arg(&build);
    // Not from the root of the clone: its settings are for this workspace.
    std::fs::create_dir_all(&root)?;
    shell::run(install.current_dir(&root).env_remove("CARGO_TARGET_DIR"))?;
    std::fs::remove_dir_all(&build)?;
    Ok(cached)
}

fn is_wanted(version: &str) -> bool {
    version.split_whitespace().nth(1) == Some(VERSION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_not_taken() {
        assert!(is_wanted(&format!("cargo-deny {VERSION}\n")));
        assert!(!is_wanted("cargo-deny 0.1.0\n"));
        assert!(!is_wanted(""));
    }
}
