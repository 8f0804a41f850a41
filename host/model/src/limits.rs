//! A limit on everything, on by default; the relations between them are checked at compile time.

use crate::error::{Error, ErrorCode, Result};

/// The most key groups that a job can have.
pub const KEY_GROUPS_MAX: u32 = 1 << 15;
/// The most parallel instances of an operator.
pub const PARALLELISM_MAX: u32 = 4_096;
/// The most channels between the tasks of one job.
pub const CHANNELS_MAX: u64 = 1 << 20;
/// The most windows that a row can be in: a day by the second is allowed.
pub const WINDOWS_A_ROW_MAX: i64 = 100_000;
/// The most operators in one job.
pub const OPERATORS_MAX: usize = 1_000;
/// The most rows in a batch.
pub const BATCH_ROWS_MAX: usize = 8_192;
/// The most bytes of a component.
pub const COMPONENT_BYTES_MAX: usize = 64 << 20;
/// The most bytes in the description of a job.
pub const GRAPH_BYTES_MAX: usize = 4 << 20;

const _: () = assert!(
    PARALLELISM_MAX <= KEY_GROUPS_MAX,
    "a task needs at least one key group"
);

/// What a job may use; all are per task unless their name says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory of one instance.
    pub memory_bytes: u64,
    /// Thread CPU time of one call into the guest, less the time in host calls.
    pub cpu_ms_per_call: u64,
    /// What one call may return before the guest has to stop at a prefix of its batch.
    pub output_bytes_per_call: u64,
    /// The hard bound on what one call returns: a single row may go beyond the budget, but not beyond this.
    pub output_bytes_max: u64,
    /// Log lines of one task, in all, a second.
    pub log_bytes_per_second: u64,
    /// State of one task.
    pub state_bytes: u64,
    /// One record of input: a line, a message.
    pub record_bytes: u64,
    /// Elements in flight in one channel.
    pub channel_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 256 << 20,
            cpu_ms_per_call: 2_000,
            output_bytes_per_call: 4 << 20,
            output_bytes_max: 64 << 20,
            log_bytes_per_second: 64 << 10,
            state_bytes: 8 << 30,
            record_bytes: 16 << 20,
            channel_bytes: 8 << 20,
        }
    }
}

impl Limits {
    /// The names that [`set`](Self::set) takes, with what each is.
    pub const NAMES: [(&'static str, &'static str); 8] = [
        ("memory-bytes", "linear memory of one instance"),
        ("cpu-ms-per-call", "CPU time of one call into the guest"),
        (
            "output-bytes-per-call",
            "what a call returns before it stops at a prefix",
        ),
        ("output-bytes-max", "hard bound on what one call returns"),
        ("log-bytes-per-second", "log lines of one task"),
        ("state-bytes", "state of one task"),
        ("record-bytes", "one record of input"),
        ("channel-bytes", "elements in flight in one channel"),
    ];

    /// Sets one limit by name. Errors: an unknown name, a value of 0.
    pub fn set(&mut self, name: &str, value: u64) -> Result<()> {
        if value == 0 {
            return Err(Error::new(
                ErrorCode::Usage,
                format!("limit '{name}' must be above 0"),
            ));
        }
        let field = match name {
            "memory-bytes" => &mut self.memory_bytes,
            "cpu-ms-per-call" => &mut self.cpu_ms_per_call,
            "output-bytes-per-call" => &mut self.output_bytes_per_call,
            "output-bytes-max" => &mut self.output_bytes_max,
            "log-bytes-per-second" => &mut self.log_bytes_per_second,
            "state-bytes" => &mut self.state_bytes,
            "record-bytes" => &mut self.record_bytes,
            "channel-bytes" => &mut self.channel_bytes,
            _ => {
                let names: Vec<_> = Self::NAMES.iter().map(|(n, _)| *n).collect();
                return Err(
                    Error::new(ErrorCode::Usage, format!("there is no limit '{name}'"))
                        .help(format!("the limits are: {}", names.join(", "))),
                );
            }
        };
        *field = value;
        Ok(())
    }

    /// The value of a limit by name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<u64> {
        Some(match name {
            "memory-bytes" => self.memory_bytes,
            "cpu-ms-per-call" => self.cpu_ms_per_call,
            "output-bytes-per-call" => self.output_bytes_per_call,
            "output-bytes-max" => self.output_bytes_max,
            "log-bytes-per-second" => self.log_bytes_per_second,
            "state-bytes" => self.state_bytes,
            "record-bytes" => self.record_bytes,
            "channel-bytes" => self.channel_bytes,
            _ => return None,
        })
    }
}
