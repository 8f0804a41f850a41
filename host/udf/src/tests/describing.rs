//! The graph: read, bounded, and the ways in which a job function fails.

use pelton_model::ErrorCode;
use pelton_model::schema::{DataType, Field, Schema};
use proptest::prelude::*;

use super::guest::{Guest, ok, store, store64};
use super::{limits, load};
use crate::convert::wire;
use crate::graph::read::{preorder, schema};

#[track_caller]
fn fails(guest: Guest, code: ErrorCode, word: &str) {
    let error = load(&guest).describe(&[], &limits()).unwrap_err();
    assert_eq!(error.code(), code, "{error}");
    assert!(error.to_string().contains(word), "{error}");
}

/// A graph named by `len` bytes from 1024 on, with this many operators, all zeros, at 2048.
fn graph(len: u32, operators: u32) -> String {
    [
        ok(),
        store(8, "i32.const 1024"),
        store(12, &format!("i32.const {len}")),
        store(16, "i32.const 2048"),
        store(20, &format!("i32.const {operators}")),
        store(24, "i32.const 2048"),
        store(28, "i32.const 0"),
        store(32, "i32.const 2048"),
        store(36, "i32.const 0"),
        store(40, "i32.const 0"),
        store(48, "i32.const 0"),
        store64(56, "i64.const 99"),
    ]
    .concat()
}

#[test]
fn a_graph_is_read_with_its_digest() {
    let guest = Guest::new()
        .item("(data (i32.const 1024) \"tiny\")")
        .body("describe", graph(4, 0));
    let described = load(&guest).describe(&[], &limits()).unwrap();
    assert_eq!(
        (described.graph.name.as_str(), described.digest),
        ("tiny", 99)
    );
    let error = pelton_model::graph::check(&described.graph).unwrap_err();
    assert_eq!(error.code(), ErrorCode::GraphInvalid);
}

#[test]
fn a_job_function_that_fails_says_so_itself() {
    // The failure stands where a digest of 8 bytes would, 8 bytes into the answer.
    let text = [
        store(0, "i32.const 1"),
        store(8, "i32.const 1024"),
        store(12, "i32.const 4"),
        store(16, "i32.const 0"),
    ];
    let guest = Guest::new()
        .item("(data (i32.const 1024) \"nope\")")
        .body("describe", text.concat());
    fails(guest, ErrorCode::DescribeFailed, "nope");
}

#[test]
fn a_job_function_is_as_bounded_as_any() {
    let with = |body: &str| Guest::new().body("describe", body);
    fails(
        with("unreachable"),
        ErrorCode::DescribeFailed,
        "the job function trapped",
    );
    fails(
        with("(loop $l (br $l))"),
        ErrorCode::CpuLimit,
        "more than 20 ms",
    );
    let grow = "(loop $l (drop (memory.grow (i32.const 16))) (br $l))";
    fails(with(grow), ErrorCode::MemoryLimit, "asked for");
    let deep = with("(drop (call $deep (i32.const 0)))").item(
        "(func $deep (param i32) (result i32) (i32.add (i32.const 1) (call $deep (i32.add (local.get 0) (i32.const 1)))))",
    );
    fails(deep, ErrorCode::StackLimit, "call stack");
}

#[test]
fn a_stack_in_memory_that_ends_is_told_from_a_wild_pointer() {
    let deep = Guest::new()
        .body("describe", "(drop (call $deep (i32.const 60000)))")
        .item(
            "(func $deep (param i32) (result i32) (i32.store (local.get 0) (i32.const 1))
               (i32.add (i32.const 1) (call $deep (i32.sub (local.get 0) (i32.const 1000)))))",
        );
    fails(deep, ErrorCode::StackLimit, "stack in memory");
    let wild = Guest::new().body("describe", "(drop (i32.load (i32.const -8)))");
    fails(
        wild,
        ErrorCode::DescribeFailed,
        "out of bounds memory access",
    );
}

