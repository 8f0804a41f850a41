//! The cut of a snapshot, against a store that flushes when it must not.

use std::sync::atomic::AtomicBool;

use pelton_model::ErrorCode;
use rocksdb::WriteBatch;

use super::*;
use crate::store::{Family, Store};

fn put(store: &Store, family: &Family, key: u32) {
    let handle = store.handle(family).unwrap();
    let mut batch = WriteBatch::default();
    batch.put_cf(&handle, key.to_be_bytes(), vec![7; 100]);
    store.write(batch).unwrap();
}

/// A store with an entry, and one of its column families.
fn store(dir: &std::path::Path) -> (RocksBackend, Arc<Store>, Family) {
    let backend = RocksBackend::open(dir, RocksSettings::default()).unwrap();
    let owner = owner("op", DataType::I64, None);
    let (store, mut families) = Store::open(backend.shared(), &owner, None).unwrap();
    let family = families.remove(0);
    put(&store, &family, 1);
    (backend, store, family)
}

#[test]
fn what_is_written_after_the_cut_is_not_in_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let (_backend, store, family) = store(dir.path());
    let into = dir.path().join("snapshot/x");
    std::thread::scope(|scope| {
        store.cut();
        let linked = scope.spawn(|| store.link(&into, &AtomicBool::new(false)));
        // They wait for the write buffers to be switched.
        (2..100).for_each(|key| put(&store, &family, key));
        linked.join().unwrap().unwrap();
    });
    let names = rocksdb::DB::list_cf(&rocksdb::Options::default(), &into).unwrap();
    let options = rocksdb::Options::default();
    let linked = rocksdb::DB::open_cf_for_read_only(&options, &into, names, false).unwrap();
    let handle = linked.cf_handle("state/value").unwrap();
    let get = |key: u32| linked.get_cf(&handle, key.to_be_bytes()).unwrap();
    assert!(get(1).is_some() && get(2).is_none() && get(99).is_none());
}

#[test]
fn a_flush_of_what_came_later_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let (backend, store, family) = store(dir.path());
    store.cut();
    let given_up = AtomicBool::new(false);
    let before = store.switch().unwrap();
    put(&store, &family, 3);
    backend.flush();
    let error = store.link_switched(&dir.path().join("y"), before, &given_up);
    let error = error.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StateFailed, "{error}");
    assert!(error.help_text().unwrap().contains("next checkpoint"));
    store.reopen();
    put(&store, &family, 4);
}
