//! Records: what the derive describes, and that rows survive the way through columns.

use super::{columns_of, rows_of};
use crate::column::Cursor;
use crate::gather::gather;
use crate::prelude::*;
use crate::runtime::DataType;
use crate::value::{Column, Schema, Value, top_fields};

#[derive(Record, Clone, Debug, PartialEq)]
struct Inner {
    id: u32,
    name: Option<String>,
}

#[derive(Record, Clone, Debug, PartialEq)]
struct Every {
    yes: bool,
    a: i8,
    b: i16,
    c: i32,
    d: i64,
    e: u8,
    f: u16,
    g: u32,
    h: u64,
    i: f32,
    j: f64,
    text: String,
    bytes: Vec<u8>,
    at: Timestamp,
    day: Date,
    #[record(name = "unitPrice")]
    price: Decimal<3>,
    maybe: Option<i64>,
    maybe_text: Option<String>,
    maybe_bool: Option<bool>,
    list: Vec<i64>,
    texts: Vec<Option<String>>,
    lists: Vec<Vec<u16>>,
    inner: Inner,
    maybe_inner: Option<Inner>,
    inners: Vec<Inner>,
    r#type: i64,
}

fn every(n: i64) -> Every {
    let some = n % 3 != 0;
    let inner = Inner {
        id: n as u32,
        name: some.then(|| format!("inner {n}")),
    };
    Every {
        yes: n % 2 == 0,
        a: n as i8 - 5,
        b: n as i16 - 500,
        c: n as i32 * -7,
        d: i64::MIN + n,
        e: n as u8,
        f: n as u16 * 3,
        g: u32::MAX - n as u32,
        h: u64::MAX - n as u64,
        i: n as f32 / 3.0,
        j: n as f64 / 7.0,
        text: "ä".repeat(n as usize % 4),
        bytes: vec![n as u8; n as usize % 5],
        at: Timestamp(n * 1000),
        day: Date(n as i32),
        price: Decimal(i128::from(n) << 70),
        maybe: some.then_some(n),
        maybe_text: (!some).then(|| n.to_string()),
        maybe_bool: some.then_some(n % 2 == 1),
        list: (0..n % 4).collect(),
        texts: (0..n % 3)
            .map(|i| (i > 0).then(|| "x".repeat(i as usize)))
            .collect(),
        lists: (0..n % 3).map(|i| (0..i as u16).collect()).collect(),
        inner: inner.clone(),
        maybe_inner: some.then(|| inner.clone()),
        inners: vec![inner; n as usize % 3],
        r#type: n,
    }
}

#[test]
fn rows_of_every_type_survive_columns() {
    for count in [0, 1, 7, 8, 9, 100] {
        let rows: Vec<Every> = (0..count).map(every).collect();
        let columns = columns_of(&rows);
        assert_eq!(columns.len(), Every::schema().len(), "a column a node");
        assert_eq!(rows_of::<Every>(&columns, rows.len()), rows);
    }
}

#[test]
fn schemas_are_in_preorder_with_the_given_names() {
    let schema = Every::schema();
    let names: Vec<_> = top_fields(&schema)
        .map(|(_, n)| (n[0].name.as_str(), n[0].data_type, n[0].nullable))
        .collect();
    assert_eq!(names[15], ("unitPrice", DataType::Decimal(3), false));
    assert_eq!(names[16], ("maybe", DataType::Int64, true));
    assert_eq!(names[19], ("list", DataType::Sequence, false));
    assert_eq!(names[23], ("maybe_inner", DataType::Nested(2), true));
    assert_eq!(names[25], ("type", DataType::Int64, false));
    assert_eq!(names.len(), 26);
    let (_, nodes) = top_fields(&schema).nth(24).unwrap();
    let list: Vec<_> = nodes
        .iter()
        .map(|f| (f.name.as_str(), f.data_type, f.nullable))
        .collect();
    assert_eq!(
        list,
        [
            ("inners", DataType::Sequence, false),
            ("item", DataType::Nested(2), false),
            ("id", DataType::Uint32, false),
            ("name", DataType::Utf8, true)
        ]
    );
    assert_eq!(
        (Every::PRICE.name(), Every::TYPE.name()),
        ("unitPrice", "type")
    );
}

