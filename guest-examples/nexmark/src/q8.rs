//! q8: persons who registered and offered an auction in the same window of ten seconds, once per window.

use pelton::prelude::*;

use crate::events::Event;

const SIZE: Duration = seconds(10);

#[derive(Record)]
struct Person {
    id: i64,
    name: String,
    #[record(name = "dateTime")]
    date_time: Timestamp,
}

#[derive(Record)]
struct Auction {
    seller: i64,
    #[record(name = "dateTime")]
    date_time: Timestamp,
}

/// What is known of a person in a window.
#[derive(Record, Default)]
struct Seen {
    name: Option<String>,
    has_offered: bool,
}

#[derive(Record, Debug, PartialEq)]
pub struct NewSeller {
    id: i64,
    name: String,
    starttime: Timestamp,
}

/// Builds the query.
pub fn q8(events: Stream<Event>) -> Stream<NewSeller> {
    let persons = events.clone().only::<Person>("persons", Event::PERSON);
    let auctions = events.only::<Auction>("auctions", Event::AUCTION);
    persons
        .key_by_fn("person and window", |p| (p.id, start_of(p.date_time)))
        .connect(auctions.key_by_fn("seller and window", |a| (a.seller, start_of(a.date_time))))
        .process("new sellers", |states| NewSellers {
            seen: states.value("seen"),
        })
}

fn start_of(time: Timestamp) -> Timestamp {
    Timestamp(time.millis() - time.millis().rem_euclid(SIZE.millis()))
}

struct NewSellers {
    seen: ValueState<Seen>,
}

impl NewSellers {
    /// What was seen before; with the first of it, a timer is set for the window's end.
    fn seen(&self, start: Timestamp, cx: &mut Ctx) -> Seen {
        self.seen.get().unwrap_or_else(|| {
            cx.set_timer(start + SIZE - millis(1));
            Seen::default()
        })
    }
}

impl CoProcess for NewSellers {
    type Left = Person;
    type Right = Auction;
    type Key = (i64, Timestamp);
    type Out = NewSeller;

    fn left(
        &self,
        (id, starttime): (i64, Timestamp),
        person: PersonRef<'_>,
        cx: &mut Ctx,
        out: &mut Out<NewSeller>,
    ) {
        let mut seen = self.seen(starttime, cx);
        if seen.name.is_some() {
            return;
        }
        if seen.has_offered {
            let name = person.name;
            out.emit(NewSellerRef {
                id,
                name,
                starttime,
            });
        }
        seen.name = Some(person.name.to_owned());
        self.seen.set(seen);
    }

    fn right(
        &self,
        (id, starttime): (i64, Timestamp),
        _: AuctionRef<'_>,
        cx: &mut Ctx,
        out: &mut Out<NewSeller>,
    ) {
        let mut seen = self.seen(starttime, cx);
        if seen.has_offered {
            return;
        }
        if let Some(name) = seen.name.as_deref() {
            out.emit(NewSellerRef {
                id,
                name,
                starttime,
            });
        }
        seen.has_offered = true;
        self.seen.set(seen);
    }

    fn on_timer(&self, _: (i64, Timestamp), _: Timestamp, _: &mut Ctx, _: &mut Out<NewSeller>) {
        self.seen.clear();
    }
}
