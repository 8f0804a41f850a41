//! What a folder does besides the contract: the order of syncs, refusals of the system, leftovers of the dead.

use std::os::unix::fs::{MetadataExt, symlink};
use std::process::Command;
use std::sync::Arc;

use super::*;
use crate::faults::{Faults, Faulty};
use crate::{Pace, RetryPolicy, Retrying};

const ENOSPC: i32 = 28;
const EIO: i32 = 5;
const ESTALE: i32 = 116;

fn store() -> (tempfile::TempDir, Folder) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    fs::create_dir(&root).unwrap();
    (folder, Folder::open(root).unwrap())
}

#[test]
fn a_new_object_is_synced_before_and_after_it_has_its_name() {
    let (outer, store) = store();
    let above = outer
        .path()
        .file_name()
        .unwrap()
        .to_string_lossy()
        .into_owned();
    store.put_new("log/1", b"x").unwrap();
    assert_eq!(
        store.disk.seam.take(),
        [
            "CreateFolder root",
            &format!("SyncFolder {above}"),
            "CreateFolder log",
            "SyncFolder root",
            "CreateFile tmp",
            "Write tmp",
            "SyncFile tmp",
            "Link 1",
            "SyncFolder log",
        ]
    );
    // The folders above are known now. Of an object that is there the name may not be synced yet: its writer is at it.
    assert_eq!(store.put_new("log/1", b"y").unwrap(), PutNew::Exists);
    let steps = [
        "CreateFile tmp",
        "Write tmp",
        "SyncFile tmp",
        "Link 1",
        "SyncFolder log",
    ];
    assert_eq!(store.disk.seam.take(), steps);
    store.put("log/1", b"y").unwrap();
    let steps = [
        "CreateFile tmp",
        "Write tmp",
        "SyncFile tmp",
        "Rename 1",
        "SyncFolder log",
    ];
    assert_eq!(store.disk.seam.take(), steps);
}

#[test]
fn a_file_becomes_an_object_by_a_link_and_back() {
    let (outer, store) = store();
    let (from, to) = (outer.path().join("from"), outer.path().join("to"));
    fs::write(&from, b"sst").unwrap();
    store.put("warm", b"").unwrap();
    store.disk.seam.take();
    store.put_file("sst", &from).unwrap();
    let steps = ["SyncFile from", "Link tmp", "Rename sst", "SyncFolder root"];
    assert_eq!(store.disk.seam.take(), steps);
    store.get_file("sst", &to).unwrap();
    let number = |path: &Path| fs::metadata(path).unwrap().ino();
    assert_eq!(number(&from), number(&to));
    // The same file over itself leaves no second name behind.
    store.put_file("sst", &from).unwrap();
    assert_eq!(Disk::links(&from).unwrap(), 3);
    assert_eq!(fs::read_dir(&store.root).unwrap().count(), 2);
    // Without links, and from a symbolic link, it is copied.
    store.disk.seam.refuse_links();
    store.disk.seam.take();
    store.put_file("copy", &from).unwrap();
    let copied = [
        "CreateFile tmp",
        "Write tmp",
        "SyncFile tmp",
        "Rename copy",
        "SyncFolder root",
    ];
    assert_eq!(store.disk.seam.take()[2..], copied);
    let way = outer.path().join("way");
    symlink(&from, &way).unwrap();
    store.put_file("way", &way).unwrap();
    for name in ["copy", "way"] {
        let kept = store.root.join(name);
        assert_ne!(number(&from), number(&kept));
        assert!(fs::symlink_metadata(kept).unwrap().is_file());
        assert_eq!(store.get(name).unwrap(), b"sst");
    }
    let e = store.put_file("folder", outer.path()).unwrap_err();
    assert_eq!(e.code(), ErrorCode::Io);
}

#[test]
fn each_step_that_fails_leaves_the_old_or_the_new_and_nothing_else() {
    type Write = fn(&Folder, &Path) -> Result<()>;
    let writes: [Write; 3] = [
        |store, _| store.put("a/b", b"new"),
        |store, _| store.put_new("a/b", b"new").map(drop),
        |store, file| store.put_file("a/b", file),
    ];
    for (errno, code, words) in [
        (ENOSPC, ErrorCode::StoreFailed, "No space left on device"),
        (EIO, ErrorCode::StoreFailed, "Input/output error"),
        (ESTALE, ErrorCode::StoreUnavailable, "Stale file handle"),
    ] {
        for (number, write) in writes.iter().enumerate() {
            let mut failed = 0;
            for step in 0.. {
                let (outer, store) = store();
                let file = outer.path().join("file");
                fs::write(&file, b"new").unwrap();
                let old = (number != 1)
                    .then(|| Folder::open(store.root.clone()).unwrap().put("a/b", b"old"));
                store.disk.seam.fail(step, errno);
                let written = write(&store, &file);
                let reached = store.disk.seam.take().len() > step;
                match written {
                    // A link that fails is a copy instead.
                    Ok(()) if !reached || number == 2 => {
                        assert_eq!(store.get("a/b").unwrap(), b"new")
                    }
                    Ok(()) => panic!("step {step} failed unnoticed"),
                    Err(e) if e.code() == ErrorCode::Io => {
                        assert!(number == 2 && e.message().contains(words), "{e}")
                    }
                    Err(e) => {
                        failed += 1;
                        assert_eq!(e.code(), code);
                        assert!(
                            e.message().contains(words) && e.message().contains("a/b"),
                            "{e}"
                        );
                        let there = store.get("a/b").ok();
                        let expected = if old.is_some() {
                            Some(b"old".to_vec())
                        } else {
                            None
                        };
                        assert!(
                            there == expected || there.as_deref() == Some(b"new"),
                            "step {step}"
                        );
                    }
                }
                // No unfinished file stays.
                let left = fs::read_dir(store.root.join("a")).map_or(0, Iterator::count);
                assert_eq!(left, store.list("a").unwrap().len());
                if !reached {
                    break;
                }
            }
            assert!(failed >= 6, "{failed} steps failed");
        }
    }
}

