//! What is refused before it is compiled, and the cache of what is not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use pelton_model::ErrorCode;
use pelton_model::limits::COMPONENT_BYTES_MAX;

use super::guest::Guest;
use crate::{Runtime, RuntimeSettings, admit};

#[track_caller]
fn refused(bytes: &[u8], code: ErrorCode, word: &str) {
    let error = admit(bytes).unwrap_err();
    assert_eq!(error.code(), code, "{error}");
    assert!(error.to_string().contains(word), "{error}");
}

fn component(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

#[test]
fn files_that_are_no_components_are_told_apart() {
    let not = ErrorCode::NotAComponent;
    refused(b"", not, "empty");
    refused(b"\0asm", not, "truncated");
    refused(b"\0asm\x01\0\0\0", not, "core module");
    refused(b"\0asm\x02\0\0\0", not, "another version");
    refused(b"(component)", not, "as text");
    refused(b"fn main() {}", not, "is text");
    refused(b"\x7fELF\x02\x01", not, "program for this machine");
    refused(b"\x1f\x8b\x08", not, "archive");
    refused(b"\x80\x01\x02", not, "not WebAssembly");
    let large = vec![0; COMPONENT_BYTES_MAX + 1];
    refused(&large, ErrorCode::ComponentTooLarge, "at most");
}

#[test]
fn each_truncation_is_refused() {
    let whole = Guest::new().build();
    assert!(admit(&whole).is_ok());
    for length in (0..whole.len()).step_by(7) {
        // What is cut between the sections of names at the end is still whole.
        let Err(error) = admit(&whole[..length]) else {
            assert!(length > whole.len() * 3 / 4, "{length}");
            continue;
        };
        // A cut between two sections leaves a valid component that lacks its exports.
        assert!(
            matches!(
                error.code(),
                ErrorCode::NotAComponent | ErrorCode::WrongWorld
            ),
            "{length}: {error}"
        );
    }
    refused(
        &whole[..whole.len() / 2],
        ErrorCode::NotAComponent,
        "truncated",
    );
}

#[test]
fn damage_is_refused_or_harmless_but_never_a_panic() {
    let whole = Guest::new().build();
    for at in 8..whole.len().min(2_000) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x55;
        let _ = admit(&damaged);
    }
}

#[test]
fn another_world_is_refused_by_what_is_missing() {
    let wrong = ErrorCode::WrongWorld;
    refused(&component("(component)"), wrong, "pelton:job/graph@0.1.0");
    let newer = "(component (instance $i) (export \"pelton:job/graph@0.9.0\" (instance $i)))";
    refused(&component(newer), wrong, "version 0.9.0");
    let half = "(component (instance $i) (export \"pelton:job/graph@0.1.0\" (instance $i)))";
    refused(&component(half), wrong, "pelton:job/function@0.1.0");
}

#[test]
fn an_import_that_is_not_granted_is_named() {
    let foreign = ErrorCode::ForeignImport;
    let import = |name: &str| {
        component(&format!(
            "(component (import \"{name}\" (instance (export \"f\" (func)))))"
        ))
    };
    refused(
        &import("wasi:cli/environment@0.2.0"),
        foreign,
        "wasi:cli/environment@0.2.0",
    );
    refused(
        &import("pelton:job/clock@0.1.0"),
        foreign,
        "pelton:job/clock@0.1.0",
    );
    refused(
        &import("pelton:job/log@0.2.0"),
        ErrorCode::WrongWorld,
        "0.2.0",
    );
    let function = component("(component (import \"now\" (func)))");
    refused(&function, foreign, "imports now");
}

#[test]
fn what_is_imported_is_known() {
    let guest = Guest::new()
        .import("(import \"pelton:job/log@0.1.0\" \"write\" (func (param i32 i32 i32)))");
    let component = super::load(&guest);
    assert!(
        component
            .imports()
            .contains(&"pelton:job/log@0.1.0".to_string())
    );
    assert_eq!(component.digest_hex().len(), 64);
}

#[test]
fn functions_of_another_type_are_another_world() {
    let text = "(component
        (core module $m (func (export \"f\")))
        (core instance $c (instantiate $m))
        (func $f (canon lift (core func $c \"f\")))
        (instance $i (export \"describe\" (func $f)) (export \"open\" (func $f)))
        (export \"pelton:job/graph@0.1.0\" (instance $i))
        (export \"pelton:job/function@0.1.0\" (instance $i)))";
    let component = super::RUNTIME.load(&component(text)).unwrap();
    let error = component.describe(&[], &super::limits()).unwrap_err();
    assert_eq!(error.code(), ErrorCode::WrongWorld);
    assert!(
        error.to_string().contains("'describe' has another type"),
        "{error}"
    );
}

fn cached(dir: &Path) -> Runtime {
    Runtime::new(RuntimeSettings {
        cache_dir: Some(dir.to_path_buf()),
        instances_max: 2,
        ..RuntimeSettings::default()
    })
    .unwrap()
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    all.filter(|p| !p.ends_with("key")).collect()
}

#[test]
fn a_compiled_component_is_kept_and_a_damaged_one_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("components");
    let bytes = Guest::new().build();
    let runtime = cached(&cache);
    runtime.load(&bytes).unwrap();
    let [entry] = entries(&cache).try_into().unwrap();
    let good = fs::read(&entry).unwrap();
    for path in [&entry, &cache.join("key")] {
        assert_eq!(
            fs::metadata(path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    // The same key opens it, and nothing is written anew.
    let written = fs::metadata(&entry).unwrap().modified().unwrap();
    cached(&cache).load(&bytes).unwrap();
    assert_eq!(fs::metadata(&entry).unwrap().modified().unwrap(), written);

    // A byte of the machine code, the length, the magic: each is noticed, and the entry is made again.
    for at in [good.len() - 1, 9, 0] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&entry, &bad).unwrap();
        cached(&cache).load(&bytes).unwrap();
        assert_eq!(fs::read(&entry).unwrap().len(), good.len());
        assert_ne!(fs::read(&entry).unwrap(), bad);
    }
    fs::write(&entry, &good[..10]).unwrap();
    cached(&cache).load(&bytes).unwrap();
    assert_eq!(fs::read(&entry).unwrap().len(), good.len());
    assert_eq!(entries(&cache).len(), 1, "nothing temporary is left");
}

#[test]
fn another_users_entry_is_not_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = Guest::new().build();
    let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
    cached(&theirs).load(&bytes).unwrap();
    let [foreign] = entries(&theirs).try_into().unwrap();
    let runtime = cached(&ours);
    let planted = ours.join(foreign.file_name().unwrap());
    fs::copy(&foreign, &planted).unwrap();
    runtime.load(&bytes).unwrap();
    assert_ne!(
        fs::read(&planted).unwrap()[16..48],
        fs::read(&foreign).unwrap()[16..48],
        "the entry was made again under our key"
    );
}

#[test]
fn a_folder_that_others_can_write_to_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("open");
    fs::create_dir(&cache).unwrap();
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o777)).unwrap();
    cached(&cache).load(&Guest::new().build()).unwrap();
    assert!(entries(&cache).is_empty());
}

#[test]
fn a_damaged_key_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("components");
    let bytes = Guest::new().build();
    cached(&cache).load(&bytes).unwrap();
    fs::write(cache.join("key"), b"short").unwrap();
    cached(&cache).load(&bytes).unwrap();
    assert_eq!(fs::read(cache.join("key")).unwrap().len(), 32);
}
