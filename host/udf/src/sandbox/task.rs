//! The instance of one task, as the engine sees it: opened once, prepared, called, and dead after a trap.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use pelton_engine::function::{
    DueTimers, Functions, KeyedReply, KeyedRows, Lent, Moment, Reply, Rows, Segment, SegmentSpec,
    Slots, UserMetric,
};
use pelton_model::limits::Limits;
use pelton_model::schema::Schema;
use pelton_model::{Error, ErrorCode, Result};

use super::call::{Answer, Call, Prepared};
use super::guest::{Guest, GuestSettings};
use super::limits::thread_cpu_ns;
use super::trap::{Stop, Trapped};
use crate::blame::{self, Blame, Trial};
use crate::component::{Component, wire_params};
use crate::convert::reply::{self, Asked};
use crate::convert::wire;
use crate::graph::read::preorder;
use crate::host::log::{LogSink, NoLog};

/// Bytes of records (not of data) that an answer within its limit may have.
const STRUCTURE_BYTES: u64 = 4 << 20;

/// What a task gives its instance.
#[derive(Clone)]
pub struct TaskContext {
    /// Those of `describe`.
    pub params: Vec<(String, String)>,
    /// The job's name.
    pub job: String,
    /// Which of `parallelism` tasks.
    pub task: u32,
    /// How many.
    pub parallelism: u32,
    /// Whether the job runs as a batch.
    pub batch: bool,
    /// What the instance may use.
    pub limits: Limits,
    /// The digest that `describe` gave.
    pub graph_digest: u64,
    /// Where its log lines go.
    pub log: Arc<dyn LogSink>,
    /// Set by whoever wants a running call to end; looked at every few milliseconds.
    pub cancel: Option<Arc<AtomicBool>>,
}

impl fmt::Debug for TaskContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskContext")
            .field("job", &self.job)
            .field("task", &self.task)
            .field("parallelism", &self.parallelism)
            .finish_non_exhaustive()
    }
}

/// One task's instance.
pub(crate) struct Task {
    component: Arc<Component>,
    context: TaskContext,
    guest: Guest,
    segments: Vec<Prepared>,
    /// Who each segment is, for messages and the log.
    names: Vec<Arc<str>>,
    /// What the instance died of.
    dead: Option<(ErrorCode, String)>,
}

/// A checked answer.
enum Checked {
    Reply(Reply),
    Keyed(KeyedReply),
    Slots(Slots),
}

impl Task {
    /// Errors: as [`Component::instance`].
    pub(crate) fn open(component: Arc<Component>, context: TaskContext) -> Result<Self> {
        let guest = open(&component, &context, context.log.clone())?;
        Ok(Self {
            component,
            context,
            guest,
            segments: Vec::new(),
            names: Vec::new(),
            dead: None,
        })
    }

    fn alive(&self) -> Result<()> {
        match &self.dead {
            None => Ok(()),
            Some((code, message)) => Err(Error::new(
                *code,
                format!("the instance is gone, since it {message}"),
            )),
        }
    }

    fn call(&mut self, segment: Segment, call: Call<'_>) -> Result<Checked> {
        self.call_lent(segment, call, &mut None)
    }

    fn call_lent(&mut self, segment: Segment, call: Call<'_>, state: &mut Lent) -> Result<Checked> {
        self.alive()?;
        let place = segment.0 as usize;
        let (Some(prepared), Some(name)) = (self.segments.get(place), self.names.get(place)) else {
            return Err(Error::bug(format!("there is no segment {place}")));
        };
        let log = &mut self.guest.store.data_mut().log;
        if !Arc::ptr_eq(&log.from, name) {
            log.from = name.clone();
        }
        if let Some(at) = call.at() {
            log.fill(at.processing_time.0);
        }
        let limits = &self.context.limits;
        match attempt(&mut self.guest, prepared, &call, call.rows(), limits, state) {
            Ok(checked) => Ok(checked),
            Err(Stop::Host(error)) => Err(error),
            Err(Stop::Failure(failure)) => Err(self.failed(place, &call, &failure, state)),
            Err(Stop::Trap(trapped)) => {
                self.dead = Some((trapped.code, trapped.message.clone()));
                Err(self.blame(place, &call, &trapped, state))
            }
        }
    }