#[test]
fn what_a_killed_process_left_is_not_listed_and_goes() {
    let (_outer, store) = store();
    store.put("a/1", b"x").unwrap();
    // With the numbers that come next here, too: processes in containers are all called 1.
    let own = format!("{}{}-", name::UNFINISHED, std::process::id());
    let path = |number: u64| store.root.join("a").join(format!("{own}{number}"));
    for number in 0..200 {
        fs::write(path(number), b"half").unwrap();
    }
    let in_use = File::open(path(7)).unwrap();
    Disk::mark_in_use(&in_use);
    fs::create_dir(store.root.join("a/empty")).unwrap();
    let other = Folder::open(store.root.clone()).unwrap();
    assert_eq!(other.list("").unwrap().len(), 1);
    // Who knows the folder leaves them alone.
    store.put("a/2", b"y").unwrap();
    assert!(path(199).exists());
    other.put("a/3", b"z").unwrap();
    assert_eq!(other.list("a").unwrap().len(), 3);
    let left: Vec<_> = (0..200).filter(|number| path(*number).exists()).collect();
    assert_eq!(left, [7]);
    drop(in_use);
    Folder::open(store.root.clone())
        .unwrap()
        .put("a/4", b"")
        .unwrap();
    assert!(!path(7).exists());
}

#[test]
fn what_killed_processes_left_anywhere_is_swept_away() {
    let (_outer, store) = store();
    let root = store.root.clone();
    store.put("data/1/2/kept", b"kept").unwrap();
    let left = root.join("data/1/3");
    fs::create_dir_all(&left).unwrap();
    fs::write(left.join(".tmp-1-2"), b"half").unwrap();
    fs::write(root.join("data/1/2/.tmp-1-3"), b"half").unwrap();
    let used = File::create(root.join("data/1/.tmp-1-4")).unwrap();
    Disk::mark_in_use(&used);
    fs::create_dir_all(root.join("log")).unwrap();
    fs::write(root.join("log/.tmp-1-5"), b"elsewhere").unwrap();
    store.sweep("data").unwrap();
    store.sweep("nothing").unwrap();
    assert!(!left.exists() && !root.join("data/1/2/.tmp-1-3").exists());
    assert!(root.join("data/1/.tmp-1-4").exists() && root.join("log/.tmp-1-5").exists());
    assert_eq!(store.get("data/1/2/kept").unwrap(), b"kept");
    store.put("data/1/3/new", b"new").unwrap();
    assert!(store.sweep("../data").is_err());
}

#[test]
fn writers_do_not_sweep_each_other_away() {
    let (outer, store) = store();
    let file = outer.path().join("file");
    fs::write(&file, b"file").unwrap();
    store.put("a/0", b"").unwrap();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let (root, file) = (&store.root, &file);
            scope.spawn(move || {
                for round in 0..50 {
                    // Each sweeps, as a process does that has just begun.
                    let store = Folder::open(root.clone()).unwrap();
                    let name = format!("a/{writer}-{round}");
                    assert_eq!(store.put_new(&name, b"new").unwrap(), PutNew::Created);
                    store.put(&name, b"put").unwrap();
                    store.put_file(&name, file).unwrap();
                    assert_eq!(store.get(&name).unwrap(), b"file");
                }
            });
        }
    });
    assert_eq!(store.list("a").unwrap().len(), 201);
    assert_eq!(fs::read_dir(store.root.join("a")).unwrap().count(), 201);
}

#[test]
fn empty_folders_go_with_their_last_object() {
    let (_outer, store) = store();
    store.put("a/b/c/1", b"").unwrap();
    store.put("a/2", b"").unwrap();
    store.delete("a/b/c/1").unwrap();
    assert!(!store.root.join("a/b").exists());
    store.put("a/b/c/1", b"again").unwrap();
    store.delete("a/2").unwrap();
    store.delete("a/b/c/1").unwrap();
    assert_eq!(fs::read_dir(&store.root).unwrap().count(), 0);
    // Somebody else removes a folder that we know.
    store.put("d/1", b"").unwrap();
    fs::remove_dir_all(&store.root).unwrap();
    store.put("d/1", b"again").unwrap();
    assert_eq!(store.get("d/1").unwrap(), b"again");
}

