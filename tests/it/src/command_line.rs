//! Grammar, help, versions, codes of errors.

use pelton_model::ErrorCode;

use crate::pelton::Place;

#[test]
fn version_says_what_it_carries() {
    let place = Place::new();
    let text = place.pelton(&["version"]);
    assert!(
        text.ok().starts_with("pelton    0.1.0\n"),
        "{}",
        text.stdout
    );
    let object = place.pelton(&["version", "-o", "json"]).json();
    assert_eq!(
        (object["kind"].as_str(), object["version"].as_str()),
        (Some("version"), Some("0.1.0"))
    );
    assert_eq!(object["contract"], "pelton:job@0.1.0");
    assert!(
        object["sdk"]
            .as_str()
            .unwrap()
            .starts_with(place.home().to_str().unwrap())
    );
    assert_eq!(place.pelton(&["--version"]).ok(), "pelton 0.1.0\n");
    assert_eq!(place.pelton(&["version", "-o", "name"]).ok(), "0.1.0\n");
}

#[test]
fn help_is_a_result() {
    let place = Place::new();
    let help = place.pelton(&["--help"]);
    for command in [
        "new",
        "build",
        "test",
        "check",
        "explain",
        "run",
        "savepoint",
        "checkpoint",
        "state",
        "config",
        "explain-error",
        "version",
    ] {
        assert!(
            help.ok()
                .lines()
                .any(|l| l.trim_start().starts_with(command)),
            "{command} is not in\n{}",
            help.stdout
        );
    }
    for command in [
        "new",
        "build",
        "test",
        "check",
        "explain",
        "run",
        "savepoint create",
        "savepoint delete",
        "checkpoint verify",
        "state top",
        "config show",
        "explain-error",
    ] {
        let args: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        assert!(
            place.pelton(&args).ok().contains("Usage: pelton"),
            "{command}"
        );
    }
}

#[test]
fn no_command_is_a_mistake_that_shows_the_help() {
    let nothing: [&str; 0] = [];
    let ended = Place::new().pelton(&nothing);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""));
    assert!(ended.stderr.contains("Usage: pelton"));
}

#[test]
fn a_mistake_is_named_with_what_was_meant() {
    let place = Place::new();
    place.pelton(&["chekc", "a"]).failed(
        2,
        "error[PLT-0001]: unrecognized subcommand 'chekc'\n  = help: some similar subcommands exist: 'checkpoint', 'check'\n",
    );
    let json = place.pelton(&["chekc", "-o", "json"]);
    assert_eq!((json.code, json.stdout.as_str()), (Some(2), ""));
    let object: serde_json::Value = serde_json::from_str(&json.stderr).unwrap();
    assert_eq!(
        (object["kind"].as_str(), object["code"].as_str()),
        (Some("error"), Some("PLT-0001"))
    );
    place.pelton(&["run", "a.wasm", "-p", "0"]).failed(
        2,
        "error[PLT-0001]: setting 'run.parallelism' cannot be '0'\n  = help: it takes a number from 1 to 4096\n",
    );
    place.pelton(&["run", "a.wasm", "--param", "x"]).failed(
        2,
        "error[PLT-0001]: --param takes NAME=VALUE, not 'x'\n  = help: `pelton explain-error PLT-0001` says more\n",
    );
}

#[test]
fn every_code_is_explained() {
    let place = Place::new();
    for code in ErrorCode::ALL {
        let ended = place.pelton(&["explain-error", code.as_str()]);
        let text = ended.ok();
        assert!(
            text.starts_with(&format!(
                "{code}: {}\n\n{}\n\nexit code: ",
                code.title(),
                code.explain()
            )),
            "{text}"
        );
    }
    let list = place.pelton(&["explain-error", "-o", "name"]);
    assert_eq!(list.ok().lines().count(), ErrorCode::ALL.len());
    assert_eq!(
        place
            .pelton(&["explain-error", "plt-0301", "-o", "json"])
            .json()["exit"],
        1
    );
    place.pelton(&["explain-error", "PLT-9999"]).failed(
        3,
        "error[PLT-0002]: there is no error code 'PLT-9999'\n  = help: `pelton explain-error` lists all codes\n",
    );
}

#[test]
fn a_closed_standard_output_is_an_error_and_no_panic() {
    let place = Place::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = place.command(&["explain-error"]);
    let output = command.stdout(writer).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.starts_with("error[PLT-0401]: the standard output cannot be written: "),
        "{stderr}"
    );
}
