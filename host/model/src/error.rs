//! The error of the host: what is wrong, where, who must act, and how.
//!
//! A code is stable: scripts match on it and `pelton explain-error CODE` tells more. A new code is one line in the
//! table below.

use std::fmt;

/// The result of everything that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Who must act.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ErrorKind {
    /// Nobody: the same call may succeed later.
    Retry,
    /// The author of the command line or the settings.
    Usage,
    /// The author of the job: its graph, its component, its parameters.
    BadJob,
    /// The author of a function: it trapped or answered what the contract forbids.
    BadUdf,
    /// Whoever sends the data.
    BadInput,
    /// The operator of the machine: a file, a disk, a right.
    Environment,
    /// The owner of the quota.
    LimitReached,
    /// The operator: data that was durable can't be read.
    DataLost,
    /// Us.
    Bug,
}

macro_rules! codes {
    ($($name:ident $code:literal $kind:ident $title:literal $explain:literal;)*) => {
        /// A stable code for each kind of error.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum ErrorCode { $(#[doc = $title] $name,)* }

        impl ErrorCode {
            /// Every code there is.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The code as it is printed, such as `PLT-0101`.
            #[must_use]
            pub fn as_str(self) -> &'static str { match self { $(Self::$name => $code,)* } }
            /// Who must act.
            #[must_use]
            pub fn kind(self) -> ErrorKind { match self { $(Self::$name => ErrorKind::$kind,)* } }
            /// A few words.
            #[must_use]
            pub fn title(self) -> &'static str { match self { $(Self::$name => $title,)* } }
            /// What it means and what to do, in a paragraph.
            #[must_use]
            pub fn explain(self) -> &'static str { match self { $(Self::$name => $explain,)* } }
        }
    };
}

