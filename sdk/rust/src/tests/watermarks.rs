//! Watermarks that the job's own code makes.

use super::{AT, batch, open};
use crate::prelude::*;
use crate::runtime::{Body, Instance, Reply, describe};
use crate::{WatermarkGenerator, WatermarkOut};

#[derive(Record, Clone, Debug, PartialEq)]
struct Tick {
    at: i64,
    mark: bool,
}

const NONE: i64 = i64::MIN;
const IDLE: i64 = i64::MIN + 1;

/// The greatest time so far; idle where it does not grow.
struct Greatest(i64);

impl WatermarkGenerator<Tick> for Greatest {
    fn on_row(&mut self, _: TickRef<'_>, time: Timestamp, out: &mut WatermarkOut) {
        if time.0 > self.0 {
            self.0 = time.0;
            out.emit(time);
        } else {
            out.idle();
        }
    }
}

fn ticks(times: &[i64]) -> Vec<Tick> {
    let tick = |at: &i64| Tick {
        at: *at,
        mark: at % 2 == 0,
    };
    times.iter().map(tick).collect()
}

/// Runs the functions of a job in one segment.
fn run(instance: &mut Instance, rows: &[Tick]) -> Reply {
    let operators = &instance.graph().operators;
    let functions = operators.iter().filter_map(|o| match &o.body {
        Body::Transform(t) => Some(t.function),
        _ => None,
    });
    let functions: Vec<u32> = functions.collect();
    let segment = instance.prepare(&functions, 0, &Tick::schema()).unwrap();
    instance.transform(segment, AT, batch(rows)).unwrap()
}

fn marks(reply: &Reply) -> Vec<i64> {
    let bytes = reply.outputs[0].watermarks.as_ref().unwrap();
    bytes
        .chunks_exact(8)
        .map(|b| i64::from_le_bytes(b.try_into().unwrap()))
        .collect()
}

fn source(job: &mut Job) -> Stream<Tick> {
    job.source("ticks", files::json("x"))
        .filter("not 7", |t: TickRef<'_>| t.at != 7)
        .with_times("time", |t: TickRef<'_>| Timestamp(t.at * 10))
}

#[test]
fn a_generator_sees_the_rows_that_are_left_with_their_times_and_remembers() {
    let mut instance = open(u64::MAX, |job, _| {
        source(job)
            .assign_watermarks("greatest", |_| Greatest(0))
            .sink("x", blackhole());
        Ok(())
    });
    let reply = run(&mut instance, &ticks(&[3, 7, 5, 4]));
    assert_eq!(marks(&reply), [30, 50, IDLE]);
    assert_eq!(reply.outputs[0].rows, 3);
    let segment = 0;
    let again = instance
        .transform(segment, AT, batch(&ticks(&[5, 6])))
        .unwrap();
    assert_eq!(marks(&again), [IDLE, 60]);
}

#[test]
fn a_watermark_stands_where_the_function_gives_one() {
    let mut instance = open(u64::MAX, |job, _| {
        source(job)
            .assign_watermarks_by("marks", |t, time| t.mark.then_some(time))
            .sink("x", blackhole());
        Ok(())
    });
    assert_eq!(
        marks(&run(&mut instance, &ticks(&[1, 2, 4, 3]))),
        [NONE, 20, 40, NONE]
    );
}

#[test]
fn each_segment_has_a_generator_of_its_own() {
    let mut instance = open(u64::MAX, |job, _| {
        let strategy = generated().idle_after(seconds(1));
        source(job)
            .assign_watermarks_with(strategy, "greatest", |_| Greatest(0))
            .sink("x", blackhole());
        Ok(())
    });
    let first = run(&mut instance, &ticks(&[5, 4]));
    assert_eq!(marks(&first), [50, IDLE]);
    let second = run(&mut instance, &ticks(&[4, 3]));
    assert_eq!(marks(&second), [40, IDLE], "of another split");
    let again = instance.transform(0, AT, batch(&ticks(&[5, 6]))).unwrap();
    assert_eq!(marks(&again), [IDLE, 60]);
}

#[test]
fn a_strategy_of_another_kind_is_no_generators() {
    let job: fn(&mut Job, &Params) -> Result<()> = |job, _| {
        source(job)
            .assign_watermarks_with(monotonous(), "greatest", |_| Greatest(0))
            .sink("x", blackhole());
        Ok(())
    };
    let error = describe("j", job, &[]).unwrap_err();
    assert!(
        error.message.contains("begins with generated()"),
        "{}",
        error.message
    );
}

#[test]
fn watermarks_come_at_the_jobs_interval_unless_their_strategy_says_another() {
    use crate::bindings::exports::pelton::job::graph::Emit;
    fn emits(job: impl Fn(&mut Job) -> Result<()>) -> Vec<Emit> {
        let graph = describe("j", |j, _| job(j), &[]).unwrap();
        let strategies = graph.operators.iter().filter_map(|o| match &o.body {
            Body::Timestamps(t) => Some(t.emit),
            _ => None,
        });
        strategies.collect()
    }
    fn streams(job: &mut Job) -> Result<()> {
        let strategies = [
            monotonous(),
            monotonous().every_batch(),
            bounded(seconds(1)).every(seconds(2)),
            monotonous().every_row(),
            monotonous().every(millis(0)),
        ];
        for strategy in strategies {
            let ticks: Stream<Tick> = job.source("ticks", files::json("x"));
            ticks
                .assign_timestamps(strategy, |t| Timestamp(t.at))
                .sink("x", blackhole());
        }
        Ok(())
    }
    let own = [
        Emit::Batch,
        Emit::Interval(2_000),
        Emit::Row,
        Emit::Interval(0),
    ];
    let all = emits(streams);
    assert_eq!((all[0], &all[1..]), (Emit::Regular, own.as_slice()));
    let all = emits(|job| {
        job.watermark_interval(millis(50));
        streams(job)
    });
    assert_eq!((all[0], &all[1..]), (Emit::Interval(50), own.as_slice()));
}

#[test]
fn nothing_runs_behind_a_generator_in_its_call() {
    let mut instance = open(u64::MAX, |job, _| {
        source(job)
            .assign_watermarks_by("marks", |_, _| None)
            .filter("all", |_| true)
            .sink("x", blackhole());
        Ok(())
    });
    let all: Vec<u32> = (0..4).collect();
    assert!(instance.prepare(&all, 0, &Tick::schema()).is_err());
}

#[test]
fn merged_files_stay_in_one_task_up_to_an_exchange() {
    let job: fn(&mut Job, &Params) -> Result<()> = |job, _| {
        let ticks: Stream<Tick> = job.source("ticks", files::json("x").merge_by("at"));
        let left = ticks.clone().filter("left", |t| t.mark);
        let right = ticks.filter("right", |t| !t.mark);
        left.union(&right)
            .filter("both", |_| true)
            .rebalance()
            .filter("spread", |_| true)
            .sink("x", blackhole());
        Ok(())
    };
    let graph = describe("j", job, &[]).unwrap();
    let parallelism: Vec<Option<u32>> = graph.operators.iter().map(|o| o.parallelism).collect();
    assert_eq!(
        parallelism,
        [Some(1), Some(1), Some(1), Some(1), None, None]
    );
}
