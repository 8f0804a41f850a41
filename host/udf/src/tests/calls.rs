//! Calls: what goes in and comes back, limits, traps, and whom they are blamed on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use pelton_engine::function::{Functions, KeyedRows, Segment, Slots};
use pelton_model::limits::Limits;
use pelton_model::schema::{DataType, Field, Schema};
use pelton_model::{Error, ErrorCode};

use super::guest::{Guest, ROWS, VALUES, failure, ok, output, reply, store, store64};
use super::{AT, column, context, limits, load, logged, open, rows, spec, value_state};
use crate::{LogLevel, LogSink};

/// Goes over the values in place, as `$i`, and does `each`.
fn over_values(each: &str) -> String {
    format!(
        "(local.set $i ({VALUES}))
         (local.set $n (i32.add (local.get $i) (i32.mul ({ROWS}) (i32.const 8))))
         (block $end (loop $next
            (br_if $end (i32.ge_u (local.get $i) (local.get $n)))
            {each}
            (local.set $i (i32.add (local.get $i) (i32.const 8)))
            (br $next)))"
    )
}

/// `x` becomes `2 * x`.
fn double() -> Guest {
    let each = "(i64.store (local.get $i) (i64.mul (i64.load (local.get $i)) (i64.const 2)))";
    let body = format!(
        "{}{}{}",
        over_values(each),
        output(ROWS, VALUES, 8),
        reply(1, ROWS)
    );
    Guest::new().body("transform", body)
}

/// As [`double`], but does `bad` at the value 999.
fn bad_at_999(bad: &str) -> Guest {
    let each = format!("(if (i64.eq (i64.load (local.get $i)) (i64.const 999)) (then {bad}))");
    let body = format!(
        "{}{}{}",
        over_values(&each),
        output(ROWS, VALUES, 8),
        reply(1, ROWS)
    );
    Guest::new().body("transform", body)
}

fn stopped(guest: &Guest, limits: Limits, values: i64) -> (Error, Box<dyn Functions>, Segment) {
    let (mut functions, segment) = open(guest, limits);
    let columns = [column(0..values)];
    let error = functions
        .transform(segment, AT, rows(&columns))
        .unwrap_err();
    (error, functions, segment)
}

#[track_caller]
fn has(error: &Error, code: ErrorCode, words: &[&str]) {
    let text = error.to_string();
    assert_eq!(error.code(), code, "{text}");
    for word in words {
        assert!(text.contains(word), "'{word}' is not in: {text}");
    }
}

#[test]
fn columns_go_in_and_come_back() {
    let (mut functions, segment) = open(&double(), limits());
    for n in [0, 1, 7, 1_024, 8_192] {
        let whole = column(0..n + 10);
        for (columns, first) in [([column(0..n)], 0), ([whole.slice(10, n as usize)], 10)] {
            let reply = functions.transform(segment, AT, rows(&columns)).unwrap();
            assert_eq!(
                (reply.consumed, reply.step_rows),
                (n as usize, vec![n as u32])
            );
            let [out] = reply.outputs.try_into().unwrap();
            let got = out.columns[0].as_primitive::<Int64Type>();
            assert!(
                got.values()
                    .iter()
                    .copied()
                    .eq((first..first + n).map(|x| 2 * x))
            );
        }
    }
}

#[test]
fn a_trap_names_the_function_and_the_row() {
    let (error, mut functions, segment) = stopped(&bad_at_999("unreachable"), limits(), 2_000);
    has(
        &error,
        ErrorCode::Trap,
        &["function 'double' trapped", "unreachable", "row 999"],
    );
    assert!(
        error
            .detail_text()
            .is_some_and(|d| d.contains("f_transform")),
        "{error:?}"
    );

    let columns = [column(0..1)];
    let error = functions
        .transform(segment, AT, rows(&columns))
        .unwrap_err();
    has(&error, ErrorCode::Trap, &["the instance is gone"]);
    assert!(functions.prepare(&spec()).is_err());
}

