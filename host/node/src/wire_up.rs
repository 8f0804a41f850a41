//! Where the rooms are plugged together: a component, its graph, its connectors, and in the end a job that can run.
//! Needs: udf, connect, control, local, state. Invariant: up to [`open`] nothing outside is touched but the component's file.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use pelton_connect::{Output, SinkRequest, SourceRequest, StartId};
use pelton_control::execution::{ExecutionGraph, plan};
use pelton_model::graph::{Body, Emit, JobGraph, Needs, check, needs};
use pelton_model::id::OperatorId;
use pelton_model::limits::COMPONENT_BYTES_MAX;
use pelton_model::{Error, ErrorCode, Result};
use pelton_udf::{Component, LogSink, Runtime, RuntimeSettings, TaskContext, check_params};

use crate::local::LocalJob;
use crate::settings::{Settings, nearest};
use crate::state::JobState;

/// Parameters of a job, in the order in which they were given.
pub(crate) type Params = Vec<(String, String)>;

/// A job that passed every check that needs no outside.
pub(crate) struct Accepted {
    pub(crate) component: Arc<Component>,
    pub(crate) graph: JobGraph,
    pub(crate) needs: Needs,
    pub(crate) plan: ExecutionGraph,
    pub(crate) params: Params,
    /// The guest's own digest of its graph.
    digest: u64,
    /// Of the component's bytes, in hexadecimal.
    pub(crate) component_digest: String,
}

/// What a job needs of this process.
#[derive(Clone)]
pub(crate) struct Surroundings {
    /// The standard output, for sinks that write there.
    pub(crate) output: Output,
    /// Where functions' log lines go.
    pub(crate) log: Arc<dyn LogSink>,
    /// The wish to stop, also seen by calls that would run for ever.
    pub(crate) stop: Arc<AtomicBool>,
}

/// Reads `NAME=VALUE`, each. Errors: no `=`, a name that stands twice.
pub(crate) fn parse_params(texts: &[String]) -> Result<Params> {
    let mut params = Params::new();
    for text in texts {
        let (name, value) = text.split_once('=').ok_or_else(|| {
            Error::new(
                ErrorCode::Usage,
                format!("--param takes NAME=VALUE, not '{text}'"),
            )
        })?;
        if params.iter().any(|(n, _)| n == name) {
            return Err(Error::new(
                ErrorCode::Usage,
                format!("parameter '{name}' is given twice"),
            ));
        }
        params.push((name.to_owned(), value.to_owned()));
    }
    Ok(params)
}

/// Loads a component, lets it describe itself, and checks the whole of it.
///
/// Errors: `NotFound` for the file; what the component, the graph, the parameters and the connectors are refused for.
pub(crate) fn accept(
    file: &Path,
    params: Params,
    settings: &Settings,
    name: Option<&str>,
) -> Result<Accepted> {
    accept_inner(file, params, settings, name).map_err(|e| {
        match e.places().iter().any(|(l, _)| *l == "file") {
            true => e,
            false => e.at("file", file.display()),
        }
    })
}

fn accept_inner(
    file: &Path,
    params: Params,
    settings: &Settings,
    name: Option<&str>,
) -> Result<Accepted> {
    let bytes = read_component(file)?;
    let runtime = Runtime::new(RuntimeSettings {
        cache_dir: Some(settings.cache_dir.join("components")),
        ..RuntimeSettings::default()
    })?;
    let component = runtime.load(&bytes)?;
    let described = component
        .describe(&params, &settings.limits)
        .map_err(|e| missing_param(e, &params))?;
    let (mut graph, digest) = (described.graph, described.digest);
    if let Some(name) = name {
        name.clone_into(&mut graph.name);
    }
    set_interval(&mut graph, settings.watermark_interval_ms);
    check(&graph)?;
    check_params(&graph, &params)?;
    check_connectors(&graph)?;
    let needs = needs(&graph)?;
    // An operator's own stands above the job's, and this above the command line's and the settings'.
    let parallelism = graph.parallelism.unwrap_or(settings.parallelism);
    let max_parallelism = graph.max_parallelism.unwrap_or(settings.max_parallelism);
    let plan = plan(&graph, parallelism, max_parallelism)?;
    Ok(Accepted {
        component_digest: blake3::hash(&bytes).to_hex().to_string(),
        component,
        graph,
        needs,
        plan,
        params,
        digest,
    })
}

