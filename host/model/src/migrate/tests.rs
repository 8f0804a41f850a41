use super::*;
use crate::encoding::{decode, encode};
use crate::snapshot::SectionKind;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{
    Array, ArrayRef, Float32Array, Int8Array, Int16Array, Int32Array, ListArray, StringArray,
    StructArray, UInt8Array, UInt32Array, cast::AsArray,
};
use std::sync::Arc;

use DataType::*;

fn f(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type)
}

/// Rows of `old` as rows of `new`.
fn rewritten(old: &[Field], columns: &[ArrayRef], new: &[Field]) -> Vec<ArrayRef> {
    rewritten_of(old, columns, new, &Past::default())
}

fn rewritten_of(old: &[Field], columns: &[ArrayRef], new: &[Field], past: &Past) -> Vec<ArrayRef> {
    let (rewrite, differences) = Rewrite::between(old, new, past);
    assert_eq!(differences.faults, []);
    let rows: Vec<Vec<u8>> = (0..columns[0].len())
        .map(|row| {
            let mut bytes = Vec::new();
            for (field, column) in old.iter().zip(columns) {
                encode(field, column.as_ref(), row, &mut bytes).unwrap();
            }
            let mut out = Vec::new();
            rewrite.apply(&bytes, &mut out).unwrap();
            out
        })
        .collect();
    decode(new, rows.iter().map(Vec::as_slice)).unwrap()
}

fn i64s(column: &ArrayRef) -> Vec<Option<i64>> {
    column.as_primitive::<Int64Type>().iter().collect()
}

#[test]
fn integers_are_widened_over_their_whole_range() {
    let check = |from: DataType, column: ArrayRef, wants: &[i64]| {
        let new = rewritten(&[f("a", from)], &[column], &[f("a", I64)]);
        let wants: Vec<_> = wants.iter().copied().map(Some).collect();
        assert_eq!(i64s(&new[0]), wants);
    };
    let all = [-128_i8, -1, 0, 1, 127];
    check(
        I8,
        Arc::new(Int8Array::from(all.to_vec())),
        &[-128, -1, 0, 1, 127],
    );
    let ends = vec![i16::MIN, -1, 0, i16::MAX];
    check(
        I16,
        Arc::new(Int16Array::from(ends)),
        &[-32_768, -1, 0, 32_767],
    );
    let ends = vec![i32::MIN, -1, 0, i32::MAX];
    let wants = [i64::from(i32::MIN), -1, 0, i64::from(i32::MAX)];
    check(I32, Arc::new(Int32Array::from(ends)), &wants);
    check(
        U8,
        Arc::new(UInt8Array::from(vec![0, 128, 255])),
        &[0, 128, 255],
    );
    let ends = vec![0, u32::MAX];
    check(
        U32,
        Arc::new(UInt32Array::from(ends)),
        &[0, i64::from(u32::MAX)],
    );
}

#[test]
fn floats_are_widened() {
    let values = vec![
        0.0,
        -0.0,
        1.5,
        -1.5,
        f32::MIN,
        f32::MAX,
        f32::INFINITY,
        f32::NEG_INFINITY,
    ];
    let column: ArrayRef = Arc::new(Float32Array::from(values.clone()));
    let new = rewritten(&[f("a", F32)], &[column], &[f("a", F64)]);
    let new = new[0].as_primitive::<Float64Type>();
    for (i, value) in values.into_iter().enumerate() {
        assert_eq!(new.value(i).to_bits(), f64::from(value).to_bits());
    }
    let column: ArrayRef = Arc::new(Float32Array::from(vec![f32::NAN]));
    let new = rewritten(&[f("a", F32)], &[column], &[f("a", F64)]);
    assert!(new[0].as_primitive::<Float64Type>().value(0).is_nan());
}

