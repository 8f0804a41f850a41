//! Names of objects: which are allowed in every kind of store.
//! Needs: `model::error`. Invariant: an allowed name, put below a folder, stays below it.

use pelton_model::{Error, ErrorCode, Result};

/// What the names of unfinished files begin with; no part of an object's name does.
pub(crate) const UNFINISHED: &str = ".tmp-";
/// Bytes of one part: what file systems allow.
const PART_BYTES_MAX: usize = 255;
/// Bytes of a name; S3 allows 1,024 with the prefix.
const NAME_BYTES_MAX: usize = 900;

/// Refuses a name that is not relative, that has parts such as `..`, or that some kind of store cannot hold.
pub(crate) fn check(name: &str) -> Result<()> {
    let bad = name.len() > NAME_BYTES_MAX
        || name.split('/').any(bad_part)
        || name.chars().any(|c| c.is_control() || c == '\\');
    if bad {
        return Err(Error::new(
            ErrorCode::StoreFailed,
            format!("'{}' cannot be the name of an object", name.escape_debug()),
        ));
    }
    Ok(())
}

/// Refuses what is neither empty nor a name.
pub(crate) fn check_prefix(prefix: &str) -> Result<()> {
    if prefix.is_empty() {
        Ok(())
    } else {
        check(prefix)
    }
}

/// Whether `name` lies below `prefix`, whole parts counted.
pub(crate) fn is_below(name: &str, prefix: &str) -> bool {
    prefix.is_empty()
        || name
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.starts_with('/'))
}

fn bad_part(part: &str) -> bool {
    part.is_empty()
        || part == "."
        || part == ".."
        || part.len() > PART_BYTES_MAX
        || part.starts_with(UNFINISHED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_below_their_root() {
        for name in ["a", "log/1", "a-b_c.d/~x y/ü", "..a/b..", ".hidden"] {
            check(name).unwrap();
        }
        let long = "x".repeat(256);
        for name in [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "../a",
            "a/../b",
            "a/./b",
            "a\0b",
            "a\\b",
            "a\nb",
            ".tmp-1",
            "a/.tmp-1-2",
            &long,
        ] {
            assert_eq!(
                check(name).unwrap_err().code(),
                ErrorCode::StoreFailed,
                "{name:?}"
            );
        }
        assert!(check(&"x/".repeat(460)).is_err());
    }

    #[test]
    fn a_prefix_counts_whole_parts() {
        assert!(is_below("a/b", "a") && is_below("a/b/c", "a/b") && is_below("a", ""));
        assert!(!is_below("ab", "a") && !is_below("a", "a") && !is_below("b/a", "a"));
    }
}
