//! Chunks, files, positions.

use std::collections::BTreeSet;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use pelton_engine::connector::Poll;
use pelton_model::schema::{DataType, Schema};
use pelton_model::time::Monotonic;

use super::{Reading, folder, schema, shown};

fn text() -> Schema {
    schema(&[("text", DataType::String)])
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::fast());
    out.write_all(content).unwrap();
    out.finish().unwrap()
}

/// Lines of many lengths, some empty, the last without its end.
fn lines() -> Vec<String> {
    (0..60)
        .map(|i| {
            format!("{i}{}", "x".repeat(i * i % 23))
                .split_off(usize::from(i % 7 == 0) * (1 + i / 10))
        })
        .collect()
}

#[test]
fn each_line_is_read_once_whatever_the_chunks() {
    let lines = lines();
    let expected: Vec<String> = lines
        .iter()
        .map(|l| format!("{{\"text\":\"{l}\"}}"))
        .collect();
    for end in ["", "\n"] {
        let dir = folder(&[("in.txt", (lines.join("\n") + end).as_bytes())]);
        let mut reading = Reading::new(&dir.path().join("in.txt"), &[("format", "text")], text());
        for chunk_bytes in 1..=100 {
            reading.chunk_bytes = chunk_bytes;
            reading.rows_max = 1 + chunk_bytes as usize % 5;
            let (batches, progress) = reading.batches().unwrap();
            let rows: Vec<String> = batches
                .iter()
                .flat_map(|b| shown(&text(), b.columns(), b.rows()))
                .collect();
            assert_eq!(rows, expected, "{chunk_bytes}");
            assert_eq!((progress.rows, progress.skipped), (60, 0));
        }
    }
}

#[test]
fn a_reader_gets_chunks_in_order_and_batches_do_not_span_them() {
    let dir = folder(&[("a.txt", b"1\n2\n3\n4\n"), ("b.txt", b"5\n6\n")]);
    let mut reading = Reading::new(dir.path(), &[("format", "text")], text());
    reading.chunk_bytes = 4;
    let mut readers = reading.readers(2).unwrap();
    let mut poll = |i: usize| match readers[i].poll(Monotonic(0), 100).unwrap() {
        Poll::Rows(batch) => shown(&text(), batch.columns(), batch.rows()).join(" "),
        other => format!("{other:?}"),
    };
    let row = |a, b| format!("{{\"text\":\"{a}\"}} {{\"text\":\"{b}\"}}");
    assert_eq!(poll(1), row(1, 2));
    assert_eq!(poll(0), row(3, 4));
    assert_eq!(poll(0), row(5, 6));
    assert_eq!((poll(0), poll(1)), ("End".to_string(), "End".to_string()));
    let names = |i: usize| {
        let positions = readers[i].positions().into_iter();
        positions.map(|p| p.split).collect::<Vec<_>>()
    };
    assert_eq!(names(0), ["reader/0", "a.txt@4", "b.txt@0"]);
    assert_eq!(names(1), ["reader/1", "a.txt@0"]);
    assert_eq!(readers[1].progress().total, Some(12));
    assert_eq!(readers[0].progress().bytes, 8);
}

#[test]
fn any_number_of_tasks_reads_each_line_once() {
    let content: String = (0..1_000).map(|i| format!("{i}\n")).collect();
    let dir = folder(&[("in.txt", content.as_bytes())]);
    let mut reading = Reading::new(dir.path(), &[("format", "text")], text());
    reading.chunk_bytes = 100;
    for parallelism in [1, 2, 4] {
        let mut seen = BTreeSet::new();
        let mut readers = reading.readers(parallelism).unwrap();
        while !readers.is_empty() {
            readers.retain_mut(|r| match r.poll(Monotonic(0), 9).unwrap() {
                Poll::Rows(batch) => {
                    for row in shown(&text(), batch.columns(), batch.rows()) {
                        assert!(seen.insert(row));
                    }
                    true
                }
                _ => false,
            });
        }
        assert_eq!(seen.len(), 1_000);
    }
}

