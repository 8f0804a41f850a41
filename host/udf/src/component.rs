//! A component that may run: what it is, what it describes, and instances of it.

use std::fmt;
use std::sync::Arc;

use pelton_engine::function::Functions;
use pelton_model::graph::JobGraph;
use pelton_model::limits::{GRAPH_BYTES_MAX, Limits, OPERATORS_MAX};
use pelton_model::{Error, ErrorCode, Result};
use wasmtime::component::InstancePre;

use crate::convert::wire::Param;
use crate::graph::read;
use crate::host::log::NoLog;
use crate::runtime::Ticker;
use crate::sandbox::guest::{ExportPlaces, Guest, GuestSettings, State};
use crate::sandbox::task::{Task, TaskContext};
use crate::sandbox::trap::Stop;

/// A component, compiled and linked.
pub struct Component {
    digest: [u8; 32],
    imports: Vec<String>,
    pub(crate) ready: InstancePre<State>,
    pub(crate) places: ExportPlaces,
    /// Epochs advance as long as anybody can call.
    _ticker: Arc<Ticker>,
}

/// What a job describes itself as.
#[derive(Clone, PartialEq, Debug)]
pub struct Described {
    /// The graph: its numbers are in bounds; what it means is not checked.
    pub graph: JobGraph,
    /// The guest's own digest of the graph, which every instance must arrive at.
    pub digest: u64,
}

impl Component {
    pub(crate) fn new(
        digest: [u8; 32],
        imports: Vec<String>,
        ready: InstancePre<State>,
        ticker: Arc<Ticker>,
    ) -> Result<Self> {
        let places = ExportPlaces::find(ready.component())?;
        Ok(Self {
            digest,
            imports,
            ready,
            places,
            _ticker: ticker,
        })
    }

    /// BLAKE3 of the component's bytes.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// The same as 64 digits.
    #[must_use]
    pub fn digest_hex(&self) -> String {
        blake3::Hash::from_bytes(self.digest).to_hex().to_string()
    }

    /// The full names of what it imports: its permissions.
    #[must_use]
    pub fn imports(&self) -> &[String] {
        &self.imports
    }

    /// Runs the job function in a fresh sandbox and reads the graph.
    ///
    /// Errors: `DescribeFailed` (the function's own error, or a trap), `CpuLimit`, `MemoryLimit`, `StackLimit`,
    /// `GraphInvalid` (too large, or not even well formed), `BadReply`.
    pub fn describe(&self, params: &[(String, String)], limits: &Limits) -> Result<Described> {
        const WHO: &str = "the job function";
        let settings = GuestSettings {
            limits: limits.clone(),
            copied_bytes_max: GRAPH_BYTES_MAX as u64,
            log: Arc::new(NoLog),
            cancel: None,
        };
        let mut guest = Guest::new(&self.ready, &self.places, &settings)?;
        let params = wire_params(params);
        let described = guest.call(|store, e| e.describe.call(store, (&params,)));
        let graph = described.map_err(|stop| match stop {
            Stop::Failure(failure) => Error::new(ErrorCode::DescribeFailed, failure.message),
            Stop::Host(error) => error,
            Stop::Trap(mut trapped) => match trapped.code {
                ErrorCode::OutputLimit => Error::new(
                    ErrorCode::GraphInvalid,
                    format!(
                        "the job's graph is too large: over {GRAPH_BYTES_MAX} bytes, or far more than {OPERATORS_MAX} operators"
                    ),
                ),
                ErrorCode::Trap => {
                    trapped.code = ErrorCode::DescribeFailed;
                    trapped.error(WHO)
                }
                _ => trapped.error(WHO),
            },
        })?;
        let digest = graph.digest;
        Ok(Described {
            graph: read::graph(graph)?,
            digest,
        })
    }

    /// A fresh instance for one task, opened. Errors: `GraphDiffers`, `UserError` (a function's own `open` fails),
    /// a trap or a limit, `Io` where no instance is left.
    pub fn instance(self: &Arc<Self>, task: TaskContext) -> Result<Box<dyn Functions>> {
        Ok(Box::new(Task::open(self.clone(), task)?))
    }
}

impl fmt::Debug for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Component")
            .field("digest", &self.digest_hex())
            .field("imports", &self.imports)
            .finish_non_exhaustive()
    }
}

/// Parameters as they are passed.
pub(crate) fn wire_params(params: &[(String, String)]) -> Vec<Param<'_>> {
    params
        .iter()
        .map(|(name, value)| Param { name, value })
        .collect()
}

/// Refuses a parameter that the job never asked for. Errors: `BadParam`, naming it and the one that was meant.
pub fn check_params(graph: &JobGraph, given: &[(String, String)]) -> Result<()> {
    let Some((unknown, _)) = given.iter().find(|(name, _)| !graph.params.contains(name)) else {
        return Ok(());
    };
    let error = Error::new(
        ErrorCode::BadParam,
        format!("the job has no parameter '{unknown}'"),
    );
    let nearest = graph
        .params
        .iter()
        .map(|known| (distance(known, unknown), known))
        .min()
        .filter(|(distance, _)| *distance <= unknown.chars().count().div_ceil(3).max(2));
    Err(match (nearest, graph.params.is_empty()) {
        (Some((_, known)), _) => error.help(format!("did you mean '{known}'?")),
        (None, true) => error.help("it reads no parameters"),
        (None, false) => error.help(format!("it reads: {}", graph.params.join(", "))),
    })
}

/// How many letters must be put in, taken out or changed.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(256).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(256).enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(&b) {
            let here = (diagonal + usize::from(x != *y))
                .min(left + 1)
                .min(*cell + 1);
            diagonal = std::mem::replace(cell, here);
            left = here;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distance_counts_letters() {
        assert_eq!(distance("input", "input"), 0);
        assert_eq!(distance("input", "imput"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn an_unknown_parameter_is_refused_with_the_nearest() {
        let graph = JobGraph {
            name: "j".into(),
            operators: vec![],
            edges: vec![],
            params: vec!["input".into(), "output".into()],
            parallelism: None,
            max_parallelism: None,
        };
        let given = |name: &str| vec![(name.to_string(), "x".to_string())];
        assert!(check_params(&graph, &given("input")).is_ok());
        let error = check_params(&graph, &given("imput")).unwrap_err();
        assert_eq!(error.code(), ErrorCode::BadParam);
        assert_eq!(error.help_text(), Some("did you mean 'input'?"));
        let error = check_params(&graph, &given("speed")).unwrap_err();
        assert_eq!(error.help_text(), Some("it reads: input, output"));
    }
}
