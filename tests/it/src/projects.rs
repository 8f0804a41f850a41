//! From `pelton new` to a result: a project of each template is built, tested and checked, as a user does it.

use crate::pelton::{Place, built_in_common};

#[test]
fn every_template_builds_and_passes_its_own_cases() {
    let place = Place::new();
    let list = place.pelton(&["new", "--list", "-o", "name"]);
    for (i, template) in list.ok().lines().enumerate() {
        let name = format!("made-{i}");
        place.pelton(&["new", &name, "--template", template]).ok();
        let built = built_in_common(place.command(&["build", &name]));
        assert_eq!(built.code, Some(0), "{template}: {}", built.stderr);
        let file = format!("{name}/target/pelton/{name}.wasm");
        assert_eq!(built.stdout.split(' ').next(), Some(file.as_str()));
        assert!(place.work().join(&file).is_file());
        let tested = built_in_common(place.command(&["test", &name]));
        assert_eq!(
            tested.code,
            Some(0),
            "{template}: {}{}",
            tested.stdout,
            tested.stderr
        );
        assert!(
            tested.stdout.ends_with(" passed, 0 failed\n")
                && !tested.stdout.ends_with("\n0 passed, 0 failed\n"),
            "{}",
            tested.stdout
        );
    }
}

#[test]
fn what_the_compiler_refuses_is_passed_on_and_nothing_is_left() {
    let place = Place::new();
    place.pelton(&["new", "broken"]).ok();
    place.file("broken/src/lib.rs", "fn broken( {}\n");
    let ended = built_in_common(place.command(&["build", "broken"]));
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
    assert!(
        ended.stderr.contains("src/lib.rs:1:"),
        "the compiler's own words: {}",
        ended.stderr
    );
    assert!(
        ended
            .stderr
            .contains("error[PLT-0501]: cargo could not build broken\n"),
        "{}",
        ended.stderr
    );
    assert!(!place.work().join("broken/target/pelton").exists());
}

#[test]
fn a_folder_without_a_project_is_not_built() {
    let place = Place::new();
    place.pelton(&["build"]).failed(
        3,
        "error[PLT-0002]: there is no Cargo.toml in '.'\n  = help: `pelton new NAME` makes a project\n",
    );
    place.file(
        "Cargo.toml",
        "[package]\nname = \"a\"\nversion = \"0.1.0\"\nedition = \"2024\"\n",
    );
    place.file("src/lib.rs", "");
    let ended = built_in_common(place.command(&["build"]));
    assert_eq!(ended.code, Some(1));
    assert!(
        ended
            .stderr
            .starts_with("error[PLT-0501]: no package here is a job\n"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_failed_case_shows_the_difference_and_an_update_mends_it() {
    let place = Place::new();
    place.pelton(&["new", "my-job"]).ok();
    let cases = place.work().join("my-job/tests/cases");
    let case = std::fs::read_dir(&cases)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let expected = case.join("expected.txt");
    let before = std::fs::read_to_string(&expected).unwrap();
    std::fs::write(&expected, format!("{before}one line too many\n")).unwrap();
    let failed = built_in_common(place.command(&["test", "my-job"]));
    assert_eq!(failed.code, Some(1), "{}", failed.stderr);
    assert!(
        failed.stderr.contains("error[PLT-0502]: ")
            && failed.stderr.contains("\n  - one line too many\n"),
        "{}",
        failed.stderr
    );
    let updated = built_in_common(place.command(&["test", "my-job", "--update"]));
    assert_eq!(updated.code, Some(0), "{}", updated.stderr);
    let lines = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(
        lines(&std::fs::read_to_string(&expected).unwrap()),
        lines(&before)
    );
    let nothing = built_in_common(place.command(&["test", "my-job", "--filter", "no such case"]));
    assert!(
        nothing.stdout.ends_with("0 passed, 0 failed\n"),
        "{}",
        nothing.stdout
    );
}
