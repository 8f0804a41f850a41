//! Readers that go on where others stood: each row once, whatever the format and the number of readers.

use std::fs;
use std::io::Write;
use std::sync::Arc;

use pelton_engine::connector::{Poll, Position, Source, SourceReader};
use pelton_model::schema::{DataType, Schema};
use pelton_model::time::Monotonic;
use pelton_model::{ErrorCode, Result};
use proptest::prelude::*;

use super::{Reading, folder, schema, shown};
use crate::SourceRequest;

impl Reading {
    fn open(&self) -> Result<Arc<dyn Source>> {
        super::super::open(
            &SourceRequest {
                connector: "files",
                options: &self.options,
                declared: &self.declared,
                needed: &self.needed,
                limits: &self.limits,
                parallelism: 1,
            },
            self.chunk_bytes,
        )
    }

    /// The next rows of a reader; none at its end.
    fn poll(&self, reader: &mut dyn SourceReader, most: usize) -> Vec<String> {
        loop {
            match reader.poll(Monotonic(7), most).unwrap() {
                Poll::Rows(b) => return shown(&self.needed, b.columns(), b.rows()),
                Poll::Later(_) => {}
                Poll::End => return Vec::new(),
            }
        }
    }

    /// Lets `parallelism` readers go on from `at` for `polls` polls, whose turn it is drawn by `turns`; then says what they
    /// gave, and where they stand.
    fn go_on(
        &self,
        parallelism: u32,
        at: &[Position],
        polls: usize,
        turns: &[u8],
    ) -> (Vec<String>, Vec<Position>) {
        let source = self.open().unwrap();
        assert!(source.replays());
        let mut readers: Vec<_> = (0..parallelism)
            .map(|i| source.reader_at(i, parallelism, at).unwrap())
            .collect();
        let mut rows = Vec::new();
        let mut ended = vec![false; readers.len()];
        for poll in 0..polls {
            let turn = usize::from(turns[poll % turns.len()]) + poll / turns.len();
            let turn = turn % readers.len();
            let more = self.poll(readers[turn].as_mut(), self.rows_max);
            ended[turn] |= more.is_empty();
            rows.extend(more);
            if ended.iter().all(|e| *e) {
                break;
            }
        }
        (rows, readers.iter().flat_map(|r| r.positions()).collect())
    }

    /// Each row once over three starts, with these numbers of readers and polls.
    fn check(&self, starts: [(u32, usize); 2], turns: &[u8]) {
        let mut expected = self.rows().unwrap();
        let (mut rows, mut at) = (Vec::new(), Vec::new());
        for (parallelism, polls) in starts {
            let (more, positions) = self.go_on(parallelism, &at, polls, turns);
            rows.extend(more);
            at = positions;
        }
        let (rest, at) = self.go_on(starts[0].0, &at, usize::MAX, turns);
        rows.extend(rest);
        let (none, _) = self.go_on(2, &at, usize::MAX, turns);
        assert_eq!(none, Vec::<String>::new(), "all was read");
        rows.sort();
        expected.sort();
        assert_eq!(rows, expected);
    }
}

const FORMATS: [&str; 6] = ["text", "json", "gzip", "csv", "multiline", "parquet"];

