//! Set-up: what a machine needs to build the host and to compile guests, installed where it is missing.
//!
//! Needs: `toolchain`, the product's own detection. Invariant: what to do is decided from a `Machine` by pure
//! functions; only `act` changes anything, and only after `say` told what and why. Refuses: to ask for input, and to
//! wait for ever for a network that is not there.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, anyhow};

use crate::shell::{self, Repo, say};
use crate::toolchain::{DEBIAN_PACKAGES, Found, TARGET, Toolchain};

const RUSTUP_BOUND: Duration = Duration::from_secs(180);
const APT_BOUND: Duration = Duration::from_secs(900);

/// Installs what is missing. Says nothing beyond one line where nothing is.
///
/// # Errors
/// When something is missing and cannot be installed from here: what, and what the user can do.
pub(crate) fn run(repo: &Repo) -> Result<()> {
    let toolchain = prepare(
        &mut Machine::look,
        &mut |action| act(repo, action),
        &mut say,
    )?;
    let guests = match toolchain {
        Toolchain::Rustup => "the ordinary Rust toolchain".to_owned(),
        Toolchain::Debian { linker } => format!("Debian's Rust toolchain and {linker}"),
    };
    say(&format!(
        "set-up: everything is there; guests are compiled by {guests}"
    ));
    Ok(())
}

/// Who may install system packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Admin {
    Root,
    Sudo,
    Nobody,
}

/// What a look at the machine found.
#[derive(Clone, Debug)]
struct Machine {
    /// `apt-get` is there: Debian, Ubuntu or a relative.
    apt: bool,
    admin: Admin,
    c_compiler: bool,
    cpp_compiler: bool,
    libclang: bool,
    rustup: bool,
    guests: Found,
}

/// Something that the host is compiled with.
struct Tool {
    name: &'static str,
    there: fn(&Machine) -> bool,
    /// What Debian has it in.
    packages: &'static [&'static str],
    why: &'static str,
}

const TOOLS: [Tool; 3] = [
    Tool {
        name: "a C compiler",
        there: |machine| machine.c_compiler,
        packages: &["gcc", "libc6-dev"],
        why: "some libraries of the host (hashing, the allocator) contain C, and Rust links with it",
    },
    Tool {
        name: "a C++ compiler",
        there: |machine| machine.cpp_compiler,
        packages: &["g++"],
        why: "RocksDB, which keeps large state, is written in it",
    },
    Tool {
        name: "libclang",
        there: |machine| machine.libclang,
        packages: &["libclang-dev"],
        why: "it reads RocksDB's headers while the host is compiled",
    },
];

/// One thing to do to the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    Install {
        packages: Vec<&'static str>,
        sudo: bool,
    },
    AddTarget,
}

impl Machine {
    fn look() -> Self {
        Self {
            apt: shell::on_path("apt-get"),
            admin: Admin::look(),
            c_compiler: ["cc", "gcc", "clang"]
                .iter()
                .any(|name| shell::on_path(name)),
            cpp_compiler: ["c++", "g++", "clang++"]
                .iter()
                .any(|name| shell::on_path(name)),
            libclang: libclang(),
            rustup: shell::on_path("rustup"),
            guests: Found::look(),
        }
    }

    fn install(&self, packages: &[&'static str]) -> Option<Action> {
        let sudo = match self.admin {
            Admin::Root => false,
            Admin::Sudo => true,
            Admin::Nobody => return None,
        };
        self.apt.then(|| Action::Install {
            packages: packages.to_vec(),
            sudo,
        })
    }
}

/// Whether libclang is where its users look for it.
fn libclang() -> bool {
    if std::env::var_os("LIBCLANG_PATH").is_some() {
        return true;
    }
    let folders = |folder: &str| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let mut places: Vec<PathBuf> = ["/usr/lib", "/usr/lib64", "/usr/local/lib"]
        .map(PathBuf::from)
        .to_vec();
    for inner in folders("/usr/lib") {
        places.push(inner.join("lib"));
        places.push(inner);
    }
    let is_it = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // Not `libclang-cpp`, which is another library.
        let number = name.strip_prefix("libclang-").unwrap_or_default();
        name.starts_with("libclang.so") || number.starts_with(|c: char| c.is_ascii_digit())
    };
    places
        .iter()
        .any(|place| folders(&place.to_string_lossy()).iter().any(is_it))
}

impl Admin {
    fn look() -> Self {
        if shell::output(Command::new("id").arg("-u")).trim() == "0" {
            Self::Root
        } else if shell::succeeds(Command::new("sudo").args(["-n", "true"])) {
            Self::Sudo
        } else {
            Self::Nobody
        }
    }
}

