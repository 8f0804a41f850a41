//! A few threads that wait for the outside, so that nobody else does.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use pelton_model::{Error, ErrorCode, Result};

type Work = Box<dyn FnOnce() + Send>;

/// Carries out what may wait, several at a time.
pub(crate) struct Io {
    work: Option<Sender<Work>>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Io {
    /// So many threads. Errors: `Io` where there are no more.
    pub(crate) fn new(threads: usize) -> Result<Self> {
        let (work, rest) = channel();
        let rest = Arc::new(Mutex::new(rest));
        let threads = (0..threads).map(|number| {
            let rest = Arc::clone(&rest);
            std::thread::Builder::new()
                .name(format!("io-{number}"))
                .spawn(move || while turn(&rest) {})
                .map_err(|e| Error::new(ErrorCode::Io, format!("a thread cannot be started: {e}")))
        });
        Ok(Self {
            threads: threads.collect::<Result<_>>()?,
            work: Some(work),
        })
    }

    /// Hands over work.
    pub(crate) fn submit(&self, work: impl FnOnce() + Send + 'static) {
        if let Some(queue) = &self.work {
            // The threads live as long as this does.
            let _ = queue.send(Box::new(work));
        }
    }
}

fn turn(rest: &Mutex<Receiver<Work>>) -> bool {
    let work = rest.lock().unwrap_or_else(PoisonError::into_inner).recv();
    match work {
        Ok(work) => {
            work();
            true
        }
        Err(_) => false,
    }
}

impl Drop for Io {
    /// Waits for all that was handed over.
    fn drop(&mut self) {
        self.work = None;
        for thread in self.threads.drain(..) {
            // One of its own threads may be the last that holds this.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}