#[test]
fn a_panic_is_quoted() {
    let guest = Guest::new()
        .import("(import \"pelton:job/log@0.1.0\" \"panic\" (func $panic (param i32 i32)))")
        .item("(data (i32.const 1024) \"oh dear\")")
        .body(
            "describe",
            "(call $panic (i32.const 1024) (i32.const 7)) unreachable",
        );
    fails(guest, ErrorCode::DescribeFailed, "panicked: oh dear");
}

#[test]
fn a_graph_that_is_too_large_is_refused_before_it_is_copied() {
    let grown = "(drop (memory.grow (i32.const 200)))";
    let long = format!("{grown}{}", graph(8 << 20, 0));
    fails(
        Guest::new().body("describe", long),
        ErrorCode::GraphInvalid,
        "too large",
    );
    let many = format!("{grown}{}", graph(4, 100_000));
    fails(
        Guest::new().body("describe", many),
        ErrorCode::GraphInvalid,
        "too large",
    );
}

#[test]
fn pointers_that_lead_nowhere_are_a_bad_answer() {
    let guest = Guest::new().body("describe", graph(1 << 30, 0));
    fails(guest, ErrorCode::BadReply, "cannot be read");
}

#[test]
fn a_component_that_wants_too_much_memory_does_not_start() {
    let small = pelton_model::limits::Limits {
        memory_bytes: 64 << 10,
        ..limits()
    };
    let error = load(&Guest::new()).describe(&[], &small).unwrap_err();
    assert_eq!(error.code(), ErrorCode::MemoryLimit, "{error}");
}

fn node(name: &str, data_type: wire::DataType) -> wire::Field {
    wire::Field {
        name: name.into(),
        data_type,
        nullable: false,
    }
}

#[test]
fn a_schema_is_read_from_its_preorder() {
    let nested = vec![
        Field::new("a", DataType::I32).nullable(),
        Field::new(
            "l",
            DataType::List(Box::new(Field::new("item", DataType::String))),
        ),
    ];
    let whole = Schema::new(vec![
        Field::new("n", DataType::Struct(nested)).nullable(),
        Field::new("d", DataType::Decimal { scale: 2 }),
    ]);
    assert_eq!(schema(&preorder(&whole)).unwrap(), whole);
}

#[test]
fn a_schema_that_ends_early_or_goes_too_deep_is_refused() {
    let short = [
        node("r", wire::DataType::Nested(2)),
        node("a", wire::DataType::Int8),
    ];
    assert!(
        schema(&short)
            .unwrap_err()
            .to_string()
            .contains("ends before")
    );
    let open = [node("l", wire::DataType::Sequence)];
    assert!(
        schema(&open)
            .unwrap_err()
            .to_string()
            .contains("ends within")
    );
    let deep = vec![node("l", wire::DataType::Sequence); 100];
    assert!(schema(&deep).unwrap_err().to_string().contains("deep"));
    let wide = vec![node("x", wire::DataType::Int8); 10_000];
    assert!(schema(&wide).unwrap_err().to_string().contains("at most"));
    let scale = [node("d", wire::DataType::Decimal(39))];
    assert!(schema(&scale).unwrap_err().to_string().contains("scale"));
}

proptest! {
    #[test]
    fn any_preorder_is_read_or_refused(kinds in prop::collection::vec((0u8..20, any::<u32>()), 0..64)) {
        let nodes: Vec<_> = kinds
            .iter()
            .map(|(kind, n)| node("x", match kind {
                0..=3 => wire::DataType::Sequence,
                4..=7 => wire::DataType::Nested(n % 8),
                8 => wire::DataType::Nested(*n),
                9 => wire::DataType::Decimal(*n as u8),
                10 => wire::DataType::Utf8,
                _ => wire::DataType::Int64,
            }))
            .collect();
        if let Ok(read) = schema(&nodes) {
            prop_assert_eq!(preorder(&read), nodes);
        }
    }
}
