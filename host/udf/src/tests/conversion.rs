//! Columns both ways, and garbage: no answer of a guest makes an array that is not valid, or a panic.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Decimal128Array, Int32Array, ListArray,
    StringArray, StructArray,
};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use pelton_engine::function::SegmentSpec;
use pelton_model::graph::{StateKind, StateSpec};
use pelton_model::id::FunctionId;
use pelton_model::schema::{DataType, Field, Schema};
use proptest::prelude::*;

use super::value_state;
use crate::convert::lower::Columns;
use crate::convert::raise;
use crate::convert::reply::{Asked, accumulators, keyed_reply, reply};
use crate::convert::wire::{
    ColumnOut, KeyedReplyOut, OutputOut, ReplyOut, SlotsOut, StateChangeOut, TimerChangesOut,
};

fn every_shape() -> Schema {
    let item = Field::new("item", DataType::I32).nullable();
    Schema::new(vec![
        Field::new("flag", DataType::Bool).nullable(),
        Field::new("text", DataType::String).nullable(),
        Field::new("raw", DataType::Bytes),
        Field::new("list", DataType::List(Box::new(item))).nullable(),
        Field::new(
            "record",
            DataType::Struct(vec![
                Field::new("n", DataType::I32),
                Field::new("s", DataType::String),
            ]),
        )
        .nullable(),
        Field::new("money", DataType::Decimal { scale: 2 }),
    ])
}

/// Columns of [`every_shape`], made from one list of numbers.
fn columns(values: &[Option<i32>]) -> Vec<ArrayRef> {
    let plain: Vec<i32> = values.iter().map(|v| v.unwrap_or(0)).collect();
    let texts: Vec<_> = values.iter().map(|v| v.map(|n| format!("é{n}"))).collect();
    let nulls = NullBuffer::from_iter(values.iter().map(Option::is_some));
    let nulls = (nulls.null_count() > 0).then_some(nulls);
    let schema = every_shape();
    let arrow = |i: usize| schema.fields[i].data_type.to_arrow();
    let arrow_schema::DataType::List(item) = arrow(3) else {
        unreachable!()
    };
    let arrow_schema::DataType::Struct(fields) = arrow(4) else {
        unreachable!()
    };
    let lengths = plain.iter().map(|n| n.unsigned_abs() as usize % 4);
    let total = lengths.clone().sum::<usize>() as i32;
    let items = Int32Array::from_iter((0..total).map(|n| (n % 3 != 0).then_some(n)));
    let list = ListArray::new(
        item,
        OffsetBuffer::from_lengths(lengths),
        Arc::new(items),
        nulls.clone(),
    );
    let children: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from(plain.clone())),
        Arc::new(StringArray::from_iter_values(
            plain.iter().map(|n| n.to_string()),
        )),
    ];
    let record = StructArray::new(fields, children, nulls);
    let money = Decimal128Array::from_iter_values(plain.iter().map(|n| i128::from(*n)));
    vec![
        Arc::new(BooleanArray::from_iter(
            values.iter().map(|v| v.map(|n| n % 2 == 0)),
        )),
        Arc::new(StringArray::from_iter(texts)),
        Arc::new(BinaryArray::from_iter_values(
            plain.iter().map(|n| n.to_le_bytes()),
        )),
        Arc::new(list),
        Arc::new(record),
        Arc::new(money.with_precision_and_scale(38, 2).unwrap()),
    ]
}

fn there_and_back(columns: &[ArrayRef], rows: usize, take: usize) -> Vec<ArrayRef> {
    let schema = every_shape();
    let flat = Columns::new(&schema, columns, rows, take).unwrap();
    let nodes = flat
        .wire()
        .iter()
        .map(|c| ColumnOut {
            validity: c.validity.map(<[u8]>::to_vec),
            offsets: c.offsets.map(<[u8]>::to_vec),
            values: c.values.map(<[u8]>::to_vec),
        })
        .collect();
    raise::columns(&schema.fields, nodes, take).unwrap()
}

proptest! {
    #[test]
    fn any_slice_of_any_shape_comes_back(
        values in prop::collection::vec(prop::option::of(any::<i32>()), 0..60),
        cut in 0usize..60, rest in 0usize..60, take in 0usize..60,
    ) {
        let whole = columns(&values);
        let start = cut.min(values.len());
        let rows = rest.min(values.len() - start);
        let sliced: Vec<_> = whole.iter().map(|c| c.slice(start, rows)).collect();
        let take = take.min(rows);
        for (got, want) in there_and_back(&sliced, rows, take).iter().zip(&sliced) {
            got.to_data().validate_full().unwrap();
            let want = want.slice(0, take);
            prop_assert_eq!(got.as_ref(), want.as_ref());
        }
    }
}