    /// The error of a call that was stopped, with function and row.
    fn blame(&self, place: usize, call: &Call<'_>, trapped: &Trapped, state: &mut Lent) -> Error {
        let Some(prepared) = self.segments.get(place) else {
            return trapped.error("a function");
        };
        let rows = call.rows();
        let mut trials = self.trials(trapped.code, state);
        let found = match trapped.code {
            ErrorCode::Cancelled => Blame::Unknown,
            // To run it again would take as long again, a dozen times.
            ErrorCode::CpuLimit => Blame::Range(0, rows),
            _ => blame::row(rows, |n| trials.run(prepared, call, n)),
        };
        let step = match found {
            // Without its end, a chain answers something else anyway.
            Blame::Row(row) if trapped.code != ErrorCode::BadReply => {
                self.step(&mut trials, prepared, call, row + 1)
            }
            _ => None,
        };
        let (one, many) = call.unit();
        let mut trapped = trapped.clone();
        if let Blame::Row(row) = found {
            // The panic hook of our SDK says it as well.
            let said = format!(", in row {row} of the batch");
            if let Some(shorter) = trapped.message.strip_suffix(&said) {
                trapped.message = shorter.to_string();
            }
        }
        named(prepared, step, |who| {
            let error = trapped.error(who);
            match found {
                Blame::Row(row) => error.at(one, format!("{row} of the batch")),
                Blame::Range(from, to) if to > from => {
                    error.at(many, format!("{from} to {}", to - 1))
                }
                Blame::Range(..) | Blame::Unknown => error,
            }
        })
    }

    /// The error of a function that gave up in its own words.
    fn failed(
        &self,
        place: usize,
        call: &Call<'_>,
        failure: &wire::Failure,
        state: &mut Lent,
    ) -> Error {
        let Some(prepared) = self.segments.get(place) else {
            return user_error("a function", failure);
        };
        let step = failure.row.and_then(|row| {
            let mut trials = self.trials(ErrorCode::UserError, state);
            self.step(&mut trials, prepared, call, row as usize + 1)
        });
        named(prepared, step, |who| user_error(who, failure))
    }

    /// Which function of a chain does not get through the first `take` rows.
    fn step(
        &self,
        trials: &mut Trials<'_>,
        prepared: &Prepared,
        call: &Call<'_>,
        take: usize,
    ) -> Option<usize> {
        let take = take.min(call.rows());
        let steps = prepared.spec.names.len();
        blame::step(steps, |n| trials.run(&beginning(prepared, n), call, take))
    }

    fn trials<'a>(&'a self, code: ErrorCode, state: &'a mut Lent) -> Trials<'a> {
        Trials {
            task: self,
            state,
            code,
            began: thread_cpu_ns(),
        }
    }
}

impl Functions for Task {
    fn prepare(&mut self, spec: &SegmentSpec) -> Result<Segment> {
        self.alive()?;
        let name: Arc<str> = Arc::from(spec.names.join(" -> "));
        self.guest.store.data_mut().log.from = name.clone();
        let number = match prepare(&mut self.guest, spec) {
            Ok(number) => number,
            Err(Stop::Host(error)) => return Err(error),
            Err(Stop::Failure(failure)) => {
                return Err(user_error(&format!("function '{name}'"), &failure));
            }
            Err(Stop::Trap(trapped)) => {
                self.dead = Some((trapped.code, trapped.message.clone()));
                return Err(trapped.error(&format!("function '{name}'")));
            }
        };
        let place = u32::try_from(self.segments.len())
            .map_err(|_| Error::bug("a task has over 2^32 segments"))?;
        self.segments.push(Prepared {
            number,
            key: Schema::new(spec.key.clone()),
            spec: spec.clone(),
        });
        self.names.push(name);
        Ok(Segment(place))
    }

    fn transform(&mut self, segment: Segment, at: Moment, rows: Rows<'_>) -> Result<Reply> {
        reply_of(self.call(segment, Call::Transform { at, rows })?)
    }

