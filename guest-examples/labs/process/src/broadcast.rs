//! Records against rules that all tasks are told.

use pelton::prelude::*;

use crate::input::{Event, EventRef, lines, of, records};

/// A rule: what has at least this value meets it.
#[derive(Record)]
pub(crate) struct Rule {
    rule: String,
    min: i64,
}

/// A record that meets a rule.
#[derive(Record, Clone, Debug, PartialEq)]
pub(crate) struct Met {
    key: String,
    rule: String,
    ts: i64,
    value: i64,
}

/// The rules of `left` over the records of `right`.
pub(crate) fn met(job: &mut Job, params: &Params) -> Result<Stream<Met>> {
    let lines = lines(job, [params.require("left")?, params.require("right")?]);
    let rules = of(&lines, 0).filter_map("rules", |line| {
        Some(Rule {
            rule: line.rule?.to_owned(),
            min: line.min?,
        })
    });
    Ok(against(records(of(&lines, 1)), rules))
}

fn against(events: Stream<Event>, rules: Stream<Rule>) -> Stream<Met> {
    let events = events.key_by(Event::KEY);
    events
        .connect_broadcast(rules)
        .process("rules", |states| Check {
            rules: states.broadcast("rules"),
        })
}

struct Check {
    rules: BroadcastState<String, i64>,
}

impl BroadcastProcess for Check {
    type In = Event;
    type Broadcast = Rule;
    type Key = String;
    type Out = Met;
    const TIMERS: bool = false;

    fn process(&self, key: &str, event: EventRef<'_>, _: &mut Ctx, out: &mut Out<Met>) {
        let EventRef { ts, value, .. } = event;
        let mut met = Vec::new();
        self.rules.for_each(|rule, min| {
            if value >= min {
                met.push(rule.to_owned());
            }
        });
        // State has shorter names first.
        met.sort_unstable();
        for rule in &met {
            out.emit(MetRef {
                key,
                rule,
                ts,
                value,
            });
        }
    }

    fn process_broadcast(&self, rule: RuleRef<'_>, cx: &mut BroadcastCtx, _: &mut Out<Met>) {
        self.rules.put(cx, rule.rule, rule.min);
    }
}

#[cfg(test)]
mod tests {
    use pelton::testing::TwoInputs;

    use super::*;

    #[test]
    fn rules_apply_from_then_on_in_the_order_of_their_names() {
        let mut h = TwoInputs::new(against);
        let record = |ts, value| EventRef {
            key: "k",
            ts,
            value,
        };
        let rule = |rule, min| RuleRef { rule, min };
        h.push_left(Timestamp(1), record(1, 50));
        h.push_right(Timestamp(2), rule("b", 40));
        h.push_right(Timestamp(2), rule("aa", 0));
        h.push_left(Timestamp(3), record(3, 40));
        h.push_right(Timestamp(4), rule("aa", 45));
        h.push_left(Timestamp(5), record(5, 44));
        let met = h.take();
        let met: Vec<_> = met.iter().map(|m| (m.ts, m.rule.as_str())).collect();
        assert_eq!(met, [(3, "aa"), (3, "b"), (5, "b")]);
    }
}
