//! The architecture as a test: the arrows between rooms, the one room of each heavy technology, the README's map.
//!
//! Needs: std and the repository's text. Invariant: reads manifests and sources as text, so that a broken rule is
//! named even where nothing compiles. Refuses: taste; a rule that needs judgement is not here.
//!
//! A new crate or engine module that fails here wants a row in the tables below, in a change of its own.

#[path = "tidy/repository.rs"]
mod repository;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use repository::{
    Member, dependencies, entries, files, has_word, imports, members, named_modules, read, root,
    shown, without_tests,
};

/// Which of our crates a crate may depend on, by folder.
const CRATE_ARROWS: [(&str, &[&str]); 16] = [
    ("host/model", &[]),
    ("host/engine", &["pelton-model"]),
    ("host/control", &["pelton-model"]),
    ("host/state", &["pelton-model", "pelton-engine"]),
    ("host/blob", &["pelton-model"]),
    ("host/udf", &["pelton-model", "pelton-engine"]),
    ("host/sql", &["pelton-model", "pelton-engine"]),
    ("host/connect", &["pelton-model", "pelton-engine"]),
    (
        "host/net",
        &["pelton-model", "pelton-engine", "pelton-control"],
    ),
    (
        "host/node",
        &[
            "pelton-model",
            "pelton-engine",
            "pelton-control",
            "pelton-state",
            "pelton-blob",
            "pelton-udf",
            "pelton-sql",
            "pelton-connect",
            "pelton-net",
            // `pelton bench` alone, behind its feature: the same functions without Wasm.
            "pelton",
        ],
    ),
    ("sdk/rust", &["pelton-macros"]),
    ("sdk/macros", &[]),
    // It drives the real binary and may borrow the host's pure values to say what it expects.
    ("tests/it", &["pelton-model"]),
    // The real tasks and the real coordinator in a simulated world.
    (
        "tests/sim",
        &["pelton-model", "pelton-engine", "pelton-control"],
    ),
    // It is the product with a hook that kills it, and what starts it again.
    ("tests/chaos", &["pelton-node", "pelton-model"]),
    ("tests/xtask", &[]),
];

/// The one crate that may name a heavy technology: every dependency with that name, or with that name and a dash.
const HEAVY: [(&str, &str); 9] = [
    ("wasmtime", "host/udf"),
    ("rocksdb", "host/state"),
    ("object_store", "host/blob"),
    ("datafusion", "host/sql"),
    ("tonic", "host/net"),
    ("prost", "host/net"),
    ("rdkafka", "host/connect"),
    ("wit-component", "host/node"),
    ("clap", "host/node"),
];

/// Levels inside `engine`: a module imports only what stands lower; siblings do not know each other. Modules without a
/// row are helpers: they stand where they like, as long as no circle closes.
const ENGINE_LEVELS: [(&str, u32); 11] = [
    ("function", 0),
    ("state", 1),
    ("timer", 2),
    ("connector", 2),
    ("operator", 3),
    ("operators", 4),
    ("align", 4),
    ("shuffle", 4),
    ("chain", 5),
    ("task", 6),
    ("build", 7),
];

/// What the levels alone would allow: a chain knows its operators as `dyn Operator`, never by name.
const ENGINE_STRANGERS: [(&str, &str); 1] = [("chain", "operators")];

/// The same inside `control`.
const CONTROL_LEVELS: [(&str, u32); 7] = [
    ("tenant", 0),
    ("upgrade", 0),
    ("execution", 0),
    ("scheduler", 1),
    ("checkpoint", 1),
    ("failover", 2),
    ("job", 3),
];

const LINES_MAX: usize = 700;

// ---- manifests

