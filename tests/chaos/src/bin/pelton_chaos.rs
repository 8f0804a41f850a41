//! The product, with a hook: `PELTON_CHAOS_KILL=point:n` or `point:n:after` kills it when the point is passed for the n-th
//! time (after the point `after` was first passed), and a byte in the file `PELTON_CHAOS_MARK` says that it was.
//! Needs: the node's own entry. Invariant: nothing is unwound and nothing flushed, as where the power fails.

use std::fs::OpenOptions;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pelton_node::checkpoint::points::Points;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Kill {
    point: String,
    nth: u64,
    /// Passed already, or not asked for.
    armed: AtomicBool,
    after: Option<String>,
    passed: AtomicU64,
    mark: Option<String>,
}

impl Kill {
    fn from_environment() -> Self {
        let text = std::env::var("PELTON_CHAOS_KILL").unwrap_or_default();
        let mut parts = text.split(':');
        let point = parts.next().unwrap_or_default().to_owned();
        let nth = parts.next().and_then(|n| n.parse().ok()).unwrap_or(1);
        let after = parts.next().map(str::to_owned);
        Self {
            point,
            nth,
            armed: AtomicBool::new(after.is_none()),
            after,
            passed: AtomicU64::new(0),
            mark: std::env::var("PELTON_CHAOS_MARK").ok(),
        }
    }
}

impl Points for Kill {
    fn reach(&self, point: &'static str) {
        if self.after.as_deref() == Some(point) {
            self.armed.store(true, Ordering::SeqCst);
        }
        if point != self.point || !self.armed.load(Ordering::SeqCst) {
            return;
        }
        if self.passed.fetch_add(1, Ordering::SeqCst) + 1 == self.nth {
            if let Some(mark) = &self.mark {
                let file = OpenOptions::new().append(true).create(true).open(mark);
                // Where it cannot be written the harness says that the point was not passed.
                let _ = file.and_then(|mut file| file.write_all(b"x"));
            }
            die();
        }
    }
}

fn die() -> ! {
    // SAFETY: both functions take and return numbers alone, and touch no memory of this process.
    unsafe {
        libc::kill(libc::getpid(), libc::SIGKILL);
    }
    loop {
        std::thread::park();
    }
}

fn main() -> ExitCode {
    pelton_node::main_with(Arc::new(Kill::from_environment()))
}
