//! Keyed event-time windows: tumbling and sliding ones, and sessions, with allowed lateness. Semantics are Flink's.
//!
//! A window fires when the watermark reaches its greatest time, and is kept for the allowed lateness; a row that comes
//! in that time fires its window again, for its key. A row that is too late for all its windows is counted, and goes
//! to the late output if there is one. So does a row whose windows would not fit an i64. Results have the window's
//! greatest time as event time, and come by window. Rows of the kinds +I and +U are added; one of -U or -D, which takes
//! another back, is an error.

mod accumulator;
pub(super) mod frame;
pub(super) mod function;
mod native;
mod saved;
mod session;
pub(super) mod slices;
mod sliding;
mod user;

use pelton_model::Result;
use pelton_model::graph::WindowSpec;
use pelton_model::schema::Schema;

use crate::operator::Operator;
use crate::operators::process::StatePlace;

pub use session::SessionOperator;
pub use sliding::WindowOperator;

/// The operator of a window. `input` is the pruned schema of the stream, `declared` those of the outputs. The late
/// output's rows are those of the input: its columns are the declared ones that the input has.
/// Errors: a field that is not there, an aggregate that may be missing where its field may not be null.
pub fn operator(
    spec: &WindowSpec,
    name: &str,
    input: &Schema,
    declared: &[Schema],
) -> Result<Box<dyn Operator>> {
    Ok(if spec.assigner.is_session() {
        Box::new(SessionOperator::new(spec, name, input, declared)?)
    } else {
        Box::new(WindowOperator::new(spec, name, input, declared)?)
    })
}

/// The same, for a task of a job.
pub fn operator_of_task(
    spec: &WindowSpec,
    name: &str,
    input: &Schema,
    declared: &[Schema],
    place: &StatePlace<'_>,
) -> Result<Box<dyn Operator>> {
    let groups = place.max_parallelism;
    Ok(if spec.assigner.is_session() {
        let operator = SessionOperator::new(spec, name, input, declared)?;
        Box::new(operator.of_task(groups).with_room(place)?)
    } else {
        let operator = WindowOperator::new(spec, name, input, declared)?;
        Box::new(operator.of_task(place.task, groups).with_room(place)?)
    })
}

/// Rows after which firing hands back to the task, so that what is in flight stays bounded and a stop is noticed.
const ROWS_A_CALL: u64 = 1 << 16;

#[cfg(test)]
mod tests;
