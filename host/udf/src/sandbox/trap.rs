//! Why a guest stopped, in words for the function's author.

use pelton_model::{Error, ErrorCode};
use wasmtime::{Trap, WasmBacktrace};

use super::guest::State;
use super::limits::Stopped;
use crate::convert::wire::Failure;

/// Frames of a backtrace that are shown.
const FRAMES_MAX: usize = 24;
/// As many frames of one function among the innermost are a recursion.
const RECURSION_FRAMES: usize = 8;

const OUTPUT_HELP: &str =
    "emit less for one row, or raise the limit with --limit output-bytes-max=N";

/// Why a call did not answer.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The guest says that it cannot go on. The instance lives.
    Failure(Failure),
    /// The guest was stopped. The instance is dead.
    Trap(Trapped),
    /// The host's own affair: an argument that is not what was agreed.
    Host(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Host(error)
    }
}

/// A trap, or a limit that was reached.
#[derive(Clone, Debug)]
pub(crate) struct Trapped {
    pub(crate) code: ErrorCode,
    /// What it did: goes on from the name of a function.
    pub(crate) message: String,
    pub(crate) backtrace: Option<String>,
    pub(crate) help: Option<&'static str>,
}

impl From<Error> for Trapped {
    /// An answer that was refused, as a reason to stop.
    fn from(refused: Error) -> Self {
        let help = (refused.code() == ErrorCode::OutputLimit).then_some(OUTPUT_HELP);
        Self {
            code: refused.code(),
            message: refused.message().to_string(),
            backtrace: None,
            help,
        }
    }
}

impl Trapped {
    /// An error about this function, or whatever `who` names.
    pub(crate) fn error(&self, who: &str) -> Error {
        let mut error = Error::new(self.code, format!("{who} {}", self.message));
        if let Some(help) = self.help {
            error = error.help(help);
        }
        if let Some(backtrace) = &self.backtrace {
            error = error.detail(backtrace.clone());
        }
        error
    }
}

/// Whatever stopped a call.
pub(crate) fn of(error: wasmtime::Error, state: &mut State) -> Trapped {
    let backtrace = error.downcast_ref::<WasmBacktrace>();
    let shown = backtrace.map(show).filter(|text| !text.is_empty());
    let (code, message, help) = if let Some(stopped) = error.downcast_ref::<Stopped>() {
        of_stop(stopped, state.memory.bytes_max)
    } else if let Some(trap) = error.downcast_ref::<Trap>() {
        of_trap(*trap, backtrace, state.log.panic.take())
    } else if error.to_string().contains("fuel allocated for hostcalls") {
        (
            ErrorCode::OutputLimit,
            "returned more than one call may return".into(),
            Some(OUTPUT_HELP),
        )
    } else {
        // The canonical ABI's own checks: pointers, discriminants, text.
        let message = format!("returned what cannot be read: {}", error.root_cause());
        (ErrorCode::BadReply, message, None)
    };
    Trapped {
        code,
        message,
        backtrace: shown,
        help,
    }
}

/// What stopped an instance before its first call.
pub(crate) fn starting(error: wasmtime::Error, state: &mut State) -> Error {
    if error.is::<Stopped>() || error.is::<Trap>() {
        return of(error, state).error("the component, while it was started,");
    }
    if error.is::<wasmtime::PoolConcurrencyLimitError>() {
        return Error::new(
            ErrorCode::Io,
            "no instance is left: too many tasks run in this process",
        )
        .help("lower the parallelism, or run fewer jobs at once");
    }
    let message = format!("the component cannot be started: {error:#}");
    if message.contains("(os error ") {
        return Error::new(ErrorCode::Io, message)
            .help("instances reserve addresses, mostly unused ones: raise the process's limit of virtual memory");
    }
    Error::new(ErrorCode::CompileFailed, message)
}

fn of_stop(stopped: &Stopped, memory_max: usize) -> (ErrorCode, String, Option<&'static str>) {
    let message = stopped.to_string();
    match stopped {
        Stopped::Cpu(_) => (
            ErrorCode::CpuLimit,
            format!("{message} in one call"),
            Some(
                "it may loop for ever; raise the limit with --limit cpu-ms-per-call=N if the work is honest",
            ),
        ),
        Stopped::Memory { .. } => (
            ErrorCode::MemoryLimit,
            format!("{message}, and {memory_max} are allowed"),
            Some("keep less in the function, or raise the limit with --limit memory-bytes=N"),
        ),
        Stopped::Table { .. } => (ErrorCode::MemoryLimit, message, None),
        Stopped::Cancelled => (ErrorCode::Cancelled, message, None),
        Stopped::Misuse(_) => (ErrorCode::Trap, message, None),
    }
}

