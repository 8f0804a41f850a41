use super::*;
use expect_test::expect;

fn entry() -> LogEntry {
    LogEntry::Start(Start {
        attempt: "a1".into(),
        job: JobRecord {
            name: "word-count".into(),
            params: vec![("input".into(), "in".into())],
            component: "c0ffee".into(),
            sources: vec![("lines".into(), "files".into())],
            max_parallelism: 128,
        },
        from: Some(7),
        savepoint: None,
        at_ms: 1_700_000_000_000,
    })
}

#[test]
fn an_envelope_is_read_back() {
    let bytes = encode(&entry(), b"inline").unwrap();
    let (read, inline) = decode::<LogEntry>(&bytes).unwrap();
    assert_eq!(read, entry());
    assert_eq!(inline, b"inline");
}

#[test]
fn any_bit_that_flips_and_any_byte_that_lacks_is_seen() {
    let bytes = encode(&entry(), b"inline").unwrap();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut bad = bytes.clone();
            bad[at] ^= 1 << bit;
            let error = decode::<LogEntry>(&bad).unwrap_err();
            assert_eq!(error.code(), ErrorCode::Corrupt, "byte {at}, bit {bit}");
        }
        assert!(decode::<LogEntry>(&bytes[..at]).is_err(), "{at} bytes");
    }
    let more = [bytes.as_slice(), b"x"].concat();
    assert!(decode::<LogEntry>(&more).is_err());
}

/// Frozen: checkpoints outlive releases.
#[test]
fn golden_envelope() {
    let bytes = encode(&entry(), b"inline").unwrap();
    let head: String = bytes[..HEAD].iter().map(|b| format!("{b:02x}")).collect();
    expect!["504c544d4554410a01000000be00000006000000000000000665fc56de0833d7"].assert_eq(&head);
    let text = String::from_utf8(bytes[HEAD..].to_vec()).unwrap();
    expect![[r#"{"entry":"start","attempt":"a1","job":{"name":"word-count","params":[["input","in"]],"component":"c0ffee","sources":[["lines","files"]],"max_parallelism":128},"from":7,"at_ms":1700000000000}inline"#]].assert_eq(&text);
}

#[test]
fn names_of_the_log_sort_as_their_numbers() {
    assert_eq!(log_name(12), "log/00000000000000000012");
    assert_eq!(log_number(&log_name(12)), Some(12));
    assert_eq!(log_number("log/x"), None);
    assert!(log_name(9) < log_name(10));
}
