use super::*;
use pelton_blob::Memory;
use pelton_engine::snapshot::section;
use pelton_model::checkpoint::{SectionRecord, TaskRecord};

fn saved(sources: &[(&str, &str)]) -> RestoreFrom {
    let sections = sources.iter().map(|(uid, _)| SectionRecord {
        spec: SectionSpec {
            uid: (*uid).to_owned(),
            ..section(SectionKind::Positions, "positions")
        },
        entries: 3,
        bytes: 30,
    });
    RestoreFrom {
        metadata: Arc::new(Metadata {
            id: 7,
            attempt: "a".into(),
            term: 1,
            job: record(sources),
            savepoint: true,
            finished: false,
            at_ms: 0,
            operators: Vec::new(),
            tasks: vec![TaskRecord {
                sections: sections.collect(),
                ..TaskRecord::default()
            }],
        }),
        inline: Arc::default(),
        blobs: Arc::new(Memory::default()),
    }
}

fn record(sources: &[(&str, &str)]) -> JobRecord {
    let own = |(uid, options): &(&str, &str)| ((*uid).to_owned(), (*options).to_owned());
    JobRecord {
        sources: sources.iter().map(own).collect(),
        ..JobRecord::default()
    }
}

#[test]
fn only_a_source_that_reads_something_else_begins_anew() {
    let from = saved(&[("a", "files x"), ("b", "files y")]);
    let (same, changed) = positions(&from, &record(&[("a", "files x"), ("c", "files z")]));
    assert!(changed.is_empty());
    assert_eq!(same.metadata, from.metadata);
    let (other, changed) = positions(&from, &record(&[("a", "files x"), ("b", "files z")]));
    assert_eq!(changed, ["b"]);
    let entries: Vec<u64> = other.metadata.tasks[0]
        .sections
        .iter()
        .map(|s| s.entries)
        .collect();
    assert_eq!(entries, [3, 0]);
}

#[test]
fn what_changes_is_said() {
    let report = Report {
        sections: Vec::new(),
        dropped: vec!["old".into()],
    };
    assert_eq!(
        lines(&report),
        ["the state of operator 'old' is left behind"]
    );
    assert_eq!(objects(&report)[0]["fate"], "dropped");
}
