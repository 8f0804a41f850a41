//! The command line: grammar, manners, exit codes. One file below for each command.
//! Needs: console, report. Invariant: whatever happens, the process ends with a code of the table and, if it is not 0,
//! with a message on the standard error.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use clap::error::{ContextKind, ErrorKind as ClapKind};
use clap::{Args, Parser, Subcommand};
use pelton_model::{Error, ErrorCode};

use crate::checkpoint::points::{SharedPoints, Silent};
use crate::console::{Console, Format, write_err};
use crate::report::{Exit, Failure, Outcome};
use crate::settings::{self, Flags, Settings};
use crate::signal;

#[cfg(feature = "bench")]
mod bench;
mod build;
mod check;
mod checkpoint;
mod config;
mod explain;
mod explain_error;
mod new;
mod run;
mod savepoint;
mod state;
mod test;
mod version;

/// Pelton: streams, with your code in WebAssembly
#[derive(Debug, Parser)]
#[command(
    name = "pelton",
    version,
    max_term_width = 100,
    disable_help_subcommand = true
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Flags of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Everywhere")]
struct Global {
    /// How results are written: table, json, jsonl (an object a line) or name
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value_t,
        hide_possible_values = true,
        value_name = "FORMAT"
    )]
    output: Format,
    /// Say nothing but results and errors
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Say more
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    verbose: bool,
    /// Use no colours, also on a terminal
    #[arg(long, global = true)]
    no_color: bool,
    /// A settings file that beats `pelton.toml` and the user's own
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a project from a template
    New(new::NewArgs),
    /// Compile every job of a project to a component
    Build(build::BuildArgs),
    /// Run a project's cases in the real engine
    Test(test::TestArgs),
    /// Refuse or accept a job without running it
    Check(check::CheckArgs),
    /// Show a job's graph and how it is chained
    Explain(explain::ExplainArgs),
    /// Run a job here, in this process, until it ends
    Run(run::RunArgs),
    /// Savepoints: checkpoints that are yours, to be moved, kept and begun from
    #[command(subcommand)]
    Savepoint(savepoint::SavepointCommand),
    /// The checkpoints in a folder
    #[command(subcommand)]
    Checkpoint(checkpoint::CheckpointCommand),
    /// Read the state in a savepoint as JSON, without the job's code
    #[command(subcommand)]
    State(state::StateCommand),
    /// Show the settings in force
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Say what an error's code means and what to do
    ExplainError(explain_error::ExplainErrorArgs),
    /// Measure this binary against its marks
    #[cfg(feature = "bench")]
    Bench(bench::BenchArgs),
    /// Show the version of this binary and of what it carries
    Version,
}

/// What every command gets.
struct Session {
    /// Who is told of the points that checkpoints pass.
    points: SharedPoints,
    console: Console,
    config: Option<PathBuf>,
}

impl Session {
    /// Flags of the settings, with the `--config` file in them.
    fn flags(&self) -> Flags {
        Flags {
            config: self.config.clone(),
            ..Flags::default()
        }
    }

    /// The settings, where no flag of the command says anything.
    fn settings(&self) -> pelton_model::Result<Settings> {
        settings::load(&self.flags())
    }
}

/// Runs the command that this process was started with.
#[must_use]
pub fn main() -> ExitCode {
    main_with(Arc::new(Silent))
}

/// The same, with somebody who is told of each point that a checkpoint passes.
pub fn main_with(points: SharedPoints) -> ExitCode {
    std::panic::set_hook(Box::new(|panic| {
        *PANIC.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic.to_string());
    }));
    signal::take_away_file_size_signal();
    let args: Vec<_> = std::env::args_os().collect();
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(e) => return code(usage(&e, &args)),
    };
    let global = cli.global;
    let console = Console::new(global.output, global.quiet, global.verbose, global.no_color);
    let session = Session {
        points,
        console,
        config: global.config,
    };
    let done = catch_unwind(AssertUnwindSafe(|| dispatch(cli.command, &session)));
    code(match done {
        Ok(Ok(exit)) => exit,
        Ok(Err(failure)) => {
            session.console.error(&with_panic(failure.error));
            failure.exit
        }
        Err(_) => {
            let failure = Failure::from(with_panic(Error::bug("the program panicked")));
            session.console.error(&failure.error);
            failure.exit
        }
    })
}

/// What the last panic said, and where.
static PANIC: Mutex<Option<String>> = Mutex::new(None);

fn with_panic(error: Error) -> Error {
    match PANIC.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(panic) if error.code() == ErrorCode::Bug => error.detail(panic),
        _ => error,
    }
}

fn code(exit: Exit) -> ExitCode {
    ExitCode::from(exit.0)
}