#[test]
fn fields_are_found_by_name_and_new_ones_are_null() {
    let old = [f("n", I32), f("s", String).nullable()];
    let columns: [ArrayRef; 2] = [
        Arc::new(Int32Array::from(vec![7, -7])),
        Arc::new(StringArray::from(vec![Some("x"), None])),
    ];
    let new = [
        f("s", String).nullable(),
        f("added", I64).nullable(),
        f("n", I64).nullable(),
    ];
    let (_, differences) = Rewrite::between(&old, &new, &Past::default());
    assert_eq!(
        differences.changes,
        [
            "field 'added' is new, and null",
            "field 'n' may be null",
            "field 'n' is i64, and was i32",
            "the fields have another order",
        ]
    );
    assert!(differences.gone.is_empty());
    let columns = rewritten(&old, &columns, &new);
    let texts: Vec<_> = columns[0].as_string::<i32>().iter().collect();
    assert_eq!(texts, [Some("x"), None]);
    assert_eq!(i64s(&columns[1]), [None, None]);
    assert_eq!(i64s(&columns[2]), [Some(7), Some(-7)]);
}

#[test]
fn records_and_lists_change_within() {
    let was = vec![f("b", I8), f("a", I32)];
    let is = vec![f("a", I64), f("b", I8), f("c", String).nullable()];
    let record = Struct(was.clone());
    let old = [f("list", List(Box::new(f("item", record))))];
    let new = [f("list", List(Box::new(f("item", Struct(is)).nullable())))];
    let items = StructArray::new(
        was.iter().map(Field::to_arrow).collect(),
        vec![
            Arc::new(Int8Array::from(vec![1, 2, 3])),
            Arc::new(Int32Array::from(vec![10, 20, 30])),
        ],
        None,
    );
    let item = Arc::new(f("item", Struct(was)).to_arrow());
    let offsets = arrow_buffer::OffsetBuffer::from_lengths([2, 0, 1]);
    let lists: ArrayRef = Arc::new(ListArray::new(item, offsets, Arc::new(items), None));
    let (_, differences) = Rewrite::between(&old, &new, &Past::default());
    assert_eq!(
        differences.changes,
        [
            "field 'list[]' may be null",
            "field 'list[].a' is i64, and was i32",
            "field 'list[].c' is new, and null",
            "the fields of 'list[]' have another order",
        ]
    );
    let columns = rewritten(&old, &[lists], &new);
    let lists = columns[0].as_list::<i32>();
    let lengths: Vec<usize> = lists.offsets().lengths().collect();
    assert_eq!(lengths, [2, 0, 1]);
    let items = lists.values().as_struct();
    assert_eq!(i64s(items.column(0)), [Some(10), Some(20), Some(30)]);
    assert_eq!(items.column(2).null_count(), 3);
}

#[test]
fn what_is_the_same_is_not_touched() {
    let inner = Struct(vec![f("a", List(Box::new(f("x", I64)))), f("b", Date)]);
    let fields = [f("r", inner).nullable(), f("d", Decimal { scale: 2 })];
    let (rewrite, differences) = Rewrite::between(&fields, &fields, &Past::default());
    assert!(rewrite.is_identity());
    assert_eq!(differences, Differences::default());
    let fewer = Rewrite::between(&fields, &fields[..1], &Past::default());
    assert!(!fewer.0.is_identity());
    assert_eq!(fewer.1.gone, ["d"]);
}

#[test]
fn what_cannot_be_kept_is_named() {
    let fault = |was: Field, is: Field| {
        let (_, differences) = Rewrite::between(&[was], &[is], &Past::default());
        let (path, why) = differences.faults.first().cloned().unwrap();
        format!("{path} {why}")
    };
    assert_eq!(
        fault(f("a", I64), f("a", I32)),
        "a is i32, and was i64",
        "narrowed"
    );
    assert_eq!(fault(f("a", I64), f("a", U64)), "a is u64, and was i64");
    assert_eq!(fault(f("a", U64), f("a", I64)), "a is i64, and was u64");
    assert_eq!(fault(f("a", I32), f("a", F64)), "a is f64, and was i32");
    assert_eq!(fault(f("a", F64), f("a", F32)), "a is f32, and was f64");
    assert_eq!(
        fault(f("a", String), f("a", Bytes)),
        "a is bytes, and was string"
    );
    assert_eq!(
        fault(f("a", I64), f("a", Timestamp)),
        "a is timestamp, and was i64"
    );
    assert_eq!(
        fault(f("a", Decimal { scale: 1 }), f("a", Decimal { scale: 2 })),
        "a is decimal(38, 2), and was decimal(38, 1)"
    );
    assert_eq!(
        fault(f("a", I64).nullable(), f("a", I64)),
        "a may not be null, and it was allowed to be"
    );
    assert_eq!(
        fault(f("a", I64), f("b", I64)),
        "b is new, has no default, and may not be null"
    );
    let nested = |field| f("r", Struct(vec![field]));
    assert_eq!(
        fault(nested(f("x", I64)), nested(f("x", I8))),
        "r.x is i8, and was i64"
    );
}

