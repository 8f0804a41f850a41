use arrow_array::TimestampMillisecondArray;
use pelton_model::element::Element;
use pelton_model::limits::Limits;
use pelton_model::schema::{DataType, Field};
use pelton_model::time::ProcessingTime;

use super::*;
use crate::operator::{NoFunctions, OperatorMetrics, Outbox};

struct Fixture {
    operator: TimestampsOperator,
    splits: Arc<Splits>,
    alignment: Arc<Alignment>,
    ms: u64,
    now: i64,
}

fn spec() -> Timestamps {
    Timestamps {
        times: Times::Field("t".into()),
        watermarks: Watermarks::Bounded(10),
        emit: Emit::Batch,
        idle_ms: None,
        drift_ms: None,
    }
}

impl Fixture {
    fn new(spec: &Timestamps, splits: usize) -> Self {
        Self::of(spec, splits, &Arc::default(), false)
    }

    fn of(spec: &Timestamps, splits: usize, alignment: &Arc<Alignment>, batch: bool) -> Self {
        let schema = Schema::new(vec![Field::new("t", DataType::Timestamp)]);
        let splits = Splits::new((0..splits).map(|s| s.to_string()).collect());
        let shared = Arc::clone(&splits);
        Self {
            operator: TimestampsOperator::new(spec, &schema, &schema, shared, alignment, batch)
                .unwrap(),
            splits,
            alignment: Arc::clone(alignment),
            ms: 0,
            now: 0,
        }
    }

