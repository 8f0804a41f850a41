//! Threads that step tasks. A task is in one of five states, so that it is stepped by one thread at a time and no
//! wake-up is lost: a wake-up during a step makes the task runnable again after it.

use std::collections::{BinaryHeap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use pelton_engine::shuffle::Waker;
use pelton_engine::task::{Step, Task};
use pelton_model::protocol::TaskCommand;
use pelton_model::time::{Clock, Monotonic};
use pelton_model::{Error, ErrorCode, Result};

const IDLE: u8 = 0;
const QUEUED: u8 = 1;
const RUNNING: u8 = 2;
const NOTIFIED: u8 = 3;
const DONE: u8 = 4;

/// Steps in a row before another runnable task gets its turn.
const STEPS_A_TURN: usize = 4;
/// A thread's stack: guests may use 1 MiB of it, and the host's own calls the rest.
const STACK_BYTES: usize = 8 << 20;
/// How long a thread sleeps at most, so that a change of the wall clock is noticed.
const NAP_MS: u64 = 100;

struct Slot {
    state: AtomicU8,
    task: Mutex<Option<Task>>,
    /// What it was told, and has not carried out.
    commands: Mutex<VecDeque<TaskCommand>>,
}

#[derive(Default)]
struct Queue {
    ready: VecDeque<usize>,
    /// (time in reverse, task): the earliest first.
    timers: BinaryHeap<(std::cmp::Reverse<u64>, usize)>,
    left: usize,
    error: Option<Error>,
}

pub(super) struct Pool {
    slots: Vec<Slot>,
    queue: Mutex<Queue>,
    changed: Condvar,
    ended: Condvar,
    cancelled: AtomicBool,
    clock: Arc<dyn Clock>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Panics of tasks are caught before they reach a lock of ours.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    pub(super) fn new(tasks: usize, clock: Arc<dyn Clock>) -> Arc<Self> {
        let slots = (0..tasks)
            .map(|_| Slot {
                state: AtomicU8::new(QUEUED),
                task: Mutex::new(None),
                commands: Mutex::default(),
            })
            .collect();
        let queue = Queue {
            ready: (0..tasks).collect(),
            left: tasks,
            ..Queue::default()
        };
        Arc::new(Self {
            slots,
            queue: Mutex::new(queue),
            changed: Condvar::new(),
            ended: Condvar::new(),
            cancelled: AtomicBool::new(false),
            clock,
        })
    }

    pub(super) fn now(&self) -> Monotonic {
        self.clock.monotonic()
    }

    pub(super) fn put(&self, index: usize, task: Task) {
        if let Some(slot) = self.slots.get(index) {
            *lock(&slot.task) = Some(task);
        }
    }

    /// Makes a task runnable; held weakly, since channels live in tasks and tasks in the pool.
    pub(super) fn waker(self: &Arc<Self>, index: usize) -> Waker {
        let pool = Arc::downgrade(self);
        Arc::new(move || {
            if let Some(pool) = pool.upgrade() {
                pool.wake(index);
            }
        })
    }

    fn wake(&self, index: usize) {
        let Some(slot) = self.slots.get(index) else {
            return;
        };
        let next = |s| match s {
            IDLE => Some(QUEUED),
            RUNNING => Some(NOTIFIED),
            _ => None,
        };
        if slot
            .state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, next)
            == Ok(IDLE)
        {
            lock(&self.queue).ready.push_back(index);
            self.changed.notify_one();
        }
    }

    /// Tells a task something, in order. One that has ended does not hear it.
    pub(super) fn tell(&self, index: usize, command: TaskCommand) {
        let slot = self.slots.get(index);
        if let Some(slot) = slot.filter(|s| s.state.load(Ordering::Acquire) != DONE) {
            lock(&slot.commands).push_back(command);
            self.wake(index);
        }
    }

    /// Ends all tasks with an error.
    pub(super) fn fail(&self, error: Error) {
        let mut queue = lock(&self.queue);
        queue.error.get_or_insert(error);
        self.changed.notify_all();
        self.ended.notify_all();
    }

    /// Whether all tasks have ended by themselves.
    pub(super) fn all_done(&self) -> bool {
        let queue = lock(&self.queue);
        queue.left == 0 && queue.error.is_none()
    }

    pub(super) fn spawn(self: &Arc<Self>, number: usize) -> Result<JoinHandle<()>> {
        let pool = Arc::clone(self);
        std::thread::Builder::new()
            .name(format!("task-{number}"))
            .stack_size(STACK_BYTES)
            .spawn(move || while pool.turn() {})
            .map_err(|e| Error::new(ErrorCode::Io, format!("a thread cannot be started: {e}")))
    }

    pub(super) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
        let _queue = lock(&self.queue);
        self.changed.notify_all();
        self.ended.notify_all();
    }

    pub(super) fn wait(&self, timeout: Duration) -> bool {
        let queue = lock(&self.queue);
        let over =
            |q: &Queue| q.left == 0 || q.error.is_some() || self.cancelled.load(Ordering::Acquire);
        if over(&queue) {
            return true;
        }
        let (queue, _) = self
            .ended
            .wait_timeout(queue, timeout)
            .unwrap_or_else(PoisonError::into_inner);
        over(&queue)
    }

    /// Whether it was cancelled. Errors: the first that ended a task. Drops all tasks.
    pub(super) fn outcome(&self) -> Result<bool> {
        for slot in &self.slots {
            drop(lock(&slot.task).take());
        }
        match lock(&self.queue).error.take() {
            Some(e) => Err(e),
            None => Ok(self.cancelled.load(Ordering::Acquire)),
        }
    }

    /// Looks at tasks that are not being stepped at the moment.
    pub(super) fn inspect(&self, mut look: impl FnMut(usize, &Task)) {
        for (i, slot) in self.slots.iter().enumerate() {
            if let Ok(task) = slot.task.try_lock()
                && let Some(task) = task.as_ref()
            {
                look(i, task);
            }
        }
    }

    /// Takes the next runnable task and steps it. False when there is nothing left to do, ever.
    fn turn(&self) -> bool {
        let Some(index) = self.next() else {
            return false;
        };
        let Some(slot) = self.slots.get(index) else {
            return false;
        };
        slot.state.store(RUNNING, Ordering::Release);
        let mut task = lock(&slot.task);
        let stepped = match task.as_mut() {
            Some(task) => catch_unwind(AssertUnwindSafe(|| self.steps(slot, task)))
                .unwrap_or_else(|panic| Err(panicked(panic.as_ref()))),
            None => Ok(Step::Done),
        };
        if stepped.is_err() {
            // Ends the task's side of its channels and files.
            drop(task.take());
        }
        drop(task);
        self.after(index, slot, stepped);
        true
    }

    fn steps(&self, slot: &Slot, task: &mut Task) -> Result<Step> {
        let mut step = Step::Ready;
        loop {
            let command = lock(&slot.commands).pop_front();
            let Some(command) = command else { break };
            task.command(command, self.clock.now(), self.clock.monotonic())?;
        }
        for _ in 0..STEPS_A_TURN {
            if step != Step::Ready || self.cancelled.load(Ordering::Relaxed) {
                break;
            }
            step = task.step(self.clock.now(), self.clock.monotonic())?;
        }
        Ok(step)
    }

    fn after(&self, index: usize, slot: &Slot, stepped: Result<Step>) {
        match stepped {
            Ok(Step::Ready) => self.requeue(index, slot),
            Ok(Step::Waiting { until, wall }) => {
                let at = self.timer(until, wall.map(|w| w.0));
                if slot
                    .state
                    .compare_exchange(RUNNING, IDLE, Ordering::AcqRel, Ordering::Acquire)
                    .is_err()
                {
                    self.requeue(index, slot);
                } else if let Some(at) = at {
                    lock(&self.queue)
                        .timers
                        .push((std::cmp::Reverse(at.0), index));
                    self.changed.notify_one();
                }
            }
            Ok(Step::Done) => {
                slot.state.store(DONE, Ordering::Release);
                let mut queue = lock(&self.queue);
                queue.left = queue.left.saturating_sub(1);
                if queue.left == 0 {
                    self.changed.notify_all();
                    self.ended.notify_all();
                }
            }
            Err(e) => {
                slot.state.store(DONE, Ordering::Release);
                let mut queue = lock(&self.queue);
                queue.error.get_or_insert(e);
                self.changed.notify_all();
                self.ended.notify_all();
            }
        }
    }

    fn requeue(&self, index: usize, slot: &Slot) {
        slot.state.store(QUEUED, Ordering::Release);
        lock(&self.queue).ready.push_back(index);
        self.changed.notify_one();
    }

    /// The earlier of two times, on the monotonic clock.
    fn timer(&self, until: Option<Monotonic>, wall: Option<i64>) -> Option<Monotonic> {
        let wall = wall.map(|w| {
            let ms = w.saturating_sub(self.clock.now().0).max(0) as u64;
            self.clock.monotonic().plus_ms(ms.min(NAP_MS))
        });
        until.into_iter().chain(wall).min()
    }

    /// The next runnable task; waits for one. `None` at the end.
    fn next(&self) -> Option<usize> {
        let mut queue = lock(&self.queue);
        loop {
            if queue.left == 0 || queue.error.is_some() || self.cancelled.load(Ordering::Acquire) {
                return None;
            }
            let now = self.clock.monotonic().0;
            while let Some((at, index)) = queue.timers.peek().copied() {
                if at.0 > now {
                    break;
                }
                queue.timers.pop();
                let idle = self.slots.get(index).is_some_and(|s| {
                    s.state
                        .compare_exchange(IDLE, QUEUED, Ordering::AcqRel, Ordering::Acquire)
                        .is_ok()
                });
                if idle {
                    queue.ready.push_back(index);
                }
            }
            if let Some(index) = queue.ready.pop_front() {
                if !queue.ready.is_empty() {
                    self.changed.notify_one();
                }
                return Some(index);
            }
            let nap = queue
                .timers
                .peek()
                .map_or(NAP_MS * 1_000_000, |(at, _)| at.0.saturating_sub(now));
            let nap = Duration::from_nanos(nap.min(NAP_MS * 1_000_000));
            queue = self
                .changed
                .wait_timeout(queue, nap)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Error {
    let text = panic
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    Error::bug(format!("a task panicked: {}", text.unwrap_or_default()))
}
