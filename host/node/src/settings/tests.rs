//! Which place wins, and what is refused.

use std::ffi::OsString;

use super::sources::{of_flags, of_text, of_variables};
use super::*;

fn defaults() -> Defaults {
    Defaults {
        parallelism: 3,
        cache_dir: "/cache".into(),
    }
}

fn flag(value: &str) -> Layer {
    let mut flags = Flags::default();
    flags.set("run.batch-rows", "--batch-rows", Some(value));
    of_flags(&flags)
}

fn variables(pairs: &[(&str, &str)]) -> Result<Layer> {
    of_variables(
        pairs
            .iter()
            .map(|(k, v)| (OsString::from(k), OsString::from(v))),
    )
}

fn file(name: &str, text: &str) -> Result<Layer> {
    of_text(Path::new(name), text)
}

fn rows(layers: &[Layer]) -> (usize, String) {
    let settings = resolve(layers, &defaults()).unwrap();
    let entry = settings
        .entries
        .iter()
        .find(|e| e.key == "run.batch-rows")
        .unwrap();
    assert_eq!(entry.value, settings.batch_rows.to_string());
    (settings.batch_rows, entry.origin.to_string())
}

#[test]
fn each_place_beats_those_after_it() {
    let mut layers = vec![
        flag("1"),
        variables(&[("PELTON_RUN__BATCH_ROWS", "2")]).unwrap(),
        file("given.toml", "[run]\nbatch-rows = 3").unwrap(),
        file("pelton.toml", "[run]\nbatch-rows = \"4\"").unwrap(),
        file("user.toml", "[run]\nbatch-rows = 5").unwrap(),
    ];
    let expected = [
        (1, "flag --batch-rows"),
        (2, "variable PELTON_RUN__BATCH_ROWS"),
        (3, "file given.toml"),
        (4, "file pelton.toml"),
        (5, "file user.toml"),
        (8192, "default"),
    ];
    for (value, origin) in expected {
        assert_eq!(rows(&layers), (value, origin.to_owned()));
        if !layers.is_empty() {
            layers.remove(0);
        }
    }
}

#[test]
fn the_later_of_two_flags_holds() {
    let mut flags = Flags::default();
    flags
        .limits(&[
            "memory-bytes=1MiB".into(),
            "memory-bytes=2MiB".into(),
            "cpu-ms-per-call=3s".into(),
        ])
        .unwrap();
    let settings = resolve(&[of_flags(&flags)], &defaults()).unwrap();
    assert_eq!(
        (
            settings.limits.memory_bytes,
            settings.limits.cpu_ms_per_call
        ),
        (2 << 20, 3_000)
    );
}

#[track_caller]
fn refuse(layer: Result<Layer>, code: ErrorCode, message: &str) {
    let error = layer.and_then(|l| resolve(&[l], &defaults())).unwrap_err();
    assert_eq!((error.code(), error.to_string().as_str()), (code, message));
}

#[test]
fn what_is_not_understood_is_refused_by_name() {
    use ErrorCode::{Settings, Usage};
    let text = |t| file("a.toml", t);
    refuse(
        text("[run]\nbatch-row = 3"),
        Settings,
        "there is no setting 'run.batch-row', did you mean 'run.batch-rows'?, file a.toml",
    );
    refuse(
        text("[zzz]\nqqqqqqqqq = 3"),
        Settings,
        "there is no setting 'zzz.qqqqqqqqq', file a.toml",
    );
    refuse(
        text("parallelism = 3"),
        Settings,
        "there is no setting 'parallelism', did you mean 'run.parallelism'?, file a.toml",
    );
    refuse(
        text("[run]\nbatch-rows = true"),
        Settings,
        "setting 'run.batch-rows' cannot be a boolean, file a.toml",
    );
    refuse(
        text("[run]\nbatch-rows = 8193"),
        Settings,
        "setting 'run.batch-rows' cannot be '8193', file a.toml",
    );
    refuse(
        text("[limits]\nmemory-bytes = 0"),
        Settings,
        "setting 'limits.memory-bytes' is not allowed: limit 'memory-bytes' must be above 0, file a.toml",
    );
    refuse(
        variables(&[("PELTON_RUN__PARALLELISM", "x")]),
        Settings,
        "setting 'run.parallelism' cannot be 'x', variable PELTON_RUN__PARALLELISM",
    );
    refuse(
        variables(&[("PELTON_RUN__PARALELISM", "1")]),
        Settings,
        "there is no setting 'run.paralelism', did you mean 'run.parallelism'?, variable PELTON_RUN__PARALELISM",
    );
    refuse(
        Ok(flag("0")),
        Usage,
        "setting 'run.batch-rows' cannot be '0'",
    );
    let mut flags = Flags::default();
    flags.limits(&["memory-byte=1".into()]).unwrap();
    refuse(
        Ok(of_flags(&flags)),
        Usage,
        "there is no limit 'memory-byte', did you mean 'memory-bytes'?",
    );
    assert_eq!(
        Flags::default()
            .limits(&["x".into()])
            .unwrap_err()
            .message(),
        "--limit takes NAME=VALUE, not 'x'"
    );
}

