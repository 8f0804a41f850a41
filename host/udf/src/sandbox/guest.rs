//! A live instance: its store, what the host keeps for it, and its exports with the contract's types.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use pelton_model::limits::Limits;
use pelton_model::{Error, ErrorCode, Result};
use wasmtime::component::{
    ComponentExportIndex, ComponentNamedList, Instance, InstancePre, Lift, Lower, TypedFunc,
};
use wasmtime::{Store, StoreContextMut};

use super::limits::{CpuLimit, MemoryLimit, thread_cpu_ns};
use super::trap::{self, Stop};
use crate::admit::interface;
use crate::convert::wire::{
    Batch, Failure, Field, KeyedBatch, KeyedReplyOut, Moment, ReplyOut, Slots, SlotsOut,
    TaskContext, TimerBatch,
};
use crate::graph::wire::JobGraph;
use crate::host::log::{Log, LogSink};
use crate::host::metrics::Metrics;
use crate::host::state::Reads;

/// What the host keeps for one instance.
pub(crate) struct State {
    pub(crate) memory: MemoryLimit,
    pub(crate) cpu: CpuLimit,
    pub(crate) log: Log,
    pub(crate) metrics: Metrics,
    pub(crate) reads: Reads,
}

/// Where the exports are; the same for all instances of a component.
#[derive(Clone, Debug)]
pub(crate) struct ExportPlaces {
    graph: ComponentExportIndex,
    function: ComponentExportIndex,
}

impl ExportPlaces {
    /// Errors: `WrongWorld`, naming the interface that is missing.
    pub(crate) fn find(component: &wasmtime::component::Component) -> Result<Self> {
        let place = |name: &str| {
            let name = interface(name);
            component.get_export_index(None, &name).ok_or_else(|| {
                Error::new(
                    ErrorCode::WrongWorld,
                    format!("the component does not export {name}"),
                )
            })
        };
        Ok(Self {
            graph: place("graph")?,
            function: place("function")?,
        })
    }
}

type Answer<T> = (std::result::Result<T, Failure>,);
type Prepare = (&'static [u32], u32, &'static [Field]);
type Columns = (u32, Moment, Batch<'static>);
type Accumulate = (u32, Moment, Batch<'static>, &'static [u8], Slots<'static>);
type Results = (
    u32,
    Moment,
    Slots<'static>,
    &'static [u8],
    &'static [u8],
    Slots<'static>,
);

/// The exported functions, typed.
pub(crate) struct Exports {
    pub(crate) describe:
        TypedFunc<(&'static [crate::convert::wire::Param<'static>],), Answer<JobGraph>>,
    pub(crate) open: TypedFunc<(TaskContext<'static>,), Answer<u64>>,
    pub(crate) prepare: TypedFunc<Prepare, Answer<u32>>,
    pub(crate) transform: TypedFunc<Columns, Answer<ReplyOut>>,
    pub(crate) process: TypedFunc<(u32, Moment, KeyedBatch<'static>), Answer<KeyedReplyOut>>,
    pub(crate) on_timers: TypedFunc<(u32, Moment, TimerBatch<'static>), Answer<KeyedReplyOut>>,
    pub(crate) accumulate: TypedFunc<Accumulate, Answer<SlotsOut>>,
    pub(crate) merge: TypedFunc<(u32, Slots<'static>, Slots<'static>), Answer<SlotsOut>>,
    pub(crate) results: TypedFunc<Results, Answer<ReplyOut>>,
}

impl Exports {
    fn find(
        instance: Instance,
        mut store: StoreContextMut<'_, State>,
        at: &ExportPlaces,
    ) -> Result<Self> {
        let store = &mut store;
        Ok(Self {
            describe: export(instance, store, &at.graph, "describe")?,
            open: export(instance, store, &at.function, "open")?,
            prepare: export(instance, store, &at.function, "prepare")?,
            transform: export(instance, store, &at.function, "transform")?,
            process: export(instance, store, &at.function, "process")?,
            on_timers: export(instance, store, &at.function, "on-timers")?,
            accumulate: export(instance, store, &at.function, "accumulate")?,
            merge: export(instance, store, &at.function, "merge")?,
            results: export(instance, store, &at.function, "results")?,
        })
    }
}

fn export<P, R>(
    instance: Instance,
    store: &mut StoreContextMut<'_, State>,
    within: &ComponentExportIndex,
    name: &str,
) -> Result<TypedFunc<P, R>>
where
    P: ComponentNamedList + Lower,
    R: ComponentNamedList + Lift,
{
    let wrong = |why: String| {
        Error::new(
            ErrorCode::WrongWorld,
            format!("the component's function '{name}' {why}"),
        )
        .help("build it again with the SDK of this version")
    };
    let (_, place) = instance
        .get_export(&mut *store, Some(within), name)
        .ok_or_else(|| wrong("is missing".into()))?;
    instance
        .get_typed_func(&mut *store, place)
        .map_err(|e| wrong(format!("has another type than the contract's: {e:#}")))
}

/// What an instance runs with.
#[derive(Clone)]
pub(crate) struct GuestSettings {
    pub(crate) limits: Limits,
    /// What the host copies out of one call at most, in bytes of data and of the records around them.
    pub(crate) copied_bytes_max: u64,
    pub(crate) log: Arc<dyn LogSink>,
    pub(crate) cancel: Option<Arc<AtomicBool>>,
}

/// A live instance.
pub(crate) struct Guest {
    pub(crate) store: Store<State>,
    pub(crate) exports: Exports,
}

impl Guest {
    /// A fresh instance. Errors: the first memory is beyond the limit, the start function traps, `WrongWorld`, no
    /// instance is left in the pool.
    pub(crate) fn new(
        ready: &InstancePre<State>,
        places: &ExportPlaces,
        settings: &GuestSettings,
    ) -> Result<Self> {
        let limits = &settings.limits;
        let state = State {
            memory: MemoryLimit {
                bytes_max: usize::try_from(limits.memory_bytes).unwrap_or(usize::MAX),
                bytes: 0,
            },
            cpu: CpuLimit::new(limits.cpu_ms_per_call, settings.cancel.clone()),
            log: Log::new(settings.log.clone(), limits.log_bytes_per_second),
            metrics: Metrics::default(),
            reads: Reads::default(),
        };
        let mut store = Store::new(ready.engine(), state);
        store.limiter(|state| &mut state.memory);
        store.epoch_deadline_callback(|mut store| store.data_mut().cpu.tick(thread_cpu_ns()));
        store.set_epoch_deadline(1);
        store.set_hostcall_fuel(usize::try_from(settings.copied_bytes_max).unwrap_or(usize::MAX));
        let instance = ready
            .instantiate(&mut store)
            .map_err(|e| trap::starting(e, store.data_mut()))?;
        let exports = Exports::find(
            instance,
            wasmtime::AsContextMut::as_context_mut(&mut store),
            places,
        )?;
        Ok(Self { store, exports })
    }

    /// Runs one export. Errors: a stop by a trap or a limit, or the guest's own failure.
    pub(crate) fn call<T>(
        &mut self,
        call: impl FnOnce(&mut Store<State>, &Exports) -> wasmtime::Result<Answer<T>>,
    ) -> std::result::Result<T, Stop> {
        let state = self.store.data_mut();
        state.cpu.begin();
        state.log.panic = None;
        match call(&mut self.store, &self.exports) {
            Ok((Ok(answer),)) => Ok(answer),
            Ok((Err(failure),)) => Err(Stop::Failure(failure)),
            Err(error) => Err(Stop::Trap(trap::of(error, self.store.data_mut()))),
        }
    }
}