#[test]
fn a_trap_is_traced_in_a_chain_to_its_function() {
    // The host prepares beginnings of the chain: the guest traps from two functions on.
    let guest = bad_at_999("(if (i32.ge_u (global.get $steps) (i32.const 2)) (then unreachable))")
        .item("(global $steps (mut i32) (i32.const 0))")
        .body(
            "prepare",
            format!(
                "(global.set $steps (local.get 1)) {} {}",
                ok(),
                store(4, "i32.const 0")
            ),
        );
    let mut functions = load(&guest).instance(context(limits())).unwrap();
    let mut spec = spec();
    spec.names = ["read", "split", "count"].map(String::from).to_vec();
    spec.functions = vec![spec.functions[0]; 3];
    let segment = functions.prepare(&spec).unwrap();
    let columns = [column(0..2_000)];
    let error = functions
        .transform(segment, AT, rows(&columns))
        .unwrap_err();
    has(
        &error,
        ErrorCode::Trap,
        &["function 'split' trapped", "row 999"],
    );
}

#[test]
fn a_trap_that_does_not_come_again_has_no_row() {
    // Only the instance that has seen an earlier call traps.
    let guest = bad_at_999("(if (global.get $seen) (then unreachable))")
        .item("(global $seen (mut i32) (i32.const 0))");
    let guest = guest.body(
        "merge",
        format!("(global.set $seen (i32.const 1)) {}", failure(0, 0)),
    );
    let mut functions = load(&guest).instance(context(limits())).unwrap();
    let mut spec = spec();
    spec.accumulator = Some(Schema::default());
    let segment = functions.prepare(&spec).unwrap();
    let none = Slots {
        rows: 0,
        present: None,
        columns: vec![],
    };
    functions.merge(segment, &none, &none).unwrap_err();
    let columns = [column(0..2_000)];
    let error = functions
        .transform(segment, AT, rows(&columns))
        .unwrap_err();
    has(&error, ErrorCode::Trap, &["function 'double'"]);
    assert!(
        error.places().iter().all(|(label, _)| *label == "operator"),
        "{error}"
    );
}

#[test]
fn a_loop_is_stopped_and_its_range_named() {
    let (error, ..) = stopped(&bad_at_999("(loop $l (br $l))"), limits(), 2_000);
    has(
        &error,
        ErrorCode::CpuLimit,
        &["function 'double'", "20 ms", "rows 0 to 1999"],
    );
}

#[test]
fn memory_is_bounded_and_the_row_named() {
    let grow = "(loop $l (drop (memory.grow (i32.const 16))) (br $l))";
    let (error, ..) = stopped(&bad_at_999(grow), limits(), 2_000);
    has(
        &error,
        ErrorCode::MemoryLimit,
        &["16777216 are allowed", "row 999"],
    );
}

#[test]
fn recursion_is_bounded() {
    let guest = bad_at_999("(drop (call $deep (i32.const 0)))").item(
        "(func $deep (param i32) (result i32) (i32.add (i32.const 1) (call $deep (local.get 0))))",
    );
    let (error, ..) = stopped(&guest, limits(), 1_000);
    has(&error, ErrorCode::StackLimit, &["row 999"]);
}

#[test]
fn output_is_bounded_at_once_or_when_it_is_counted() {
    let few = Limits {
        output_bytes_max: 4_000,
        ..limits()
    };
    let (error, ..) = stopped(&double(), few, 2_000);
    has(
        &error,
        ErrorCode::OutputLimit,
        &["4000 are allowed", "row 500"],
    );
    // 64 MiB at once are not even copied.
    let huge = Guest::new().body(
        "transform",
        format!(
            "(drop (memory.grow (i32.const 200))) {} {}",
            output("i32.const 1048576", "i32.const 0", 8),
            reply(1, ROWS)
        ),
    );
    let small = Limits {
        output_bytes_max: 1 << 20,
        ..limits()
    };
    let (error, ..) = stopped(&huge, small, 1);
    has(&error, ErrorCode::OutputLimit, &["function 'double'"]);
}

#[test]
fn a_cancelled_call_ends() {
    let flag = Arc::new(AtomicBool::new(false));
    let mut context = context(Limits {
        cpu_ms_per_call: 60_000,
        ..limits()
    });
    context.cancel = Some(flag.clone());
    let guest = bad_at_999("(loop $l (br $l))");
    let mut functions = load(&guest).instance(context).unwrap();
    let segment = functions.prepare(&spec()).unwrap();
    flag.store(true, Ordering::Relaxed);
    let columns = [column(0..1_000)];
    let error = functions
        .transform(segment, AT, rows(&columns))
        .unwrap_err();
    has(&error, ErrorCode::Cancelled, &["was cancelled"]);
}

