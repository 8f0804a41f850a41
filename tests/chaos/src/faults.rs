//! Storage faults: a checkpoint folder that is damaged, read-only or full.
//!
//! Needs: matrix's stage. Invariant: a damaged file of the last checkpoint is met with a warning and the checkpoint before,
//! and the output is right; where none is whole, with an error. What this machine does not allow to be tried is said.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use pelton_model::checkpoint::{LogEntry, decode};
use pelton_node::checkpoint::points;

use crate::case::undisturbed;
use crate::jobs::Job;
use crate::output::Output;
use crate::pool;
use crate::run::{Ended, Kill, Place, Stage, Start};

const JOB: Job = Job::LargeSum;
/// Several checkpoints are complete by then.
const KILL: Kill = Kill {
    point: points::NOTIFY,
    nth: 4,
    after: None,
};

/// How a fault ended.
#[derive(Debug)]
pub struct Outcome {
    /// What was done.
    pub what: String,
    /// Whether all was as it should be; or why it could not be tried.
    pub result: Result<Option<String>>,
}

impl Outcome {
    /// Whether nothing was wrong.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.result.is_ok()
    }
}

/// What can happen to a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Damage {
    Missing,
    Truncated,
    Emptied,
    BitFlipped,
    /// With the next one.
    Swapped,
}

const DAMAGES: [Damage; 5] = [
    Damage::Missing,
    Damage::Truncated,
    Damage::BitFlipped,
    Damage::Swapped,
    Damage::Emptied,
];

/// A checkpoint folder as a killed run has left it.
struct Template {
    rocksdb: bool,
    place: Place,
    /// The files of each complete checkpoint, relative to the folder, the last checkpoint first.
    checkpoints: Vec<Vec<String>>,
}

/// One thing to try.
struct Trial<'a> {
    template: &'a Template,
    damage: Damage,
    /// All of these, in turn.
    files: Vec<String>,
    what: String,
}

/// Runs all faults, or some. Errors: no programs; a job that does not run at all.
pub fn run(folder: &Path, binary: &Path, all: bool, threads: usize) -> Result<Vec<Outcome>> {
    let stage = Stage::new(folder, binary)?;
    let expected = undisturbed(JOB, &stage)?;
    let templates = [false, true].map(|rocksdb| Template::make(&stage, rocksdb));
    let templates = templates.into_iter().collect::<Result<Vec<_>>>()?;
    let trials: Vec<(usize, Trial<'_>)> = templates
        .iter()
        .flat_map(|t| trials(t, all))
        .enumerate()
        .collect();
    let mut outcomes = pool::each(&trials, threads, |(number, trial)| Outcome {
        what: trial.what.clone(),
        result: trial.run(&stage, *number, &expected).map(|()| None),
    });
    outcomes.push(Outcome {
        what: "a read-only folder".to_owned(),
        result: on_tmpfs(&stage, "read-only", |place| {
            read_only(&stage, place, &expected)
        }),
    });
    outcomes.push(Outcome {
        what: "a full disk".to_owned(),
        result: on_tmpfs(&stage, "full", |place| full_disk(&stage, place, &expected)),
    });
    Ok(outcomes)
}

/// A line for each, and their number.
#[must_use]
pub fn text(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    for outcome in outcomes {
        match &outcome.result {
            Ok(None) => text += &format!("met {}\n", outcome.what),
            Ok(Some(why)) => text += &format!("NOT TRIED {}: {why}\n", outcome.what),
            Err(error) => text += &format!("FAILED {}: {error:#}\n", outcome.what),
        }
    }
    let good = outcomes.iter().filter(|o| o.is_good()).count();
    text + &format!("{good} of {} storage faults met\n", outcomes.len())
}

fn start(rocksdb: bool, kill: Option<Kill>) -> Start<'static> {
    Start {
        job: JOB,
        rocksdb,
        parallelism: 2,
        kill,
        slower: 2,
        settings: &[],
    }
}

