//! State: what the host keeps for each key, and for each task.
//!
//! A handle reads and writes what is under the key at hand, or the task's own. It is only good within a call of its
//! function. Values of a fixed width come with the batch; everything else is read when it is first asked for, many keys
//! at a time. What a call changes stays in guest memory until it returns, and reads see it; then the host takes all of it, or
//! after a trap nothing.
//!
//! Needs: the host's `state` interface, [`crate::host`]. Refuses: use outside of a call, or of keyed state without a key, by a
//! panic that names the state.
//!
//! A new version of a job takes over what the one before has left. It is compared before anything is begun: fields that are
//! new and may be null, wider numbers, another order are taken over as they are; `#[record(default)]` and
//! `#[record(renamed_from = "..")]` say more about fields; [`ValueState::migrate_from`] takes values of another type.
//! Whatever else is different is refused, with the operator, the state and the field.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use crate::bindings::exports::pelton::job::function::StateChange;
use crate::bindings::exports::pelton::job::graph::{State, StateKind, Ttl as WitTtl};
use crate::bindings::pelton::job::state::StateError;
use crate::bindings::pelton::job::types::Slots;
use crate::error::Result;
use crate::metrics::{self, Counter, Declared, Gauge};
use crate::time::Duration;
use crate::value::{Past, Schema, Value};

mod ahead;
mod broadcast;
mod fetched;
mod fold;
mod index;
mod list;
mod list_map;
mod lists;
mod map;
mod map_cells;
mod maps;
mod migrate;
mod operator;
mod value;

pub use broadcast::{BroadcastCtx, BroadcastState};
pub use fold::{AggregatingState, ReducingState};
pub use list::ListState;
pub use list_map::ListMapState;
pub use lists::ListItems;
pub use map::MapState;
pub use operator::OperatorListState;
pub use value::ValueState;

use fold::Fold;
use lists::ListCells;
use map_cells::MapCells;
use value::ValueCells;

/// The states of a function, declared when it is made.
///
/// A state's name is what it is found by in later versions. `T` is a record, or a plain value.
#[derive(Default)]
pub struct States {
    all: Rc<All>,
    metrics: Vec<Declared>,
}

/// The states of a function, in the order of declaration.
#[derive(Default)]
struct All {
    specs: RefCell<Vec<Rc<Spec>>>,
    cells: RefCell<Vec<Rc<dyn Cells>>>,
    call: Rc<Call>,
}

impl States {
    /// Declares a value for each key, shipped with the batch.
    pub fn value<T: Value>(&mut self, name: &str) -> ValueState<T> {
        ValueState(self.value_cells(name, StateKind::Value, false))
    }

    /// Declares a value for each key that is fetched when it is first asked for: for large values, or such as few rows need.
    pub fn lazy_value<T: Value>(&mut self, name: &str) -> ValueState<T> {
        ValueState(self.value_cells(name, StateKind::Value, true))
    }

    /// Declares a list for each key.
    pub fn list<T: Value>(&mut self, name: &str) -> ListState<T> {
        let spec = self.all.declare::<T>(name, StateKind::Sequence, None, true);
        ListState(self.all.add(|call| ListCells::new(spec, call)))
    }

    /// Declares a map for each key.
    pub fn map<K: Value, V: Value>(&mut self, name: &str) -> MapState<K, V> {
        MapState(self.map_cells(name, StateKind::Map))
    }

    /// Declares a map of lists for each key.
    pub fn list_map<K: Value, T: Value>(&mut self, name: &str) -> ListMapState<K, T> {
        let keys = Some(map_key::<K>());
        let spec = self.all.declare::<T>(name, StateKind::Sequence, keys, true);
        ListMapState(self.all.add(|call| list_map::ListMapCells::new(spec, call)))
    }

    /// Declares a value for each key into which others are reduced by `f`.
    pub fn reducing<T: Value>(
        &mut self,
        name: &str,
        f: impl Fn(T, T) -> T + 'static,
    ) -> ReducingState<T> {
        ReducingState::new(self.value_cells(name, StateKind::Reducing, false), f)
    }

    /// Declares an accumulator for each key: `create` makes an empty one, `add` takes a value into it, `result` says what it
    /// comes to.
    pub fn aggregating<In: 'static, Acc: Value, Out: 'static>(
        &mut self,
        name: &str,
        create: impl Fn() -> Acc + 'static,
        add: impl Fn(&mut Acc, In) + 'static,
        result: impl Fn(&Acc) -> Out + 'static,
    ) -> AggregatingState<In, Acc, Out> {
        let cells = self.value_cells(name, StateKind::Aggregating, false);
        AggregatingState::new(
            cells,
            Fold {
                create,
                add,
                result,
            },
        )
    }

