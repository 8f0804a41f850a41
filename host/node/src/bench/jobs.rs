//! Whole jobs, each in a process of its own: this binary's `run`.
//! Needs: the summaries of those runs. Two tasks each, as the figures of Flink have them.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use pelton_engine::connector::{Poll, SourceReader};
use pelton_model::limits::BATCH_ROWS_MAX;
use pelton_model::{Error, ErrorCode, Result};
use serde::Deserialize;

use super::flink::{self, Flink, State};
use super::measure::{median, thread_cpu_ns};
use super::{Bench, Figure};
use crate::process;
use crate::settings::Settings;
use crate::summary::grouped;

const TASKS: u32 = 2;
/// Events that are kept in memory before the job runs; more do not fit everywhere.
const PRELOADED: u64 = 4_000_000;
/// The queries whose events are.
const PRELOADABLE: [&str; 6] = ["q0", "q1", "q2", "q5", "q7", "q22"];

/// A job, and what it is held against.
#[derive(Clone, Copy)]
struct Job {
    /// Its section.
    section: &'static str,
    name: &'static str,
    flink: Flink,
}

/// All jobs, by section.
fn all() -> impl Iterator<Item = Job> {
    let job = |section| {
        move |(name, flink): &(&'static str, Flink)| Job {
            section,
            name,
            flink: *flink,
        }
    };
    let nexmark = flink::NEXMARK.iter().map(job("nexmark"));
    nexmark.chain(flink::DATASTREAM.iter().map(job("datastream")))
}

/// The names of all jobs.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    named(all())
}

/// The names of a section's jobs.
pub(super) fn names_of(section: &str) -> impl Iterator<Item = &'static str> {
    named(all().filter(move |job| job.section == section))
}

/// Each name once: all jobs are there with heap state.
fn named(jobs: impl Iterator<Item = Job>) -> impl Iterator<Item = &'static str> {
    jobs.filter(|job| job.flink.state == State::Heap)
        .map(|job| job.name)
}

/// How the source makes its rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// All columns, as Flink's does.
    AllColumns,
    /// Those that the job reads.
    Projected,
    /// Those that the job reads, before the measurement.
    Preloaded,
}

const WAYS: [Way; 3] = [Way::AllColumns, Way::Projected, Way::Preloaded];

impl Job {
    fn component(&self) -> &'static str {
        match self.section {
            "nexmark" => "nexmark",
            _ => "bench-jobs",
        }
    }

    fn params(&self, way: Way, events: u64) -> Vec<(String, String)> {
        let mut params = parameters(self.component(), self.name, events);
        let mut add = |name: &str| params.push((name.to_owned(), "true".to_owned()));
        // Numbers have one column.
        if way == Way::AllColumns && self.name != "counter" {
            add("all_columns");
        }
        if way == Way::Preloaded {
            add("preload");
        }
        params
    }

    /// Those in which it is measured: with RocksDB only as Flink's job runs.
    fn ways(&self) -> impl Iterator<Item = Way> {
        let (has_one_column, state) = (self.name == "counter", self.flink.state);
        WAYS.into_iter().filter(move |way| match way {
            Way::AllColumns => true,
            Way::Projected => state == State::Heap && !has_one_column,
            // Rows with many texts would not fit.
            Way::Preloaded => {
                state == State::Heap
                    && (self.section != "nexmark" || PRELOADABLE.contains(&self.name))
            }
        })
    }

    /// The name of its figures.
    fn title(&self) -> String {
        match self.flink.state {
            State::Heap => self.name.to_owned(),
            State::RocksDb => format!("{} on rocksdb", self.name),
        }
    }
}

/// The parameters of a component's job whose rows nobody gets.
pub(super) fn parameters(component: &str, name: &str, events: u64) -> Vec<(String, String)> {
    let params = match component {
        "nexmark" => [
            ("query", name.to_owned()),
            ("input", format!("generator:{events}")),
        ],
        _ => [("job", name.to_owned()), ("events", events.to_string())],
    };
    let output = ("output", "blackhole".to_owned());
    let all = params.into_iter().chain([output]);
    all.map(|(n, v)| (n.to_owned(), v)).collect()
}

/// A job as Flink ran it with RocksDB and checkpoints every ten seconds.
pub(super) struct OnRocksDb {
    pub(super) component: &'static str,
    pub(super) params: Vec<(String, String)>,
    pub(super) events: u64,
    /// Flink's CPU microseconds an event.
    pub(super) flink_us: f64,
}