#[test]
fn bytes_that_are_no_row_are_refused() {
    let (rewrite, _) = Rewrite::between(
        &[f("s", String), f("n", I8).nullable()],
        &[f("n", I16).nullable(), f("s", String)],
        &Past::default(),
    );
    let good = [0, 0, 0, 2, b'h', b'i', 1, 0x85];
    let mut out = Vec::new();
    rewrite.apply(&good, &mut out).unwrap();
    assert_eq!(out, [1, 0x80, 5, 0, 0, 0, 2, b'h', b'i']);
    for wrong in [
        &good[..7],
        &good[..3],
        &[],
        &[good.as_slice(), &[0]].concat(),
    ] {
        let error = rewrite.apply(wrong, &mut Vec::new()).unwrap_err();
        assert_eq!(error.code(), ErrorCode::Corrupt);
    }
}

#[test]
fn times_before_values_come_and_go() {
    let section = |stamped, data_type| SectionSpec {
        uid: "op".into(),
        name: "s".into(),
        kind: SectionKind::Value,
        key: vec![],
        sub: vec![],
        value: vec![f("a", data_type)],
        stamped,
    };
    let apply = |was, is: SectionSpec, value: &[u8]| {
        let (migration, differences) = Migration::between(&was, &is.into());
        let mut out = Vec::new();
        migration.apply(value, 9, &mut out).unwrap();
        (out, differences.changes.len(), migration.is_identity())
    };
    let timed = [0, 0, 0, 0, 0, 0, 0, 5, 0x81];
    let now = [0, 0, 0, 0, 0, 0, 0, 9, 0x81];
    let same = apply(section(true, I8), section(true, I8), &timed);
    assert_eq!(same, (timed.to_vec(), 0, true));
    let less = apply(section(true, I8), section(false, I8), &timed);
    assert_eq!(less, (vec![0x81], 1, false));
    let more = apply(section(false, I8), section(true, I8), &[0x81]);
    assert_eq!(more, (now.to_vec(), 1, false));
    let wide = apply(section(true, I8), section(true, I16), &timed);
    assert_eq!(wide.0, [&timed[..8], &[0x80, 1]].concat());
}

/// Place, former names, default.
type Was<'a> = (u32, &'a [&'a str], Option<&'a [u8]>);

fn past(fields: &[Was<'_>]) -> Past {
    let field = |(place, names, default): &Was<'_>| FieldPast {
        place: *place,
        names: names.iter().map(|n| (*n).to_owned()).collect(),
        default: default.map(<[u8]>::to_vec),
        is_tag: false,
    };
    Past {
        fields: fields.iter().map(field).collect(),
        restores: None,
    }
}

