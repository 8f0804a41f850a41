//! The operators, one a file.

pub mod combine;
pub mod output;
pub mod process;
pub mod select;
pub mod sink;
pub mod timestamps;
pub mod transform;
pub mod window;
