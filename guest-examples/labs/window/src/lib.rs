//! Windows whose every knob is a parameter: assigner, trigger, evictor, lateness and function.

use pelton::prelude::*;
use pelton::windows::{
    DefaultTrigger, GeneralWindowedStream, Trigger, afterwards, continuous, delta, dynamic_session,
    every, global, keep_last, keep_near, keep_time, purging,
};
use pelton::{Windows, session};

mod function;
mod input;
mod knobs;

use input::{Event, EventRef, events};
use knobs::{Evicting, Knobs};

/// Rows of a key in windows that fire when `G` says so.
type Windowed<G> = GeneralWindowedStream<Event, Event, String, G>;

/// Triggers that remember a number.
type Counting = Box<dyn Trigger<Event, State = i64>>;

static LATE: SideTag<Event> = SideTag::new("late");

/// Puts the records of `input` into windows, and writes what the function makes of each firing.
#[pelton::job]
pub fn lab_window(job: &mut Job, params: &Params) -> Result<()> {
    let knobs = Knobs::read(params)?;
    let records = events(job, params.require("input")?).key_by(Event::KEY);
    match knobs.assigner.as_str() {
        "tumbling" => spans(records, tumbling(knobs.size).offset(knobs.offset), &knobs),
        "sliding" => spans(
            records,
            sliding(knobs.size, knobs.slide_ms).offset(knobs.offset),
            &knobs,
        ),
        "session" => spans(records, session(knobs.gap), &knobs),
        "dynamic-session" => by_trigger(
            records.window_by(dynamic_session(|event: EventRef| millis(event.value))),
            &knobs,
        ),
        "global" => by_trigger(records.window_by(global()), &knobs),
        "count-tumbling" => {
            knobs.only_counts()?;
            let fires: Counting = Box::new(purging(every(knobs.count)));
            function::write(records.window_by(global()).trigger(fires), &knobs)
        }
        "count-sliding" => {
            knobs.only_counts()?;
            let fires: Counting = Box::new(every(knobs.slide));
            let windows = records.window_by(global()).trigger(fires);
            function::write(windows.evictor(keep_last(knobs.count as usize)), &knobs)
        }
        other => Err(Error::new(format_args!("there is no assigner '{other}'"))),
    }
}

/// Windows that the host can keep: it does where nothing is asked that only the guest has.
fn spans(
    records: KeyedStream<Event, Event, String>,
    windows: Windows,
    knobs: &Knobs,
) -> Result<()> {
    match knobs.is_plain() {
        true => function::write_native(records.window(windows), knobs),
        false => by_trigger(records.window_by(windows), knobs),
    }
}

/// How far two records are from each other.
fn distance(a: EventRef<'_>, b: EventRef<'_>) -> f64 {
    a.value.abs_diff(b.value) as f64
}

fn by_trigger(windows: Windowed<DefaultTrigger>, knobs: &Knobs) -> Result<()> {
    let (name, argument) = knobs.trigger();
    let counting = |fires: Counting| fires;
    match (name, argument) {
        ("default", None) => by_evictor(windows, knobs),
        ("event-time", None) => by_evictor(windows.trigger(DefaultTrigger::EventTime), knobs),
        ("never", None) => by_evictor(windows.trigger(DefaultTrigger::Never), knobs),
        ("count", Some(n)) => {
            let fires = counting(Box::new(every(n as i64)));
            by_evictor(windows.trigger(fires), knobs)
        }
        ("purging-count", Some(n)) => {
            let fires = counting(Box::new(purging(every(n as i64))));
            by_evictor(windows.trigger(fires), knobs)
        }
        ("continuous", Some(ms)) => {
            let fires = counting(Box::new(continuous(millis(ms as i64))));
            by_evictor(windows.trigger(fires), knobs)
        }
        ("delta", Some(x)) => by_evictor(windows.trigger(delta(x, distance)), knobs),
        _ => Err(Error::new(format_args!(
            "there is no trigger '{}'",
            knobs.trigger
        ))),
    }
}

fn by_evictor<G: Trigger<Event>>(windows: Windowed<G>, knobs: &Knobs) -> Result<()> {
    let windows = match (knobs.evictor()?, knobs.evict_after) {
        (Evicting::None, _) => windows,
        (Evicting::Count(n), false) => windows.evictor(keep_last(n)),
        (Evicting::Count(n), true) => windows.evictor(afterwards(keep_last(n))),
        (Evicting::Time(span), false) => windows.evictor(keep_time(span)),
        (Evicting::Time(span), true) => windows.evictor(afterwards(keep_time(span))),
        (Evicting::Delta(x), false) => windows.evictor(keep_near(x, distance)),
        (Evicting::Delta(x), true) => windows.evictor(afterwards(keep_near(x, distance))),
    };
    function::write(windows.allowed_lateness(knobs.lateness), knobs)
}