fn spec() -> SegmentSpec {
    let all = every_shape();
    SegmentSpec {
        functions: vec![FunctionId(0)],
        names: vec!["f".into()],
        input: all.clone(),
        outputs: vec![((0, 0), all.clone()), ((0, 1), Schema::default())],
        key: vec![],
        number: 0,
        states: vec![
            StateSpec {
                schema: all.clone(),
                ..value_state("all")
            },
            value_state("n"),
            StateSpec {
                kind: StateKind::Map,
                map_key: Some(Schema::new(vec![Field::new("k", DataType::I64)])),
                ..value_state("m")
            },
        ],
        accumulator: Some(all),
    }
}

/// Bytes that are often nearly right: small offsets, whole lengths.
fn bytes(rows: usize) -> impl Strategy<Value = Vec<u8>> {
    let length = prop::sample::select(vec![
        0,
        rows.div_ceil(8),
        rows,
        4 * rows,
        4 * (rows + 1),
        8 * rows,
        16 * rows,
    ]);
    prop_oneof![
        length.prop_flat_map(|n| prop::collection::vec(0u8..3, n)),
        prop::collection::vec(any::<u8>(), 0..40),
        Just((0..=rows as u32).flat_map(|n| n.to_le_bytes()).collect()),
        Just(vec![b'a'; rows]),
        Just(vec![0xff; rows]),
    ]
}

fn column_out(rows: usize) -> impl Strategy<Value = ColumnOut> {
    let part = || prop::option::of(bytes(rows));
    (part(), part(), part()).prop_map(|(validity, offsets, values)| ColumnOut {
        validity,
        offsets,
        values,
    })
}

/// Either what the host would send itself, somewhat damaged, or anything.
fn columns_out(rows: usize) -> impl Strategy<Value = Vec<ColumnOut>> {
    let good: Vec<ColumnOut> = {
        let values: Vec<_> = (0..rows as i32)
            .map(|n| (n % 3 != 1).then_some(n))
            .collect();
        let arrays = columns(&values);
        let flat = Columns::new(&every_shape(), &arrays, rows, rows).unwrap();
        flat.wire()
            .iter()
            .map(|c| ColumnOut {
                validity: c.validity.map(<[u8]>::to_vec),
                offsets: c.offsets.map(<[u8]>::to_vec),
                values: c.values.map(<[u8]>::to_vec),
            })
            .collect()
    };
    let nodes = good.len();
    prop_oneof![
        2 => (Just(good), 0..nodes + 1, column_out(rows)).prop_map(|(mut good, at, bad)| {
            if let Some(node) = good.get_mut(at) {
                *node = bad;
            }
            good
        }),
        1 => prop::collection::vec(column_out(rows), 0..12),
    ]
}

fn output_out(rows: usize) -> impl Strategy<Value = OutputOut> {
    let number = prop::sample::select(vec![rows as u32, rows as u32, 0, 3, u32::MAX]);
    let optional = || prop::option::of(bytes(rows));
    (
        0u32..2,
        0u32..3,
        number,
        optional(),
        columns_out(rows),
        (optional(), optional(), optional()),
    )
        .prop_map(
            |(step, port, rows, parents, columns, (times, kinds, watermarks))| OutputOut {
                step: step / 2,
                port,
                rows,
                parents,
                columns,
                times,
                kinds,
                watermarks,
            },
        )
}

fn slots_out(rows: usize) -> impl Strategy<Value = SlotsOut> {
    let number = prop::sample::select(vec![rows as u32, rows as u32, 1, u32::MAX]);
    (number, prop::option::of(bytes(rows)), columns_out(rows)).prop_map(
        |(rows, present, columns)| SlotsOut {
            rows,
            present,
            columns,
        },
    )
}

fn state_out(rows: usize) -> impl Strategy<Value = StateChangeOut> {
    let entries = (bytes(rows), bytes(rows), prop::option::of(slots_out(rows)));
    (0u32..4, bytes(rows), entries, slots_out(rows)).prop_map(
        |(state, marks, (changes, ordinals, map_keys), values)| StateChangeOut {
            state,
            marks: if state == 2 { Vec::new() } else { marks },
            changes: if state == 2 { changes } else { Vec::new() },
            ordinals,
            map_keys,
            values,
        },
    )
}

fn timers_out(rows: usize) -> impl Strategy<Value = TimerChangesOut> {
    (bytes(rows), bytes(rows), bytes(rows)).prop_map(|(ordinals, times, changes)| TimerChangesOut {
        ordinals,
        times,
        changes,
    })
}