#[test]
fn crates_follow_the_arrows() {
    let ours: BTreeSet<String> = members().iter().map(|member| member.name.clone()).collect();
    let arrows: BTreeMap<_, _> = CRATE_ARROWS.into_iter().collect();
    let mut faults = Vec::new();
    for member in members() {
        let Some(allowed) = arrows.get(member.folder.as_str()) else {
            faults.push(format!("{} has no row in CRATE_ARROWS", member.folder));
            continue;
        };
        for dependency in &member.dependencies {
            if ours.contains(&dependency.name) && !allowed.contains(&dependency.name.as_str()) {
                faults.push(format!(
                    "{} must not depend on {}",
                    member.folder, dependency.name
                ));
            }
        }
    }
    none(&faults);
}

#[test]
fn each_heavy_technology_has_one_room() {
    let mut faults = Vec::new();
    for member in members() {
        for dependency in member
            .dependencies
            .iter()
            .filter(|dependency| !dependency.dev)
        {
            for (heavy, room) in HEAVY {
                let is_it =
                    dependency.name == heavy || dependency.name.starts_with(&format!("{heavy}-"));
                if is_it && member.folder != room {
                    faults.push(format!(
                        "{} depends on {}: only {room} may",
                        member.folder, dependency.name
                    ));
                }
            }
        }
    }
    none(&faults);
}

#[test]
fn lints_and_versions_come_from_the_workspace() {
    let mut faults = Vec::new();
    for member in members() {
        // The SDK is unpacked outside the workspace, so that its manifests say everything themselves.
        let alone = member.folder.starts_with("sdk/");
        let text = read(&root().join(&member.folder).join("Cargo.toml"));
        let inherits = entries(&text).any(|entry| entry == ("lints", "workspace", "true"));
        let own = entries(&text).any(|(section, ..)| section == "lints.rust");
        if alone && (inherits || !own) {
            faults.push(format!("{} has no lints of its own", member.folder));
        }
        if !alone && !inherits {
            faults.push(format!(
                "{} does not inherit the workspace's lints",
                member.folder
            ));
        }
        for dependency in &member.dependencies {
            if alone && dependency.inherited {
                faults.push(format!(
                    "{}: {} is inherited, but the SDK stands alone",
                    member.folder, dependency.name
                ));
            }
            if !alone && !dependency.inherited {
                faults.push(format!(
                    "{}: {} is not pinned in the root",
                    member.folder, dependency.name
                ));
            }
        }
    }
    none(&faults);
}

#[test]
fn the_root_pins_every_dependency() {
    let text = read(&root().join("Cargo.toml"));
    let pins = entries(&text).filter(|(section, ..)| *section == "workspace.dependencies");
    let loose = pins.filter(|(_, _, value)| {
        let is_version = value.starts_with('"') && !value.contains('*');
        !(is_version || value.contains("version = ") || value.contains("path = "))
    });
    let faults: Vec<_> = loose
        .map(|(_, name, _)| format!("{name} has neither a version nor a path"))
        .collect();
    none(&faults);
}

#[test]
fn the_workspace_lists_every_crate() {
    let text = read(&root().join("Cargo.toml"));
    let faults: Vec<_> = members()
        .iter()
        .filter(|member| !text.contains(&format!("\"{}\"", member.folder)))
        .map(|member| format!("{} is not a member of the workspace", member.folder))
        .collect();
    none(&faults);
}

// ---- modules

#[test]
fn modules_of_the_engine_follow_their_arrows() {
    let imports = imports(&root().join("host/engine/src"));
    let mut faults = level_faults(&imports, &ENGINE_LEVELS);
    for (module, stranger) in ENGINE_STRANGERS {
        if imports
            .get(module)
            .is_some_and(|used| used.contains(stranger))
        {
            faults.push(format!("{module} must not import {stranger}"));
        }
    }
    none(&faults);
}

#[test]
fn modules_of_control_follow_their_arrows() {
    none(&level_faults(
        &imports(&root().join("host/control/src")),
        &CONTROL_LEVELS,
    ));
}