/// The job of this name with so many times the events that Flink had; none that Flink did not run so.
pub(super) fn on_rocksdb(name: &str, times: u64) -> Option<OnRocksDb> {
    let job = all().find(|job| job.name == name && job.flink.state == State::RocksDb)?;
    let events = job.flink.events * times;
    Some(OnRocksDb {
        component: job.component(),
        params: job.params(Way::AllColumns, events),
        events,
        flink_us: job.flink.cpu_us,
    })
}

/// What a run says of itself at its end.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Ran {
    pub(super) rows_in: u64,
    seconds: f64,
    pub(super) cpu_seconds: f64,
    pub(super) seconds_running: f64,
    pub(super) cpu_seconds_running: f64,
    pub(super) peak_memory_bytes: u64,
}

/// This binary's `run` on a component.
pub(super) fn command(file: &Path, params: &[(String, String)]) -> Result<Command> {
    let own = std::env::current_exe().map_err(|e| failed("this binary is not to be found", &e))?;
    let mut command = Command::new(own);
    let tasks = TASKS.to_string();
    command.arg("run").arg(file);
    command.args(["--quiet", "--output", "json", "--parallelism", &tasks]);
    for (name, value) in params {
        command.arg("--param").arg(format!("{name}={value}"));
    }
    command.stdin(Stdio::null());
    Ok(command)
}

fn failed(what: &str, e: &std::io::Error) -> Error {
    Error::new(ErrorCode::Io, format!("{what}: {e}"))
}

/// Runs a job to its end in a process of its own. Errors: what that process says.
pub(super) fn run(file: &Path, params: &[(String, String)]) -> Result<Ran> {
    run_with(file, params, State::Heap)
}

fn run_with(file: &Path, params: &[(String, String)], state: State) -> Result<Ran> {
    run_with_args(file, params, &["--state", state.name()])
}

/// The same with flags of `pelton run`.
pub(super) fn run_with_args(
    file: &Path,
    params: &[(String, String)],
    args: &[&str],
) -> Result<Ran> {
    let output = command(file, params)?
        .args(args)
        .output()
        .map_err(|e| failed("a run cannot be started", &e))?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    let summary = stdout.lines().last().unwrap_or_default();
    match serde_json::from_str(summary) {
        Ok(ran) if output.status.success() => Ok(ran),
        _ => {
            let said = said(&String::from_utf8_lossy(&output.stderr));
            let shown: Vec<String> = params.iter().map(|(n, v)| format!("{n}={v}")).collect();
            Err(
                Error::new(ErrorCode::TestFailed, "a job that is measured has failed")
                    .at("file", file.display())
                    .at("parameters", shown.join(" "))
                    .detail(said),
            )
        }
    }
}

/// The message of an error that was written as an object; anything else as it is.
fn said(stderr: &str) -> String {
    let last = stderr.lines().last().unwrap_or_default();
    let object = serde_json::from_str::<serde_json::Value>(last).ok();
    let message = object.and_then(|o| Some(o.get("message")?.as_str()?.to_owned()));
    message.unwrap_or_else(|| stderr.trim().to_owned())
}

/// CPU nanoseconds that a job's sources take by themselves, read by as many threads as the job has tasks.
fn source_cpu_ns(file: &Path, params: &[(String, String)], settings: &Settings) -> Result<f64> {
    let settings = Settings {
        parallelism: TASKS,
        ..settings.clone()
    };
    let job = super::calls::job(file, params, &settings)?;
    let readers = job
        .sources
        .values()
        .flat_map(|source| (0..TASKS).map(|task| source.reader(task, TASKS)));
    let readers: Vec<_> = readers.collect::<Result<_>>()?;
    std::thread::scope(|scope| {
        let threads: Vec<_> = readers
            .into_iter()
            .map(|reader| scope.spawn(|| drain(reader)))
            .collect();
        let mut sum = 0;
        for thread in threads {
            sum += thread
                .join()
                .map_err(|_| Error::bug("a source panicked"))??;
        }
        Ok(sum as f64)
    })
}

