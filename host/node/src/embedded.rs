//! What the binary carries: the SDK's sources, the contract and the templates; and how they reach the disk.
//! Needs: the table that the build script makes. Invariant: a folder of sources appears whole, under a name that says
//! its version and content, and is shared by all projects of a user.

use std::fs;
use std::path::{Path, PathBuf};

use pelton_model::{Error, ErrorCode, Result};

/// (path in the repository, content), ascending.
static FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

const TEMPLATES: &str = "sdk/templates/";

/// The root of the unpacked sources, so that cargo does not look for a workspace further up.
const WORKSPACE: &[u8] =
    b"[workspace]\nresolver = \"3\"\nmembers = [\"sdk/rust\", \"sdk/macros\"]\n";

/// The files of the SDK and its contract.
fn sources() -> impl Iterator<Item = (&'static str, &'static [u8])> {
    let files = FILES
        .iter()
        .copied()
        .filter(|(name, _)| !name.starts_with(TEMPLATES));
    files.chain([("Cargo.toml", WORKSPACE)])
}

/// The version and the first digits of the digest of all sources.
pub(crate) fn sdk_version() -> String {
    let mut digest = blake3::Hasher::new();
    for (name, content) in sources() {
        digest
            .update(&(name.len() as u64).to_le_bytes())
            .update(name.as_bytes());
        digest
            .update(&(content.len() as u64).to_le_bytes())
            .update(content);
    }
    let hex = digest.finalize().to_hex();
    format!(
        "{}-{}",
        env!("CARGO_PKG_VERSION"),
        hex.get(..12).unwrap_or_default()
    )
}

/// The contract's package and version, such as `pelton:job@0.1.0`.
pub(crate) fn contract() -> &'static str {
    let world = FILES.iter().find(|(name, _)| *name == "wit/world.wit");
    let text = world
        .and_then(|(_, content)| std::str::from_utf8(content).ok())
        .unwrap_or_default();
    text.lines()
        .find_map(|l| l.strip_prefix("package ")?.strip_suffix(';'))
        .unwrap_or_default()
}

/// The folder that holds, or will hold, the SDK's sources.
pub(crate) fn sdk_dir(cache_dir: &Path) -> PathBuf {
    cache_dir.join("sdk").join(sdk_version())
}

/// Unpacks the SDK's sources unless they are there; returns the folder above `sdk/` and `wit/`.
///
/// Errors: `Io`, if the cache cannot be written.
pub(crate) fn unpack_sdk(cache_dir: &Path) -> Result<PathBuf> {
    let folder = sdk_dir(cache_dir);
    if is_complete(&folder) {
        return Ok(folder);
    }
    let parent = folder.parent().unwrap_or(cache_dir);
    let fresh = parent.join(format!(".unpacking-{}", std::process::id()));
    let failed = |e: std::io::Error| {
        Error::new(
            ErrorCode::Io,
            format!("the SDK's sources cannot be unpacked: {e}"),
        )
        .at("folder", folder.display())
        .help("set another cache folder: `PELTON_CACHE__DIR=/some/folder`")
    };
    write_all(
        &fresh,
        sources().map(|(name, content)| (name.to_owned(), content.to_vec())),
    )
    .map_err(failed)?;
    // Half a folder is what a cleaner of old files leaves behind.
    let _ = fs::remove_dir_all(&folder);
    let moved = fs::rename(&fresh, &folder);
    if moved.is_err() {
        let _ = fs::remove_dir_all(&fresh);
        // Another process was faster, or the move failed for good.
        if !is_complete(&folder) {
            moved.map_err(failed)?;
        }
    }
    Ok(folder)
}

fn is_complete(folder: &Path) -> bool {
    sources().all(|(name, content)| {
        fs::metadata(folder.join(name)).is_ok_and(|found| found.len() == content.len() as u64)
    })
}

/// A project to begin with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Template {
    pub(crate) name: &'static str,
    /// What it is, from its manifest.
    pub(crate) about: &'static str,
}

/// All templates, ascending by name.
pub(crate) fn templates() -> Vec<Template> {
    let manifests = FILES.iter().filter_map(|(path, content)| {
        let name = path.strip_prefix(TEMPLATES)?.strip_suffix("/Cargo.toml")?;
        let text = std::str::from_utf8(content).unwrap_or_default();
        let about = text
            .lines()
            .find_map(|l| l.strip_prefix("description = \"")?.strip_suffix('"'));
        Some(Template {
            name,
            about: about.unwrap_or_default(),
        })
    });
    manifests.filter(|t| !t.name.contains('/')).collect()
}

/// Writes a template's files below `folder`, filled in for a project of that name.
pub(crate) fn write_template(
    template: Template,
    folder: &Path,
    name: &str,
    sdk: &Path,
) -> std::io::Result<()> {
    let prefix = format!("{TEMPLATES}{}/", template.name);
    let sdk = sdk.join("sdk/rust").display().to_string();
    let files = FILES.iter().filter_map(|(path, content)| {
        let path = path.strip_prefix(prefix.as_str())?;
        let content = match std::str::from_utf8(content) {
            Ok(text) => fill(text, name, &sdk).into_bytes(),
            Err(_) => content.to_vec(),
        };
        Some((fill(path, name, &sdk), content))
    });
    write_all(folder, files)
}

/// The placeholders have the names that cargo-generate uses, so that the same folders work with it.
fn fill(text: &str, name: &str, sdk: &str) -> String {
    let pairs = [
        ("{{project-name}}", name),
        ("{{crate_name}}", &name.replace('-', "_")),
        ("{{pelton-sdk}}", sdk),
    ];
    pairs.iter().fold(text.to_owned(), |text, (mark, value)| {
        text.replace(mark, value)
    })
}

fn write_all(folder: &Path, files: impl Iterator<Item = (String, Vec<u8>)>) -> std::io::Result<()> {
    for (name, content) in files {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, content)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binary_carries_sdk_contract_and_templates() {
        let has = |name: &str| FILES.iter().any(|(n, _)| *n == name);
        for name in [
            "sdk/rust/Cargo.toml",
            "sdk/macros/Cargo.toml",
            "wit/world.wit",
        ] {
            assert!(has(name), "{name}");
        }
        assert!(!FILES.iter().any(|(n, _)| n.contains("/target/")));
    }

    #[test]
    fn the_sources_are_unpacked_once_and_mended() {
        let cache = tempfile::tempdir().unwrap();
        let folder = unpack_sdk(cache.path()).unwrap();
        let file = folder.join("wit/world.wit");
        let first = fs::metadata(&file).unwrap().modified().unwrap();
        assert_eq!(unpack_sdk(cache.path()).unwrap(), folder);
        assert_eq!(
            fs::metadata(&file).unwrap().modified().unwrap(),
            first,
            "left as it was"
        );
        fs::remove_file(&file).unwrap();
        unpack_sdk(cache.path()).unwrap();
        assert!(file.is_file(), "mended");
        let left: Vec<_> = fs::read_dir(cache.path().join("sdk")).unwrap().collect();
        assert_eq!(left.len(), 1, "nothing half-done stays");
    }

    #[test]
    fn placeholders_are_filled() {
        assert_eq!(
            fill(
                "{{project-name}} {{crate_name}} {{pelton-sdk}}",
                "my-job",
                "/sdk"
            ),
            "my-job my_job /sdk"
        );
    }
}
