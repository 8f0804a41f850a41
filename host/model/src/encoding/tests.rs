use super::*;
use arrow_array::{Float64Array, Int32Array, Int64Array, StringArray};
use proptest::prelude::*;

fn hex(field: Field, column: &dyn Array, row: usize) -> String {
    let mut out = Vec::new();
    encode(&field, column, row, &mut out).unwrap();
    out.iter().map(|b| format!("{b:02x}")).collect()
}

/// Frozen: savepoints depend on these bytes.
#[test]
fn golden_bytes() {
    let i64s = Int64Array::from(vec![Some(1), Some(-1), None]);
    assert_eq!(
        hex(Field::new("k", DataType::I64), &i64s, 0),
        "8000000000000001"
    );
    assert_eq!(
        hex(Field::new("k", DataType::I64), &i64s, 1),
        "7fffffffffffffff"
    );
    assert_eq!(
        hex(Field::new("k", DataType::I64).nullable(), &i64s, 0),
        "018000000000000001"
    );
    assert_eq!(
        hex(Field::new("k", DataType::I64).nullable(), &i64s, 2),
        "00"
    );
    assert_eq!(
        hex(
            Field::new("k", DataType::String),
            &StringArray::from(vec!["ab"]),
            0
        ),
        "000000026162"
    );
    let f = Float64Array::from(vec![
        0.0,
        -0.0,
        1.5,
        f64::NAN,
        -f64::NAN,
        f64::from_bits(0x7ff0_0000_0000_0001),
    ]);
    let f64s = |row| hex(Field::new("k", DataType::F64), &f, row);
    assert_eq!(f64s(0), "8000000000000000");
    assert_eq!(f64s(1), "7fffffffffffffff", "-0.0 is a key of its own");
    assert_eq!(f64s(2), "bff8000000000000");
    assert_eq!(f64s(3), "fff8000000000000");
    assert_eq!(f64s(4), f64s(3), "all NaN are one key");
    assert_eq!(f64s(5), f64s(3), "all NaN are one key");
}

#[test]
fn wrong_bytes_are_corrupt_not_a_panic() {
    for bytes in [&[][..], &[1][..], &[0x80; 9][..]] {
        let e = decode(&[Field::new("k", DataType::I64)], std::iter::once(bytes)).unwrap_err();
        assert_eq!(e.code(), ErrorCode::Corrupt);
    }
    assert!(
        decode(
            &[Field::new("k", DataType::String)],
            std::iter::once(&[0, 0, 0, 1, 0xff][..])
        )
        .is_err()
    );
}

proptest! {
    #[test]
    fn rows_come_back(rows in proptest::collection::vec((any::<Option<i32>>(), ".*", any::<Option<Vec<i32>>>(), any::<Option<i32>>()), 0..20)) {
        let fields = [
            Field::new("a", DataType::I32).nullable(),
            Field::new("b", DataType::String),
            Field::new("c", DataType::List(Box::new(Field::new("item", DataType::I32)))).nullable(),
            Field::new("d", DataType::Struct(vec![Field::new("x", DataType::I32)])).nullable(),
        ];
        let a: ArrayRef = Arc::new(Int32Array::from_iter(rows.iter().map(|r| r.0)));
        let b: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|r| &r.1)));
        let mut list = Builder::new(&fields[2]);
        let mut record = Builder::new(&fields[3]);
        for r in &rows {
            let mut bytes = Vec::new();
            match &r.2 {
                None => bytes.push(0),
                Some(v) => {
                    bytes.push(1);
                    bytes.extend((v.len() as u32).to_be_bytes());
                    v.iter().for_each(|x| bytes.extend((x ^ i32::MIN).to_be_bytes()));
                }
            }
            list.take(&mut &bytes[..]).unwrap();
            match r.3 {
                None => record.null().unwrap(),
                Some(x) => record.take(&mut &[&[1][..], &(x ^ i32::MIN).to_be_bytes()].concat()[..]).unwrap(),
            }
        }
        let columns = [a, b, list.finish().unwrap(), record.finish().unwrap()];
        let encoded: Vec<Vec<u8>> = (0..rows.len()).map(|row| {
            let mut out = Vec::new();
            for (f, c) in fields.iter().zip(&columns) { encode(f, c.as_ref(), row, &mut out).unwrap(); }
            out
        }).collect();
        let back = decode(&fields, encoded.iter().map(Vec::as_slice)).unwrap();
        for (x, y) in columns.iter().zip(&back) { prop_assert_eq!(x.to_data(), y.to_data()); }
    }
}
