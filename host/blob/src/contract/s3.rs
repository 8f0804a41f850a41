//! The contract over a real server, named by `PELTON_TEST_S3_ENDPOINT` (`http://127.0.0.1:5000`, such as moto's): what is
//! in its bucket `pelton` stays there. Without one, the tests say that they are skipped.

use std::net::TcpListener;

use pelton_model::Error;

use super::*;

/// A store below a prefix that nobody has used.
fn open(change: impl FnOnce(&mut Settings)) -> Option<Result<Arc<dyn Blobs>, Error>> {
    let Ok(endpoint) = std::env::var("PELTON_TEST_S3_ENDPOINT") else {
        println!("skipped: PELTON_TEST_S3_ENDPOINT names no server");
        return None;
    };
    let mut settings = settings(&endpoint);
    change(&mut settings);
    let unique = tempfile::tempdir().unwrap();
    let prefix = unique.path().file_name().unwrap().to_str().unwrap();
    Some(crate::open(
        &format!("s3://pelton/tests/{prefix}"),
        &settings,
    ))
}

fn settings(endpoint: &str) -> Settings {
    let options = [
        ("aws_endpoint", endpoint),
        ("aws_allow_http", "true"),
        ("aws_region", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "canary"),
    ];
    Settings {
        options: options
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .to_vec(),
        timeout_ms: 10_000,
        // The smallest that S3 takes, so that the contract's files have parts.
        part_bytes: 5 << 20,
        ..Settings::default()
    }
}

#[test]
fn s3_keeps_the_contract() {
    let Some(store) = open(|_| {}) else { return };
    let store = store.unwrap();
    // Nothing is left of the check of put_new.
    assert_eq!(store.list("").unwrap(), []);
    check(&store);
    equal_bytes_are_no_exception(&*store);
    let large: Vec<u8> = (0..11 << 20).map(|i| (i % 241) as u8).collect();
    store.put("large", &large).unwrap();
    assert!(store.get("large").unwrap() == large);
    let mut read = Vec::new();
    store.read("large").unwrap().read_to_end(&mut read).unwrap();
    assert!(read == large);
}

#[test]
fn s3_without_a_bucket_or_a_right_is_refused() {
    let Some(missing) = open(|settings| {
        settings
            .options
            .push(("aws_bucket".to_owned(), "ignored".to_owned()));
    }) else {
        return;
    };
    // The URL's bucket counts.
    missing.unwrap();
    let endpoint = std::env::var("PELTON_TEST_S3_ENDPOINT").unwrap();
    let e = crate::open("s3://no-such-bucket-of-ours/x", &settings(&endpoint))
        .err()
        .unwrap();
    assert_eq!(e.code(), ErrorCode::StoreFailed, "{e}");
    assert!(
        e.message().contains("s3://no-such-bucket-of-ours/x")
            && e.message().contains("NoSuchBucket"),
        "{e}"
    );
}

#[test]
fn a_server_that_is_not_there_is_unavailable() {
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mut settings = settings(&format!("http://127.0.0.1:{port}"));
    settings.timeout_ms = 2_000;
    let e = crate::open("s3://bucket/x", &settings).err().unwrap();
    assert_eq!(e.code(), ErrorCode::StoreUnavailable, "{e}");
    assert!(
        e.message().contains("s3://bucket/x") && !e.message().contains("canary"),
        "{e}"
    );
}

#[test]
fn options_that_are_wrong_are_named() {
    let mut wrong = settings("http://127.0.0.1:1");
    wrong
        .options
        .push(("aws_endpiont".to_owned(), "x".to_owned()));
    let e = crate::open("s3://bucket/x", &wrong).err().unwrap();
    assert!(
        e.code() == ErrorCode::StoreFailed && e.message().contains("aws_endpiont"),
        "{e}"
    );
    let mut wrong = settings("http://127.0.0.1:1");
    wrong
        .options
        .push(("aws_allow_http".to_owned(), "perhaps".to_owned()));
    let e = crate::open("s3://bucket/x", &wrong).err().unwrap();
    assert!(
        e.code() == ErrorCode::StoreFailed && e.message().contains("perhaps"),
        "{e}"
    );
}

