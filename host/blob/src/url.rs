//! URLs of stores, taken apart.
//! Needs: `model::error`. Refuses: to look whether anything is there.

use std::path::PathBuf;

use pelton_model::{Error, ErrorCode, Result};

/// What a URL names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// A local folder, by its absolute path.
    Folder(PathBuf),
    /// A store in this process.
    Memory(String),
    /// A bucket, and what all names in it begin with: empty, or without a `/` at its ends.
    Bucket {
        kind: Kind,
        bucket: String,
        prefix: String,
    },
}

/// Kinds of object stores.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    S3,
    Azure,
}

impl Place {
    pub(crate) fn parse(url: &str) -> Result<Self> {
        let Some((scheme, rest)) = url.split_once("://") else {
            return folder(url, url);
        };
        match scheme {
            "file" => {
                let path = rest.strip_prefix("localhost").unwrap_or(rest);
                if !path.starts_with('/') {
                    return Err(refused(url, "write file:///path, with an absolute path"));
                }
                let path = percent_decoded(path).ok_or_else(|| {
                    refused(
                        url,
                        "a % is not followed by two hexadecimal digits, or the path is not UTF-8",
                    )
                })?;
                folder(url, &path)
            }
            "memory" if rest.is_empty() => Err(refused(url, "write memory://NAME")),
            "memory" => Ok(Self::Memory(rest.to_owned())),
            "s3" => bucket(url, Kind::S3, rest),
            "az" => bucket(url, Kind::Azure, rest),
            _ => Err(refused(
                url,
                "stores are file:///path, a plain path, memory://NAME, s3://BUCKET/PREFIX and az://CONTAINER/PREFIX",
            )),
        }
    }
}

/// A store that cannot be used under this URL.
pub(crate) fn refused(url: &str, why: &str) -> Error {
    Error::new(
        ErrorCode::StoreFailed,
        format!("the store '{url}' cannot be used: {why}"),
    )
}

/// A kind of store that this build does not have.
#[cfg(not(all(feature = "s3", feature = "azure")))]
pub(crate) fn not_built(url: &str, kind: Kind) -> Error {
    let why = match kind {
        Kind::S3 => "this build has no access to S3; build with the feature `s3`",
        Kind::Azure => "this build has no access to Azure; build with the feature `azure`",
    };
    refused(url, why)
}

fn bucket(url: &str, kind: Kind, rest: &str) -> Result<Place> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        let example = match kind {
            Kind::S3 => "write s3://BUCKET/PREFIX",
            Kind::Azure => "write az://CONTAINER/PREFIX",
        };
        return Err(refused(url, example));
    }
    let prefix = prefix.trim_end_matches('/');
    crate::name::check_prefix(prefix).map_err(|e| refused(url, e.message()))?;
    Ok(Place::Bucket {
        kind,
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
    })
}

fn folder(url: &str, path: &str) -> Result<Place> {
    if path.contains('\0') {
        return Err(refused(url, "a path has no byte 0"));
    }
    match std::path::absolute(path) {
        Ok(path) => Ok(Place::Folder(path)),
        Err(e) => Err(refused(url, &e.to_string())),
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let high = (rest.next()? as char).to_digit(16)?;
        let low = (rest.next()? as char).to_digit(16)?;
        bytes.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_each_kind() {
        let folder = |path: &str| Place::Folder(PathBuf::from(path));
        let bucket = |kind, prefix: &str| Place::Bucket {
            kind,
            bucket: "bucket".to_owned(),
            prefix: prefix.to_owned(),
        };
        for (url, place) in [
            ("file:///var/ck", folder("/var/ck")),
            ("file://localhost/var/ck", folder("/var/ck")),
            ("file:///a%20b/%C3%BC", folder("/a b/ü")),
            ("/var/ck", folder("/var/ck")),
            ("/a%20b", folder("/a%20b")),
            ("memory://job", Place::Memory("job".to_owned())),
            ("s3://bucket", bucket(Kind::S3, "")),
            ("s3://bucket/a/b/", bucket(Kind::S3, "a/b")),
            ("az://bucket/a", bucket(Kind::Azure, "a")),
        ] {
            assert_eq!(Place::parse(url).unwrap(), place, "{url}");
        }
        let here = std::env::current_dir().unwrap();
        assert_eq!(Place::parse("ck").unwrap(), Place::Folder(here.join("ck")));
    }

    #[test]
    fn urls_that_are_refused_are_named() {
        for url in [
            "",
            "file://relative/path",
            "file:///50%",
            "file:///a%ff",
            "file:///a%00",
            "memory://",
            "s3://",
            "az:///a",
            "s3://bucket/../up",
            "gs://bucket",
            "http://host/path",
        ] {
            let e = Place::parse(url).unwrap_err();
            assert_eq!(e.code(), ErrorCode::StoreFailed, "{url}");
            assert!(e.message().contains(&format!("'{url}'")), "{url}: {e}");
        }
    }
}
