//! Functions with two inputs, with a broadcast input, and of rows without a key.

use crate::prelude::*;
use crate::testing::{Harness, TwoInputs};

#[derive(Record, Clone, Debug, PartialEq)]
struct Order {
    id: u64,
    cents: i64,
}

#[derive(Record, Clone, Debug, PartialEq)]
struct Rule {
    name: String,
    min: i64,
}

#[derive(Record, Clone, Debug, PartialEq)]
struct Text {
    text: String,
}

fn order(id: u64, cents: i64) -> Order {
    Order { id, cents }
}

fn rule(name: &str, min: i64) -> Rule {
    let name = name.to_owned();
    Rule { name, min }
}

fn texts(rows: Vec<Text>) -> Vec<String> {
    rows.into_iter().map(|t| t.text).collect()
}

/// Remembers the last value of each side.
struct Latest {
    left: ValueState<i64>,
    right: ValueState<String>,
}

impl Latest {
    fn tell(&self, key: i64, out: &mut Out<Text>) {
        let text = format!("{key}: {:?} {:?}", self.left.get(), self.right.get());
        out.emit(Text { text });
    }
}

impl CoProcess for Latest {
    type Left = Order;
    type Right = Rule;
    type Key = i64;
    type Out = Text;

    fn left(&self, key: i64, row: OrderRef<'_>, cx: &mut Ctx, out: &mut Out<Text>) {
        self.left.set(row.id as i64);
        cx.set_timer(cx.event_time().unwrap() + millis(10));
        self.tell(key, out);
    }
    fn right(&self, key: i64, row: RuleRef<'_>, _: &mut Ctx, out: &mut Out<Text>) {
        self.right.set(row.name.to_owned());
        self.tell(key, out);
    }
    fn on_timer(&self, key: i64, time: Timestamp, _: &mut Ctx, out: &mut Out<Text>) {
        let text = format!("{key} at {}: {:?}", time.millis(), self.right.get());
        out.emit(Text { text });
    }
}

#[test]
fn two_keyed_streams_share_state_and_timers() {
    let mut h = TwoInputs::new(|orders: Stream<Order>, rules: Stream<Rule>| {
        orders
            .key_by(Order::CENTS)
            .connect(rules.key_by(Rule::MIN))
            .process("latest", |states| Latest {
                left: states.value("left"),
                right: states.value("right"),
            })
    });
    h.push_left(Timestamp(1), order(7, 100));
    h.push_right(Timestamp(2), rule("a", 100));
    h.push_right(Timestamp(3), rule("b", 200));
    h.push_left(Timestamp(4), order(8, 100));
    h.watermark(Timestamp(11));
    assert_eq!(
        texts(h.take()),
        [
            "100: Some(7) None",
            "100: Some(7) Some(\"a\")",
            "200: None Some(\"b\")",
            "100: Some(8) Some(\"a\")",
            "100 at 11: Some(\"a\")",
        ]
    );
    assert_eq!(h.timers(), [Timestamp(14)]);
    assert_eq!(h.state::<i64, _>("left", &100i64), Some(8));
}

#[test]
fn connected_streams_are_mapped_side_by_side() {
    let mut h = TwoInputs::new(|orders: Stream<Order>, rules: Stream<Rule>| {
        orders.connect(rules).map(
            "text",
            |order: OrderRef<'_>| Text {
                text: format!("order {}", order.id),
            },
            |rule: RuleRef<'_>| Text {
                text: format!("rule {}", rule.name),
            },
        )
    });
    h.push_right(Timestamp(1), rule("a", 1));
    h.push_left(Timestamp(2), order(7, 100));
    assert_eq!(
        h.take_timed()
            .into_iter()
            .map(|(time, t)| (time.unwrap().millis(), t.text))
            .collect::<Vec<_>>(),
        [(1, "rule a".to_owned()), (2, "order 7".to_owned())]
    );
}

/// Says which rules an order meets, and how many of its key there were.
struct Check {
    rules: BroadcastState<String, i64>,
    seen: ValueState<i64>,
}

impl BroadcastProcess for Check {
    type In = Order;
    type Broadcast = Rule;
    type Key = u64;
    type Out = Text;
    const TIMERS: bool = false;

    fn process(&self, key: u64, row: OrderRef<'_>, _: &mut Ctx, out: &mut Out<Text>) {
        let seen = self.seen.get().unwrap_or(0) + 1;
        self.seen.set(seen);
        self.rules.for_each(|name, min| {
            if row.cents >= min {
                let text = format!("{key} {name} {seen}");
                out.emit(Text { text });
            }
        });
    }