/// Brings the machine that `look` sees to where everything is there, one action after the other; an action that
/// fails is told and the next way is tried.
fn prepare(
    look: &mut dyn FnMut() -> Machine,
    act: &mut dyn FnMut(&Action) -> Result<()>,
    say: &mut dyn FnMut(&str),
) -> Result<Toolchain> {
    let mut machine = look();
    for tool in TOOLS {
        let Tool { name, why, .. } = tool;
        if (tool.there)(&machine) {
            continue;
        }
        let Some(action) = machine.install(tool.packages) else {
            return Err(anyhow!(
                "there is no {}, and this user cannot install one: install it ({why})",
                name.trim_start_matches("a ")
            ));
        };
        say(&format!(
            "set-up: installing {name} ({}): {why}",
            tool.packages.join(" ")
        ));
        act(&action)?;
        machine = look();
    }
    for (action, why) in ways_to_guests(&machine) {
        say(&format!("set-up: {why}"));
        if let Err(error) = act(&action) {
            say(&format!("set-up: that did not work: {error:#}"));
        }
        machine = look();
        if machine.guests.decide().is_ok() {
            break;
        }
    }
    machine
        .guests
        .decide()
        .map_err(|missing| anyhow!("{missing}"))
}

/// What could make guests compile here, best first; nothing where they do already.
fn ways_to_guests(machine: &Machine) -> Vec<(Action, String)> {
    let mut ways = Vec::new();
    if machine.guests.decide().is_ok() {
        return ways;
    }
    if machine.rustup {
        let why = format!("adding Rust's {TARGET} with rustup: jobs are compiled to WebAssembly");
        ways.push((Action::AddTarget, why));
    }
    if let Some(action) = machine.install(&DEBIAN_PACKAGES) {
        let packages = DEBIAN_PACKAGES.join(" ");
        let why = format!(
            "installing Debian's Rust ({packages}): it compiles jobs to WebAssembly without rustup's target"
        );
        ways.push((action, why));
    }
    ways
}

fn act(repo: &Repo, action: &Action) -> Result<()> {
    match action {
        Action::AddTarget => {
            let mut rustup = Command::new("rustup");
            rustup
                .args(["target", "add", TARGET])
                .current_dir(&repo.root);
            shell::run_bounded(&mut rustup, RUSTUP_BOUND)
        }
        Action::Install { packages, sudo } => {
            // A stale or partly unreachable index still installs what it knows.
            if let Err(error) =
                shell::run_bounded(&mut apt_get(*sudo, &["update", "-q"]), APT_BOUND)
            {
                say(&format!(
                    "set-up: going on with the old package index: {error:#}"
                ));
            }
            let options = [
                "install",
                "-q",
                "-y",
                "--no-install-recommends",
                "-o",
                "DPkg::Lock::Timeout=120",
            ];
            shell::run_bounded(apt_get(*sudo, &options).args(packages), APT_BOUND)
        }
    }
}