#[test]
fn a_failure_is_the_authors_own() {
    let guest = Guest::new()
        .item("(data (i32.const 1024) \"nope\")")
        .body("transform", failure(1024, 3));
    let (error, mut functions, segment) = stopped(&guest, limits(), 10);
    has(
        &error,
        ErrorCode::UserError,
        &["function 'double' failed: nope", "row 3"],
    );
    let columns = [column(0..1)];
    let error = functions
        .transform(segment, AT, rows(&columns))
        .unwrap_err();
    has(&error, ErrorCode::UserError, &["nope"]);
}

#[test]
fn answers_that_break_the_contract_are_refused() {
    let answer = |body: String| Guest::new().body("transform", body);
    let check = |guest: Guest, word: &str| {
        let (error, ..) = stopped(&guest, limits(), 10);
        has(
            &error,
            ErrorCode::BadReply,
            &["function 'double' gave an answer that", word],
        );
    };
    let one = |rows: &str| format!("{}{}", output(rows, VALUES, 8), reply(1, ROWS));
    check(
        answer(one("i32.const 3")),
        "3 rows without parents where 10 rows are done",
    );
    check(
        answer(format!("{}{}", one(ROWS), store(4, "i32.const 11"))),
        "11 rows of 10 are done",
    );
    check(
        answer(format!("{}{}", one(ROWS), store(4, "i32.const 0"))),
        "no row is done",
    );
    check(
        answer(format!("{}{}", one(ROWS), store(20, "i32.const 0"))),
        "counts the rows of 0",
    );
    let port = "(i32.store (i32.const 516) (i32.const 1))";
    check(
        answer(format!("{}{port}", one(ROWS))),
        "there is no such stream",
    );
    let short = "(i32.store (i32.const 672) (i32.const 72))";
    check(
        answer(format!("{}{short}", one(ROWS))),
        "72 bytes where 10 values",
    );
    let parents =
        "(i32.store (i32.const 524) (i32.const 1)) (i32.store (i32.const 528) (i32.const 2048))
        (i32.store (i32.const 532) (i32.const 40)) (i32.store (i32.const 2048) (i32.const 10))";
    check(
        answer(format!("{}{parents}", one(ROWS))),
        "parent row 10 where 10 rows are done",
    );
    let nulls =
        "(i32.store (i32.const 640) (i32.const 1)) (i32.store (i32.const 644) (i32.const 2048))
        (i32.store (i32.const 648) (i32.const 2))";
    check(
        answer(format!("{}{nulls}", one(ROWS))),
        "10 nulls, but may not be null",
    );
}

#[test]
fn an_instance_must_describe_the_same_job() {
    let guest = Guest::new().body("open", format!("{} {}", ok(), store64(8, "i64.const 8")));
    let error = load(&guest).instance(context(limits())).err().unwrap();
    has(&error, ErrorCode::GraphDiffers, &["another graph"]);
    let guest = Guest::new().body("open", "unreachable");
    let error = load(&guest).instance(context(limits())).err().unwrap();
    has(
        &error,
        ErrorCode::Trap,
        &["while its functions were opened"],
    );
}

