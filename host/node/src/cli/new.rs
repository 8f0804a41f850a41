//! `pelton new NAME`.

use std::path::Path;

use clap::Args;
use pelton_model::{Error, ErrorCode, Result};
use serde_json::{Value, json};

use crate::console::table;
use crate::embedded::{self, Template};
use crate::report::{Exit, Outcome};
use crate::settings::nearest;

use super::Session;

/// What a project begins with, unless the user says otherwise.
const DEFAULT_TEMPLATE: &str = "job";
const NAME_MAX: usize = 64;

/// Crate names that cargo or the compiler takes for something else.
const RESERVED: [&str; 8] = [
    "alloc",
    "core",
    "pelton",
    "pelton-macros",
    "proc-macro",
    "std",
    "test",
    "wit-bindgen",
];

#[derive(Debug, Args)]
pub(super) struct NewArgs {
    /// Name of the project and of its folder: small letters, digits and dashes
    #[arg(required_unless_present = "list")]
    name: Option<String>,
    /// What to begin with
    #[arg(long, default_value = DEFAULT_TEMPLATE)]
    template: String,
    /// List the templates
    #[arg(long, conflicts_with = "name")]
    list: bool,
}

pub(super) fn run(args: NewArgs, session: &Session) -> Outcome {
    let Some(name) = args.name else {
        return list(session);
    };
    check_name(&name)?;
    let template = find(&args.template)?;
    let folder = Path::new(&name);
    check_folder(folder)?;
    let sdk = embedded::unpack_sdk(&session.settings()?.cache_dir)?;
    session
        .console
        .detail(&format!("the SDK's sources are in {}", sdk.display()));
    write(template, folder, &name, &sdk)?;
    let text = format!(
        "made {name} from template '{}'\n\n  cd {name}\n  pelton build\n  pelton test\n",
        template.name
    );
    let object = json!({"kind": "project", "name": name, "template": template.name, "sdk": sdk.display().to_string()});
    session.console.result(&text, &object, &name)?;
    Ok(Exit::DONE)
}

fn list(session: &Session) -> Outcome {
    let templates = embedded::templates();
    let rows: Vec<Vec<String>> = templates
        .iter()
        .map(|t| vec![t.name.to_owned(), t.about.to_owned()])
        .collect();
    let items: Vec<Value> = templates
        .iter()
        .map(|t| json!({"name": t.name, "about": t.about}))
        .collect();
    session
        .console
        .list(&table(&["template", "about"], &rows), "templates", &items)?;
    Ok(Exit::DONE)
}

/// A name serves as folder, crate, component and job: `[a-z][a-z0-9-]{0,63}`, without a dash at the end.
fn check_name(name: &str) -> Result<()> {
    let refused = |why: &str| {
        Err(Error::new(ErrorCode::Usage, format!("'{name}' cannot be the name of a project: {why}"))
            .help("a name has small letters, digits and dashes, begins with a letter, and has at most 64 of them"))
    };
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    match name.chars().next() {
        None => return refused("it is empty"),
        Some(c) if !c.is_ascii_lowercase() => {
            return refused("it does not begin with a small letter");
        }
        Some(_) => {}
    }
    if let Some(c) = name.chars().find(|c| !good(*c)) {
        return refused(&format!("it has a '{}'", c.escape_default()));
    }
    if name.len() > NAME_MAX {
        return refused(&format!("it has {} characters", name.len()));
    }
    if name.ends_with('-') {
        return refused("it ends with a dash");
    }
    if RESERVED.contains(&name) || KEYWORDS.contains(&name) {
        return refused("it is reserved");
    }
    Ok(())
}

const KEYWORDS: [&str; 43] = [
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate",
    "do", "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl",
    "in", "let", "loop", "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref",
    "return", "static", "struct", "trait", "true", "try", "type", "unsafe", "use",
];

fn find(name: &str) -> Result<Template> {
    let templates = embedded::templates();
    if let Some(found) = templates.iter().find(|t| t.name == name) {
        return Ok(*found);
    }
    let names: Vec<&str> = templates.iter().map(|t| t.name).collect();
    let near = nearest(name, &names)
        .map(|n| format!(", did you mean '{n}'?"))
        .unwrap_or_default();
    Err(Error::new(
        ErrorCode::NotFound,
        format!("there is no template '{name}'{near}"),
    )
    .help(format!("the templates are: {}", names.join(", "))))
}

/// An empty folder may be there already.
fn check_folder(folder: &Path) -> Result<()> {
    let taken = match std::fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_some(),
        Err(e) => e.kind() != std::io::ErrorKind::NotFound,
    };
    match taken {
        true => Err(Error::new(
            ErrorCode::Conflict,
            format!("'{}' is already there", folder.display()),
        )
        .help("choose another name, or remove what is there")),
        false => Ok(()),
    }
}

/// Writes the project beside its place and moves it there when it is complete.
fn write(template: Template, folder: &Path, name: &str, sdk: &Path) -> Result<()> {
    let fresh = Path::new(".").join(format!(".{name}.{}", std::process::id()));
    let written = embedded::write_template(template, &fresh, name, sdk)
        .and_then(|()| std::fs::rename(&fresh, folder));
    written.map_err(|e| {
        let _ = std::fs::remove_dir_all(&fresh);
        Error::new(ErrorCode::Io, format!("the project cannot be written: {e}"))
            .at("folder", folder.display())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_serve_as_folder_crate_and_job() {
        for name in ["a", "my-job", "job2", "a--b", &"a".repeat(64)] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for (name, why) in [
            ("", "it is empty"),
            ("2a", "it does not begin with a small letter"),
            ("-a", "it does not begin with a small letter"),
            ("A", "it does not begin with a small letter"),
            ("a_b", "it has a '_'"),
            ("a/b", "it has a '/'"),
            ("a..", "it has a '.'"),
            ("aé", "it has a '\\u{e9}'"),
            ("a-", "it ends with a dash"),
            ("fn", "it is reserved"),
            ("pelton", "it is reserved"),
            (&"a".repeat(65), "it has 65 characters"),
        ] {
            let error = check_name(name).unwrap_err();
            assert_eq!(error.code(), ErrorCode::Usage);
            assert_eq!(
                error.message(),
                format!("'{name}' cannot be the name of a project: {why}")
            );
        }
    }

    #[test]
    fn a_folder_with_something_in_it_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        assert!(check_folder(&root.path().join("none")).is_ok());
        assert!(check_folder(root.path()).is_ok(), "empty");
        std::fs::write(root.path().join("file"), "").unwrap();
        assert_eq!(
            check_folder(root.path()).unwrap_err().code(),
            ErrorCode::Conflict
        );
        assert_eq!(
            check_folder(&root.path().join("file")).unwrap_err().code(),
            ErrorCode::Conflict
        );
    }
}
