//! State on disk: results are those of state in memory, and what the folder refuses is told.
//! Needs: the components `bench-jobs` and `fraud-alerts`; for a small disk, the right to mount one.

use std::path::Path;

use crate::components::{component, repository};
use crate::examples::Run;
use crate::faults::{SmallDisk, run_as_nobody, set_mode};
use crate::pelton::{Ended, Place};

/// A count per key over random keys, said at each row, in files.
fn counts(output: &str, flags: &[&str]) -> Vec<String> {
    let params = ["job=counter", "events=400000", "keys=150000"];
    job(&params, output, flags)
}

/// A job that writes into files.
fn job(params: &[&str], output: &str, flags: &[&str]) -> Vec<String> {
    let mut args = vec!["run".to_owned(), component("bench-jobs"), "-q".to_owned()];
    for param in params {
        args.extend(["--param".to_owned(), (*param).to_owned()]);
    }
    args.extend(["--param".to_owned(), format!("output={output}")]);
    args.extend(flags.iter().map(|f| (*f).to_owned()));
    args
}

/// The sorted rows of all files in a folder, without their headers.
fn lines(folder: &Path) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        lines.extend(text.lines().skip(1).map(str::to_owned));
    }
    lines.sort_unstable();
    lines
}

/// The folders that jobs have left behind.
fn left(place: &Place) -> usize {
    let folder = place.home().join(".cache/pelton/state");
    std::fs::read_dir(folder).unwrap().count()
}

#[test]
fn state_that_does_not_fit_its_memory_gives_the_same_results() {
    let place = Place::new();
    place.pelton(&counts("heap", &["-p", "2"])).ok();
    let expected = lines(&place.work().join("heap"));
    assert!(expected.len() >= 400_000, "{}", expected.len());
    for tasks in ["1", "2"] {
        // The keys alone have more than a task may hold.
        let flags = ["--state", "rocksdb", "--state-memory", "8MiB", "-p", tasks];
        place.pelton(&counts(tasks, &flags)).ok();
        let have = lines(&place.work().join(tasks));
        assert!(have == expected, "results differ, {tasks} tasks");
        assert_eq!(left(&place), 0, "the folder goes with the job");
    }
}

#[test]
fn functions_with_timers_see_the_same_state() {
    let run = Run::new();
    let input = repository("guest-examples/fraud-alerts/data/transactions.csv");
    let params = [("input", input.as_str())];
    let expected = run.done("fraud-alerts", &params, &["--state", "heap"]);
    for rows in ["1", "8192"] {
        let flags = ["--state", "rocksdb", "--batch-rows", rows];
        assert_eq!(run.done("fraud-alerts", &params, &flags), expected);
    }
}

#[test]
fn timers_that_do_not_fit_in_memory_all_fire() {
    let place = Place::new();
    // In batch mode all of them wait for the end of the input.
    let run = |output: &str, flags: &[&str]| {
        let params = ["job=kind-timers", "events=600000"];
        let flags = [&["--mode", "batch"], flags].concat();
        place.pelton(&job(&params, output, &flags)).ok();
        lines(&place.work().join(output))
    };
    let expected = run("heap", &["-p", "2"]);
    assert!(expected.len() > 100_000, "{}", expected.len());
    for tasks in ["1", "2"] {
        let flags = ["--state", "rocksdb", "--state-memory", "8MiB", "-p", tasks];
        assert!(run(tasks, &flags) == expected, "{tasks} tasks");
    }
}

#[track_caller]
fn refused(ended: &Ended, parts: &[&str]) {
    assert_ne!(ended.code, Some(0));
    for part in parts {
        assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
    }
}

#[test]
fn a_folder_for_state_that_may_not_be_written_is_named() {
    let place = Place::new();
    let folder = place.work().join("shut");
    std::fs::create_dir(&folder).unwrap();
    set_mode(&folder, 0o555);
    place.file(
        "pelton.toml",
        "[state]\nbackend = 'rocksdb'\ndir = 'shut'\n",
    );
    let ended = run_as_nobody(&place, &counts("blackhole", &[]));
    refused(
        &ended,
        &["error[PLT-0403]", "Permission denied", "state.dir"],
    );
}

#[test]
fn a_full_disk_for_state_ends_the_job() {
    let place = Place::new();
    let folder = place.work().join("small");
    let _disk = SmallDisk::mount(&folder);
    place.file(
        "pelton.toml",
        "[state]\nbackend = 'rocksdb'\nmemory = '8MiB'\ndir = 'small'\n",
    );
    let ended = place.pelton(&counts("out", &[]));
    refused(&ended, &["error[PLT-0403]", "disk is full", "state.dir"]);
}

#[test]
fn an_option_that_rocksdb_does_not_have_is_named() {
    let place = Place::new();
    let text = "[state]\nbackend = 'rocksdb'\n[state.rocksdb]\nblock_sighs = 4096\n";
    place.file("pelton.toml", text);
    let ended = place.pelton(&counts("out", &[]));
    refused(&ended, &["error[PLT-0403]", "block_sighs", "state.rocksdb"]);
    assert_eq!(left(&place), 0);
}