#[test]
fn a_text_line_knows_its_place() {
    let declared = schema(&[
        ("line", DataType::String),
        ("offset", DataType::I64),
        ("file", DataType::String),
    ]);
    let dir = folder(&[("in.txt", b"one\r\n\ntwo")]);
    let path = dir.path().join("in.txt");
    let mut reading = Reading::new(&path, &[("format", "text")], declared.clone());
    for chunk_bytes in [1, 100] {
        reading.chunk_bytes = chunk_bytes;
        let row = |line, at| {
            format!(
                "{{\"line\":\"{line}\",\"offset\":{at},\"file\":\"{}\"}}",
                path.display()
            )
        };
        assert_eq!(
            reading.rows().unwrap(),
            [row("one", 0), row("", 5), row("two", 6)]
        );
    }
    reading.needed = schema(&[("offset", DataType::I64)]);
    assert_eq!(
        reading.rows().unwrap(),
        ["{\"offset\":0}", "{\"offset\":5}", "{\"offset\":6}"]
    );
}

#[test]
fn compressed_files_are_read_whole() {
    let content: String = (0..20_000).map(|i| format!("{{\"id\":{i}}}\n")).collect();
    // Two members, one behind the other, are one content.
    let (head, tail) = content.split_at(1_003);
    let packed = [gzip(head.as_bytes()), gzip(tail.as_bytes())].concat();
    let dir = folder(&[
        ("in.jsonl", &packed),
        ("torn", &packed[..packed.len() - 20]),
    ]);
    let path = dir.path().join("in.jsonl");
    let mut reading = Reading::json(&path, schema(&[("id", DataType::I64)]));
    reading.chunk_bytes = 100;
    let rows = reading.rows().unwrap();
    assert_eq!(
        (rows.len(), rows[19_999].as_str()),
        (20_000, "{\"id\":19999}")
    );

    let broken = content.replace("{\"id\":7777}", "{\"id\":7777.0}");
    std::fs::write(&path, gzip(broken.as_bytes())).unwrap();
    assert_eq!(reading.error().places()[1], ("line", "7778".to_string()));

    reading.options.insert(
        "path".to_string(),
        dir.path().join("torn").display().to_string(),
    );
    let e = reading.error();
    assert_eq!(e.code(), pelton_model::ErrorCode::InputMissing);
    assert!(e.to_string().contains("torn' cannot be read"), "{e}");
}

#[test]
fn folders_and_globs_are_read_in_the_order_of_paths() {
    let files: &[(&str, &[u8])] = &[
        ("b.txt", b"b"),
        ("a.txt", b"a"),
        ("B.log", b"B"),
        ("_x.txt", b"no"),
        (".y.txt", b"no"),
        ("z.txt", b""),
    ];
    let dir = folder(files);
    std::fs::create_dir(dir.path().join("d.txt")).unwrap();
    std::fs::write(dir.path().join("d.txt/e.txt"), "e").unwrap();
    let read = |pattern: &str| {
        let rows = Reading::new(&dir.path().join(pattern), &[("format", "text")], text())
            .rows()
            .unwrap();
        rows.iter()
            .map(|r| r[9..r.len() - 2].to_string())
            .collect::<Vec<_>>()
            .join("")
    };
    assert_eq!(read(""), "Bab");
    assert_eq!(read("*.txt"), "ab");
    assert_eq!(read("?.*"), "Bab");
    assert_eq!(read("*/*.txt"), "e");
    assert_eq!(read("*/e.txt"), "e");
    assert_eq!(read("_*"), "no");
}

#[test]
fn a_long_stretch_of_bad_lines_does_not_hold_up_the_task() {
    let content = "nothing\n".repeat(1_300_000);
    let dir = folder(&[("in.jsonl", content.as_bytes())]);
    let reading = Reading::new(
        dir.path(),
        &[("format", "json"), ("on_error", "skip")],
        schema(&[("id", DataType::I64)]),
    );
    let mut reader = reading.readers(1).unwrap().remove(0);
    let mut later = 0;
    while let Poll::Later(_) = reader.poll(Monotonic(0), 100).unwrap() {
        later += 1;
    }
    assert_eq!(later, 2);
    assert_eq!(reader.progress().skipped, 1_300_000);
}

#[test]
fn the_batch_is_cut_by_bytes_too() {
    let content = format!("{{\"t\":\"{}\"}}\n", "x".repeat(1_000_000)).repeat(12);
    let dir = folder(&[("in.jsonl", content.as_bytes())]);
    let mut reading = Reading::json(dir.path(), schema(&[("t", DataType::String)]));
    reading.chunk_bytes = 1 << 30;
    let (batches, _) = reading.batches().unwrap();
    assert_eq!(
        batches
            .iter()
            .map(pelton_model::batch::Batch::rows)
            .collect::<Vec<_>>(),
        [5, 5, 2]
    );
}
