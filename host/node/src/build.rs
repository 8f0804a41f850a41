//! From the sources of a project to components: the right cargo for the guests' target, then a component of each job.
//! Needs: toolchain, project, component. Invariant: a component appears under its name only when it is complete.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use pelton_model::{Error, ErrorCode, Result};

use crate::console::Console;
use crate::embedded;

mod component;
mod project;
mod toolchain;

pub(crate) use project::{JobCrate, Project};

/// What to build, and how.
#[derive(Clone, Debug)]
pub(crate) struct BuildRequest<'a> {
    /// A package, or a workspace with packages.
    pub(crate) folder: &'a Path,
    /// Where components go; none: `target/pelton` of the workspace.
    pub(crate) out: Option<&'a Path>,
    /// Keeps source lines for backtraces, whatever the manifest's profile says.
    pub(crate) debug: bool,
    /// Where the SDK's sources are unpacked.
    pub(crate) cache_dir: &'a Path,
}

/// A component that was made.
#[derive(Clone, Debug)]
pub(crate) struct Built {
    pub(crate) job: JobCrate,
    pub(crate) file: PathBuf,
    pub(crate) bytes: usize,
}

/// Builds every job crate of a folder. Errors: `NotFound` without a manifest, `BuildFailed` with the compiler's own
/// words already on the standard error, `Io`.
pub(crate) fn build(request: &BuildRequest<'_>, console: &Console) -> Result<Vec<Built>> {
    if !request.folder.join("Cargo.toml").is_file() {
        let message = format!("there is no Cargo.toml in '{}'", request.folder.display());
        return Err(
            Error::new(ErrorCode::NotFound, message).help("`pelton new NAME` makes a project")
        );
    }
    let toolchain = toolchain::find().map_err(|e| Error::new(ErrorCode::BuildFailed, e))?;
    // The cache may have been emptied since the project was made.
    let sdk = embedded::unpack_sdk(request.cache_dir)?;
    console.detail(&format!("the SDK's sources are in {}", sdk.display()));
    let project = Project::load(&toolchain, request.folder)?;
    let target = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => {
            std::path::absolute(folder).map_err(|e| Error::new(ErrorCode::Io, e.to_string()))?
        }
        None => project.root.join("target").join("guest"),
    };
    compile(request, &toolchain, &project, &target, console)?;
    let default_out = project.root.join("target").join("pelton");
    let out = request.out.unwrap_or(&default_out);
    project
        .jobs
        .iter()
        .map(|job| make(job, &target, out))
        .collect()
}

fn compile(
    request: &BuildRequest<'_>,
    toolchain: &toolchain::Toolchain,
    project: &Project,
    target: &Path,
    console: &Console,
) -> Result<()> {
    let folder = std::path::absolute(request.folder)
        .map_err(|e| Error::new(ErrorCode::Io, e.to_string()))?;
    let mut command = toolchain.command(&folder, target, true);
    command.arg("--lib");
    for job in &project.jobs {
        command.arg("-p").arg(&job.name);
    }
    if console.quiet {
        command.arg("--quiet");
    }
    // Otherwise the manifest's own profile decides.
    if request.debug {
        command
            .env("CARGO_PROFILE_RELEASE_DEBUG", "line-tables-only")
            .env("CARGO_PROFILE_RELEASE_STRIP", "none");
    }
    console.detail(&format!("{command:?}"));
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let status = command.status().map_err(|e| {
        Error::new(ErrorCode::BuildFailed, format!("cargo does not start: {e}"))
            .help("install Rust: https://rustup.rs")
    })?;
    if status.success() {
        return Ok(());
    }
    let names: Vec<&str> = project.jobs.iter().map(|j| j.name.as_str()).collect();
    Err(Error::new(
        ErrorCode::BuildFailed,
        format!("cargo could not build {}", names.join(", ")),
    )
    .at("folder", request.folder.display())
    .help("the compiler's words stand above"))
}

fn make(job: &JobCrate, target: &Path, out: &Path) -> Result<Built> {
    let core = target
        .join(toolchain::TARGET)
        .join("release")
        .join(format!("{}.wasm", job.library));
    let io = |what: &str, path: &Path, e: std::io::Error| {
        Error::new(ErrorCode::Io, format!("{what}: {e}")).at("file", path.display())
    };
    let module =
        std::fs::read(&core).map_err(|e| io("the compiled module cannot be read", &core, e))?;
    let component = component::encode(&module, job)?;
    std::fs::create_dir_all(out).map_err(|e| io("the folder cannot be made", out, e))?;
    let file = out.join(format!("{}.wasm", job.name));
    let fresh = out.join(format!(".{}.{}", job.name, std::process::id()));
    let written = std::fs::write(&fresh, &component).and_then(|()| std::fs::rename(&fresh, &file));
    if let Err(e) = written {
        let _ = std::fs::remove_file(&fresh);
        return Err(io("the component cannot be written", &file, e));
    }
    Ok(Built {
        job: job.clone(),
        file,
        bytes: component.len(),
    })
}