#[test]
fn a_keyed_call_answers_states_and_timers() {
    // marks at 2048: unchanged, set; the new value of the second key is 5; a timer for key 1 at 70, to be deleted.
    let word = |at: u32, value: u32| format!("(i32.store (i32.const {at}) (i32.const {value}))");
    let body = [
        ok(),
        store(4, "i32.const 3"),
        store(8, "i32.const 512"),
        store(12, "i32.const 0"),
        store(16, "i32.const 600"),
        store(20, "i32.const 1"),
        store(24, "i32.const 1"),
        store(28, "i32.const 2064"),
        store(32, "i32.const 4"),
        store(36, "i32.const 2072"),
        store(40, "i32.const 8"),
        store(44, "i32.const 2080"),
        store(48, "i32.const 1"),
        word(600, 0),
        word(604, 2048),
        word(608, 2),
        word(612, 0),
        word(616, 0),
        word(620, 0),
        word(624, 0),
        word(628, 0),
        word(656, 1),
        word(660, 0),
        word(672, 700),
        word(676, 1),
        word(700, 0),
        word(712, 0),
        word(724, 1),
        word(728, 2056),
        word(732, 8),
    ];
    let guest = Guest::new()
        .item(r#"(data (i32.const 2048) "\00\01")"#)
        .item(r#"(data (i32.const 2056) "\05\00\00\00\00\00\00\00")"#)
        .item(r#"(data (i32.const 2064) "\01\00\00\00")"#)
        .item(r#"(data (i32.const 2072) "\46\00\00\00\00\00\00\00")"#)
        .item(r#"(data (i32.const 2080) "\01")"#)
        .body("process", body.concat());
    let mut functions = load(&guest).instance(context(limits())).unwrap();
    let mut spec = spec();
    spec.key = vec![Field::new("x", DataType::I64)];
    spec.states = vec![value_state("sum")];
    let segment = functions.prepare(&spec).unwrap();
    let columns = [column([8, 9, 8])];
    let slots = |values: [i64; 2]| Slots {
        rows: 2,
        present: None,
        columns: vec![column(values)],
    };
    let (keys, states) = (slots([8, 9]), [slots([1, 2])]);
    let call = KeyedRows {
        input: 0,
        rows: rows(&columns),
        ordinals: &[0, 1, 0],
        keys: &keys,
        states: &states,
    };
    let reply = functions.process(segment, AT, &call, &mut None).unwrap();
    assert_eq!(reply.states[0].marks, [0, 1]);
    assert_eq!(
        reply.states[0].values.columns[0].as_ref(),
        column([5]).as_ref()
    );
    let timer = reply.timers[0];
    assert_eq!(
        (
            timer.ordinal,
            timer.time,
            timer.delete,
            timer.processing_time
        ),
        (1, 70, true, false)
    );
}

#[derive(Default)]
struct Kept(Mutex<(usize, usize, u64)>);

impl LogSink for Kept {
    fn line(&self, from: &str, level: LogLevel, text: &str) {
        assert_eq!((from, level), ("double", LogLevel::Warn));
        let mut kept = self.0.lock().unwrap();
        kept.0 += 1;
        kept.1 += text.len();
    }
    fn dropped(&self, _: &str, lines: u64) {
        self.0.lock().unwrap().2 += lines;
    }
}

#[test]
fn a_guest_that_logs_for_ever_is_heard_a_little_and_stopped() {
    let guest = Guest::new()
        .import("(import \"pelton:job/log@0.1.0\" \"write\" (func $write (param i32 i32 i32)))")
        .item("(data (i32.const 1024) \"hello\")")
        .body(
            "transform",
            "(loop $l (call $write (i32.const 1) (i32.const 1024) (i32.const 5)) (br $l))",
        );
    let kept = Arc::new(Kept::default());
    let limits = Limits {
        log_bytes_per_second: 600,
        ..limits()
    };
    let mut functions = load(&guest).instance(logged(limits, kept.clone())).unwrap();
    let segment = functions.prepare(&spec()).unwrap();
    let columns = [column(0..10)];
    let error = functions
        .transform(segment, AT, rows(&columns))
        .unwrap_err();
    has(&error, ErrorCode::CpuLimit, &["function 'double'"]);
    drop(functions);
    let (lines, bytes, dropped) = *kept.0.lock().unwrap();
    assert_eq!((lines, bytes), (100, 500));
    assert!(dropped > 0);
}

#[test]
fn metrics_are_kept_by_instance() {
    let guest = Guest::new()
        .import(
            "(import \"pelton:job/metrics@0.1.0\" \"register\" (func $register (param i32 i32 i32) (result i32)))",
        )
        .import("(import \"pelton:job/metrics@0.1.0\" \"update\" (func $update (param i32 i32)))")
        .item("(data (i32.const 1024) \"seen\")")
        .body(
            "transform",
            format!(
                "(i32.store (i32.const 2048) (call $register (i32.const 0) (i32.const 1024) (i32.const 4)))
                 (f64.store (i32.const 2056) (f64.const 2.5))
                 (call $update (i32.const 2048) (i32.const 1)) {}",
                reply(0, ROWS)
            ),
        );
    let (mut functions, segment) = open(&guest, limits());
    let columns = [column(0..10)];
    for _ in 0..2 {
        functions.transform(segment, AT, rows(&columns)).unwrap();
    }
    let [metric] = functions.metrics().try_into().unwrap();
    assert_eq!(
        (metric.name.as_str(), metric.gauge, metric.value),
        ("seen", false, 5.0)
    );
    let wild = guest.body(
        "transform",
        "(call $update (i32.const 2048) (i32.const 1)) unreachable",
    );
    let (error, ..) = stopped(&wild, limits(), 1);
    has(
        &error,
        ErrorCode::Trap,
        &["metric 0, which it never registered"],
    );
}
