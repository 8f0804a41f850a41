//! Watermarks of running tasks by a clock that the test turns: intervals, idleness and alignment by split.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use arrow_array::TimestampMillisecondArray;
use pelton_model::batch::Batch;
use pelton_model::graph::{Emit, Times, Timestamps, Watermarks};
use pelton_model::schema::{DataType, Field, Schema};
use pelton_model::watermark::Watermark;

use super::super::*;
use crate::chain::{Entry, Node, Target};
use crate::connector::Position;
use crate::operator::{Context, NoFunctions, Operator};
use crate::operators::timestamps::TimestampsOperator;
use crate::splits::Alignment;

/// Rows that are there from a time of the clock on: (milliseconds, event times).
type Script = Vec<(u64, Vec<i64>)>;

/// Never.
const NEVER: u64 = 1_000_000_000;

/// Reads splits by a script each.
struct Scripted {
    splits: Vec<VecDeque<(u64, Vec<i64>)>>,
    paused: Vec<bool>,
    last: usize,
}

impl SourceReader for Scripted {
    fn poll(&mut self, now: Monotonic, _rows_max: usize) -> Result<Poll> {
        if self.splits.iter().all(VecDeque::is_empty) {
            return Ok(Poll::End);
        }
        let fronts = self.splits.iter().zip(&self.paused).enumerate();
        let fronts = fronts.filter(|(_, (_, paused))| !**paused);
        let Some((at, split)) = fronts
            .filter_map(|(i, (s, _))| Some((s.front()?.0, i)))
            .min()
        else {
            return Ok(Poll::Later(now.plus_ms(5)));
        };
        let at = Monotonic(0).plus_ms(at);
        if at > now {
            return Ok(Poll::Later(at.min(now.plus_ms(5))));
        }
        self.last = split;
        let times = self.splits[split].pop_front().unwrap().1;
        let rows = times.len();
        let column = Arc::new(TimestampMillisecondArray::from(times));
        Ok(Poll::Rows(Batch::new(vec![column], rows)?))
    }
    fn splits(&self) -> Vec<String> {
        (0..self.splits.len()).map(|s| s.to_string()).collect()
    }
    fn split(&self) -> usize {
        self.last
    }
    fn has_ended(&self, split: usize) -> bool {
        self.splits[split].is_empty()
    }
    fn pause(&mut self, split: usize, paused: bool) {
        self.paused[split] = paused;
    }
    fn progress(&self) -> SourceProgress {
        SourceProgress::default()
    }
    fn positions(&self) -> Vec<Position> {
        Vec::new()
    }
}

/// What is below: writes down what comes, and when; takes nothing while it is blocked.
#[derive(Clone, Default)]
struct Below {
    seen: Arc<Mutex<Vec<String>>>,
    blocked: Arc<AtomicBool>,
}

impl Below {
    fn note(&self, what: String, cx: &Context<'_>) {
        let ms = cx.monotonic.0 / 1_000_000;
        self.seen.lock().unwrap().push(format!("{ms}: {what}"));
    }
}

impl Operator for Below {
    fn batch(&mut self, _input: u32, batch: Batch, cx: &mut Context<'_>) -> Result<()> {
        let times: Vec<String> = batch.times().unwrap().iter().map(i64::to_string).collect();
        self.note(times.join(" "), cx);
        Ok(())
    }
    fn watermark(&mut self, cx: &mut Context<'_>) -> Result<Option<Watermark>> {
        let watermark = match cx.watermark {
            Watermark::MAX => "end".to_owned(),
            w => format!("w{}", w.0),
        };
        self.note(watermark, cx);
        Ok(None)
    }
    fn idle(&mut self, idle: bool, cx: &mut Context<'_>) -> Result<bool> {
        self.note(if idle { "idle" } else { "active" }.to_owned(), cx);
        Ok(false)
    }
    fn has_room(&mut self) -> bool {
        !self.blocked.load(Ordering::SeqCst)
    }
}

/// Tasks of one source each, under one clock.
#[derive(Default)]
struct Job {
    tasks: Vec<(Task, Below)>,
    alignment: Arc<Alignment>,
    now: Monotonic,
}