fn level_faults(
    imports: &BTreeMap<String, BTreeSet<String>>,
    levels: &[(&str, u32)],
) -> Vec<String> {
    let level = |module: &str| {
        levels
            .iter()
            .find(|(name, _)| *name == module)
            .map(|(_, level)| *level)
    };
    let mut faults = Vec::new();
    for (module, used) in imports {
        for other in used {
            match (level(module), level(other)) {
                (Some(own), Some(theirs)) if theirs >= own => {
                    faults.push(format!("{module} must not import {other}"))
                }
                (None, Some(_)) if other == "task" || other == "job" => {
                    faults.push(format!(
                        "{module} must not import {other}: a helper stands below it"
                    ));
                }
                _ => {}
            }
        }
    }
    faults.extend(
        circle(imports).map(|circle| format!("modules import each other: {}", circle.join(" -> "))),
    );
    faults
}

/// The first circle of imports, if there is one.
fn circle(imports: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    fn walk(
        at: &str,
        imports: &BTreeMap<String, BTreeSet<String>>,
        path: &mut Vec<String>,
        done: &mut BTreeSet<String>,
    ) -> bool {
        let on_path = path.iter().any(|module| module == at);
        path.push(at.to_owned());
        if on_path {
            return true;
        }
        if !done.contains(at)
            && imports
                .get(at)
                .into_iter()
                .flatten()
                .any(|next| walk(next, imports, path, done))
        {
            return true;
        }
        path.pop();
        done.insert(at.to_owned());
        false
    }
    let mut done = BTreeSet::new();
    imports.keys().find_map(|start| {
        let mut path = Vec::new();
        walk(start, imports, &mut path, &mut done).then_some(path)
    })
}

// ---- sources

#[test]
fn files_stay_readable_in_one_sitting() {
    let mut faults = Vec::new();
    for file in files(&["host", "sdk"], &["rs"]) {
        let lines = without_tests(&file, &read(&file)).lines().count();
        if lines > LINES_MAX {
            faults.push(format!(
                "{}: {lines} lines without tests, at most {LINES_MAX}",
                shown(&file)
            ));
        }
    }
    none(&faults);
}

#[test]
fn every_file_opens_by_saying_what_it_is() {
    let mut faults = Vec::new();
    for file in files(&["host", "sdk", "tests"], &["rs"]) {
        let text = read(&file);
        let is_tests = without_tests(&file, &text).is_empty();
        if !is_tests
            && !text.trim_start().starts_with("//!")
            && !shown(&file).starts_with("sdk/templates")
        {
            faults.push(format!("{} does not begin with `//!`", shown(&file)));
        }
    }
    none(&faults);
}

#[test]
fn nothing_is_left_for_later() {
    // In two halves each, or this file would find itself.
    let marks = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
        concat!("to", "do!("),
        concat!("unimplemented", "!("),
    ];
    let mut faults = Vec::new();
    for file in files(
        &["host", "sdk", "tests", "wit", "guest-examples"],
        &["rs", "toml", "wit", "md"],
    ) {
        let text = read(&file);
        for (number, line) in text.lines().enumerate() {
            if marks.iter().any(|mark| has_word(line, mark)) {
                faults.push(format!("{}:{}: {}", shown(&file), number + 1, line.trim()));
            }
        }
    }
    none(&faults);
}

// ---- the README

#[test]
fn the_readmes_map_is_the_territory() {
    // The map begins to bind on the day there is one.
    let Ok(readme) = fs::read_to_string(root().join("README.md")) else {
        return;
    };
    none(&map_faults(&readme, &members(), &|path| {
        root().join(path).exists()
    }));
}

/// A path is a word that begins with one of our folders; every crate is named, and every path named exists.
fn map_faults(readme: &str, members: &[Member], exists: &dyn Fn(&str) -> bool) -> Vec<String> {
    let is_path = |char: char| char.is_ascii_alphanumeric() || "/_-.".contains(char);
    let words = readme
        .split(|char| !is_path(char))
        .map(|word| word.trim_end_matches(['.', '/']));
    let folders = ["host/", "sdk/", "tests/", "guest-examples/", "wit/"];
    let paths: BTreeSet<&str> = words
        .filter(|word| folders.iter().any(|folder| word.starts_with(folder)))
        .collect();
    let missing = paths
        .iter()
        .filter(|path| !exists(path))
        .map(|path| format!("README.md names {path}: there is none"));
    let unnamed = members
        .iter()
        .filter(|member| !paths.contains(member.folder.as_str()));
    let unnamed = unnamed.map(|member| format!("README.md does not name {}", member.folder));
    missing.chain(unnamed).collect()
}

