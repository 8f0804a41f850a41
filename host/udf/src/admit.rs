//! What is refused before anything is compiled: files that are not components, or not of this world.
//! Needs: wasmparser. A pure function of bytes.

use pelton_model::limits::COMPONENT_BYTES_MAX;
use pelton_model::{Error, ErrorCode, Result};
use wasmparser::{ComponentExternalKind, ComponentTypeRef, Parser, Payload, Validator};

use crate::host::GRANTED;

/// The package of the contract.
const PACKAGE: &str = "pelton:job";
/// The version of the contract that this host speaks.
pub const CONTRACT_VERSION: &str = "0.1.0";
/// What a component must export.
const EXPORTS: [&str; 2] = ["graph", "function"];

/// The full name of an interface of the contract.
pub(crate) fn interface(name: &str) -> String {
    format!("{PACKAGE}/{name}@{CONTRACT_VERSION}")
}

/// The imports of a component that may run here, in its order.
///
/// Errors: `NotAComponent`, `ComponentTooLarge`, `ForeignImport`, `WrongWorld`; each says what was found.
pub fn admit(bytes: &[u8]) -> Result<Vec<String>> {
    let imports = inspect(bytes)?;
    validate(bytes)?;
    Ok(imports)
}

/// The same, but only from what a component says of itself. Nothing that was not also [`validate`]d may be compiled.
pub(crate) fn inspect(bytes: &[u8]) -> Result<Vec<String>> {
    recognise(bytes)?;
    let (imports, exports) = surface(bytes)?;
    for name in &imports {
        check_import(name)?;
    }
    for wanted in EXPORTS {
        check_export(wanted, &exports)?;
    }
    Ok(imports)
}

/// Errors: `NotAComponent`, where anything within is not valid.
pub(crate) fn validate(bytes: &[u8]) -> Result<()> {
    Validator::new()
        .validate_all(bytes)
        .map(|_| ())
        .map_err(|e| malformed(&e))
}

fn not_a_component(what: impl Into<String>) -> Error {
    Error::new(ErrorCode::NotAComponent, what)
}

/// Looks at the first bytes: most wrong files are told apart there.
fn recognise(bytes: &[u8]) -> Result<()> {
    const HELP: &str = "`pelton build` makes components";
    if bytes.len() > COMPONENT_BYTES_MAX {
        return Err(Error::new(
            ErrorCode::ComponentTooLarge,
            format!(
                "the component has {} bytes, and at most {COMPONENT_BYTES_MAX} are allowed",
                bytes.len()
            ),
        )
        .help("build it without debug sections, and with `lto` and `opt-level = \"s\"`"));
    }
    if Parser::is_component(bytes) {
        return Ok(());
    }
    let what = if bytes.is_empty() {
        "the file is empty"
    } else if Parser::is_core_wasm(bytes) {
        "the file is a core module, not a component"
    } else if bytes.starts_with(b"\0asm") && bytes.len() < 8 {
        "the file is truncated"
    } else if bytes.starts_with(b"\0asm") {
        "the file is WebAssembly of another version"
    } else if bytes.starts_with(b"\x7fELF") {
        "the file is a program for this machine, not WebAssembly"
    } else if bytes.starts_with(b"\x1f\x8b") || bytes.starts_with(b"PK\x03\x04") {
        "the file is an archive, not a component"
    } else if bytes.trim_ascii_start().starts_with(b"(") {
        "the file is WebAssembly as text, not a component"
    } else if bytes
        .iter()
        .take(256)
        .all(|b| !b.is_ascii_control() || b.is_ascii_whitespace())
    {
        "the file is text, not a component"
    } else {
        "the file is not WebAssembly"
    };
    Err(not_a_component(what).help(HELP))
}

/// The names of the outermost imports and exports of instances and functions.
fn surface(bytes: &[u8]) -> Result<(Vec<String>, Vec<String>)> {
    let mut imports = Vec::new();
    let mut exports = Vec::new();
    let mut depth = 0usize;
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload.map_err(|e| malformed(&e))?;
        match &payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section.clone() {
                    let import = import.map_err(|e| malformed(&e))?;
                    // A type is no right: only what can be called or holds something is.
                    if !matches!(import.ty, ComponentTypeRef::Type(_)) {
                        imports.push(import.name.name.to_string());
                    }
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section.clone() {
                    let export = export.map_err(|e| malformed(&e))?;
                    if export.kind == ComponentExternalKind::Instance {
                        exports.push(export.name.name.to_string());
                    }
                }
            }
            _ => {}
        }
    }
    Ok((imports, exports))
}

fn malformed(error: &wasmparser::BinaryReaderError) -> Error {
    // The parser says so wherever it stands when the bytes run out.
    if error.message().contains("unexpected end") {
        return not_a_component("the file is truncated").help("build or copy it again");
    }
    not_a_component(format!(
        "the file is not a valid component: {} at byte {}",
        error.message(),
        error.offset()
    ))
    .help("build it again; the host accepts no experimental features")
}

fn check_import(name: &str) -> Result<()> {
    if GRANTED.iter().any(|granted| interface(granted) == name) {
        return Ok(());
    }
    if let Some((interface, version)) = of_contract(name) {
        if version != CONTRACT_VERSION {
            return Err(other_version(version));
        }
        if interface == "state" {
            return Err(Error::new(
                ErrorCode::ForeignImport,
                format!("the component imports {name}, which this host does not serve"),
            )
            .help("keep state in value states: lists, maps and lazy values are not served"));
        }
    }
    Err(Error::new(
        ErrorCode::ForeignImport,
        format!("the component imports {name}, which a job is not granted"),
    )
    .help("remove the dependency that brings the import: a job has no clock, no randomness, no files and no network"))
}

fn check_export(wanted: &str, exports: &[String]) -> Result<()> {
    let full = interface(wanted);
    if exports.contains(&full) {
        return Ok(());
    }
    let other = exports
        .iter()
        .filter_map(|e| of_contract(e))
        .find(|(name, _)| *name == wanted);
    if let Some((_, version)) = other {
        return Err(other_version(version));
    }
    Err(Error::new(
        ErrorCode::WrongWorld,
        format!("the component does not export {full}: it is not a job"),
    )
    .help("a job is a library with a #[pelton::job] function, built by `pelton build`"))
}

/// The interface and version of a name of the contract's package.
fn of_contract(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix(PACKAGE)?
        .strip_prefix('/')?
        .split_once('@')
}

fn other_version(version: &str) -> Error {
    Error::new(
        ErrorCode::WrongWorld,
        format!(
            "the component was built for version {version} of the contract, and this host speaks {CONTRACT_VERSION}"
        ),
    )
    .help("build it again with the SDK of this version")
}
