//! What native aggregates give: overflow, floats, averages, what may be missing.

use super::*;

/// One window of one key "a" over a column `x`, one aggregate, one output field.
fn one(input: Field, x: ArrayRef, value: WindowValue, out: Field) -> Result<ArrayRef> {
    let rows = x.len();
    let input = Schema::new(vec![Field::new("k", DataType::String), input]);
    let spec = WindowSpec {
        key: vec!["k".into()],
        assigner: Assigner::Tumbling {
            size_ms: 10,
            offset_ms: 0,
        },
        lateness_ms: 0,
        late_output: None,
        function: WindowFunction::Columns(vec![(out.name.clone(), value)]),
    };
    let mut op = WindowOperator::new(&spec, "w", &input, &[Schema::new(vec![out])])?;
    let mut bench = Bench::new(1);
    let keys: ArrayRef = Arc::new(StringArray::from(vec!["a"; rows]));
    let batch = Batch::new(vec![keys, x], rows)?.with_times(Some(vec![0; rows].into()))?;
    bench.call(i64::MIN, |cx| op.batch(0, batch, cx))?;
    let out = bench.call(i64::MAX, |cx| op.watermark(cx))?;
    Ok(out[0].1.columns()[0].clone())
}

fn x() -> String {
    "x".into()
}

#[test]
fn a_sum_that_does_not_fit_is_an_error() {
    let field = || Field::new("x", DataType::I64);
    let sum = |v: Vec<i64>| one(field(), column(v), WindowValue::Sum(x()), field());
    assert_eq!(
        sum(vec![i64::MAX, 1]).unwrap_err().code(),
        ErrorCode::Overflow
    );
    assert_eq!(
        numbers(&sum(vec![i64::MAX, 1, -1]).unwrap()),
        [i64::MAX],
        "only the result must fit"
    );
    let decimals = |v: Vec<i128>| {
        let field = || Field::new("x", DataType::Decimal { scale: 2 });
        let x: ArrayRef = Arc::new(
            Decimal128Array::from(v)
                .with_precision_and_scale(38, 2)
                .unwrap(),
        );
        one(field(), x, WindowValue::Sum("x".into()), field())
    };
    let most = 10i128.pow(38) - 1;
    assert_eq!(
        decimals(vec![most, 1]).unwrap_err().code(),
        ErrorCode::Overflow
    );
    assert_eq!(
        decimals(vec![most, most]).unwrap_err().code(),
        ErrorCode::Overflow
    );
    assert!(decimals(vec![most]).is_ok());
}

#[test]
fn floats_are_ordered_with_nan_last_and_zeros_by_sign() {
    let field = || Field::new("x", DataType::F64);
    let get = |v: &[f64], value: WindowValue| {
        let x: ArrayRef = Arc::new(Float64Array::from(v.to_vec()));
        one(field(), x, value, field())
            .unwrap()
            .as_primitive::<Float64Type>()
            .value(0)
    };
    assert!(get(&[1.0, f64::NAN, f64::INFINITY], WindowValue::Max(x())).is_nan());
    assert_eq!(
        get(&[-f64::NAN, 1.0, f64::NEG_INFINITY], WindowValue::Min(x())),
        f64::NEG_INFINITY
    );
    assert!(get(&[0.0, -0.0], WindowValue::Min(x())).is_sign_negative());
    assert!(get(&[-0.0, 0.0], WindowValue::Max(x())).is_sign_positive());
    assert_eq!(get(&[1.5, 2.0], WindowValue::Avg(x())), 1.75);
}

#[test]
fn averages_are_truncated_toward_zero() {
    let field = || Field::new("x", DataType::I64);
    let average =
        |v: Vec<i64>, out: Field| one(field(), column(v), WindowValue::Avg(x()), out).unwrap();
    assert_eq!(numbers(&average(vec![-3, -4], field())), [-3]);
    let float = average(vec![-3, -4], Field::new("x", DataType::F64));
    assert_eq!(float.as_primitive::<Float64Type>().value(0), -3.5);
}

#[test]
fn what_may_be_missing_needs_an_output_that_may() {
    let input = Field::new("x", DataType::I64).nullable();
    let error = one(
        input,
        column(vec![1]),
        WindowValue::Min(x()),
        Field::new("x", DataType::I64),
    )
    .unwrap_err();
    assert_eq!(error.code(), ErrorCode::GraphInvalid);
}
