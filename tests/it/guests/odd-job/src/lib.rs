//! A job that misbehaves as its parameter says: in its description, or in its function at the thousandth row.

use std::hint::black_box;

use pelton::prelude::*;

#[derive(Record)]
struct Line {
    line: String,
}

#[derive(Record)]
struct Stamped {
    line: String,
    time: Timestamp,
}

#[derive(Record)]
struct Count {
    count: i64,
}

/// Which row the function misbehaves at, from 0.
const ROW: usize = 999;

/// `describe=WAY` misbehaves before there is a graph, `row=WAY` while it runs; `input` is text.
#[pelton::job]
pub fn odd_job(job: &mut Job, params: &Params) -> Result<()> {
    let input = files::lines(params.get("input").unwrap_or("none.txt"));
    let row = params.get("row").unwrap_or_default().to_owned();
    let describe = params.get("describe").unwrap_or_default();
    match describe {
        "panic" => panic!("no graph today"),
        "error" => return Err(Error::new("the author says no")),
        "loop" => spin(),
        "grow" => grow(),
        "recurse" => drop(black_box(recurse(1))),
        _ => {}
    }
    let lines = job.source::<Line>("lines", input);
    let mut lines = lines.flat_map("odd", move |line: LineRef<'_>, out: &mut Out<Line>| {
        if line.line == ROW.to_string() {
            misbehave(&row, out);
        }
        out.emit(LineRef { line: line.line });
    });
    match describe {
        "zero" => lines = lines.parallelism(0),
        "million" => lines = lines.parallelism(1_000_000),
        "uids" => lines = lines.uid("lines"),
        "many" => {
            for i in 0..100_000 {
                lines = lines.filter(&format!("f{i}"), |_| true);
            }
        }
        "window" => {
            let stamped = lines.map("stamp", |l: LineRef<'_>| Stamped {
                line: l.line.to_owned(),
                time: Timestamp(0),
            });
            stamped
                .key_by(Stamped::LINE)
                .window(tumbling(seconds(1)))
                .count("count", Count::COUNT)
                .sink("out", print());
            return Ok(());
        }
        "connector" => {
            lines.sink("out", Connector::new("prnt"));
            return Ok(());
        }
        "option" => {
            lines.sink("out", print().option("colour", "red"));
            return Ok(());
        }
        _ => {}
    }
    lines.sink("out", print());
    Ok(())
}

fn misbehave(way: &str, out: &mut Out<Line>) {
    match way {
        "panic" => panic!("row {ROW} is odd"),
        "loop" => spin(),
        "grow" => grow(),
        "recurse" => drop(black_box(recurse(1))),
        "emit" => loop {
            out.emit(LineRef {
                line: "and another one",
            });
        },
        "log" => {
            for i in 0..1_000_000_u32 {
                pelton::log::warn!("line {i} of a million");
            }
        }
        _ => {}
    }
}

fn spin() {
    let mut x = 0_u64;
    while black_box(x) < u64::MAX {
        x = x.wrapping_add(1) & 0xffff;
    }
}

fn grow() {
    let mut kept = Vec::new();
    loop {
        kept.push(black_box(vec![1_u8; 1 << 20]));
    }
}

#[expect(unconditional_recursion, reason = "this is what the job is for")]
fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    recurse(depth + 1) + frame[(depth % 64) as usize]
}
