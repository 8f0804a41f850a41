//! Versions of one job, each of which takes over what another has left: by the check, and by running.
//! Needs: the component `evolving`.

use std::collections::BTreeMap;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::components::component;
use crate::pelton::{Ended, Place};

const BACKENDS: [&str; 2] = ["heap", "rocksdb"];

/// Input with these keys.
fn input(place: &Place, name: &str, keys: &[i64]) {
    let lines: String = keys.iter().map(|k| format!("{{\"key\": {k}}}\n")).collect();
    place.file(name, lines);
}

/// Runs a version over a file of keys; it writes the folder `output`.
fn run(place: &Place, version: &str, (input, output): (&str, &str), flags: &[&str]) -> Ended {
    let params = [
        format!("version={version}"),
        format!("input={input}"),
        format!("output={output}"),
    ];
    let mut args = vec![
        "run".to_owned(),
        component("evolving"),
        "-p".into(),
        "2".into(),
    ];
    for param in params {
        args.extend(["--param".to_owned(), param]);
    }
    args.extend(flags.iter().map(|f| (*f).to_owned()));
    place.pelton(&args)
}

/// Goes on over a file of keys with what an earlier run has written to another folder; answers the rows that are new.
#[track_caller]
fn go_on(
    place: &Place,
    version: &str,
    (input, before, output): (&str, &str, &str),
    flags: &[&str],
) -> (Ended, Vec<String>) {
    copy(place, before, output);
    let ended = run(place, version, (input, output), flags);
    ended_well(&ended);
    (ended, new_rows(place, before, output))
}

