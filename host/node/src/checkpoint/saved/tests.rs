use super::*;
use crate::checkpoint::read::{Wanted, entries, largest, positions};
use crate::checkpoint::show::states;
use pelton_blob::Memory;
use pelton_engine::snapshot::{keyed_section, section};
use pelton_model::checkpoint::{JobRecord, OperatorRecord, encode};
use pelton_model::schema::{DataType, Field};
use pelton_model::snapshot::{Entry, SectionKind, SectionSpec, StateWriter};
use serde_json::json;

const GROUPS: u32 = 8;

fn spec(kind: SectionKind, name: &str) -> SectionSpec {
    let key = [Field::new("user", DataType::String)];
    let sub = [Field::new("day", DataType::I32)];
    let value = [Field::new("n", DataType::I64)];
    let spec = match kind {
        SectionKind::Positions => section(kind, name),
        SectionKind::Map => keyed_section(kind, name, &key, &sub, &value),
        _ => keyed_section(kind, name, &key, &[], &value),
    };
    SectionSpec {
        uid: "counter".into(),
        ..spec
    }
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u32).to_be_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// A savepoint with a value of each of so many users, a map of the first, and a position.
fn savepoint(users: usize) -> (Arc<Memory>, Saved) {
    let blobs = Arc::new(Memory::default());
    let specs = [
        spec(SectionKind::Value, "count"),
        spec(SectionKind::Map, "days"),
        spec(SectionKind::Positions, "positions"),
    ];
    let mut sections: Vec<SectionRecord> = specs
        .map(|spec| SectionRecord {
            spec,
            entries: 0,
            bytes: 0,
        })
        .into();
    let mut file = StateWriter::default();
    let mut put = |section: usize, key: &[u8], sub: &[u8], value: &[u8]| {
        let group = match key {
            [] => NO_GROUP,
            _ => KeyGroup::of(hash_bytes(key), GROUPS).0,
        };
        sections[section].entries += 1;
        sections[section].bytes += (key.len() + sub.len() + value.len()) as u64;
        file.put(section as u32, group, Entry { key, sub, value });
    };
    for user in 0..users {
        let n = (user as i64 ^ i64::MIN).to_be_bytes();
        put(0, &text(&format!("user{user}")), &[], &n);
    }
    for day in 0..3_i32 {
        put(
            1,
            &text("user0"),
            &(day ^ i32::MIN).to_be_bytes(),
            &[128, 0, 0, 0, 0, 0, 0, 5],
        );
    }
    put(2, &[], b"in.csv", b"12");
    let (bytes, length, checksum) = file.finish();
    blobs.put("data/0-0", &bytes).unwrap();
    let metadata = Metadata {
        id: 4,
        attempt: "a".into(),
        term: 1,
        job: JobRecord {
            name: "j".into(),
            max_parallelism: GROUPS,
            ..JobRecord::default()
        },
        savepoint: true,
        finished: false,
        at_ms: 0,
        operators: vec![OperatorRecord {
            uid: "counter".into(),
            name: "count users".into(),
            parallelism: 1,
        }],
        tasks: vec![TaskRecord {
            operators: vec!["counter".into()],
            key_groups: (0, GROUPS),
            state: Some(StoredFile {
                name: Some("data/0-0".into()),
                inline: None,
                length,
                checksum,
            }),
            sections,
            ..TaskRecord::default()
        }],
    };
    blobs
        .put("metadata", &encode(&metadata, &[]).unwrap())
        .unwrap();
    let from = savepoint::open(Arc::clone(&blobs) as Arc<dyn Blobs>).unwrap();
    let saved = Saved {
        url: "memory://x".into(),
        from,
        number: None,
        previous: None,
    };
    (blobs, saved)
}

