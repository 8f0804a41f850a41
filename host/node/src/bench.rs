//! Measures this binary against its marks: calls into Wasm, whole jobs, starts and memory.
//! Needs: the components `bench-jobs` and `nexmark`, Linux. Invariant: what is compared takes turns in one process,
//! and each figure is the median of its runs. CPU time, where it is not said otherwise: other processes matter less.

mod blocked;
mod calls;
mod checkpoints;
mod flink;
mod jobs;
mod joins;
mod json;
mod kinds;
mod lent;
mod measure;
mod native;
mod snapshots;
mod state;
mod windows;

use std::path::{Path, PathBuf};

use pelton_model::{Error, ErrorCode, Result};
use serde::Serialize;

use crate::settings::Settings;
use crate::summary::grouped;

/// One measured value and what it has to be.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    /// What it has to be; empty where nothing is asked of it.
    pub(crate) mark: String,
    pub(crate) holds: Option<bool>,
}

impl Figure {
    /// Nothing is asked of it.
    fn plain(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self {
            name: name.into(),
            value: rounded(value),
            unit,
            mark: String::new(),
            holds: None,
        }
    }

    /// It may be at most `most`.
    fn bounded(name: impl Into<String>, value: f64, unit: &'static str, most: f64) -> Self {
        Self {
            mark: format!("<= {} {unit}", shown(most)),
            holds: Some(value <= most),
            ..Self::plain(name, value, unit)
        }
    }

    /// For people: name, value with unit, mark, whether it holds.
    pub(crate) fn cells(&self) -> Vec<String> {
        let holds = match self.holds {
            None => "",
            Some(true) => "yes",
            Some(false) => "NO",
        };
        vec![
            self.name.clone(),
            format!("{} {}", shown(self.value), self.unit),
            self.mark.clone(),
            holds.to_owned(),
        ]
    }
}

/// To four digits.
fn rounded(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

fn shown(value: f64) -> String {
    match value.abs() {
        v if v >= 10_000.0 => grouped(value.round() as u64),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// What is measured, and how.
pub(crate) struct Bench<'a> {
    /// Names of sections or jobs; empty for all.
    pub(crate) only: Vec<String>,
    pub(crate) rounds: usize,
    /// A tenth of the work.
    pub(crate) quick: bool,
    /// Where the components are.
    pub(crate) components: PathBuf,
    pub(crate) settings: Settings,
    /// Gets each figure as soon as it is known.
    pub(crate) found: &'a mut dyn FnMut(Figure),
    /// Gets what is being done, for people who wait.
    pub(crate) progress: &'a dyn Fn(&str),
}

/// A part of the measurements.
type Section = (&'static str, fn(&mut Bench<'_>) -> Result<()>);

const SECTIONS: [Section; 18] = [
    // First: what a process has freed and kept would hide what it gains.
    ("snapshot-memory", snapshots::memory),
    ("boundary", calls::boundary),
    ("filter-map", calls::filter_map),
    ("keyed-sum", calls::keyed_sum),
    ("kinds", kinds::kinds),
    ("state", state::state),
    ("checkpoints", checkpoints::checkpoints),
    ("snapshots", snapshots::snapshots),
    ("restore", snapshots::restore),
    ("blocked-sink", blocked::blocked),
    ("windows", windows::windows),
    ("interval-join", joins::interval),
    ("unique", joins::unique),
    ("nexmark", jobs::nexmark),
    ("datastream", jobs::datastream),
    ("json", json::json),
    ("cold-start", jobs::cold_start),
    ("memory", jobs::memory),
];

impl Bench<'_> {
    /// Errors: a name that nothing has, a component that is not there, a job that fails.
    pub(crate) fn run(&mut self) -> Result<()> {
        let sections = SECTIONS.map(|(name, _)| name);
        let known: Vec<&str> = sections.into_iter().chain(jobs::names()).collect();
        if let Some(unknown) = self.only.iter().find(|n| !known.contains(&n.as_str())) {
            return Err(Error::new(
                ErrorCode::Usage,
                format!("there is nothing to measure named '{unknown}'"),
            )
            .help(format!("--only takes: {}", known.join(", "))));
        }
        for (name, section) in SECTIONS {
            if self.wants(name) || jobs::names_of(name).any(|job| self.wants(job)) {
                (self.progress)(name);
                section(self)?;
            }
        }
        Ok(())
    }

    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|o| o == name)
    }

    fn component(&self, name: &str) -> PathBuf {
        self.components.join(name).with_extension("wasm")
    }

    /// So many rows, or a tenth.
    fn scaled(&self, rows: u64) -> u64 {
        if self.quick { rows / 10 } else { rows }
    }

    fn add(&mut self, figure: Figure) {
        (self.found)(figure);
    }

    /// The same function in Wasm and natively, nanoseconds a row: at most 1.5 times as much, or `more` ns.
    fn add_pair(&mut self, name: &str, wasm: f64, native: f64, more: f64) {
        self.add(Figure::plain(
            format!("{name}, natively"),
            native,
            "ns a row",
        ));
        self.add(Figure::plain(format!("{name}, in Wasm"), wasm, "ns a row"));
        let mark = format!("<= 1.5 x or {more} ns a row more");
        let holds = Some(wasm <= native * 1.5 || wasm - native <= more);
        let ratio = Figure::plain(format!("{name}, Wasm to native"), wasm / native, "x");
        self.add(Figure {
            mark: mark.clone(),
            holds,
            ..ratio
        });
        let extra = Figure::plain(
            format!("{name}, Wasm above native"),
            wasm - native,
            "ns a row",
        );
        self.add(Figure {
            mark,
            holds,
            ..extra
        });
    }
}

/// Where components are looked for: as told, or as the variable tells, or where `pelton build` puts them.
pub(crate) fn components(given: Option<&Path>) -> PathBuf {
    given
        .map(Path::to_path_buf)
        .or_else(|| std::env::var_os("PELTON_COMPONENTS").map(PathBuf::from))
        .unwrap_or_else(|| PathBuf::from("target/pelton"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_holds_up_to_its_mark() {
        let at = Figure::bounded("a", 0.8, "us", 0.8);
        assert_eq!(at.cells(), ["a", "0.800 us", "<= 0.800 us", "yes"]);
        let above = Figure::bounded("a", 12_345.6, "us", 0.8);
        assert_eq!(above.cells(), ["a", "12,350 us", "<= 0.800 us", "NO"]);
        assert_eq!(
            Figure::plain("a", 1.0, "x").cells(),
            ["a", "1.00 x", "", ""]
        );
    }
}
