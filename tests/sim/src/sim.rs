//! The simulation of one seed: a clock, a queue of what is to happen, processes, faults, and the checks after it.
//! Needs: process, world. Invariant: everything follows from the seed; the trace has a digest to show it.

use std::collections::BTreeMap;
use std::sync::Arc;

use pelton_control::checkpoint::Event;
use pelton_model::protocol::TaskCommand;
use pelton_model::{Error, ErrorCode, Result};
use xxhash_rust::xxh3::Xxh3;

use crate::chance::Chance;
use crate::jobs::{Job, job};
use crate::message::{Answer, Effect, What};
use crate::plan::{Plan, Plant};
use crate::process::Process;
use crate::run::Setup;
use crate::saved::Saved;
use crate::world::{Row, Shared, World, half, lock, not_found};

/// After so many steps, nothing goes wrong any more.
const CALM_AFTER: u64 = 30_000;
/// After so many more, the job must have ended.
const ENDS_WITHIN: u64 = 60_000;

/// What came of a simulation.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The job.
    pub job: &'static str,
    /// What was found to be wrong: none, if all is well.
    pub violations: Vec<String>,
    /// A digest of all that happened.
    pub trace: u64,
    /// How much happened.
    pub steps: u64,
    /// Processes that were started.
    pub processes: u64,
    /// Processes that crashed.
    pub crashes: u64,
    /// Processes that stood still while others went on.
    pub zombies: u64,
    /// Checkpoints that became complete.
    pub checkpoints: u64,
    /// Savepoints that became complete.
    pub savepoints: u64,
    /// How often the job has gone on from one.
    pub moves: u64,
    /// Objects that were nobody's, and collected.
    pub collected: u64,
    /// Objects of which a crash has left a part.
    pub torn: u64,
    /// What sinks show, by uid.
    pub output: BTreeMap<String, Vec<Row>>,
}

#[derive(Debug)]
enum Item {
    Launch,
    Begin(usize),
    Wake(usize, u64, usize, u64),
    Command(usize, u64, usize, TaskCommand),
    Tell(usize, u64, Box<Event>),
    Tick(usize, u64, u64),
    /// Somebody wants a savepoint.
    Save(usize, u64),
    /// A request has reached the outside; 0: nobody waits for the answer.
    Arrive(usize, u64, What),
    /// What was written becomes durable.
    Sync(usize, u64, String, Result<Answer>),
    Reply(usize, u64, Result<Answer>),
}

impl Item {
    /// Whose it is, unless it is under way outside.
    fn process(&self) -> Option<usize> {
        match self {
            Self::Launch | Self::Arrive(..) | Self::Sync(..) => None,
            Self::Begin(p)
            | Self::Wake(p, ..)
            | Self::Command(p, ..)
            | Self::Tell(p, ..)
            | Self::Tick(p, ..)
            | Self::Save(p, _)
            | Self::Reply(p, ..) => Some(*p),
        }
    }

    fn digest(&self, trace: &mut Xxh3) {
        let (kind, a, b, c) = match self {
            Self::Launch => (0, 0, 0, 0),
            Self::Begin(p) => (1, *p as u64, 0, 0),
            Self::Wake(p, run, task, turn) => (2, *p as u64, *run << 16 | *task as u64, *turn),
            Self::Command(p, run, task, _) => (3, *p as u64, *run, *task as u64),
            Self::Tell(p, run, _) => (4, *p as u64, *run, 0),
            Self::Tick(p, run, turn) => (5, *p as u64, *run, *turn),
            Self::Arrive(p, id, what) => {
                trace.update(format!("{what:?}").as_bytes());
                (6, *p as u64, *id, 0)
            }
            Self::Sync(p, id, name, _) => {
                trace.update(name.as_bytes());
                (7, *p as u64, *id, 0)
            }
            Self::Save(p, run) => (9, *p as u64, *run, 0),
            Self::Reply(p, id, answer) => (8, *p as u64, *id, u64::from(answer.is_ok())),
        };
        [kind, a, b, c]
            .iter()
            .for_each(|n: &u64| trace.update(&n.to_le_bytes()));
    }
}

