//! Checkpoint folders that are damaged, read-only or full: a part of `cargo xtask chaos --all`.

use std::path::Path;

use pelton_chaos::faults;

#[test]
fn damaged_storage_is_met() {
    let folder = tempfile::tempdir().unwrap();
    let binary = Path::new(env!("CARGO_BIN_EXE_pelton-chaos"));
    let outcomes = faults::run(folder.path(), binary, false, 3).unwrap();
    let text = faults::text(&outcomes);
    assert!(outcomes.iter().all(faults::Outcome::is_good), "\n{text}");
    println!("{text}");
}
