//! Savepoints from outside: taken of a job that runs, looked at, begun from; and checkpoints, looked at.
//! Needs: the component `bench-jobs`.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use serde_json::{Value, json};

use crate::components::component;
use crate::pelton::{Ended, Place};

/// A job that is killed at the end of its test.
struct Running<'a> {
    place: &'a Place,
    child: Child,
    errors: PathBuf,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How often something is asked that is still to come; each is a process of its own.
const ATTEMPTS: usize = 3_000;

/// `run` of a benchmark's job.
fn job(params: &[&str], flags: &[&str]) -> Vec<String> {
    let mut args = vec!["run".to_owned(), component("bench-jobs")];
    for param in params {
        args.extend(["--param".to_owned(), (*param).to_owned()]);
    }
    args.extend(flags.iter().map(|f| (*f).to_owned()));
    args
}

/// A count of each of ten thousand keys, without an end.
const ENDLESS: [&str; 4] = [
    "job=counter",
    "events=4000000000",
    "keys=10000",
    "rate=400000",
];

impl<'a> Running<'a> {
    fn start(place: &'a Place, params: &[&str], flags: &[&str]) -> Self {
        let errors = place.work().join("errors.txt");
        let child = place
            .command(&job(params, flags))
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&errors).unwrap())
            .spawn()
            .unwrap();
        Self {
            place,
            child,
            errors,
        }
    }

    /// A savepoint, as soon as the job listens.
    #[track_caller]
    fn savepoint(&mut self, args: &[&str]) -> Value {
        let mut all = vec![
            "savepoint",
            "create",
            "--checkpoint-dir",
            "cp",
            "-o",
            "json",
        ];
        all.extend(args);
        for _ in 0..ATTEMPTS {
            let ended = self.place.pelton(&all);
            match ended.code {
                Some(0) => return serde_json::from_str(&ended.stdout).unwrap(),
                Some(3) => {
                    let errors = || std::fs::read_to_string(&self.errors).unwrap();
                    assert!(self.child.try_wait().unwrap().is_none(), "{}", errors());
                }
                _ => panic!("{}", ended.stderr),
            }
        }
        panic!("the job does not listen");
    }

    fn kill(self) {}
}

/// A savepoint `sp` of the endless job, which has run for a while and is no more.
#[track_caller]
fn with_savepoint(place: &Place, flags: &[&str]) -> Value {
    let mut all = vec!["--checkpoint-dir", "cp", "--checkpoint-interval", "1h"];
    all.extend(flags);
    let mut running = Running::start(place, &ENDLESS, &all);
    // Until all keys have come.
    for attempt in 0..200 {
        let to = format!("try-{attempt}");
        let made = running.savepoint(&["--to", &to]);
        let top = ["state", "top", &to, "--name", "count", "-o", "json"];
        if place.pelton(&top).json()["items"][0]["entries"] == 10_000 {
            std::fs::rename(place.work().join(to), place.work().join("sp")).unwrap();
            running.kill();
            return made;
        }
    }
    panic!("the state does not grow");
}