    fn with(
        &mut self,
        watermark: Watermark,
        body: impl FnOnce(&mut TimestampsOperator, &mut Context<'_>) -> Result<()>,
    ) -> String {
        let mut out = Outbox::default();
        let metrics = OperatorMetrics::new();
        let mut cx = Context {
            functions: &mut NoFunctions,
            now: ProcessingTime(self.now),
            monotonic: Monotonic(self.ms * 1_000_000),
            watermark,
            out: &mut out,
            limits: &Limits::default(),
            metrics: &metrics,
        };
        body(&mut self.operator, &mut cx).unwrap();
        let show = |(_, e): (u32, Element)| match e {
            Element::Batch(b) => {
                let times = b.materialize().unwrap().times().unwrap().to_vec();
                times
                    .iter()
                    .map(i64::to_string)
                    .collect::<Vec<_>>()
                    .join(" ")
            }
            Element::Watermark(w) => format!("w{}", w.0),
            e => format!("{e:?}"),
        };
        out.drain()
            .into_iter()
            .map(show)
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn rows(&mut self, split: usize, times: &[i64]) -> String {
        self.splits.enter(split);
        let column = Arc::new(TimestampMillisecondArray::from(times.to_vec()));
        let batch = Batch::new(vec![column], times.len()).unwrap();
        self.with(Watermark::MIN, |op, cx| op.batch(0, batch, cx))
    }

    fn wake(&mut self) -> String {
        self.with(Watermark::MIN, |op, cx| op.wake(cx))
    }

    fn above(&mut self, watermark: Watermark) -> String {
        let mut passed = None;
        let seen = self.with(watermark, |op, cx| op.watermark(cx).map(|w| passed = w));
        seen + &passed.map_or(String::new(), |w| format!("w{}", w.0))
    }
}

#[test]
fn after_each_row_it_is_the_same_whatever_the_batch() {
    let spec = Timestamps {
        emit: Emit::Row,
        ..spec()
    };
    let times = [20, 15, 20, 31, 30, 40];
    let whole = Fixture::new(&spec, 1).rows(0, &times);
    assert_eq!(whole, "20 w9 15 20 31 w20 30 40 w29");
    let mut single = Fixture::new(&spec, 1);
    let rows: Vec<_> = times.iter().map(|t| single.rows(0, &[*t])).collect();
    assert_eq!(rows.join(" "), whole);
}

fn at_intervals(ms: u64) -> Timestamps {
    Timestamps {
        emit: Emit::Interval(ms),
        ..spec()
    }
}

#[test]
fn at_intervals_a_watermark_waits_for_the_next_tick() {
    let mut f = Fixture::new(&at_intervals(200), 1);
    f.ms = 1_000;
    assert_eq!(
        f.rows(0, &[20]),
        "20",
        "the clock begins with the first row"
    );
    let due = Wakeup::Monotonic(Monotonic(1_200_000_000));
    assert_eq!(f.operator.next_wake(), Some(due));
    f.ms = 1_199;
    assert_eq!(f.rows(0, &[40]), "40");
    f.ms = 1_210;
    assert_eq!(f.rows(0, &[41]), "41 w30");
    assert_eq!(f.operator.next_wake(), None, "there is nothing to say");
    f.ms = 1_650;
    assert_eq!(f.rows(0, &[60]), "60", "two ticks passed without a row");
    f.ms = 1_799;
    assert_eq!(f.wake(), "");
    f.ms = 1_800;
    assert_eq!(f.wake(), "w49");
}

#[test]
fn where_nothing_else_is_said_the_interval_is_200_ms() {
    let regular = Timestamps {
        emit: Emit::Regular,
        ..spec()
    };
    let mut f = Fixture::new(&regular, 1);
    f.rows(0, &[20]);
    let due = Wakeup::Monotonic(Monotonic(200_000_000));
    assert_eq!(f.operator.next_wake(), Some(due));
}

#[test]
fn a_fast_replay_has_watermarks_before_their_time() {
    let mut f = Fixture::new(&at_intervals(200), 1);
    let batch: Vec<i64> = (0..8_192).collect();
    let seen = (0..16).map(|_| f.rows(0, &batch));
    let marks: Vec<_> = seen.map(|s| s.ends_with("w8180")).collect();
    let expected: Vec<_> = (0..16).map(|i| i == 7).collect();
    assert_eq!(marks, expected, "one after 65,536 rows, and it rises once");
}

#[test]
fn without_an_interval_none_comes_before_the_end() {
    let mut f = Fixture::new(&at_intervals(0), 1);
    for _ in 0..9 {
        assert!(!f.rows(0, &vec![20; 8_192]).contains('w'));
    }
    f.ms = 100_000;
    assert_eq!((f.wake().as_str(), f.operator.next_wake()), ("", None));
    assert_eq!(f.above(Watermark::MAX), format!("w{}", i64::MAX));
}

#[test]
fn what_a_split_allows_is_said_before_it_is_idle() {
    let spec = Timestamps {
        idle_ms: Some(50),
        ..at_intervals(200)
    };
    let mut f = Fixture::new(&spec, 2);
    f.rows(0, &[100]);
    f.rows(1, &[50]);
    f.ms = 30;
    f.rows(0, &[101]);
    f.ms = 50;
    assert_eq!(f.wake(), "w39");
    f.ms = 80;
    assert_eq!(
        f.wake(),
        "w90 Idle",
        "the last one's is not kept back either"
    );
}

#[test]
fn ingestion_time_never_goes_back() {
    let spec = Timestamps {
        times: Times::Ingestion,
        watermarks: Watermarks::Monotonous,
        ..spec()
    };
    let mut f = Fixture::new(&spec, 1);
    f.now = 500;
    assert_eq!(f.rows(0, &[1, 2]), "500 500 w499");
    f.now = 400;
    assert_eq!(f.rows(0, &[3]), "500");
    f.now = 501;
    assert_eq!(f.rows(0, &[4]), "501 w500");
}

#[test]
fn generated_ones_are_passed_on_and_others_are_not() {
    let mut f = Fixture::new(&spec(), 1);
    assert_eq!(f.above(Watermark(100)), "");
    assert_eq!(f.above(Watermark::MAX), format!("w{}", i64::MAX));
    let generated = Timestamps {
        watermarks: Watermarks::Generated,
        ..spec()
    };
    let mut f = Fixture::new(&generated, 1);
    assert_eq!(f.rows(0, &[20]), "20");
    assert_eq!(f.above(Watermark(100)), "w100");
    assert_eq!(
        f.with(Watermark(100), |op, cx| op.idle(true, cx).map(|_| ())),
        "Idle"
    );
    assert_eq!(f.above(Watermark::MAX), format!("Activew{}", i64::MAX));
}

#[test]
fn a_split_whose_generator_is_silent_or_idle_holds_nothing_back() {
    let spec = Timestamps {
        watermarks: Watermarks::Generated,
        idle_ms: Some(50),
        drift_ms: Some(100),
        ..spec()
    };
    let mut f = Fixture::new(&spec, 2);
    let said = Said::new(Arc::clone(&f.splits));
    f.operator = f.operator.told_by(Arc::clone(&said));
    let say = |f: &mut Fixture, split, mark: i64| {
        said.set_silent(split, false);
        said.set_mark(split, Watermark(mark));
        f.rows(split, &[mark])
    };
    assert_eq!(say(&mut f, 0, 150), "150");
    assert_eq!(say(&mut f, 1, 20), "20");
    assert!(f.splits.is_paused(0), "150 is more than 100 above 20");
    assert_eq!(f.above(Watermark(20)), "w20");
    f.ms = 50;
    assert_eq!(f.wake(), "w150", "the other is without rows");
    f.wake();
    assert!(!f.splits.is_paused(0));
    said.set_idle(0, true);
    assert_eq!(f.rows(0, &[150]), "150");
    assert_eq!(f.operator.watch().gauges[0].state(), SplitState::Idle);
}

#[test]
fn a_batch_job_has_no_watermark_before_the_end() {
    let mut f = Fixture::of(&spec(), 1, &Arc::default(), true);
    assert_eq!(f.rows(0, &[20, 40]), "20 40");
    f.ms = 100_000;
    assert_eq!(f.wake(), "");
    assert_eq!(f.above(Watermark::MAX), format!("w{}", i64::MAX));
}

#[test]
fn the_least_of_the_splits_counts_until_it_ends() {
    let mut f = Fixture::new(&spec(), 2);
    assert_eq!(f.rows(0, &[100]), "100", "the other has not begun");
    assert_eq!(f.rows(1, &[50]), "50 w39");
    assert_eq!(f.rows(0, &[200]), "200");
    f.splits.end(1);
    assert_eq!(f.wake(), "w189");
}

#[test]
fn a_silent_split_is_idle_but_not_while_the_task_is_held_up() {
    let spec = Timestamps {
        idle_ms: Some(50),
        ..spec()
    };
    let mut f = Fixture::new(&spec, 2);
    f.rows(0, &[100]);
    f.rows(1, &[50]);
    f.ms = 20;
    f.splits.block(Monotonic(20_000_000));
    f.ms = 80;
    f.splits.unblock(Monotonic(80_000_000));
    assert_eq!(f.wake(), "", "sixty of the eighty do not count");
    let due = Wakeup::Monotonic(Monotonic(110_000_000));
    assert_eq!(f.operator.next_wake(), Some(due));
    f.ms = 100;
    f.rows(0, &[200]);
    f.ms = 110;
    assert_eq!(f.wake(), "w189");
    f.ms = 150;
    assert_eq!(f.wake(), "Idle");
    assert_eq!(
        f.rows(1, &[60]),
        "Active 60",
        "it holds again, but nothing goes back"
    );
    assert_eq!(f.rows(0, &[300]), "300");
    assert_eq!(f.rows(1, &[320]), "320 w289");
}

#[test]
fn a_fast_split_waits_for_the_others_of_the_job_and_is_never_idle_meanwhile() {
    let spec = Timestamps {
        idle_ms: Some(50),
        drift_ms: Some(100),
        ..spec()
    };
    let alignment = Arc::default();
    let mut fast = Fixture::of(&spec, 2, &alignment, false);
    let mut slow = Fixture::of(&spec, 1, &alignment, false);
    assert_eq!(fast.alignment.least(), Some(Watermark::MIN));
    fast.rows(0, &[111]);
    fast.rows(1, &[120]);
    assert!(fast.splits.is_paused(0) && fast.splits.all_paused());
    slow.rows(0, &[11]);
    fast.ms = 10;
    slow.ms = 10;
    fast.wake();
    assert!(!fast.splits.is_paused(0), "100 is within 100 of 0");
    assert!(fast.splits.is_paused(1));
    fast.ms = 70;
    assert_eq!(
        fast.wake(),
        "w109",
        "the one that was read is idle, the paused one not"
    );
    slow.rows(0, &[30]);
    fast.ms = 80;
    fast.wake();
    assert!(!fast.splits.is_paused(1));
    fast.ms = 129;
    assert_eq!(fast.wake(), "", "its clock began when it was let go");
    fast.ms = 130;
    assert_eq!(fast.wake(), "Idle");
}

#[test]
fn a_timestamp_years_ahead_is_taken_and_told() {
    let year = 366 * 86_400_000;
    let mut f = Fixture::new(&spec(), 1);
    f.now = 100 * year;
    f.rows(0, &[1_000]);
    assert_eq!(f.operator.watch().last_leap(), None);
    assert_eq!(
        f.rows(0, &[3 * year]),
        format!("{} w{}", 3 * year, 3 * year - 11)
    );
    let leap = f.operator.watch().last_leap().unwrap();
    assert_eq!((leap.count, leap.from, leap.to), (1, Some(1_000), 3 * year));
}

mod saved {
    use super::*;
    use crate::snapshot::RestoreFrom;
    use crate::snapshot::memory::{MemorySnapshot, MemoryTask, checkpoint};
    use pelton_model::key::KeyGroupRange;

    impl Fixture {
        fn named(spec: &Timestamps, names: &[&str]) -> Self {
            let mut fixture = Self::new(spec, 0);
            let names = names.iter().map(|n| (*n).to_owned()).collect();
            let schema = Schema::new(vec![Field::new("t", DataType::Timestamp)]);
            fixture.splits = Splits::new(names);
            let splits = Arc::clone(&fixture.splits);
            let alignment = Arc::default();
            fixture.operator =
                TimestampsOperator::new(spec, &schema, &schema, splits, &alignment, false).unwrap();
            fixture
        }

        fn saved(&mut self, index: u32) -> MemoryTask<'static> {
            let (snapshot, mut writer) = MemorySnapshot::new();
            writer.operator("t");
            self.operator.snapshot(None, &mut writer).unwrap();
            writer.finish();
            MemoryTask {
                index,
                key_groups: (index * 64, index * 64 + 64),
                operators: &["t"],
                snapshot,
            }
        }

        fn restored(mut self, from: &RestoreFrom, part: (u32, u32)) -> Self {
            let restored = from.operator("t", part, KeyGroupRange { start: 0, end: 128 });
            self.with(Watermark::MIN, |op, cx| op.restore(&restored, cx));
            self
        }
    }

    #[test]
    fn watermarks_go_on_from_where_each_split_was() {
        let rows: [(usize, &[i64]); 6] = [
            (0, &[50, 40]),
            (1, &[30]),
            (1, &[70]),
            (0, &[45]),
            (0, &[61]),
            (1, &[65, 90]),
        ];
        for emit in [Emit::Batch, Emit::Row] {
            let spec = Timestamps { emit, ..spec() };
            let mut undisturbed = Fixture::new(&spec, 2);
            let want: Vec<String> = rows.iter().map(|(s, t)| undisturbed.rows(*s, t)).collect();
            for at in 0..rows.len() {
                let (first, rest) = rows.split_at(at);
                let mut before = Fixture::new(&spec, 2);
                let mut seen: Vec<String> = first.iter().map(|(s, t)| before.rows(*s, t)).collect();
                let from = checkpoint(128, &[before.saved(0)]).unwrap();
                let mut after = Fixture::new(&spec, 2).restored(&from, (0, 1));
                seen.extend(rest.iter().map(|(s, t)| after.rows(*s, t)));
                assert_eq!(seen, want, "a stop after {at}");
            }
        }
    }

    #[test]
    fn splits_are_found_by_name_wherever_they_are_read() {
        let spec = spec();
        let mut first = Fixture::named(&spec, &["a", "b"]);
        first.rows(0, &[100]);
        first.rows(1, &[200]);
        let mut second = Fixture::named(&spec, &["c"]);
        second.rows(0, &[300]);
        let from = checkpoint(128, &[first.saved(0), second.saved(1)]).unwrap();
        let mut one = Fixture::named(&spec, &["c", "b", "a"]).restored(&from, (0, 1));
        assert_eq!(
            one.rows(2, &[150]),
            "150 w139",
            "the others are at 200 and 300"
        );
        assert_eq!(one.rows(2, &[250]), "250 w189");
        let mut fresh = Fixture::named(&spec, &["c", "d"]).restored(&from, (1, 3));
        assert_eq!(
            fresh.rows(0, &[400]),
            "400",
            "of the new one no more is known than 100"
        );
        assert_eq!(fresh.rows(1, &[120]), "120 w109");
    }

    #[test]
    fn idle_splits_stay_idle_and_that_is_said() {
        let spec = Timestamps {
            idle_ms: Some(10),
            ..spec()
        };
        let mut before = Fixture::new(&spec, 2);
        before.rows(0, &[100]);
        before.rows(1, &[200]);
        before.ms = 5;
        before.rows(1, &[210]);
        before.ms = 12;
        assert_eq!(before.wake(), "w199", "the first split is idle");
        let from = checkpoint(128, &[before.saved(0)]).unwrap();
        let mut after = Fixture::new(&spec, 2).restored(&from, (0, 1));
        assert_eq!(after.rows(1, &[220]), "220 w209");
        before.ms = 20;
        assert_eq!(before.wake(), "Idle");
        let from = checkpoint(128, &[before.saved(0)]).unwrap();
        let mut after = Fixture::new(&spec, 2).restored(&from, (0, 1));
        assert!(after.operator.next_wake().is_some());
        assert_eq!(after.wake(), "Idle");
        assert_eq!(after.wake(), "");
        assert_eq!(after.rows(0, &[250]), "Active 250 w239");
    }

    #[test]
    fn the_clock_does_not_go_back() {
        let spec = Timestamps {
            times: Times::Ingestion,
            ..spec()
        };
        let mut before = Fixture::new(&spec, 1);
        before.now = 500;
        before.rows(0, &[0]);
        let from = checkpoint(128, &[before.saved(0)]).unwrap();
        let mut after = Fixture::new(&spec, 1).restored(&from, (0, 1));
        after.now = 400;
        assert_eq!(after.rows(0, &[0]), "500");
        after.now = 600;
        assert_eq!(after.rows(0, &[0]), "600 w589");
    }
}