fn apt_get(sudo: bool, args: &[&str]) -> Command {
    let mut command = Command::new(if sudo { "sudo" } else { "env" });
    if sudo {
        command.args(["-n", "env"]);
    }
    command
        .args(["DEBIAN_FRONTEND=noninteractive", "apt-get"])
        .args(args);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine in memory: what it is, and what its network and package index would give.
    struct Fake {
        machine: Machine,
        rustup_works: bool,
        apt_works: bool,
        done: Vec<Action>,
        said: Vec<String>,
    }

    impl Fake {
        fn bare() -> Self {
            let guests = Found {
                rustc: true,
                ..Found::default()
            };
            let machine = Machine {
                apt: true,
                admin: Admin::Root,
                c_compiler: true,
                cpp_compiler: true,
                libclang: true,
                rustup: true,
                guests,
            };
            Self {
                machine,
                rustup_works: true,
                apt_works: true,
                done: Vec::new(),
                said: Vec::new(),
            }
        }

        fn prepare(&mut self) -> Result<Toolchain> {
            let shared = std::cell::RefCell::new(&mut *self);
            let mut said = Vec::new();
            let outcome = prepare(
                &mut || shared.borrow().machine.clone(),
                &mut |action| shared.borrow_mut().act(action),
                &mut |text| said.push(text.to_owned()),
            );
            self.said = said;
            outcome
        }

        fn act(&mut self, action: &Action) -> Result<()> {
            self.done.push(action.clone());
            match action {
                Action::AddTarget if self.rustup_works => {
                    self.machine.guests.rustc_has_target = true
                }
                Action::Install { packages, .. } if self.apt_works => {
                    self.machine.c_compiler |= packages.contains(&"gcc");
                    self.machine.cpp_compiler |= packages.contains(&"g++");
                    self.machine.libclang |= packages.contains(&"libclang-dev");
                    if packages.contains(&"rustc-web") {
                        self.machine.guests.debian_compiler = true;
                        self.machine.guests.debian_sources = true;
                        self.machine.guests.linker = Some("wasm-ld-19".to_owned());
                    }
                }
                _ => return Err(anyhow!("unreachable network")),
            }
            Ok(())
        }
    }

    fn debian_install(sudo: bool) -> Action {
        Action::Install {
            packages: DEBIAN_PACKAGES.to_vec(),
            sudo,
        }
    }

    #[test]
    fn a_ready_machine_is_left_alone() {
        let mut fake = Fake::bare();
        fake.machine.guests.rustc_has_target = true;
        assert_eq!(fake.prepare().unwrap(), Toolchain::Rustup);
        assert_eq!(fake.done, []);
        assert!(fake.said.is_empty());
    }

    #[test]
    fn rustup_is_tried_first() {
        let mut fake = Fake::bare();
        assert_eq!(fake.prepare().unwrap(), Toolchain::Rustup);
        assert_eq!(fake.done, [Action::AddTarget]);
        assert!(fake.said[0].contains("with rustup"), "{:?}", fake.said);
    }

    #[test]
    fn debian_serves_where_rustup_cannot_reach_its_server() {
        let mut fake = Fake {
            rustup_works: false,
            ..Fake::bare()
        };
        assert_eq!(
            fake.prepare().unwrap(),
            Toolchain::Debian {
                linker: "wasm-ld-19".to_owned()
            }
        );
        assert_eq!(fake.done, [Action::AddTarget, debian_install(false)]);
        assert!(
            fake.said
                .iter()
                .any(|text| text.contains("unreachable network")),
            "{:?}",
            fake.said
        );
    }

    #[test]
    fn without_rustup_debian_is_the_only_way() {
        let mut fake = Fake::bare();
        fake.machine.rustup = false;
        fake.machine.admin = Admin::Sudo;
        assert!(matches!(fake.prepare().unwrap(), Toolchain::Debian { .. }));
        assert_eq!(fake.done, [debian_install(true)]);
    }

    #[test]
    fn who_may_not_install_is_told_what_to_run() {
        let mut fake = Fake {
            rustup_works: false,
            ..Fake::bare()
        };
        fake.machine.admin = Admin::Nobody;
        let message = fake.prepare().unwrap_err().to_string();
        assert_eq!(fake.done, [Action::AddTarget]);
        assert!(
            message.contains("run `rustup target add wasm32-unknown-unknown`"),
            "{message}"
        );
    }

    #[test]
    fn every_way_failing_is_an_error_not_a_loop() {
        let mut fake = Fake {
            rustup_works: false,
            apt_works: false,
            ..Fake::bare()
        };
        assert!(fake.prepare().is_err());
        assert_eq!(fake.done.len(), 2);
    }

    #[test]
    fn a_missing_c_compiler_comes_first() {
        let mut fake = Fake::bare();
        fake.machine.c_compiler = false;
        fake.prepare().unwrap();
        assert_eq!(
            fake.done,
            [
                Action::Install {
                    packages: vec!["gcc", "libc6-dev"],
                    sudo: false
                },
                Action::AddTarget
            ]
        );
    }

    #[test]
    fn a_missing_c_compiler_that_nobody_can_install_is_an_error() {
        let mut fake = Fake::bare();
        fake.machine.c_compiler = false;
        fake.machine.apt = false;
        let message = fake.prepare().unwrap_err().to_string();
        assert!(message.contains("no C compiler"), "{message}");
    }

    #[test]
    fn what_rocksdb_is_compiled_with_is_installed() {
        let mut fake = Fake::bare();
        (fake.machine.cpp_compiler, fake.machine.libclang) = (false, false);
        fake.machine.guests.rustc_has_target = true;
        fake.prepare().unwrap();
        let installs = |packages: &[&'static str]| Action::Install {
            packages: packages.to_vec(),
            sudo: false,
        };
        assert_eq!(fake.done, [installs(&["g++"]), installs(&["libclang-dev"])]);
        assert!(fake.said[1].contains("RocksDB"), "{:?}", fake.said);
        fake.machine.libclang = false;
        fake.apt_works = false;
        let refused = fake.prepare();
        assert!(refused.unwrap_err().to_string().contains("unreachable"));
    }

    #[test]
    fn packages_are_installed_without_questions() {
        let command = apt_get(true, &["install"]);
        assert_eq!(
            shell::shown(&command),
            "sudo -n env DEBIAN_FRONTEND=noninteractive apt-get install"
        );
    }
}