    /// Declares a map that every task has whole: written by what comes on a broadcast input, the same in every task.
    pub fn broadcast<K: Value, V: Value>(&mut self, name: &str) -> BroadcastState<K, V> {
        BroadcastState(self.map_cells(name, StateKind::Broadcast))
    }

    /// Declares a list of the task, not of a key; when the parallelism changes, its values are dealt out evenly.
    pub fn operator_list<T: Value>(&mut self, name: &str) -> OperatorListState<T> {
        self.operator(name, StateKind::OperatorList)
    }

    /// Declares a list of the task, not of a key; when the parallelism changes, every task gets the values of all.
    pub fn union_list<T: Value>(&mut self, name: &str) -> OperatorListState<T> {
        self.operator(name, StateKind::UnionList)
    }

    /// A counter of this operator.
    pub fn counter(&mut self, name: &str) -> Counter {
        let (counter, declared) = metrics::counter(name);
        self.metrics.push(declared);
        counter
    }

    /// A gauge of this operator.
    pub fn gauge(&mut self, name: &str) -> Gauge {
        let (gauge, declared) = metrics::gauge(name);
        self.metrics.push(declared);
        gauge
    }

    fn operator<T: Value>(&mut self, name: &str, kind: StateKind) -> OperatorListState<T> {
        let spec = self.all.declare::<T>(name, kind, None, true);
        OperatorListState(self.all.add(|call| ListCells::new(spec, call)))
    }

    fn value_cells<T: Value>(
        &mut self,
        name: &str,
        kind: StateKind,
        lazy: bool,
    ) -> Rc<ValueCells<T>> {
        self.all.value_cells(name, kind, lazy)
    }

    fn map_cells<K: Value, V: Value>(&mut self, name: &str, kind: StateKind) -> Rc<MapCells<K, V>> {
        let keys = Some(map_key::<K>());
        let spec = self.all.declare::<V>(name, kind, keys, true);
        self.all.add(|call| MapCells::new(spec, call))
    }

    pub(crate) fn specs(&self) -> Vec<State> {
        let specs = self.all.specs.borrow();
        let mut states: Vec<State> = specs.iter().map(|s| s.state.borrow().clone()).collect();
        for at in 0..states.len() {
            // Former values are gone when those that they become are.
            let of = states.get(at).and_then(|s| s.restores.clone());
            let ttl = of.and_then(|of| Some(states.iter().find(|s| s.name == of)?.ttl));
            if let (Some(ttl), Some(state)) = (ttl, states.get_mut(at)) {
                state.ttl = ttl;
            }
        }
        states
    }

    pub(crate) fn register_metrics(&mut self) {
        self.metrics.drain(..).for_each(Declared::register);
    }

    /// A call begins, of so many keys; takes the values that are shipped with it. Errors: another number of states than
    /// those that are, or columns that don't fit.
    pub(crate) fn load(&self, keys: usize, on_timers: bool, states: Vec<Slots>) -> Result<()> {
        let call = &self.all.call;
        call.key.set(0);
        call.keys.set(keys);
        call.bytes.set(0);
        call.on_timers.set(on_timers);
        let mut states = states.into_iter();
        for cells in self.all.cells.borrow().iter() {
            if !cells.is_shipped() {
                cells.begin();
                continue;
            }
            match states.next() {
                Some(slots) => cells.load(slots)?,
                None => return Err(another_number()),
            }
        }
        if states.next().is_some() {
            return Err(another_number());
        }
        Ok(())
    }

    #[inline(always)]
    pub(crate) fn at(&self, key: usize) {
        self.all.call.key.set(key);
    }

    /// About how many bytes the call's changes take, beyond those of values that were shipped.
    #[inline(always)]
    pub(crate) fn bytes(&self) -> usize {
        self.all.call.bytes.get()
    }

    /// What the call has changed.
    pub(crate) fn changes(&self) -> Vec<StateChange> {
        let cells = self.all.cells.borrow();
        cells.iter().filter_map(|cells| cells.changes()).collect()
    }
}

impl All {
    fn value_cells<T: Value>(
        self: &Rc<Self>,
        name: &str,
        kind: StateKind,
        lazy: bool,
    ) -> Rc<ValueCells<T>> {
        let spec = self.declare::<T>(name, kind, None, lazy);
        self.add(|call| ValueCells::new(spec, call))
    }