/// The sorted rows of all files in a folder, without their headers.
fn lines(folder: &Path) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_string_lossy().starts_with("part-") {
            let text = std::fs::read_to_string(entry.path()).unwrap();
            lines.extend(text.lines().skip(1).map(str::to_owned));
        }
    }
    lines.sort_unstable();
    lines
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[track_caller]
fn ended_well(ended: &Ended) {
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

#[track_caller]
fn refused(ended: &Ended, code: i32, parts: &[&str]) {
    assert_eq!(ended.code, Some(code), "{}", ended.stderr);
    for part in parts {
        assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
    }
}

#[test]
fn a_job_goes_on_from_a_savepoint_with_other_tasks_and_other_state() {
    let place = Place::new();
    let counted = |output: &'static str| {
        [
            "job=counter",
            "events=40000",
            "keys=500",
            "rate=20000",
            output,
        ]
    };
    let out = |name: &str| place.work().join(name);
    ended_well(&place.pelton(&job(&counted("output=whole"), &["-q"])));
    let expected = lines(&out("whole"));
    assert_eq!(expected.len(), 40_000);

    let flags = [
        "--checkpoint-dir",
        "cp",
        "--checkpoint-interval",
        "1h",
        "-p",
        "2",
    ];
    let mut running = Running::start(&place, &counted("output=a"), &flags);
    let made = running.savepoint(&["--to", "sp"]);
    assert_eq!(
        (&made["complete"], &made["job"]),
        (&json!(true), &json!("bench-counter"))
    );
    running.kill();
    copy(&out("a"), &out("b"));
    copy(&out("a"), &out("c"));

    let disk = [
        "--from",
        "sp",
        "--checkpoint-dir",
        "cp2",
        "--state",
        "rocksdb",
        "-p",
        "3",
    ];
    let ended = place.pelton(&job(&counted("output=a"), &disk));
    ended_well(&ended);
    assert!(
        ended.stderr.contains("goes on from savepoint"),
        "{}",
        ended.stderr
    );
    assert!(lines(&out("a")) == expected, "with RocksDB and three tasks");
    // A supervisor says the same again.
    let again = place.pelton(&job(&counted("output=a"), &disk));
    ended_well(&again);
    assert!(
        again.stderr.contains("goes on from checkpoint"),
        "{}",
        again.stderr
    );
    assert!(lines(&out("a")) == expected, "once more");

    let one = ["--from", "sp", "-p", "1"];
    ended_well(&place.pelton(&job(&counted("output=b"), &one)));
    assert!(lines(&out("b")) == expected, "without checkpoints");

    std::fs::rename(out("sp"), out("moved")).unwrap();
    let moved = [
        "--from",
        "moved",
        "--checkpoint-dir",
        "cp3",
        "--checkpoint-interval",
        "300ms",
    ];
    let mut running = Running::start(&place, &counted("output=c"), &moved);
    let code = running.child.wait().unwrap().code();
    assert_eq!(code, Some(0));
    assert!(lines(&out("c")) == expected, "with checkpoints in between");
    assert!(
        !out("cp3").join("run.sock").exists(),
        "the socket goes with the job"
    );
}

#[test]
fn what_a_savepoint_has_is_read_without_the_job() {
    let place = Place::new();
    let made = with_savepoint(&place, &["-p", "2"]);
    let shown = place
        .pelton(&["savepoint", "show", "sp", "-o", "json"])
        .json();
    assert_eq!(shown["id"], made["id"]);
    assert_eq!(shown["operators"][1]["uid"], "count");
    assert_eq!(shown["operators"][1]["parallelism"], 2);
    assert_eq!(shown["positions"].as_array().unwrap().len(), 2);
    let text = place.pelton(&["savepoint", "show", "sp"]);
    assert!(text.ok().contains("10,000"), "{}", text.stdout);

    let get = [
        "state",
        "get",
        "sp",
        "--operator",
        "count",
        "--key",
        "42",
        "-o",
        "json",
    ];
    let one = place.pelton(&get).json();
    let item = &one["items"][0];
    assert_eq!(item["key"], json!({"key": 42}));
    assert_eq!(
        (&item["operator"], &item["name"]),
        (&json!("count"), &json!("count"))
    );
    let none = place.pelton(&["state", "get", "sp", "--key", "99999"]);
    refused(&none, 3, &["no state under the key 99999"]);
    let wrong = place.pelton(&["state", "get", "sp", "--key", "ann"]);
    refused(&wrong, 2, &["'key' (i64)"]);

    let scan = ["state", "scan", "sp", "--limit", "5", "-o", "jsonl", "-q"];
    assert_eq!(place.pelton(&scan).ok().lines().count(), 5);
    let top = place
        .pelton(&["state", "top", "sp", "--since", "sp", "-o", "json"])
        .json();
    assert_eq!(top["items"][0]["entries"], 10_000);
    assert_eq!(top["items"][0]["grown_bytes"], 0);
    assert_eq!(top["largest_keys"].as_array().unwrap().len(), 10);
    let unknown = place.pelton(&["state", "scan", "sp", "--operator", "cuont"]);
    refused(&unknown, 3, &["no operator 'cuont'", "numbers, count, out"]);
}

#[test]
fn a_job_that_cannot_even_begin_ends_at_once() {
    let place = Place::new();
    let out = place.pelton(&[
        "run",
        &component("word-count"),
        "--param",
        "input=nowhere.json",
        "--allow-at-least-once",
        "--checkpoint-dir",
        "cp",
    ]);
    refused(&out, 8, &["nowhere.json", "cannot be read"]);
    assert!(!out.stderr.contains("starts again"), "{}", out.stderr);
}

/// All files in a folder and the folders in it.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path());
    let below = |path: PathBuf| match path.is_dir() {
        true => files_below(&path),
        false => vec![path],
    };
    paths.flat_map(below).collect()
}

