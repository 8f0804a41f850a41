//! `pelton run FILE`.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;
use pelton_model::Result;

use crate::checkpoint::saved::Saved;
use crate::console::{Console, Format, GuestLog, Stdout, write_err, write_out};
use crate::live::{Line, drive};
use crate::local::Progress;
use crate::metrics::Endpoint;
use crate::report::{Exit, Failure, Outcome};
use crate::settings::{self, Flags, Settings};
use crate::signal::Interrupt;
use crate::summary::Summary;
use crate::supervise::{self, Wishes};
use crate::wire_up::{Beginning, Surroundings, accept, open, parse_params};

use super::Session;

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// The component
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// A parameter of the job
    #[arg(long, value_name = "NAME=VALUE")]
    param: Vec<String>,
    /// The job's name, instead of its own
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    settings: SettingsArgs,
    /// Forget the checkpoints that are there, and begin anew
    #[arg(long)]
    fresh: bool,
    /// Begin from a savepoint, or from the last checkpoint of another folder, by its URL. Repeated with the same
    /// checkpoint folder, it goes on from the checkpoints that were made since
    #[arg(long, value_name = "SAVEPOINT", conflicts_with = "fresh")]
    from: Option<String>,
    /// Leave behind state that the job has no operator or no state for any more
    #[arg(long)]
    allow_non_restored: bool,
    /// Accept that rows come twice after a crash, where a source or a sink cannot do better
    #[arg(long)]
    allow_at_least_once: bool,
    /// When stopped, end the input and fire all windows, instead of keeping them for the next start
    #[arg(long)]
    drain: bool,
    /// Serve the job's counters to Prometheus, at such as 127.0.0.1:9090
    #[arg(long, value_name = "ADDR")]
    metrics: Option<String>,
}

/// Flags that stand for settings.
#[derive(Debug, Args)]
pub(super) struct SettingsArgs {
    /// Tasks of each operator that has no parallelism of its own
    #[arg(short, long, value_name = "N")]
    parallelism: Option<String>,
    /// Key groups of the job
    #[arg(long, value_name = "N")]
    max_parallelism: Option<String>,
    /// The most rows of a batch
    #[arg(long, value_name = "N")]
    batch_rows: Option<String>,
    /// streaming, or batch: no watermark before the end of the input, final results only
    #[arg(long, value_name = "MODE")]
    mode: Option<String>,
    /// How often watermarks are emitted, where the job does not say it, such as 200ms; 0: not before the end of the input
    #[arg(long, value_name = "DURATION")]
    watermark_interval: Option<String>,
    /// Where state is kept: heap, or rocksdb
    #[arg(long, value_name = "BACKEND")]
    state: Option<String>,
    /// Memory for all state in RocksDB, such as 512MiB
    #[arg(long, value_name = "SIZE")]
    state_memory: Option<String>,
    /// Keep checkpoints in this folder, and go on from the last one
    #[arg(long, value_name = "URL")]
    checkpoint_dir: Option<String>,
    /// How often, such as 10s
    #[arg(long, value_name = "DURATION")]
    checkpoint_interval: Option<String>,
    /// The folder in which savepoints get folders of their own
    #[arg(long, value_name = "URL")]
    savepoint_dir: Option<String>,
    /// exactly-once; aligned: the same, but barriers never overtake what is in flight; or at-least-once: inputs do not
    /// wait for each other's barriers
    #[arg(long, value_name = "MODE")]
    checkpoint_mode: Option<String>,
    /// What the job may use, such as memory-bytes=512MiB
    #[arg(long, value_name = "NAME=VALUE")]
    limit: Vec<String>,
}

impl SettingsArgs {
    /// The settings with these flags above all.
    pub(super) fn load(&self, mut flags: Flags) -> Result<Settings> {
        flags.set(
            "run.parallelism",
            "--parallelism",
            self.parallelism.as_ref(),
        );
        flags.set(
            "run.max-parallelism",
            "--max-parallelism",
            self.max_parallelism.as_ref(),
        );
        flags.set("run.batch-rows", "--batch-rows", self.batch_rows.as_ref());
        flags.set("run.mode", "--mode", self.mode.as_ref());
        flags.set(
            "run.watermark-interval",
            "--watermark-interval",
            self.watermark_interval.as_ref(),
        );
        flags.set("state.backend", "--state", self.state.as_ref());
        flags.set("state.memory", "--state-memory", self.state_memory.as_ref());
        flags.set(
            "checkpoint.dir",
            "--checkpoint-dir",
            self.checkpoint_dir.as_ref(),
        );
        flags.set(
            "checkpoint.interval",
            "--checkpoint-interval",
            self.checkpoint_interval.as_ref(),
        );
        flags.set(
            "savepoint.dir",
            "--savepoint-dir",
            self.savepoint_dir.as_ref(),
        );
        flags.set(
            "checkpoint.mode",
            "--checkpoint-mode",
            self.checkpoint_mode.as_ref(),
        );
        flags.limits(&self.limit)?;
        settings::load(&flags)
    }
}