impl Template {
    fn make(stage: &Stage, rocksdb: bool) -> Result<Self> {
        let name = if rocksdb { "rocksdb" } else { "heap" };
        let place = stage.place(&format!("template-{name}"))?;
        let ended = stage.run(&start(rocksdb, Some(KILL)), &place)?;
        ended.killed(KILL)?;
        let checkpoints = checkpoints(&place.checkpoints())?;
        ensure!(checkpoints.len() >= 2, "there are too few checkpoints");
        Ok(Self {
            rocksdb,
            place,
            checkpoints,
        })
    }
}

/// The files of the complete checkpoints of a folder, each with its entry of the log first; the last checkpoint first.
fn checkpoints(folder: &Path) -> Result<Vec<Vec<String>>> {
    let mut logs: Vec<String> = Vec::new();
    for entry in fs::read_dir(folder.join("log"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            logs.push(format!("log/{name}"));
        }
    }
    logs.sort();
    let mut found = Vec::new();
    for log in logs.into_iter().rev() {
        let bytes = fs::read(folder.join(&log))?;
        if let (LogEntry::Checkpoint(metadata), _) = decode::<LogEntry>(&bytes)? {
            let objects: BTreeSet<String> =
                metadata.objects().filter_map(|o| o.name.clone()).collect();
            found.push(std::iter::once(log).chain(objects).collect());
        }
    }
    Ok(found)
}

fn trials(template: &Template, all: bool) -> Vec<Trial<'_>> {
    let state = if template.rocksdb { "rocksdb" } else { "heap" };
    let last = template.checkpoints.first().map_or(&[][..], Vec::as_slice);
    let mut trials = Vec::new();
    for (i, file) in last.iter().enumerate() {
        for (j, damage) in DAMAGES.into_iter().enumerate() {
            // A part of all: each damage once or so, to another file each.
            if all
                || j == (i + usize::from(template.rocksdb)) % DAMAGES.len() && i < 2 * DAMAGES.len()
            {
                trials.push(Trial {
                    template,
                    damage,
                    files: vec![file.clone()],
                    what: format!("{state}: {file} {damage:?}"),
                });
            }
        }
    }
    for damage in [Damage::BitFlipped, Damage::Truncated] {
        let logs = template
            .checkpoints
            .iter()
            .filter_map(|c| c.first())
            .cloned();
        trials.push(Trial {
            template,
            damage,
            files: logs.collect(),
            what: format!("{state}: all metadata {damage:?}"),
        });
        let data = template.checkpoints.iter().flat_map(|c| c.iter().skip(1));
        let data: BTreeSet<String> = data.cloned().collect();
        trials.push(Trial {
            template,
            damage,
            files: data.into_iter().collect(),
            what: format!("{state}: all data {damage:?}"),
        });
    }
    trials
}

impl Trial<'_> {
    fn run(&self, stage: &Stage, number: usize, expected: &Output) -> Result<()> {
        let place = stage.place(&format!("fault-{number}"))?;
        copy(&self.template.place.folder, &place.folder)?;
        let mut hurt = BTreeSet::new();
        for file in &self.files {
            hurt.extend(self.hurt(&place.checkpoints(), file)?);
        }
        let is_whole = |files: &Vec<String>| files.iter().all(|f| !hurt.contains(f));
        let rest = self.template.checkpoints.iter().any(is_whole);
        let ended = stage.run(&start(self.template.rocksdb, None), &place)?;
        match rest {
            true => {
                ended.done()?;
                // A checkpoint whose entry is not there never was: there is nothing to warn of.
                let never_was = self.damage == Damage::Missing
                    && self.files.iter().all(|f| f.starts_with("log/"));
                ensure!(
                    never_was || ended.stderr.contains("set aside"),
                    "there was no warning: {}",
                    ended.stderr
                );
                right(&place, expected)?;
            }
            false => refused(&ended)?,
        }
        fs::remove_dir_all(&place.folder)?;
        Ok(())
    }

    /// Damages a file; says which files are no longer what they were.
    fn hurt(&self, folder: &Path, name: &str) -> Result<Vec<String>> {
        let path = folder.join(name);
        let mut hurt = vec![name.to_owned()];
        let bytes = fs::read(&path).with_context(|| name.to_owned())?;
        match self.damage {
            Damage::Missing => fs::remove_file(&path)?,
            Damage::Emptied => fs::write(&path, b"")?,
            Damage::Truncated => {
                fs::write(&path, bytes.get(..bytes.len() / 2).unwrap_or_default())?;
            }
            Damage::BitFlipped => {
                let mut bytes = bytes;
                let middle = bytes.len() / 2;
                bytes.iter_mut().skip(middle).take(1).for_each(|b| *b ^= 4);
                fs::write(&path, bytes)?;
            }
            Damage::Swapped => {
                let last = self.template.checkpoints.first();
                let others = last.into_iter().flatten();
                let mut found: Vec<(u64, &String, Vec<u8>)> = Vec::new();
                for other in others.filter(|f| *f != name) {
                    let theirs = fs::read(folder.join(other))?;
                    // The more alike the worse.
                    let distance = (theirs.len() as u64).abs_diff(bytes.len() as u64);
                    if theirs != bytes {
                        found.push((distance, other, theirs));
                    }
                }
                let other = found.into_iter().min_by_key(|(distance, ..)| *distance);
                let (_, other, theirs) = other.context("there is no other file")?;
                fs::write(folder.join(other), &bytes)?;
                fs::write(&path, theirs)?;
                hurt.push(other.clone());
            }
        }
        Ok(hurt)
    }
}