#[test]
fn savepoints_are_listed_verified_and_removed() {
    let place = Place::new();
    with_savepoint(&place, &["-p", "1"]);
    std::fs::create_dir(place.work().join("all")).unwrap();
    std::fs::rename(place.work().join("sp"), place.work().join("all/sp")).unwrap();
    let list = || {
        place
            .pelton(&["savepoint", "list", "all", "-o", "json"])
            .json()
    };
    assert_eq!(list()["items"][0]["name"], "sp");
    let verify = || place.pelton(&["savepoint", "verify", "all/sp"]);
    assert!(verify().ok().contains("verified"), "{}", verify().stdout);

    let data = place.work().join("all/sp/data");
    let file = files_below(&data)
        .into_iter()
        .max_by_key(|f| f.metadata().unwrap().len())
        .unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    // The file may be a link to what it was made of.
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, &bytes).unwrap();
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    refused(&verify(), 1, &["error[PLT-0601]", "checksum", &name]);

    let metadata = place.work().join("all/sp/metadata");
    let mut bytes = std::fs::read(&metadata).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&metadata, &bytes).unwrap();
    refused(&verify(), 1, &["error[PLT-0601]", "metadata is damaged"]);
    let broken = list();
    assert!(
        broken["items"][0]["broken"]
            .as_str()
            .unwrap()
            .contains("damaged")
    );

    let delete = |args: &[&str]| {
        let mut all = vec!["savepoint", "delete", "all/sp"];
        all.extend(args);
        place.pelton(&all)
    };
    refused(&delete(&[]), 2, &["--yes"]);
    delete(&["--yes"]).ok();
    refused(&delete(&["--yes"]), 3, &["there is no savepoint"]);
    assert_eq!(list()["items"], json!([]));
    let none = place.pelton(&["savepoint", "create", "--checkpoint-dir", "cp", "--to", "x"]);
    refused(&none, 3, &["no job runs with the checkpoint folder 'cp'"]);
}

