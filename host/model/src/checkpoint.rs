//! The metadata of checkpoints and savepoints, and the log of a job's decisions.
//! Needs: snapshot, schema, id. Refuses: IO; objects are written and read by others, through [`blob`](crate::blob).
//!
//! A checkpoint folder has one job. All that is decided stands in one sequence of objects, each written once, by
//! [`put_new`](crate::blob::Blobs::put_new), under the next number:
//!
//! ```text
//! log/00000000000000000001     a start: a process has taken over; its number is its term
//! log/00000000000000000002     a complete checkpoint of that process
//! log/00000000000000000003     ...
//! data/<term>/<checkpoint>/..  what checkpoints consist of
//! shared/<term>/..             files of a backend, which several checkpoints have in common
//! ```
//!
//! A process that stalls and comes back finds the number that it wants to write taken, by the start of another: it has
//! been passed, and commits nothing. For that, entries of starts are never removed; those of checkpoints are, once later
//! ones are there. So a start that finds a number free looks whether there is a greater one: then it does not count.
//!
//! A checkpoint has an id from its first barrier on, and its number in the log only when it is complete; many never are.
//! So ids and numbers are two sequences, both ascending along the log: the id of a checkpoint is above those of all
//! complete ones before it and above the term of its process; its number is one more than that of the entry before.
//! Savepoints take ids from the same sequence, and no numbers.
//!
//! An entry, and a savepoint's `metadata`, is an envelope:
//!
//! ```text
//! "PLTMETA\n" version:u32 json-length:u32 inline-length:u64 checksum:u64 json inline
//! ```
//!
//! with numbers in little endian, and XXH3-64 over json and inline; small state files stand in `inline`. Fields of the
//! JSON are only ever added.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::id::CheckpointId;
use crate::snapshot::SectionSpec;
use crate::{Error, ErrorCode, Result};

/// The version of envelopes that is written.
pub const METADATA_VERSION: u32 = 1;

const MAGIC: &[u8; 8] = b"PLTMETA\n";
const HEAD: usize = 32;

/// One entry of the log.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "kebab-case")]
pub enum LogEntry {
    /// A process has taken over.
    Start(Start),
    /// A checkpoint is complete.
    Checkpoint(Box<Metadata>),
}

/// A process has taken over.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Start {
    /// Unique to the process: a put whose reply was lost is told by it.
    pub attempt: String,
    /// What runs.
    pub job: JobRecord,
    /// The checkpoint that it goes on from.
    pub from: Option<u64>,
    /// The savepoint that this start began from, or one before it of which it is the continuation: its attempt and id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub savepoint: Option<String>,
    /// Milliseconds since 1970.
    pub at_ms: i64,
}

/// What a job is, as far as its state depends on it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct JobRecord {
    /// Its name: a job is its name.
    pub name: String,
    /// Its parameters.
    pub params: Vec<(String, String)>,
    /// Digest of the component.
    pub component: String,
    /// By uid: each source's connector and options.
    pub sources: Vec<(String, String)>,
    /// Number of key groups.
    pub max_parallelism: u32,
}

/// A checkpoint or a savepoint: all that a job needs to go on from it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Metadata {
    /// The number of its barrier; not that of its entry in the log.
    pub id: u64,
    /// The attempt of the process that made it.
    pub attempt: String,
    /// The number of that process's start.
    pub term: u64,
    /// What ran.
    pub job: JobRecord,
    /// Whether it is self-contained, in the canonical format.
    pub savepoint: bool,
    /// Whether the job had ended: there is nothing to go on with.
    pub finished: bool,
    /// Milliseconds since 1970, when it was begun.
    pub at_ms: i64,
    /// The operators, in the order of the graph.
    pub operators: Vec<OperatorRecord>,
    /// What each task wrote.
    pub tasks: Vec<TaskRecord>,
}

/// An operator of a job.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OperatorRecord {
    /// What its state is found by.
    pub uid: String,
    /// For people.
    pub name: String,
    /// How many tasks it had.
    pub parallelism: u32,
}

/// What one task wrote.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct TaskRecord {
    /// The chain's number in its graph; means something within one version of a job only.
    pub chain: u32,
    /// Which of the chain's tasks.
    pub index: u32,
    /// Uids of its operators.
    pub operators: Vec<String>,
    /// First key group, and the one after the last.
    pub key_groups: (u32, u32),
    /// Whether it had ended.
    pub finished: bool,
    /// The state file.
    pub state: Option<StoredFile>,
    /// What is in the state file; sections are numbered by their place here.
    pub sections: Vec<SectionRecord>,
    /// State in a backend's own files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub native: Vec<NativeState>,
    /// What sinks have prepared, to be committed once this checkpoint is complete.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub committables: Vec<Committable>,
}

/// A section of a state file.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SectionRecord {
    /// What it is.
    #[serde(flatten)]
    pub spec: SectionSpec,
    /// How many entries.
    pub entries: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
}

/// State of one operator's task in the files of its backend.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct NativeState {
    /// The operator's uid.
    pub uid: String,
    /// Which backend, with the version of its layout, such as `rocksdb-1`.
    pub format: String,
    /// What is in them.
    pub sections: Vec<SectionSpec>,
    /// The files, by the names that the backend gave them.
    pub files: Vec<NativeFile>,
}

