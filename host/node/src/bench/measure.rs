//! CPU clocks, memory, medians, and runs that take turns.
//! Needs: std, process. Linux tells the CPU time of a thread only at its ticks, unless the thread has just yielded.

use std::fs;

use pelton_model::{Error, ErrorCode, Result};

/// CPU time of the calling thread so far, nanoseconds. Errors: a system without `/proc`.
pub(super) fn thread_cpu_ns() -> Result<u64> {
    std::thread::yield_now();
    fs::read_to_string("/proc/thread-self/schedstat")
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse().ok())
        .ok_or_else(|| {
            Error::new(
                ErrorCode::Io,
                "the system does not tell the CPU time of a thread (/proc/thread-self/schedstat)",
            )
        })
}

/// CPU nanoseconds that `run` takes in this thread.
pub(super) fn cpu_ns(run: impl FnOnce() -> Result<()>) -> Result<f64> {
    let began = thread_cpu_ns()?;
    run()?;
    Ok(thread_cpu_ns()?.saturating_sub(began) as f64)
}

/// What this process holds in memory, in bytes; 0 where the system does not tell.
pub(super) fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kib = line.and_then(|l| l.trim().strip_suffix("kB")?.trim().parse().ok());
    kib.map_or(0, |kib: u64| kib * 1024)
}

/// The middle value; of an even number, the lower of the two. 0 of none.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len().saturating_sub(1) / 2;
    values.get(middle).copied().unwrap_or(0.0)
}

/// Two things measured in turns, A B A B ..: the medians of both.
pub(super) fn in_turns(
    rounds: usize,
    mut a: impl FnMut() -> Result<f64>,
    mut b: impl FnMut() -> Result<f64>,
) -> Result<(f64, f64)> {
    let (mut of_a, mut of_b) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        of_a.push(a()?);
        of_b.push(b()?);
    }
    Ok((median(of_a), median(of_b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![]), 0.0);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.0);
    }

    #[test]
    fn this_process_holds_some_memory() {
        assert!(resident_bytes() > 1 << 20);
    }

    #[test]
    fn work_takes_cpu_time() {
        let ns = cpu_ns(|| {
            let sum: u64 = (0..1_000_000u64).map(std::hint::black_box).sum();
            assert!(sum > 0);
            Ok(())
        });
        assert!(ns.unwrap() > 100_000.0);
    }
}