fn of_trap(
    trap: Trap,
    backtrace: Option<&WasmBacktrace>,
    panic: Option<String>,
) -> (ErrorCode, String, Option<&'static str>) {
    const STACK: &str = "the most frequent reason is a recursion without an end";
    match (trap, panic) {
        (Trap::StackOverflow, _) => (
            ErrorCode::StackLimit,
            "recursed too deeply: its call stack is exhausted".into(),
            Some(STACK),
        ),
        // A guest keeps large locals on a stack in its own memory, below everything else: its end is this trap.
        (Trap::MemoryOutOfBounds, _) if backtrace.is_some_and(recurses) => (
            ErrorCode::StackLimit,
            "recursed too deeply: its stack in memory is exhausted".into(),
            Some(STACK),
        ),
        (_, Some(panic)) => (ErrorCode::Trap, format!("panicked: {panic}"), None),
        (trap, None) => {
            let text = trap.to_string();
            let text = text.strip_prefix("wasm trap: ").unwrap_or(&text);
            (ErrorCode::Trap, format!("trapped: {text}"), None)
        }
    }
}

fn recurses(backtrace: &WasmBacktrace) -> bool {
    let frames = backtrace.frames();
    frames.iter().take(RECURSION_FRAMES).any(|one| {
        let same = |f: &&wasmtime::FrameInfo| f.func_index() == one.func_index();
        frames.iter().filter(same).count() >= RECURSION_FRAMES
    })
}

/// One function in a backtrace, perhaps inlined into the next.
struct Frame {
    name: String,
    place: Option<String>,
}

/// The frames that are the author's or the SDK's, innermost first: `in function`, `at file:line`. Addresses and the
/// insides of the language's own library tell an author nothing; without debug information all names are shown.
fn show(backtrace: &WasmBacktrace) -> String {
    let frames = frames(&backtrace.to_string());
    let named_only = frames.iter().all(|f| f.place.is_none());
    let mut lines: Vec<String> = Vec::new();
    let mut again = 0usize;
    for frame in frames.iter().filter(|f| named_only || f.is_of_interest()) {
        let place = frame.place.as_ref();
        let text = match place {
            Some(place) => format!("  in {}\n    at {place}", frame.name),
            None => format!("  in {}", frame.name),
        };
        if lines.last() == Some(&text) {
            again += 1;
            continue;
        }
        tell_again(&mut lines, &mut again);
        lines.push(text);
    }
    tell_again(&mut lines, &mut again);
    if lines.len() > FRAMES_MAX {
        lines.truncate(FRAMES_MAX);
        lines.push("  ...".into());
    }
    lines.join("\n")
}

fn tell_again(lines: &mut Vec<String>, again: &mut usize) {
    match std::mem::take(again) {
        0 => {}
        n => lines.push(format!("  and {n} more of the same")),
    }
}

impl Frame {
    fn is_of_interest(&self) -> bool {
        const LIBRARY: [&str; 3] = ["/rustlib/src/rust/library/", "/rustc/", "/registry/src/"];
        match &self.place {
            Some(place) => !LIBRARY.iter().any(|l| place.contains(l)),
            None => self.name.contains("::"),
        }
    }
}

/// Reads what wasmtime prints, which has the names in readable form:
/// `   3:   0x1f2a - module!name`, then for each inlined function `- name`, each perhaps followed by `at file:line`.
fn frames(text: &str) -> Vec<Frame> {
    let mut frames: Vec<Frame> = Vec::new();
    for line in text.lines().skip(1).map(str::trim) {
        if line.starts_with("note:") {
            break;
        }
        if let Some(place) = line.strip_prefix("at ") {
            if let Some(frame) = frames.last_mut() {
                frame.place = Some(place.to_string());
            }
            continue;
        }
        let name = match line.split_once("- ") {
            Some((_, name)) => name,
            // Where no address is known, the number alone stands before the name.
            None => line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ':'),
        };
        let name = match name.split_once('!') {
            Some((module, name)) if !module.contains("::") => name,
            _ => name,
        };
        frames.push(Frame {
            name: readable(name.trim_start()),
            place: None,
        });
    }
    frames
}

/// A name without the compiler's additions: `job[1f..]::f<T>` is `job::f`.
fn readable(name: &str) -> String {
    let mut out = String::new();
    let mut depth = 0usize;
    for c in name.chars() {
        match c {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            '<' if !out.is_empty() => break,
            c if depth == 0 => out.push(c),
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backtrace_shows_what_is_the_authors() {
        let text = "error while executing at wasm backtrace:
    0:   0x1f2a - <unknown>!abort_internal
                - abort
                    at /usr/lib/rustlib/src/rust/library/std/src/process.rs:2536:5
    1:   0x2000 - job[0123]::split<T>
                    at src/lib.rs:12:5
    2: job.wasm!job::main
note: more";
        let frames = frames(text);
        let names: Vec<_> = frames.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(
            names,
            ["abort_internal", "abort", "job::split", "job::main"]
        );
        let shown: Vec<_> = frames.iter().map(Frame::is_of_interest).collect();
        assert_eq!(shown, [false, false, true, true]);
        assert_eq!(frames[2].place.as_deref(), Some("src/lib.rs:12:5"));
    }
}
