//! What every kind of store has to do, as one suite of tests.
//! Needs: a store, empty or with a prefix of its own. Refuses: what a single kind does besides.

use std::sync::{Arc, Barrier};

use pelton_model::ErrorCode;
use pelton_model::blob::{BlobInfo, Blobs, PutNew};

use crate::Settings;

/// All of it.
pub(crate) fn check(store: &Arc<dyn Blobs>) {
    objects_come_back(&**store);
    ranges_end_where_the_object_ends(&**store);
    missing_objects_are_not_found(&**store);
    of_two_new_ones_the_first_stays(&**store);
    of_many_at_once_one_creates(store);
    many_write_side_by_side(store);
    listings_go_by_whole_parts(&**store);
    files_go_there_and_back(&**store);
    names_that_lead_elsewhere_are_refused(&**store);
}

fn objects_come_back(store: &dyn Blobs) {
    for bytes in [&b""[..], b"x", &[7; 100_000]] {
        store.put("o/a", bytes).unwrap();
        assert_eq!(store.get("o/a").unwrap(), bytes);
        let mut read = Vec::new();
        store.read("o/a").unwrap().read_to_end(&mut read).unwrap();
        assert_eq!(read, bytes);
    }
    let odd = "o/ü & %41+?#=~ 'q'.x";
    store.put(odd, b"odd").unwrap();
    assert_eq!(store.get(odd).unwrap(), b"odd");
    assert!(store.list("o").unwrap().iter().any(|info| info.name == odd));
    store.delete(odd).unwrap();
    store.delete("o/a").unwrap();
    store.delete("o/a").unwrap();
    assert_eq!(store.list("o").unwrap(), []);
}

fn ranges_end_where_the_object_ends(store: &dyn Blobs) {
    store.put("r/a", b"0123456789").unwrap();
    for (offset, length, expected) in [
        (0, 10, "0123456789"),
        (3, 4, "3456"),
        (8, 100, "89"),
        (0, u64::MAX, "0123456789"),
        (9, u64::MAX, "9"),
        (10, 5, ""),
        (11, 5, ""),
        (u64::MAX, 5, ""),
        (3, 0, ""),
    ] {
        let got = store.get_range("r/a", offset, length).unwrap();
        assert_eq!(got, expected.as_bytes(), "{offset} {length}");
    }
    store.put("r/empty", b"").unwrap();
    assert_eq!(store.get_range("r/empty", 0, 5).unwrap(), b"");
}

fn missing_objects_are_not_found(store: &dyn Blobs) {
    store.put("m/there/x", b"x").unwrap();
    let folder = tempfile::tempdir().unwrap();
    for name in ["m/a", "none", "m/there", "m/there/x/below"] {
        let not_found = |got: Result<_, pelton_model::Error>| {
            assert_eq!(
                got.err().map(|e| e.code()),
                Some(ErrorCode::NotFound),
                "{name}"
            );
        };
        not_found(store.get(name).map(drop));
        not_found(store.get_range(name, 0, 1).map(drop));
        not_found(store.get_range(name, 0, 0).map(drop));
        not_found(store.read(name).map(drop));
        not_found(store.get_file(name, &folder.path().join("f")));
        store.delete(name).unwrap();
    }
    assert_eq!(store.get("m/there/x").unwrap(), b"x");
    assert_eq!(store.list("nothing/here").unwrap(), []);
}

fn of_two_new_ones_the_first_stays(store: &dyn Blobs) {
    assert_eq!(store.put_new("n/1", b"first").unwrap(), PutNew::Created);
    assert_eq!(store.put_new("n/1", b"second").unwrap(), PutNew::Exists);
    assert_eq!(store.get("n/1").unwrap(), b"first");
    store.put("n/1", b"third").unwrap();
    assert_eq!(store.get("n/1").unwrap(), b"third");
    store.delete("n/1").unwrap();
    assert_eq!(store.put_new("n/1", b"").unwrap(), PutNew::Created);
}

/// Not with retries: after a reply that was lost, equal bytes are taken for our own.
fn equal_bytes_are_no_exception(store: &dyn Blobs) {
    assert_eq!(store.put_new("e/1", b"x").unwrap(), PutNew::Created);
    assert_eq!(store.put_new("e/1", b"x").unwrap(), PutNew::Exists);
}

fn of_many_at_once_one_creates(store: &Arc<dyn Blobs>) {
    for round in 0..5 {
        let name = format!("race/{round}");
        let created = at_once(8, |thread| {
            store
                .put_new(&name, format!("thread {thread}").as_bytes())
                .unwrap()
                == PutNew::Created
        });
        let winners: Vec<_> = (0..8).filter(|thread| created[*thread]).collect();
        assert_eq!(winners.len(), 1, "{winners:?}");
        let bytes = store.get(&name).unwrap();
        assert_eq!(bytes, format!("thread {}", winners[0]).as_bytes());
    }
}

fn many_write_side_by_side(store: &Arc<dyn Blobs>) {
    // Each writes into a folder that another may just have emptied.
    at_once(4, |thread| {
        for round in 0..10 {
            let name = format!("side/by/{}/{thread}", round % 2);
            store.put(&name, name.as_bytes()).unwrap();
            assert_eq!(store.get(&name).unwrap(), name.as_bytes());
            store.delete(&name).unwrap();
        }
    });
    assert_eq!(store.list("side").unwrap(), []);
}