/// A file of a backend.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NativeFile {
    /// The backend's name for it.
    pub name: String,
    /// Where it is.
    pub file: StoredFile,
}

/// Where bytes are, and how to know that they are whole.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StoredFile {
    /// The object's name, relative to the folder of the checkpoints or of the savepoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Or where it begins in the inline part of the envelope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inline: Option<u64>,
    /// Bytes.
    pub length: u64,
    /// XXH3-64 of all of it.
    #[serde(with = "hex")]
    pub checksum: u64,
}

/// What a sink's writer has prepared.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Committable {
    /// The sink's uid.
    pub uid: String,
    /// The checkpoint at whose barrier it was prepared.
    pub checkpoint: u64,
    /// The connector's own words.
    #[serde(with = "base16")]
    pub payload: Vec<u8>,
}

impl Metadata {
    /// Its number as the engine has it.
    #[must_use]
    pub fn checkpoint(&self) -> CheckpointId {
        CheckpointId(self.id)
    }

    /// All objects that it consists of, besides its own entry.
    pub fn objects(&self) -> impl Iterator<Item = &StoredFile> {
        self.tasks.iter().flat_map(|t| {
            let native = t.native.iter().flat_map(|n| &n.files).map(|f| &f.file);
            t.state.iter().chain(native)
        })
    }

    /// Everything that sinks have prepared.
    pub fn committables(&self) -> impl Iterator<Item = &Committable> {
        self.tasks.iter().flat_map(|t| &t.committables)
    }
}

/// The name of an entry of the log.
#[must_use]
pub fn log_name(number: u64) -> String {
    format!("log/{number:020}")
}

/// The number in the name of an entry of the log.
#[must_use]
pub fn log_number(name: &str) -> Option<u64> {
    name.strip_prefix("log/")?.parse().ok()
}

/// The bytes of an envelope. Errors: `Bug` for what JSON cannot say.
pub fn encode<T: Serialize>(value: &T, inline: &[u8]) -> Result<Vec<u8>> {
    let json = serde_json::to_vec(value).map_err(|e| Error::bug(format!("metadata: {e}")))?;
    let length = u32::try_from(json.len()).map_err(|_| Error::bug("metadata of over 4 GiB"))?;
    let mut out = Vec::with_capacity(HEAD + json.len() + inline.len());
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&METADATA_VERSION.to_le_bytes());
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&(inline.len() as u64).to_le_bytes());
    out.extend_from_slice(&checksum(&json, inline).to_le_bytes());
    out.extend_from_slice(&json);
    out.extend_from_slice(inline);
    Ok(out)
}

/// Reads an envelope: its value and the inline part. Errors: `Corrupt`, which says what is wrong.
pub fn decode<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> Result<(T, Vec<u8>)> {
    let (head, rest) = bytes
        .split_at_checked(HEAD)
        .ok_or_else(|| corrupt("it is too short"))?;
    let number = |at: usize, len: usize| {
        let part = head.get(at..at + len).unwrap_or_default();
        part.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b))
    };
    if head.get(..8) != Some(MAGIC.as_slice()) {
        return Err(corrupt("it is no metadata"));
    }
    if number(8, 4) != u64::from(METADATA_VERSION) {
        return Err(corrupt(&format!(
            "it has version {}, and this release reads {METADATA_VERSION}",
            number(8, 4)
        )));
    }
    let (json, inline) = usize::try_from(number(12, 4))
        .ok()
        .and_then(|at| rest.split_at_checked(at))
        .filter(|(_, inline)| inline.len() as u64 == number(16, 8))
        .ok_or_else(|| corrupt("its length is wrong"))?;
    if checksum(json, inline) != number(24, 8) {
        return Err(corrupt("its checksum is wrong"));
    }
    let value = serde_json::from_slice(json).map_err(|e| corrupt(&e.to_string()))?;
    Ok((value, inline.to_vec()))
}

fn checksum(json: &[u8], inline: &[u8]) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(json);
    hash.update(inline);
    hash.digest()
}

fn corrupt(why: &str) -> Error {
    Error::new(
        ErrorCode::Corrupt,
        format!("the metadata is damaged: {why}"),
    )
}

/// Numbers that JSON would round, as text.
mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(n: &u64, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&format!("{n:016x}"))
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(d: D) -> Result<u64, D::Error> {
        let text = String::deserialize(d)?;
        u64::from_str_radix(&text, 16).map_err(D::Error::custom)
    }
}

/// Bytes as text.
mod base16 {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
        let text: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        s.serialize_str(&text)
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(d: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(d)?;
        let byte = |i: usize| {
            let two = text.get(i..i + 2);
            two.and_then(|t| u8::from_str_radix(t, 16).ok())
        };
        let bytes: Option<Vec<u8>> = (0..text.len()).step_by(2).map(byte).collect();
        bytes.ok_or_else(|| D::Error::custom("it is not in hexadecimal"))
    }
}

#[cfg(test)]
mod tests;