#[test]
fn broken_toml_names_its_line() {
    let error = file("a.toml", "[run]\nbatch-rows = = 3").unwrap_err();
    assert_eq!(error.code(), ErrorCode::Settings);
    assert_eq!(
        error.places(),
        [("line", "2".to_owned()), ("file", "a.toml".to_owned())]
    );
}

#[test]
fn variables_of_other_programs_are_no_settings() {
    let layer = variables(&[("PELTON_BIN", "x"), ("PATH", "y"), ("RUN__BATCH_ROWS", "1")]).unwrap();
    assert!(layer.pairs.is_empty());
}

#[test]
fn sizes_and_durations_have_units() {
    for (text, value) in [
        ("64MiB", Some(64 << 20)),
        ("1 GB", Some(1_000_000_000)),
        ("7", Some(7)),
        ("7B", Some(7)),
        ("-1", None),
        ("MiB", None),
        ("20000000TiB", None),
    ] {
        assert_eq!(parse(Kind::Bytes, text).ok(), value, "{text}");
    }
    for (text, value) in [
        ("10s", Some(10_000)),
        ("5m", Some(300_000)),
        ("250ms", Some(250)),
        ("9", Some(9)),
        ("5x", None),
    ] {
        assert_eq!(parse(Kind::Millis, text).ok(), value, "{text}");
    }
}

#[test]
fn the_tree_is_small_and_complete() {
    let settings = resolve(&[], &defaults()).unwrap();
    assert!(settings.entries.len() <= 60);
    assert_eq!(settings.parallelism, 3);
    assert_eq!(settings.limits, Limits::default());
    assert!(
        settings
            .entries
            .iter()
            .all(|e| !e.about.is_empty() && e.origin == Origin::Default)
    );
}

#[test]
fn state_is_kept_where_the_settings_say() {
    let state = |layers: &[Layer]| resolve(layers, &defaults()).unwrap().state;
    let plain = state(&[]);
    assert!(!plain.rocksdb);
    assert_eq!(plain.memory_bytes, 512 << 20);
    assert_eq!(plain.dir, Path::new("/cache/state"));
    let text = "[state]\nbackend = 'rocksdb'\nmemory = '64MiB'\ndir = '/fast'\n[state.rocksdb]\nblock_size = 8192\n\
                max_open_files = 100\nenable_blob_files = true";
    let set = variables(&[("PELTON_STATE__ROCKSDB__BLOCK_SIZE", "4096")]).unwrap();
    let all = [set, file("a.toml", text).unwrap()];
    let given = state(&all);
    assert!(given.rocksdb);
    assert_eq!(
        (given.memory_bytes, given.dir.as_path()),
        (64 << 20, Path::new("/fast"))
    );
    let options: Vec<_> = given
        .options
        .iter()
        .map(|(n, v)| (n.as_str(), v.as_str()))
        .collect();
    assert_eq!(
        options,
        [
            ("block_size", "4096"),
            ("enable_blob_files", "true"),
            ("max_open_files", "100")
        ]
    );
    let entries = resolve(&all, &defaults()).unwrap().entries;
    let shown = entries.iter().find(|e| e.key == "state.rocksdb.block_size");
    assert_eq!(
        shown.unwrap().origin.to_string(),
        "variable PELTON_STATE__ROCKSDB__BLOCK_SIZE"
    );
}

#[test]
fn a_choice_is_one_of_its_names() {
    let set = |key: &str, value: &str| {
        let mut flags = Flags::default();
        flags.set(key, "--flag", Some(value));
        resolve(&[of_flags(&flags)], &defaults())
    };
    assert!(set("run.mode", "batch").unwrap().batch);
    assert!(!set("run.mode", "streaming").unwrap().batch);
    let error = set("run.mode", "stream").unwrap_err();
    assert_eq!(error.message(), "setting 'run.mode' cannot be 'stream'");
    assert_eq!(error.help_text(), Some("it takes streaming or batch"));
    let error = set("state.memory", "1MiB").unwrap_err();
    assert_eq!(
        error.message(),
        "setting 'state.memory' is less than 8388608"
    );
}

#[test]
fn the_mode_of_checkpoints_has_the_time_after_which_barriers_overtake() {
    use pelton_model::barrier::BarrierMode::{Aligned, AtLeastOnce, Unaligned};
    let mode = |text: &str| {
        let layers = [file("p.toml", &format!("[checkpoint]\n{text}")).unwrap()];
        let settings = resolve(&layers, &defaults()).unwrap();
        settings.durable.checkpoints.mode
    };
    assert_eq!(mode(""), Unaligned { after_ms: 30_000 });
    let at_once = "mode = \"exactly-once\"\nalignment-timeout = \"0ms\"";
    assert_eq!(mode(at_once), Unaligned { after_ms: 0 });
    assert_eq!(
        mode("mode = \"aligned\"\nalignment-timeout = \"1s\""),
        Aligned
    );
    assert_eq!(mode("mode = \"at-least-once\""), AtLeastOnce);
}