fn right(place: &Place, expected: &Output) -> Result<()> {
    let difference = Output::read(JOB, &place.output())?.against(expected);
    ensure!(difference.is_none(), "{difference}");
    Ok(())
}

/// It ended by itself with a message and a code.
fn refused(ended: &Ended) -> Result<()> {
    let code = ended.status.code();
    let says = ended.stderr.contains("error[PLT-") && !ended.stderr.contains("panicked");
    ensure!(
        says && code.is_some_and(|code| code != 0),
        "it should have been refused: {}; {}",
        ended.status,
        ended.stderr
    );
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, kind) = (to.join(entry.file_name()), entry.file_type()?);
        if kind.is_dir() {
            copy(&entry.path(), &path)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), path)?;
        }
    }
    Ok(())
}

/// No restart mends a disk.
const ONCE: [(&str, &str); 1] = [("RESTART__STRATEGY", "none")];

/// A folder that cannot be written any more ends the job; once it can, the job goes on.
fn read_only(stage: &Stage, place: &Place, expected: &Output) -> Result<()> {
    stage.run(&start(false, Some(KILL)), place)?.killed(KILL)?;
    mount(&["-o", "remount,ro"], &place.checkpoints())?;
    let once = Start {
        settings: &ONCE,
        ..start(false, None)
    };
    refused(&stage.run(&once, place)?)?;
    mount(&["-o", "remount,rw"], &place.checkpoints())?;
    stage.run(&start(false, None), place)?.done()?;
    right(place, expected)
}

/// A disk on which there is no room for a checkpoint ends the job; once there is, the job goes on.
fn full_disk(stage: &Stage, place: &Place, expected: &Output) -> Result<()> {
    mount(&["-o", "remount,size=400k"], &place.checkpoints())?;
    let once = Start {
        settings: &ONCE,
        ..start(false, None)
    };
    refused(&stage.run(&once, place)?)?;
    mount(&["-o", "remount,size=64m"], &place.checkpoints())?;
    stage.run(&start(false, None), place)?.done()?;
    right(place, expected)
}

/// Does something with a place whose checkpoints have a file system of their own; says why, where there cannot be one.
fn on_tmpfs(
    stage: &Stage,
    name: &str,
    work: impl FnOnce(&Place) -> Result<()>,
) -> Result<Option<String>> {
    let place = stage.place(name)?;
    let folder = place.checkpoints();
    fs::create_dir_all(&folder)?;
    if let Err(error) = mount(&["-t", "tmpfs", "-o", "size=64m", "tmpfs"], &folder) {
        return Ok(Some(format!(
            "this machine mounts nothing for us: {error:#}"
        )));
    }
    let mounted = Mounted(folder);
    let done = work(&place);
    drop(mounted);
    done.map(|()| None)
}

struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        // What is left is cleared away with the machine's own temporary files.
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

fn mount(args: &[&str], folder: &Path) -> Result<()> {
    let output = Command::new("mount").args(args).arg(folder).output()?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
