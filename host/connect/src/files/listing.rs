//! Which files a source reads, and what they are called in every start of a job.
//! Needs: the file system. The list depends on the files alone, never on the number of tasks.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::time::UNIX_EPOCH;

use pelton_model::{Error, ErrorCode, Result};

use super::positions::Stamp;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// A file to read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct InputFile {
    pub(super) path: PathBuf,
    /// What it is called wherever the folder stands: its path below what the option names.
    pub(super) name: String,
    pub(super) bytes: u64,
    /// Nanoseconds since 1970; 0 where the file system does not say.
    pub(super) modified: i64,
    pub(super) gzip: bool,
}

impl InputFile {
    /// What tells whether the file is still the one that it was.
    pub(super) fn stamp(&self) -> Stamp {
        Stamp {
            length: self.bytes,
            modified: self.modified,
        }
    }
}

/// The files that the lines of `paths` name, in their order: each one file, a folder, or a glob with `*` and `?`; those
/// by bytes of their paths. Each is opened, to see whether it can be read. Where there are several lines, names begin
/// with the line's number. Errors: `InputMissing` with path and reason, also if there is no file at all.
pub(super) fn files(paths: &str) -> Result<Vec<InputFile>> {
    let mut all = Vec::new();
    let several = paths.contains('\n');
    for (line, path) in paths.split('\n').enumerate() {
        let mut files = files_of(path)?;
        if several {
            files
                .iter_mut()
                .for_each(|f| f.name = format!("{}:{}", line + 1, f.name));
        }
        all.extend(files);
    }
    Ok(all)
}

fn files_of(path: &str) -> Result<Vec<InputFile>> {
    let mut found = Vec::new();
    match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => {
            for entry in entries(Path::new(path))? {
                if !is_hidden(&entry) && is_file(&entry) {
                    found.push(entry);
                }
            }
            if found.is_empty() {
                return Err(Error::new(
                    ErrorCode::InputMissing,
                    format!("folder '{path}' has no file to read"),
                )
                .help("names that begin with '.' or '_' are not read"));
            }
        }
        Ok(_) => found.push(PathBuf::from(path)),
        Err(e) if !path.contains(['*', '?']) => return Err(unreadable(Path::new(path), &e)),
        Err(_) => {
            found = glob(path)?;
            if found.is_empty() {
                return Err(Error::new(
                    ErrorCode::InputMissing,
                    format!("no file matches '{path}'"),
                ));
            }
        }
    }
    found.sort_by(|a, b| a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes()));
    let base = base_of(path);
    found.into_iter().map(|f| inspect(f, &base)).collect()
}

/// The folder that the files' names are relative to: the path, as far as nothing in it stands for several names.
fn base_of(path: &str) -> PathBuf {
    let path = Path::new(path);
    if path.is_dir() {
        return path.to_owned();
    }
    let wild = |c: &Component<'_>| c.as_os_str().as_bytes().iter().any(|b| b"*?".contains(b));
    let parent = path.parent().unwrap_or(Path::new(""));
    if path.exists() {
        return parent.to_owned();
    }
    parent.components().take_while(|c| !wild(c)).collect()
}

/// The path below `base` as text: bytes that are no UTF-8 are `\xNN`, and a backslash is two.
fn name_of(path: &Path, base: &Path) -> String {
    let below = path.strip_prefix(base).unwrap_or(path);
    let mut name = String::new();
    for chunk in below.as_os_str().as_bytes().utf8_chunks() {
        name.push_str(&chunk.valid().replace('\\', "\\\\"));
        for byte in chunk.invalid() {
            name.push_str(&format!("\\x{byte:02x}"));
        }
    }
    name
}

/// The error of an input that the system refuses.
pub(super) fn unreadable(path: &Path, reason: &std::io::Error) -> Error {
    Error::new(
        ErrorCode::InputMissing,
        format!("input '{}' cannot be read: {reason}", path.display()),
    )
}

