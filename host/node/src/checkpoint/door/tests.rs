use super::*;

#[test]
fn names_say_the_job_and_are_no_paths() {
    let name = name("../a job/x");
    assert!(name.starts_with("_a_job_x-"), "{name}");
    assert!(!name.contains('/') && !name.starts_with('.'), "{name}");
    assert_eq!(name_of("file:///a/b/"), "b");
}

#[test]
fn an_error_comes_as_it_was_sent() {
    let sent = Error::new(ErrorCode::Conflict, "it is there")
        .at("object", "x")
        .help("name another");
    let read = failure(&to_json(&sent));
    assert_eq!(read.code(), ErrorCode::Conflict);
    assert_eq!(read.to_string(), sent.to_string());
    assert_eq!(read.help_text(), sent.help_text());
    assert_eq!(failure(&Value::Null).code(), ErrorCode::CheckpointFailed);
}

#[test]
fn a_folder_without_a_job_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let request = Request {
        to: None,
        dir: None,
        wait: true,
    };
    let url = folder.path().display().to_string();
    let Err(Unanswered::Failed(error)) = ask(&url, &request, None) else {
        panic!("nobody is there");
    };
    assert_eq!(error.code(), ErrorCode::NotFound);
    // One that a process left behind that was killed.
    drop(UnixListener::bind(folder.path().join(SOCKET)).unwrap());
    let Err(Unanswered::Failed(error)) = ask(&url, &request, None) else {
        panic!("nobody listens");
    };
    assert_eq!(error.code(), ErrorCode::NotFound);
    let Err(Unanswered::Failed(error)) = ask("s3://b/c", &request, None) else {
        panic!("that is not here");
    };
    assert_eq!(error.code(), ErrorCode::Usage);
}

#[test]
fn a_socket_is_its_owners_alone_also_under_a_long_path() {
    let folder = tempfile::tempdir().unwrap();
    let long = folder.path().join("x".repeat(120));
    std::fs::create_dir(&long).unwrap();
    let path = long.join(SOCKET);
    std::fs::write(&path, "stale").unwrap();
    let (_listener, own) = listen(&long, &path).unwrap();
    assert_eq!(own, identity(&path));
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let left: Vec<_> = std::fs::read_dir(&long).unwrap().collect();
    assert_eq!(left.len(), 1);
    let (short, _held) = short(&long, SOCKET).unwrap();
    UnixStream::connect(short).unwrap();
}
