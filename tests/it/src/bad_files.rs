//! Files that are no jobs: each is refused with its own words, before anything of it is run.

use crate::pelton::Place;

/// Name, content, what is wrong.
const FILES: [(&str, &[u8], &str); 8] = [
    ("empty", b"", "the file is empty"),
    (
        "text",
        b"hello, world\n",
        "the file is text, not a component",
    ),
    (
        "wat",
        b"(module)",
        "the file is WebAssembly as text, not a component",
    ),
    (
        "elf",
        b"\x7fELF\x02\x01\x01\0",
        "the file is a program for this machine, not WebAssembly",
    ),
    (
        "core",
        b"\0asm\x01\0\0\0",
        "the file is a core module, not a component",
    ),
    ("start", b"\0asm\x0d", "the file is truncated"),
    (
        "noise",
        b"\x01\x02\x03\xff\xfe",
        "the file is not WebAssembly",
    ),
    (
        "later",
        b"\0asm\x0e\0\x01\0",
        "the file is WebAssembly of another version",
    ),
];

fn refusal(code: &str, message: &str, file: &str, help: &str) -> String {
    format!("error[{code}]: {message}\n  --> file {file}\n  = help: {help}\n")
}

#[test]
fn what_is_no_component_is_told_apart() {
    let place = Place::new();
    for (name, content, message) in FILES {
        place.file(name, content);
        let text = refusal("PLT-0101", message, name, "`pelton build` makes components");
        for command in ["check", "explain", "run"] {
            place.pelton(&[command, name]).failed(7, &text);
        }
    }
}

#[test]
fn a_component_that_ends_within_a_section_is_truncated() {
    let place = Place::new();
    // The header of a component, and a section that says it has 16 bytes.
    place.file("cut", b"\0asm\x0d\0\x01\0\x00\x10\x01\x61");
    let text = refusal(
        "PLT-0101",
        "the file is truncated",
        "cut",
        "build or copy it again",
    );
    place.pelton(&["check", "cut"]).failed(7, &text);
}

#[test]
fn a_component_of_another_world_is_refused() {
    let place = Place::new();
    place.file("bare", b"\0asm\x0d\0\x01\0");
    let ended = place.pelton(&["check", "bare"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(7), ""));
    assert!(
        ended
            .stderr
            .starts_with("error[PLT-0103]: the component does not export pelton:job/graph@"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_file_that_is_not_there_is_not_found() {
    let place = Place::new();
    let text = refusal(
        "PLT-0002",
        "there is no file 'a.wasm'",
        "a.wasm",
        "`pelton build` writes components to target/pelton",
    );
    for command in ["check", "explain", "run"] {
        place.pelton(&[command, "a.wasm"]).failed(3, &text);
    }
    let folder = refusal(
        "PLT-0101",
        "this is a folder, not a component",
        ".",
        "`pelton build` writes components to target/pelton",
    );
    place.pelton(&["check", "."]).failed(7, &folder);
}

#[test]
fn a_file_that_is_too_large_is_not_even_read() {
    let place = Place::new();
    let file = std::fs::File::create(place.work().join("large")).unwrap();
    file.set_len((64 << 20) + 1).unwrap();
    let ended = place.pelton(&["check", "large"]);
    assert_eq!(ended.code, Some(9));
    assert!(
        ended
            .stderr
            .starts_with("error[PLT-0102]: the component has 67108865 bytes"),
        "{}",
        ended.stderr
    );
}

#[test]
fn of_several_files_all_are_looked_at() {
    let place = Place::new();
    place.file("empty", "");
    let ended = place.pelton(&["check", "none", "empty", "-o", "json"]);
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(3), "{\"items\":[],\"kind\":\"accepted-jobs\"}\n")
    );
    let codes: Vec<serde_json::Value> = ended
        .stderr
        .lines()
        .map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()["code"].clone())
        .collect();
    assert_eq!(codes, ["PLT-0002", "PLT-0101"]);
}

#[test]
fn a_bad_file_leaves_nothing_behind() {
    let place = Place::new();
    place.file("text", "x");
    place.pelton(&["run", "text"]);
    let left: Vec<_> = std::fs::read_dir(place.work())
        .unwrap()
        .flatten()
        .map(|e| e.file_name())
        .collect();
    assert_eq!(left, ["text"]);
}
