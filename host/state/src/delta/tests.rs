use pelton_model::ErrorCode;
use proptest::prelude::*;

use super::*;

fn write_all(dir: &Path, name: &str, states: &[&str], put: impl FnOnce(&mut DeltaOut)) -> Delta {
    let folder = Folder::later(dir.join(name).join("delta"));
    let mut out = DeltaOut::begin(folder, name.to_owned(), states).unwrap();
    put(&mut out);
    let (delta, written) = out.finish();
    written.recv().unwrap().unwrap();
    delta
}

type Entry = (usize, Vec<u8>, Option<Vec<u8>>);

fn read_all(path: &Path, name: &str) -> Result<Vec<Entry>> {
    let mut delta = DeltaIn::open(path, name)?;
    let mut all = Vec::new();
    while delta.next_block(|state, key, value| {
        all.push((state, key.to_vec(), value.map(<[u8]>::to_vec)));
        Ok(())
    })? {}
    Ok(all)
}

/// Frozen: checkpoints consist of these bytes.
#[test]
fn golden_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let delta = write_all(dir.path(), "db-000007.delta", &["sum", "last"], |out| {
        out.put(0, &[0, 76, 1], Some([&[], &[9, 8]]));
        out.put(1, &[0, 76, 1], Some([&[0, 0, 0, 0, 0, 0, 0, 5], &[7]]));
        out.put(0, &[0, 77], None);
    });
    assert_eq!(delta.entries, 3);
    let bytes = std::fs::read(delta.path()).unwrap();
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    let expected = concat!(
        "504c5444454c54410100000002000000",
        "0f00000064622d3030303030372e64656c7461",
        "0300000073756d",
        "040000006c617374",
        "d3ded9685a3f4f91",
        "00000000020000000b00000000000000",
        "85a06680195e8034",
        "0303004c0109080200004d",
        "01000000010000000e00000000000000",
        "3872e2f0430f014a",
        "030a004c01000000000000000507",
        "ffffffff000000000300000000000000",
        "1afe131d57d0ed59",
    );
    assert_eq!(hex, expected);
}

#[test]
fn any_byte_that_differs_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let delta = write_all(dir.path(), "a-000001.delta", &["s"], |out| {
        for key in 0..40_u8 {
            let end = [key];
            let value: [&[u8]; 2] = [&[1, 2], &end];
            out.put(0, &[0, key], (key % 3 > 0).then_some(value));
        }
    });
    let whole = std::fs::read(delta.path()).unwrap();
    assert_eq!(read_all(&delta.path(), &delta.name).unwrap().len(), 40);
    let path = dir.path().join("other");
    let check = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let error = read_all(&path, &delta.name).unwrap_err();
        assert_eq!(error.code(), ErrorCode::Corrupt, "{error}");
        assert!(error.message().contains("damaged"), "{error}");
    };
    for place in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x81;
        check(&bytes);
        check(&whole[..place]);
    }
    check(&[&whole[..], &[0]].concat());
    // One that is whole, but another.
    let other = write_all(dir.path(), "a-000002.delta", &["s"], |_| {});
    check(&std::fs::read(other.path()).unwrap());
}

#[test]
fn one_that_is_given_up_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("delta");
    let out = DeltaOut::begin(Folder::later(folder.clone()), "a".to_owned(), &["s"]).unwrap();
    let DeltaOut {
        delta,
        pieces,
        written,
        ..
    } = out;
    drop(delta);
    drop(pieces);
    assert!(written.recv().unwrap().is_err());
    assert!(!folder.exists());
}

#[test]
fn a_disk_that_takes_nothing_is_said() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "x").unwrap();
    let folder = Folder::later(dir.path().join("file/delta"));
    let mut out = DeltaOut::begin(folder, "a".to_owned(), &["s"]).unwrap();
    out.put(0, b"key", None);
    let (_, written) = out.finish();
    let error = written.recv().unwrap().unwrap_err();
    assert_eq!(error.code(), ErrorCode::StateFailed);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_was_put_comes_back(
        entries in prop::collection::vec(
            (0..3_usize, prop::collection::vec(any::<u8>(), 0..300), prop::option::of(0..300_000_usize)),
            0..40,
        ),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let states = ["a", "", "c"];
        let value = |length: usize| vec![length as u8; length];
        let delta = write_all(dir.path(), "x-000001.delta", &states, |out| {
            for (state, key, length) in &entries {
                let value = length.map(value);
                let parts = value.as_deref().map(|v| v.split_at(v.len().min(8)));
                out.put(*state, key, parts.map(|(a, b)| [a, b]));
            }
        });
        let found = read_all(&delta.path(), &delta.name).unwrap();
        prop_assert_eq!(found.len(), entries.len());
        for state in 0..3 {
            let put = entries.iter().filter(|e| e.0 == state);
            let put: Vec<_> = put.map(|(s, k, l)| (*s, k.clone(), l.map(value))).collect();
            let own: Vec<_> = found.iter().filter(|e| e.0 == state).cloned().collect();
            prop_assert_eq!(put, own);
        }
    }
}