codes! {
    Usage "PLT-0001" Usage "wrong use of the command line"
        "An argument or a setting is missing, unknown or has a value that is not allowed. The message names it; `pelton COMMAND --help` lists what there is.";
    NotFound "PLT-0002" Usage "not found"
        "The file, folder or object that the command names does not exist. Check the spelling and the folder that you are in.";
    Settings "PLT-0003" Usage "a setting is not understood"
        "A settings file or a PELTON_ variable has an unknown key or a value of the wrong type. `pelton config show --origin` prints each value and where it comes from.";
    Conflict "PLT-0004" Usage "it is already there"
        "The command would overwrite something that exists. Choose another name, or remove what is there.";
    NotAComponent "PLT-0101" BadJob "not a component"
        "The file is not a WebAssembly component: it is empty, truncated, a core module, text, or something else. `pelton build` makes components.";
    ComponentTooLarge "PLT-0102" LimitReached "the component is too large"
        "The component is larger than the host accepts. Build it with `opt-level`, `lto` and without debug sections.";
    WrongWorld "PLT-0103" BadJob "the component has another world"
        "The component does not export what a job of this host must export, or was built for another version of the contract. Build it with the SDK of this version.";
    ForeignImport "PLT-0104" BadJob "an import that is not granted"
        "The component imports something that is not part of the job's world: WASI, or another interface. Imports are permissions, and a job has none but those of the contract. Remove the dependency that brings the import.";
    CompileFailed "PLT-0105" BadJob "the component does not compile"
        "The component is well formed at first sight, but the compiler refuses it. The message says where.";
    DescribeFailed "PLT-0110" BadJob "the job function failed"
        "The job function returned an error or trapped while the graph was made. The message is its own.";
    GraphInvalid "PLT-0111" BadJob "the job graph is not valid"
        "The graph that the job describes breaks a rule: a cycle, a missing input, two equal uids, a parallelism out of bounds, a field that does not exist, types that do not match, or more operators than allowed.";
    NoTimestamps "PLT-0112" BadJob "event time without timestamps"
        "An operator works by event time, but a source above it assigns no timestamps. Add `.assign_timestamps(..)` after the named source.";
    UnknownConnector "PLT-0113" BadJob "unknown connector or option"
        "The job names a connector or an option of a connector that this binary does not have.";
    BadParam "PLT-0114" BadJob "a parameter of the job is missing or unknown"
        "The job needs a parameter that was not given, does not read one that was, or cannot use its value. Parameters are given by `--param NAME=VALUE`.";
    GraphDiffers "PLT-0115" BadUdf "the job describes itself differently each time"
        "Each instance runs the job function again and must arrive at the same graph. The job function depends on something other than its parameters.";
    Trap "PLT-0201" BadUdf "a function trapped"
        "The user's function panicked or executed an illegal instruction. The message names the operator, the function, the row and the guest's backtrace. `pelton build --debug` keeps source lines.";
    CpuLimit "PLT-0202" LimitReached "a function used too much CPU time"
        "One call used more CPU time than `cpu-ms-per-call` allows; the function may loop for ever. Raise the limit with `--limit cpu-ms-per-call=N` if the work is honest.";
    MemoryLimit "PLT-0203" LimitReached "a function used too much memory"
        "The instance asked for more linear memory than `memory-bytes` allows. Raise it with `--limit memory-bytes=N`, or keep less in the function.";
    OutputLimit "PLT-0204" LimitReached "a function returned too much"
        "One row made more output than `output-bytes-max` allows. Emit less, or raise it with `--limit output-bytes-max=N`.";
    StackLimit "PLT-0205" LimitReached "a function recursed too deeply"
        "The guest's call stack is exhausted, most often by a recursion without an end.";
    BadReply "PLT-0206" BadUdf "a function's answer breaks the contract"
        "What the guest returned is not valid: lengths, offsets, UTF-8, parent rows or ordinals. With an SDK of ours this is a bug of the SDK; otherwise of the component's bindings.";
    UserError "PLT-0207" BadUdf "a function returned an error"
        "The user's function gave back an error of its own. The message is its own.";
    StateLimit "PLT-0208" LimitReached "the state is too large"
        "The state of a task is larger than `state-bytes` allows. The message names the operator. Raise it with `--limit state-bytes=N`, or keep less: windows, timers that clear, fewer keys.";
    Overflow "PLT-0209" BadInput "an aggregate overflowed"
        "A sum does not fit its type. Pelton never wraps silently: widen the field, or filter the rows.";
    Cancelled "PLT-0210" Retry "a call was cancelled"
        "The job was told to end while a function ran; what the call was about has not happened. This is no fault of the function.";
    InputMissing "PLT-0301" Environment "an input cannot be read"
        "A file or folder that a source reads does not exist, or may not be read. The message has the path and the system's reason.";
    BadRecord "PLT-0302" BadInput "a record cannot be decoded"
        "A line of the input does not fit the record type: the message has file, line and column. `on_error = skip` counts such lines and goes on.";
    RecordTooLarge "PLT-0303" BadInput "a record is too large"
        "A line is longer than `record-bytes` allows. Raise it with `--limit record-bytes=N`, or skip such lines.";
    BadTimestamp "PLT-0304" BadInput "a timestamp is missing or out of range"
        "The event-time field is null or cannot be a time. Filter such rows before timestamps are assigned.";
    OutputFailed "PLT-0401" Environment "an output cannot be written"
        "The folder, the disk or the pipe that a sink writes to refused. Nothing half-written is left under a final name.";
    Io "PLT-0402" Environment "the system refused"
        "A file or a socket could not be used; the message has the path and the system's reason.";
    StateFailed "PLT-0403" Environment "the state cannot be kept"
        "The folder or the disk that keeps the state refused, or the state store's options are wrong; the message says which, and the detail has the store's own words. `state.dir` names another folder.";
    BuildFailed "PLT-0501" BadJob "the build failed"
        "The compiler refused the job's sources, or the toolchain for WebAssembly is missing. The compiler's own words stand above.";
    TestFailed "PLT-0502" BadJob "a case failed"
        "The output of a case differs from what it expects. `pelton test --update` takes the new output as the expected one.";
    StoreUnavailable "PLT-0404" Retry "the store did not answer"
        "A request to the store of checkpoints failed in a way that may pass: a timeout, a lost connection, too many requests. It is tried again, with pauses; after that the checkpoint fails, and the job goes on.";
    StoreFailed "PLT-0405" Environment "the store refused"
        "The store of checkpoints refused for good: a right is missing, the disk is full, the URL is wrong, or it cannot write an object only where there is none. The message has the URL and the store's own words.";
    CheckpointFailed "PLT-0406" Environment "a checkpoint failed"
        "A checkpoint was not complete in time, or could not be written. The job goes on with the last complete one, up to the number of failures that are tolerated.";
    Corrupt "PLT-0601" DataLost "durable data is damaged"
        "A file's checksum, length or version is wrong. It is not used.";
    StateMismatch "PLT-0602" BadJob "the state does not fit the job"
        "A checkpoint or savepoint has state that the job cannot take: an operator that is not there any more, a state with another type, another number of key groups. The message names the operator, the state and the field.";
    WrongJob "PLT-0603" Usage "the checkpoints belong to another job"
        "The checkpoint folder has checkpoints of a job with another name, or of other source parameters. Name another folder, or begin anew with `--fresh`.";
    Fenced "PLT-0604" Environment "another process has taken over"
        "A later start of the same job has taken the next term in the checkpoint folder. This process commits nothing more, and ends.";
    NotReplayable "PLT-0605" BadJob "exactly once is not possible"
        "A source cannot be read again from a position, or a sink cannot commit: after a crash, rows would be lost or come twice. `--allow-at-least-once` accepts that.";
    Bug "PLT-0901" Bug "a bug in Pelton"
        "An invariant of the host does not hold. Please report the message.";
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl ErrorCode {
    /// The code that prints as `text`, in any case of letters.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|c| c.as_str().eq_ignore_ascii_case(text))
    }
}