fn copy(place: &Place, from: &str, to: &str) {
    let (from, to) = (place.work().join(from), place.work().join(to));
    std::fs::create_dir(&to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// The rows in a folder that were not in the other.
fn new_rows(place: &Place, before: &str, after: &str) -> Vec<String> {
    let mut old: BTreeMap<String, usize> = BTreeMap::new();
    for row in rows(place, before) {
        *old.entry(row).or_default() += 1;
    }
    let mut new = rows(place, after);
    new.retain(|row| match old.get_mut(row) {
        Some(count) if *count > 0 => {
            *count -= 1;
            false
        }
        _ => true,
    });
    new
}

/// Checks a version against what is at a URL.
fn check(place: &Place, version: &str, against: &str, flags: &[&str]) -> Ended {
    let version = format!("version={version}");
    let file = component("evolving");
    let mut args = vec!["check", &file, "--param", &version];
    args.extend([
        "--param",
        "input=a",
        "--param",
        "output=a",
        "--against",
        against,
    ]);
    args.extend(flags);
    place.pelton(&args)
}

/// The sorted rows in a folder.
fn rows(place: &Place, folder: &str) -> Vec<String> {
    let mut rows: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(place.work().join(folder)).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_string_lossy().starts_with("part-") {
            let text = std::fs::read_to_string(entry.path()).unwrap();
            rows.extend(
                text.lines()
                    .map(str::to_owned)
                    .filter(|l| l != "key,n,note"),
            );
        }
    }
    rows.sort_unstable();
    rows
}

#[track_caller]
fn ended_well(ended: &Ended) {
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

#[track_caller]
fn refused(ended: &Ended, parts: &[&str]) {
    assert_ne!(ended.code, Some(0));
    for part in parts {
        assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
    }
}

/// What `state get` says of a state under a key: the value.
fn value(place: &Place, saved: &str, name: &str, key: &str) -> Option<Value> {
    let get = place.pelton(&[
        "state", "get", saved, "--name", name, "--key", key, "-o", "json",
    ]);
    if get.code != Some(0) {
        assert!(get.stderr.contains("no state"), "{}", get.stderr);
        return None;
    }
    Some(get.json()["items"][0]["value"].clone())
}

/// What the first version has left in the folder `cp` when it has seen the keys 0 to 9 twice.
fn first(place: &Place, backend: &str) {
    let keys: Vec<i64> = (0..20).map(|n| n % 10).collect();
    input(place, "first.jsonl", &keys);
    let flags = ["--checkpoint-dir", "cp", "--state", backend];
    ended_well(&run(place, "first", ("first.jsonl", "out"), &flags));
    assert_eq!(rows(place, "out").len(), 20);
}

#[test]
fn what_is_the_same_or_compatible_goes_on() {
    for backend in BACKENDS {
        let place = Place::new();
        first(&place, backend);
        input(&place, "next.jsonl", &[3, 3, 11]);

        let same = check(&place, "first", "cp", &[]);
        assert!(same.ok().contains("all state is taken over as it is"));
        let flags = ["--from", "cp", "--state", backend];
        let (_, new) = go_on(&place, "first", ("next.jsonl", "out", "same"), &flags);
        assert_eq!(new, ["11,1,w11", "3,3,w3", "3,4,w3"]);

        let compatible = check(&place, "compatible", "cp", &["-o", "json"]).json();
        let states = &compatible["items"][0]["state"];
        let seen = states
            .as_array()
            .unwrap()
            .iter()
            .find(|s| s["name"] == "seen");
        let seen = seen.unwrap();
        assert_eq!(seen["fate"], "compatible");
        assert_eq!(
            seen["changes"],
            json!([
                "field 'level' is new, and has its default",
                "field 'hint' is new, and null",
                "field 'total' was 'n'",
                "field 'total' is i64, and was i32",
                "the fields have another order",
            ])
        );
        let flags = [
            "--from",
            "cp",
            "--state",
            backend,
            "--checkpoint-dir",
            "cp2",
        ];
        let (_, new) = go_on(&place, "compatible", ("next.jsonl", "out", "more"), &flags);
        assert_eq!(
            new,
            [
                "11,1,w11 1 new false",
                "3,3,w3 7 none true",
                "3,4,w3 7 none true"
            ],
            "{backend}"
        );
        let seen = json!({"spare": true, "level": 7, "hint": null, "total": 2, "word": "w4"});
        assert_eq!(value(&place, "cp2", "seen", "4"), Some(seen));
    }
}

#[test]
fn what_does_not_fit_is_refused_before_anything_begins() {
    let place = Place::new();
    first(&place, "heap");
    let named = [
        "operator 'count'",
        "state 'seen'",
        "field 'n'",
        "is string, and was i32",
    ];
    refused(&check(&place, "incompatible", "cp", &[]), &named);
    refused(
        &check(&place, "incompatible", "cp", &["--allow-non-restored"]),
        &named,
    );
    let flags = ["--from", "cp"];
    refused(
        &run(&place, "incompatible", ("first.jsonl", "no"), &flags),
        &named,
    );
    assert!(!place.work().join("no").exists());
}

#[test]
fn fields_and_states_are_left_behind_where_that_is_allowed() {
    for backend in BACKENDS {
        let place = Place::new();
        first(&place, backend);
        input(&place, "next.jsonl", &[3, 11]);
        let gone = [
            "operator 'count'",
            "state 'seen'",
            "field 'spare'",
            "state 'other'",
        ];
        refused(&check(&place, "fewer", "cp", &[]), &gone);
        let flags = [
            "--from",
            "cp",
            "--state",
            backend,
            "--checkpoint-dir",
            "cp2",
        ];
        refused(&run(&place, "fewer", ("next.jsonl", "out2"), &flags), &gone);

        let check = check(&place, "fewer", "cp", &["--allow-non-restored"]);
        let text = check.ok();
        assert!(text.contains("field 'spare' is dropped"), "{text}");
        assert!(
            text.contains("state 'other' of operator 'count' is left behind"),
            "{text}"
        );
        let flags = [flags.as_slice(), &["--allow-non-restored"]].concat();
        let (_, new) = go_on(&place, "fewer", ("next.jsonl", "out", "out3"), &flags);
        assert_eq!(new, ["11,1,new", "3,3,w3"], "{backend}");
        let seen = json!({"n": 2, "word": "w4"});
        assert_eq!(value(&place, "cp2", "seen", "4"), Some(seen));
        assert_eq!(value(&place, "cp2", "other", "4"), None);
    }
}

#[test]
fn values_of_another_type_are_migrated_key_by_key() {
    for backend in BACKENDS {
        let place = Place::new();
        first(&place, backend);
        input(&place, "next.jsonl", &[3, 3, 4, 11]);
        // Without the function it does not fit.
        let named = ["operator 'count'", "state 'seen'", "field 'text'"];
        refused(&check(&place, "after", "cp", &[]), &named);
        let migrated = check(&place, "migrated", "cp", &[]);
        let line = "state 'seen' of operator 'count' is migrated by its function, key by key";
        assert!(migrated.ok().contains(line), "{}", migrated.stdout);

        let flags = [
            "--from",
            "cp",
            "--state",
            backend,
            "--checkpoint-dir",
            "cp2",
        ];
        let (ended, new) = go_on(&place, "migrated", ("next.jsonl", "out", "out2"), &flags);
        assert!(ended.stderr.contains(line), "{}", ended.stderr);
        let expected = ["11,1,new", "3,3,w3", "3,4,w3", "4,3,w4"];
        assert_eq!(new, expected, "{backend}");
        // Those that came are of the new type, the others wait.
        let now = |saved, key| value(&place, saved, "seen", key);
        let former = |saved, key| value(&place, saved, "seen@former", key);
        assert_eq!(now("cp2", "3"), Some(json!({"text": "4 w3"})));
        assert_eq!(former("cp2", "3"), None);
        assert_eq!(now("cp2", "5"), None);
        let waits = json!({"n": 2, "word": "w5", "spare": true});
        assert_eq!(former("cp2", "5"), Some(waits));

        // The function must not go yet.
        let early = ["state 'seen@former'", "keep its migrate function"];
        refused(&check(&place, "after", "cp2", &[]), &early);
        let same = check(&place, "migrated", "cp2", &[]);
        assert!(same.ok().contains("all state is taken over as it is"));

        // The other backend goes on with the rest; then it may.
        input(&place, "rest.jsonl", &(0..10).collect::<Vec<_>>());
        let other = if backend == "heap" { "rocksdb" } else { "heap" };
        let flags = ["--from", "cp2", "--state", other, "--checkpoint-dir", "cp3"];
        let (_, rows3) = go_on(&place, "migrated", ("rest.jsonl", "out2", "out3"), &flags);
        assert_eq!(
            (rows3.len(), rows3[3].as_str(), rows3[5].as_str()),
            (10, "3,5,w3", "5,3,w5")
        );
        assert_eq!(former("cp3", "5"), None);
        let flags = ["--from", "cp3", "--state", backend];
        let (_, new) = go_on(&place, "after", ("next.jsonl", "out3", "out4"), &flags);
        let expected = ["11,2,new", "3,6,w3", "3,7,w3", "4,5,w4"];
        assert_eq!(new, expected, "{backend}");
    }
}

#[test]
fn lists_and_maps_of_another_type_are_migrated_key_by_key() {
    for backend in BACKENDS {
        let place = Place::new();
        input(&place, "first.jsonl", &[1, 1, 1, 2, 2]);
        let flags = ["--checkpoint-dir", "cp", "--state", backend];
        ended_well(&run(&place, "many", ("first.jsonl", "out"), &flags));
        input(&place, "next.jsonl", &[1, 1, 3]);
        let flags = [
            "--from",
            "cp",
            "--checkpoint-dir",
            "cp2",
            "--state",
            backend,
        ];
        let (_, new) = go_on(
            &place,
            "many-migrated",
            ("next.jsonl", "out", "out2"),
            &flags,
        );
        let expected = [
            "1,4,was 1 was 2 was 3 is 4; was 3 new",
            "1,5,was 1 was 2 was 3 is 4 is 5; was 3 new",
            "3,1,is 1; new",
        ];
        assert_eq!(new, expected, "{backend}");
        assert!(value(&place, "cp2", "log@former", "2").is_some());
        assert_eq!(value(&place, "cp2", "log@former", "1"), None);
        assert_eq!(value(&place, "cp2", "last@former", "1"), None);
        input(&place, "rest.jsonl", &[2]);
        let flags = ["--from", "cp2", "--state", backend];
        let (_, new) = go_on(
            &place,
            "many-migrated",
            ("rest.jsonl", "out2", "out3"),
            &flags,
        );
        assert_eq!(new, ["2,3,was 1 was 2 is 3; was 1 new"]);
    }
}

#[test]
fn a_function_that_panics_ends_the_job_and_says_what_it_was_about() {
    let place = Place::new();
    first(&place, "heap");
    input(&place, "next.jsonl", &[3]);
    let ended = run(&place, "trap", ("next.jsonl", "out"), &["--from", "cp"]);
    let parts = [
        "'count'",
        "w3 is not migrated",
        "while state 'seen' was migrated",
    ];
    refused(&ended, &parts);
    // What it stumbled over is still there.
    let (_, new) = go_on(
        &place,
        "migrated",
        ("next.jsonl", "out", "out2"),
        &["--from", "cp"],
    );
    assert_eq!(new, ["3,3,w3"]);
}

#[test]
fn the_files_of_rocksdb_are_taken_by_another_version() {
    let place = Place::new();
    let args = |version: &str, events: &str, flags: &[&str]| {
        let mut args = vec!["run".to_owned(), component("evolving")];
        for param in [
            &format!("version={version}"),
            &format!("events={events}"),
            "keys=50",
            "rate=20000",
            &format!("output=out-{version}"),
        ] {
            args.extend(["--param".to_owned(), param.to_owned()]);
        }
        let always = [
            "--state",
            "rocksdb",
            "--checkpoint-interval",
            "50ms",
            "-p",
            "2",
        ];
        args.extend(always.iter().chain(flags).map(|f| (*f).to_owned()));
        args
    };
    let endless = args("first", "4000000000", &["--checkpoint-dir", "cp"]);
    let mut child = place
        .command(&endless)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let list = ["checkpoint", "list", "cp", "-o", "json"];
    let last = || {
        let list = place.pelton(&list);
        let items = (list.code == Some(0)).then(|| list.json()["items"].clone());
        let ids = items
            .as_ref()
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        ids.filter_map(|item| item["id"].as_u64()).max()
    };
    // By then every key has come.
    let complete = (0..3_000).any(|_| last() > Some(5));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(complete, "there are no checkpoints");
    for version in ["compatible", "migrated"] {
        let folder = format!("cp-{version}");
        let flags = ["--from", "cp", "--checkpoint-dir", &folder];
        let output = format!("out-{version}");
        copy(&place, "out-first", &output);
        ended_well(&place.pelton(&args(version, "1000", &flags)));
        let rows = new_rows(&place, "out-first", &output);
        let new = rows.iter().filter(|row| row.contains("new")).count();
        assert!(rows.len() >= 1000, "{version}: {}", rows.len());
        assert_eq!(new, 0, "{version}: all keys were known");
    }
}
