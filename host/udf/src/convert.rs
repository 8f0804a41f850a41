//! Columns on their way into the sandbox and back: Arrow arrays on our side, flat byte buffers on the guest's.
//! Needs: model, arrow. Refuses: to trust a guest. Every buffer that comes back is checked before it is an array.
//!
//! Inside: wire (the records of `types.wit` and `function.wit`), lower (arrays to buffers), raise (buffers to arrays),
//! reply (whole answers).

pub(crate) mod lower;
pub(crate) mod raise;
pub(crate) mod reply;
pub(crate) mod wire;
