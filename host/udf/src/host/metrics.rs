//! `pelton:job/metrics`: a function's own counters and gauges, bounded in number.

use pelton_engine::function::UserMetric;
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, WasmStr};

use crate::admit::interface;
use crate::sandbox::guest::State;
use crate::sandbox::limits::Stopped;

/// The most metrics of one instance.
pub const METRICS_MAX: usize = 256;
/// The most bytes of a metric's name.
pub const METRIC_NAME_BYTES_MAX: usize = 128;

#[derive(Clone, Copy, PartialEq, Eq, Debug, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
#[cfg_attr(
    not(test),
    expect(
        dead_code,
        reason = "lifted from the guest's memory, which rustc does not see"
    )
)]
enum Kind {
    #[component(name = "counter")]
    Counter,
    #[component(name = "gauge")]
    Gauge,
}

/// One instance's metrics.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    all: Vec<UserMetric>,
}

impl Metrics {
    /// As they are now.
    pub(crate) fn all(&self) -> &[UserMetric] {
        &self.all
    }

    fn register(&mut self, kind: Kind, name: &str) -> Result<u32, Stopped> {
        let gauge = kind == Kind::Gauge;
        if let Some(place) = self.all.iter().position(|m| m.name == name) {
            return match self.all.get(place) {
                Some(m) if m.gauge == gauge => Ok(place as u32),
                _ => Err(Stopped::Misuse(format!(
                    "registered '{name}' as a counter and as a gauge"
                ))),
            };
        }
        if name.is_empty() || name.len() > METRIC_NAME_BYTES_MAX {
            return Err(Stopped::Misuse(format!(
                "registered a metric whose name has {} bytes; 1 to {METRIC_NAME_BYTES_MAX} are allowed",
                name.len()
            )));
        }
        if self.all.len() >= METRICS_MAX {
            return Err(Stopped::Misuse(format!(
                "registered more than {METRICS_MAX} metrics"
            )));
        }
        self.all.push(UserMetric {
            name: name.to_string(),
            gauge,
            value: 0.0,
        });
        Ok(self.all.len() as u32 - 1)
    }

    fn update(&mut self, metric: u32, value: f64) -> Result<(), Stopped> {
        let metric = self.all.get_mut(metric as usize).ok_or_else(|| {
            Stopped::Misuse(format!(
                "updated metric {metric}, which it never registered"
            ))
        })?;
        if metric.gauge {
            metric.value = value;
        } else if value.is_finite() {
            // One NaN would make a counter useless for ever.
            metric.value += value;
        }
        Ok(())
    }
}

/// Links the interface.
pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut metrics = linker.instance(&interface("metrics"))?;
    metrics.func_wrap(
        "register",
        |mut store: StoreContextMut<'_, State>, (kind, name): (Kind, WasmStr)| {
            let name = name.to_str(&store)?.into_owned();
            Ok((store.data_mut().metrics.register(kind, &name)?,))
        },
    )?;
    metrics.func_wrap(
        "update",
        |mut store: StoreContextMut<'_, State>, (changes,): (Vec<(u32, f64)>,)| {
            let metrics = &mut store.data_mut().metrics;
            for (metric, value) in changes {
                metrics.update(metric, value)?;
            }
            Ok(())
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_add_and_gauges_are_set() {
        let mut m = Metrics::default();
        let seen = m.register(Kind::Counter, "seen").unwrap();
        let depth = m.register(Kind::Gauge, "depth").unwrap();
        assert_eq!(m.register(Kind::Counter, "seen"), Ok(seen));
        for v in [1.0, 2.0, f64::NAN] {
            m.update(seen, v).unwrap();
            m.update(depth, 10.0 * v.max(0.0)).unwrap();
        }
        let values: Vec<_> = m.all().iter().map(|m| (m.name.as_str(), m.value)).collect();
        assert_eq!(values, [("seen", 3.0), ("depth", 0.0)]);
    }

    #[test]
    fn misuse_is_refused() {
        let mut m = Metrics::default();
        assert!(m.update(0, 1.0).is_err());
        assert!(m.register(Kind::Gauge, "").is_err());
        m.register(Kind::Gauge, "a").unwrap();
        assert!(m.register(Kind::Counter, "a").is_err());
        for i in 0..METRICS_MAX - 1 {
            m.register(Kind::Counter, &i.to_string()).unwrap();
        }
        assert!(m.register(Kind::Counter, "one more").is_err());
    }
}
