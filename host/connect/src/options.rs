//! The options of a connector: strings by name, read with an error that says what there is.

use std::fmt::Display;
use std::str::FromStr;

use pelton_model::{Error, ErrorCode, Result};

use crate::OptionMap;

/// The options of one connector, each known by name.
pub(crate) struct Options<'a> {
    connector: &'static str,
    map: &'a OptionMap,
}

impl<'a> Options<'a> {
    /// Refuses an option whose name is not in `known`.
    pub(crate) fn new(connector: &'static str, map: &'a OptionMap, known: &[&str]) -> Result<Self> {
        match map.keys().find(|k| !known.contains(&k.as_str())) {
            None => Ok(Self { connector, map }),
            Some(key) => {
                let help = match known {
                    [] => format!("'{connector}' has no options"),
                    _ => format!("the options of '{connector}' are: {}", known.join(", ")),
                };
                let nearest = did_you_mean(key, known);
                let message = format!("connector '{connector}' has no option '{key}'{nearest}");
                Err(Error::new(ErrorCode::UnknownConnector, message).help(help))
            }
        }
    }

    /// The value of an option, if it is given.
    pub(crate) fn get(&self, name: &str) -> Option<&'a str> {
        self.map.get(name).map(String::as_str)
    }

    /// The value of an option that must be given; `what` says what it is for.
    pub(crate) fn require(&self, name: &str, what: &str) -> Result<&'a str> {
        self.get(name).ok_or_else(|| self.missing(name, what))
    }

    /// The error of an option that must be given but is not.
    pub(crate) fn missing(&self, name: &str, what: &str) -> Error {
        Error::new(
            ErrorCode::UnknownConnector,
            format!(
                "connector '{}' needs the option '{name}', {what}",
                self.connector
            ),
        )
    }

    /// `true` or `false`.
    pub(crate) fn flag(&self, name: &str, default: bool) -> Result<bool> {
        self.choice(name, &[("true", true), ("false", false)], default)
    }

    /// One of some words.
    pub(crate) fn choice<T: Copy>(
        &self,
        name: &str,
        choices: &[(&str, T)],
        default: T,
    ) -> Result<T> {
        let Some(value) = self.get(name) else {
            return Ok(default);
        };
        let found = choices
            .iter()
            .find(|(word, _)| *word == value)
            .map(|(_, choice)| *choice);
        found.ok_or_else(|| {
            let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
            self.bad(name, format!("one of {}", words.join(", ")))
        })
    }

    /// A whole number from `least` to `most`; underscores may separate its digits.
    pub(crate) fn number<T: FromStr + PartialOrd + Display>(
        &self,
        name: &str,
        least: T,
        most: T,
    ) -> Result<Option<T>> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        match value.replace('_', "").parse::<T>() {
            Ok(n) if n >= least && n <= most => Ok(Some(n)),
            _ => Err(self.bad(name, format!("a whole number from {least} to {most}"))),
        }
    }

    /// The error of a value that an option does not take; `wanted` says what it takes.
    pub(crate) fn bad(&self, name: &str, wanted: impl Display) -> Error {
        let value = self.get(name).unwrap_or_default();
        let message = format!(
            "option '{name}' of connector '{}' is '{value}', but must be {wanted}",
            self.connector
        );
        Error::new(ErrorCode::UnknownConnector, message)
    }
}

/// `, did you mean 'x'?` if one of the names is near, else nothing.
pub(crate) fn did_you_mean(name: &str, names: &[&str]) -> String {
    let nearest = names.iter().map(|n| (distance(name, n), n)).min();
    match nearest {
        Some((d, n)) if d <= 1 + n.len() / 4 => format!(", did you mean '{n}'?"),
        _ => String::new(),
    }
}

/// Levenshtein's distance in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (y, cell) in b.bytes().zip(row.iter_mut().skip(1)) {
            let up = *cell;
            left = (diagonal + usize::from(x != y)).min(up + 1).min(left + 1);
            diagonal = up;
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(key: &str, value: &str) -> OptionMap {
        OptionMap::from([(key.to_owned(), value.to_owned())])
    }

    #[test]
    fn unknown_options_name_the_nearest_and_the_list() {
        let known = ["events", "rate"];
        let map = map("event", "5");
        let e = Options::new("generator", &map, &known).err().unwrap();
        assert_eq!(
            e.to_string(),
            "connector 'generator' has no option 'event', did you mean 'events'?"
        );
        assert_eq!(
            e.help_text(),
            Some("the options of 'generator' are: events, rate")
        );
    }

    #[test]
    fn values_are_checked() {
        let one = map("rate", "1_000");
        let options = Options::new("x", &one, &["rate"]).unwrap();
        assert_eq!(options.number("rate", 1u64, 10_000).unwrap(), Some(1_000));
        assert_eq!(
            options.number("rate", 1u64, 10).unwrap_err().to_string(),
            "option 'rate' of connector 'x' is '1_000', but must be a whole number from 1 to 10"
        );
        assert!(
            options
                .flag("rate", true)
                .unwrap_err()
                .to_string()
                .ends_with("but must be one of true, false")
        );
        assert!(options.flag("other", true).unwrap());
    }

    #[test]
    fn distances() {
        for (a, b, d) in [
            ("", "abc", 3),
            ("kitten", "sitting", 3),
            ("rate", "rate", 0),
            ("ab", "ba", 2),
        ] {
            assert_eq!(distance(a, b), d, "{a} {b}");
        }
    }
}
