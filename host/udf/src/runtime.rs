//! The engine that compiles and runs components: its configuration, its pool of instances, its epochs.
//! Needs: wasmtime. One runtime serves all jobs of a process.
//!
//! The choices, and why:
//! - Each memory lies in 4 GiB of reserved addresses with guards behind them, so that compiled code checks no bounds.
//!   Instances come from a pool of such reservations; where the system refuses so many addresses, each instance
//!   reserves its own.
//! - SIMD is on. Relaxed SIMD is off, since its results differ between processors. Threads, garbage collection and
//!   asynchronous calls are not even compiled in: they widen the sandbox, and the last slows every call.
//! - NaNs are not made canonical: it costs an operation after each of floating point, and keys make theirs canonical
//!   anyway. The same processor gives the same bits.
//! - Epochs bound CPU time; fuel costs about as much in loops and counts instructions, which users cannot reason about.
//! - Functions' names and source lines are kept for backtraces.
//!
//! Inside: cache (compiled components on disk), ticker (the epoch).

mod cache;
mod ticker;

use std::path::PathBuf;
use std::sync::Arc;

use pelton_model::{Error, ErrorCode, Result};
use wasmtime::component::Linker;
use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig,
    WasmBacktraceDetails,
};

use crate::admit::{inspect, validate};
use crate::component::Component;
use crate::sandbox::guest::State;
use crate::sandbox::limits::TABLE_ELEMENTS_MAX;
use cache::Cache;
pub(crate) use ticker::Ticker;

/// Stack for a guest's frames, on the thread that calls.
pub const GUEST_STACK_BYTES: usize = 1 << 20;
/// Addresses that a memory reserves: all that 32 bits can reach.
const MEMORY_RESERVATION: u64 = 4 << 30;
/// Behind that: the largest constant offset that an access without a check may add.
const MEMORY_GUARD: u64 = 32 << 20;

/// What a runtime is made of.
#[derive(Clone, Debug)]
pub struct RuntimeSettings {
    /// Where compiled components are kept; none: they are compiled each time.
    pub cache_dir: Option<PathBuf>,
    /// Instances that can live at once: one a task, and a few while an error is looked into.
    pub instances_max: u32,
    /// The largest linear memory that any job's limits can allow.
    pub memory_bytes_max: u64,
}

impl Default for RuntimeSettings {
    fn default() -> Self {
        Self {
            cache_dir: None,
            instances_max: 512,
            memory_bytes_max: MEMORY_RESERVATION,
        }
    }
}

/// Compiles components and holds what their instances share.
pub struct Runtime {
    engine: Engine,
    linker: Linker<State>,
    cache: Option<Cache>,
    /// Ends with the runtime and all components that came from it.
    ticker: Arc<Ticker>,
}

impl Runtime {
    /// An engine with its pool and its ticker. A cache folder that cannot be used is passed over.
    /// Errors: `Environment` kinds, where the system grants no addresses at all or no thread.
    pub fn new(settings: RuntimeSettings) -> Result<Self> {
        let mut config = config();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(&settings)));
        let engine = Engine::new(&config)
            .or_else(|_| {
                // Under a limit on addresses (`ulimit -v`) a pool is too much, but single reservations may do.
                config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
                Engine::new(&config)
            })
            .map_err(|e| {
                Error::new(
                    ErrorCode::Io,
                    format!("the WebAssembly engine cannot start: {e:#}"),
                )
            })?;
        let mut linker = Linker::new(&engine);
        crate::host::link(&mut linker).map_err(|e| Error::bug(format!("linking: {e:#}")))?;
        let cache = settings.cache_dir.and_then(|dir| Cache::open(dir, &engine));
        let ticker = Ticker::start(engine.clone())
            .map_err(|e| Error::new(ErrorCode::Io, format!("a thread cannot be started: {e}")))?;
        Ok(Self {
            engine,
            linker,
            cache,
            ticker: Arc::new(ticker),
        })
    }

    /// A component from its bytes: checked, then taken from the cache or compiled.
    /// Errors: those of [`admit`](crate::admit); `CompileFailed`; `WrongWorld` where a function's type is not the contract's.
    pub fn load(&self, bytes: &[u8]) -> Result<Arc<Component>> {
        let imports = inspect(bytes)?;
        let digest = blake3::hash(bytes);
        let cached = self
            .cache
            .as_ref()
            .and_then(|c| c.load(&digest, &self.engine));
        let compiled = match cached {
            Some(compiled) => compiled,
            None => {
                // What is in the cache was valid when it was put there.
                validate(bytes)?;
                let compiled = wasmtime::component::Component::from_binary(&self.engine, bytes)
                    .map_err(|e| {
                        Error::new(
                            ErrorCode::CompileFailed,
                            format!("the component does not compile: {e:#}"),
                        )
                    })?;
                if let Some(cache) = &self.cache {
                    cache.store(&digest, &compiled);
                }
                compiled
            }
        };
        let ready = self.linker.instantiate_pre(&compiled).map_err(|e| {
            Error::new(
                ErrorCode::WrongWorld,
                format!("the component uses the contract wrongly: {e:#}"),
            )
            .help("build it again with the SDK of this version")
        })?;
        Component::new(*digest.as_bytes(), imports, ready, self.ticker.clone()).map(Arc::new)
    }
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").finish_non_exhaustive()
    }
}

fn config() -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .cranelift_opt_level(OptLevel::Speed)
        .memory_reservation(MEMORY_RESERVATION)
        .memory_guard_size(MEMORY_GUARD)
        .memory_init_cow(true)
        .max_wasm_stack(GUEST_STACK_BYTES)
        .wasm_backtrace_details(WasmBacktraceDetails::Enable)
        .wasm_simd(true)
        .wasm_relaxed_simd(false)
        .wasm_memory64(false)
        .concurrency_support(false);
    config
}

fn pool(settings: &RuntimeSettings) -> PoolingAllocationConfig {
    // A Rust component has three core instances and two tables; interpreters linked from shared libraries have dozens.
    const CORE_INSTANCES: u32 = 64;
    const TABLES: u32 = 16;
    const MEMORIES: u32 = 4;
    let instances = settings.instances_max.max(1);
    let memory = settings.memory_bytes_max.min(MEMORY_RESERVATION);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(8))
        .total_memories(instances)
        .total_tables(instances.saturating_mul(4))
        .max_core_instances_per_component(CORE_INSTANCES)
        .max_memories_per_component(MEMORIES)
        .max_tables_per_component(TABLES)
        .max_memories_per_module(MEMORIES)
        .max_tables_per_module(TABLES)
        .max_component_instance_size(1 << 20)
        .max_core_instance_size(1 << 20)
        .table_elements(TABLE_ELEMENTS_MAX)
        .max_memory_size(usize::try_from(memory).unwrap_or(usize::MAX));
    pool
}
