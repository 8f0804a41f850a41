//! What the derive refuses, in its words.

use syn::{Data, DeriveInput, parse_quote};

use crate::{enums, structs};

/// What it says of an input; nothing where it takes it.
fn refused(input: &DeriveInput) -> String {
    let made = match &input.data {
        Data::Struct(data) => structs::derive(input, data),
        Data::Enum(data) => enums::derive(input, data),
        Data::Union(_) => return "a union".into(),
    };
    made.err().map_or(String::new(), |e| e.to_string())
}

#[test]
fn former_names_that_are_in_use_are_refused() {
    let fine = parse_quote! {
        struct Visits {
            #[record(renamed_from = "n", renamed_from = "count", default = 3)]
            total: u64,
            #[record(name = "lastSeen", default)]
            last: Option<u64>,
        }
    };
    assert_eq!(refused(&fine), "");
    let own = parse_quote! {
        struct Visits {
            #[record(name = "sum", renamed_from = "sum")]
            total: u64,
        }
    };
    assert_eq!(refused(&own), "the field still has this name");
    let taken = parse_quote! {
        struct Visits {
            #[record(renamed_from = "n")]
            total: u64,
            n: u64,
        }
    };
    assert_eq!(
        refused(&taken),
        "there is a field 'n': it cannot be the former name of 'total'"
    );
    let twice = parse_quote! {
        struct Visits {
            #[record(renamed_from = "n")]
            total: u64,
            #[record(renamed_from = "n")]
            last: u64,
        }
    };
    assert_eq!(refused(&twice), "two fields were 'n'");
    let variant = parse_quote! {
        enum Event {
            #[record(renamed_from = "tag")]
            Bid(Bid),
        }
    };
    assert_eq!(
        refused(&variant),
        "there is a field 'tag': it cannot be the former name of 'bid'"
    );
}

#[test]
fn attributes_stand_where_they_mean_something() {
    let defaults = parse_quote! {
        struct Visits {
            #[record(default, default = 3)]
            total: u64,
        }
    };
    assert_eq!(refused(&defaults), "a field has one default");
    let variant = parse_quote! {
        enum Event {
            #[record(default)]
            Bid(Bid),
        }
    };
    assert_eq!(refused(&variant), "there are `name`, `renamed_from` here");
    let whole = parse_quote! {
        #[record(renamed_from = "Seen")]
        struct Visits {
            total: u64,
        }
    };
    assert_eq!(
        refused(&whole),
        "a struct has no attributes of its own, its fields have"
    );
    let empty = parse_quote! {
        struct Visits {
            #[record(renamed_from = "")]
            total: u64,
        }
    };
    assert_eq!(refused(&empty), "a name has at least one letter");
}
