//! Retries under a clock that only moves when somebody sleeps.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::Memory;
use crate::faults::{Faults, Faulty, splitmix};

/// Sleeps at once, and remembers it.
#[derive(Default)]
struct FakePace {
    pauses: Mutex<Vec<Duration>>,
    random: Mutex<u64>,
}

impl FakePace {
    fn pauses(&self) -> Vec<u64> {
        let pauses = self.pauses.lock().unwrap();
        pauses.iter().map(|p| p.as_millis() as u64).collect()
    }
}

impl Pace for FakePace {
    fn now(&self) -> Duration {
        self.pauses.lock().unwrap().iter().sum()
    }

    fn sleep(&self, pause: Duration) {
        self.pauses.lock().unwrap().push(pause);
    }

    fn random(&self) -> u64 {
        splitmix(&mut self.random.lock().unwrap())
    }
}

const POLICY: RetryPolicy = RetryPolicy {
    attempts_max: 5,
    pause_ms: 100,
    pause_ms_max: 300,
    total_ms_max: 10_000,
};

/// A store whose `put_new` and `get` answer by a script.
struct Scripted {
    store: Memory,
    /// What each request does, the last one for ever.
    script: Vec<Answer>,
    next: AtomicU32,
}

#[derive(Clone, Copy, PartialEq)]
enum Answer {
    Done,
    Failed,
    ReplyLost,
    Refused,
    /// Another process is first, then ours fails without a trace.
    Overtaken,
}

impl Scripted {
    fn answer<T>(&self, call: impl FnOnce() -> Result<T>) -> Result<T> {
        let next = self.next.fetch_add(1, Ordering::Relaxed) as usize;
        let answer = self.script[next.min(self.script.len() - 1)];
        let error = |code| Err(Error::new(code, "no"));
        match answer {
            Answer::Done => call(),
            Answer::Failed => error(ErrorCode::StoreUnavailable),
            Answer::Refused => error(ErrorCode::StoreFailed),
            Answer::ReplyLost => call().and_then(|_| error(ErrorCode::StoreUnavailable)),
            Answer::Overtaken => {
                self.store.put("a", b"theirs").unwrap();
                error(ErrorCode::StoreUnavailable)
            }
        }
    }
}

impl Blobs for Scripted {
    fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.answer(|| self.store.put(name, bytes))
    }
    fn put_new(&self, name: &str, bytes: &[u8]) -> Result<PutNew> {
        self.answer(|| self.store.put_new(name, bytes))
    }
    fn get(&self, name: &str) -> Result<Vec<u8>> {
        self.answer(|| self.store.get(name))
    }
    fn get_range(&self, name: &str, offset: u64, length: u64) -> Result<Vec<u8>> {
        self.answer(|| self.store.get_range(name, offset, length))
    }
    fn put_file(&self, _: &str, _: &Path) -> Result<()> {
        unreachable!()
    }
    fn read(&self, _: &str) -> Result<Box<dyn Read + Send>> {
        unreachable!()
    }
    fn get_file(&self, _: &str, _: &Path) -> Result<()> {
        unreachable!()
    }
    fn list(&self, _: &str) -> Result<Vec<BlobInfo>> {
        unreachable!()
    }
    fn delete(&self, _: &str) -> Result<()> {
        unreachable!()
    }
}

/// Puts "ours" under a name by the script: what comes of it, how many requests there were, what is there.
fn put_new(script: &[Answer]) -> (Result<PutNew, ErrorCode>, u32, Option<Vec<u8>>) {
    let scripted = Arc::new(Scripted {
        store: Memory::new(),
        script: script.to_vec(),
        next: AtomicU32::new(0),
    });
    let retrying = Retrying::new(scripted.clone(), POLICY, Arc::new(FakePace::default()));
    let made = retrying.put_new("a", b"ours").map_err(|e| e.code());
    (
        made,
        scripted.next.load(Ordering::Relaxed),
        scripted.store.get("a").ok(),
    )
}

#[test]
fn a_new_object_whose_reply_is_lost_is_ours() {
    use Answer::{Done, Failed, Overtaken, Refused, ReplyLost};
    let ours = Some(b"ours".to_vec());
    let theirs = Some(b"theirs".to_vec());
    for (script, made, requests, there) in [
        (&[Done][..], Ok(PutNew::Created), 1, &ours),
        (&[Failed, Done], Ok(PutNew::Created), 2, &ours),
        // The second put finds one, and it is read back: put, put, get.
        (&[ReplyLost, Done], Ok(PutNew::Created), 3, &ours),
        (
            &[ReplyLost, Failed, Failed, Done],
            Ok(PutNew::Created),
            5,
            &ours,
        ),
        // It cannot be read back at once: put, put, get, put, get.
        (
            &[ReplyLost, Done, Failed, Done],
            Ok(PutNew::Created),
            5,
            &ours,
        ),
        (&[Overtaken, Done], Ok(PutNew::Exists), 3, &theirs),
        (
            &[Failed, Overtaken, ReplyLost, Done],
            Ok(PutNew::Exists),
            5,
            &theirs,
        ),
        (&[Refused], Err(ErrorCode::StoreFailed), 1, &None),
        (&[Failed, Refused], Err(ErrorCode::StoreFailed), 2, &None),
        (&[ReplyLost], Err(ErrorCode::StoreUnavailable), 5, &ours),
    ] {
        let got = put_new(script);
        assert_eq!(got.0, made, "{requests}");
        assert_eq!((got.1, &got.2), (requests, there));
    }
}

