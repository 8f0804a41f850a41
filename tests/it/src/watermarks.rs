//! Watermarks in runs, and what a run says of them.

use serde_json::{Value, json};

use crate::examples::Run;

/// The lab of watermarks over these lines: its summary, its results, and what came too late.
fn run(strategy: &str, lines: &str) -> (Value, Vec<Value>, Vec<Value>) {
    let run = Run::new();
    let input = run.place.file("in.jsonl", lines);
    let input = input.display().to_string();
    let output = run.place.work().join("out").display().to_string();
    let params = [
        ("input0", input.as_str()),
        ("strategy", strategy),
        ("size_ms", "10"),
        ("output", output.as_str()),
    ];
    let ended = run.ended("lab-watermark", &params, &["-o", "json"]);
    let summary = serde_json::from_str(ended.ok().lines().last().unwrap()).unwrap();
    let read = |name: &str| -> Vec<Value> {
        let text = std::fs::read_to_string(format!("{output}/{name}")).unwrap_or_default();
        text.lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect()
    };
    (summary, read("out.jsonl"), read("late.jsonl"))
}

#[test]
fn one_that_goes_back_is_passed_over_and_counted() {
    let lines = r#"{"key":"a","ts":30,"value":1,"mark":true}
{"key":"a","ts":25,"value":1,"mark":true}
{"key":"a","ts":24,"value":1}
{"key":"a","ts":19,"value":1}
"#;
    let (summary, out, late) = run("punctuated", lines);
    assert_eq!(summary["watermark"]["went_back"], 1);
    assert_eq!(out, [json!({"key":"a","start":30,"end":40,"value":1})]);
    let late: Vec<&Value> = late.iter().map(|l| &l["ts"]).collect();
    assert_eq!(late, [25, 24, 19]);
}

#[test]
fn a_timestamp_years_ahead_is_accepted_and_named() {
    let lines = r#"{"key":"a","ts":5,"value":1}
{"key":"a","ts":9000000000000,"value":1}
{"key":"a","ts":1700000000000,"value":1}
"#;
    let (summary, out, late) = run("monotonous", lines);
    assert_eq!((out.len(), late.len()), (2, 1), "what is before it is late");
    let far = &summary["watermark"]["far_ahead"][0];
    assert_eq!(far["time"], 9_000_000_000_000_i64, "{summary}");
    assert_eq!(far["sources"], json!(["lines"]));
    assert_eq!(summary["watermark"]["held_by"], json!([]), "all has ended");
}
