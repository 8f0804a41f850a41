//! Names of fields: their attribute, and the forms of a name.

use proc_macro2::Span;
use syn::{Attribute, Ident, LitStr};

/// What `#[record(..)]` says.
#[derive(Default)]
pub(crate) struct Attributes {
    pub(crate) name: Option<String>,
    pub(crate) tag: Option<String>,
}

/// Reads `#[record(name = "..", tag = "..")]`. Errors: anything else in it.
pub(crate) fn attributes(attrs: &[Attribute]) -> syn::Result<Attributes> {
    let mut out = Attributes::default();
    for attr in attrs.iter().filter(|a| a.path().is_ident("record")) {
        attr.parse_nested_meta(|meta| {
            let slot = if meta.path.is_ident("name") {
                &mut out.name
            } else if meta.path.is_ident("tag") {
                &mut out.tag
            } else {
                return Err(meta.error("there are `name` and `tag`"));
            };
            let text: LitStr = meta.value()?.parse()?;
            if text.value().is_empty() {
                return Err(syn::Error::new_spanned(
                    text,
                    "a name has at least one letter",
                ));
            }
            *slot = Some(text.value());
            Ok(())
        })?;
    }
    Ok(out)
}

/// An identifier as text, without `r#`.
pub(crate) fn plain(ident: &Ident) -> String {
    let text = ident.to_string();
    text.strip_prefix("r#").map(str::to_owned).unwrap_or(text)
}

/// `DateTime` or `dateTime` as `date_time`.
pub(crate) fn snake(name: &str) -> String {
    let mut out = String::new();
    let mut former_lower = false;
    for c in name.chars() {
        if c.is_uppercase() && former_lower {
            out.push('_');
        }
        former_lower = c.is_lowercase() || c.is_ascii_digit();
        out.extend(c.to_lowercase());
    }
    out
}

/// The name of the constant of a field.
pub(crate) fn constant(ident: &Ident) -> Ident {
    Ident::new(&snake(&plain(ident)).to_uppercase(), Span::call_site())
}
