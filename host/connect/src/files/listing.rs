//! Which files a source reads, and how they are cut into chunks.
//! Needs: the file system. The list depends on the files alone, never on the number of tasks.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use pelton_model::{Error, ErrorCode, Result};

use super::lines::Range;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// A file to read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct InputFile {
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    pub(super) gzip: bool,
}

/// A part of a file that one reader takes as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Chunk {
    /// Which file.
    pub(super) file: usize,
    pub(super) range: Range,
}

/// The files that the lines of `paths` name, in their order: each one file, a folder, or a glob with `*` and `?`; those
/// by bytes of their paths. Each is opened, to see whether it can be read. Errors: `InputMissing` with path and reason,
/// also if there is no file at all.
pub(super) fn files(paths: &str) -> Result<Vec<InputFile>> {
    let mut all = Vec::new();
    for path in paths.split('\n') {
        all.extend(files_of(path)?);
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
    found.into_iter().map(inspect).collect()
}

/// The chunks of `files`, in order: `chunk_bytes` each, compressed files whole, nothing of empty ones.
pub(super) fn chunks(files: &[InputFile], chunk_bytes: u64, whole: bool) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    for (file, input) in files.iter().enumerate() {
        if input.gzip || whole {
            if input.bytes > 0 {
                chunks.push(Chunk {
                    file,
                    range: Range {
                        start: 0,
                        end: u64::MAX,
                        gzip: input.gzip,
                    },
                });
            }
            continue;
        }
        let mut start = 0;
        while start < input.bytes {
            let end = start.saturating_add(chunk_bytes).min(input.bytes);
            chunks.push(Chunk {
                file,
                range: Range {
                    start,
                    end,
                    gzip: false,
                },
            });
            start = end;
        }
    }
    chunks
}

/// The error of an input that the system refuses.
pub(super) fn unreadable(path: &Path, reason: &std::io::Error) -> Error {
    Error::new(
        ErrorCode::InputMissing,
        format!("input '{}' cannot be read: {reason}", path.display()),
    )
}

fn inspect(path: PathBuf) -> Result<InputFile> {
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
    Ok(InputFile {
        gzip: magic == GZIP_MAGIC,
        bytes: meta.len(),
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
    fn chunks_cover_each_file_once() {
        let file = |bytes, gzip| InputFile {
            path: PathBuf::new(),
            bytes,
            gzip,
        };
        let cut = |whole| {
            let list = chunks(
                &[
                    file(5, false),
                    file(0, false),
                    file(9, true),
                    file(4, false),
                ],
                2,
                whole,
            );
            list.into_iter()
                .map(|c| (c.file, c.range.start, c.range.end))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            cut(false),
            [
                (0, 0, 2),
                (0, 2, 4),
                (0, 4, 5),
                (2, 0, u64::MAX),
                (3, 0, 2),
                (3, 2, 4)
            ]
        );
        assert_eq!(
            cut(true),
            [(0, 0, u64::MAX), (2, 0, u64::MAX), (3, 0, u64::MAX)]
        );
    }
}
