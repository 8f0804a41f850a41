//! Reading the repository as text: manifests, the modules that sources name, files.
//!
//! Needs: std. Knows of TOML and Rust only what this repository's own files use.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

// ---- reading manifests

#[derive(Debug)]
pub(crate) struct Member {
    /// Relative to the root, as `host/model`.
    pub(crate) folder: String,
    pub(crate) name: String,
    pub(crate) dependencies: Vec<Dependency>,
}

#[derive(Debug)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// The version is the workspace's.
    pub(crate) inherited: bool,
    pub(crate) dev: bool,
}

pub(crate) fn members() -> Vec<Member> {
    let mut members = Vec::new();
    for room in ["host", "sdk", "tests"] {
        for folder in listed(&root().join(room)) {
            let manifest = folder.join("Cargo.toml");
            if manifest.is_file() {
                members.push(member(shown(&folder), &read(&manifest)));
            }
        }
    }
    assert!(
        members.len() >= 5,
        "the crates were not found: is {} the root?",
        root().display()
    );
    members
}

fn member(folder: String, manifest: &str) -> Member {
    let name = entries(manifest).find(|(section, key, _)| *section == "package" && *key == "name");
    let name = name.map_or(String::new(), |(_, _, value)| {
        value.trim_matches('"').to_owned()
    });
    Member {
        folder,
        name,
        dependencies: dependencies(manifest),
    }
}

/// Every dependency of the manifest, whichever of TOML's three ways it is written in.
pub(crate) fn dependencies(manifest: &str) -> Vec<Dependency> {
    let mut found: Vec<Dependency> = Vec::new();
    for (section, key, value) in entries(manifest) {
        let Some(at) = section.find("dependencies") else {
            continue;
        };
        let dev = section.get(..at).is_some_and(|kind| kind.ends_with("dev-"));
        let table = section
            .get(at..)
            .and_then(|rest| rest.strip_prefix("dependencies."));
        let (name, field) = match table {
            Some(name) => (name, key),
            None => key.split_once('.').unwrap_or((key, "")),
        };
        let inherited =
            (field == "workspace" && value == "true") || value.contains("workspace = true");
        let name = name.trim_matches('"').to_owned();
        match found
            .iter_mut()
            .find(|known| known.name == name && known.dev == dev)
        {
            Some(known) => known.inherited |= inherited,
            None => found.push(Dependency {
                name,
                inherited,
                dev,
            }),
        }
    }
    found
}

/// `(section, key, value)` of each entry. Values over several lines give their first; none of ours needs more.
pub(crate) fn entries(text: &str) -> impl Iterator<Item = (&str, &str, &str)> {
    let mut section = "";
    text.lines().filter_map(move |line| {
        let line = line.trim();
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
        {
            section = name.trim_matches(['[', ']']);
            return None;
        }
        let (key, value) = line.split_once('=')?;
        (!line.starts_with('#')).then_some((section, key.trim(), value.trim()))
    })
}

// ---- reading sources

/// For each top-level module of a crate, the other top-level modules that its files name.
pub(crate) fn imports(source: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut texts = Vec::new();
    for file in files_below(source, &["rs"]) {
        let relative = file
            .strip_prefix(source)
            .unwrap_or(&file)
            .with_extension("");
        let mut path: Vec<String> = relative
            .iter()
            .map(|part| part.to_string_lossy().into_owned())
            .collect();
        path.retain(|part| part != "mod");
        if path != ["lib"] && path != ["main"] {
            texts.push((path, without_tests(&file, &read(&file)).to_owned()));
        }
    }
    let modules: BTreeSet<String> = texts
        .iter()
        .filter_map(|(path, _)| path.first().cloned())
        .collect();
    for (path, text) in texts {
        let Some(module) = path.first() else { continue };
        let named = named_modules(&text, path.len());
        let others = named
            .into_iter()
            .filter(|other| other != module && modules.contains(other));
        imports.entry(module.clone()).or_default().extend(others);
    }
    imports
}

