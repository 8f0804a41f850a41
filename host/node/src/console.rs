//! The two streams of a command: results on the standard output, everything else on the standard error.
//! Needs: report. Invariant: in the JSON formats the standard output has whole objects only, one a line.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use pelton_model::{Error, ErrorCode, Result};
use pelton_udf::{LogLevel, LogSink};
use serde_json::{Value, json};

use crate::report;

/// How results are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Table,
    /// One object
    Json,
    /// An object a line; of a list, one for each item
    Jsonl,
    /// Names alone, one a line
    Name,
}

impl Format {
    pub(crate) fn is_json(self) -> bool {
        matches!(self, Self::Json | Self::Jsonl)
    }
}

/// Where a command speaks.
#[derive(Clone, Debug)]
pub(crate) struct Console {
    pub(crate) format: Format,
    pub(crate) quiet: bool,
    pub(crate) verbose: bool,
    /// Whether the standard error takes colours.
    pub(crate) color: bool,
    /// Whether somebody watches the standard error.
    pub(crate) terminal: bool,
}

impl Console {
    /// Colours need a terminal and neither `NO_COLOR` (not empty) nor the flag.
    pub(crate) fn new(format: Format, quiet: bool, verbose: bool, no_color: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let refused = no_color || std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        Self {
            format,
            quiet,
            verbose,
            color: terminal && !refused,
            terminal,
        }
    }

    /// A result: as text for people, as an object for programs, as a name for scripts.
    pub(crate) fn result(&self, text: &str, object: &Value, name: &str) -> Result<()> {
        match self.format {
            Format::Table => write_out(text),
            Format::Json | Format::Jsonl => write_out(&format!("{object}\n")),
            Format::Name => write_out(&format!("{name}\n")),
        }
    }

    /// A list of results. Items are objects with a `name`.
    pub(crate) fn list(&self, text: &str, kind: &str, items: &[Value]) -> Result<()> {
        let lines = |show: &dyn Fn(&Value) -> String| {
            items.iter().map(|i| show(i) + "\n").collect::<String>()
        };
        match self.format {
            Format::Table => write_out(text),
            Format::Json => write_out(&format!("{}\n", json!({"kind": kind, "items": items}))),
            Format::Jsonl => write_out(&lines(&|item| item.to_string())),
            Format::Name => write_out(&lines(&|item| {
                item["name"].as_str().unwrap_or_default().to_owned()
            })),
        }
    }

    /// Tells the user something, unless they asked for quiet.
    pub(crate) fn say(&self, text: &str) {
        if !self.quiet {
            write_err(&format!("{text}\n"));
        }
    }

    /// Tells the user something that only those want to know who asked for it.
    pub(crate) fn detail(&self, text: &str) {
        if self.verbose {
            write_err(&format!("{text}\n"));
        }
    }

    /// Shows an error; also where the user asked for quiet.
    pub(crate) fn error(&self, error: &Error) {
        if self.format.is_json() {
            write_err(&format!("{}\n", report::to_json(error)));
        } else {
            write_err(&report::render(error, self.color));
        }
    }
}

/// Text to the standard output, at once. Errors: `OutputFailed`, also for a closed pipe.
pub(crate) fn write_out(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|e| closed(&e))
}

/// Text to the standard error. Whoever has closed it does not want to know.
pub(crate) fn write_err(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

fn closed(e: &std::io::Error) -> Error {
    Error::new(
        ErrorCode::OutputFailed,
        format!("the standard output cannot be written: {e}"),
    )
}

/// The standard output for sinks of a job; says afterwards whether it was the one that failed.
#[derive(Clone, Debug)]
pub(crate) struct Stdout {
    failed: Arc<AtomicBool>,
    /// Whether a live line stands on the terminal, which rows must not be appended to.
    live_line: Arc<AtomicBool>,
}

impl Stdout {
    pub(crate) fn new(live_line: Arc<AtomicBool>) -> Self {
        Self {
            failed: Arc::default(),
            live_line,
        }
    }

    pub(crate) fn output(&self) -> pelton_connect::Output {
        Arc::new(Mutex::new(self.clone()))
    }

    /// Whether a write has failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    fn note<T>(&self, result: std::io::Result<T>) -> std::io::Result<T> {
        if result
            .as_ref()
            .is_err_and(|e| e.kind() != std::io::ErrorKind::Interrupted)
        {
            self.failed.store(true, Ordering::Relaxed);
        }
        result
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.live_line.swap(false, Ordering::Relaxed) {
            write_err("\r\x1b[K");
        }
        self.note(std::io::stdout().lock().write(bytes))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.note(std::io::stdout().lock().flush())
    }
}

/// What users' functions log: lines on the standard error. A line is data, so that control characters are shown.
pub(crate) struct GuestLog {
    pub(crate) console: Console,
    /// Whether a live line stands on the terminal.
    pub(crate) live_line: Arc<AtomicBool>,
}

impl GuestLog {
    fn write(&self, text: &str) {
        if self.live_line.swap(false, Ordering::Relaxed) {
            write_err("\r\x1b[K");
        }
        write_err(text);
    }
}

impl LogSink for GuestLog {
    fn line(&self, from: &str, level: LogLevel, text: &str) {
        let wanted = match level {
            LogLevel::Error | LogLevel::Warn => true,
            LogLevel::Info => !self.console.quiet,
            LogLevel::Debug => self.console.verbose,
        };
        if wanted {
            self.write(&log_line(from, level, text));
        }
    }

    fn dropped(&self, from: &str, lines: u64) {
        self.write(&format!("[{from}] {lines} lines of the log were dropped: over the limit `log-bytes-per-second`\n"));
    }
}

fn log_line(from: &str, level: LogLevel, text: &str) -> String {
    let mut line = format!("[{from}] {level}: ");
    for c in text.chars() {
        match c {
            '\t' => line.push(c),
            c if c.is_control() => line.extend(c.escape_default()),
            c => line.push(c),
        }
    }
    line.push('\n');
    line
}

/// Columns of text, as wide as they must be; the last one is not padded.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let header: Vec<String> = header.iter().map(|h| (*h).to_owned()).collect();
    let all = || std::iter::once(&header).chain(rows);
    let width = |i: usize| {
        all()
            .filter_map(|r| r.get(i))
            .map(|c| c.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let mut text = String::new();
    for row in all() {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, w)| format!("{cell:<w$}"))
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_cannot_command_the_terminal() {
        assert_eq!(
            log_line("map", LogLevel::Warn, "a\x1b[2Jb\tc\nd"),
            "[map] warn: a\\u{1b}[2Jb\tc\\nd\n"
        );
    }

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let rows = vec![
            vec!["a".into(), "1".into()],
            vec!["längste".into(), "22".into()],
        ];
        assert_eq!(
            table(&["name", "n"], &rows),
            "name     n\na        1\nlängste  22\n"
        );
    }
}
