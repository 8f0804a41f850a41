//! `pelton version`.

use serde_json::json;

use crate::console::table;
use crate::embedded;
use crate::report::{Exit, Outcome};

use super::Session;

pub(super) fn run(session: &Session) -> Outcome {
    let version = env!("CARGO_PKG_VERSION");
    let (contract, target) = (embedded::contract(), env!("PELTON_TARGET"));
    let sdk = embedded::sdk_dir(&session.settings()?.cache_dir).join("sdk/rust");
    let rows = vec![
        vec!["contract".to_owned(), contract.to_owned()],
        vec!["sdk".to_owned(), sdk.display().to_string()],
        vec!["target".to_owned(), target.to_owned()],
    ];
    let text = table(&["pelton", version], &rows);
    let object = json!({"kind": "version", "version": version, "contract": contract, "sdk": sdk.display().to_string(), "target": target});
    session.console.result(&text, &object, version)?;
    Ok(Exit::DONE)
}
