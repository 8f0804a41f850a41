//! A snapshot of state in memory while updates go on: how long the barrier holds the task up, what a key costs, and
//! what the process holds meanwhile.

use std::time::Duration;

use pelton_model::schema::DataType;
use pelton_model::{Error, Result};

use super::{Random, Table};
use crate::bench::measure::{cpu_ns, resident_bytes};
use crate::bench::{Bench, Figure};
use crate::process;
use crate::settings::StateSettings;
use crate::summary::grouped;

/// Of the filled state.
const BYTES: u64 = 1_000_000_000;
const BATCH: usize = 8_192;
/// Until freed memory has gone back to the system.
const SETTLED: Duration = Duration::from_secs(1);
/// Updates go on at so many rows a second, or as fast as they can; and memory may be so many times what it was.
const PACES: [(Option<u64>, f64); 2] = [(Some(200_000), 1.3), (None, 1.6)];

pub(in crate::bench) fn memory(bench: &mut Bench<'_>) -> Result<()> {
    let bytes = bench.scaled(BYTES);
    (bench.progress)(&format!("{} MB are filled in", grouped(bytes / 1_000_000)));
    let settings = StateSettings {
        rocksdb: false,
        ..bench.settings.state.clone()
    };
    let before = resident_bytes();
    let mut table = Table::open(&settings, DataType::I64)?;
    let mut keys = 0;
    while table.state.bytes() < bytes {
        update(&mut table, (keys..keys + BATCH as i64).collect())?;
        keys += BATCH as i64;
    }
    let keys = keys as u64;
    let filled = resident_bytes();
    let name = format!(
        "snapshot of {} MB in memory, {} keys",
        grouped(bytes / 1_000_000),
        grouped(keys)
    );
    // Nothing is updated in the first one.
    let mut quiet = table.freeze()?;
    let mut frozen_ns = quiet.frozen_ns;
    let spent = cpu_ns(|| {
        while !quiet.go_on(&mut table)? {}
        Ok(())
    })?;
    quiet.finish()?;
    // What growing has freed goes back to the system by and by: the least is what the state takes.
    std::thread::sleep(SETTLED);
    let held = filled.min(resident_bytes());
    let held = held.saturating_sub(before).max(1);
    let mib = held as f64 / f64::from(1 << 20);
    bench.add(Figure::plain(format!("{name}: memory of it"), mib, "MiB"));
    let a_key = spent / keys as f64;
    bench.add(Figure::plain(format!("{name}: CPU"), a_key, "ns a key"));
    for (pace, mark) in PACES {
        let words = match pace {
            Some(rows) => format!("{} updates a second", grouped(rows)),
            None => "updates at full speed".to_owned(),
        };
        (bench.progress)(&words);
        let one = one(&mut table, keys, pace)?;
        frozen_ns = frozen_ns.max(one.frozen_ns);
        let most = one.most.saturating_sub(before) as f64;
        bench.add(Figure::bounded(
            format!("{name}, {words}: memory against before"),
            most / held as f64,
            "x",
            mark,
        ));
        bench.add(Figure::plain(
            format!("{name}, {words}: updates done"),
            one.rows as f64 * 1e9 / one.ns.max(1) as f64,
            "a second",
        ));
        let seconds = one.ns as f64 / 1e9;
        bench.add(Figure::plain(
            format!("{name}, {words}: time"),
            seconds,
            "s",
        ));
    }
    bench.add(Figure::plain(
        format!("{name}: longest freeze"),
        frozen_ns as f64 / 1e6,
        "ms",
    ));
    Ok(())
}

/// What one snapshot took.
struct One {
    frozen_ns: u64,
    /// From its beginning to its end.
    ns: u64,
    /// Rows that were updated meanwhile.
    rows: u64,
    /// The most that the process held, in bytes.
    most: u64,
}

/// One snapshot, while so many rows a second are updated.
fn one(table: &mut Table, keys: u64, pace: Option<u64>) -> Result<One> {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let began = process::monotonic();
    let mut snapshot = table.freeze()?;
    let (mut rows, mut most) = (0, resident_bytes());
    for call in 1_u64.. {
        let due = pace.is_none_or(|pace| {
            let ns = process::monotonic().since(began);
            rows < (u128::from(ns) * u128::from(pace) / 1_000_000_000) as u64
        });
        if due {
            update(table, (0..BATCH).map(|_| random.key(keys)).collect())?;
            rows += BATCH as u64;
        }
        let complete = snapshot.go_on(table)?;
        if complete || call.is_multiple_of(16) {
            most = most.max(resident_bytes());
        }
        if complete {
            break;
        }
    }
    let (ns, frozen_ns) = (process::monotonic().since(began), snapshot.frozen_ns);
    snapshot.finish()?;
    Ok(One {
        frozen_ns,
        ns,
        rows,
        most,
    })
}

/// Each of these keys has its value written again; a new one gets nothing but zeros.
fn update(table: &mut Table, keys: Vec<i64>) -> Result<()> {
    table.touch(keys)?;
    let had = table.state.read(&table.touched.slots)?.pop();
    let values = had.and_then(|mut had| had.columns.pop());
    table.put(values.ok_or_else(|| Error::bug("a state has no column"))?)
}