fn dispatch(command: Command, session: &Session) -> Outcome {
    match command {
        Command::New(args) => new::run(args, session),
        Command::Build(args) => build::run(&args, session),
        Command::Test(args) => test::run(&args, session),
        Command::Check(args) => check::run(&args, session),
        Command::Explain(args) => explain::run(&args, session),
        Command::Run(args) => run::run(&args, session),
        Command::Savepoint(command) => savepoint::run(&command, session),
        Command::Checkpoint(command) => checkpoint::run(&command, session),
        Command::State(command) => state::run(&command, session),
        Command::Config(command) => config::run(&command, session),
        Command::ExplainError(args) => explain_error::run(&args, session),
        #[cfg(feature = "bench")]
        Command::Bench(args) => bench::run(&args, session),
        Command::Version => version::run(session),
    }
}

/// Help goes where results go; everything else that the parser says is an error of usage.
fn usage(e: &clap::Error, args: &[std::ffi::OsString]) -> Exit {
    match e.kind() {
        ClapKind::DisplayHelp | ClapKind::DisplayVersion => {
            let _ = e.print();
            return Exit::DONE;
        }
        ClapKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            write_err(&e.render().to_string());
            return Exit(2);
        }
        _ => {}
    }
    // The parser has failed, so that its own idea of the format is not to be had.
    let text = |i: usize| args.get(i).and_then(|a| a.to_str()).unwrap_or_default();
    let json = (0..args.len()).any(|i| match text(i) {
        "-o" | "--output" => text(i + 1).starts_with("json"),
        other => ["-ojson", "-o=json", "--output=json"]
            .iter()
            .any(|p| other.starts_with(p)),
    });
    let no_color = args.iter().any(|a| a == "--no-color");
    let format = if json { Format::Json } else { Format::Table };
    let failure = Failure::from(usage_error(e));
    Console::new(format, false, false, no_color).error(&failure.error);
    failure.exit
}

fn usage_error(e: &clap::Error) -> Error {
    let text = e.render().to_string();
    let mut paragraphs = text.split("\n\n");
    let first: Vec<&str> = paragraphs
        .next()
        .unwrap_or_default()
        .lines()
        .map(str::trim)
        .collect();
    let message = first.join(" ");
    let message = message
        .strip_prefix("error: ")
        .unwrap_or(&message)
        .to_owned();
    let tips = paragraphs
        .clone()
        .flat_map(str::lines)
        .filter_map(|l| l.trim().strip_prefix("tip: "));
    let tip = tips.map(str::to_owned).next();
    let usage = paragraphs
        .flat_map(str::lines)
        .find_map(|l| l.strip_prefix("Usage: "))
        .map(str::to_owned);
    let valid = e
        .get(ContextKind::ValidValue)
        .map(|v| format!("it takes: {v}"));
    let help = tip
        .or_else(|| usage.map(|u| format!("usage: {u}")))
        .or(valid);
    Error::new(ErrorCode::Usage, message)
        .help(help.unwrap_or_else(|| "`pelton --help` lists what there is".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_grammar_is_sound() {
        Cli::command().debug_assert();
    }

    #[track_caller]
    fn refuse(args: &[&str], message: &str, help: &str) {
        let error = usage_error(&Cli::try_parse_from(args).unwrap_err());
        assert_eq!(error.message(), message);
        assert_eq!(error.help_text().unwrap_or_default(), help);
    }

    #[test]
    fn mistakes_are_named_with_what_to_do() {
        refuse(
            &["pelton", "runn"],
            "unrecognized subcommand 'runn'",
            "a similar subcommand exists: 'run'",
        );
        refuse(
            &["pelton", "run", "a.wasm", "--parallelizm", "2"],
            "unexpected argument '--parallelizm' found",
            "a similar argument exists: '--parallelism'",
        );
        let error = usage_error(&Cli::try_parse_from(["pelton", "run"]).unwrap_err());
        assert_eq!(
            error.message(),
            "the following required arguments were not provided: <FILE>"
        );
        assert!(
            error
                .help_text()
                .is_some_and(|h| h.starts_with("usage: pelton run "))
        );
    }

    #[test]
    fn what_is_not_served_does_not_exist() {
        for flag in [
            "--context",
            "--endpoint",
            "--tenant",
            "--token-file",
            "--timeout",
            "--yes",
        ] {
            assert!(
                Cli::try_parse_from(["pelton", "version", flag, "x"]).is_err(),
                "{flag}"
            );
        }
        for command in ["serve", "dev", "deploy", "sql"] {
            assert!(
                Cli::try_parse_from(["pelton", command]).is_err(),
                "{command}"
            );
        }
    }
}
