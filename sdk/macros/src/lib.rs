//! The macros of the `pelton` crate: `#[derive(Record)]` and `#[pelton::job]`.
//! They need names of `pelton` only, and put no `unsafe` into the user's crate.

use proc_macro::TokenStream;
use syn::{Data, DeriveInput, ItemFn, parse_macro_input};

mod enums;
mod job;
mod names;
mod structs;
#[cfg(test)]
mod tests;

/// Makes a struct, or an enum of records, a row of a stream.
///
/// `#[record(name = "dateTime")]` on a field (or on an enum's variant) gives its name in the schema;
/// `#[record(tag = "event_type")]` on an enum names the field that tells which variant a row is.
///
/// Where values of the record are kept in a state, two attributes say what they were in former versions of the job:
/// - `#[record(renamed_from = "old")]` on a field (or on an enum's variant): it had this name. More than once, if it had
///   several.
/// - `#[record(default)]` on a field: in values that were written without it, it is the default of its type;
///   `#[record(default = 3)]`: it is this. Also where it could be null, and cannot any more.
///
/// Names stand in both as they are in the schema. An old name that is still in use, one that two fields have had, and a
/// default of another type are refused by the compiler. On the rows of streams they have no effect.
#[proc_macro_derive(Record, attributes(record))]
pub fn derive_record(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    let made = match &input.data {
        Data::Struct(data) => structs::derive(&input, data),
        Data::Enum(data) => enums::derive(&input, data),
        Data::Union(_) => Err(syn::Error::new_spanned(
            &input.ident,
            "a union cannot be a record",
        )),
    };
    made.unwrap_or_else(|e| e.to_compile_error()).into()
}

/// Makes this function the job of the crate's component:
/// `fn name(job: &mut Job, params: &Params) -> Result<()>`.
#[proc_macro_attribute]
pub fn job(attr: TokenStream, item: TokenStream) -> TokenStream {
    let item = parse_macro_input!(item as ItemFn);
    job::expand(attr.into(), &item)
        .unwrap_or_else(|e| e.to_compile_error())
        .into()
}
