//! One run of a job as a process of its own: how it is started, killed, and how it has ended.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::jobs::{self, Job};

/// A run that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(5);
/// Small batches let barriers pass often.
const BATCH_ROWS: &str = "64";
const INTERVAL: &str = "40ms";

/// What all runs share: the two programs, the input, and a home, so that the component is compiled once.
#[derive(Clone, Debug)]
pub struct Stage {
    binary: PathBuf,
    component: PathBuf,
    root: PathBuf,
}

/// How a process is to die.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kill {
    /// Where.
    pub point: &'static str,
    /// When it comes there for the so-manieth time, from 1.
    pub nth: u32,
    /// And was at this one before.
    pub after: Option<&'static str>,
}

/// What a run is started with.
#[derive(Clone, Debug)]
pub struct Start<'a> {
    /// What runs.
    pub job: Job,
    /// Whether state is kept in RocksDB.
    pub rocksdb: bool,
    /// Tasks of an operator.
    pub parallelism: u32,
    /// Where and when it dies.
    pub kill: Option<Kill>,
    /// How many times slower than usual; at 0 nothing holds the source.
    pub slower: u32,
    /// Settings by their variables' names, without what stands before all of them.
    pub settings: &'a [(&'a str, &'a str)],
}

/// How a run has ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// As the system says it.
    pub status: ExitStatus,
    /// What it said.
    pub stderr: String,
    /// Whether it was where it should die.
    pub hit: bool,
}

/// A folder with what one job leaves on the disk.
#[derive(Clone, Debug)]
pub struct Place {
    /// Holds `out` and `checkpoints`, and notes of the harness.
    pub folder: PathBuf,
}

impl Place {
    /// Where the results are.
    #[must_use]
    pub fn output(&self) -> PathBuf {
        self.folder.join("out")
    }

    /// Where the checkpoints are.
    #[must_use]
    pub fn checkpoints(&self) -> PathBuf {
        self.folder.join("checkpoints")
    }
}

impl Kill {
    fn text(self) -> String {
        let (point, nth) = (self.point, self.nth);
        match self.after {
            Some(after) => format!("{point}:{nth}:{after}"),
            None => format!("{point}:{nth}"),
        }
    }
}

impl Stage {
    /// A stage in an empty folder. Errors: a program that is not there, with what makes it; the file system's.
    pub fn new(root: &Path, binary: &Path) -> Result<Self> {
        let folder = match std::env::var_os("PELTON_COMPONENTS") {
            Some(folder) => PathBuf::from(folder),
            None => {
                let target = binary.ancestors().nth(2).context("no target folder")?;
                target.join("pelton")
            }
        };
        let component = folder.join("chaos.wasm");
        if !component.is_file() {
            bail!(
                "{} is not there: `pelton build guest-examples --out target/pelton` makes it",
                component.display()
            );
        }
        if !binary.is_file() {
            bail!(
                "{} is not there: `cargo build -p pelton-chaos` makes it",
                binary.display()
            );
        }
        let stage = Self {
            binary: binary.to_owned(),
            component: std::path::absolute(component)?,
            root: root.to_owned(),
        };
        fs::create_dir_all(stage.root.join("home"))?;
        jobs::write_inputs(&stage.root.join("inputs"))?;
        Ok(stage)
    }

    /// A new folder for a run.
    pub fn place(&self, name: &str) -> Result<Place> {
        let folder = self.root.join(name);
        fs::create_dir_all(&folder)?;
        Ok(Place { folder })
    }

    /// Runs a job to its end, whichever that is. Errors: one that hangs; the system's.
    pub fn run(&self, start: &Start<'_>, place: &Place) -> Result<Ended> {
        let mark = place.folder.join("mark");
        let _ = fs::remove_file(&mark);
        let said = place.folder.join("stderr");
        let mut command = self.command(start, place);
        if let Some(kill) = start.kill {
            command
                .env("PELTON_CHAOS_KILL", kill.text())
                .env("PELTON_CHAOS_MARK", &mark);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(File::create(&said)?);
        let mut child = command.spawn()?;
        let mut waited = Duration::ZERO;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if waited > PATIENCE {
                child.kill()?;
                child.wait()?;
                bail!("it hangs: {}", fs::read_to_string(&said)?);
            }
            std::thread::sleep(LOOK);
            waited += LOOK;
        };
        Ok(Ended {
            status,
            stderr: fs::read_to_string(&said)?,
            hit: fs::read(&mark).is_ok_and(|bytes| bytes == b"x"),
        })
    }

    fn command(&self, start: &Start<'_>, place: &Place) -> Command {
        let mut command = Command::new(&self.binary);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PELTON_") {
                command.env_remove(name);
            }
        }
        for name in ["XDG_CACHE_HOME", "XDG_CONFIG_HOME"] {
            command.env_remove(name);
        }
        command
            .env("HOME", self.root.join("home"))
            .current_dir(&place.folder)
            .arg("run")
            .arg(&self.component);
        let params = start.job.params(&self.root.join("inputs"), start.slower);
        for param in params {
            command.args(["--param", &param]);
        }
        let (output, dir) = (place.output(), place.checkpoints());
        command
            .args(["--param", &format!("output={}", output.display())])
            .args(["--checkpoint-dir", &format!("file://{}", dir.display())])
            .args(["--checkpoint-interval", INTERVAL])
            .args(["--parallelism", &start.parallelism.to_string()])
            .args(["--batch-rows", BATCH_ROWS])
            .args(["--state", if start.rocksdb { "rocksdb" } else { "heap" }])
            .envs(
                start
                    .settings
                    .iter()
                    .map(|(k, v)| (format!("PELTON_{k}"), v)),
            );
        command
    }
}

impl Ended {
    /// Whether it came to its end without having been where it should die: it was too fast, or the disk too slow.
    #[must_use]
    pub fn came_through(&self) -> bool {
        !self.hit && self.status.success()
    }

    /// Whether it died where it should. Errors: it did not, and what it did instead.
    pub fn killed(&self, kill: Kill) -> Result<()> {
        match (self.hit, self.status.signal()) {
            (true, Some(libc::SIGKILL)) => Ok(()),
            (hit, _) => bail!(
                "point {} was {}: {}; {}",
                kill.text(),
                if hit { "hit" } else { "never hit" },
                self.status,
                self.stderr
            ),
        }
    }

    /// Whether it came to its end. Errors: it did not, and what it said.
    pub fn done(&self) -> Result<()> {
        match self.status.success() {
            true => Ok(()),
            false => bail!("{}; {}", self.status, self.stderr),
        }
    }
}