fn valid(columns: &[ArrayRef], rows: usize, schema: &Schema) {
    assert_eq!(columns.len(), schema.fields.len());
    for (array, field) in columns.iter().zip(&schema.fields) {
        assert_eq!(array.len(), rows);
        assert_eq!(array.data_type(), &field.data_type.to_arrow());
        assert!(field.nullable || array.null_count() == 0);
        array.to_data().validate_full().unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn garbage_is_refused_or_valid(
        (rows, answer) in (0usize..9).prop_flat_map(|rows| {
            let consumed = prop::sample::select(vec![rows as u32, 1, 0, u32::MAX]);
            let outputs = prop::collection::vec(output_out(rows), 0..3);
            let steps = prop::collection::vec(any::<u32>(), 1..2);
            let answer = (consumed, outputs, steps)
                .prop_map(|(consumed, outputs, step_rows)| ReplyOut { consumed, outputs, step_rows });
            (Just(rows), answer)
        })
    ) {
        let spec = spec();
        let asked = Asked { spec: &spec, rows, keys: rows, bytes_max: 4_000 };
        if let Ok(reply) = reply(asked, answer) {
            prop_assert!(reply.consumed <= rows);
            for out in reply.outputs {
                let schema = &spec.outputs[out.port as usize].1;
                valid(&out.columns, out.rows, schema);
                if let Some(parents) = out.parents {
                    prop_assert_eq!(parents.len(), out.rows);
                    prop_assert!(parents.iter().all(|p| (*p as usize) < reply.consumed));
                }
                prop_assert!(out.times.is_none_or(|t| t.len() == out.rows));
            }
        }
    }

    #[test]
    fn keyed_garbage_is_refused_or_valid(
        (rows, answer) in (0usize..9).prop_flat_map(|rows| {
            let states = prop::collection::vec(state_out(rows), 0..3);
            let answer = (states, prop::option::of(timers_out(rows))).prop_map(move |(states, timers)| {
                KeyedReplyOut { consumed: rows as u32, outputs: vec![], states, timers }
            });
            (Just(rows), answer)
        })
    ) {
        let spec = spec();
        let asked = Asked { spec: &spec, rows, keys: rows, bytes_max: 4_000 };
        if let Ok(reply) = keyed_reply(asked, answer) {
            for change in reply.states {
                let set = change.marks.iter().filter(|m| **m == 1).count();
                if change.entries.is_none() {
                    prop_assert_eq!((change.marks.len(), change.values.rows), (rows, set));
                }
                let puts = change.entries.as_ref().map(|e| {
                    if let (Some(keys), Some(schema)) = (&e.map_keys, &spec.states[change.state as usize].map_key) {
                        valid(&keys.columns, e.changes.len(), schema);
                    }
                    assert!(e.ordinals.iter().all(|o| (*o as usize) < rows));
                    e.changes.iter().filter(|c| **c == 0).count()
                });
                let schema = &spec.states[change.state as usize].schema;
                valid(&change.values.columns, puts.unwrap_or(set), schema);
            }
            prop_assert!(reply.timers.iter().all(|t| (t.ordinal as usize) < rows));
        }
    }

    #[test]
    fn garbage_accumulators_are_refused_or_valid(
        (rows, answer) in (0usize..9).prop_flat_map(|rows| (Just(rows), slots_out(rows)))
    ) {
        let spec = spec();
        let asked = Asked { spec: &spec, rows, keys: rows, bytes_max: 4_000 };
        if let Ok(slots) = accumulators(asked, answer) {
            prop_assert!(slots.present.is_none());
            valid(&slots.columns, rows, &every_shape());
        }
    }
}

#[track_caller]
fn refused(field: Field, node: ColumnOut, rows: usize, word: &str) {
    let why = raise::columns(&[field], vec![node], rows).unwrap_err();
    assert!(why.contains(word), "{why}");
}

#[test]
fn text_is_checked_as_a_whole_and_at_its_borders() {
    let text = |values: &[u8], offsets: &[i32]| ColumnOut {
        validity: None,
        offsets: Some(offsets.iter().flat_map(|o| o.to_le_bytes()).collect()),
        values: Some(values.to_vec()),
    };
    let field = || Field::new("t", DataType::String);
    assert!(raise::columns(&[field()], vec![text("aé".as_bytes(), &[0, 1, 3])], 2).is_ok());
    refused(field(), text("aé".as_bytes(), &[0, 2, 3]), 2, "offset 2");
    refused(
        field(),
        text(b"ab\xff", &[0, 2, 3]),
        2,
        "not UTF-8 in row 1",
    );
    refused(field(), text(b"abc", &[1, 2, 3]), 2, "do not begin with 0");
    refused(field(), text(b"abc", &[0, 3, 2, 3]), 3, "descend at row 1");
    refused(
        field(),
        text(b"abc", &[0, 1, 2]),
        2,
        "end at 2 where there are 3",
    );
    refused(field(), text(b"abc", &[0, 3]), 2, "offsets with");
    refused(field(), text(b"abc", &[0, -1, 3]), 2, "descend");
}

#[test]
fn a_decimal_has_38_digits() {
    let money = |value: i128| ColumnOut {
        validity: None,
        offsets: None,
        values: Some(value.to_le_bytes().to_vec()),
    };
    let field = || Field::new("m", DataType::Decimal { scale: 2 });
    assert!(raise::columns(&[field()], vec![money(10i128.pow(38) - 1)], 1).is_ok());
    refused(field(), money(10i128.pow(38)), 1, "more than 38 digits");
}
