//! A savepoint's folder: `metadata`, and the objects that it names.
//! Needs: model::{checkpoint, blob}. A savepoint is self-contained: the folder can be moved.

use std::sync::Arc;

use pelton_engine::snapshot::RestoreFrom;
use pelton_model::blob::Blobs;
use pelton_model::checkpoint::{Metadata, decode};
use pelton_model::{Error, ErrorCode, Result};

/// The object with the metadata.
pub(crate) const METADATA: &str = "metadata";

/// Reads a savepoint's metadata. Errors: `NotFound` for a folder without one; `Corrupt`; the store's.
pub(crate) fn open(blobs: Arc<dyn Blobs>) -> Result<RestoreFrom> {
    let bytes = blobs.get(METADATA).map_err(|e| match e.code() {
        ErrorCode::NotFound => Error::new(ErrorCode::NotFound, "there is no savepoint")
            .help("`pelton savepoint list` shows those of a folder"),
        _ => e,
    })?;
    let (metadata, inline) = decode::<Metadata>(&bytes)?;
    Ok(RestoreFrom {
        metadata: Arc::new(metadata),
        inline: Arc::new(inline),
        blobs,
    })
}
