use super::*;

fn at(ms: u64) -> Monotonic {
    Monotonic(ms * 1_000_000)
}

fn restarts(strategy: RestartStrategy) -> Restarts {
    strategy.check().unwrap();
    Restarts::new(strategy)
}

/// In the middle: no jitter.
const EVEN: u64 = 1 << 63;

/// The pause in milliseconds, or none.
fn fails(restarts: &mut Restarts, ms: u64) -> Option<u64> {
    let error = Error::new(ErrorCode::Trap, "boom");
    match restarts.failed(at(ms), &error, EVEN) {
        Decision::Restart { after_ms } => Some(after_ms),
        Decision::GiveUp { .. } => None,
    }
}

fn why(restarts: &mut Restarts, ms: u64, code: ErrorCode) -> String {
    match restarts.failed(at(ms), &Error::new(code, "boom"), EVEN) {
        Decision::GiveUp { why } => why,
        restart => panic!("{restart:?}"),
    }
}

#[test]
fn none_gives_up_at_once() {
    let mut r = restarts(RestartStrategy::None);
    assert_eq!(why(&mut r, 0, ErrorCode::Trap), "restarts are switched off");
}

#[test]
fn fixed_delay_counts_all_failures() {
    let mut r = restarts(RestartStrategy::FixedDelay {
        attempts: 2,
        delay_ms: 50,
    });
    assert_eq!(fails(&mut r, 0), Some(50));
    assert_eq!(fails(&mut r, 1_000_000_000), Some(50));
    assert_eq!(r.count(), 2);
    assert_eq!(
        why(&mut r, 2_000_000_000, ErrorCode::Trap),
        "it was restarted 2 times"
    );
}

#[test]
fn the_failure_rate_forgets() {
    let mut r = restarts(RestartStrategy::FailureRate {
        failures_max: 2,
        interval_ms: 1_000,
        delay_ms: 5,
    });
    assert_eq!(fails(&mut r, 0), Some(5));
    assert_eq!(fails(&mut r, 600), Some(5));
    // The first one is a second ago: it does not count any more.
    assert_eq!(fails(&mut r, 1_000), Some(5));
    assert_eq!(
        why(&mut r, 1_500, ErrorCode::Trap),
        "it failed 3 times within 1000 ms"
    );
}

#[test]
fn delays_grow_to_the_longest_and_start_again_after_quiet() {
    let mut r = restarts(RestartStrategy::ExponentialDelay {
        initial_ms: 100,
        max_ms: 500,
        multiplier: 2.0,
        jitter: 0.0,
        reset_ms: 10_000,
        attempts: None,
    });
    let mut now = 0;
    for wants in [100, 200, 400, 500, 500, 500] {
        assert_eq!(fails(&mut r, now), Some(wants));
        now += 1_000;
    }
    // 5,000 + 500 is when it was started again: quiet from then on.
    assert_eq!(fails(&mut r, 15_499), Some(500));
    assert_eq!(fails(&mut r, 15_999 + 10_000), Some(100));
    assert_eq!(r.count(), 1);
}

#[test]
fn attempts_are_counted_since_the_last_quiet_run() {
    let mut r = restarts(RestartStrategy::ExponentialDelay {
        initial_ms: 100,
        max_ms: 100,
        multiplier: 1.0,
        jitter: 0.0,
        reset_ms: 1_000,
        attempts: Some(2),
    });
    assert_eq!(fails(&mut r, 0), Some(100));
    assert_eq!(fails(&mut r, 500), Some(100));
    assert_eq!(
        fails(&mut r, 1_600),
        Some(100),
        "1,000 ms of quiet after 600"
    );
    assert_eq!(fails(&mut r, 1_800), Some(100));
    assert_eq!(
        why(&mut r, 2_000, ErrorCode::Trap),
        "it was restarted 2 times without 1000 ms of quiet"
    );
}

#[test]
fn jitter_is_a_part_of_the_pause_and_never_beyond_the_longest() {
    let strategy = RestartStrategy::ExponentialDelay {
        initial_ms: 1_000,
        max_ms: 1_050,
        multiplier: 1.5,
        jitter: 0.1,
        reset_ms: 1_000,
        attempts: None,
    };
    for (random, wants) in [(0, 900), (EVEN, 1_000), (EVEN / 2, 950), (u64::MAX, 1_050)] {
        let error = Error::new(ErrorCode::Io, "boom");
        let decision = restarts(strategy.clone()).failed(at(0), &error, random);
        assert_eq!(decision, Decision::Restart { after_ms: wants });
    }
}

#[test]
fn what_no_restart_can_mend_is_final() {
    let strategy = || {
        restarts(RestartStrategy::FixedDelay {
            attempts: 9,
            delay_ms: 1,
        })
    };
    use ErrorCode::*;
    for code in [
        WrongJob,
        Fenced,
        StateMismatch,
        Usage,
        GraphInvalid,
        GraphDiffers,
        NotReplayable,
        UnknownConnector,
        BadParam,
        ComponentTooLarge,
        Cancelled,
    ] {
        let said = why(&mut strategy(), 0, code);
        assert_eq!(said, format!("a restart does not mend '{}'", code.title()));
    }
    for code in [
        Trap,
        CpuLimit,
        BadRecord,
        OutputFailed,
        StoreUnavailable,
        StoreFailed,
        CheckpointFailed,
        Corrupt,
        Bug,
    ] {
        let error = Error::new(code, "boom");
        let decision = strategy().failed(at(0), &error, 0);
        assert_eq!(decision, Decision::Restart { after_ms: 1 }, "{code}");
    }
}

#[test]
fn numbers_that_make_no_sense_are_refused() {
    let growing = |initial_ms, multiplier, jitter| RestartStrategy::ExponentialDelay {
        initial_ms,
        max_ms: 10,
        multiplier,
        jitter,
        reset_ms: 0,
        attempts: None,
    };
    let rate = RestartStrategy::FailureRate {
        failures_max: 1,
        interval_ms: 0,
        delay_ms: 0,
    };
    for wrong in [
        growing(0, 2.0, 0.0),
        growing(11, 2.0, 0.0),
        growing(1, 0.5, 0.0),
        growing(1, f64::NAN, 0.0),
        growing(1, 2.0, 1.1),
        growing(1, 2.0, f64::NAN),
        rate,
    ] {
        assert_eq!(wrong.check().unwrap_err().code(), ErrorCode::Usage);
    }
    assert!(RestartStrategy::default().check().is_ok());
}
