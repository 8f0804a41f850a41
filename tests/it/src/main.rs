//! The real binary, from outside: what it prints, what it leaves on the disk, how it exits. A module per topic.
//! Needs: `pelton`, named by `PELTON_BIN` or built at `target/debug/pelton`. Refuses: to look inside.

#[cfg(test)]
mod bad_components;
#[cfg(test)]
mod bad_files;
#[cfg(test)]
mod bad_functions;
#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod bad_windows;
#[cfg(test)]
mod command_line;
#[cfg(test)]
mod components;
#[cfg(test)]
mod evolution;
#[cfg(test)]
mod examples;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod labs;
#[cfg(test)]
mod misbehaving;
#[cfg(test)]
mod new_project;
#[cfg(test)]
mod nexmark;
#[cfg(test)]
mod pelton;
#[cfg(test)]
mod projects;
#[cfg(test)]
mod running;
#[cfg(test)]
mod savepoints;
#[cfg(test)]
mod settings;
#[cfg(test)]
mod state;
#[cfg(test)]
mod watermarks;

fn main() {}
