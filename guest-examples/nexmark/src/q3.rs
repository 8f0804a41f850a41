//! q3: auctions of category 10 that persons of Oregon, Idaho or California offer.
//!
//! Either side may come first, however much later the other: both are kept for ever.

use pelton::prelude::*;

use crate::events::Event;

#[derive(Record)]
struct Person {
    id: i64,
    name: String,
    city: String,
    state: String,
}

#[derive(Record)]
struct State {
    state: String,
}

#[derive(Record)]
struct Auction {
    id: i64,
    seller: i64,
    category: i64,
}

#[derive(Record, Debug, PartialEq)]
pub struct Offered {
    name: String,
    city: String,
    state: String,
    id: i64,
}

/// Builds the query.
pub fn q3(events: Stream<Event>) -> Stream<Offered> {
    let persons = events
        .clone()
        .only::<Person>("persons", Event::PERSON)
        .view::<State>()
        .filter("in the west", |person| {
            matches!(person.state, "OR" | "ID" | "CA")
        })
        .whole();
    let auctions = events
        .only::<Auction>("auctions", Event::AUCTION)
        .filter("of category 10", |auction| auction.category == 10);
    persons
        .key_by(Person::ID)
        .connect(auctions.key_by(Auction::SELLER))
        .process("offers", |states| Offers {
            persons: states.list("persons"),
            auctions: states.list("auctions"),
        })
}

/// What is known of a seller.
struct Offers {
    persons: ListState<Person>,
    auctions: ListState<i64>,
}

impl CoProcess for Offers {
    type Left = Person;
    type Right = Auction;
    type Key = i64;
    type Out = Offered;
    const TIMERS: bool = false;

    fn left(&self, _: i64, person: PersonRef<'_>, _: &mut Ctx, out: &mut Out<Offered>) {
        self.auctions
            .with(|auctions| auctions.for_each(|id| emit(person, id, out)));
        self.persons.add(person.to_owned());
    }

    fn right(&self, _: i64, auction: AuctionRef<'_>, _: &mut Ctx, out: &mut Out<Offered>) {
        self.persons
            .with(|persons| persons.for_each(|person| emit(person, auction.id, out)));
        self.auctions.add(auction.id);
    }
}

fn emit(person: PersonRef<'_>, id: i64, out: &mut Out<Offered>) {
    let PersonRef {
        name, city, state, ..
    } = person;
    out.emit(OfferedRef {
        name,
        city,
        state,
        id,
    });
}