struct Sim {
    plan: Plan,
    job: Arc<Job>,
    chance: Chance,
    world: Shared,
    now: u64,
    queue: BTreeMap<(u64, u64), Item>,
    next: u64,
    processes: Vec<Option<Process>>,
    /// When the last command reaches each task, by process, run and task: commands do not overtake each other.
    commands: BTreeMap<(usize, u64, usize), u64>,
    finished: bool,
    crashes_left: u64,
    zombies_left: u64,
    moves_left: u64,
    /// What the job has begun from.
    saved: Option<Arc<Saved>>,
    trace: Xxh3,
    report: Report,
}

/// Runs the simulation of a seed, and the same job undisturbed, and compares. Errors: bugs of the simulation itself.
pub fn simulate(seed: u64, plant: Option<Plant>) -> Result<Report> {
    let disturbed = Plan::of(seed).with(plant);
    let calm = Plan::undisturbed(seed);
    let mut report = run(seed, disturbed)?;
    let expected = run(seed, calm)?;
    for what in expected.violations {
        report.violations.push(format!("undisturbed: {what}"));
    }
    let job = job(&Chance::new(seed))?;
    for (uid, columns) in &job.keys {
        let of = |output: &BTreeMap<String, Vec<Row>>| output.get(uid).cloned().unwrap_or_default();
        let (there, wanted) = (of(&report.output), of(&expected.output));
        report
            .violations
            .extend(crate::compare::compare(uid, *columns, &there, &wanted));
    }
    Ok(report)
}

/// Runs the job of a seed once. Errors: bugs of the simulation itself.
pub fn run(seed: u64, plan: Plan) -> Result<Report> {
    // The job is that of the seed, whatever else happens.
    let job = Arc::new(job(&Chance::new(seed))?);
    let mut sim = Sim {
        chance: Chance::new(seed ^ 0x5eed),
        world: Shared::default(),
        now: 1_000_000,
        queue: BTreeMap::new(),
        next: 0,
        processes: Vec::new(),
        commands: BTreeMap::new(),
        finished: false,
        crashes_left: plan.crashes,
        zombies_left: plan.zombies,
        moves_left: plan.moves,
        saved: None,
        trace: Xxh3::new(),
        report: Report {
            job: job.name,
            ..Report::default()
        },
        plan,
        job,
    };
    sim.go();
    Ok(sim.finish())
}

impl Sim {
    fn go(&mut self) {
        self.later(0, Item::Launch);
        while let Some(((at, _), item)) = self.queue.pop_first() {
            self.now = self.now.max(at);
            self.report.steps += 1;
            if self.report.steps == CALM_AFTER {
                self.calm();
            }
            if self.report.steps > CALM_AFTER + ENDS_WITHIN {
                let what = format!(
                    "the job has not ended {ENDS_WITHIN} steps after the last fault, at {} ms",
                    self.now / 1_000_000
                );
                return lock(&self.world).violation(what);
            }
            self.trace.update(&self.now.to_le_bytes());
            item.digest(&mut self.trace);
            let who = item.process();
            self.happen(item);
            self.effects();
            if let Some(process) = who {
                self.disturb(process);
            }
            if !lock(&self.world).violations.is_empty() {
                return;
            }
        }
        if !self.finished {
            lock(&self.world)
                .violation("nothing is left to happen, and the job has not ended".into());
        }
    }

    fn finish(self) -> Report {
        let mut report = self.report;
        let mut world = lock(&self.world);
        if world.violations.is_empty()
            && let Some((_, newest)) = world.checkpoints().pop()
        {
            world.check_whole(&newest, "at the end");
        }
        report.violations = std::mem::take(&mut world.violations);
        (report.collected, report.torn) = (world.collected, world.torn);
        report.trace = self.trace.digest();
        let shown = world.places.iter();
        report.output = shown
            .map(|(uid, p)| (uid.clone(), p.output.clone()))
            .collect();
        report
    }

    fn later(&mut self, delay: u64, item: Item) {
        self.next += 1;
        self.queue.insert((self.now + delay, self.next), item);
    }

    fn delay(&self) -> u64 {
        match self.chance.happens(self.plan.slow) {
            true => self.chance.between(1_000_000, 200_000_000),
            false => self.chance.between(1_000, self.plan.delay_max),
        }
    }

