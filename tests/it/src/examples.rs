//! The example jobs from end to end, as their READMEs show them.
//! Needs: their components, made by `pelton build guest-examples --out target/pelton`.

use crate::components::{component, repository};
use crate::pelton::{Ended, Place};

/// Runs of example jobs, in one place: a component is compiled once.
pub(crate) struct Run {
    pub(crate) place: Place,
}

impl Run {
    pub(crate) fn new() -> Self {
        Self {
            place: Place::new(),
        }
    }

    pub(crate) fn ended(&self, job: &str, params: &[(&str, &str)], flags: &[&str]) -> Ended {
        let mut args = vec!["run".to_owned(), component(job)];
        for (name, value) in params {
            args.extend(["--param".to_owned(), format!("{name}={value}")]);
        }
        args.extend(flags.iter().map(|f| (*f).to_owned()));
        self.place.pelton(&args)
    }

    /// Runs a job that must end well. Its lines on the standard output, sorted.
    #[track_caller]
    pub(crate) fn done(&self, job: &str, params: &[(&str, &str)], flags: &[&str]) -> Vec<String> {
        let ended = self.ended(job, params, flags);
        assert_eq!(
            ended.code,
            Some(0),
            "{job} {params:?} {flags:?}: {}",
            ended.stderr
        );
        let mut lines: Vec<String> = ended.stdout.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }
}

/// A file of an example's folder.
fn example(path: &str) -> String {
    repository(&format!("guest-examples/{path}"))
}

/// Runs an example on its sample at any parallelism; what it prints is what its case expects.
#[track_caller]
fn check_sample(job: &str, sample: &str, case: &str) {
    let run = Run::new();
    let expected =
        std::fs::read_to_string(example(&format!("{job}/tests/cases/{case}/expected.txt")))
            .unwrap();
    let mut expected: Vec<&str> = expected.lines().collect();
    expected.sort_unstable();
    let input = example(&format!("{job}/data/{sample}"));
    for flags in [
        &["-p", "1"],
        &["-p", "2"],
        &["-p", "4"],
        &["--batch-rows", "1"],
    ] {
        assert_eq!(
            run.done(job, &[("input", &input)], flags),
            expected,
            "{flags:?}"
        );
    }
}

#[test]
fn words_are_counted() {
    check_sample("word-count", "lines.jsonl", "hamlet");
}

#[test]
fn a_log_is_summed_up() {
    check_sample("access-log", "access.log", "one-morning");
}

#[test]
fn fraud_is_told() {
    check_sample("fraud-alerts", "transactions.csv", "four-accounts");
}

