//! `pelton bench`: this binary against its marks.

use std::path::PathBuf;

use clap::Args;
use pelton_model::{Error, ErrorCode, Result};

use crate::bench::{Bench, Figure, components};
use crate::console::{Format, table, write_out};
use crate::report::{Exit, Outcome};

use super::Session;

#[derive(Debug, Args)]
pub(super) struct BenchArgs {
    /// Measure only this: a section such as boundary, or a job such as q5
    #[arg(long, value_name = "NAME", num_args = 1..)]
    only: Vec<String>,
    /// Runs of each, of which the median counts
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// The folder of the components bench-jobs and nexmark
    #[arg(long, value_name = "DIR")]
    components: Option<PathBuf>,
    /// A tenth of the work, for a first look
    #[arg(long)]
    quick: bool,
}

pub(super) fn run(args: &BenchArgs, session: &Session) -> Outcome {
    let components = components(args.components.as_deref());
    for name in ["bench-jobs", "nexmark"] {
        let file = components.join(name).with_extension("wasm");
        if !file.is_file() {
            return Err(
                Error::new(ErrorCode::NotFound, "a job to measure is not there")
                    .at("file", file.display())
                    .help("`pelton build guest-examples` makes it; --components says where it is")
                    .into(),
            );
        }
    }
    if cfg!(debug_assertions) {
        let warning = "this binary is not optimised: what it measures says little";
        session.console.say(warning);
    }
    let format = session.console.format;
    let (mut rows, mut unwritten) = (Vec::new(), None);
    let mut found = |figure: Figure| {
        rows.push(figure.cells());
        if let Err(e) = show(&figure, format) {
            unwritten.get_or_insert(e);
        }
    };
    let progress = |what: &str| session.console.say(&format!("measuring {what}"));
    let measured = Bench {
        only: args.only.clone(),
        rounds: usize::from(args.rounds),
        quick: args.quick,
        components,
        settings: session.settings()?,
        found: &mut found,
        progress: &progress,
    }
    .run();
    if format == Format::Table {
        // What was measured before a failure is still worth knowing.
        write_out(&table(&["figure", "value", "mark", "holds"], &rows))?;
    }
    measured?;
    match unwritten {
        Some(e) => Err(e.into()),
        None => Ok(Exit::DONE),
    }
}

fn show(figure: &Figure, format: Format) -> Result<()> {
    match format {
        Format::Table => Ok(()),
        Format::Json | Format::Jsonl => {
            let object = serde_json::to_string(figure).unwrap_or_default();
            write_out(&format!("{object}\n"))
        }
        Format::Name => write_out(&format!("{}\n", figure.name)),
    }
}
