//! What wit-bindgen makes of `wit/`: the records that cross the boundary, and the glue of the component's exports.
#![allow(
    missing_docs,
    unused_qualifications,
    clippy::all,
    unsafe_op_in_unsafe_fn
)]

wit_bindgen::generate!({
    path: "../../wit",
    world: "job",
    pub_export_macro: true,
    default_bindings_module: "pelton::bindings",
    additional_derives: [PartialEq],
});