#[test]
fn fields_take_former_names_and_defaults() {
    let old = [f("sum", I32), f("by", String).nullable(), f("n", I64)];
    let columns: [ArrayRef; 3] = [
        Arc::new(Int32Array::from(vec![7, -7])),
        Arc::new(StringArray::from(vec![Some("x"), None])),
        Arc::new(arrow_array::Int64Array::from(vec![1, 2])),
    ];
    let new = [
        f("n", I64),
        f("total", I64),
        f("level", I8),
        f("by", String),
        f("note", String).nullable(),
    ];
    let past = past(&[
        (1, &["amount", "sum"], None),
        (2, &[], Some(&[0x83])),
        (3, &[], Some(&[0, 0, 0, 1, b'?'])),
        (4, &[], Some(&[1, 0, 0, 0, 1, b'!'])),
    ]);
    let (_, differences) = Rewrite::between(&old, &new, &past);
    assert_eq!(
        differences.changes,
        [
            "field 'total' was 'sum'",
            "field 'total' is i64, and was i32",
            "field 'level' is new, and has its default",
            "field 'by' has its default where it was null",
            "field 'note' is new, and has its default",
            "the fields have another order",
        ]
    );
    assert!(differences.gone.is_empty());
    let columns = rewritten_of(&old, &columns, &new, &past);
    assert_eq!(i64s(&columns[0]), [Some(1), Some(2)]);
    assert_eq!(i64s(&columns[1]), [Some(7), Some(-7)]);
    let level = columns[2].as_primitive::<arrow_array::types::Int8Type>();
    assert_eq!(level.values(), &[3, 3]);
    let texts = |column: &ArrayRef| {
        let texts = column.as_string::<i32>().iter();
        texts.map(|t| t.unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(texts(&columns[3]), ["x", "?"]);
    assert_eq!(texts(&columns[4]), ["!", "!"]);

    let fields = [f("total", I64), f("sum", I32)];
    let (_, both) = Rewrite::between(&fields, &new[1..2], &past_of_total());
    assert_eq!(
        both.faults,
        [(
            "total".to_owned(),
            "was 'total' or 'sum', and the state has both".to_owned()
        )]
    );
    assert!(both.gone.is_empty());
}

fn past_of_total() -> Past {
    past(&[(0, &["sum"], None)])
}

#[test]
fn fields_within_records_have_a_past() {
    let old = [f("r", Struct(vec![f("x", I8)])), f("n", I64)];
    let new = [
        f("r", Struct(vec![f("y", I8), f("z", I8)])).nullable(),
        f("n", I64),
    ];
    let past = past(&[(1, &["x"], None), (2, &[], Some(&[0x80]))]);
    let (rewrite, differences) = Rewrite::between(&old, &new, &past);
    assert_eq!(
        differences.changes,
        [
            "field 'r' may be null",
            "field 'r.y' was 'x'",
            "field 'r.z' is new, and has its default",
        ]
    );
    let mut out = Vec::new();
    let row = [0x85, 0x80, 0, 0, 0, 0, 0, 0, 9];
    rewrite.apply(&row, &mut out).unwrap();
    assert_eq!(out, [1, 0x85, 0x80, 0x80, 0, 0, 0, 0, 0, 0, 9]);
}

#[test]
fn a_tag_follows_its_variants() {
    let variant = |name: &str| f(name, Struct(vec![f("n", I8)])).nullable();
    let old = [f("tag", I64), variant("bid"), variant("sale")];
    let new = [
        f("tag", I64),
        variant("sale"),
        variant("gift"),
        variant("bid"),
    ];
    let mut past = past(&[(0, &[], None)]);
    past.fields[0].is_tag = true;
    let (rewrite, differences) = Rewrite::between(&old, &new, &past);
    assert_eq!(differences.faults, []);
    let of_tag = |tag: u8, rest: &[u8]| [&[0x80, 0, 0, 0, 0, 0, 0, tag], rest].concat();
    let mut out = Vec::new();
    rewrite.apply(&of_tag(0, &[1, 0x85, 0]), &mut out).unwrap();
    assert_eq!(out, of_tag(2, &[0, 0, 1, 0x85]));
    let unknown = rewrite.apply(&of_tag(2, &[0, 0]), &mut out).unwrap_err();
    assert_eq!(unknown.code(), ErrorCode::Corrupt);

    let more = [old.as_slice(), &[variant("gift")]].concat();
    let (rewrite, _) = Rewrite::between(&old, &more, &past);
    out.clear();
    rewrite.apply(&of_tag(1, &[0, 1, 0x86]), &mut out).unwrap();
    assert_eq!(out, of_tag(1, &[0, 1, 0x86, 0]));

    let (_, fewer) = Rewrite::between(&old, &old[..2], &past);
    assert_eq!(
        fewer.faults,
        [(
            "sale".to_owned(),
            "is a variant that is gone, and values may be of it".to_owned()
        )]
    );
}
