//! `pelton:job/log`: what functions say to their operator's log, bounded in length and rate.
//!
//! The rate is a bucket that fills with the processing time of the calls; no clock is read. What does not fit is
//! dropped and counted, and the count is told before the next line that fits.

use std::fmt;
use std::sync::Arc;

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, WasmStr};

use crate::admit::interface;
use crate::sandbox::guest::State;
use crate::sandbox::limits::thread_cpu_ns;

/// The most bytes of one line; the rest is cut off.
pub const LINE_BYTES_MAX: usize = 8 << 10;

/// How much a line matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
pub enum LogLevel {
    /// Something is wrong.
    #[component(name = "error")]
    Error,
    /// Something is odd.
    #[component(name = "warn")]
    Warn,
    /// Worth knowing.
    #[component(name = "info")]
    Info,
    /// For the author.
    #[component(name = "debug")]
    Debug,
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        })
    }
}

/// Where log lines go. A line is data: whoever prints it takes care of what it contains.
pub trait LogSink: Send + Sync {
    /// A line of a function (or of several that run in one call, joined by ` -> `), without its end.
    fn line(&self, from: &str, level: LogLevel, text: &str);

    /// So many lines were dropped since the last that was not.
    fn dropped(&self, from: &str, lines: u64);
}

/// A sink that keeps nothing.
#[derive(Clone, Copy, Debug)]
pub struct NoLog;

impl LogSink for NoLog {
    fn line(&self, _: &str, _: LogLevel, _: &str) {}
    fn dropped(&self, _: &str, _: u64) {}
}

/// One instance's log.
pub(crate) struct Log {
    sink: Arc<dyn LogSink>,
    /// Who is speaking.
    pub(crate) from: Arc<str>,
    bytes_per_second: u64,
    /// What may still be written.
    left: u64,
    /// The processing time up to which the bucket is filled.
    filled_ms: Option<i64>,
    dropped: u64,
    /// The message of a panic, until the trap that follows is reported.
    pub(crate) panic: Option<String>,
}

impl Log {
    pub(crate) fn new(sink: Arc<dyn LogSink>, bytes_per_second: u64) -> Self {
        Self {
            sink,
            from: Arc::from(""),
            bytes_per_second,
            left: bytes_per_second,
            filled_ms: None,
            dropped: 0,
            panic: None,
        }
    }

    /// Fills the bucket up to `now`, a processing time in milliseconds; a clock that steps back fills nothing.
    pub(crate) fn fill(&mut self, now_ms: i64) {
        let past = self
            .filled_ms
            .map_or(0, |then| now_ms.saturating_sub(then).clamp(0, 1_000));
        if past == 0 && self.filled_ms.is_some_and(|then| then <= now_ms) {
            return;
        }
        self.filled_ms = Some(now_ms);
        let more = self
            .bytes_per_second
            .saturating_mul(past.unsigned_abs())
            .div_ceil(1_000);
        self.left = self.left.saturating_add(more).min(self.bytes_per_second);
    }

    /// Writes a line or drops it. Answers whether the sink was used.
    pub(crate) fn write(&mut self, level: LogLevel, text: &str) -> bool {
        let text = cut(text, LINE_BYTES_MAX);
        let cost = text.len() as u64 + 1;
        if cost > self.left {
            self.dropped = self.dropped.saturating_add(1);
            return false;
        }
        self.left -= cost;
        self.tell_dropped();
        self.sink.line(&self.from, level, text);
        true
    }

    fn tell_dropped(&mut self) {
        let lines = std::mem::take(&mut self.dropped);
        if lines > 0 {
            self.sink.dropped(&self.from, lines);
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.tell_dropped();
    }
}

/// The longest beginning of `text` of at most `max` bytes.
fn cut(text: &str, max: usize) -> &str {
    text.get(..text.floor_char_boundary(max)).unwrap_or(text)
}

/// Links the interface.
pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut log = linker.instance(&interface("log"))?;
    log.func_wrap(
        "write",
        |mut store: StoreContextMut<'_, State>, (level, text): (LogLevel, WasmStr)| {
            let text = text.to_str(&store)?.into_owned();
            let state = store.data_mut();
            let before = thread_cpu_ns();
            if state.log.write(level, &text) {
                let ns = thread_cpu_ns().saturating_sub(before);
                state.cpu.spent_by_host(ns);
            }
            Ok(())
        },
    )?;
    log.func_wrap(
        "panic",
        |mut store: StoreContextMut<'_, State>, (text,): (WasmStr,)| {
            let text = cut(&text.to_str(&store)?, LINE_BYTES_MAX).to_string();
            store.data_mut().log.panic = Some(text);
            Ok(())
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Kept(Mutex<Vec<String>>);

    impl LogSink for Kept {
        fn line(&self, from: &str, level: LogLevel, text: &str) {
            self.0
                .lock()
                .unwrap()
                .push(format!("{from} {level} {text}"));
        }
        fn dropped(&self, from: &str, lines: u64) {
            self.0
                .lock()
                .unwrap()
                .push(format!("{from} dropped {lines}"));
        }
    }

    #[test]
    fn lines_beyond_the_rate_are_dropped_and_counted() {
        let kept = Arc::new(Kept::default());
        let mut log = Log::new(kept.clone(), 20);
        log.from = Arc::from("split");
        log.fill(1_000);
        assert!(log.write(LogLevel::Info, "123456789"));
        assert!(log.write(LogLevel::Info, "123456789"));
        assert!(!log.write(LogLevel::Info, "x"));
        assert!(!log.write(LogLevel::Warn, "y"));
        log.fill(1_500);
        assert!(log.write(LogLevel::Warn, "back"));
        drop(log);
        assert_eq!(
            *kept.0.lock().unwrap(),
            [
                "split info 123456789",
                "split info 123456789",
                "split dropped 2",
                "split warn back"
            ]
        );
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let text = "é".repeat(LINE_BYTES_MAX);
        assert_eq!(cut(&text, LINE_BYTES_MAX).len(), LINE_BYTES_MAX);
        assert_eq!(cut(&text, 3), "é");
    }
}
