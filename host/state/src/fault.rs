//! What RocksDB refuses, as errors that say what to do.

use std::path::Path;

use pelton_model::{Error, ErrorCode};

/// The error for what RocksDB says of the database in `dir`.
pub(crate) fn refused(dir: &Path, error: &rocksdb::Error) -> Error {
    said(dir, error.kind(), error.as_ref())
}

/// The error for a database whose write buffers, of so many bytes, cannot be written to its folder.
pub(crate) fn stuck(dir: &Path, buffer_bytes: usize) -> Error {
    let probe = dir.join("probe");
    let tried = std::fs::write(&probe, vec![0; buffer_bytes]);
    // It was there to see what the system says.
    let _ = std::fs::remove_file(&probe);
    let message = match tried {
        Err(e) => e.to_string(),
        Ok(()) => "write buffers could not be written to files".to_owned(),
    };
    said(dir, rocksdb::ErrorKind::IOError, &message)
}

/// Changes or map keys that are not of their state.
pub(crate) fn misfit() -> Error {
    Error::new(
        ErrorCode::BadReply,
        "values of a state don't fit its schema or its keys",
    )
}

/// A state is read or written as what it is not.
pub(crate) fn another_kind() -> Error {
    Error::new(
        ErrorCode::BadReply,
        "a state that is not there, or of another kind",
    )
}

/// The system has no thread for a snapshot.
pub(crate) fn no_thread(e: &std::io::Error) -> Error {
    Error::new(
        ErrorCode::StateFailed,
        format!("the system has no thread for a snapshot: {e}"),
    )
    .help("raise the limit of threads; the next checkpoint tries again")
}

/// The thread of a snapshot is gone.
pub(crate) fn lost() -> Error {
    Error::bug("the thread of a snapshot has ended without a word")
}

/// A file of a snapshot that is not what was written.
pub(crate) fn damaged(why: &str) -> Error {
    Error::new(
        ErrorCode::Corrupt,
        format!("a file of the state is damaged: {why}"),
    )
}

fn said(dir: &Path, kind: rocksdb::ErrorKind, message: &str) -> Error {
    let full = ["No space left", "Disk quota exceeded", "space limit"];
    let files = ["Too many open files"];
    let has = |any: &[&str]| any.iter().any(|text| message.contains(text));
    let (code, what, help) = match kind {
        rocksdb::ErrorKind::Corruption => (
            ErrorCode::Corrupt,
            "the state on disk is damaged",
            "check the disk, and start the job again",
        ),
        _ if has(&full) => (
            ErrorCode::StateFailed,
            "the disk is full: the state has no room",
            "free some space, or name a folder on another disk with `state.dir`",
        ),
        _ if has(&files) => (
            ErrorCode::StateFailed,
            "the state needs more open files than the system allows",
            "raise the limit with `ulimit -n`, or lower `state.rocksdb.max_open_files`",
        ),
        rocksdb::ErrorKind::IOError => (
            ErrorCode::StateFailed,
            "the folder of the state cannot be used",
            "check that it is there, is writable and belongs to no other job; `state.dir` names another",
        ),
        rocksdb::ErrorKind::InvalidArgument | rocksdb::ErrorKind::NotSupported => (
            ErrorCode::StateFailed,
            "the state store refuses its options",
            "check the settings below `state.rocksdb`",
        ),
        _ => (
            ErrorCode::StateFailed,
            "the state store has failed",
            "the detail has its own words; start the job again",
        ),
    };
    Error::new(code, what)
        .at("folder", dir.display())
        .help(help)
        .detail(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rocksdb::ErrorKind;

    #[test]
    fn each_fault_says_what_to_do() {
        let check = |kind, message, code, word: &str| {
            let error = said(Path::new("/state"), kind, message);
            assert_eq!(error.code(), code, "{message}");
            assert!(error.help_text().unwrap().contains(word), "{message}");
            assert_eq!(error.detail_text(), Some(message));
        };
        let full = "IO error: No space left on device: While appending to file: /state/000012.sst";
        check(
            ErrorKind::IOError,
            full,
            ErrorCode::StateFailed,
            "free some space",
        );
        let damaged = "Corruption: block checksum mismatch";
        check(
            ErrorKind::Corruption,
            damaged,
            ErrorCode::Corrupt,
            "check the disk",
        );
        let refused = "IO error: Permission denied: While mkdir if missing: /state";
        check(
            ErrorKind::IOError,
            refused,
            ErrorCode::StateFailed,
            "writable",
        );
        let files = "IO error: Too many open files: /state/000012.sst";
        check(ErrorKind::IOError, files, ErrorCode::StateFailed, "ulimit");
    }
}
