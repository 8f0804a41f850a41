//! `pelton explain-error CODE`.

use clap::Args;
use pelton_model::{Error, ErrorCode};
use serde_json::{Value, json};

use crate::console::table;
use crate::report::{Exit, Outcome, exit_of};

use super::Session;

#[derive(Debug, Args)]
pub(super) struct ExplainErrorArgs {
    /// Such as PLT-0301; without it, all codes are listed
    code: Option<String>,
}

pub(super) fn run(args: &ExplainErrorArgs, session: &Session) -> Outcome {
    let Some(text) = &args.code else {
        let rows: Vec<Vec<String>> = ErrorCode::ALL
            .iter()
            .map(|c| vec![c.to_string(), c.title().to_owned()])
            .collect();
        let items: Vec<Value> = ErrorCode::ALL.iter().map(|c| object(*c)).collect();
        session
            .console
            .list(&table(&["code", "title"], &rows), "error-codes", &items)?;
        return Ok(Exit::DONE);
    };
    let code = ErrorCode::parse(text).ok_or_else(|| {
        Error::new(
            ErrorCode::NotFound,
            format!("there is no error code '{text}'"),
        )
        .help("`pelton explain-error` lists all codes")
    })?;
    let text = format!(
        "{code}: {}\n\n{}\n\nexit code: {}\n",
        code.title(),
        code.explain(),
        exits(code)
    );
    session
        .console
        .result(&text, &object(code), code.as_str())?;
    Ok(Exit::DONE)
}

/// Some codes come before a job runs and while it does.
fn exits(code: ErrorCode) -> String {
    let (before, within) = (
        exit_of(code).0,
        crate::report::Failure::of_running_job(Error::new(code, ""))
            .exit
            .0,
    );
    match before == within || before < 7 && before != 1 {
        true => before.to_string(),
        false => format!("{before}, or {within} if it ends a job that runs"),
    }
}

fn object(code: ErrorCode) -> Value {
    json!({
        "kind": "error-code",
        "name": code.as_str(),
        "code": code.as_str(),
        "title": code.title(),
        "explanation": code.explain(),
        "exit": exit_of(code).0,
    })
}