    /// Nothing goes wrong any more.
    fn calm(&mut self) {
        self.plan = self.plan.clone().calm();
        (self.crashes_left, self.zombies_left, self.moves_left) = (0, 0, 0);
        for process in self.processes.iter_mut().flatten() {
            process.paused_until = 0;
        }
    }

    fn at(&mut self, index: usize) -> Option<&mut Process> {
        self.processes.get_mut(index).and_then(Option::as_mut)
    }

    /// Whether the process still runs as it did.
    fn in_run(&mut self, index: usize, run: u64) -> Option<&mut Process> {
        self.at(index).filter(|p| p.runs == run)
    }

    fn happen(&mut self, item: Item) {
        let now = self.now;
        if let Some(until) = item
            .process()
            .and_then(|p| self.at(p))
            .map(|p| p.paused_until)
            && until > now
        {
            return self.later(until - now, item);
        }
        match item {
            Item::Launch => self.launch(),
            Item::Begin(p) => {
                if let Some(process) = self.at(p) {
                    process.begin(now);
                }
            }
            Item::Wake(p, run, task, turn) => {
                if let Some(process) = self.in_run(p, run) {
                    process.wake(now, task, turn);
                }
            }
            Item::Command(p, run, task, command) => {
                if let Some(process) = self.in_run(p, run) {
                    process.command(now, task, command);
                }
            }
            Item::Tell(p, run, event) => {
                if let Some(process) = self.in_run(p, run) {
                    process.event(now, *event);
                }
            }
            Item::Tick(p, run, turn) => {
                if let Some(process) = self.in_run(p, run) {
                    process.tick(now, turn);
                }
            }
            Item::Save(p, run) => {
                if let Some(process) = self.in_run(p, run) {
                    process.wants_savepoint(now);
                }
            }
            Item::Arrive(p, id, what) => self.arrive(p, id, what),
            Item::Sync(p, id, name, answer) => {
                lock(&self.world).sync(&name);
                self.reply(p, id, answer);
            }
            Item::Reply(p, id, answer) => {
                if let Some(process) = self.at(p) {
                    process.answered(now, id, answer);
                }
            }
        }
    }

    fn launch(&mut self) {
        if self.finished {
            return;
        }
        let setup = Setup {
            job: Arc::clone(&self.job),
            parallelism: self.chance.between(1, 3) as u32,
            max_parallelism: 16,
            batch_rows: self.chance.one_of(&[1, 7, 32], 7),
            channel_bytes: self.chance.one_of(&[64, 2_000, 1 << 20], 2_000),
            inline_bytes: self.plan.inline_bytes,
            folder: self.report.moves,
            saved: self.saved.clone(),
            plant: self.plan.plant,
        };
        let settings = self.plan.settings.clone();
        self.report.processes += 1;
        let (world, chance) = (Arc::clone(&self.world), self.chance.clone());
        let id = self.report.processes;
        let process = Process::new(setup, settings, world, chance, id);
        self.processes.push(Some(process));
        self.later(0, Item::Begin(self.processes.len() - 1));
    }

    /// What the processes want is put into the queue.
    fn effects(&mut self) {
        for index in 0..self.processes.len() {
            let Some(process) = self.at(index) else {
                continue;
            };
            let (effects, run) = (process.effects(), process.runs);
            let moves = self.report.moves;
            for effect in effects {
                self.effect(index, run, effect);
                if self.report.moves > moves {
                    // Nothing is left of those before.
                    return;
                }
            }
        }
    }

    fn effect(&mut self, index: usize, run: u64, effect: Effect) {
        let now = self.now;
        match effect {
            Effect::Send(id, what) => {
                let delay = self.delay();
                self.later(delay, Item::Arrive(index, id, what));
            }
            Effect::Wake { task, turn, at } => {
                self.later(at.saturating_sub(now), Item::Wake(index, run, task, turn));
            }
            Effect::Command(task, command) => {
                let delay = self.delay() / 4;
                let last = self.commands.entry((index, run, task)).or_default();
                *last = (now + delay).max(*last);
                let delay = *last - now;
                self.later(delay, Item::Command(index, run, task, command));
            }
            Effect::Tell(event) => {
                let delay = self.delay();
                self.later(delay, Item::Tell(index, run, event));
            }
            Effect::Tick { turn, at } => {
                self.later(at.saturating_sub(now), Item::Tick(index, run, turn));
            }
            Effect::Restart => {
                let delay = self.chance.between(1_000_000, 50_000_000);
                self.later(delay, Item::Begin(index));
            }
            Effect::Over(finished) => {
                self.finished |= finished;
                if let Some(slot) = self.processes.get_mut(index) {
                    *slot = None;
                }
                self.succeed();
            }
            Effect::Saved(folder) => self.saved(&folder),
            Effect::Violation(what) => lock(&self.world).violation(what),
        }
    }

