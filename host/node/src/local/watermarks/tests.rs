use pelton_engine::splits::Splits;
use pelton_model::graph::{Connector, Edge, Emit, Operator, Partition, Times, Timestamps};
use pelton_model::id::ChainId;
use pelton_model::schema::Schema;
use pelton_model::watermark::Watermark;

use super::*;

const SECOND: u64 = 1_000_000_000;

fn graph() -> JobGraph {
    let operator = |name: &str, body| Operator {
        uid: name.into(),
        name: name.into(),
        parallelism: None,
        body,
        outputs: vec![],
    };
    let connector = || Connector {
        name: "files".into(),
        options: BTreeMap::new(),
        schema: Schema::default(),
    };
    let times = Timestamps {
        times: Times::Given,
        watermarks: Watermarks::Monotonous,
        emit: Emit::Batch,
        idle_ms: None,
        drift_ms: None,
    };
    let edge = |from, to| Edge {
        source: (OperatorId(from), 0),
        target: (OperatorId(to), 0),
        partition: Partition::Forward,
    };
    JobGraph {
        name: "j".into(),
        operators: vec![
            operator("lines", Body::Source(connector())),
            operator("timestamps", Body::Timestamps(times)),
            operator("out", Body::Sink(connector())),
        ],
        edges: vec![edge(0, 1), edge(1, 2)],
        params: vec![],
        parallelism: None,
        max_parallelism: None,
    }
}

/// The explanation at 100 s of a job of one task that reads two splits since 90 s.
fn explained(set: impl FnOnce(&SplitWatch)) -> Explanation {
    let counters = OperatorMetrics::new();
    let watch = SplitWatch::new(Splits::new(vec!["a".into(), "b".into()]));
    watch.begin(Monotonic(90 * SECOND));
    for gauge in &watch.gauges {
        gauge.set(SplitState::Active);
        gauge.rows(Watermark(5_000), Monotonic(100 * SECOND));
    }
    set(&watch);
    counters.splits.set(watch).unwrap();
    let task = TaskId {
        chain: ChainId(0),
        index: 0,
    };
    let metrics = vec![(task, BTreeMap::from([(OperatorId(1), counters)]))];
    explain(&graph(), &metrics, Monotonic(100 * SECOND))
}

/// As above, the second split being as `set` makes it.
fn holder(set: impl FnOnce(&SplitWatch, &SplitGauge)) -> Holder {
    let all = explained(|watch| {
        watch.gauges[0].rows(Watermark(9_000), Monotonic(100 * SECOND));
        set(watch, &watch.gauges[1]);
    });
    let [holder] = all.held_by.as_slice() else {
        panic!("one operator makes watermarks")
    };
    holder.clone()
}

#[test]
fn the_split_that_holds_is_named_with_the_reason() {
    let h = holder(|_, _| {});
    assert_eq!(
        (h.why, h.watermark, h.place().as_str()),
        ("behind", Some(5_000), "'lines' split b")
    );

    let h = holder(|_, _| {});
    assert_eq!(h.for_ms, 0);
    let h = holder(|watch, _| watch.splits.block(Monotonic(97 * SECOND)));
    assert_eq!(
        (h.why, h.reason.as_str()),
        (
            "back-pressured",
            "the operators below have taken nothing for 3.0 s"
        )
    );
    let h = holder(|_, g| g.set(SplitState::Paused));
    assert_eq!(h.why, "paused");
    let h = holder(|_, g| g.set(SplitState::Idle));
    assert_eq!((h.why, h.place().as_str()), ("behind", "'lines' split a"));
}

#[test]
fn silence_is_told_with_its_length() {
    let silent = SplitWatch::new(Splits::new(vec!["a".into()]));
    silent.begin(Monotonic(90 * SECOND));
    let described = Described {
        name: "timestamps",
        sources: vec![],
        generated: false,
        never: false,
        now: Monotonic(100 * SECOND),
    };
    let h = described.holder(&[(3, &silent)]).unwrap();
    assert_eq!(
        (h.why, h.watermark, h.for_ms),
        ("never-started", None, 10_000)
    );
    assert_eq!(h.place(), "'timestamps' task 3");
    silent.gauges[0].set(SplitState::Active);
    silent.gauges[0].rows(Watermark(7), Monotonic(96 * SECOND));
    let h = described.holder(&[(3, &silent)]).unwrap();
    assert_eq!((h.why, h.watermark, h.for_ms), ("no-data", Some(7), 4_000));
    assert_eq!(h.reason, "no row for 4.0 s");
    let never = Described {
        never: true,
        now: Monotonic(96 * SECOND),
        ..described
    };
    let h = never.holder(&[(3, &silent)]).unwrap();
    assert_eq!((h.why, h.watermark), ("no-interval", Some(7)));
    let described = Described {
        never: false,
        now: Monotonic(100 * SECOND),
        ..never
    };
    silent.gauges[0].set(SplitState::Idle);
    assert_eq!(described.holder(&[(3, &silent)]).unwrap().why, "idle");
    silent.gauges[0].set(SplitState::Ended);
    assert_eq!(described.holder(&[(3, &silent)]), None);
}

#[test]
fn a_timestamp_far_ahead_is_named() {
    let all = explained(|watch| watch.leap(1, 1_700_000_000_000, 4_000_000_000_000));
    let [far] = all.far_ahead.as_slice() else {
        panic!("one")
    };
    assert_eq!(
        far.to_string(),
        "'lines' split b gave a timestamp far ahead, 2096-10-02T07:06:40.000Z, after 2023-11-14T22:13:20.000Z: what is before it is late"
    );
}