#[test]
fn what_is_whole_is_verified_and_each_flipped_bit_is_found() {
    let (blobs, saved) = savepoint(100);
    let (bytes, faults) = saved.verify(&mut BTreeSet::new());
    assert!(faults.is_empty(), "{faults:?}");
    let good = blobs.get("data/0-0").unwrap();
    assert_eq!(bytes, good.len() as u64);
    for at in (0..good.len()).step_by(37).chain([good.len() - 1]) {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        blobs.put("data/0-0", &bad).unwrap();
        let (_, faults) = saved.verify(&mut BTreeSet::new());
        assert_eq!(faults.len(), 1, "byte {at}");
        assert_eq!(faults[0].code(), ErrorCode::Corrupt);
        assert!(faults[0].to_string().contains("data/0-0"));
    }
    blobs.put("data/0-0", &good[..good.len() - 1]).unwrap();
    let (_, faults) = saved.verify(&mut BTreeSet::new());
    assert!(
        faults[0].message().contains("bytes instead of"),
        "{:?}",
        faults[0]
    );
    blobs.delete("data/0-0").unwrap();
    let (_, faults) = saved.verify(&mut BTreeSet::new());
    assert!(faults[0].message().contains("missing"), "{:?}", faults[0]);
}

#[test]
fn entries_that_lack_are_found() {
    let (_, mut saved) = savepoint(10);
    let mut metadata = saved.metadata().clone();
    metadata.tasks[0].sections[0].entries += 1;
    saved.from.metadata = Arc::new(metadata);
    let (_, faults) = saved.verify(&mut BTreeSet::new());
    assert!(
        faults[0]
            .message()
            .contains("10 entries, and should have 11"),
        "{:?}",
        faults[0]
    );
}

#[test]
fn state_is_read_by_operator_name_and_key() {
    let (_, saved) = savepoint(100);
    let wanted = |operator, name| Wanted { operator, name };
    let all = entries(
        &saved,
        wanted(Some("count users"), None),
        Some("user0"),
        100,
    )
    .unwrap();
    let values: Vec<_> = all.items.iter().map(|i| i["value"]["n"].clone()).collect();
    assert_eq!(values, [json!(0), json!(5), json!(5), json!(5)]);
    let days: Vec<_> = all.items[1..]
        .iter()
        .map(|i| i["map_key"]["day"].clone())
        .collect();
    assert_eq!(days, [json!(0), json!(1), json!(2)]);
    let one = entries(&saved, wanted(None, Some("count")), Some("user42"), 100).unwrap();
    assert_eq!(one.items[0]["key"], json!({"user": "user42"}));
    assert_eq!(one.items[0]["value"], json!({"n": 42}));
    assert_eq!(one.items.len(), 1);
    let none = entries(&saved, wanted(None, None), Some("nobody"), 100).unwrap();
    assert!(none.items.is_empty());
}

#[test]
fn a_scan_ends_where_it_is_told() {
    let (_, saved) = savepoint(5_000);
    let wanted = Wanted {
        operator: None,
        name: Some("count"),
    };
    let some = entries(&saved, wanted, None, 7).unwrap();
    assert_eq!((some.items.len(), some.more), (7, true));
    let all = entries(&saved, wanted, None, 5_000).unwrap();
    assert_eq!((all.items.len(), all.more), (5_000, false));
}

#[test]
fn what_is_not_there_is_named() {
    let (_, saved) = savepoint(1);
    let wanted = |operator, name| Wanted { operator, name };
    let error = entries(&saved, wanted(Some("x"), None), None, 1).unwrap_err();
    assert_eq!(error.code(), ErrorCode::NotFound);
    assert!(error.help_text().unwrap().contains("counter"));
    let error = entries(&saved, wanted(None, Some("x")), None, 1).unwrap_err();
    assert!(error.help_text().unwrap().contains("count, days"));
}

#[test]
fn sizes_and_largest_keys_are_those_that_were_written() {
    let (_, saved) = savepoint(20);
    let sizes = states(saved.metadata());
    let of = |name: &str, kind: &str| {
        let size = &sizes[&("counter".into(), name.into(), kind.into())];
        (size.entries.unwrap(), size.bytes)
    };
    assert_eq!(of("days", "map"), (3, 3 * (9 + 4 + 8)));
    assert_eq!(of("count", "value"), (20, 10 * 17 + 10 * 18));
    let keys = largest(&saved, Wanted::default(), 2).unwrap();
    assert_eq!(keys[0].key, json!({"user": "user0"}));
    assert_eq!((keys[0].entries, keys[0].bytes), (4, 17 + 3 * 21));
    assert_eq!(keys.len(), 2);
    let at = positions(&saved).unwrap();
    assert_eq!(
        at,
        [json!({"source": "counter", "split": "in.csv", "position": "12"})]
    );
}