/// Watermarks come as often as the settings say, where the job does not say it.
fn set_interval(graph: &mut JobGraph, ms: u64) {
    for operator in &mut graph.operators {
        if let Body::Timestamps(t) = &mut operator.body
            && t.emit == Emit::Regular
        {
            t.emit = Emit::Interval(ms);
        }
    }
}

fn read_component(file: &Path) -> Result<Vec<u8>> {
    let failed = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => Error::new(
            ErrorCode::NotFound,
            format!("there is no file '{}'", file.display()),
        )
        .help("`pelton build` writes components to target/pelton"),
        _ => Error::new(ErrorCode::Io, format!("the component cannot be read: {e}")),
    };
    let size = std::fs::metadata(file).map_err(failed)?;
    if size.is_dir() {
        return Err(Error::new(
            ErrorCode::NotAComponent,
            "this is a folder, not a component",
        )
        .help("`pelton build` writes components to target/pelton"));
    }
    if size.len() > COMPONENT_BYTES_MAX as u64 {
        let message = format!(
            "the component has {} bytes, and at most {COMPONENT_BYTES_MAX} are allowed",
            size.len()
        );
        return Err(Error::new(ErrorCode::ComponentTooLarge, message));
    }
    std::fs::read(file).map_err(failed)
}

/// A job that asks for a parameter in vain says so in its own words: those of the SDK are known.
fn missing_param(error: Error, given: &[(String, String)]) -> Error {
    let missing = error
        .message()
        .strip_prefix("parameter '")
        .and_then(|rest| rest.split_once('\''))
        .filter(|_| error.code() == ErrorCode::DescribeFailed)
        .map(|(name, _)| name.to_owned());
    let Some(missing) = missing else { return error };
    let given: Vec<&str> = given.iter().map(|(name, _)| name.as_str()).collect();
    let renamed = Error::new(ErrorCode::BadParam, error.message());
    match nearest(&missing, &given).filter(|name| *name != missing) {
        Some(near) => renamed.help(format!(
            "'{near}' was given: is it '{missing}' that was meant?"
        )),
        None => renamed,
    }
}

fn check_connectors(graph: &JobGraph) -> Result<()> {
    for operator in &graph.operators {
        let checked = match &operator.body {
            Body::Source(c) => pelton_connect::check_source(&c.name, &c.options, &c.schema),
            Body::Sink(c) => pelton_connect::check_sink(&c.name, &c.options, &c.schema),
            _ => Ok(()),
        };
        checked.map_err(|e| e.at("operator", format!("'{}'", operator.name)))?;
    }
    Ok(())
}

/// How a job starts, as far as its sinks care.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Beginning {
    /// Without checkpoints.
    Plain,
    /// With checkpoints, anew.
    Fresh(StartId),
    /// From a checkpoint: what it wrote before is its own.
    Resumed(StartId),
    /// Likewise, but without checkpoints of its own.
    Taken,
}

