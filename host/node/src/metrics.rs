//! A job's counters as Prometheus text, over plain HTTP.
//! Needs: local's progress. Invariant: a scrape reads the last text that was published and never disturbs a task.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pelton_model::{Error, ErrorCode, Result};

use crate::local::{Explanation, Holder, Progress};
use crate::process;

/// The endpoint of one run; it lives as long as the process.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    text: Arc<Mutex<Arc<str>>>,
}

impl Endpoint {
    /// Listens. Errors: `Usage` for an address that is none, `Io` for one that is taken.
    pub(crate) fn listen(address: &str) -> Result<Self> {
        let refused = |e: std::io::Error| {
            let code = match e.kind() {
                std::io::ErrorKind::InvalidInput => ErrorCode::Usage,
                _ => ErrorCode::Io,
            };
            Error::new(
                code,
                format!("metrics cannot be served at '{address}': {e}"),
            )
            .help("an address is such as 127.0.0.1:9090; port 0 takes any that is free")
        };
        let listener = TcpListener::bind(address).map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let endpoint = Self {
            address,
            text: Arc::new(Mutex::new("".into())),
        };
        let shared = endpoint.text.clone();
        let serve = move || {
            for stream in listener.incoming().flatten() {
                let text = shared
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clone();
                // A scraper that goes away is its own affair.
                let _ = answer(stream, &text);
            }
        };
        std::thread::Builder::new()
            .name("metrics".into())
            .spawn(serve)
            .map_err(refused)?;
        Ok(endpoint)
    }

    /// Makes these counters the ones that are read.
    pub(crate) fn publish(&self, job: &str, progress: &Progress) {
        *self.text.lock().unwrap_or_else(PoisonError::into_inner) = render(job, progress).into();
    }
}

/// A request's head may have so many bytes.
const HEAD_BYTES_MAX: u64 = 16 << 10;

fn answer(stream: TcpStream, text: &str) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.set_write_timeout(Some(Duration::from_secs(2)))?;
    let mut reader = BufReader::new((&stream).take(HEAD_BYTES_MAX));
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let path = first.split(' ').nth(1).unwrap_or_default();
    let (status, body) = match path.split('?').next() {
        Some("/metrics" | "/") => ("200 OK", text),
        _ => ("404 Not Found", "see /metrics\n"),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    (&stream).write_all(head.as_bytes())?;
    (&stream).write_all(body.as_bytes())
}

/// One counter or gauge with all its samples.
struct Family {
    name: String,
    gauge: bool,
    help: &'static str,
    samples: Vec<(String, f64)>,
}

fn render(job: &str, progress: &Progress) -> String {
    let mut families = operator_families(job, progress);
    families.extend(watermark_families(job, &progress.watermark));
    families.extend(user_families(job, progress));
    let whole = |name: &str, gauge, help, value| Family {
        name: name.into(),
        gauge,
        help,
        samples: vec![(String::new(), value)],
    };
    families.push(whole(
        "process_cpu_seconds_total",
        false,
        "CPU time of the process",
        process::cpu_seconds(),
    ));
    families.push(whole(
        "pelton_process_peak_memory_bytes",
        true,
        "the most memory so far",
        process::peak_memory_bytes() as f64,
    ));
    let mut text = String::new();
    for family in families.iter().filter(|f| !f.samples.is_empty()) {
        let kind = if family.gauge { "gauge" } else { "counter" };
        let _ = writeln!(
            text,
            "# HELP {} {}\n# TYPE {} {kind}",
            family.name, family.help, family.name
        );
        for (labels, value) in &family.samples {
            let labels = if labels.is_empty() {
                String::new()
            } else {
                format!("{{{labels}}}")
            };
            let _ = writeln!(text, "{}{labels} {value}", family.name);
        }
    }
    text
}