fn listings_go_by_whole_parts(store: &dyn Blobs) {
    for name in ["l/b/2", "l/b/10", "l/bc", "l/b-c/1", "l/a", "lx"] {
        store.put(name, name.as_bytes()).unwrap();
    }
    let names = |prefix: &str| -> Vec<String> {
        let listed = store.list(prefix).unwrap();
        listed.into_iter().map(|info| info.name).collect()
    };
    assert_eq!(names("l"), ["l/a", "l/b-c/1", "l/b/10", "l/b/2", "l/bc"]);
    assert_eq!(names("l/b"), ["l/b/10", "l/b/2"]);
    assert_eq!(names("l/b/"), ["l/b/10", "l/b/2"]);
    assert!(names("").contains(&"lx".to_owned()));
    let info = BlobInfo {
        name: "l/b/10".to_owned(),
        length: 6,
    };
    assert_eq!(store.list("l/b").unwrap()[0], info);
}

fn files_go_there_and_back(store: &dyn Blobs) {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    // The largest is several parts of an object store.
    for length in [0, 1, 100_000, 12 << 20] {
        let bytes: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
        let _ = std::fs::remove_file(&from);
        std::fs::write(&from, &bytes).unwrap();
        store.put_file("f/a", &from).unwrap();
        // Twice under one name, over itself.
        store.put_file("f/a", &from).unwrap();
        store.get_file("f/a", &to).unwrap();
        store.get_file("f/a", &to).unwrap();
        assert!(std::fs::read(&to).unwrap() == bytes, "{length}");
        assert!(store.get("f/a").unwrap() == bytes, "{length}");
        assert_eq!(store.list("f").unwrap().len(), 1);
        // Replacing one of them leaves the other alone.
        std::fs::remove_file(&to).unwrap();
        std::fs::write(&to, b"something else").unwrap();
        assert_eq!(
            store.get_range("f/a", 0, 3).unwrap(),
            bytes[..length.min(3)]
        );
        store.get_file("f/a", &to).unwrap();
        store.put("f/a", b"new").unwrap();
        assert!(std::fs::read(&to).unwrap() == bytes && std::fs::read(&from).unwrap() == bytes);
    }
    let e = store
        .put_file("f/b", &folder.path().join("none"))
        .unwrap_err();
    assert_eq!(e.code(), ErrorCode::Io);
    assert!(
        e.message().contains("none") && e.message().contains("No such file"),
        "{e}"
    );
    assert_eq!(store.get("f/b").unwrap_err().code(), ErrorCode::NotFound);
}

fn names_that_lead_elsewhere_are_refused(store: &dyn Blobs) {
    for name in [
        "",
        "/etc/passwd",
        "../up",
        "a/../../up",
        "a/",
        "a//b",
        ".tmp-1",
    ] {
        let refused = |got: Result<_, pelton_model::Error>| {
            assert_eq!(
                got.err().map(|e| e.code()),
                Some(ErrorCode::StoreFailed),
                "{name}"
            );
        };
        let local = std::env::temp_dir().join("pelton-blob-never-made");
        refused(store.put(name, b"x"));
        refused(store.put_new(name, b"x").map(drop));
        refused(store.put_file(name, &local));
        refused(store.get(name).map(drop));
        refused(store.get_range(name, 0, 1).map(drop));
        refused(store.read(name).map(drop));
        refused(store.get_file(name, &local));
        refused(store.delete(name));
        if !name.trim_end_matches('/').is_empty() && name != "a/" {
            refused(store.list(name).map(drop));
        }
    }
}

/// Runs `work` in so many threads that begin together.
fn at_once<T: Send>(threads: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let begin = Barrier::new(threads);
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|thread| {
                let (begin, work) = (&begin, &work);
                scope.spawn(move || {
                    begin.wait();
                    work(thread)
                })
            })
            .collect();
        running.into_iter().map(|t| t.join().unwrap()).collect()
    })
}

#[test]
fn a_folder_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("made/by/the/first/write");
    let url = format!("file://{}", root.display());
    let store = crate::open(&url, &Settings::default()).unwrap();
    assert_eq!(store.list("").unwrap(), []);
    assert!(!root.exists());
    check(&store);
    equal_bytes_are_no_exception(&*store);
}

#[test]
fn memory_keeps_the_contract() {
    let open = |url| crate::open(url, &Settings::default()).unwrap();
    let store = open("memory://contract");
    check(&store);
    equal_bytes_are_no_exception(&*store);
    assert_eq!(open("memory://contract").get("e/1").unwrap(), b"x");
    assert_eq!(open("memory://another").list("").unwrap(), []);
}

#[test]
fn settings_show_no_secrets() {
    let settings = Settings {
        options: vec![("aws_secret_access_key".to_owned(), "canary".to_owned())],
        ..Settings::default()
    };
    let shown = format!("{settings:?}");
    assert!(
        shown.contains("aws_secret_access_key") && !shown.contains("canary"),
        "{shown}"
    );
}

#[cfg(feature = "azure")]
mod azure;
#[cfg(feature = "s3")]
mod s3;