/// What is wrong, where, and what to do. Small: it is a pointer.
#[derive(Clone, Debug)]
pub struct Error(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    code: ErrorCode,
    message: String,
    /// Where: (label, value), outermost last: `line`, `file`, `operator`, `function`, `row`.
    at: Vec<(&'static str, String)>,
    help: Option<String>,
    detail: Option<String>,
}

impl Error {
    /// An error with a message that starts in lower case and has no full stop.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            code,
            message: message.into(),
            at: Vec::new(),
            help: None,
            detail: None,
        }))
    }

    /// A broken invariant of ours.
    #[must_use]
    pub fn bug(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Bug, message)
    }

    /// Says where: `("operator", "count")`. A label that is there already stays as it was.
    #[must_use]
    pub fn at(mut self, label: &'static str, value: impl fmt::Display) -> Self {
        if !self.0.at.iter().any(|(l, _)| *l == label) {
            self.0.at.push((label, value.to_string()));
        }
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.0.help = Some(help.into());
        self
    }

    /// Adds lines that stand below the message, such as a guest's backtrace.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        self.0.code
    }

    /// Who must act.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.code.kind()
    }

    /// What is wrong.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Where, innermost first.
    #[must_use]
    pub fn places(&self) -> &[(&'static str, String)] {
        &self.0.at
    }

    /// What to do.
    #[must_use]
    pub fn help_text(&self) -> Option<&str> {
        self.0.help.as_deref()
    }

    /// Further lines.
    #[must_use]
    pub fn detail_text(&self) -> Option<&str> {
        self.0.detail.as_deref()
    }
}

impl fmt::Display for Error {
    /// One line: message, then where.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.message)?;
        for (label, value) in &self.0.at {
            write!(f, ", {label} {value}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_parse_back() {
        for (i, code) in ErrorCode::ALL.iter().enumerate() {
            assert_eq!(ErrorCode::parse(&code.as_str().to_lowercase()), Some(*code));
            assert!(
                ErrorCode::ALL
                    .iter()
                    .skip(i + 1)
                    .all(|c| c.as_str() != code.as_str())
            );
        }
    }

    #[test]
    fn the_innermost_place_wins() {
        let e = Error::new(ErrorCode::BadRecord, "a string where an integer belongs")
            .at("line", 3)
            .at("line", 9)
            .at("file", "a");
        assert_eq!(
            e.to_string(),
            "a string where an integer belongs, line 3, file a"
        );
    }
}
