//! The names of the sink's files: which task wrote them, with which checkpoint they are shown, and in which start of the job.
//!
//! Invariant: no two starts make the same name. So a process that was passed, and does not know it yet, can tell what a
//! later start has written, and leaves it alone, however long it stands still between looking and removing.
//!
//! | name | what |
//! |---|---|
//! | `part-TASK-CHECKPOINT-NUMBER-LOG-TERM.EXT` | a complete file; LOG is eight hexadecimal digits |
//! | `.part-TASK-NUMBER-LOG-TERM.EXT.inprogress` | one that is being written, or waits for its checkpoint |
//! | `part-TASK-NUMBER.EXT`, `.part-TASK-NUMBER.EXT.inprogress` | likewise, of a job without checkpoints |

use crate::StartId;

const VISIBLE: &str = "part-";
const HIDDEN: &str = ".part-";
const IN_PROGRESS: &str = ".inprogress";

/// A complete file.
pub(super) fn visible(
    (task, number): (u32, u32),
    checkpoint: u64,
    start: Option<StartId>,
    extension: &str,
) -> String {
    match start {
        None => format!("{VISIBLE}{task}-{number}.{extension}"),
        Some(StartId { log, term }) => {
            format!("{VISIBLE}{task}-{checkpoint}-{number}-{log:08x}-{term}.{extension}")
        }
    }
}

/// A file that is being written, or waits for its checkpoint.
pub(super) fn hidden(
    (task, number): (u32, u32),
    start: Option<StartId>,
    extension: &str,
) -> String {
    match start {
        None => format!("{HIDDEN}{task}-{number}.{extension}{IN_PROGRESS}"),
        Some(StartId { log, term }) => {
            format!("{HIDDEN}{task}-{number}-{log:08x}-{term}.{extension}{IN_PROGRESS}")
        }
    }
}

/// Whether it is the name of a complete file, of whatever run.
pub(super) fn is_visible(name: &str) -> bool {
    name.starts_with(VISIBLE)
}

/// Whether it is the name of a file that is not shown, of whatever run.
pub(super) fn is_hidden(name: &str) -> bool {
    name.starts_with(HIDDEN) && name.ends_with(IN_PROGRESS)
}

/// The checkpoint in the name of a complete file.
pub(super) fn checkpoint(name: &str) -> Option<u64> {
    let (stem, _) = name.strip_prefix(VISIBLE)?.split_once('.')?;
    let mut parts = stem.split('-');
    let (_task, checkpoint) = (parts.next()?, parts.next()?);
    let _number: u32 = parts.next()?.parse().ok()?;
    checkpoint.parse().ok()
}

/// The start that made a file of this name, complete or not, if it tells.
fn start(name: &str) -> Option<StartId> {
    let name = name.strip_prefix('.').unwrap_or(name);
    let (stem, _) = name.strip_prefix(VISIBLE)?.split_once('.')?;
    let mut parts = stem.rsplit('-');
    let (term, log) = (parts.next()?, parts.next()?);
    // Before them there are two numbers at least.
    parts.nth(1)?;
    let log = (log.len() == 8).then(|| u32::from_str_radix(log, 16).ok())??;
    Some(StartId {
        log,
        term: term.parse().ok()?,
    })
}

/// Whether a start may remove a file of this name: all but those of its own and of starts that have passed it.
pub(super) fn may_remove(name: &str, ours: Option<StartId>) -> bool {
    match (start(name), ours) {
        (Some(of), Some(ours)) => of.log != ours.log || of.term < ours.term,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_removes_what_is_of_earlier_ones_and_of_others_alone() {
        let of = |log, term| Some(StartId { log, term });
        let names = |start| {
            let task = (3, 4);
            [visible(task, 7, start, "csv"), hidden(task, start, "csv")]
        };
        assert_eq!(
            names(of(0xab, 12)),
            [
                "part-3-7-4-000000ab-12.csv",
                ".part-3-4-000000ab-12.csv.inprogress"
            ]
        );
        assert_eq!(names(None), ["part-3-4.csv", ".part-3-4.csv.inprogress"]);
        for name in names(of(0xab, 12)) {
            assert_eq!(start(&name), of(0xab, 12));
            assert!(may_remove(&name, of(0xab, 13)) && may_remove(&name, of(0xac, 1)));
            assert!(may_remove(&name, None));
            assert!(!may_remove(&name, of(0xab, 12)) && !may_remove(&name, of(0xab, 11)));
        }
        let others = [
            "part-3-4.csv",
            "part-0-7-4.csv",
            ".part-3-4.csv.inprogress",
            ".part-3-4-00000000000000ab.csv.inprogress",
            "part-mine.csv",
            "part-12345678-4.csv",
        ];
        for name in others {
            assert_eq!(start(name), None, "{name}");
            assert!(may_remove(name, of(0xab, 1)), "{name}");
        }
        assert_eq!(checkpoint("part-3-7-4-000000ab-12.csv"), Some(7));
        assert_eq!(checkpoint("part-3-7-4.csv"), Some(7));
        assert_eq!(checkpoint("part-3-7.csv"), None);
    }
}