#[track_caller]
fn none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

// ---- the rules themselves, tried on texts that break them

#[test]
fn a_dependency_is_read_in_each_of_its_spellings() {
    let manifest = "[dependencies]\na.workspace = true\nb = { workspace = true, features = [] }\nc = \"1\"\n\
        [dev-dependencies]\nd = { version = \"1\" }\n[target.'cfg(unix)'.dependencies.e]\nworkspace = true\nfeatures = []";
    let found: Vec<_> = dependencies(manifest)
        .into_iter()
        .map(|found| (found.name, found.inherited, found.dev))
        .collect();
    let expected = [
        ("a", true, false),
        ("b", true, false),
        ("c", false, false),
        ("d", false, true),
        ("e", true, false),
    ];
    assert_eq!(
        found,
        expected.map(|(name, inherited, dev)| (name.to_owned(), inherited, dev))
    );
}

#[test]
fn every_spelling_of_an_import_is_seen() {
    let text = "use crate::state::Heap;\nuse crate::{timer::{Timers, task}, operator};\nfn f(_: &super::chain::Chain) {}\n\
        // crate::comment\npub(crate) fn g() { $crate::hidden() }\nuse super::super::deeper;";
    let expected = ["chain", "operator", "state", "timer"];
    assert_eq!(named_modules(text, 1), expected.map(str::to_owned).into());
    assert!(named_modules("use super::super::shuffle;", 2).contains("shuffle"));
    assert!(!named_modules("use super::sibling;", 2).contains("sibling"));
}

#[test]
fn an_arrow_upwards_a_sibling_and_a_circle_are_faults() {
    let import = |pairs: &[(&str, &str)]| {
        let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (module, other) in pairs {
            imports
                .entry((*module).to_owned())
                .or_default()
                .insert((*other).to_owned());
        }
        level_faults(&imports, &ENGINE_LEVELS)
    };
    assert!(
        import(&[
            ("timer", "state"),
            ("task", "chain"),
            ("chain", "operator"),
            ("helper", "state")
        ])
        .is_empty()
    );
    assert_eq!(
        import(&[("state", "timer")]),
        ["state must not import timer"]
    );
    assert_eq!(
        import(&[("operators", "shuffle")]),
        ["operators must not import shuffle"]
    );
    assert_eq!(
        import(&[("helper", "task")]),
        ["helper must not import task: a helper stands below it"]
    );
    assert_eq!(
        import(&[("a", "b"), ("b", "c"), ("c", "a")]),
        ["modules import each other: a -> b -> c -> a"]
    );
}

#[test]
fn a_map_with_a_hole_or_a_ghost_is_a_fault() {
    let member = |folder: &str| Member {
        folder: folder.to_owned(),
        name: String::new(),
        dependencies: Vec::new(),
    };
    let members = [member("host/model"), member("sdk/rust")];
    let exists = |path: &str| ["host/model", "sdk/rust", "host/model/src/key.rs"].contains(&path);
    assert!(
        map_faults(
            "| `host/model/` | values |\n    sdk/rust, host/model/src/key.rs.",
            &members,
            &exists
        )
        .is_empty()
    );
    let faults = map_faults("see host/model and host/ghost", &members, &exists);
    assert_eq!(
        faults,
        [
            "README.md names host/ghost: there is none",
            "README.md does not name sdk/rust"
        ]
    );
}

#[test]
fn a_mark_inside_a_word_is_none() {
    let mark = concat!("XX", "X");
    assert!(has_word(&format!("// {mark}: later"), mark));
    assert!(!has_word(&format!("mktemp {mark}{mark}"), mark));
}
