//! Functions without state that give rows an event time, or a kind, of their own.

use super::{AT, batch, columns_of, open, parents, rows_of};
use crate::prelude::*;
use crate::runtime::{Batch, Body, Instance, Output};

#[derive(Record, Clone, Debug, PartialEq)]
struct Number {
    n: i64,
}

/// Runs all functions of a job in one segment, over rows with the times 100, 101, .. and these kinds.
fn run(instance: &mut Instance, numbers: &[i64], kinds: Option<Vec<u8>>) -> Output {
    let count = instance
        .graph()
        .operators
        .iter()
        .filter(|o| matches!(o.body, Body::Transform(_)))
        .count();
    let functions: Vec<u32> = (0..count as u32).collect();
    let segment = instance.prepare(&functions, 0, &Number::schema()).unwrap();
    let rows: Vec<Number> = numbers.iter().map(|n| Number { n: *n }).collect();
    let times = (100i64..).take(rows.len()).flat_map(i64::to_le_bytes);
    let rows = Batch {
        rows: rows.len() as u32,
        columns: columns_of(&rows),
        times: Some(times.collect()),
        kinds,
    };
    let mut reply = instance.transform(segment, AT, rows).unwrap();
    reply.outputs.remove(0)
}

fn times(output: &Output) -> Option<Vec<i64>> {
    let bytes = output.times.as_deref()?.chunks_exact(8);
    Some(
        bytes
            .map(|b| i64::from_le_bytes(b.try_into().unwrap()))
            .collect(),
    )
}

fn numbers(output: &Output) -> Vec<i64> {
    let rows = rows_of::<Number>(&output.columns, output.rows as usize);
    rows.into_iter().map(|r| r.n).collect()
}

fn source(job: &mut Job) -> Stream<Number> {
    job.source("numbers", files::json("x"))
}

/// A row as it is, and one of twice the number with a time of its own: odd ones alone.
fn doubled(row: NumberRef<'_>, out: &mut Out<Number>) {
    out.emit(Number { n: row.n });
    if row.n % 2 == 1 {
        out.emit_at(Timestamp(row.n), Number { n: row.n * 2 });
    }
}

#[test]
fn rows_have_their_own_times_or_those_of_their_parents() {
    let mut instance = open(u64::MAX, |job, _| {
        let twice = source(job).flat_map("doubled", doubled);
        twice.sink("x", blackhole());
        Ok(())
    });
    let out = run(&mut instance, &[1, 2, 3], None);
    assert_eq!(numbers(&out), [1, 2, 2, 3, 6]);
    assert_eq!(times(&out).unwrap(), [100, 1, 101, 102, 3]);
    assert_eq!(out.kinds, None);
    let out = run(&mut instance, &[2, 4], None);
    assert_eq!(times(&out), None, "they follow from the parents");
    assert_eq!(parents(&out).unwrap(), [0, 1]);
}

#[test]
fn the_functions_that_follow_see_and_keep_them() {
    let mut instance = open(u64::MAX, |job, _| {
        source(job)
            .flat_map("doubled", doubled)
            .filter("not 1", |r| r.n != 1)
            .flat_map("once more", doubled)
            .filter("not 3", |r| r.n != 3)
            .assign_watermarks_by("marks", |_, time| Some(time))
            .sink("x", blackhole());
        Ok(())
    });
    let out = run(&mut instance, &[1, 2, 3], None);
    assert_eq!(numbers(&out), [2, 2, 6, 6]);
    assert_eq!(times(&out).unwrap(), [1, 101, 3, 3]);
    let marks = out.watermarks.as_deref().unwrap().chunks_exact(8);
    let marks: Vec<_> = marks
        .map(|b| i64::from_le_bytes(b.try_into().unwrap()))
        .collect();
    assert_eq!(marks, [1, 101, 3, 3]);
}

#[test]
fn rows_have_their_own_kinds_or_those_of_their_parents() {
    let mut instance = open(u64::MAX, |job, _| {
        source(job)
            .flat_map("gone", |row: NumberRef<'_>, out: &mut Out<Number>| {
                out.emit(Number { n: row.n });
                if row.n == 3 {
                    out.emit_kind_at(RowKind::Delete, Timestamp(7), Number { n: 0 });
                }
            })
            .filter("not 2", |r| r.n != 2)
            .sink("x", blackhole());
        Ok(())
    });
    let out = run(&mut instance, &[1, 2, 3], Some(vec![0, 0, 2]));
    assert_eq!(numbers(&out), [1, 3, 0]);
    assert_eq!(out.kinds.as_deref(), Some([0, 2, 3].as_slice()));
    assert_eq!(times(&out).unwrap(), [100, 102, 7]);
    let out = run(&mut instance, &[1, 2], Some(vec![0, 0]));
    assert_eq!(out.kinds, None, "they follow from the parents");
}

#[test]
fn without_times_of_its_own_a_batch_leaves_the_least() {
    let mut instance = open(u64::MAX, |job, _| {
        let twice = source(job).flat_map("doubled", doubled);
        twice.sink("x", blackhole());
        Ok(())
    });
    let segment = instance.prepare(&[0], 0, &Number::schema()).unwrap();
    let rows = batch(&[Number { n: 1 }]);
    let reply = instance.transform(segment, AT, rows).unwrap();
    assert_eq!(times(&reply.outputs[0]).unwrap(), [i64::MIN, 1]);
}
