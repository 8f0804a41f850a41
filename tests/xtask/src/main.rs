//! `cargo xtask`: everything that one does with this repository, each in one command.
//!
//! Needs: cargo, and what `setup` itself installs. Invariant: no command asks for input, and each says what it does
//! and why before it does it. Refuses: to know anything of streams; `pelton` is run as a program, never linked.

mod deny;
mod product;
mod setup;
mod shell;
mod steps;
mod tally;
mod test;

/// The product's own detection, so that set-up installs exactly what `pelton build` looks for.
#[path = "../../../host/node/src/build/toolchain.rs"]
#[allow(
    dead_code,
    reason = "the product compiles guests with it; here only the detection is used"
)]
mod toolchain;

use std::process::ExitCode;

use shell::{Repo, say};

const USAGE: &str = "usage: cargo xtask COMMAND

  setup         installs what is missing on this machine: a C compiler, the WebAssembly target
  test          set-up, then every check and test of the project, with a table of minutes
  demo          set-up, then the example job hot-items over ten million events
  bench [ARGS]  set-up, then `pelton bench ARGS` in a release build
  chaos [ARGS]  set-up, then jobs that are killed and started again; --all: at every point, in every way";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let command = args.next();
    let rest: Vec<String> = args.collect();
    let repo = Repo::locate();
    let outcome = match (command.as_deref(), rest.as_slice()) {
        (Some("setup"), []) => setup::run(&repo),
        (Some("test"), []) => return test::run(&repo),
        (Some("demo"), []) => product::demo(&repo),
        (Some("bench"), args) => product::bench(&repo, args),
        (Some("chaos"), args) => product::chaos(&repo, args),
        (Some("help" | "--help" | "-h"), _) => {
            shell::print(USAGE);
            return ExitCode::SUCCESS;
        }
        _ => {
            say(USAGE);
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
