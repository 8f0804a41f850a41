//! Files that cannot be read or written, disks that are full: each fault is made, and a test that cannot make it fails.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use crate::components::component;
use crate::pelton::{Ended, Place};

/// Somebody who owns nothing.
const NOBODY: u32 = 65_534;

/// A run of Nexmark's q0, which passes every bid on.
fn bids(input: &str, output: &str) -> Vec<String> {
    let params = [
        "query=q0".to_owned(),
        format!("input={input}"),
        format!("output={output}"),
    ];
    let mut args = vec!["run".to_owned(), component("nexmark"), "-q".to_owned()];
    args.extend(params.into_iter().flat_map(|p| ["--param".to_owned(), p]));
    args
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Runs as somebody for whom modes hold: they don't for root. Program and component are copied to where anybody may
/// read them, since a target folder may lie in a home that is closed.
pub(crate) fn run_as_nobody(place: &Place, args: &[String]) -> Ended {
    let mut command = place.command(args);
    if is_root() {
        let work = place.work();
        let open = work.parent().unwrap();
        set_mode(open, 0o755);
        let copy = |from: &str| {
            let to = open.join(Path::new(from).file_name().unwrap());
            std::fs::copy(from, &to).unwrap();
            set_mode(&to, 0o755);
            to
        };
        let program = copy(command.get_program().to_str().unwrap());
        let args = args.iter().map(|arg| match arg.strip_suffix(".wasm") {
            Some(_) => copy(arg).into_os_string(),
            None => arg.into(),
        });
        let mut moved = Command::new(program);
        moved.args(args).uid(NOBODY).gid(NOBODY);
        moved.current_dir(&work);
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => moved.env(name, value),
                None => moved.env_remove(name),
            };
        }
        command = moved;
    }
    Ended::of(command.output().unwrap())
}

fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let uid = status.lines().find_map(|l| l.strip_prefix("Uid:")).unwrap();
    uid.split_whitespace().next() == Some("0")
}

#[track_caller]
fn failed(ended: &Ended, code: &str, words: &[&str]) {
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(8), ""),
        "{}",
        ended.stderr
    );
    assert!(
        ended.stderr.starts_with(&format!("error[{code}]: ")),
        "{}",
        ended.stderr
    );
    for word in words {
        assert!(
            ended.stderr.contains(word),
            "'{word}' is not in {}",
            ended.stderr
        );
    }
}

#[test]
fn an_input_that_may_not_be_read_is_named() {
    let place = Place::new();
    let file = place.file("secret.jsonl", "{}\n");
    set_mode(&file, 0);
    let ended = run_as_nobody(&place, &bids("secret.jsonl", "blackhole"));
    failed(
        &ended,
        "PLT-0301",
        &["secret.jsonl", "Permission denied", "operator 'events'"],
    );
}

#[test]
fn a_folder_that_may_not_be_written_is_named() {
    let place = Place::new();
    let folder = place.work().join("out");
    std::fs::create_dir(&folder).unwrap();
    set_mode(&folder, 0o555);
    let ended = run_as_nobody(&place, &bids("generator:10k", "out"));
    failed(
        &ended,
        "PLT-0401",
        &["out", "Permission denied", "operator 'result'"],
    );
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
}

/// A file system of a megabyte, gone at the end of the test.
pub(crate) struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    pub(crate) fn mount(folder: &'a Path) -> Self {
        std::fs::create_dir(folder).unwrap();
        let mut command = Command::new("mount");
        let mounted = command
            .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
            .arg(folder)
            .status()
            .unwrap();
        assert!(mounted.success(), "a small disk needs the right to mount");
        Self(folder)
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

#[test]
fn a_full_disk_fails_the_job_and_leaves_nothing_under_a_final_name() {
    let place = Place::new();
    let folder = place.work().join("out");
    let _disk = SmallDisk::mount(&folder);
    for parallelism in ["1", "2"] {
        let mut args = bids("generator:200k", "out");
        args.extend(["-p".to_owned(), parallelism.to_owned()]);
        let ended = place.pelton(&args);
        failed(
            &ended,
            "PLT-0401",
            &["No space left on device", "operator 'result'"],
        );
        let left: Vec<String> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        assert!(left.iter().all(|name| name.starts_with('.')), "{left:?}");
    }
}

#[test]
fn a_file_above_the_users_bound_is_an_error_and_no_signal() {
    let place = Place::new();
    let inner = place.command(&bids("generator:200k", "out"));
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -f 64; exec \"$@\"", "sh"])
        .arg(inner.get_program())
        .args(inner.get_args());
    command.current_dir(place.work()).env("HOME", place.home());
    let ended = Ended::of(command.output().unwrap());
    failed(&ended, "PLT-0401", &["File too large", "operator 'result'"]);
}

#[test]
fn a_full_standard_output_is_an_error() {
    let place = Place::new();
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let ended = Ended::of(
        place
            .command(&bids("generator:10k", "print"))
            .stdout(full)
            .output()
            .unwrap(),
    );
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(
        ended.stderr.starts_with("error[PLT-0401]: "),
        "{}",
        ended.stderr
    );
    assert!(
        ended.stderr.contains("No space left on device"),
        "{}",
        ended.stderr
    );
}
