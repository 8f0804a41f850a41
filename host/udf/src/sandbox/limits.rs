//! What a guest may use, and how it is stopped: CPU time by epochs, memory by the growth of linear memories and tables.
//!
//! CPU time is that of the thread, less the time that the host spends on writing the guest's log lines. It is read only
//! when the epoch has advanced (every 5 ms), so that a call costs no clock: the first tick within a call is where its
//! time begins. A limit is therefore exact to a tick.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use wasmtime::{ResourceLimiter, UpdateDeadline};

/// Entries of a guest's function tables: what large interpreters need, with room.
pub(crate) const TABLE_ELEMENTS_MAX: usize = 1 << 18;

/// Why the host itself stopped a guest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Stopped {
    /// More CPU time than this many milliseconds.
    Cpu(u64),
    /// The guest asked for so many bytes.
    Memory { asked: usize },
    /// The guest asked for so many table entries.
    Table { asked: usize },
    /// Whoever runs the task wants it to end.
    Cancelled,
    /// A host function was used as it must not be.
    Misuse(String),
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu(ms) => write!(f, "used more than {ms} ms of CPU time"),
            Self::Memory { asked } => write!(f, "asked for {asked} bytes of memory"),
            Self::Table { asked } => write!(f, "asked for a table of {asked} entries"),
            Self::Cancelled => f.write_str("was cancelled"),
            Self::Misuse(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Stopped {}

/// Bounds the growth of memories and tables. A refusal is a trap, so that a guest cannot go on without what it needs.
#[derive(Debug)]
pub(crate) struct MemoryLimit {
    pub(crate) bytes_max: usize,
    /// Linear memory now.
    pub(crate) bytes: usize,
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // One bound for all memories of an instance together.
        let all = self.bytes.saturating_add(desired.saturating_sub(current));
        if all > self.bytes_max {
            return Err(Stopped::Memory { asked: all }.into());
        }
        self.bytes = all;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if desired > TABLE_ELEMENTS_MAX {
            return Err(Stopped::Table { asked: desired }.into());
        }
        Ok(true)
    }
}

/// CPU time of the call at hand.
#[derive(Debug)]
pub(crate) struct CpuLimit {
    pub(crate) ms_max: u64,
    pub(crate) cancel: Option<Arc<AtomicBool>>,
    /// Thread CPU time at the call's first tick, in nanoseconds.
    began: Option<u64>,
    /// What the host used since, in nanoseconds.
    host: u64,
}

impl CpuLimit {
    pub(crate) fn new(ms_max: u64, cancel: Option<Arc<AtomicBool>>) -> Self {
        Self {
            ms_max,
            cancel,
            began: None,
            host: 0,
        }
    }

    /// A call begins.
    pub(crate) fn begin(&mut self) {
        self.began = None;
        self.host = 0;
    }

    /// The host has used so many nanoseconds on the guest's behalf.
    pub(crate) fn spent_by_host(&mut self, ns: u64) {
        self.host = self.host.saturating_add(ns);
    }

    /// The epoch has advanced within a call; `now` is the thread's CPU time in nanoseconds.
    pub(crate) fn tick(&mut self, now: u64) -> wasmtime::Result<UpdateDeadline> {
        if self
            .cancel
            .as_ref()
            .is_some_and(|c| c.load(Ordering::Relaxed))
        {
            return Err(Stopped::Cancelled.into());
        }
        let Some(began) = self.began else {
            self.began = Some(now);
            self.host = 0;
            return Ok(UpdateDeadline::Continue(1));
        };
        let used = now.saturating_sub(began).saturating_sub(self.host);
        if used > self.ms_max.saturating_mul(1_000_000) {
            return Err(Stopped::Cpu(self.ms_max).into());
        }
        Ok(UpdateDeadline::Continue(1))
    }
}

/// CPU time of this thread in nanoseconds; 0 where the system has no such clock.
pub(crate) fn thread_cpu_ns() -> u64 {
    let mut at = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the call writes one timespec, which is there; on failure it writes nothing and zeros remain.
    // There is no safe form of it in std, and a crate for it would hold the same line.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut at) };
    let seconds = u64::try_from(at.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(at.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_call_is_stopped_when_its_own_time_is_used_up() {
        let mut cpu = CpuLimit::new(10, None);
        cpu.begin();
        assert!(cpu.tick(100 * MS).is_ok());
        assert!(cpu.tick(110 * MS).is_ok());
        cpu.spent_by_host(5 * MS);
        assert!(cpu.tick(115 * MS).is_ok());
        let error = cpu.tick(116 * MS).err().unwrap();
        assert_eq!(error.downcast_ref(), Some(&Stopped::Cpu(10)));
        cpu.begin();
        assert!(cpu.tick(200 * MS).is_ok());
    }

    #[test]
    fn a_cancelled_call_stops_at_the_next_tick() {
        let flag = Arc::new(AtomicBool::new(false));
        let mut cpu = CpuLimit::new(10, Some(flag.clone()));
        assert!(cpu.tick(0).is_ok());
        flag.store(true, Ordering::Relaxed);
        assert_eq!(
            cpu.tick(0).err().unwrap().downcast_ref(),
            Some(&Stopped::Cancelled)
        );
    }

    #[test]
    fn all_memories_count_together() {
        let mut memory = MemoryLimit {
            bytes_max: 100,
            bytes: 0,
        };
        assert!(memory.memory_growing(0, 60, None).is_ok());
        assert!(memory.memory_growing(0, 40, None).is_ok());
        let error = memory.memory_growing(40, 41, None).err().unwrap();
        assert_eq!(error.downcast_ref(), Some(&Stopped::Memory { asked: 101 }));
    }

    #[test]
    fn the_thread_clock_advances() {
        let before = thread_cpu_ns();
        let sum: u64 = (0..1_000_000u64).map(std::hint::black_box).sum();
        assert!(sum > 0 && thread_cpu_ns() > before);
    }
}
