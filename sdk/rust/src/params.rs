//! Parameters of a job: `pelton run job.wasm --param name=value`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::str::FromStr;

use crate::bindings::pelton::job::types::Param;
use crate::error::{Error, Result};

/// The parameters that the job was started with. A parameter that the job function does not ask for is refused.
#[derive(Clone, Default)]
pub struct Params {
    values: Rc<BTreeMap<String, String>>,
    asked: Rc<RefCell<Vec<String>>>,
}

impl Params {
    /// Parameters by (name, value), as for a test.
    pub fn new<K: Into<String>, V: Into<String>>(values: impl IntoIterator<Item = (K, V)>) -> Self {
        let values = values
            .into_iter()
            .map(|(k, v)| (k.into(), v.into()))
            .collect();
        Self {
            values: Rc::new(values),
            asked: Rc::default(),
        }
    }

    pub(crate) fn from_wit(params: &[Param]) -> Self {
        Self::new(params.iter().map(|p| (p.name.clone(), p.value.clone())))
    }

    /// The value of a parameter that may be missing.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut asked = self.asked.borrow_mut();
        if !asked.iter().any(|a| a == name) {
            asked.push(name.to_owned());
        }
        self.values.get(name).map(String::as_str)
    }

    /// The value of a parameter. Errors: it is missing.
    pub fn require(&self, name: &str) -> Result<&str> {
        self.get(name).ok_or_else(|| {
            Error::new(format_args!(
                "parameter '{name}' is missing: give it by --param {name}=VALUE"
            ))
        })
    }

    /// The value of a parameter as a `T`, or `default` where it is missing. Errors: it does not read as a `T`.
    pub fn get_or<T: FromStr>(&self, name: &str, default: T) -> Result<T> {
        match self.get(name) {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_| {
                let kind = std::any::type_name::<T>()
                    .rsplit("::")
                    .next()
                    .unwrap_or_default();
                Error::new(format_args!(
                    "parameter '{name}' is '{text}', which is not of type {kind}"
                ))
            }),
        }
    }

    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (String, String)> {
        self.values.iter().map(|(k, v)| (k.clone(), v.clone()))
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.borrow().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_known() {
        let params = Params::new([("n", "12"), ("x", "y")]);
        assert_eq!(params.get_or("n", 1u32).unwrap(), 12);
        assert_eq!(params.get_or("m", 3u32).unwrap(), 3);
        assert!(
            params
                .get_or("x", 1i64)
                .unwrap_err()
                .to_string()
                .contains("'x' is 'y'")
        );
        assert!(
            params
                .require("input")
                .unwrap_err()
                .to_string()
                .contains("--param input=")
        );
        assert_eq!(params.asked(), ["n", "m", "x", "input"]);
    }
}