fn inspect(path: PathBuf, base: &Path) -> Result<InputFile> {
    let meta = fs::metadata(&path).map_err(|e| unreadable(&path, &e))?;
    if !meta.is_file() {
        let message = format!("input '{}' is neither a file nor a folder", path.display());
        return Err(Error::new(ErrorCode::InputMissing, message));
    }
    let mut file = File::open(&path).map_err(|e| unreadable(&path, &e))?;
    let mut magic = Vec::with_capacity(GZIP_MAGIC.len());
    file.by_ref()
        .take(GZIP_MAGIC.len() as u64)
        .read_to_end(&mut magic)
        .map_err(|e| unreadable(&path, &e))?;
    let modified = meta.modified().ok();
    let modified = modified.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    Ok(InputFile {
        gzip: magic == GZIP_MAGIC,
        bytes: meta.len(),
        modified: modified.map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX)),
        name: name_of(&path, base),
        path,
    })
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = fs::read_dir(folder).map_err(|e| unreadable(folder, &e))?;
    read.map(|entry| entry.map(|e| e.path()).map_err(|e| unreadable(folder, &e)))
        .collect()
}

/// A link counts as what it points to; one that points nowhere is kept, and refused when it is opened.
fn is_file(path: &Path) -> bool {
    fs::metadata(path).map_or(true, |m| m.is_file())
}

fn is_hidden(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|n| matches!(n.as_bytes().first(), Some(b'.' | b'_')))
}

/// The files that match, component by component. A `*` does not stand for a name that begins with '.' or '_'.
fn glob(pattern: &str) -> Result<Vec<PathBuf>> {
    let mut heads = vec![PathBuf::new()];
    let mut components = Path::new(pattern).components().peekable();
    while let Some(component) = components.next() {
        let last = components.peek().is_none();
        let Component::Normal(name) = component else {
            heads.iter_mut().for_each(|h| h.push(component));
            continue;
        };
        let name = name.as_bytes();
        let wild = name.iter().any(|b| matches!(b, b'*' | b'?'));
        let mut next = Vec::new();
        for head in heads {
            if !wild {
                let path = head.join(component);
                if path.exists() {
                    next.push(path);
                }
                continue;
            }
            let folder = if head.as_os_str().is_empty() {
                Path::new(".")
            } else {
                head.as_path()
            };
            if !folder.is_dir() {
                continue;
            }
            for entry in entries(folder)? {
                let Some(file_name) = entry.file_name() else {
                    continue;
                };
                let asked = matches!(name.first(), Some(b'.' | b'_'));
                if (asked || !is_hidden(&entry)) && matches(name, file_name.as_bytes()) {
                    next.push(head.join(file_name));
                }
            }
        }
        heads = next;
        if last {
            heads.retain(|p| is_file(p));
        }
    }
    Ok(heads)
}

/// Whether a name matches a pattern of `*` (any run of bytes) and `?` (one byte).
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    // Where to go on if the rest does not match: the last star takes one byte more.
    let mut retry = None;
    loop {
        match (pattern.get(p), name.get(n)) {
            (Some(b'*'), _) => {
                retry = Some((p, n));
                p += 1;
            }
            (Some(b'?'), Some(_)) => (p, n) = (p + 1, n + 1),
            (Some(a), Some(b)) if a == b => (p, n) = (p + 1, n + 1),
            (None, None) => return true,
            _ => match retry {
                Some((star, from)) if from < name.len() => {
                    retry = Some((star, from + 1));
                    (p, n) = (star + 1, from + 1);
                }
                _ => return false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_patterns() {
        for (pattern, name, fits) in [
            ("*.jsonl", "a.jsonl", true),
            ("*.jsonl", "a.json", false),
            ("a?c*", "abcd", true),
            ("a?c", "ac", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*ab", "aab", true),
            ("*", "", true),
            ("", "a", false),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), name.as_bytes()),
                fits,
                "{pattern} {name}"
            );
        }
    }

    #[test]
    fn names_are_below_what_the_option_names() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        for name in ["a/x.csv", "y.csv"] {
            fs::write(dir.path().join(name), "1\n").unwrap();
        }
        let root = dir.path().display();
        let names = |paths: String| {
            let files = files(&paths).unwrap();
            files.into_iter().map(|f| f.name).collect::<Vec<_>>()
        };
        assert_eq!(names(format!("{root}")), ["y.csv"]);
        assert_eq!(names(format!("{root}/y.csv")), ["y.csv"]);
        assert_eq!(names(format!("{root}/*/x*")), ["a/x.csv"]);
        assert_eq!(
            names(format!("{root}/y.csv\n{root}/a\n{root}/y.csv")),
            ["1:y.csv", "2:x.csv", "3:y.csv"]
        );
        let odd = std::ffi::OsStr::from_bytes(b"d/b\xff\\");
        assert_eq!(name_of(Path::new(odd), Path::new("d")), "b\\xff\\\\");
    }
}