    fn process_broadcast(&self, row: RuleRef<'_>, cx: &mut BroadcastCtx, out: &mut Out<Text>) {
        if row.min < 0 {
            self.rules.remove(cx, row.name);
        } else {
            self.rules.put(cx, row.name, row.min);
        }
        let text = format!("{} rules", self.rules.keys().len());
        out.emit(Text { text });
    }
}

fn check(states: &mut States) -> Check {
    Check {
        rules: states.broadcast("rules"),
        seen: states.value("seen"),
    }
}

#[test]
fn broadcast_rules_apply_from_then_on() {
    let mut h = TwoInputs::new(|orders: Stream<Order>, rules: Stream<Rule>| {
        let keyed = orders.key_by(Order::ID);
        keyed.connect_broadcast(rules).process("check", check)
    });
    h.push_left(Timestamp(1), order(1, 50));
    h.push_right(Timestamp(2), rule("high", 40));
    h.push_left(Timestamp(3), order(1, 50));
    h.push_right(Timestamp(4), rule("any", 0));
    h.push_batch([
        (Timestamp(5), order(2, 50)),
        (Timestamp(5), order(1, 10)),
        (Timestamp(5), order(2, 0)),
    ]);
    h.push_right(Timestamp(6), rule("any", -1));
    h.push_left(Timestamp(7), order(1, 40));
    assert_eq!(
        texts(h.take()),
        [
            "1 rules", "1 high 2", "2 rules", "2 any 1", "2 high 1", "1 any 3", "2 any 2",
            "1 rules", "1 high 4",
        ]
    );
    let rules = h.map_state::<String, i64, _>("rules", &());
    assert_eq!(rules, [("high".to_owned(), 40)]);
}

/// Holds rows back until there are three.
struct Threes {
    waiting: OperatorListState<Order>,
}

static LARGE: SideTag<Order> = SideTag::new("large");

impl Process for Threes {
    type In = Order;
    type Out = Text;

    fn process(&self, row: OrderRef<'_>, _: &mut Ctx, out: &mut Out<Text>) {
        if row.cents > 1000 {
            return out.side(&LARGE, row);
        }
        self.waiting.add(row.to_owned());
        if self.waiting.len() == 3 {
            let ids = self.waiting.get().into_iter().map(|o| o.id.to_string());
            let text = ids.collect::<Vec<_>>().join(" ");
            out.emit(Text { text });
            self.waiting.clear();
        }
    }
}

#[test]
fn rows_without_a_key_have_state_of_their_task() {
    let mut h = Harness::within(1, |orders: Stream<Order>| {
        let threes = orders.process("threes", |states| Threes {
            waiting: states.operator_list("waiting"),
        });
        let _ = threes.side(&LARGE);
        threes
    });
    h.push_batch((0..40).map(|n| (Timestamp(0), order(n, 1))));
    h.push(order(9, 5000));
    let texts = texts(h.take());
    assert_eq!(texts.len(), 13);
    assert_eq!(texts[12], "36 37 38");
    assert_eq!(h.list_state::<Order, _>("waiting", &()), [order(39, 1)]);
    assert_eq!(h.take_side(&LARGE), [order(9, 5000)]);
}

#[test]
fn rows_have_kinds_of_their_own_or_of_their_parents() {
    let mut h = Harness::new(|orders: Stream<Order>| {
        orders.key_by(Order::ID).process_with("last", |states| {
            let last = states.value::<i64>("last");
            move |key, row: OrderRef<'_>, cx: &mut Ctx, out: &mut Out<Order>| {
                if cx.kind() == RowKind::Delete {
                    return out.emit(row);
                }
                match last.get() {
                    Some(former) => out.update(order(key, former), row),
                    None => out.emit(row),
                }
                last.set(row.cents);
            }
        })
    });
    h.push(order(1, 1));
    h.push(order(1, 2));
    h.push_kind(RowKind::Delete, None, order(1, 2));
    assert_eq!(
        h.take_kinds(),
        [
            (RowKind::Insert, order(1, 1)),
            (RowKind::UpdateBefore, order(1, 1)),
            (RowKind::UpdateAfter, order(1, 2)),
            (RowKind::Delete, order(1, 2)),
        ]
    );
}