/// Opens the job's sources and sinks. Errors: what the outside refuses, with the operator's name.
pub(crate) fn open(
    accepted: &Accepted,
    settings: &Settings,
    around: &Surroundings,
    beginning: Beginning,
) -> Result<LocalJob> {
    let Accepted {
        component,
        graph,
        needs,
        plan,
        params,
        digest,
        ..
    } = accepted;
    let (component, params, digest) = (component.clone(), params.clone(), *digest);
    let (log, stop) = (around.log.clone(), around.stop.clone());
    let (mut sources, mut sinks) = (BTreeMap::new(), BTreeMap::new());
    for id in graph.ids() {
        let Some(operator) = graph.operator(id) else {
            continue;
        };
        let named = |e: Error| e.at("operator", format!("'{}'", operator.name));
        let parallelism = parallelism_of(plan, id);
        match &operator.body {
            Body::Source(c) => {
                let needed = needs.stream(id, 0).unwrap_or(&c.schema);
                let request = SourceRequest {
                    connector: &c.name,
                    options: &c.options,
                    declared: &c.schema,
                    needed,
                    limits: &settings.limits,
                    parallelism,
                };
                sources.insert(id, pelton_connect::open_source(&request).map_err(named)?);
            }
            Body::Sink(c) => {
                let request = SinkRequest {
                    connector: &c.name,
                    options: &c.options,
                    schema: &c.schema,
                    limits: &settings.limits,
                    parallelism,
                    batch: settings.batch,
                    start: match beginning {
                        Beginning::Fresh(start) | Beginning::Resumed(start) => Some(start),
                        Beginning::Plain | Beginning::Taken => None,
                    },
                    resumed: matches!(beginning, Beginning::Resumed(_) | Beginning::Taken),
                    output: around.output.clone(),
                };
                sinks.insert(id, pelton_connect::open_sink(&request).map_err(named)?);
            }
            _ => {}
        }
    }
    let (limits, job, batch) = (settings.limits.clone(), graph.name.clone(), settings.batch);
    let functions = move |spec: &pelton_model::protocol::TaskSpec| {
        component.instance(TaskContext {
            params: params.clone(),
            job: job.clone(),
            task: spec.task.index,
            parallelism: spec.parallelism,
            batch,
            limits: limits.clone(),
            graph_digest: digest,
            log: log.clone(),
            cancel: Some(stop.clone()),
        })
    };
    Ok(LocalJob {
        graph: graph.clone(),
        needs: needs.clone(),
        plan: plan.clone(),
        sources,
        sinks,
        limits: settings.limits.clone(),
        batch_rows: settings.batch_rows,
        batch,
        state: JobState::open(&settings.state)?,
        functions: Box::new(functions),
        threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        durable: None,
    })
}

pub(crate) fn parallelism_of(plan: &ExecutionGraph, id: OperatorId) -> u32 {
    plan.chains
        .iter()
        .find(|c| c.operators.contains(&id))
        .map_or(1, |c| c.parallelism)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_pairs_and_stand_once() {
        let parse = |texts: &[&str]| {
            parse_params(&texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(
            parse(&["a=1=2", "b="]).unwrap(),
            [("a".into(), "1=2".into()), ("b".into(), String::new())]
        );
        assert_eq!(
            parse(&["a"]).unwrap_err().message(),
            "--param takes NAME=VALUE, not 'a'"
        );
        assert_eq!(
            parse(&["a=1", "a=2"]).unwrap_err().message(),
            "parameter 'a' is given twice"
        );
    }

    #[test]
    fn a_missing_parameter_names_the_one_that_was_misspelt() {
        let error = || Error::new(ErrorCode::DescribeFailed, "parameter 'input' is missing");
        let near = missing_param(error(), &[("inptu".into(), String::new())]);
        assert_eq!(near.code(), ErrorCode::BadParam);
        assert_eq!(
            near.help_text(),
            Some("'inptu' was given: is it 'input' that was meant?")
        );
        assert_eq!(missing_param(error(), &[]).help_text(), None);
        let other = missing_param(Error::new(ErrorCode::DescribeFailed, "no"), &[]);
        assert_eq!(other.code(), ErrorCode::DescribeFailed);
    }

    #[test]
    fn files_that_are_no_components_are_told_apart_before_they_are_read() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(
            read_component(&folder.path().join("none"))
                .unwrap_err()
                .code(),
            ErrorCode::NotFound
        );
        assert_eq!(
            read_component(folder.path()).unwrap_err().message(),
            "this is a folder, not a component"
        );
        let large = folder.path().join("large");
        std::fs::File::create(&large)
            .unwrap()
            .set_len(COMPONENT_BYTES_MAX as u64 + 1)
            .unwrap();
        assert_eq!(
            read_component(&large).unwrap_err().code(),
            ErrorCode::ComponentTooLarge
        );
    }
}