#[test]
fn savepoints_have_folders_of_their_own_and_replace_nothing() {
    let place = Place::new();
    let flags = ["--checkpoint-dir", "cp", "--checkpoint-interval", "1h"];
    let mut running = Running::start(&place, &ENDLESS, &flags);
    let first = running.savepoint(&["--savepoint-dir", "all"]);
    let second = running.savepoint(&["--savepoint-dir", "all", "--wait=1m"]);
    let url = |made: &Value| made["url"].as_str().unwrap().to_owned();
    assert_ne!(url(&first), url(&second));
    assert!(
        url(&first).contains("all/bench-counter-"),
        "{}",
        url(&first)
    );
    let listed = place.pelton(&["savepoint", "list", "all", "-o", "name"]);
    assert_eq!(listed.ok().lines().count(), 2);
    let create = |args: &[&str]| {
        let mut all = vec!["savepoint", "create", "--checkpoint-dir", "cp"];
        all.extend(args);
        place.pelton(&all)
    };
    refused(
        &create(&["--to", &url(&first)]),
        4,
        &["has something already"],
    );
    refused(&create(&[]), 2, &["--savepoint-dir"]);
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(place.work().join("cp/run.sock"))
            .unwrap()
            .permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_job_without_a_place_for_the_state_is_refused_before_it_starts() {
    let place = Place::new();
    with_savepoint(&place, &["-p", "1"]);
    let sums = ["job=keyed-sum", "events=1000", "keys=10"];
    let from = ["--from", "sp", "--checkpoint-dir", "cp2"];
    let gone = "the job has no operator with this uid any more";
    let ended = place.pelton(&job(&sums, &from));
    refused(
        &ended,
        7,
        &["error[PLT-0602]", gone, "'count'", "--allow-non-restored"],
    );
    assert!(!place.work().join("cp2").exists(), "nothing was begun");
    let check = |more: &[&str]| {
        let mut args = vec!["check".to_owned(), component("bench-jobs")];
        for param in sums {
            args.extend(["--param".to_owned(), param.to_owned()]);
        }
        args.extend(["--against", "sp"].map(str::to_owned));
        args.extend(more.iter().map(|a| (*a).to_owned()));
        place.pelton(&args)
    };
    refused(&check(&[]), 7, &[gone]);
    assert!(
        check(&["--allow-non-restored"])
            .ok()
            .contains("'count' is left behind")
    );
    let mut allowed = from.to_vec();
    allowed.push("--allow-non-restored");
    let ended = place.pelton(&job(&sums, &allowed));
    ended_well(&ended);
    let notes = [
        "'count' is left behind",
        "it is of job 'bench-counter'",
        "begins at its beginning",
    ];
    for note in notes {
        assert!(ended.stderr.contains(note), "{note}: {}", ended.stderr);
    }
    let groups = ["--from", "sp", "--max-parallelism", "64"];
    let ended = place.pelton(&job(&ENDLESS, &groups));
    refused(&ended, 7, &["128 key groups", "--max-parallelism 128"]);
    let none = place.pelton(&job(&ENDLESS, &["--from", "nothing"]));
    refused(
        &none,
        3,
        &["there is no savepoint and no checkpoint at 'nothing'"],
    );
}

#[test]
fn checkpoints_are_looked_at_and_of_one_job() {
    let place = Place::new();
    let counted = ["job=counter", "events=30000", "keys=20000"];
    let flags = ["-q", "--checkpoint-dir", "cp", "-p", "1"];
    ended_well(&place.pelton(&job(&counted, &flags)));
    let listed = place
        .pelton(&["checkpoint", "list", "cp", "-o", "json"])
        .json();
    let last = listed["items"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(
        (&last["job"], &last["finished"]),
        (&json!("bench-counter"), &json!(true))
    );
    let shown = place
        .pelton(&["checkpoint", "show", "cp", "-o", "json"])
        .json();
    assert_eq!(
        (&shown["id"], &shown["kind"]),
        (&last["id"], &json!("checkpoint"))
    );
    place.pelton(&["checkpoint", "verify", "cp"]).ok();
    let scan = place.pelton(&["state", "scan", "cp", "--limit", "1", "-q"]);
    assert!(scan.ok().contains("count"), "{}", scan.stdout);

    let other = place.pelton(&job(
        &counted,
        &["--checkpoint-dir", "cp", "--name", "other"],
    ));
    refused(
        &other,
        2,
        &["error[PLT-0603]", "'bench-counter', not of 'other'"],
    );
    let fewer = ["job=counter", "events=100", "keys=7", "output=print"];
    let changed = place.pelton(&job(&fewer, &flags));
    refused(&changed, 2, &["error[PLT-0603]", "'numbers'", "--fresh"]);
    let mut fresh = flags.to_vec();
    fresh.push("--fresh");
    fresh.push("--allow-at-least-once");
    let anew = place.pelton(&job(&fewer, &fresh));
    ended_well(&anew);
    assert_eq!(anew.stdout.lines().count(), 100);
    let none = place.pelton(&["checkpoint", "show", "cp", "--id", "12345"]);
    refused(&none, 3, &["no checkpoint 12345"]);
}

#[test]
fn state_in_files_of_rocksdb_is_read_from_a_savepoint() {
    let place = Place::new();
    let flags = [
        "--checkpoint-dir",
        "cp",
        "--checkpoint-interval",
        "100ms",
        "--state",
        "rocksdb",
    ];
    let mut running = Running::start(&place, &ENDLESS, &flags);
    running.savepoint(&["--to", "sp"]);
    let mut attempts = 0..ATTEMPTS;
    assert!(attempts.any(|_| place.pelton(&["checkpoint", "show", "cp"]).code == Some(0)));
    running.kill();
    let native = place.pelton(&["state", "scan", "cp", "--name", "count"]);
    refused(&native, 2, &["files of 'rocksdb-", "take a savepoint"]);
    let top = place.pelton(&["state", "top", "cp", "-o", "json"]).json();
    let types: Vec<&Value> = top["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| &i["type"])
        .collect();
    let native = |t: &&Value| t.as_str().is_some_and(|t| t.starts_with("rocksdb-"));
    assert!(types.iter().any(native), "{types:?}");
    let scan = [
        "state", "scan", "sp", "--name", "count", "--limit", "3", "-o", "jsonl", "-q",
    ];
    assert_eq!(place.pelton(&scan).ok().lines().count(), 3);
    place.pelton(&["checkpoint", "verify", "cp"]).ok();
}

#[test]
fn what_is_not_exactly_once_is_named_by_check() {
    let place = Place::new();
    let mut args = vec!["check".to_owned(), component("bench-jobs")];
    for param in ["job=counter", "events=1", "output=print"] {
        args.extend(["--param".to_owned(), param.to_owned()]);
    }
    let ended = place.pelton(&args);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("warning: the sink 'out' (print)"),
        "{}",
        ended.stderr
    );
}
