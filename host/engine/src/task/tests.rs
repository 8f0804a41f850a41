//! Checkpoints of real tasks under back pressure: what is in flight is stored, and comes back exactly once.

mod job;
mod stopped;
mod time;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pelton_model::barrier::BarrierMode;
use pelton_model::graph::Partition;
use pelton_model::protocol::TaskCommand;

use job::{Job, Size, World, check};

const SOURCES: [u32; 2] = [0, 1];
const BLOCKS: BarrierMode = BarrierMode::Unaligned { after_ms: 10 };

fn size(tasks: u32) -> Size {
    Size {
        tasks,
        rows: [400, 300],
        channel_bytes: 2_000,
        way: Partition::Key,
    }
}

/// A job whose sink is blocked, so that everything above it is full, after some rows have passed.
fn blocked(size: Size) -> (Job, Arc<World>) {
    let world = Arc::new(World::default());
    let mut job = Job::new(size, &world, None);
    for _ in 0..5 {
        (0..job.tasks.len()).for_each(|t| {
            job.step(t);
        });
    }
    world.blocked.store(true, Ordering::SeqCst);
    job.settle();
    (job, world)
}

fn passes_a_blocked_sink(before: Size, after: Size) {
    let (mut job, world) = blocked(before);
    let processed = world.processed.load(Ordering::SeqCst);
    assert!(processed > 0);
    let aligned = job.trigger(BarrierMode::Aligned, &SOURCES);
    job.pass_ms(60_000);
    assert!(
        !job.is_complete(aligned),
        "an aligned one waits for the sink"
    );
    job.tell(TaskCommand::Aborted(aligned), |_| true);
    let id = job.trigger(BLOCKS, &SOURCES);
    job.settle();
    assert!(!job.is_complete(id), "it is aligned first");
    job.pass_ms(10);
    assert!(job.is_complete(id), "the time is that of the whole way");
    assert!(job.parts.in_flight(id) > 0);
    assert_eq!(world.processed.load(Ordering::SeqCst), processed);
    let from = job.complete(id);
    // The process is killed here.
    drop(job);
    // What was in flight is so again, before any of it could be processed.
    let mut job = Job::new(after, &world, Some(&from));
    job.settle();
    let again = job.trigger(BLOCKS, &SOURCES);
    job.pass_ms(10);
    assert!(job.is_complete(again));
    let from = job.complete(again);
    Job::new(after, &world, Some(&from)).finish();
    check(&world, after.rows);
}

#[test]
fn an_unaligned_checkpoint_passes_a_blocked_sink_and_nothing_is_lost_or_twice() {
    passes_a_blocked_sink(size(2), size(2));
}

#[test]
fn rows_in_flight_go_to_their_key_groups_with_another_parallelism() {
    passes_a_blocked_sink(size(2), size(3));
    passes_a_blocked_sink(size(3), size(1));
    passes_a_blocked_sink(size(1), size(2));
}

#[test]
fn inputs_that_have_ended_are_in_the_checkpoint_with_what_they_sent() {
    let short = |tasks| Size {
        rows: [3, 300],
        ..size(tasks)
    };
    passes_a_blocked_sink(short(2), short(2));
    passes_a_blocked_sink(short(2), short(3));
}

#[test]
fn barriers_that_come_in_time_leave_nothing_in_flight() {
    let world = Arc::new(World::default());
    let mut job = Job::new(size(2), &world, None);
    (0..job.tasks.len()).for_each(|t| {
        job.step(t);
    });
    let id = job.trigger(BLOCKS, &SOURCES);
    job.settle();
    assert!(job.is_complete(id));
    assert_eq!(job.parts.in_flight(id), 0);
    let from = job.complete(id);
    Job::new(size(2), &world, Some(&from)).finish();
    check(&world, size(2).rows);
}

#[test]
fn forwarded_rows_are_waited_for() {
    let forward = Size {
        way: |_| Partition::Forward,
        ..size(2)
    };
    let (mut job, world) = blocked(forward);
    let id = job.trigger(BLOCKS, &SOURCES);
    job.pass_ms(60_000);
    assert!(!job.is_complete(id));
    world.blocked.store(false, Ordering::SeqCst);
    job.pass_ms(1);
    assert!(job.is_complete(id));
    assert!(job.parts.in_flight(id) > 0, "above, they were overtaken");
    let from = job.complete(id);
    Job::new(forward, &world, Some(&from)).finish();
    check(&world, forward.rows);
}