fn drain(mut reader: Box<dyn SourceReader>) -> Result<u64> {
    let began = thread_cpu_ns()?;
    while let Poll::Rows(batch) = reader.poll(process::monotonic(), BATCH_ROWS_MAX)? {
        std::hint::black_box(batch);
    }
    Ok(thread_cpu_ns()?.saturating_sub(began))
}

/// What was measured of a job, made in one way.
#[derive(Default)]
struct Measured {
    /// CPU microseconds an event, of the whole process.
    cpu: Vec<f64>,
    /// The same without the start and what was made before.
    running: Vec<f64>,
    events_per_second: Vec<f64>,
    source: Vec<f64>,
}

pub(super) fn nexmark(bench: &mut Bench<'_>) -> Result<()> {
    jobs(bench, "nexmark")
}

pub(super) fn datastream(bench: &mut Bench<'_>) -> Result<()> {
    jobs(bench, "datastream")
}

/// All jobs of a section in all ways, in turns.
fn jobs(bench: &mut Bench<'_>, section: &str) -> Result<()> {
    let wanted: Vec<Job> = all()
        .filter(|job| job.section == section && (bench.wants(section) || bench.wants(job.name)))
        .collect();
    let mut cases: Vec<(Job, Way, Measured)> = Vec::new();
    for job in &wanted {
        cases.extend(job.ways().map(|way| (*job, way, Measured::default())));
    }
    for round in 1..=bench.rounds {
        for (job, way, measured) in &mut cases {
            (bench.progress)(&format!("{}, {way:?}, run {round}", job.title()));
            measure(bench, job, *way, measured)?;
        }
    }
    for (job, way, measured) in cases {
        report(bench, &job, way, measured);
    }
    Ok(())
}

fn events(bench: &Bench<'_>, job: &Job, way: Way) -> u64 {
    let events = job.flink.events;
    bench.scaled(match way {
        Way::Preloaded => events.min(PRELOADED),
        Way::AllColumns | Way::Projected => events,
    })
}

fn measure(bench: &Bench<'_>, job: &Job, way: Way, measured: &mut Measured) -> Result<()> {
    let file = bench.component(job.component());
    let events = events(bench, job, way);
    let ran = run_with(&file, &job.params(way, events), job.flink.state)?;
    if ran.rows_in != events {
        let message = format!("a job has read {} of {events} events", ran.rows_in);
        return Err(Error::bug(message));
    }
    let of_events = events as f64;
    measured.cpu.push(ran.cpu_seconds * 1e6 / of_events);
    measured
        .running
        .push(ran.cpu_seconds_running * 1e6 / of_events);
    let seconds = match way {
        Way::Preloaded => ran.seconds_running,
        Way::AllColumns | Way::Projected => ran.seconds,
    };
    measured
        .events_per_second
        .push(of_events / seconds.max(1e-9));
    if way != Way::Preloaded {
        // The source is even: a fifth of its rows tells what one costs.
        let events = events / 5;
        let ns = source_cpu_ns(&file, &job.params(way, events), &bench.settings)?;
        measured.source.push(ns / 1e3 / events as f64);
    }
    Ok(())
}

fn report(bench: &mut Bench<'_>, job: &Job, way: Way, measured: Measured) {
    const UNIT: &str = "us an event";
    let what = match way {
        Way::AllColumns if job.name == "counter" => "from the source",
        Way::AllColumns => "all columns",
        Way::Projected => "projected",
        Way::Preloaded => "from memory",
    };
    let count = grouped(events(bench, job, way));
    let name = format!("{}, {what}", job.title());
    let rate = median(measured.events_per_second);
    let cpu = median(measured.cpu);
    match way {
        Way::AllColumns => {
            let of_cpu = Figure {
                mark: format!(
                    "<= {:.3} {UNIT} (1/{} of Flink's {:.3})",
                    job.flink.mark_us(),
                    job.flink.factor,
                    job.flink.cpu_us
                ),
                ..Figure::bounded(
                    format!("{name}, {count} events: CPU"),
                    cpu,
                    UNIT,
                    job.flink.mark_us(),
                )
            };
            bench.add(of_cpu);
            let times = job.flink.cpu_us / cpu.max(1e-9);
            bench.add(Figure {
                mark: format!(">= {} x", job.flink.factor),
                holds: Some(times >= job.flink.factor),
                ..Figure::plain(format!("{name}: Flink's CPU to ours"), times, "x")
            });
        }
        Way::Projected => {
            bench.add(Figure::plain(format!("{name}: CPU"), cpu, UNIT));
        }
        Way::Preloaded => {
            let running = median(measured.running);
            let name = format!("{name}, {count} events: CPU of the running job");
            bench.add(Figure::plain(name, running, UNIT));
        }
    }
    if way != Way::Preloaded {
        let source = median(measured.source);
        bench.add(Figure::plain(
            format!("{name}: CPU of the source alone"),
            source,
            UNIT,
        ));
        bench.add(Figure::plain(
            format!("{name}: CPU net of the source"),
            cpu - source,
            UNIT,
        ));
    }
    bench.add(Figure::plain(
        format!("{name}: rate"),
        rate,
        "events a second",
    ));
}

