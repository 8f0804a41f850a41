//! Retries around a store: what is unavailable now is asked again, with pauses that grow, up to a limit.
//!
//! Needs: `model::blob`. Invariants: time and chance are arguments, so that a simulation drives it; a `put_new` whose
//! reply was lost is found out by reading back, so that who succeeded is told so. Refuses: to repeat what was refused.

use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pelton_model::blob::{BlobInfo, Blobs, PutNew};
use pelton_model::{Error, ErrorCode, Result};

/// Bytes that a [`Retrying`] reader asks for at once.
const READ_BYTES: u64 = 8 << 20;

/// How often and how long one call is tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetryPolicy {
    /// Tries of one call, the first included; at least one.
    pub attempts_max: u32,
    /// The longest first pause, milliseconds. Each later one is twice as long.
    pub pause_ms: u64,
    /// No pause is longer, milliseconds.
    pub pause_ms_max: u64,
    /// No pause begins that would end later than this after the call began, milliseconds.
    pub total_ms_max: u64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts_max: 8,
            pause_ms: 100,
            pause_ms_max: 10_000,
            total_ms_max: 60_000,
        }
    }
}

impl RetryPolicy {
    /// The pause after so many tries that failed: a random part of a bound that doubles ("full jitter"), as many clients
    /// that failed together should not come back together. `random` is any number, all equally likely.
    #[must_use]
    pub fn pause(&self, failed: u32, random: u64) -> Duration {
        let doubled = 1_u64
            .checked_shl(failed.saturating_sub(1))
            .unwrap_or(u64::MAX);
        let bound = self.pause_ms.saturating_mul(doubled).min(self.pause_ms_max);
        Duration::from_millis(random % bound.saturating_add(1))
    }

    /// Calls until it succeeds, is refused, or has been tried enough; `call` is told how many tries failed. For what is no
    /// call of a store, such as to [`open`](crate::open) one.
    ///
    /// # Errors
    /// Those of `call`; `StoreUnavailable` only from its last try, with their number.
    pub fn run<T>(&self, pace: &dyn Pace, mut call: impl FnMut(u32) -> Result<T>) -> Result<T> {
        let begin = pace.now();
        let mut failed = 0;
        loop {
            let e = match call(failed) {
                Err(e) if e.code() == ErrorCode::StoreUnavailable => e,
                done => return done,
            };
            failed += 1;
            let tries = |e: Error| e.at("after tries", failed);
            if failed >= self.attempts_max {
                return Err(tries(e));
            }
            let pause = self.pause(failed, pace.random());
            let end = pace.now().saturating_add(pause).saturating_sub(begin);
            if end > Duration::from_millis(self.total_ms_max) {
                return Err(tries(e));
            }
            pace.sleep(pause);
        }
    }
}

/// Time and chance for retries.
pub trait Pace: Send + Sync {
    /// Time since any fixed moment.
    fn now(&self) -> Duration;

    /// Waits.
    fn sleep(&self, pause: Duration);

    /// Any number, all equally likely.
    fn random(&self) -> u64;
}

/// The system's time and chance.
pub struct SystemPace {
    begin: Instant,
}

impl SystemPace {
    /// From now on.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "this is what is passed as an argument"
    )]
    pub fn new() -> Self {
        Self {
            begin: Instant::now(),
        }
    }
}

impl Default for SystemPace {
    fn default() -> Self {
        Self::new()
    }
}

impl Pace for SystemPace {
    fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    fn sleep(&self, pause: Duration) {
        std::thread::sleep(pause);
    }

    fn random(&self) -> u64 {
        // Each such state has keys of its own.
        RandomState::new().hash_one(0)
    }
}

/// A store whose calls are tried again while it is unavailable.
///
/// [`put_new`](Blobs::put_new) takes an object with exactly our bytes for ours, if a try of this call may have been
/// received: different processes must write different bytes, such as an attempt's own number.
#[derive(Clone)]
pub struct Retrying {
    store: Arc<dyn Blobs>,
    policy: RetryPolicy,
    pace: Arc<dyn Pace>,
}

impl Retrying {
    /// Tries the calls of `store` by this policy.
    #[must_use]
    pub fn new(store: Arc<dyn Blobs>, policy: RetryPolicy, pace: Arc<dyn Pace>) -> Self {
        Self {
            store,
            policy,
            pace,
        }
    }

    fn retry<T>(&self, call: impl FnMut(u32) -> Result<T>) -> Result<T> {
        self.policy.run(&*self.pace, call)
    }
}

impl Blobs for Retrying {
    fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.retry(|_| self.store.put(name, bytes))
    }

    fn put_new(&self, name: &str, bytes: &[u8]) -> Result<PutNew> {
        self.retry(|failed| {
            // A try whose reply was lost may have been carried out, or may be even now: what is there decides, and where
            // nothing is, the next try does.
            let made = self.store.put_new(name, bytes)?;
            if made == PutNew::Created || failed == 0 {
                return Ok(made);
            }
            match self.store.get(name) {
                Ok(there) if there == bytes => Ok(PutNew::Created),
                Ok(_) => Ok(PutNew::Exists),
                // It was removed since; only what is there can be ours.
                Err(e) if e.code() == ErrorCode::NotFound => Ok(PutNew::Exists),
                Err(e) => Err(e),
            }
        })
    }

    fn put_file(&self, name: &str, file: &Path) -> Result<()> {
        self.retry(|_| self.store.put_file(name, file))
    }

    fn get(&self, name: &str) -> Result<Vec<u8>> {
        self.retry(|_| self.store.get(name))
    }

    fn get_range(&self, name: &str, offset: u64, length: u64) -> Result<Vec<u8>> {
        self.retry(|_| self.store.get_range(name, offset, length))
    }

    fn read(&self, name: &str) -> Result<Box<dyn Read + Send>> {
        let mut reader = Reader {
            store: self.clone(),
            name: name.to_owned(),
            offset: 0,
            part: io::Cursor::default(),
            ended: false,
        };
        // An object that is not there is an error now, not when it is read.
        reader.next_part()?;
        Ok(Box::new(reader))
    }

    fn get_file(&self, name: &str, file: &Path) -> Result<()> {
        self.retry(|_| self.store.get_file(name, file))
    }

    fn list(&self, prefix: &str) -> Result<Vec<BlobInfo>> {
        self.retry(|_| self.store.list(prefix))
    }

    fn delete(&self, name: &str) -> Result<()> {
        self.retry(|_| self.store.delete(name))
    }

    fn sweep(&self, prefix: &str) -> Result<()> {
        self.retry(|_| self.store.sweep(prefix))
    }
}

/// Reads an object by ranges, each with retries: a stream that breaks in its middle goes on there.
struct Reader {
    store: Retrying,
    name: String,
    offset: u64,
    part: io::Cursor<Vec<u8>>,
    ended: bool,
}

impl Reader {
    fn next_part(&mut self) -> Result<()> {
        let part = self.store.get_range(&self.name, self.offset, READ_BYTES)?;
        let length = part.len() as u64;
        self.offset += length;
        self.ended = length < READ_BYTES;
        self.part = io::Cursor::new(part);
        Ok(())
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.part.read(buffer)?;
        if read > 0 || buffer.is_empty() || self.ended {
            return Ok(read);
        }
        self.next_part().map_err(io::Error::other)?;
        self.part.read(buffer)
    }
}

#[cfg(test)]
mod tests;
