//! `print`: rows as lines on the standard output, in the order in which each task gets them.
//!
//! Options: `format` is `text` (a single column as its value, else `name=value` pairs) or `json` (an object a line);
//! `prefix=true` puts `N> ` before each line, the task's number from 1 on; `timestamps` is `rfc3339`, `sql` or
//! `millis`. Rows of a changelog begin with their kind: `+I`, `-U`, `+U`, `-D`, in JSON as the field `op`.
//! Lines of several tasks never mix within a line. Nothing is kept back longer than a batch.

use std::io::ErrorKind;
use std::sync::{Arc, PoisonError};

use pelton_engine::connector::{Delivery, Sink, SinkWriter};
use pelton_model::batch::Batch;
use pelton_model::schema::Schema;
use pelton_model::{Error, ErrorCode, Result};

use crate::options::Options;
use crate::text::{TimeFormat, kind_word, write_json_change, write_text_value};
use crate::{OptionMap, Output, SinkRequest};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Format {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    format: Format,
    prefix: bool,
    times: TimeFormat,
}

fn parse(options: &OptionMap) -> Result<Settings> {
    let options = Options::new("print", options, &["format", "prefix", "timestamps"])?;
    Ok(Settings {
        format: options.choice(
            "format",
            &[("text", Format::Text), ("json", Format::Json)],
            Format::Text,
        )?,
        prefix: options.flag("prefix", false)?,
        times: options.choice("timestamps", &TimeFormat::CHOICES, TimeFormat::default())?,
    })
}

pub(crate) fn check_sink(options: &OptionMap, _schema: &Schema) -> Result<()> {
    parse(options).map(|_| ())
}

pub(crate) fn delivery(_options: &OptionMap) -> Result<Delivery> {
    Ok(Delivery::AtLeastOnce)
}

pub(crate) fn open_sink(request: &SinkRequest<'_>) -> Result<Arc<dyn Sink>> {
    let settings = parse(request.options)?;
    let names = request
        .schema
        .fields
        .iter()
        .map(|f| f.name.clone())
        .collect();
    Ok(Arc::new(Print {
        settings,
        names,
        output: request.output.clone(),
    }))
}

struct Print {
    settings: Settings,
    names: Arc<[String]>,
    output: Output,
}

impl Sink for Print {
    /// What is printed is seen, and cannot be taken back.
    fn delivery(&self) -> Delivery {
        Delivery::AtLeastOnce
    }

    fn writer(&self, index: u32, _parallelism: u32) -> Result<Box<dyn SinkWriter>> {
        let prefix = if self.settings.prefix {
            format!("{}> ", u64::from(index) + 1)
        } else {
            String::new()
        };
        let (settings, names, output) = (self.settings, self.names.clone(), self.output.clone());
        Ok(Box::new(Writer {
            settings,
            names,
            output,
            prefix,
            lines: Vec::new(),
        }))
    }
}

struct Writer {
    settings: Settings,
    names: Arc<[String]>,
    output: Output,
    prefix: String,
    /// The lines of one batch; kept between batches for its memory.
    lines: Vec<u8>,
}

impl Writer {
    fn line(&mut self, batch: &Batch, row: usize) {
        let (out, times) = (&mut self.lines, self.settings.times);
        out.extend_from_slice(self.prefix.as_bytes());
        let op = batch
            .kinds()
            .and_then(|k| k.get(row))
            .map(|k| kind_word(*k));
        let names = self.names.iter().map(String::as_str);
        match self.settings.format {
            Format::Json => {
                write_json_change(out, op, names, batch.columns(), row, times);
            }
            Format::Text => {
                if let Some(op) = op {
                    out.extend_from_slice(op.as_bytes());
                    out.push(b' ');
                }
                let single = batch.columns().len() == 1;
                for (i, (name, column)) in names.zip(batch.columns()).enumerate() {
                    if i > 0 {
                        out.push(b' ');
                    }
                    if !single {
                        out.extend_from_slice(name.as_bytes());
                        out.push(b'=');
                    }
                    write_text_value(out, column.as_ref(), row, times);
                }
            }
        }
        out.push(b'\n');
    }
}

impl SinkWriter for Writer {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        let batch = batch.materialize()?;
        self.lines.clear();
        for row in 0..batch.len() {
            self.line(&batch, row);
        }
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        output.write_all(&self.lines).map_err(refused)
    }

    fn flush(&mut self) -> Result<()> {
        self.output
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .flush()
            .map_err(refused)
    }

    fn finish(&mut self) -> Result<()> {
        self.flush()
    }
}

