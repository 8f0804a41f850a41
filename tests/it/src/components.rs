//! Where the example jobs' components are.

use std::path::{Path, PathBuf};

/// The component of an example job, in `PELTON_COMPONENTS` or where `cargo xtask test` puts them.
pub(crate) fn component(name: &str) -> String {
    let folder = match std::env::var_os("PELTON_COMPONENTS") {
        Some(folder) => PathBuf::from(folder),
        None => {
            let this = std::env::current_exe().unwrap();
            let target = this
                .ancestors()
                .find(|p| p.ends_with("debug"))
                .and_then(Path::parent);
            target.unwrap_or(Path::new(".")).join("pelton")
        }
    };
    let path = folder.join(name).with_extension("wasm");
    let path = std::path::absolute(path).unwrap();
    assert!(
        path.is_file(),
        "{} is not there: `pelton build guest-examples --out target/pelton` makes it",
        path.display()
    );
    path.display().to_string()
}

/// A file of the repository.
pub(crate) fn repository(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.join(path)
        .canonicalize()
        .unwrap()
        .display()
        .to_string()
}
