//! Where a job's state is kept, as the settings have it.
//! Needs: engine's heap, and the crate with RocksDB behind the feature `rocksdb`. Invariant: what a job writes to disk
//! is in a folder of its own, and is gone when the job is.

use pelton_engine::state::{HeapBackend, StateBackend};
use pelton_model::Result;

use crate::settings::StateSettings;

/// The state of one job.
pub struct JobState {
    backend: Box<dyn StateBackend>,
    /// After the backend: the folder goes when nothing in it is open.
    #[cfg(feature = "rocksdb")]
    _folder: Option<tempfile::TempDir>,
}

impl JobState {
    /// Errors: `Usage` where this binary has no RocksDB; `StateFailed` for what the folder or RocksDB refuses.
    pub(crate) fn open(settings: &StateSettings) -> Result<Self> {
        if settings.rocksdb {
            return Self::rocksdb(settings);
        }
        Ok(Self {
            backend: Box::new(HeapBackend),
            #[cfg(feature = "rocksdb")]
            _folder: None,
        })
    }

    #[cfg(feature = "rocksdb")]
    fn rocksdb(settings: &StateSettings) -> Result<Self> {
        use pelton_model::{Error, ErrorCode};
        use pelton_state::{RocksBackend, RocksSettings};

        let refused = |e: std::io::Error| {
            let message = format!("the folder of the state cannot be used: {e}");
            Error::new(ErrorCode::StateFailed, message)
                .at("folder", settings.dir.display())
                .help("name a folder that is writable with the setting `state.dir`")
        };
        std::fs::create_dir_all(&settings.dir).map_err(refused)?;
        // Of processes that were killed: state comes back from checkpoints.
        pelton_state::remove_stale(&settings.dir)?;
        let folder = tempfile::Builder::new()
            .prefix("job-")
            .tempdir_in(&settings.dir)
            .map_err(refused)?;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let settings = RocksSettings {
            memory_bytes: settings.memory_bytes,
            // Half of the cores: merging keeps up with tasks on all of them, since most of a row's cost is theirs.
            threads: u32::try_from(cores.div_ceil(2)).unwrap_or(1),
            overrides: settings.options.clone(),
        };
        Ok(Self {
            backend: Box::new(RocksBackend::open(folder.path(), settings)?),
            _folder: Some(folder),
        })
    }

    #[cfg(not(feature = "rocksdb"))]
    fn rocksdb(_: &StateSettings) -> Result<Self> {
        use pelton_model::{Error, ErrorCode};

        Err(
            Error::new(ErrorCode::Usage, "this pelton was built without RocksDB")
                .help("use `--state heap`, or build it with the feature `rocksdb`"),
        )
    }

    pub(crate) fn backend(&self) -> &dyn StateBackend {
        self.backend.as_ref()
    }
}