#[test]
fn bad_lines_of_a_log_can_go_into_files() {
    let run = Run::new();
    let input = example("access-log/data/access.log");
    let params = [
        ("input", input.as_str()),
        ("output", "minutes"),
        ("malformed", "bad"),
    ];
    assert_eq!(
        run.done("access-log", &params, &["-p", "1"]),
        Vec::<String>::new()
    );
    let lines = |folder: &str| {
        let path = run.place.work().join(folder).join("part-0-0.csv");
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let bad = lines("bad");
    assert_eq!(bad.first().map(String::as_str), Some("malformed"));
    assert_eq!(bad.len(), 3);
    let minutes = lines("minutes");
    assert_eq!(
        minutes.first().map(String::as_str),
        Some("minute,path,requests,errors,bytes")
    );
    assert!(
        minutes.contains(&"2024-03-09 06:00:00.000,/login,2,1,76".to_owned()),
        "{minutes:?}"
    );
}

#[test]
fn hot_items_change_and_are_the_same_at_any_parallelism() {
    let run = Run::new();
    let params = [("events", "2000000")];
    let lines = run.ended("hot-items", &params, &["-p", "1"]).stdout;
    let times: Vec<&str> = lines.lines().filter_map(|l| l.split("  ").next()).collect();
    // Four seconds of events, in windows that end from one second on to nine seconds after the last.
    assert!((2..=14).contains(&times.len()), "{lines}");
    assert!(times.is_sorted_by(|a, b| a < b), "{lines}");
    assert!(
        lines.lines().all(|l| l.matches(" bids)").count() == 3),
        "{lines}"
    );
    assert_eq!(run.ended("hot-items", &params, &["-p", "2"]).stdout, lines);
}

#[test]
fn hot_items_of_a_file_are_counted() {
    let case = "hot-items/tests/cases/a-new-leader";
    let input = example(&format!("{case}/events.jsonl"));
    let expected = std::fs::read_to_string(example(&format!("{case}/expected.txt"))).unwrap();
    let lines = Run::new()
        .ended("hot-items", &[("input", &input)], &[])
        .stdout;
    assert_eq!(lines, expected);
}

#[test]
fn the_jobs_of_the_benchmarks_run() {
    let run = Run::new();
    let rows = |job: &str, more: &[(&str, &str)]| {
        let params = [
            &[("job", job), ("events", "5000"), ("output", "print")],
            more,
        ]
        .concat();
        run.done("bench-jobs", &params, &["-p", "2"])
    };
    assert_eq!(rows("boundary", &[]).len(), 5_000);
    assert!((500..2_500).contains(&rows("mapfilter", &[]).len()));
    assert!((2_000..5_000).contains(&rows("filter-map", &[("all_columns", "true")]).len()));
    for job in ["counter", "keyed-sum"] {
        let rows = rows(job, &[("keys", "10")]);
        assert_eq!(rows.len(), 5_000, "{job}");
        let keys: std::collections::BTreeSet<_> =
            rows.iter().filter_map(|r| r.split(' ').next()).collect();
        assert_eq!(keys.len(), 10, "{job}");
    }
    let windows = rows("window", &[]);
    let bids = windows
        .iter()
        .filter_map(|r| r.rsplit_once('='))
        .map(|(_, n)| n.parse::<u64>().unwrap());
    assert_eq!(bids.sum::<u64>(), 5_000);
}

/// Lines over several chunks, out of order by less than the bound: no row is late, at whatever parallelism the chunks
/// are read. Where rows are late at parallelism 1, no more of them are at another.
#[test]
fn no_row_is_late_only_because_chunks_are_read_at_once() {
    let run = Run::new();
    for (disorder_ms, some_late) in [(900, false), (9_000, true)] {
        let mut text = String::new();
        let mut seed = 7_u64;
        for i in 0..420_000_i64 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let back = (seed >> 33) as i64 % disorder_ms;
            let (time, key) = (1_000_000 + i * 5 - back, i % 97);
            text += &format!(
                "{{\"time\":{time},\"key\":\"{key}.{:040}\",\"n\":1,\"x\":\"0\"}}\n",
                0
            );
        }
        assert!(text.len() > 3 * (8 << 20), "at least four chunks");
        let path = run.place.file("lines.jsonl", text);
        let input = path.to_str().unwrap();
        let counted = |parallelism: &str| {
            let flags = ["-p", parallelism, "-o", "json"];
            let params = [("mode", "window=10000"), ("input", input)];
            let lines = run.done("hostile", &params, &flags);
            let summary = lines.iter().find(|l| l.contains("run-summary")).unwrap();
            let summary: serde_json::Value = serde_json::from_str(summary).unwrap();
            let late = summary["late"].as_u64().unwrap();
            let rows: Vec<String> = lines
                .into_iter()
                .filter(|l| !l.contains("run-summary"))
                .collect();
            (late, rows)
        };
        let (late, rows) = counted("1");
        assert_eq!(late > 0, some_late);
        for parallelism in ["2", "4"] {
            let (others, theirs) = counted(parallelism);
            assert!(
                others <= late,
                "{others} late at {parallelism}, {late} at 1"
            );
            assert!(some_late || theirs == rows, "parallelism {parallelism}");
        }
    }
}
