//! What must come out of a case, what did, and how the two differ.
//! Needs: std. Files of an output folder are one multiset of lines: how rows are dealt to files is the tasks' affair.

use std::fs;
use std::io::Result;
use std::path::Path;

use super::Order;

/// Lines of a difference that are shown of each kind.
const SHOWN_MAX: usize = 20;

/// `expected.txt` and `expected/`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Expected {
    stdout: Option<Vec<String>>,
    files: Option<Vec<String>>,
}

/// Lines of the standard output, and of all files in the output folder.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Actual {
    stdout: Vec<String>,
    files: Vec<String>,
}

impl Expected {
    pub(super) fn read(case: &Path) -> Result<Self> {
        let stdout = match fs::read(case.join("expected.txt")) {
            Ok(text) => Some(lines(&text)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        let folder = case.join("expected");
        let files = if folder.is_dir() {
            Some(lines_below(&folder)?)
        } else {
            None
        };
        Ok(Self { stdout, files })
    }

    pub(super) fn is_nothing(&self) -> bool {
        self.stdout.is_none() && self.files.is_none()
    }

    /// The difference as text. What the case says nothing of may be anything.
    pub(super) fn difference(&self, actual: &Actual, order: Order) -> Option<String> {
        let stdout = self.stdout.as_ref().and_then(|e| match order {
            Order::Any => as_multisets(e, &actual.stdout),
            Order::Exact => in_order(e, &actual.stdout),
        });
        let files = self
            .files
            .as_ref()
            .and_then(|e| as_multisets(e, &actual.files));
        let parts = [("standard output", stdout), ("files", files)];
        let text: Vec<String> = parts
            .into_iter()
            .filter_map(|(what, d)| Some(format!("{what}:\n{}", d?)))
            .collect();
        (!text.is_empty()).then(|| text.join("\n"))
    }
}

impl Actual {
    pub(super) fn read(stdout: &[u8], out: &Path) -> Result<Self> {
        Ok(Self {
            stdout: lines(stdout),
            files: lines_below(out)?,
        })
    }

    /// Makes this the expected output of a case.
    pub(super) fn write(&self, case: &Path, order: Order) -> Result<()> {
        let text = |lines: &[String], sort: bool| {
            let mut lines = lines.to_vec();
            if sort {
                lines.sort();
            }
            lines.iter().map(|l| format!("{l}\n")).collect::<String>()
        };
        let (file, folder) = (case.join("expected.txt"), case.join("expected"));
        if !self.stdout.is_empty() || file.exists() || self.files.is_empty() {
            fs::write(file, text(&self.stdout, order == Order::Any))?;
        }
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        if !self.files.is_empty() {
            fs::create_dir_all(&folder)?;
            fs::write(folder.join("lines.txt"), text(&self.files, true))?;
        }
        Ok(())
    }
}

fn lines(text: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(text)
        .lines()
        .map(str::to_owned)
        .collect()
}

/// The lines of all files below a folder, file by file in the order of their names.
fn lines_below(folder: &Path) -> Result<Vec<String>> {
    let mut paths: Vec<_> = fs::read_dir(folder)?
        .map(|e| e.map(|e| e.path()))
        .collect::<Result<_>>()?;
    paths.sort();
    let mut all = Vec::new();
    for path in paths {
        if path.is_dir() {
            all.extend(lines_below(&path)?);
        } else {
            all.extend(lines(&fs::read(&path)?));
        }
    }
    Ok(all)
}

fn in_order(expected: &[String], actual: &[String]) -> Option<String> {
    let longest = expected.len().max(actual.len());
    let place = (0..longest).find(|i| expected.get(*i) != actual.get(*i))?;
    let at = |lines: &[String]| {
        lines
            .get(place)
            .cloned()
            .unwrap_or_else(|| "(the end)".to_owned())
    };
    Some(format!(
        "  line {} differs\n  - {}\n  + {}",
        place + 1,
        at(expected),
        at(actual)
    ))
}

fn as_multisets(expected: &[String], actual: &[String]) -> Option<String> {
    let (mut want, mut have) = (expected.to_vec(), actual.to_vec());
    want.sort();
    have.sort();
    let (mut missing, mut surplus) = (Vec::new(), Vec::new());
    let (mut want, mut have) = (want.into_iter().peekable(), have.into_iter().peekable());
    loop {
        match (want.peek(), have.peek()) {
            (None, None) => break,
            (Some(w), Some(h)) if w == h => {
                want.next();
                have.next();
            }
            (Some(w), h) if h.is_none_or(|h| w < h) => missing.extend(want.next()),
            _ => surplus.extend(have.next()),
        }
    }
    if missing.is_empty() && surplus.is_empty() {
        return None;
    }
    let show = |sign: char, lines: &[String]| {
        let mut text: Vec<String> = lines
            .iter()
            .take(SHOWN_MAX)
            .map(|l| format!("  {sign} {l}"))
            .collect();
        if lines.len() > SHOWN_MAX {
            text.push(format!("  {sign} ... and {} more", lines.len() - SHOWN_MAX));
        }
        text
    };
    Some(
        [show('-', &missing), show('+', &surplus)]
            .concat()
            .join("\n"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|l| (*l).to_owned()).collect()
    }

    #[test]
    fn multisets_count_and_ignore_order() {
        assert_eq!(
            as_multisets(&of(&["a", "b", "a"]), &of(&["b", "a", "a"])),
            None
        );
        let difference = as_multisets(&of(&["a", "a", "c"]), &of(&["b", "a"])).unwrap();
        assert_eq!(difference, "  - a\n  - c\n  + b");
    }

    #[test]
    fn exact_order_names_the_first_line() {
        assert_eq!(in_order(&of(&["a"]), &of(&["a"])), None);
        assert_eq!(
            in_order(&of(&["a", "b"]), &of(&["a"])).unwrap(),
            "  line 2 differs\n  - b\n  + (the end)"
        );
    }

    #[test]
    fn long_differences_are_cut() {
        let many: Vec<String> = (0..25).map(|i| format!("{i:02}")).collect();
        assert!(
            as_multisets(&many, &[])
                .unwrap()
                .ends_with("  - ... and 5 more")
        );
    }

    #[test]
    fn an_update_is_what_is_then_expected() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Expected::read(folder.path()).unwrap().is_nothing());
        let actual = Actual {
            stdout: of(&["b", "a"]),
            files: of(&["x"]),
        };
        actual.write(folder.path(), Order::Any).unwrap();
        let expected = Expected::read(folder.path()).unwrap();
        assert_eq!(
            expected,
            Expected {
                stdout: Some(of(&["a", "b"])),
                files: Some(of(&["x"]))
            }
        );
        assert_eq!(expected.difference(&actual, Order::Any), None);
        assert!(
            expected
                .difference(&actual, Order::Exact)
                .unwrap()
                .starts_with("standard output:\n  line 1 differs")
        );
    }
}