fn number() -> Schema {
    schema(&[("n", DataType::I64)])
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// Its name and content.
type File = (&'static str, Vec<u8>);

/// Files of a format, and how to read them.
fn reading(format: &str) -> (tempfile::TempDir, Reading) {
    let lines = |from: usize, to: usize, line: &dyn Fn(usize) -> String| -> Vec<u8> {
        (from..to).map(line).collect::<String>().into_bytes()
    };
    let text = |n: usize| format!("{}{n}\n", "x".repeat(n % 7));
    let json = |n: usize| match n % 9 {
        4 => "\n".to_owned(),
        _ => format!("{{\"n\":{n}}}\n"),
    };
    let (files, options, declared): (Vec<File>, Vec<_>, _) = match format {
        "text" => {
            let mut last = lines(50, 80, &text);
            last.pop();
            let mark = [b"\xef\xbb\xbf".to_vec(), lines(0, 50, &text)].concat();
            (
                vec![("a", mark), ("b", last), ("c", Vec::new())],
                vec![("format", "text")],
                schema(&[("t", DataType::String)]),
            )
        }
        "json" => (
            vec![("a", lines(0, 40, &json)), ("b", lines(40, 90, &json))],
            vec![("format", "json")],
            number(),
        ),
        "gzip" => (
            vec![
                ("a", lines(0, 40, &json)),
                ("b", gzip(&lines(40, 90, &json))),
                ("c", gzip(b"{\"n\":7}")),
            ],
            vec![("format", "json")],
            number(),
        ),
        "csv" | "multiline" => {
            let multiline = format == "multiline";
            let line = move |n: usize| match multiline && n.is_multiple_of(3) {
                true => format!("\"a\n\n{n}\",{n}\n"),
                false => format!("b,{n}\n"),
            };
            let file = |from, to| [b"t,n\n".to_vec(), lines(from, to, &line)].concat();
            (
                vec![("a", file(0, 30)), ("b", file(30, 70))],
                vec![
                    ("format", "csv"),
                    ("multiline", if multiline { "true" } else { "false" }),
                ],
                schema(&[("t", DataType::String), ("n", DataType::I64)]),
            )
        }
        _ => (Vec::new(), vec![("format", "parquet")], number()),
    };
    let files: Vec<(&str, &[u8])> = files.iter().map(|(n, c)| (*n, c.as_slice())).collect();
    let dir = folder(&files);
    if format == "parquet" {
        for (name, rows) in [("a", 0..30), ("b", 30..50), ("c", 0..0)] {
            let numbers = arrow_array::Int64Array::from_iter_values(rows);
            let path = dir.path().join(name);
            super::parquet::write(&path, vec![("n", Arc::new(numbers))], 8);
        }
    }
    let mut reading = Reading::new(dir.path(), &options, declared);
    reading.chunk_bytes = 64;
    reading.rows_max = 3;
    (dir, reading)
}

#[test]
fn a_reader_alone_gives_the_rest_in_order() {
    for format in FORMATS {
        let (_dir, reading) = reading(format);
        let whole = reading.rows().unwrap();
        let polls = whole.len() / 2;
        for polls in 0..polls {
            let (mut rows, at) = reading.go_on(1, &[], polls, &[0]);
            rows.extend(reading.go_on(1, &at, usize::MAX, &[0]).0);
            assert_eq!(rows, whole, "{format} {polls}");
        }
    }
}

proptest! {
    #[test]
    fn each_row_comes_once(
        format in prop::sample::select(FORMATS.to_vec()),
        merged in any::<bool>(),
        first in (1_u32..5, 0_usize..40),
        second in (1_u32..5, 0_usize..20),
        turns in prop::collection::vec(any::<u8>(), 1..12),
    ) {
        let (_dir, mut reading) = reading(format);
        if merged {
            reading.options.insert("splits".into(), "files".into());
        }
        reading.check([first, second], &turns);
    }
}

/// With as many readers as before, no reader takes a chunk that stands before one that it has begun: its watermark may be
/// beyond it.
#[test]
fn readers_keep_to_the_order_of_what_they_had() {
    let lines: String = (0..40).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    let dir = folder(&[("a", lines.as_bytes())]);
    let mut reading = Reading::json(dir.path(), number());
    reading.chunk_bytes = 40;
    reading.rows_max = 1;
    let source = reading.open().unwrap();
    let mut first = source.reader(0, 2).unwrap();
    let mut second = source.reader(1, 2).unwrap();
    let number = |rows: &[String]| -> Option<i64> {
        let row = rows.first()?;
        row.trim_start_matches("{\"n\":")
            .trim_end_matches('}')
            .parse()
            .ok()
    };
    let next = |reader: &mut dyn SourceReader| number(&reading.poll(reader, 1));
    assert_eq!(next(first.as_mut()), Some(0));
    assert_eq!(next(second.as_mut()), Some(5));
    // The first has its barrier before it takes the third chunk, the second long after.
    while next(first.as_mut()) < Some(4) {}
    let mut at = first.positions();
    let taken = next(first.as_mut()).unwrap();
    let mut last = 0;
    while last < taken + 8 {
        last = next(second.as_mut()).unwrap();
    }
    at.extend(second.positions());
    let source = reading.open().unwrap();
    let mut readers = [0, 1].map(|i| source.reader_at(i, 2, &at).unwrap());
    let mut rows = Vec::new();
    // The second asks first, and gets what is behind.
    for (i, mut last) in [(1, last), (0, 4)] {
        for _ in 0..9 {
            let Some(n) = next(readers[i].as_mut()) else {
                break;
            };
            assert!(n > last, "{n} comes after {last}");
            last = n;
            rows.push(n);
        }
    }
    assert!(rows.contains(&taken));
    // Readers that had ended are given nothing: their watermark is the last one.
    while next(readers[1].as_mut()).is_some() {}
    let mut at = readers[0].positions();
    while next(readers[0].as_mut()).is_some() {}
    at.extend(readers[1].positions());
    let source = reading.open().unwrap();
    let mut readers = [0, 1].map(|i| source.reader_at(i, 2, &at).unwrap());
    assert_eq!(next(readers[1].as_mut()), None);
    while next(readers[0].as_mut()).is_some() {}
}

#[test]
fn new_files_are_read_and_changed_ones_are_refused() {
    let dir = folder(&[("b", b"1\n2\n3\n"), ("c", b"4\n")]);
    let mut reading = Reading::new(
        dir.path(),
        &[("format", "text")],
        schema(&[("t", DataType::String)]),
    );
    reading.rows_max = 1;
    let (rows, at) = reading.go_on(1, &[], 2, &[0]);
    assert_eq!(rows.len(), 2);
    fs::write(dir.path().join("a"), "0\n").unwrap();
    fs::write(dir.path().join("d"), "5\n").unwrap();
    let (rest, end) = reading.go_on(1, &at, usize::MAX, &[0]);
    let row = |n| format!("{{\"t\":\"{n}\"}}");
    assert_eq!(
        rest,
        [row(3), row(4), row(5), row(0)],
        "what is before comes last"
    );

    let refused = |at: &[Position]| {
        let e = reading.open().unwrap().reader_at(0, 1, at).err().unwrap();
        assert_eq!(e.code(), ErrorCode::StateMismatch);
        e.to_string()
    };
    // What was read to its end may go; what was not may not.
    fs::remove_file(dir.path().join("b")).unwrap();
    assert!(refused(&at).contains("'b'"), "{}", refused(&at));
    let (none, still) = reading.go_on(2, &end, usize::MAX, &[0, 1]);
    assert_eq!(none, Vec::<String>::new());
    assert!(still.iter().any(|p| p.split == "b@0"), "{still:?}");
    fs::write(dir.path().join("b"), "1\n2\n3\n3\n").unwrap();
    assert!(
        refused(&at).ends_with("it had 6 bytes then, and has 8 now"),
        "{}",
        refused(&at)
    );
    fs::write(dir.path().join("b"), "1\n2\n4\n").unwrap();
    let file = fs::File::options().write(true).open(dir.path().join("b"));
    file.unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    assert!(refused(&at).ends_with("it was written to since"));
}

#[test]
fn merged_files_go_on_in_the_same_order() {
    let file = |step: usize, from: usize| -> String {
        (0..1_500)
            .map(|n| format!("{{\"n\":{}}}\n", from + n / 3 * step))
            .collect()
    };
    let dir = folder(&[("a", file(2, 0).as_bytes()), ("b", file(3, 1).as_bytes())]);
    let mut reading = Reading::json(
        dir.path(),
        schema(&[("n", DataType::I64), ("f", DataType::I64)]),
    );
    reading.options.insert("merge_by".into(), "n".into());
    reading.options.insert("file_field".into(), "f".into());
    reading.chunk_bytes = 512;
    reading.rows_max = 70;
    let whole = reading.rows().unwrap();
    assert_eq!(whole.len(), 3_000);
    for (polls, more) in [(0, 1), (1, 3), (150, 2), (600, 0), (usize::MAX, 1)] {
        let (mut rows, at) = reading.go_on(1, &[], polls, &[0]);
        let (second, at) = reading.go_on(1, &at, more, &[0]);
        rows.extend(second);
        let (rest, _) = reading.go_on(3, &at, usize::MAX, &[0]);
        rows.extend(rest);
        assert_eq!(rows, whole, "{polls} {more}");
    }
    let (_, at) = reading.go_on(1, &[], 2, &[0]);
    fs::write(dir.path().join("c"), "").unwrap();
    let e = reading.open().unwrap().reader_at(0, 1, &at).err().unwrap();
    assert_eq!(e.code(), ErrorCode::StateMismatch);
}

#[test]
fn positions_of_another_way_to_read_are_refused() {
    let (_dir, mut reading) = reading("json");
    let (_, at) = reading.go_on(1, &[], 3, &[0]);
    reading.options.insert("splits".into(), "files".into());
    let e = reading.open().unwrap().reader_at(0, 1, &at).err().unwrap();
    assert_eq!(e.code(), ErrorCode::Corrupt);
}

#[test]
fn errors_after_a_restart_name_the_line() {
    let dir = folder(&[("a", b"{\"n\":1}\n{\"n\":2}\n{\"n\":x}\n")]);
    let mut reading = Reading::json(dir.path(), number());
    reading.rows_max = 1;
    let (_, at) = reading.go_on(1, &[], 2, &[0]);
    let mut reader = reading.open().unwrap().reader_at(0, 1, &at).unwrap();
    let e = reader.poll(Monotonic(0), 1).unwrap_err();
    assert!(e.to_string().contains("line 3"), "{e}");
}
