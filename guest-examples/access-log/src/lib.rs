//! Requests, errors and bytes per path and minute of a web server's log.

use pelton::prelude::*;

mod parse;

/// A line of the log.
#[derive(Record)]
struct Line {
    line: String,
}

/// A request, as far as it is counted.
#[derive(Record, Debug, PartialEq)]
struct Request {
    time: Timestamp,
    path: String,
    /// 1 for an answer from 400 on.
    errors: i64,
    bytes: i64,
}

/// A line that is none of the common log format.
#[derive(Record, Debug, PartialEq)]
struct Malformed {
    malformed: String,
}

/// What came out for a path in a minute.
#[derive(Record)]
struct PathMinute {
    minute: Timestamp,
    path: String,
    requests: i64,
    errors: i64,
    bytes: i64,
}

static MALFORMED: SideTag<Malformed> = SideTag::new("malformed");

/// Requests per path and minute of the log `input`, into the folder `output` or onto the screen. Servers write a line
/// when a request is done: lines may be a minute out of order.
#[pelton::job]
pub fn access_log(job: &mut Job, params: &Params) -> Result<()> {
    let requests = requests(job.source("log", files::lines(params.require("input")?)));
    requests
        .side(&MALFORMED)
        .sink("malformed", to(params.get("malformed")));
    requests
        .assign_timestamps_by(bounded(minutes(1)), Request::TIME)
        .key_by(Request::PATH)
        .window(tumbling(minutes(1)))
        .columns::<PathMinute>("per minute", |w| {
            w.start(PathMinute::MINUTE);
            w.key(PathMinute::PATH);
            w.count(PathMinute::REQUESTS);
            w.sum(PathMinute::ERRORS, Request::ERRORS);
            w.sum(PathMinute::BYTES, Request::BYTES);
        })
        .sink("result", to(params.get("output")));
    Ok(())
}

fn requests(lines: Stream<Line>) -> Stream<Request> {
    lines.flat_map_with("parse", |open| {
        let malformed = open.counter("malformed");
        move |line: LineRef<'_>, out: &mut Out<Request>| match request(line.line) {
            Some(request) => out.emit(request),
            None => {
                malformed.inc();
                out.side(
                    &MALFORMED,
                    MalformedRef {
                        malformed: line.line,
                    },
                );
            }
        }
    })
}

fn request(line: &str) -> Option<RequestRef<'_>> {
    let entry = parse::entry(line)?;
    let errors = i64::from(entry.status >= 400);
    Some(RequestRef {
        time: entry.time,
        path: entry.path,
        errors,
        bytes: entry.bytes,
    })
}

/// A folder for CSV files, `blackhole`, or the screen.
fn to(place: Option<&str>) -> Connector {
    match place {
        None | Some("print") => print().option("format", "json"),
        Some("blackhole") => blackhole(),
        Some(folder) => files::csv_sink(folder),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pelton::testing::Harness;

    #[test]
    fn a_bad_line_goes_aside_and_is_counted() {
        let mut harness = Harness::new(|lines| {
            let requests = requests(lines);
            let _ = requests.side(&MALFORMED);
            requests
        });
        harness.push(LineRef { line: "nonsense" });
        harness.push(LineRef {
            line: "h - - [09/Mar/2024:06:00:00 +0000] \"GET /x HTTP/1.1\" 404 12",
        });
        let time = Timestamp(1_709_964_000_000);
        assert_eq!(
            harness.take(),
            [Request {
                time,
                path: "/x".into(),
                errors: 1,
                bytes: 12
            }]
        );
        assert_eq!(
            harness.take_side(&MALFORMED),
            [Malformed {
                malformed: "nonsense".into()
            }]
        );
        assert_eq!(harness.metric("malformed"), Some(1.0));
    }
}