    /// Where no process runs the job, another one does after a while.
    fn succeed(&mut self) {
        let now = self.now;
        let runs = |p: &Process| p.paused_until <= now;
        if !self.finished && !self.processes.iter().flatten().any(runs) {
            let delay = self.chance.between(1_000_000, 100_000_000);
            self.later(delay, Item::Launch);
        }
    }

    /// After something has happened to a process, it may crash, or stand still.
    fn disturb(&mut self, index: usize) {
        if self.at(index).is_none_or(|p| p.paused_until > 0) {
            return;
        }
        if self.crashes_left > 0 && self.chance.happens_rarely(self.plan.crash) {
            self.crashes_left -= 1;
            self.report.crashes += 1;
            let power = self.plan.local && self.chance.happens(500);
            self.crash(index, power);
        } else if self.chance.happens_rarely(self.plan.save) {
            let run = self.at(index).map_or(0, |p| p.runs);
            self.later(0, Item::Save(index, run));
        } else if self.chance.happens_rarely(self.plan.stop) {
            let run = self.at(index).map_or(0, |p| p.runs);
            self.later(0, Item::Tell(index, run, Box::new(Event::Stop)));
        } else if self.zombies_left > 0 && self.chance.happens_rarely(self.plan.double) {
            self.zombies_left -= 1;
            self.report.zombies += 1;
            self.later(0, Item::Launch);
        } else if self.zombies_left > 0 && self.stands_still(index) {
            self.zombies_left -= 1;
            self.report.zombies += 1;
            let until = self.now + self.chance.between(10_000_000, 2_000_000_000);
            if let Some(process) = self.at(index) {
                process.paused_until = until;
            }
            self.succeed();
        }
    }

    fn stands_still(&mut self, index: usize) -> bool {
        let recovers = self.at(index).is_some_and(|p| p.recovers());
        recovers && self.chance.happens(self.plan.stall)
            || self.chance.happens_rarely(self.plan.pause)
    }

    /// The process is gone, with all that it had in memory; where the power failed, so are all others of the machine.
    fn crash(&mut self, index: usize, power: bool) {
        match power {
            true => self.processes.iter_mut().for_each(|p| *p = None),
            false => self
                .processes
                .iter_mut()
                .skip(index)
                .take(1)
                .for_each(|p| *p = None),
        }
        let (chance, torn) = (self.chance.clone(), self.plan.torn);
        let world = Arc::clone(&self.world);
        self.queue.retain(|_, item| match item {
            // What was being sent is there, or not, or a part of it.
            Item::Arrive(p, _, what) if !power && *p == index && chance.happens(torn) => {
                tear(&mut lock(&world), what);
                false
            }
            Item::Arrive(p, ..) => !power && (*p != index || chance.happens(500)),
            Item::Sync(p, ..) => !power && *p != index,
            _ => true,
        });
        if power {
            lock(&self.world).power_failure(|| chance.happens(500), || chance.happens(torn));
        }
        self.succeed();
    }

    /// A savepoint is complete: the job may go on from it, elsewhere.
    fn saved(&mut self, folder: &str) {
        self.report.savepoints += 1;
        if self.moves_left == 0 || !self.chance.happens(300) {
            return;
        }
        let saved = match Saved::open(&self.world, folder) {
            Ok(saved) => saved,
            Err(e) => return lock(&self.world).violation(format!("a complete savepoint: {e}")),
        };
        if !lock(&self.world).move_to(folder, &saved.metadata) {
            return;
        }
        self.moves_left -= 1;
        self.report.moves += 1;
        self.saved = Some(Arc::new(saved));
        self.processes.iter_mut().for_each(|p| *p = None);
        self.queue.clear();
        self.later(0, Item::Launch);
    }

