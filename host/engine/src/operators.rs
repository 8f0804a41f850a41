//! The operators, one a file.

pub mod select;
pub mod sink;
pub mod timestamps;
