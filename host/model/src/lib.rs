//! Pure values and pure rules: what a job, a batch, a key, a watermark and a window *are*.
//! Needs: Arrow's arrays. Refuses: IO, async, clocks, randomness, any knowledge of Wasm or sockets.
//!
//! Every other crate speaks in these terms; `engine` and `control` meet only through [`protocol`].

pub mod barrier;
pub mod batch;
pub mod blob;
pub mod checkpoint;
pub mod element;
pub mod encoding;
pub mod error;
pub mod graph;
pub mod id;
pub mod key;
pub mod limits;
pub mod migrate;
pub mod protocol;
pub mod schema;
pub mod snapshot;
pub mod time;
pub mod watermark;
pub mod window;

pub use error::{Error, ErrorCode, ErrorKind, Result};