/// The barrier of one source has overtaken, that of the other does not come.
fn half_overtaken() -> (Job, Arc<World>, pelton_model::id::CheckpointId) {
    let (mut job, world) = blocked(size(2));
    let half = job.trigger(BLOCKS, &[0]);
    job.pass_ms(10);
    assert!(!job.is_complete(half));
    (job, world, half)
}

#[test]
fn a_checkpoint_that_is_given_up_half_way_does_not_disturb_the_next() {
    for aborts in [true, false] {
        let (mut job, world, half) = half_overtaken();
        if aborts {
            job.tell(TaskCommand::Aborted(half), |_| true);
            job.settle();
        }
        let id = job.trigger(BLOCKS, &SOURCES);
        job.pass_ms(10);
        assert!(job.is_complete(id) && !job.is_complete(half));
        let from = job.complete(id);
        Job::new(size(2), &world, Some(&from)).finish();
        check(&world, size(2).rows);
    }
}

#[test]
fn what_comes_between_the_barrier_that_overtakes_and_the_last_one_is_in_flight() {
    let world = Arc::new(World::default());
    let mut job = Job::new(size(2), &world, None);
    let rounds = |job: &mut Job| {
        for _ in 0..5 {
            (0..job.tasks.len()).for_each(|t| {
                job.step(t);
            });
        }
    };
    rounds(&mut job);
    let at_once = BarrierMode::Unaligned { after_ms: 0 };
    let id = job.trigger(at_once, &[0]);
    rounds(&mut job);
    assert!(!job.is_complete(id));
    let processed = world.processed.load(Ordering::SeqCst);
    rounds(&mut job);
    assert!(world.processed.load(Ordering::SeqCst) > processed);
    job.next = id.0;
    assert_eq!(job.trigger(at_once, &[1]), id);
    rounds(&mut job);
    assert!(job.is_complete(id) && job.parts.in_flight(id) > 0);
    let from = job.complete(id);
    Job::new(size(3), &world, Some(&from)).finish();
    check(&world, size(3).rows);
}

/// Numbers by chance, the same for the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % n
    }
}

/// Tasks run in any order, sinks block, checkpoints of any mode are begun, given up and completed, and the job crashes
/// and goes on with another parallelism.
fn by_chance(seed: u64) {
    let mut chance = Chance(seed);
    let world = Arc::new(World::default());
    let sized = |chance: &mut Chance| Size {
        rows: [120, 90],
        channel_bytes: 300 + chance.below(3_000) as usize,
        ..size(1 + chance.below(3) as u32)
    };
    let mut job = Job::new(sized(&mut chance), &world, None);
    let (mut from, mut pending) = (None, None);
    for _ in 0..600 {
        let tasks = job.tasks.len() as u64;
        match chance.below(40) {
            0 => world.blocked.store(chance.below(2) == 0, Ordering::SeqCst),
            1 if pending.is_none() => {
                let mode = match chance.below(4) {
                    0 => BarrierMode::Aligned,
                    after => BarrierMode::Unaligned {
                        after_ms: after * 3 - 3,
                    },
                };
                pending = Some(job.trigger(mode, &SOURCES));
            }
            2 if chance.below(4) == 0 => {
                if let Some(id) = pending.take() {
                    job.tell(TaskCommand::Aborted(id), |_| true);
                }
            }
            3 if chance.below(6) == 0 => {
                job = Job::new(sized(&mut chance), &world, from.as_ref());
                pending = None;
            }
            4..8 => job.now = job.now.plus_ms(chance.below(6)),
            _ => {
                let task = chance.below(tasks) as usize;
                job.step(task);
            }
        }
        if let Some(id) = pending.filter(|id| job.is_complete(*id)) {
            from = Some(job.complete(id));
            pending = None;
        }
    }
    job.finish();
    check(&world, [120, 90]);
}

#[test]
fn any_order_of_steps_gives_each_row_once() {
    for seed in 0..300 {
        let run = std::panic::catch_unwind(|| by_chance(seed));
        assert!(run.is_ok(), "seed {seed}");
    }
}
