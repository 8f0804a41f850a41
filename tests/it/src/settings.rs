//! Which place of a setting wins, from flags to defaults, in the real binary.

use crate::pelton::Place;

/// The value of `run.batch-rows` and where it comes from.
fn batch_rows(place: &Place, args: &[&str], variable: Option<&str>) -> (String, String) {
    let args = [&["config", "show", "-o", "json"], args].concat();
    let mut command = place.command(&args);
    if let Some(value) = variable {
        command.env("PELTON_RUN__BATCH_ROWS", value);
    }
    let ended = crate::pelton::Ended::of(command.output().unwrap());
    let object = ended.json();
    let item = object["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|i| i["name"] == "run.batch-rows")
        .unwrap();
    let text = |key: &str| item[key].as_str().unwrap().to_owned();
    (text("value"), text("origin"))
}

#[test]
fn nearer_places_win() {
    let place = Place::new();
    let is = |got: (String, String), value: &str, origin: &str| {
        assert_eq!(got, (value.to_owned(), origin.to_owned()))
    };
    is(batch_rows(&place, &[], None), "8192", "default");
    let user = place.home().join(".config/pelton/pelton.toml");
    std::fs::create_dir_all(user.parent().unwrap()).unwrap();
    std::fs::write(&user, "[run]\nbatch-rows = 5\n").unwrap();
    is(
        batch_rows(&place, &[], None),
        "5",
        &format!("file {}", user.display()),
    );
    place.file("pelton.toml", "[run]\nbatch-rows = 4\n");
    is(batch_rows(&place, &[], None), "4", "file pelton.toml");
    place.file("given.toml", "[run]\nbatch-rows = 3\n");
    is(
        batch_rows(&place, &["--config", "given.toml"], None),
        "3",
        "file given.toml",
    );
    is(
        batch_rows(&place, &["--config", "given.toml"], Some("2")),
        "2",
        "variable PELTON_RUN__BATCH_ROWS",
    );
}

#[test]
fn origins_are_shown_on_request() {
    let place = Place::new();
    place.file("pelton.toml", "[limits]\nmemory-bytes = \"64MiB\"\n");
    let ended = place.pelton(&["config", "show", "--origin"]);
    let line = ended
        .ok()
        .lines()
        .find(|l| l.starts_with("limits.memory-bytes "))
        .unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(
        words,
        ["limits.memory-bytes", "67108864", "file", "pelton.toml"]
    );
}

#[test]
fn an_unknown_setting_names_the_nearest_and_its_place() {
    let place = Place::new();
    place.file("pelton.toml", "[run]\nbatch-row = 4\n");
    place.pelton(&["config", "show"]).failed(
        7,
        "error[PLT-0003]: there is no setting 'run.batch-row', did you mean 'run.batch-rows'?\n  --> file pelton.toml\n  = help: `pelton config show` lists what there is\n",
    );
    place.pelton(&["config", "show", "--config", "none.toml"]).failed(
        3,
        "error[PLT-0002]: there is no settings file 'none.toml'\n  = help: `pelton explain-error PLT-0002` says more\n",
    );
}