    fn process(
        &mut self,
        segment: Segment,
        at: Moment,
        rows: &KeyedRows<'_>,
        state: &mut Lent,
    ) -> Result<KeyedReply> {
        keyed_of(self.call_lent(segment, Call::Process { at, rows }, state)?)
    }

    fn on_timers(
        &mut self,
        segment: Segment,
        at: Moment,
        timers: &DueTimers<'_>,
        state: &mut Lent,
    ) -> Result<KeyedReply> {
        keyed_of(self.call_lent(segment, Call::Timers { at, timers }, state)?)
    }

    fn accumulate(
        &mut self,
        segment: Segment,
        at: Moment,
        rows: Rows<'_>,
        ordinals: &[u32],
        accumulators: &Slots,
    ) -> Result<Slots> {
        let call = Call::Accumulate {
            at,
            rows,
            ordinals,
            accumulators,
        };
        slots_of(self.call(segment, call)?)
    }

    fn merge(&mut self, segment: Segment, into: &Slots, other: &Slots) -> Result<Slots> {
        slots_of(self.call(segment, Call::Merge { into, other })?)
    }

    fn results(
        &mut self,
        segment: Segment,
        at: Moment,
        keys: &Slots,
        starts: &[i64],
        ends: &[i64],
        accumulators: &Slots,
    ) -> Result<Reply> {
        let call = Call::Results {
            at,
            keys,
            starts,
            ends,
            accumulators,
        };
        reply_of(self.call(segment, call)?)
    }

    fn metrics(&self) -> Vec<UserMetric> {
        self.guest.store.data().metrics.all().to_vec()
    }
}

fn crossed() -> Error {
    Error::bug("a call has the answer of another")
}

fn reply_of(checked: Checked) -> Result<Reply> {
    match checked {
        Checked::Reply(reply) => Ok(reply),
        Checked::Keyed(_) | Checked::Slots(_) => Err(crossed()),
    }
}

fn keyed_of(checked: Checked) -> Result<KeyedReply> {
    match checked {
        Checked::Keyed(reply) => Ok(reply),
        Checked::Reply(_) | Checked::Slots(_) => Err(crossed()),
    }
}

fn slots_of(checked: Checked) -> Result<Slots> {
    match checked {
        Checked::Slots(slots) => Ok(slots),
        Checked::Reply(_) | Checked::Keyed(_) => Err(crossed()),
    }
}

fn user_error(who: &str, failure: &wire::Failure) -> Error {
    let error = Error::new(
        ErrorCode::UserError,
        format!("{who} failed: {}", failure.message),
    );
    match failure.row {
        Some(row) => error.at("row", format!("{row} of the batch")),
        None => error,
    }
}

/// An error about one function of a segment, or about all.
fn named(prepared: &Prepared, step: Option<usize>, error: impl Fn(&str) -> Error) -> Error {
    let names = &prepared.spec.names;
    let step = step.or((names.len() == 1).then_some(0));
    match step.and_then(|s| names.get(s)) {
        Some(name) => error(&format!("function '{name}'")).at("operator", format!("'{name}'")),
        None => error(&format!("function '{}'", names.join(" -> "))),
    }
}

/// A fresh instance whose functions are open.
fn open(component: &Component, context: &TaskContext, log: Arc<dyn LogSink>) -> Result<Guest> {
    let settings = GuestSettings {
        limits: context.limits.clone(),
        copied_bytes_max: context
            .limits
            .output_bytes_max
            .saturating_add(STRUCTURE_BYTES),
        log,
        cancel: context.cancel.clone(),
    };
    let mut guest = Guest::new(&component.ready, &component.places, &settings)?;
    let params = wire_params(&context.params);
    let task = wire::TaskContext {
        params: &params,
        job: &context.job,
        task: context.task,
        parallelism: context.parallelism,
        output_budget: context.limits.output_bytes_per_call,
        batch: context.batch,
    };
    const WHO: &str = "the job, while its functions were opened,";
    let digest = guest
        .call(|store, e| e.open.call(store, (task,)))
        .map_err(|stop| match stop {
            Stop::Host(error) => error,
            Stop::Failure(failure) => Error::new(
                ErrorCode::UserError,
                format!("{WHO} failed: {}", failure.message),
            ),
            Stop::Trap(trapped) => trapped.error(WHO),
        })?;
    if digest != context.graph_digest {
        return Err(Error::new(
            ErrorCode::GraphDiffers,
            "the job function built another graph for this instance than for the job",
        )
        .help("build the graph from the parameters alone"));
    }
    Ok(guest)
}

