//! A component of a core module, with the name and version of its crate.
//! Needs: wit-component. The SDK's bindings have embedded what the module imports and exports; no adapter is needed.

use pelton_model::{Error, ErrorCode, Result};
use wasm_metadata::{AddMetadata, AddMetadataField};
use wit_component::ComponentEncoder;

use super::JobCrate;

/// Makes the component. Errors: `BuildFailed`, if the module does not have the SDK's bindings in it.
pub(super) fn encode(module: &[u8], job: &JobCrate) -> Result<Vec<u8>> {
    let failed = |e: &dyn std::fmt::Display| {
        Error::new(ErrorCode::BuildFailed, "no component can be made of the compiled module")
            .at("crate", &job.name)
            .help("a job function has `#[pelton::job]` above it, and no dependency may import anything of its own")
            .detail(format!("{e:#}"))
    };
    let mut encoder = ComponentEncoder::default()
        .validate(true)
        .module(module)
        .map_err(|e| failed(&e))?;
    let component = encoder.encode().map_err(|e| failed(&e))?;
    let mut stamp = AddMetadata::default();
    stamp.name = AddMetadataField::Set(format!("{}@{}", job.name, job.version));
    stamp.processed_by = vec![("pelton".to_owned(), env!("CARGO_PKG_VERSION").to_owned())];
    stamp.to_wasm(&component).map_err(|e| failed(&e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_without_bindings_is_refused() {
        let job = JobCrate {
            name: "a".into(),
            version: "1.0.0".into(),
            description: None,
            library: "a".into(),
            folder: "/".into(),
        };
        let error = encode(b"\0asm\x01\0\0\0 broken", &job).unwrap_err();
        assert_eq!(error.code(), ErrorCode::BuildFailed);
        assert!(error.detail_text().is_some_and(|d| !d.is_empty()));
    }
}