fn spec() -> Timestamps {
    Timestamps {
        times: Times::Field("t".into()),
        watermarks: Watermarks::Monotonous,
        emit: Emit::Batch,
        idle_ms: None,
        drift_ms: None,
    }
}

fn node(name: &str, operator: Option<Box<dyn Operator>>, to: Option<usize>) -> Node {
    let entry = |node| Entry {
        node,
        input: 0,
        channel: 0,
    };
    Node {
        name: name.into(),
        uid: name.into(),
        metrics: OperatorMetrics::new(),
        channels: operator.iter().map(|_| 1).collect(),
        targets: vec![to.map(|n| Target::Inner(entry(n))).into_iter().collect()],
        operator,
    }
}

impl Job {
    fn add(&mut self, spec: &Timestamps, scripts: Vec<Script>) {
        let schema = Schema::new(vec![Field::new("t", DataType::Timestamp)]);
        let reader = Scripted {
            paused: vec![false; scripts.len()],
            splits: scripts.into_iter().map(VecDeque::from).collect(),
            last: 0,
        };
        let splits = Splits::new(reader.splits());
        let shared = Arc::clone(&splits);
        let times = TimestampsOperator::new(spec, &schema, &schema, shared, &self.alignment, false)
            .unwrap();
        let below = Below::default();
        let nodes = vec![
            node("source", None, Some(1)),
            node("timestamps", Some(Box::new(times)), Some(2)),
            node("below", Some(Box::new(below.clone())), None),
        ];
        let head = Head {
            node: 0,
            uid: "source".into(),
            paused: match reader.splits.len() {
                1 => Vec::new(),
                several => vec![false; several],
            },
            reader: Box::new(reader),
            splits: Arc::clone(&splits),
            metrics: OperatorMetrics::new(),
        };
        let task = Task::new(
            Chain::new(nodes, Vec::new()),
            (vec![head], vec![splits]),
            Vec::new(),
            Box::new(NoFunctions),
            Limits::default(),
            10,
            None,
        );
        self.tasks.push((task, below));
    }

    /// Steps all until nobody has anything to do; when the first wants to be woken.
    fn settle(&mut self) -> Option<Monotonic> {
        loop {
            let (mut ready, mut next) = (false, None);
            for (task, _) in &mut self.tasks {
                match task.step(ProcessingTime(0), self.now).unwrap() {
                    Step::Ready => ready = true,
                    Step::Waiting { until, .. } => next = next.into_iter().chain(until).min(),
                    Step::Done => {}
                }
            }
            if !ready {
                return next;
            }
        }
    }

    /// Lets the clock go on to this time, stopping where a task wants to be woken.
    fn run_to(&mut self, ms: u64) {
        let end = Monotonic(0).plus_ms(ms);
        while let Some(next) = self.settle().filter(|next| *next <= end) {
            assert!(next > self.now, "a task that waits for the past would spin");
            self.now = next;
        }
        self.now = end;
        self.settle();
    }

    /// What came below since it was asked last.
    fn seen(&self, task: usize) -> Vec<String> {
        std::mem::take(&mut *self.tasks[task].1.seen.lock().unwrap())
    }
}

#[test]
fn a_running_task_says_its_watermark_at_each_tick() {
    let mut job = Job::default();
    let regular = Timestamps {
        emit: Emit::Regular,
        ..spec()
    };
    let rows = [(50, 10), (100, 20), (320, 30), (900, 40)];
    let script = rows.map(|(at, time)| (at, vec![time])).to_vec();
    job.add(&regular, vec![script]);
    job.run_to(2_000);
    let expected = [
        "50: 10", "100: 20", "250: w19", "320: 30", "450: w29", "900: 40", "900: end",
    ];
    assert_eq!(job.seen(0), expected, "from the first row on, each 200 ms");
}

