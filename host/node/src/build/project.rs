//! Which crates of a folder are jobs, as cargo tells it.
//! Needs: `cargo metadata`. A job is a package that makes a `cdylib` and depends on `pelton`.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use pelton_model::{Error, ErrorCode, Result};
use serde::Deserialize;

use super::toolchain::Toolchain;

/// The jobs of a folder.
#[derive(Clone, Debug)]
pub(crate) struct Project {
    /// The root of the workspace.
    pub(crate) root: PathBuf,
    /// Ascending by name, at least one.
    pub(crate) jobs: Vec<JobCrate>,
}

/// A package that becomes a component.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct JobCrate {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) description: Option<String>,
    /// The file name of its module, without the ending.
    pub(crate) library: String,
    pub(crate) folder: PathBuf,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_root: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    description: Option<String>,
    manifest_path: PathBuf,
    targets: Vec<Target>,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    crate_types: Vec<String>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    path: Option<PathBuf>,
}

impl Project {
    /// Asks cargo. Of a workspace's root: all jobs; of a package: this one.
    ///
    /// Errors: `BuildFailed`, if the manifest is wrong, no package is a job, or the SDK is not where it should be.
    pub(crate) fn load(toolchain: &Toolchain, folder: &Path) -> Result<Self> {
        let folder = folder.canonicalize().map_err(|e| {
            Error::new(
                ErrorCode::NotFound,
                format!("the folder '{}' cannot be opened: {e}", folder.display()),
            )
        })?;
        let mut command =
            std::process::Command::new(toolchain.command(&folder, &folder, true).get_program());
        command.args([
            "metadata",
            "--no-deps",
            "--format-version",
            "1",
            "--manifest-path",
        ]);
        command.arg(folder.join("Cargo.toml")).stdin(Stdio::null());
        let output = command.output().map_err(|e| {
            Error::new(ErrorCode::BuildFailed, format!("cargo does not start: {e}"))
                .help("install Rust: https://rustup.rs")
        })?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            let error = Error::new(
                ErrorCode::BuildFailed,
                "cargo does not understand the manifest",
            );
            return Err(error
                .at("file", folder.join("Cargo.toml").display())
                .detail(words));
        }
        let metadata: Metadata = serde_json::from_slice(&output.stdout).map_err(|e| {
            Error::bug(format!(
                "the answer of `cargo metadata` is not understood: {e}"
            ))
        })?;
        Self::from_metadata(metadata, &folder)
    }

    fn from_metadata(metadata: Metadata, folder: &Path) -> Result<Self> {
        let whole = metadata
            .workspace_root
            .canonicalize()
            .unwrap_or(metadata.workspace_root.clone())
            == folder;
        let chosen = metadata.packages.into_iter().filter(|p| {
            whole
                || p.manifest_path
                    .parent()
                    .and_then(|p| p.canonicalize().ok())
                    .as_deref()
                    == Some(folder)
        });
        let mut jobs = Vec::new();
        for package in chosen {
            if let Some(sdk) = package.dependencies.iter().find(|d| d.name == "pelton") {
                check_sdk(&package, sdk)?;
                jobs.extend(job_of(&package));
            }
        }
        if jobs.is_empty() {
            return Err(Error::new(ErrorCode::BuildFailed, "no package here is a job")
                .at("folder", folder.display())
                .help("a job has `crate-type = [\"cdylib\"]` in its [lib] and depends on `pelton`; `pelton new NAME` makes one"));
        }
        jobs.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self {
            root: metadata.workspace_root,
            jobs,
        })
    }
}

fn job_of(package: &Package) -> Option<JobCrate> {
    let target = package
        .targets
        .iter()
        .find(|t| t.crate_types.iter().any(|c| c == "cdylib"))?;
    Some(JobCrate {
        name: package.name.clone(),
        version: package.version.clone(),
        description: package.description.clone(),
        library: target.name.replace('-', "_"),
        folder: package
            .manifest_path
            .parent()
            .map(Path::to_owned)
            .unwrap_or_default(),
    })
}

/// A path into the cache of another version of this binary may be gone for good.
fn check_sdk(package: &Package, sdk: &Dependency) -> Result<()> {
    match &sdk.path {
        Some(path) if !path.join("Cargo.toml").is_file() => {
            Err(Error::new(ErrorCode::BuildFailed, format!("there is no SDK in '{}'", path.display()))
                .at("file", package.manifest_path.display())
                .help(format!(
                    "this is pelton {}: `pelton version` names the folder of its SDK; write it into the manifest",
                    env!("CARGO_PKG_VERSION")
                )))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(root: &Path, packages: &[(&str, &str, bool)]) -> Metadata {
        let packages = packages.iter().map(|(name, kind, sdk)| Package {
            name: (*name).to_owned(),
            version: "1.2.3".into(),
            description: None,
            manifest_path: root.join(name).join("Cargo.toml"),
            targets: vec![Target {
                name: (*name).to_owned(),
                crate_types: vec![(*kind).to_owned()],
            }],
            dependencies: sdk
                .then(|| Dependency {
                    name: "pelton".into(),
                    path: None,
                })
                .into_iter()
                .collect(),
        });
        Metadata {
            packages: packages.collect(),
            workspace_root: root.to_owned(),
        }
    }

    const PACKAGES: [(&str, &str, bool); 4] = [
        ("b-job", "cdylib", true),
        ("a", "cdylib", true),
        ("tool", "bin", true),
        ("other", "cdylib", false),
    ];

    fn names(root: &Path, folder: &Path) -> Result<Vec<String>> {
        let project = Project::from_metadata(metadata(root, &PACKAGES), folder)?;
        Ok(project.jobs.into_iter().map(|j| j.name).collect())
    }

    #[test]
    fn of_a_workspace_all_jobs_and_of_a_package_its_own() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        for (name, ..) in PACKAGES {
            std::fs::create_dir(root.join(name)).unwrap();
        }
        assert_eq!(names(&root, &root).unwrap(), ["a", "b-job"]);
        assert_eq!(names(&root, &root.join("b-job")).unwrap(), ["b-job"]);
        let error = names(&root, &root.join("tool")).unwrap_err();
        assert_eq!(
            (error.code(), error.message()),
            (ErrorCode::BuildFailed, "no package here is a job")
        );
    }

    #[test]
    fn a_module_has_underscores() {
        let project =
            Project::from_metadata(metadata(Path::new("/"), &PACKAGES), Path::new("/")).unwrap();
        assert_eq!(project.jobs.last().unwrap().library, "b_job");
    }

    #[test]
    fn a_lost_sdk_is_named() {
        let mut metadata = metadata(Path::new("/"), &[("a", "cdylib", true)]);
        metadata.packages[0].dependencies[0].path = Some("/nonexistent/sdk/rust".into());
        let error = Project::from_metadata(metadata, Path::new("/")).unwrap_err();
        assert_eq!(
            error.message(),
            "there is no SDK in '/nonexistent/sdk/rust'"
        );
    }
}