fn refused(e: std::io::Error) -> Error {
    let message = match e.kind() {
        ErrorKind::BrokenPipe => "standard output was closed".to_owned(),
        _ => format!("standard output cannot be written: {e}"),
    };
    Error::new(ErrorCode::OutputFailed, message)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Mutex;

    use arrow_array::{ArrayRef, Int64Array, StringArray, TimestampMillisecondArray};
    use pelton_model::limits::Limits;
    use pelton_model::schema::{DataType, Field};

    use super::*;

    fn sink(options: &[(&str, &str)], names: &[&str], output: Output) -> Result<Arc<dyn Sink>> {
        let options: OptionMap = options
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        // The types are the columns' own; print reads only the names.
        let schema = Schema::new(
            names
                .iter()
                .map(|n| Field::new(*n, DataType::I64))
                .collect(),
        );
        let limits = Limits::default();
        let parts = (&options, &schema, &limits);
        open_sink(&SinkRequest {
            connector: "print",
            options: parts.0,
            schema: parts.1,
            limits: parts.2,
            parallelism: 2,
            batch: false,
            start: None,
            resumed: false,
            output,
        })
    }

    fn printed(options: &[(&str, &str)], names: &[&str], batch: &Batch) -> String {
        let buffer: Arc<Mutex<Vec<u8>>> = Arc::default();
        let mut writer = sink(options, names, buffer.clone())
            .unwrap()
            .writer(1, 2)
            .unwrap();
        writer.write(batch).unwrap();
        writer.finish().unwrap();
        let bytes = buffer.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn two() -> Batch {
        let words: ArrayRef = Arc::new(StringArray::from(vec![Some("a b"), None, Some("\"")]));
        let times: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![0, 1, 2]));
        Batch::new(vec![words, times], 3)
            .unwrap()
            .select(vec![2, 0, 1].into())
            .unwrap()
    }

    #[test]
    fn a_single_column_is_its_value_and_several_are_pairs() {
        let one = Batch::new(
            vec![Arc::new(Int64Array::from(vec![Some(7), None])) as ArrayRef],
            2,
        )
        .unwrap();
        assert_eq!(printed(&[], &["n"], &one), "7\nnull\n");
        assert_eq!(
            printed(&[("timestamps", "sql")], &["word", "at"], &two()),
            "word=\" at=1970-01-01 00:00:00.002\nword=a b at=1970-01-01 00:00:00.000\nword=null at=1970-01-01 00:00:00.001\n"
        );
    }

    #[test]
    fn json_is_an_object_a_line() {
        assert_eq!(
            printed(
                &[
                    ("format", "json"),
                    ("prefix", "true"),
                    ("timestamps", "millis")
                ],
                &["word", "at"],
                &two()
            ),
            "2> {\"word\":\"\\\"\",\"at\":2}\n2> {\"word\":\"a b\",\"at\":0}\n2> {\"word\":null,\"at\":1}\n"
        );
    }

    #[test]
    fn rows_of_a_changelog_begin_with_their_kind() {
        let n: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3, 4]));
        let batch = Batch::new(vec![n], 4)
            .unwrap()
            .with_kinds(Some(vec![0, 1, 2, 3].into()))
            .unwrap();
        assert_eq!(printed(&[], &["n"], &batch), "+I 1\n-U 2\n+U 3\n-D 4\n");
        let some = batch.select(vec![3].into()).unwrap();
        assert_eq!(
            printed(&[("format", "json")], &["n"], &some),
            "{\"op\":\"-D\",\"n\":4}\n"
        );
    }

    struct Closed(ErrorKind);

    impl Write for Closed {
        fn write(&mut self, _bytes: &[u8]) -> std::io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_closed_pipe_is_an_error_with_a_reason() {
        for (kind, message) in [
            (ErrorKind::BrokenPipe, "standard output was closed"),
            (
                ErrorKind::StorageFull,
                "standard output cannot be written: no storage space",
            ),
        ] {
            let sink = sink(&[], &["a", "b"], Arc::new(Mutex::new(Closed(kind)))).unwrap();
            let e = sink.writer(0, 1).unwrap().write(&two()).unwrap_err();
            assert_eq!(e.code(), ErrorCode::OutputFailed);
            assert_eq!(e.to_string(), message);
        }
    }

    #[test]
    fn options_are_checked() {
        let output = || -> Output { Arc::new(Mutex::new(Vec::new())) };
        assert!(
            sink(&[("format", "xml")], &[], output())
                .err()
                .unwrap()
                .message()
                .contains("text, json")
        );
        assert!(
            sink(&[("formt", "json")], &[], output())
                .err()
                .unwrap()
                .message()
                .contains("'format'")
        );
    }
}