    // ---- the outside

    fn arrive(&mut self, process: usize, id: u64, what: What) {
        if id != 0 && self.chance.happens(self.plan.fail) {
            return self.reply(process, id, Err(unavailable("the request failed")));
        }
        let writes = !matches!(what, What::ReadLog | What::Get(_));
        if id != 0 && writes && self.chance.happens(self.plan.late) {
            let delay = self.chance.between(1_000_000, 1_000_000_000);
            self.later(delay, Item::Arrive(process, 0, what));
            return self.reply(process, id, Err(unavailable("the request was late")));
        }
        if id != 0 && writes && self.chance.happens(self.plan.twice) {
            let delay = self.chance.between(1_000_000, 1_000_000_000);
            self.later(delay, Item::Arrive(process, 0, what.clone()));
        }
        let written = match &what {
            What::PutNew(name, _) | What::Put(name, _) | What::Copy(_, name) => Some(name.clone()),
            _ => None,
        };
        let mut answer = self.serve(what);
        if writes && self.chance.happens(self.plan.lose_reply) {
            answer = Err(unavailable("the reply was lost"));
        }
        match written {
            Some(name) if self.plan.local => {
                if self.plan.plant == Some(Plant::ReplyEarly) {
                    self.later(5_000_000, Item::Sync(process, 0, name, Ok(Answer::Done)));
                    return self.reply(process, id, answer);
                }
                let delay = self.chance.between(1_000, 5_000_000);
                self.later(delay, Item::Sync(process, id, name, answer));
            }
            Some(name) => {
                lock(&self.world).sync(&name);
                self.reply(process, id, answer);
            }
            None => self.reply(process, id, answer),
        }
    }

    fn serve(&mut self, what: What) -> Result<Answer> {
        let mut world = lock(&self.world);
        Ok(match what {
            What::ReadLog => {
                let objects = world.objects.iter();
                let lengths = objects.map(|(n, o)| (n.clone(), o.bytes.len() as u64));
                Answer::Log(world.entries(), lengths.collect())
            }
            What::PutNew(name, bytes) => {
                let before = world.checkpoints().len();
                let put = world.put_new(&name, &bytes);
                self.report.checkpoints += (world.checkpoints().len() - before) as u64;
                Answer::PutNew(put)
            }
            What::Put(name, bytes) => {
                let torn = self.plan.plant == Some(Plant::TornPut) && self.chance.happens(20);
                let half = bytes.get(..bytes.len() / 2).unwrap_or_default();
                world.put(&name, if torn { half } else { &bytes });
                Answer::Done
            }
            What::Get(name) => match world.objects.get(&name) {
                Some(object) => Answer::Bytes(object.bytes.to_vec()),
                None => return Err(not_found(&name)),
            },
            What::Delete(name) => {
                world.delete(&name);
                Answer::Done
            }
            What::Copy(from, to) => {
                let object = world.objects.get(&from).ok_or_else(|| not_found(&from))?;
                let bytes = Arc::clone(&object.bytes);
                world.put(&to, &bytes);
                Answer::Done
            }
            What::Commit(uid, payload, term) => {
                let again = self.plan.plant == Some(Plant::CommitTwice);
                world.commit(&uid, &payload, term, again);
                Answer::Done
            }
            What::Forget(uid, term) => {
                match self.plan.plant {
                    Some(Plant::ForgetAll) => world.forget_before(&uid, u64::MAX),
                    _ => world.forget_before(&uid, term),
                }
                Answer::Done
            }
        })
    }

    fn reply(&mut self, process: usize, id: u64, answer: Result<Answer>) {
        if id != 0 {
            let delay = self.delay();
            self.later(delay, Item::Reply(process, id, answer));
        }
    }
}

/// A write of which a part is carried out; a conditional one is carried out whole, or not at all.
fn tear(world: &mut World, what: &What) {
    let What::Put(name, bytes) = what else {
        return;
    };
    if !world.objects.contains_key(name) {
        world.put(name, &half(bytes));
        world.sync(name);
        world.torn += 1;
    }
}

fn unavailable(why: &str) -> Error {
    Error::new(ErrorCode::StoreUnavailable, why)
}