pub(super) fn run(args: &RunArgs, session: &Session) -> Outcome {
    let settings = args.settings.load(session.flags())?;
    let params = parse_params(&args.param)?;
    let accepted = accept(&args.file, params, &settings, args.name.as_deref())?;
    let from = args.from.as_deref().map(Saved::open).transpose()?;
    let endpoint = args.metrics.as_deref().map(Endpoint::listen).transpose()?;
    if let Some(endpoint) = &endpoint {
        session
            .console
            .say(&format!("metrics: http://{}/metrics", endpoint.address));
    }
    let interrupt = Interrupt::listen()?;
    let live =
        session.console.terminal && !session.console.quiet && !session.console.format.is_json();
    let mut shown = Shown {
        line: live.then(|| Line::new(&accepted.graph)),
        ..Shown::default()
    };
    let name = accepted.graph.name.clone();
    let stdout = Stdout::new(shown.on_screen.clone());
    let durable = settings.durable.dir.clone();
    // With checkpoints the first wish to stop lets calls come to their end: what they do is in the last checkpoint.
    let cancel = match durable {
        Some(_) => Arc::default(),
        None => interrupt.flag(),
    };
    let around = Surroundings {
        output: stdout.output(),
        log: Arc::new(GuestLog {
            console: session.console.clone(),
            live_line: shown.on_screen.clone(),
        }),
        stop: cancel,
    };
    let mut watch = |progress: &Progress, now| {
        if let Some(endpoint) = &endpoint {
            endpoint.publish(&name, progress);
        }
        if let Some(text) = shown
            .line
            .as_mut()
            .and_then(|line| line.next(progress, now))
        {
            shown.show(&text);
        }
    };
    let flag = interrupt.flag();
    let console = session.console.clone();
    let wishes = Wishes {
        fresh: args.fresh,
        from: from.as_ref(),
        allow_non_restored: args.allow_non_restored,
        allow_at_least_once: args.allow_at_least_once,
        drain: args.drain,
        stop: &flag,
        say: Arc::new(move |text| console.say(text)),
        points: session.points.clone(),
    };
    let ended = match (&durable, &from) {
        (Some(dir), _) => supervise::run(&accepted, &settings, &around, dir, &wishes, &mut watch),
        (None, Some(saved)) => supervise::take(&accepted, &settings, &around, saved, &wishes)
            .and_then(|job| match job {
                Some(job) => drive(job, &flag, &mut watch),
                None => Ok(Summary::new(name.clone(), true, &Progress::default(), 0)),
            }),
        (None, None) => open(&accepted, &settings, &around, Beginning::Plain)
            .and_then(|job| drive(job, &flag, &mut watch)),
    };
    shown.clear();
    let summary = ended.map_err(|error| failed(error, &stdout))?;
    report(&summary, &session.console)?;
    Ok(interrupt
        .exit()
        .filter(|_| summary.outcome == "cancelled")
        .unwrap_or(Exit::DONE))
}

/// A closed standard output is nothing that the job has done.
fn failed(error: pelton_model::Error, stdout: &Stdout) -> Failure {
    match stdout.has_failed() {
        true => Failure {
            error,
            exit: Exit(1),
        },
        false => Failure::of_running_job(error),
    }
}

/// The summary is the result of the command where programs read it; for people the job's rows are.
fn report(summary: &Summary, console: &Console) -> Result<()> {
    match console.format {
        Format::Json | Format::Jsonl => write_out(&format!("{}\n", summary.object())),
        Format::Table | Format::Name => {
            console.say(summary.text().trim_end());
            Ok(())
        }
    }
}

/// The live line on the terminal, and whether it is there at the moment.
#[derive(Default)]
struct Shown {
    line: Option<Line>,
    on_screen: Arc<AtomicBool>,
}

impl Shown {
    fn show(&self, text: &str) {
        self.on_screen
            .store(true, std::sync::atomic::Ordering::Relaxed);
        write_err(&format!("\r\x1b[K{text}"));
    }

    fn clear(&self) {
        if self
            .on_screen
            .swap(false, std::sync::atomic::Ordering::Relaxed)
        {
            write_err("\r\x1b[K");
        }
    }
}