#[test]
fn what_exists_before_the_first_try_is_not_ours_even_if_equal() {
    let memory = Arc::new(Memory::new());
    memory.put("a", b"ours").unwrap();
    let retrying = Retrying::new(memory, POLICY, Arc::new(FakePace::default()));
    assert_eq!(retrying.put_new("a", b"ours").unwrap(), PutNew::Exists);
}

#[test]
fn pauses_double_up_to_a_bound_and_vary() {
    let largest = |failed| {
        (0..10_000)
            .map(|r| POLICY.pause(failed, r).as_millis())
            .max()
    };
    assert_eq!(
        [1, 2, 3, 4, 60, 64, 65, u32::MAX].map(largest),
        [100, 200, 300, 300, 300, 300, 300, 300].map(Some)
    );
    assert_eq!(POLICY.pause(1, 101 * 7), Duration::ZERO);
    let none = RetryPolicy {
        pause_ms: 0,
        ..POLICY
    };
    assert_eq!(none.pause(3, u64::MAX), Duration::ZERO);
    let long = RetryPolicy {
        pause_ms: u64::MAX,
        pause_ms_max: u64::MAX,
        ..POLICY
    };
    assert_eq!(long.pause(9, 5), Duration::from_millis(5));
}

fn unavailable(policy: RetryPolicy) -> (Error, Arc<FakePace>) {
    let pace = Arc::new(FakePace::default());
    let faults = Faults {
        fail_per_mille: 1_000,
        ..Faults::default()
    };
    let faulty = Arc::new(Faulty::new(Arc::new(Memory::new()), faults, 1));
    let retrying = Retrying::new(faulty, policy, pace.clone());
    (retrying.get("a").unwrap_err(), pace)
}

#[test]
fn attempts_are_bounded() {
    let (e, pace) = unavailable(POLICY);
    assert_eq!(e.code(), ErrorCode::StoreUnavailable);
    assert!(e.to_string().ends_with("after tries 5"), "{e}");
    let pauses = pace.pauses();
    assert_eq!(pauses.len(), 4);
    assert!(
        pauses
            .iter()
            .zip([100, 200, 300, 300])
            .all(|(pause, bound)| *pause <= bound),
        "{pauses:?}"
    );
    assert!(pauses.iter().any(|pause| *pause > 0));
    let (e, pace) = unavailable(RetryPolicy {
        attempts_max: 0,
        ..POLICY
    });
    assert!(e.to_string().ends_with("after tries 1") && pace.pauses().is_empty());
}

#[test]
fn the_time_is_bounded() {
    let (_, pace) = unavailable(RetryPolicy {
        attempts_max: u32::MAX,
        total_ms_max: 2_000,
        ..POLICY
    });
    let total: u64 = pace.pauses().iter().sum();
    assert!((1_700..=2_000).contains(&total), "{total}");
}

#[test]
fn a_third_of_all_requests_may_fail() {
    for seed in 0..5 {
        let memory: Arc<dyn Blobs> = Arc::new(Memory::new());
        let faults = Faults {
            fail_per_mille: 300,
            lose_reply_per_mille: 100,
        };
        let faulty = Arc::new(Faulty::new(memory, faults, seed));
        let policy = RetryPolicy {
            attempts_max: 30,
            total_ms_max: u64::MAX,
            ..POLICY
        };
        let store: Arc<dyn Blobs> = Arc::new(Retrying::new(
            faulty.clone(),
            policy,
            Arc::new(FakePace::default()),
        ));
        crate::contract::check(&store);
        let fired = faulty.fired();
        assert!(
            fired.failed * 4 > fired.requests && fired.replies_lost > 5,
            "{fired:?}"
        );
    }
}

#[test]
fn the_same_seed_fails_in_the_same_places() {
    let run = |seed| {
        let faults = Faults {
            fail_per_mille: 300,
            lose_reply_per_mille: 300,
        };
        let faulty = Faulty::new(Arc::new(Memory::new()), faults, seed);
        let failed: Vec<_> = (0..100)
            .map(|i| faulty.put(&format!("{i}"), b"").is_err())
            .collect();
        faulty.set(Faults::default());
        faulty.put("after", b"").unwrap();
        failed
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[test]
fn a_reader_goes_on_where_it_broke() {
    let scripted = Arc::new(Scripted {
        store: Memory::new(),
        script: vec![
            Answer::Done,
            Answer::Done,
            Answer::Failed,
            Answer::Failed,
            Answer::Done,
        ],
        next: AtomicU32::new(0),
    });
    let bytes: Vec<u8> = (0..2 * READ_BYTES).map(|i| (i % 249) as u8).collect();
    scripted.put("a", &bytes).unwrap();
    let retrying = Retrying::new(scripted.clone(), POLICY, Arc::new(FakePace::default()));
    let mut read = Vec::new();
    retrying.read("a").unwrap().read_to_end(&mut read).unwrap();
    assert!(read == bytes);
    // The put, three ranges, the last of them empty, two failures.
    assert_eq!(scripted.next.load(Ordering::Relaxed), 6);
}
