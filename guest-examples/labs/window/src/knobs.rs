//! The parameters.

use pelton::prelude::*;

/// All knobs. Each is asked for, whatever the others say, so that a case may name those that it does not use.
#[derive(Debug)]
pub(crate) struct Knobs {
    pub(crate) assigner: String,
    pub(crate) size: Duration,
    pub(crate) slide_ms: Duration,
    pub(crate) offset: Duration,
    pub(crate) gap: Duration,
    pub(crate) count: i64,
    pub(crate) slide: i64,
    pub(crate) trigger: String,
    evictor: String,
    pub(crate) evict_after: bool,
    pub(crate) lateness: Duration,
    pub(crate) function: String,
    pub(crate) output: String,
}

/// What an evictor keeps.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Evicting {
    None,
    Count(usize),
    Time(Duration),
    Delta(f64),
}

impl Knobs {
    pub(crate) fn read(params: &Params) -> Result<Self> {
        let ms = |name: &str| params.get_or(name, 0_i64).map(millis);
        let text = |name: &str, other: &str| params.get(name).unwrap_or(other).to_owned();
        Ok(Self {
            assigner: params.require("assigner")?.to_owned(),
            size: ms("size_ms")?,
            slide_ms: ms("slide_ms")?,
            offset: ms("offset_ms")?,
            gap: ms("gap_ms")?,
            count: params.get_or("count", 0)?,
            slide: params.get_or("slide", 0)?,
            trigger: text("trigger", "default"),
            evictor: text("evictor", "none"),
            evict_after: match text("evict", "before").as_str() {
                "before" => false,
                "after" => true,
                _ => return Err(Error::new("parameter 'evict' must be before or after")),
            },
            lateness: ms("lateness_ms")?,
            function: params.require("function")?.to_owned(),
            output: params.require("output")?.to_owned(),
        })
    }

    /// The trigger's name and its number.
    pub(crate) fn trigger(&self) -> (&str, Option<f64>) {
        named(&self.trigger)
    }

    /// Errors: there is no such evictor.
    pub(crate) fn evictor(&self) -> Result<Evicting> {
        match named(&self.evictor) {
            ("none", None) => Ok(Evicting::None),
            ("count", Some(n)) => Ok(Evicting::Count(n as usize)),
            ("time", Some(ms)) => Ok(Evicting::Time(millis(ms as i64))),
            ("delta", Some(x)) => Ok(Evicting::Delta(x)),
            _ => Err(Error::new(format_args!(
                "there is no evictor '{}'",
                self.evictor
            ))),
        }
    }

    /// Errors: a trigger, an evictor or a lateness, which count windows do not take.
    pub(crate) fn only_counts(&self) -> Result<()> {
        if self.is_usual() && self.lateness == millis(0) {
            Ok(())
        } else {
            Err(Error::new(
                "count windows take no trigger, no evictor and no lateness",
            ))
        }
    }

    /// Whether windows fire as is usual for them, and keep all their records.
    fn is_usual(&self) -> bool {
        self.trigger == "default" && self.evictor == "none"
    }

    /// Whether an accumulator is enough, and nothing but the window is asked for.
    pub(crate) fn is_plain(&self) -> bool {
        self.is_usual() && matches!(self.function.as_str(), "reduce" | "aggregate")
    }

    /// Whether windows merge.
    pub(crate) fn is_session(&self) -> bool {
        self.assigner.ends_with("session")
    }
}

/// `count:3` is `count` with 3.
fn named(text: &str) -> (&str, Option<f64>) {
    match text.split_once(':') {
        Some((name, number)) => match number.parse() {
            Ok(number) => (name, Some(number)),
            Err(_) => (text, None),
        },
        None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn knobs(more: &[(&str, &str)]) -> Result<Knobs> {
        let all = [
            ("assigner", "global"),
            ("function", "reduce"),
            ("output", "out"),
        ];
        Knobs::read(&Params::new(all.iter().chain(more).copied()))
    }

    #[test]
    fn triggers_and_evictors_are_a_name_and_a_number() {
        let read = knobs(&[("trigger", "delta:2.5"), ("evictor", "time:30")]).unwrap();
        assert_eq!(read.trigger(), ("delta", Some(2.5)));
        assert_eq!(read.evictor().unwrap(), Evicting::Time(millis(30)));
        assert!(read.only_counts().is_err());
        let read = knobs(&[("evictor", "count:x")]).unwrap();
        assert_eq!(read.trigger(), ("default", None));
        assert_eq!(
            read.evictor().unwrap_err().to_string(),
            "there is no evictor 'count:x'"
        );
        assert!(knobs(&[("evict", "never")]).is_err());
        assert!(knobs(&[]).unwrap().only_counts().is_ok());
    }
}