/// First names after `crate::`, or after as many `super::` as lead to the crate's root from `depth` modules down.
pub(crate) fn named_modules(text: &str, depth: usize) -> BTreeSet<String> {
    let code: String = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n");
    let mut named = BTreeSet::new();
    for prefix in ["crate::".to_owned(), "super::".repeat(depth)] {
        for (at, _) in code.match_indices(&prefix) {
            let before = code.get(..at).unwrap_or_default();
            // `$crate::`, `pub(crate)` and a longer chain of `super` are something else.
            if before.ends_with(|char: char| char.is_alphanumeric() || "_$:".contains(char)) {
                continue;
            }
            let rest = code.get(at + prefix.len()..).unwrap_or_default();
            match rest.strip_prefix('{') {
                Some(group) => named.extend(heads(group)),
                None => named.extend(identifier(rest)),
            }
        }
    }
    // The rest of a longer chain of `super` stays inside the module.
    named.remove("super");
    named
}

/// The first name of each member of a `{a, b::c, d::{e, f}}` group, given from behind its opening brace.
fn heads(group: &str) -> Vec<String> {
    let (mut depth, mut heads, mut is_head) = (0_u32, Vec::new(), true);
    let mut rest = group;
    while let Some(char) = rest.chars().next() {
        if depth == 0 && is_head && (char.is_alphabetic() || char == '_') {
            heads.extend(identifier(rest));
            is_head = false;
        }
        match char {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => is_head = true,
            _ => {}
        }
        rest = rest.get(char.len_utf8()..).unwrap_or_default();
    }
    heads
}

fn identifier(text: &str) -> Option<String> {
    let name: String = text
        .chars()
        .take_while(|char| char.is_alphanumeric() || *char == '_')
        .collect();
    (!name.is_empty()).then_some(name)
}

/// The text up to its test module; nothing of a file that is one.
pub(crate) fn without_tests<'a>(file: &Path, text: &'a str) -> &'a str {
    let below_tests = file
        .ancestors()
        .any(|folder| folder.file_name().is_some_and(|name| name == "tests"));
    let inside_a_crate = shown(file).starts_with("host/") || shown(file).starts_with("sdk/");
    if file.ends_with("tests.rs") || (below_tests && inside_a_crate) {
        return "";
    }
    let at = text.find("#[cfg(test)]\nmod ").unwrap_or(text.len());
    text.get(..at).unwrap_or(text)
}

pub(crate) fn has_word(line: &str, word: &str) -> bool {
    let is_part = |char: char| char.is_alphanumeric() || char == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).unwrap_or_default();
        let after = line.get(at + word.len()..).unwrap_or_default();
        !before.ends_with(is_part) && (word.ends_with('(') || !after.starts_with(is_part))
    })
}

// ---- files

pub(crate) fn root() -> PathBuf {
    let manifest_dir = std::env::var("CARGO_MANIFEST_DIR")
        .unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
    Path::new(&manifest_dir)
        .ancestors()
        .nth(2)
        .unwrap_or(Path::new("/"))
        .to_owned()
}

pub(crate) fn files(rooms: &[&str], extensions: &[&str]) -> Vec<PathBuf> {
    rooms
        .iter()
        .flat_map(|room| files_below(&root().join(room), extensions))
        .collect()
}

fn files_below(folder: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in listed(folder) {
        if entry.is_dir() {
            if !entry.ends_with("target") {
                found.extend(files_below(&entry, extensions));
            }
        } else if entry
            .extension()
            .is_some_and(|extension| extensions.iter().any(|wanted| extension == *wanted))
        {
            found.push(entry);
        }
    }
    found
}

fn listed(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<_> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    entries.sort();
    entries
}

pub(crate) fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

pub(crate) fn shown(file: &Path) -> String {
    file.strip_prefix(root())
        .unwrap_or(file)
        .display()
        .to_string()
}