/// A server with the given replies, one a connection; the last one for ever. It gives back the first lines it was sent.
fn server(replies: Vec<&'static str>) -> (String, Arc<std::sync::Mutex<Vec<String>>>) {
    use std::io::{Read, Write};
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = seen.clone();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let Ok(mut stream) = stream else { return };
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            // A head, and the one byte of a probe's body.
            while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                match stream.read(&mut buffer) {
                    Ok(0) | Err(_) => break,
                    Ok(read) => request.extend_from_slice(&buffer[..read]),
                }
            }
            let head = String::from_utf8_lossy(&request).into_owned();
            log.lock()
                .unwrap()
                .push(head.lines().next().unwrap_or_default().to_owned());
            let reply = replies[number.min(replies.len() - 1)];
            let _ = write!(stream, "HTTP/1.1 {reply}\r\nconnection: close\r\n");
            let _ = write!(stream, "etag: \"x\"\r\ncontent-length: 0\r\n\r\n");
        }
    });
    (endpoint, seen)
}

#[test]
fn a_store_that_replaces_what_must_be_new_is_refused() {
    // It says yes to all, as servers do that know no If-None-Match.
    let (endpoint, seen) = server(vec!["200 OK"]);
    let e = crate::open("s3://bucket/x", &settings(&endpoint))
        .err()
        .unwrap();
    assert_eq!(e.code(), ErrorCode::StoreFailed, "{e}");
    assert!(
        e.message().contains("s3://bucket/x") && e.message().contains("If-None-Match"),
        "{e}"
    );
    // The probe is removed again.
    assert_eq!(seen.lock().unwrap().len(), 3);
    // Who only reads may have it.
    let settings = Settings {
        read_only: true,
        ..settings(&endpoint)
    };
    crate::open("s3://bucket/x", &settings).unwrap();
    assert_eq!(seen.lock().unwrap().len(), 3);
}

#[test]
fn replies_say_who_must_act() {
    for (reply, code) in [
        ("500 Internal Server Error", ErrorCode::StoreUnavailable),
        ("503 Slow Down", ErrorCode::StoreUnavailable),
        ("429 Too Many Requests", ErrorCode::StoreUnavailable),
        // Another write under this name has not ended.
        ("409 Conflict", ErrorCode::StoreUnavailable),
        ("501 Not Implemented", ErrorCode::StoreFailed),
        ("400 Bad Request", ErrorCode::StoreFailed),
        ("401 Unauthorized", ErrorCode::StoreFailed),
        ("403 Forbidden", ErrorCode::StoreFailed),
    ] {
        let (endpoint, seen) = server(vec![
            "200 OK",
            "412 Precondition Failed",
            "204 No Content",
            reply,
        ]);
        let mut settings = settings(&endpoint);
        settings
            .options
            .push(("aws_disable_bulk_delete".to_owned(), "true".to_owned()));
        let store = crate::open("s3://bucket/x", &settings).unwrap();
        let e = store.put_new("log/1", b"x").unwrap_err();
        assert_eq!(e.code(), code, "{e}");
        assert!(
            e.message()
                .starts_with("cannot write s3://bucket/x/log/1: "),
            "{e}"
        );
        // Never sent again below us: the second answer would be about the first.
        assert_eq!(seen.lock().unwrap().len(), 4, "{reply}");
    }
}

#[test]
fn missing_credentials_are_named() {
    if std::env::var_os("AWS_ACCESS_KEY_ID").is_some() {
        println!("skipped: AWS_ACCESS_KEY_ID is set");
        return;
    }
    // The service that would have them, played by a server that has none.
    let (metadata, _) = server(vec!["404 Not Found"]);
    let mut settings = settings("http://127.0.0.1:1");
    settings.options.retain(|(key, _)| !key.starts_with("AWS_"));
    settings
        .options
        .push(("aws_metadata_endpoint".to_owned(), metadata));
    let e = crate::open("s3://bucket/x", &settings).err().unwrap();
    assert_eq!(e.code(), ErrorCode::StoreFailed, "{e}");
    assert!(
        e.help_text()
            .is_some_and(|help| help.contains("AWS_ACCESS_KEY_ID")),
        "{e:?}"
    );
}
