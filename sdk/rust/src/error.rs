//! Why a job or a function gives up.

use std::fmt;

use crate::bindings::pelton::job::types::Failure;

/// A message for the job's author. Any `std::error::Error` becomes one by `?`.
pub struct Error {
    message: String,
    row: Option<u32>,
}

/// What job functions and functions that can fail return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error with this message.
    pub fn new(message: impl fmt::Display) -> Self {
        Self {
            message: message.to_string(),
            row: None,
        }
    }

    pub(crate) fn at_row(mut self, row: u32) -> Self {
        self.row.get_or_insert(row);
        self
    }

    pub(crate) fn into_failure(self) -> Failure {
        Failure {
            message: self.message,
            row: self.row,
        }
    }

    /// The row of the batch to blame, where one is known.
    #[must_use]
    pub fn row(&self) -> Option<u32> {
        self.row
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<E: std::error::Error> From<E> for Error {
    fn from(e: E) -> Self {
        Self::new(e)
    }
}
