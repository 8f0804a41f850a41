//! The contract over a real server, named by `PELTON_TEST_AZURE_ENDPOINT` (`http://127.0.0.1:10000`, such as azurite's):
//! what is in its container `pelton` stays there. Without one, the tests say that they are skipped.

use super::*;

/// The account that every emulator has, with its published key.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

fn settings() -> Option<Settings> {
    let Ok(endpoint) = std::env::var("PELTON_TEST_AZURE_ENDPOINT") else {
        println!("skipped: PELTON_TEST_AZURE_ENDPOINT names no server");
        return None;
    };
    let endpoint = format!("{endpoint}/{ACCOUNT}");
    let options = [
        ("azure_storage_account_name", ACCOUNT),
        ("azure_storage_account_key", KEY),
        ("azure_endpoint", &endpoint),
        ("azure_allow_http", "true"),
    ];
    Some(Settings {
        options: options
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .to_vec(),
        timeout_ms: 10_000,
        part_bytes: 5 << 20,
        ..Settings::default()
    })
}

#[test]
fn azure_keeps_the_contract() {
    let Some(settings) = settings() else { return };
    let unique = tempfile::tempdir().unwrap();
    let prefix = unique.path().file_name().unwrap().to_str().unwrap();
    let store = crate::open(&format!("az://pelton/tests/{prefix}"), &settings).unwrap();
    assert_eq!(store.list("").unwrap(), []);
    check(&store);
    equal_bytes_are_no_exception(&*store);
}

#[test]
fn azure_without_a_container_is_refused() {
    let Some(settings) = settings() else { return };
    let e = crate::open("az://no-such-container/x", &settings)
        .err()
        .unwrap();
    assert_eq!(e.code(), ErrorCode::StoreFailed, "{e}");
    assert!(
        e.message().contains("az://no-such-container/x")
            && e.message().contains("ContainerNotFound"),
        "{e}"
    );
}
