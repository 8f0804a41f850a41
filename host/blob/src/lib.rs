//! Durable objects by URL: `file://`, `memory://`, `s3://`, `az://`; the only room that knows `object_store`.
//! Needs: `model::blob`, whose trait it implements. Refuses: what the objects mean.