    fn declare<T: Value>(
        self: &Rc<Self>,
        name: &str,
        kind: StateKind,
        map_key: Option<Schema>,
        lazy: bool,
    ) -> Rc<Spec> {
        let mut past: Vec<Past> = Vec::new();
        T::row_past(0, &mut past);
        let mut specs = self.specs.borrow_mut();
        let spec = Rc::new(Spec {
            number: specs.len() as u32,
            is_operator: matches!(
                kind,
                StateKind::Broadcast | StateKind::OperatorList | StateKind::UnionList
            ),
            state: RefCell::new(State {
                name: name.into(),
                kind,
                map_key,
                schema: T::row_schema(),
                lazy,
                ttl: None,
                past,
                restores: None,
            }),
            among: Rc::downgrade(self),
        });
        specs.push(Rc::clone(&spec));
        spec
    }

    fn add<C: Cells + 'static>(&self, make: impl FnOnce(Rc<Call>) -> C) -> Rc<C> {
        let cells = Rc::new(make(Rc::clone(&self.call)));
        self.cells
            .borrow_mut()
            .push(Rc::clone(&cells) as Rc<dyn Cells>);
        cells
    }
}

fn map_key<K: Value>() -> Schema {
    const {
        assert!(
            !K::HAS_DEFAULT,
            "map keys cannot change: no field of them has a default"
        );
    }
    K::row_schema()
}

fn another_number() -> crate::Error {
    crate::Error::new("the host has shipped another number of states than was declared")
}

/// When a state's values are gone by themselves: `states.value("last").with_ttl(Ttl::of(hours(1)).on_read())`.
///
/// By default the time counts from the last write, by the host's clock, and what has expired is never seen again.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Ttl(WitTtl);

impl Ttl {
    /// So long after it was last written.
    #[must_use]
    pub fn of(after: Duration) -> Self {
        Self(WitTtl {
            ms: after.millis().max(0) as u64,
            on_read: false,
            return_expired: false,
            event_time: false,
        })
    }

    /// Reading it counts as writing it.
    #[must_use]
    pub fn on_read(mut self) -> Self {
        self.0.on_read = true;
        self
    }

    /// It is still returned as long as it has not been cleaned up.
    #[must_use]
    pub fn return_expired(mut self) -> Self {
        self.0.return_expired = true;
        self
    }

    /// By the watermark, instead of the host's clock.
    #[must_use]
    pub fn event_time(mut self) -> Self {
        self.0.event_time = true;
        self
    }
}

/// The call at hand.
#[derive(Default)]
struct Call {
    /// Which of its keys.
    key: Cell<usize>,
    /// Of how many; none for what comes on a broadcast input.
    keys: Cell<usize>,
    /// About how many bytes the changes so far take.
    bytes: Cell<usize>,
    on_timers: Cell<bool>,
}

/// A state as declared.
struct Spec {
    /// Its place among the function's.
    number: u32,
    /// Of the task, not of a key.
    is_operator: bool,
    state: RefCell<State>,
    among: Weak<All>,
}

impl Spec {
    fn set_ttl(&self, ttl: Ttl) {
        self.state.borrow_mut().ttl = Some(ttl.0);
    }

    /// How many keys the call at hand has, as far as this state goes.
    fn keys(&self, call: &Call) -> usize {
        if self.is_operator { 1 } else { call.keys.get() }
    }

    /// Which of them is at hand.
    #[inline]
    fn key(&self, call: &Call) -> usize {
        if self.is_operator {
            return 0;
        }
        let key = call.key.get();
        if key >= call.keys.get() {
            self.refuse("is of a key, and no key is at hand");
        }
        key
    }

    /// What the host has answered.
    fn answer<T>(&self, answer: std::result::Result<T, StateError>) -> T {
        match answer {
            Ok(value) => value,
            Err(StateError::NoKey) => self.refuse("is used outside of a call"),
            Err(StateError::Unknown(why) | StateError::Invalid(why)) => self.refuse(&why),
        }
    }

    /// What the host has shipped.
    fn shipped<T>(&self, resolved: Result<T>) -> T {
        match resolved {
            Ok(value) => value,
            Err(e) => self.refuse(&format!("does not fit: {e}")),
        }
    }

    #[cold]
    fn refuse(&self, why: &str) -> ! {
        panic!("state '{}' {why}", self.state.borrow().name)
    }
}

/// About how many bytes a value takes in a reply.
#[inline]
fn bytes_of<T: Value>(value: T::Ref<'_>, scratch: &mut Vec<u8>) -> usize {
    if !std::mem::needs_drop::<T>() {
        return size_of::<T>();
    }
    scratch.clear();
    T::encode(value, scratch);
    scratch.len()
}

/// The call's part of a state.
trait Cells {
    /// Whether its values come with the batch.
    fn is_shipped(&self) -> bool {
        false
    }
    /// Takes the values of the call's keys.
    fn load(&self, slots: Slots) -> Result<()> {
        let _ = slots;
        Ok(())
    }
    /// Forgets the call before.
    fn begin(&self);
    /// What was changed, and forgets it.
    fn changes(&self) -> Option<StateChange>;
}