/// From the start of the process to the first line of the job's output, with a compiled component.
pub(super) fn cold_start(bench: &mut Bench<'_>) -> Result<()> {
    let folder = super::json::folder()?;
    let input = folder.path().join("events.jsonl");
    super::json::write_events(&bench.component("nexmark"), &bench.settings, 100, &input)?;
    let params = [
        ("query".to_owned(), "q0".to_owned()),
        ("input".to_owned(), input.display().to_string()),
        ("output".to_owned(), "print".to_owned()),
    ];
    let mut times = Vec::new();
    // The first fills the cache of compiled components.
    for round in 0..=bench.rounds {
        let took = first_line_ms(command(&bench.component("nexmark"), &params)?)?;
        if round > 0 {
            times.push(took);
        }
    }
    let ms = median(times);
    let name = "cold start to the first line of output";
    bench.add(Figure::bounded(name, ms, "ms", 60.0));
    Ok(())
}

fn first_line_ms(mut command: Command) -> Result<f64> {
    let began = process::monotonic();
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| failed("a run cannot be started", &e))?;
    let mut line = String::new();
    let mut took = 0;
    if let Some(stdout) = child.stdout.take() {
        let mut stdout = BufReader::new(stdout);
        let _ = stdout.read_line(&mut line);
        took = process::monotonic().since(began);
        let _ = stdout.read_to_end(&mut Vec::new());
    }
    let status = child.wait().map_err(|e| failed("a run is lost", &e))?;
    match status.success() && !line.is_empty() {
        true => Ok(took as f64 / 1e6),
        false => Err(Error::new(
            ErrorCode::TestFailed,
            "a job that is measured has failed or has printed nothing",
        )),
    }
}

/// The most memory that q0 holds, for some events and for ten times as many.
pub(super) fn memory(bench: &mut Bench<'_>) -> Result<()> {
    let file = bench.component("nexmark");
    let Some(q0) = all().find(|job| job.name == "q0") else {
        return Ok(());
    };
    let few = bench.scaled(2_000_000);
    let mib = |events| -> Result<f64> {
        let ran = run(&file, &q0.params(Way::Projected, events))?;
        Ok(ran.peak_memory_bytes as f64 / f64::from(1 << 20))
    };
    let (small, large) = super::measure::in_turns(bench.rounds, || mib(few), || mib(few * 10))?;
    for (events, peak) in [(few, small), (few * 10, large)] {
        let name = format!("peak memory of q0, {} events", grouped(events));
        bench.add(Figure::plain(name, peak, "MiB"));
    }
    let name = "peak memory of q0, ten times the events";
    bench.add(Figure::bounded(name, large / small.max(1e-9), "x", 1.15));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_run_is_told_in_its_own_words() {
        assert_eq!(said("a line\n{\"message\":\"no room\"}\n"), "no room");
        assert_eq!(said("killed\n"), "killed");
    }

    #[test]
    fn each_way_asks_the_source_for_what_it_means() {
        let names = |name: &str, way| -> Vec<String> {
            let job = all().find(|job| job.name == name).unwrap();
            let params = job.params(way, 10).into_iter();
            params.map(|(n, v)| format!("{n}={v}")).collect()
        };
        let given = names("q5", Way::AllColumns);
        assert_eq!(
            given,
            [
                "query=q5",
                "input=generator:10",
                "output=blackhole",
                "all_columns=true"
            ]
        );
        let given = names("counter", Way::AllColumns);
        assert_eq!(given, ["job=counter", "events=10", "output=blackhole"]);
        assert_eq!(
            names("window", Way::Preloaded).last().unwrap(),
            "preload=true"
        );
    }
}