#[test]
fn owned_and_borrowed_rows_are_equal() {
    let row = every(8);
    let columns = columns_of(std::slice::from_ref(&row));
    let found = Every::row_resolve(&mut Cursor::new(&columns, None), 1).unwrap();
    let read = Every::read(&found, crate::column::Row::below(0, 1).unwrap());
    assert_eq!(read, row.as_ref());
    assert_eq!(read.list.iter().sum::<i64>(), 0);
    assert_eq!(read.inners.len(), 2);
    assert_eq!(read.inners.get(1).unwrap().name, Some("inner 8"));
    assert_eq!(read.inners.get(2), None);
    assert_eq!(Every::from(read), row);
}

#[test]
fn gathered_rows_are_those_named() {
    let rows: Vec<Every> = (0..40).map(every).collect();
    let columns = columns_of(&rows);
    let picked = [39, 0, 7, 7, 12];
    let mut out: Vec<Column> = Vec::new();
    let mut whole = columns.iter();
    for (_, nodes) in top_fields(&Every::schema()) {
        assert_eq!(gather(nodes, &mut whole, &picked, &mut out), nodes.len());
    }
    let expected: Vec<Every> = picked.iter().map(|i| every(i64::from(*i))).collect();
    assert_eq!(rows_of::<Every>(&out, picked.len()), expected);
}

#[derive(Record, Clone, Debug, PartialEq)]
#[record(tag = "event_type")]
enum Event {
    Person(Inner),
    #[record(name = "auctionOpened")]
    Auction(Opened),
    Bid(Inner),
}

#[derive(Record, Clone, Debug, PartialEq)]
struct Opened {
    id: i64,
    tags: Vec<String>,
}

#[test]
fn an_enum_is_a_tag_and_nullable_records() {
    let inner = |id| Inner {
        id,
        name: Some("n".into()),
    };
    let opened = Opened {
        id: 3,
        tags: vec!["a".into(), "b".into()],
    };
    let rows = [
        Event::Bid(inner(1)),
        Event::Auction(opened),
        Event::Person(inner(2)),
        Event::Bid(inner(4)),
    ];
    let columns = columns_of(&rows);
    assert_eq!(rows_of::<Event>(&columns, 4), rows);
    let names = |schema: &Schema| -> Vec<String> {
        top_fields(schema)
            .map(|(_, n)| format!("{}{}", n[0].name, if n[0].nullable { "?" } else { "" }))
            .collect()
    };
    assert_eq!(
        names(&Event::schema()),
        ["event_type", "person?", "auctionOpened?", "bid?"]
    );
    assert_eq!(
        (Event::TAG.name(), Event::AUCTION.name()),
        ("event_type", "auctionOpened")
    );
    assert_eq!(
        columns[0].values.as_deref().unwrap()[..16],
        [2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]
    );
    assert_eq!(columns[1].validity.as_deref(), Some(&[0b0100u8][..]));
    match rows[0].as_ref() {
        EventRef::Bid(bid) => assert_eq!(bid.id, 1),
        other => panic!("{other:?}"),
    }
}

#[derive(Record, Clone, Debug, PartialEq)]
struct Holder {
    event: Option<Event>,
    events: Vec<Event>,
}

#[test]
fn enums_can_be_nested() {
    let bid = Event::Bid(Inner { id: 9, name: None });
    let rows = [
        Holder {
            event: None,
            events: vec![bid.clone(), bid.clone()],
        },
        Holder {
            event: Some(bid),
            events: Vec::new(),
        },
    ];
    assert_eq!(rows_of::<Holder>(&columns_of(&rows), 2), rows);
}

#[test]
fn buffers_that_are_too_short_are_refused() {
    let whole = columns_of(&(0..9).map(every).collect::<Vec<_>>());
    for at in 0..whole.len() {
        let cuts: [fn(&mut Column) -> &mut Option<Vec<u8>>; 2] =
            [|c| &mut c.values, |c| &mut c.offsets];
        for cut in cuts {
            let mut columns = whole.clone();
            let is_data = columns[at].offsets.is_some();
            let buffer = cut(&mut columns[at]);
            let Some(bytes) = buffer.as_mut().filter(|b| !b.is_empty()) else {
                continue;
            };
            bytes.pop();
            let refused = Every::row_resolve(&mut Cursor::new(&columns, None), 9).is_err();
            let offsets_cut = columns[at].offsets != whole[at].offsets;
            assert!(refused || is_data && !offsets_cut, "column {at}");
            if !refused {
                // Bytes of a varying length read as empty where they are missing.
                rows_of_no_panic(&columns);
            }
        }
    }
    assert!(Every::row_resolve(&mut Cursor::new(&whole[..10], None), 9).is_err());
}

fn rows_of_no_panic(columns: &[Column]) {
    let _ = rows_of::<Every>(columns, 9);
}
