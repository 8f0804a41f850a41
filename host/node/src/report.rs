//! How a command fails: the exit code, and the error as people and programs read it.
//! Needs: model's error. Invariant: the exit code follows from the error's code and from whether the job had begun.

use std::fmt::Write as _;

use pelton_model::{Error, ErrorCode, ErrorKind};
use serde_json::{Map, Value, json};

/// How a command ended without an error of its own to show: 0, or what its parts have earned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Exit(pub(crate) u8);

impl Exit {
    pub(crate) const DONE: Self = Self(0);
}

/// An error and the exit code that it brings.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    pub(crate) exit: Exit,
}

/// What a command returns.
pub(crate) type Outcome<T = Exit> = Result<T, Failure>;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let exit = exit_of(error.code());
        Self { error, exit }
    }
}

impl Failure {
    /// Of a job that was accepted: it ended FAILED, unless a limit or a bug of ours says more.
    pub(crate) fn of_running_job(error: Error) -> Self {
        let exit = match (error.code(), error.kind()) {
            (_, ErrorKind::LimitReached | ErrorKind::Bug) => exit_of(error.code()),
            // It was refused before it began to run.
            (ErrorCode::StateMismatch | ErrorCode::WrongJob | ErrorCode::NotReplayable, _) => {
                exit_of(error.code())
            }
            _ => Exit(8),
        };
        Self { error, exit }
    }
}

/// The exit code of an error outside of a running job.
pub(crate) fn exit_of(code: ErrorCode) -> Exit {
    Exit(match code {
        ErrorCode::Usage => 2,
        ErrorCode::NotFound => 3,
        ErrorCode::Conflict => 4,
        ErrorCode::Settings => 7,
        ErrorCode::BuildFailed | ErrorCode::TestFailed => 1,
        _ => match code.kind() {
            ErrorKind::BadJob | ErrorKind::BadUdf => 7,
            ErrorKind::LimitReached => 9,
            ErrorKind::Usage => 2,
            ErrorKind::BadInput
            | ErrorKind::Environment
            | ErrorKind::Retry
            | ErrorKind::DataLost
            | ErrorKind::Bug => 1,
        },
    })
}

/// For people, as rustc does it; ends with a line end.
pub(crate) fn render(error: &Error, color: bool) -> String {
    let (red, blue, bold, plain) = match color {
        true => ("\x1b[1;31m", "\x1b[1;34m", "\x1b[1m", "\x1b[0m"),
        false => ("", "", "", ""),
    };
    let mut text = format!(
        "{red}error[{}]{plain}{bold}: {}{plain}\n",
        error.code(),
        error.message()
    );
    if !error.places().is_empty() {
        let places: Vec<String> = error
            .places()
            .iter()
            .map(|(label, value)| format!("{label} {value}"))
            .collect();
        let _ = writeln!(text, "  {blue}-->{plain} {}", places.join(", "));
    }
    match error.help_text() {
        Some(help) => {
            let _ = writeln!(text, "  {blue}={plain} help: {help}");
        }
        None => {
            let _ = writeln!(
                text,
                "  {blue}={plain} help: `pelton explain-error {}` says more",
                error.code()
            );
        }
    }
    if let Some(detail) = error.detail_text() {
        let _ = write!(text, "\n{}\n", detail.trim_end());
    }
    text
}

/// For programs: one object.
pub(crate) fn to_json(error: &Error) -> Value {
    let at: Map<String, Value> = error
        .places()
        .iter()
        .map(|(label, value)| ((*label).to_owned(), json!(value)))
        .collect();
    json!({
        "kind": "error",
        "code": error.code().as_str(),
        "title": error.code().title(),
        "message": error.message(),
        "at": at,
        "help": error.help_text(),
        "detail": error.detail_text(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn sample() -> Error {
        Error::new(ErrorCode::Trap, "the function panicked: no such item")
            .at("row", 17)
            .at("operator", "'count'")
            .help("build it with --debug for source lines")
            .detail("  0: count::add\n  1: main\n")
    }

    #[test]
    fn people_read_what_where_and_what_to_do() {
        expect![[r#"
            error[PLT-0201]: the function panicked: no such item
              --> row 17, operator 'count'
              = help: build it with --debug for source lines

              0: count::add
              1: main
        "#]]
        .assert_eq(&render(&sample(), false));
    }

    #[test]
    fn an_error_without_help_points_to_its_code() {
        let text = render(&Error::new(ErrorCode::Io, "the disk is full"), false);
        assert_eq!(
            text,
            "error[PLT-0402]: the disk is full\n  = help: `pelton explain-error PLT-0402` says more\n"
        );
    }

    #[test]
    fn colours_only_when_asked() {
        assert!(!render(&sample(), false).contains('\x1b'));
        assert!(render(&sample(), true).starts_with("\x1b[1;31merror[PLT-0201]\x1b[0m"));
    }

    #[test]
    fn programs_read_one_object() {
        let value = to_json(&sample());
        assert_eq!(value["kind"], "error");
        assert_eq!(value["code"], "PLT-0201");
        assert_eq!(value["at"], json!({"row": "17", "operator": "'count'"}));
        assert_eq!(value["help"], "build it with --debug for source lines");
    }

    #[test]
    fn every_code_has_its_exit() {
        let table: Vec<String> = ErrorCode::ALL
            .iter()
            .map(|c| format!("{c} {}", exit_of(*c).0))
            .collect();
        for (code, exit) in [
            (ErrorCode::Usage, 2),
            (ErrorCode::NotFound, 3),
            (ErrorCode::Conflict, 4),
            (ErrorCode::Settings, 7),
            (ErrorCode::NotAComponent, 7),
            (ErrorCode::ComponentTooLarge, 9),
            (ErrorCode::ForeignImport, 7),
            (ErrorCode::GraphInvalid, 7),
            (ErrorCode::BadParam, 7),
            (ErrorCode::CpuLimit, 9),
            (ErrorCode::BuildFailed, 1),
            (ErrorCode::TestFailed, 1),
            (ErrorCode::Bug, 1),
        ] {
            assert!(
                table.contains(&format!("{code} {exit}")),
                "{code} should exit with {exit}: {table:?}"
            );
        }
        assert!(ErrorCode::ALL.iter().all(|c| exit_of(*c).0 != 0));
    }

    #[test]
    fn a_running_job_fails_with_8_unless_a_limit_says_more() {
        let exit = |code| Failure::of_running_job(Error::new(code, "x")).exit.0;
        assert_eq!(exit(ErrorCode::BadRecord), 8);
        assert_eq!(exit(ErrorCode::InputMissing), 8);
        assert_eq!(exit(ErrorCode::Trap), 8);
        assert_eq!(exit(ErrorCode::MemoryLimit), 9);
        assert_eq!(exit(ErrorCode::Bug), 1);
        assert_eq!(exit(ErrorCode::StateMismatch), 7);
        assert_eq!(exit(ErrorCode::WrongJob), 2);
    }
}
