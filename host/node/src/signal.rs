//! SIGINT and SIGTERM: the first asks for a clean stop, the second ends the process at once. SIGXFSZ is taken away: a
//! file that grows beyond what the user may write is an error of that write.
//! Needs: signal-hook. Refuses: to do anything but set a flag; who runs something looks at it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use pelton_model::{Error, ErrorCode, Result};
use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;

use crate::report::Exit;

/// From now on a file that grows beyond what the user may write is an error of that write.
pub(crate) fn take_away_file_size_signal() {
    // Where that is not possible, the system's own way holds.
    let _ = flag::register(SIGXFSZ, Arc::default());
}

/// The wish to stop.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt {
    asked: Arc<AtomicBool>,
    number: Arc<AtomicUsize>,
}

impl Interrupt {
    /// Listens from now on, for the rest of the process.
    pub(crate) fn listen() -> Result<Self> {
        let refused = |e| Error::new(ErrorCode::Io, format!("signals cannot be handled: {e}"));
        let this = Self::default();
        for signal in [SIGINT, SIGTERM] {
            // Before the flag is set for the first time this one does nothing: the order of the two is what makes
            // the second signal the hard one.
            let ready =
                flag::register_conditional_shutdown(signal, 128 + signal, this.asked.clone())
                    .and_then(|_| {
                        flag::register_usize(signal, this.number.clone(), signal as usize)
                    })
                    .and_then(|_| flag::register(signal, this.asked.clone()));
            ready.map_err(refused)?;
        }
        Ok(this)
    }

    /// The flag that a run looks at.
    pub(crate) fn flag(&self) -> Arc<AtomicBool> {
        self.asked.clone()
    }

    /// The exit code of a run that was stopped by a signal.
    pub(crate) fn exit(&self) -> Option<Exit> {
        let asked = self.asked.load(Ordering::Relaxed);
        let code = 128_usize.saturating_add(self.number.load(Ordering::Relaxed));
        asked.then(|| Exit(u8::try_from(code).unwrap_or(130)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_its_number_above_128() {
        let quiet = Interrupt::default();
        assert_eq!(quiet.exit(), None);
        quiet.asked.store(true, Ordering::Relaxed);
        quiet.number.store(SIGTERM as usize, Ordering::Relaxed);
        assert_eq!(quiet.exit(), Some(Exit(143)));
    }
}
