//! The Nexmark queries from end to end: at any parallelism, at any size of a batch, from files and from the generator,
//! the answers are those of the reference, and where there are answers of other systems, of those.

use std::io::Read;
use std::path::Path;

use crate::components::repository;
use crate::examples::Run;

mod all;
mod reference;

/// The named data set that is also there as a file.
const GENERATED: &str = "generator:10k";

/// A golden file, uncompressed.
fn golden(name: &str) -> String {
    let bytes = std::fs::read(repository(&format!("tests/golden/nexmark/{name}"))).unwrap();
    let mut text = String::new();
    if name.ends_with(".gz") {
        flate2::read::GzDecoder::new(bytes.as_slice())
            .read_to_string(&mut text)
            .unwrap();
    } else {
        text = String::from_utf8(bytes).unwrap();
    }
    text
}

/// The header and the sorted rows of all files in a folder.
fn result(folder: &Path) -> (String, Vec<String>) {
    let mut header = None;
    let mut rows = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        assert!(
            path.extension().is_some_and(|e| e == "csv"),
            "{} is left over",
            path.display()
        );
        let text = std::fs::read_to_string(&path).unwrap();
        let mut lines = text.lines().map(str::to_owned);
        let first = lines.next().unwrap_or_default();
        assert_eq!(
            header.get_or_insert_with(|| first.clone()),
            &first,
            "{}",
            path.display()
        );
        rows.extend(lines);
    }
    rows.sort_unstable();
    (header.unwrap_or_default(), rows)
}

/// What a query answers to the lines, by the reference.
fn expected(query: &str, lines: &str) -> (String, Vec<String>) {
    let (header, mut rows) = reference::answer(query, &reference::bids(lines));
    assert!(!rows.is_empty());
    rows.sort_unstable();
    (header.to_owned(), rows)
}

/// Runs a query on an input with these flags, each time into a new folder, and compares.
#[track_caller]
fn check(run: &Run, query: &str, input: &str, flags: &[&str], expected: &(String, Vec<String>)) {
    let output = format!("{query} {input} {}", flags.join(" ")).replace(['/', ':'], "-");
    let params = [("query", query), ("input", input), ("output", &output)];
    run.done("nexmark", &params, flags);
    let (header, rows) = result(&run.place.work().join(&output));
    assert_eq!(header, expected.0, "{output}");
    if let Some(i) =
        (0..rows.len().max(expected.1.len())).find(|i| rows.get(*i) != expected.1.get(*i))
    {
        let (have, want) = (rows.get(i), expected.1.get(i));
        panic!(
            "{output}: {} rows instead of {}; {have:?} instead of {want:?}",
            rows.len(),
            expected.1.len()
        );
    }
}

/// The queries that the reference answers.
const ANSWERED: [&str; 8] = ["q0", "q1", "q2", "q5", "q7", "q14", "q21", "q22"];

#[track_caller]
fn check_all(run: &Run, query: &str) {
    let all = golden("events.jsonl.gz");
    let whole = expected(query, &all);
    for parallelism in ["1", "2", "4"] {
        for rows in ["7", "8192"] {
            check(
                run,
                query,
                GENERATED,
                &["-p", parallelism, "--batch-rows", rows],
                &whole,
            );
        }
    }
    let file = run.place.file("events.jsonl", &all);
    for parallelism in ["1", "2", "4"] {
        check(
            run,
            query,
            file.to_str().unwrap(),
            &["-p", parallelism],
            &whole,
        );
    }
    let zipped = repository("tests/golden/nexmark/events.jsonl.gz");
    check(run, query, &zipped, &["-p", "2"], &whole);
    // A quarter of it a row at a time, in three files.
    let lines: Vec<&str> = all.lines().take(2_500).collect();
    for (name, part) in ["a.jsonl", "b.jsonl", "c.jsonl"]
        .into_iter()
        .zip(lines.chunks(900))
    {
        run.place.file(&format!("parts/{name}"), part.join("\n"));
    }
    let part = expected(query, &lines.join("\n"));
    for parallelism in ["1", "2", "4"] {
        check(
            run,
            query,
            "parts",
            &["-p", parallelism, "--batch-rows", "1"],
            &part,
        );
    }
}

#[test]
fn any_input_at_any_parallelism_and_size_of_a_batch() {
    // One place for all: the component is compiled once.
    let run = Run::new();
    for query in ANSWERED {
        check_all(&run, query);
    }
}

#[test]
fn the_reference_agrees_with_other_systems() {
    let events = golden("events.jsonl.gz");
    for query in ANSWERED {
        let (header, rows) = expected(query, &events);
        all::check_rows(query, query, &header, &rows);
    }
}

#[test]
fn columns_that_nobody_reads_change_nothing() {
    let run = Run::new();
    let whole = expected("q2", &golden("events.jsonl.gz"));
    let params = [
        ("query", "q2"),
        ("input", GENERATED),
        ("output", "out"),
        ("all_columns", "true"),
    ];
    run.done("nexmark", &params, &[]);
    assert!(result(&run.place.work().join("out")) == whole);
}

#[test]
fn a_larger_stream_has_the_same_answers_at_any_parallelism() {
    let run = Run::new();
    for query in ["q5", "q7"] {
        let answers = ["1", "2", "4"].map(|parallelism| {
            let output = format!("{query}-{parallelism}");
            let params = [
                ("query", query),
                ("input", "generator:200k"),
                ("output", &output),
            ];
            run.done("nexmark", &params, &["-p", parallelism]);
            result(&run.place.work().join(&output))
        });
        assert!(!answers[0].1.is_empty());
        assert!(answers.iter().all(|a| *a == answers[0]), "{query}");
    }
}

#[test]
fn parameters_are_checked() {
    let run = Run::new();
    let input = ("input", GENERATED);
    let output = ("output", "blackhole");
    for (params, message) in [
        (&[input, output][..], "parameter 'query' is missing"),
        (
            &[("query", "q99"), input, output],
            "parameter 'query' is 'q99', but must be one of q0 to q22",
        ),
        (&[("query", "q0"), output], "parameter 'input' is missing"),
        (&[("query", "q0"), input], "parameter 'output' is missing"),
        (
            &[("query", "q0"), ("input", "x.jsonl"), output, ("rate", "5")],
            "parameter 'rate' is for input=generator:N",
        ),
        (&[("query", "q0"), input, output, ("speed", "5")], "'speed'"),
        (
            &[("query", "q0"), ("input", "generator:x"), output],
            "'events'",
        ),
    ] {
        let ended = run.ended("nexmark", params, &[]);
        assert_eq!(ended.code, Some(7), "{params:?}: {}", ended.stderr);
        assert!(
            ended.stderr.contains(message),
            "{params:?}: {}",
            ended.stderr
        );
    }
}