fn prepare(guest: &mut Guest, spec: &SegmentSpec) -> Result<u32, Stop> {
    let functions: Vec<u32> = spec.functions.iter().map(|f| f.0).collect();
    let input = preorder(&spec.input);
    guest.call(|store, e| e.prepare.call(store, (&functions, spec.number, &input)))
}

/// One call and the check of its answer. An answer that breaks the contract is treated as a trap: the instance is in
/// no state that anybody knows.
fn attempt(
    guest: &mut Guest,
    prepared: &Prepared,
    call: &Call<'_>,
    take: usize,
    limits: &Limits,
    state: &mut Lent,
) -> Result<Checked, Stop> {
    let reads = &mut guest.store.data_mut().reads;
    reads.lend(state.take(), &prepared.spec.states);
    let answer = call.send(guest, prepared, take);
    let reads = &mut guest.store.data_mut().reads;
    *state = reads.give_back();
    if let Some(error) = reads.take_failure() {
        return Err(Stop::Host(error));
    }
    let answer = answer?;
    let keys = match call {
        Call::Process { rows, .. } => rows.keys.rows,
        Call::Timers { timers, .. } => timers.keys.rows,
        Call::Accumulate { accumulators, .. } => accumulators.rows,
        Call::Transform { .. } | Call::Merge { .. } | Call::Results { .. } => take,
    };
    let asked = Asked {
        spec: &prepared.spec,
        rows: take,
        keys,
        bytes_max: limits.output_bytes_max,
    };
    let checked = match answer {
        Answer::Reply(answer) => reply::reply(asked, answer).map(Checked::Reply),
        Answer::Keyed(answer) => reply::keyed_reply(asked, answer).map(Checked::Keyed),
        Answer::Slots(answer) => reply::accumulators(asked, answer).map(Checked::Slots),
    };
    checked.map_err(|refused| match refused.code() {
        ErrorCode::BadReply | ErrorCode::OutputLimit => Stop::Trap(refused.into()),
        _ => Stop::Host(refused),
    })
}

/// The first `steps` functions of a segment, as a segment. What it returns is of no interest.
fn beginning(prepared: &Prepared, steps: usize) -> Prepared {
    let mut shorter = prepared.clone();
    shorter.spec.functions.truncate(steps);
    shorter.spec.names.truncate(steps);
    shorter
}

/// Calls that are made again on fresh instances, silently, until as much CPU time is used as one call may use.
struct Trials<'a> {
    task: &'a Task,
    state: &'a mut Lent,
    /// What is to come again.
    code: ErrorCode,
    began: u64,
}

impl Trials<'_> {
    fn run(&mut self, prepared: &Prepared, call: &Call<'_>, take: usize) -> Trial {
        let context = &self.task.context;
        let budget = context.limits.cpu_ms_per_call.saturating_mul(1_000_000);
        if thread_cpu_ns().saturating_sub(self.began) > budget {
            return Trial::Spent;
        }
        let Ok(mut guest) = open(&self.task.component, context, Arc::new(NoLog)) else {
            return Trial::Spent;
        };
        let Ok(number) = prepare(&mut guest, &prepared.spec) else {
            return Trial::Spent;
        };
        let prepared = Prepared {
            number,
            ..prepared.clone()
        };
        let limits = &context.limits;
        match attempt(&mut guest, &prepared, call, take, limits, self.state) {
            Err(Stop::Trap(again)) if again.code == self.code => Trial::Trapped,
            Err(Stop::Failure(_)) if self.code == ErrorCode::UserError => Trial::Trapped,
            Err(Stop::Host(_)) => Trial::Spent,
            Ok(_) | Err(Stop::Trap(_) | Stop::Failure(_)) => Trial::Fine,
        }
    }
}