#[test]
fn a_silent_split_holds_its_task_until_it_is_idle_and_again_from_its_next_row() {
    let mut job = Job::default();
    let idle = Timestamps {
        idle_ms: Some(100),
        ..spec()
    };
    let busy = (0..50).map(|i| (i * 10, vec![i as i64 * 10])).collect();
    let silent = vec![(0, vec![5]), (300, vec![200]), (NEVER, vec![])];
    job.add(&idle, vec![busy, silent]);
    job.run_to(90);
    assert_eq!(job.seen(0).last().unwrap(), "90: 90");
    job.run_to(100);
    let seen = job.seen(0);
    assert!(
        seen.contains(&"100: w89".to_owned()) || seen.contains(&"100: w99".to_owned()),
        "{seen:?}"
    );
    job.run_to(299);
    assert!(job.seen(0).contains(&"290: w289".to_owned()));
    job.run_to(380);
    let held = job.seen(0);
    let rose: Vec<_> = held.iter().filter(|s| s.contains('w')).collect();
    assert_eq!(rose, ["300: w299"], "then its row of 200 holds: {held:?}");
    job.run_to(410);
    assert!(job.seen(0).contains(&"410: w409".to_owned()));
}

#[test]
fn time_in_which_what_is_below_takes_nothing_makes_no_split_idle() {
    let mut job = Job::default();
    let idle = Timestamps {
        idle_ms: Some(100),
        ..spec()
    };
    let script = |time: i64| vec![(0, vec![time]), (NEVER, vec![])];
    job.add(&idle, vec![script(10), script(20)]);
    job.run_to(50);
    assert_eq!(job.seen(0), ["0: 10", "0: 20", "0: w9"]);
    job.tasks[0].1.blocked.store(true, Ordering::SeqCst);
    job.run_to(5_000);
    job.tasks[0].1.blocked.store(false, Ordering::SeqCst);
    job.run_to(5_040);
    assert!(job.seen(0).is_empty(), "ninety milliseconds have passed");
    job.run_to(5_100);
    assert_eq!(job.seen(0).len(), 1, "all are idle, once");
}

#[test]
fn splits_of_all_tasks_stay_within_the_drift() {
    let mut job = Job::default();
    let aligned = Timestamps {
        idle_ms: Some(500),
        drift_ms: Some(1_000),
        ..spec()
    };
    let fast = (0..100).map(|i| (0, vec![i * 100])).collect();
    let slow = (0..10).map(|i| (i * 200, vec![i as i64 * 1_000]));
    let slow = slow.chain([(NEVER, vec![])]).collect();
    job.add(&aligned, vec![fast, vec![(NEVER, vec![])]]);
    job.add(&aligned, vec![slow]);
    job.run_to(0);
    let last = |seen: Vec<String>| {
        let rows = seen
            .iter()
            .filter_map(|s| s.split(": ").nth(1)?.parse().ok());
        rows.max().unwrap_or(i64::MIN)
    };
    // The first row of each has come; one split that never starts holds all.
    assert_eq!(last(job.seen(0)), 0);
    // It is idle in the end, and the slowest of the others decides.
    job.run_to(520);
    let most = last(job.seen(0));
    assert!((3_000..=3_100).contains(&most), "1,000 above 2,000: {most}");
    // A paused split is looked at again after 10 ms.
    job.run_to(1_020);
    let most = last(job.seen(0));
    assert!((6_000..=6_100).contains(&most), "{most}");
    // However often it was paused, the fast one was not idle before it had ended.
    job.run_to(2_200);
    let (fast, slow) = (job.seen(0), job.seen(1));
    let idle = fast.iter().position(|s| s.ends_with("idle"));
    assert_eq!(idle, Some(fast.len() - 1), "{fast:?}");
    assert_eq!((last(fast), last(slow)), (9_900, 9_000));
    job.run_to(3_000);
    assert!(job.seen(1).iter().any(|s| s.ends_with("idle")));
}

#[test]
fn a_split_that_has_ended_holds_nobody_back() {
    let mut job = Job::default();
    let aligned = Timestamps {
        drift_ms: Some(100),
        ..spec()
    };
    let fast = [0, 1_000, 2_000].map(|time| (0, vec![time])).to_vec();
    job.add(&aligned, vec![fast]);
    job.add(&aligned, vec![vec![(0, vec![0]), (300, vec![50])]]);
    job.run_to(290);
    let seen = job.seen(0);
    assert!(!seen.iter().any(|s| s.ends_with(": 2000")), "{seen:?}");
    job.run_to(400);
    assert_eq!(job.seen(0).last().unwrap().split(": ").nth(1), Some("end"));
}