fn operator_families(job: &str, progress: &Progress) -> Vec<Family> {
    type Read = fn(&crate::local::TaskCounters) -> Option<f64>;
    let table: [(&str, bool, &'static str, Read); 6] = [
        ("records_in_total", false, "rows in", |t| {
            Some(t.rows_in as f64)
        }),
        (
            "records_out_total",
            false,
            "rows out, on all streams",
            |t| Some(t.rows_out as f64),
        ),
        (
            "late_records_total",
            false,
            "rows that came too late",
            |t| Some(t.late as f64),
        ),
        (
            "skipped_records_total",
            false,
            "records that a source passed over",
            |t| Some(t.skipped as f64),
        ),
        ("state_entries", true, "keys or accumulators held", |t| {
            Some(t.state_entries as f64)
        }),
        (
            "watermark_timestamp_seconds",
            true,
            "the current watermark",
            |t| {
                (t.watermark != i64::MIN && t.watermark != i64::MAX)
                    .then_some(t.watermark as f64 / 1_000.0)
            },
        ),
    ];
    let families = table.iter().map(|(name, gauge, help, read)| {
        let all = progress
            .operators
            .iter()
            .flat_map(|op| op.tasks.iter().map(move |t| (op, t)));
        let samples = all.filter_map(|(op, task)| {
            let labels = format!(
                "job=\"{}\",operator=\"{}\",task=\"{}\"",
                escape(job),
                escape(&op.name),
                task.task
            );
            Some((labels, read(task)?))
        });
        Family {
            name: format!("pelton_operator_{name}"),
            gauge: *gauge,
            help,
            samples: samples.collect(),
        }
    });
    families.collect()
}

/// What event time waits for: a sample for each operator that makes watermarks, whichever split holds it, and for each task
/// that took timestamps far ahead.
fn watermark_families(job: &str, watermark: &Explanation) -> Vec<Family> {
    let job = escape(job);
    let place = |operator: &str, sources: &[String], task: u32, split: Option<&str>| {
        format!(
            "job=\"{job}\",operator=\"{}\",source=\"{}\",task=\"{task}\",split=\"{}\"",
            escape(operator),
            escape(&sources.join(",")),
            escape(split.unwrap_or_default()),
        )
    };
    let held = |value: fn(&Holder) -> Option<f64>| {
        let held = watermark.held_by.iter().filter_map(|h| {
            let place = place(&h.operator, &h.sources, h.task, h.split.as_deref());
            Some((format!("{place},reason=\"{}\"", h.why), value(h)?))
        });
        held.collect()
    };
    let ahead = watermark.far_ahead.iter().map(|f| {
        let place = place(&f.operator, &f.sources, f.task, f.split.as_deref());
        (place, f.count as f64)
    });
    let family = |name: &str, gauge, help, samples| Family {
        name: format!("pelton_{name}"),
        gauge,
        help,
        samples,
    };
    vec![
        family(
            "watermark_held_seconds",
            true,
            "for how long the split that is named has held the operator's watermark, and why",
            held(|h| Some(h.for_ms as f64 / 1_000.0)),
        ),
        family(
            "watermark_held_at_timestamp_seconds",
            true,
            "at which watermark it is held",
            held(|h| h.watermark.map(|w| w as f64 / 1_000.0)),
        ),
        family(
            "timestamps_far_ahead_total",
            false,
            "timestamps years beyond all before them; the split of the last is named",
            ahead.collect(),
        ),
        family(
            "watermarks_back_total",
            false,
            "watermarks of generators that went back, and were passed over",
            vec![(format!("job=\"{job}\""), watermark.went_back as f64)],
        ),
    ]
}

fn user_families(job: &str, progress: &Progress) -> Vec<Family> {
    let mut families: Vec<Family> = Vec::new();
    for (task, metric) in &progress.user {
        let suffix = if metric.gauge { "" } else { "_total" };
        let name = format!("pelton_user_{}{suffix}", plain(&metric.name));
        let sample = (
            format!(
                "job=\"{}\",chain=\"{}\",task=\"{}\"",
                escape(job),
                task.chain.0,
                task.index
            ),
            metric.value,
        );
        match families.iter_mut().find(|f| f.name == name) {
            Some(family) => family.samples.push(sample),
            None => families.push(Family {
                name,
                gauge: metric.gauge,
                help: "of the job's own functions",
                samples: vec![sample],
            }),
        }
    }
    families
}

fn escape(label: &str) -> String {
    label
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

/// A metric's name may have letters, digits and underscores.
fn plain(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::{FarAhead, OperatorProgress, TaskCounters};
    use pelton_engine::function::UserMetric;
    use pelton_model::id::{ChainId, OperatorId, TaskId};

    fn progress() -> Progress {
        let counters = TaskCounters {
            rows_in: 7,
            watermark: 1_500,
            ..TaskCounters::default()
        };
        let operators = vec![OperatorProgress {
            id: OperatorId(0),
            name: "co\"unt".into(),
            tasks: vec![counters],
        }];
        let task = TaskId {
            chain: ChainId(1),
            index: 0,
        };
        let user = vec![(
            task,
            UserMetric {
                name: "bad rows".into(),
                gauge: false,
                value: 2.0,
            },
        )];
        Progress {
            operators,
            user,
            ..Progress::default()
        }
    }

    #[test]
    fn counters_have_the_names_of_the_field() {
        let text = render("j", &progress());
        for line in [
            "# TYPE pelton_operator_records_in_total counter",
            "pelton_operator_records_in_total{job=\"j\",operator=\"co\\\"unt\",task=\"0\"} 7",
            "pelton_operator_watermark_timestamp_seconds{job=\"j\",operator=\"co\\\"unt\",task=\"0\"} 1.5",
            "pelton_user_bad_rows_total{job=\"j\",chain=\"1\",task=\"0\"} 2",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn what_holds_the_watermark_is_told_with_the_reason() {
        let holder = Holder {
            operator: "timestamps".into(),
            sources: vec!["li\"nes".into()],
            task: 1,
            split: Some("a.jsonl".into()),
            watermark: Some(2_500),
            for_ms: 61_500,
            why: "no-data",
            reason: "no row for 61.5 s".into(),
            release: "a row".into(),
        };
        let unknown = Holder {
            operator: "other".into(),
            split: None,
            watermark: None,
            why: "never-started",
            ..holder.clone()
        };
        let far = FarAhead {
            operator: "timestamps".into(),
            sources: vec!["b".into()],
            task: 0,
            split: None,
            count: 3,
            time: 9,
            after: None,
        };
        let progress = Progress {
            watermark: Explanation {
                held_by: vec![holder, unknown],
                far_ahead: vec![far],
                went_back: 4,
            },
            ..Progress::default()
        };
        let text = render("j", &progress);
        let held = "job=\"j\",operator=\"timestamps\",source=\"li\\\"nes\",task=\"1\",split=\"a.jsonl\",reason=\"no-data\"";
        let other = "job=\"j\",operator=\"other\",source=\"li\\\"nes\",task=\"1\",split=\"\",reason=\"never-started\"";
        for line in [
            "# TYPE pelton_watermark_held_seconds gauge",
            &format!("pelton_watermark_held_seconds{{{held}}} 61.5"),
            &format!("pelton_watermark_held_at_timestamp_seconds{{{held}}} 2.5"),
            &format!("pelton_watermark_held_seconds{{{other}}} 61.5"),
            "# TYPE pelton_timestamps_far_ahead_total counter",
            "pelton_timestamps_far_ahead_total{job=\"j\",operator=\"timestamps\",source=\"b\",task=\"0\",split=\"\"} 3",
            "pelton_watermarks_back_total{job=\"j\"} 4",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        let held_at = text
            .lines()
            .filter(|l| l.starts_with("pelton_watermark_held_at"));
        assert_eq!(
            held_at.count(),
            1,
            "there is none before the first watermark"
        );
    }

    #[test]
    fn a_scrape_gets_the_last_text() {
        let endpoint = Endpoint::listen("127.0.0.1:0").unwrap();
        endpoint.publish("j", &progress());
        let get = |path: &str| {
            let mut stream = TcpStream::connect(endpoint.address).unwrap();
            write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        };
        assert!(get("/metrics").starts_with("HTTP/1.1 200 OK\r\n"));
        assert!(get("/metrics").contains("pelton_operator_records_in_total"));
        assert!(get("/x").starts_with("HTTP/1.1 404"));
    }

    #[test]
    fn a_taken_address_is_said_so() {
        let endpoint = Endpoint::listen("127.0.0.1:0").unwrap();
        let error = Endpoint::listen(&endpoint.address.to_string()).unwrap_err();
        assert_eq!(error.code(), ErrorCode::Io);
        assert_eq!(
            Endpoint::listen("nowhere").unwrap_err().code(),
            ErrorCode::Usage
        );
    }
}
