//! `pelton new`: what it makes, what it refuses, and that the SDK comes with the binary.

use std::path::Path;

use crate::pelton::Place;

#[test]
fn a_project_is_complete_and_points_to_the_sdk() {
    let place = Place::new();
    let object = place.pelton(&["new", "my-job", "-o", "json"]).json();
    assert_eq!(
        (object["kind"].as_str(), object["name"].as_str()),
        (Some("project"), Some("my-job"))
    );
    let sdk = object["sdk"].as_str().unwrap();
    assert!(sdk.starts_with(place.home().to_str().unwrap()), "{sdk}");
    for file in [
        "sdk/rust/Cargo.toml",
        "sdk/rust/src/lib.rs",
        "sdk/macros/Cargo.toml",
        "wit/world.wit",
        "Cargo.toml",
    ] {
        assert!(Path::new(sdk).join(file).is_file(), "{file}");
    }
    let manifest = std::fs::read_to_string(place.work().join("my-job/Cargo.toml")).unwrap();
    assert!(manifest.contains("name = \"my-job\""), "{manifest}");
    assert!(manifest.contains(&format!("{sdk}/sdk/rust")), "{manifest}");
    assert!(!manifest.contains("{{"), "{manifest}");
    assert!(place.work().join("my-job/src/lib.rs").is_file());
}

#[test]
fn every_template_can_be_listed_and_made() {
    let place = Place::new();
    let list = place.pelton(&["new", "--list", "-o", "name"]);
    let names: Vec<&str> = list.ok().lines().collect();
    assert!(!names.is_empty());
    for (i, template) in names.iter().enumerate() {
        let name = format!("job{i}");
        place.pelton(&["new", &name, "--template", template]).ok();
        for file in files(&place.work().join(&name)) {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            assert!(
                !text.contains("{{project-name}}") && !text.contains("{{pelton-sdk}}"),
                "{}",
                file.display()
            );
        }
    }
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let paths = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path());
    paths
        .flat_map(|p| if p.is_dir() { files(&p) } else { vec![p] })
        .collect()
}

#[test]
fn what_is_there_is_left_alone() {
    let place = Place::new();
    place.file("my-job/notes", "mine");
    place.pelton(&["new", "my-job"]).failed(
        4,
        "error[PLT-0004]: 'my-job' is already there\n  = help: choose another name, or remove what is there\n",
    );
    assert_eq!(files(&place.work()), [place.work().join("my-job/notes")]);
    // An empty folder is a place to begin in.
    std::fs::create_dir(place.work().join("other")).unwrap();
    place.pelton(&["new", "other"]).ok();
}

#[test]
fn names_that_are_no_names_are_refused() {
    let place = Place::new();
    for name in ["My-Job", "../job", "a/b", "fn", "job ", "naïve"] {
        let ended = place.pelton(&["new", name]);
        assert_eq!(ended.code, Some(2), "{name}");
        assert!(
            ended.stderr.starts_with(&format!(
                "error[PLT-0001]: '{name}' cannot be the name of a project: "
            )),
            "{}",
            ended.stderr
        );
    }
    assert!(files(&place.work()).is_empty());
    let ended = place.pelton(&["new", "a", "--template", "jbo"]);
    assert_eq!(ended.code, Some(3));
    assert!(
        ended
            .stderr
            .starts_with("error[PLT-0002]: there is no template 'jbo'"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_home_that_cannot_be_written_is_named() {
    let place = Place::new();
    // A file where a folder should be stops root as well.
    let cache = place.file("taken", "");
    let output = place
        .command(&["new", "a"])
        .env("PELTON_CACHE__DIR", &cache)
        .output()
        .unwrap();
    let ended = crate::pelton::Ended::of(output);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended
            .stderr
            .starts_with("error[PLT-0402]: the SDK's sources cannot be unpacked: "),
        "{}",
        ended.stderr
    );
    assert!(!place.work().join("a").exists());
}