#[test]
fn what_is_no_object_is_not_listed() {
    let (outer, store) = store();
    store.put("log/1", b"x").unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(store.root.join("control")).unwrap();
    symlink(outer.path(), store.root.join("up")).unwrap();
    let names: Vec<_> = store
        .list("")
        .unwrap()
        .into_iter()
        .map(|info| info.name)
        .collect();
    assert_eq!(names, ["log/1"]);
}

#[test]
fn a_path_that_is_a_file_is_refused() {
    let (outer, store) = store();
    let file = outer.path().join("file");
    fs::write(&file, b"").unwrap();
    for path in [file.clone(), file.join("below")] {
        let e = Folder::open(path).err().unwrap();
        assert_eq!(e.code(), ErrorCode::StoreFailed);
        assert!(
            e.message().contains("file") && e.message().to_lowercase().contains("not a directory"),
            "{e}"
        );
    }
    store.put("a", b"").unwrap();
    store.put("b/c", b"").unwrap();
    for e in [
        store.put("a/below", b"").unwrap_err(),
        store.put("b", b"").unwrap_err(),
        store.put_new("b", b"").map(drop).unwrap_err(),
    ] {
        assert_eq!(e.code(), ErrorCode::StoreFailed, "{e}");
    }
}

/// A file system of its own in a folder, of 256 KiB.
struct Mounted(tempfile::TempDir);

impl Mounted {
    /// None, said aloud, where we may not.
    fn new() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        let mounted = mount(&["-t", "tmpfs", "-o", "size=256k", "none"], &path);
        if !mounted {
            println!("skipped: mounting a file system needs root");
        }
        mounted.then(|| Self(folder))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

fn mount(args: &[&str], path: &Path) -> bool {
    let output = Command::new("mount").args(args).arg(path).output();
    output.is_ok_and(|output| output.status.success())
}

#[test]
fn a_full_disk_and_a_read_only_one_say_so() {
    let Some(disk) = Mounted::new() else {
        return;
    };
    let store = Folder::open(disk.0.path().join("root")).unwrap();
    let outside = tempfile::NamedTempFile::new().unwrap();
    fs::write(outside.path(), vec![1; 1 << 20]).unwrap();
    store.put("kept", b"kept").unwrap();
    for e in [
        store.put("large", &vec![1; 1 << 20]).unwrap_err(),
        store
            .put_new("kept", &vec![1; 1 << 20])
            .map(drop)
            .unwrap_err(),
        store.put_file("large", outside.path()).unwrap_err(),
    ] {
        assert_eq!(e.code(), ErrorCode::StoreFailed);
        assert!(e.message().contains("No space left on device"), "{e}");
    }
    // What was begun is given back: there is room for something that fits.
    store.put("fits", &vec![1; 100_000]).unwrap();
    // From one file system to the other, by copies.
    let to = outside.path().with_extension("to");
    store.get_file("fits", &to).unwrap();
    assert_eq!(fs::read(&to).unwrap().len(), 100_000);
    store.put_file("back", &to).unwrap();
    fs::remove_file(&to).unwrap();

    assert!(mount(&["-o", "remount,ro"], disk.0.path()));
    let store = Folder::open(store.root).unwrap();
    assert_eq!(store.get("kept").unwrap(), b"kept");
    assert_eq!(store.list("").unwrap().len(), 3);
    for e in [
        store.put("kept", b"").unwrap_err(),
        store.put_new("new/er", b"").map(drop).unwrap_err(),
        store.delete("kept").unwrap_err(),
    ] {
        assert_eq!(e.code(), ErrorCode::StoreFailed);
        assert!(e.message().contains("Read-only file system"), "{e}");
    }
}

#[test]
fn a_folder_behind_faults_keeps_the_contract() {
    /// Sleeps not at all.
    struct NoTime;
    impl Pace for NoTime {
        fn now(&self) -> std::time::Duration {
            std::time::Duration::ZERO
        }
        fn sleep(&self, _: std::time::Duration) {}
        fn random(&self) -> u64 {
            0
        }
    }
    let faults = Faults {
        fail_per_mille: 300,
        lose_reply_per_mille: 150,
    };
    let policy = RetryPolicy {
        attempts_max: 40,
        ..RetryPolicy::default()
    };
    for seed in 0..3 {
        let (_outer, store) = store();
        let faulty = Arc::new(Faulty::new(Arc::new(store), faults, seed));
        let retrying: Arc<dyn Blobs> =
            Arc::new(Retrying::new(faulty.clone(), policy, Arc::new(NoTime)));
        crate::contract::check(&retrying);
        assert!(faulty.fired().failed > 50 && faulty.fired().replies_lost > 10);
    }
}
