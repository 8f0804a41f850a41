//! What this process has used so far, as Linux tells it; and the real clocks.
//! Needs: std. The one file of the node that reads the time.

use std::fs;

use pelton_model::time::{Monotonic, ProcessingTime};

/// CPU time of all threads so far, in seconds, to a hundredth; 0 where the system does not tell.
pub(crate) fn cpu_seconds() -> f64 {
    fs::read_to_string("/proc/self/stat")
        .ok()
        .and_then(|text| parse_cpu(&text))
        .unwrap_or(0.0)
}

/// The most memory that the process has held, in bytes; 0 where the system does not tell.
pub(crate) fn peak_memory_bytes() -> u64 {
    fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|text| parse_peak(&text))
        .unwrap_or(0)
}

/// Fields 14 and 15 are user and system time in ticks; a tick is a hundredth of a second on every Linux.
fn parse_cpu(stat: &str) -> Option<f64> {
    // The second field is the program's name in brackets and may hold anything.
    let after = stat.rsplit_once(')')?.1;
    let mut fields = after.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) as f64 / 100.0)
}

fn parse_peak(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// The wall clock.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the node's clocks come from"
)]
pub(crate) fn now() -> ProcessingTime {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    ProcessingTime(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The monotonic clock, in nanoseconds since the first reading.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the node's clocks come from"
)]
pub(crate) fn monotonic() -> Monotonic {
    static ORIGIN: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    let origin = ORIGIN.get_or_init(std::time::Instant::now);
    Monotonic(u64::try_from(origin.elapsed().as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_may_hold_anything() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 120 34 0 0";
        assert_eq!(parse_cpu(stat), Some(1.54));
        assert_eq!(parse_cpu("7 (a"), None);
    }

    #[test]
    fn the_peak_is_in_bytes() {
        assert_eq!(
            parse_peak("VmPeak:\t 9 kB\nVmHWM:\t    2048 kB\n"),
            Some(2 << 20)
        );
        assert!(peak_memory_bytes() > 1 << 20, "this very process");
    }
}
