//! What is wrong with a line, and where in it; becomes an [`Error`](pelton_model::Error) only if the source's policy is to fail.
//! Needs: nothing. Kept behind a pointer, so that the result of a decoding step fits in registers.

use std::borrow::Cow;
use std::fmt;

/// The result of a decoding step: mostly the position behind what was read.
pub(super) type Step<T = usize> = Result<T, Box<Fault>>;

/// Why a line can't be decoded.
#[derive(Debug)]
pub(super) struct Fault {
    /// The byte of the buffer where it shows.
    pub(super) at: usize,
    kind: Kind,
    what: Cow<'static, str>,
    /// The names of the fields around it, innermost first.
    path: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    /// The line is not of its format.
    Syntax,
    /// A value does not fit its field.
    Value,
}

impl Fault {
    /// The line breaks the rules of its format. `what`: "a ',' is expected".
    #[cold]
    pub(super) fn syntax<T>(at: usize, what: impl Into<Cow<'static, str>>) -> Step<T> {
        Err(Box::new(Self {
            at,
            kind: Kind::Syntax,
            what: what.into(),
            path: Vec::new(),
        }))
    }

    /// A value does not fit its field. `what` goes on after "field 'x'": "is missing".
    #[cold]
    pub(super) fn value<T>(at: usize, what: impl Into<Cow<'static, str>>) -> Step<T> {
        Err(Box::new(Self {
            at,
            kind: Kind::Value,
            what: what.into(),
            path: Vec::new(),
        }))
    }

    /// Whether the line breaks the rules of its format.
    pub(super) fn is_syntax(&self) -> bool {
        self.kind == Kind::Syntax
    }

    /// The same fault, seen from the record around the field `name`.
    #[cold]
    pub(super) fn within(mut self: Box<Self>, name: &str) -> Box<Self> {
        self.path.push(name.to_string());
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind == Kind::Value && !self.path.is_empty() {
            let path: Vec<&str> = self.path.iter().rev().map(String::as_str).collect();
            write!(f, "field '{}' ", path.join("."))?;
        }
        f.write_str(&self.what)
    }
}
