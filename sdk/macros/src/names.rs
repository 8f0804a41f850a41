//! What attributes say of fields, and the forms of a name.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::meta::ParseNestedMeta;
use syn::{Attribute, Expr, ExprLit, Ident, Lit, LitStr, Type};

/// What `#[record(..)]` says.
#[derive(Default)]
pub(crate) struct Attributes {
    pub(crate) name: Option<String>,
    pub(crate) tag: Option<String>,
    /// Names that the field had.
    pub(crate) former: Vec<LitStr>,
    pub(crate) default: Option<Default>,
}

/// What a field is in values that were written without it.
pub(crate) enum Default {
    /// That of its type.
    OfType(Span),
    Given(Expr),
}

/// Reads `#[record(..)]` of what may have the attributes in `allowed`. Errors: anything else in it.
pub(crate) fn attributes(attrs: &[Attribute], allowed: &[&str]) -> syn::Result<Attributes> {
    let mut out = Attributes::default();
    for attr in attrs.iter().filter(|a| a.path().is_ident("record")) {
        attr.parse_nested_meta(|meta| {
            if !allowed.iter().any(|name| meta.path.is_ident(name)) {
                let there = match allowed {
                    [] => "a struct has no attributes of its own, its fields have".to_owned(),
                    [one] => format!("there is only `{one}` here"),
                    all => format!("there are `{}` here", all.join("`, `")),
                };
                return Err(meta.error(there));
            }
            if meta.path.is_ident("name") {
                out.name = Some(text(&meta)?.value());
            } else if meta.path.is_ident("tag") {
                out.tag = Some(text(&meta)?.value());
            } else if meta.path.is_ident("renamed_from") {
                out.former.push(text(&meta)?);
            } else if out.default.is_some() {
                return Err(meta.error("a field has one default"));
            } else {
                out.default = Some(match meta.input.peek(syn::Token![=]) {
                    true => Default::Given(meta.value()?.parse()?),
                    false => Default::OfType(
                        meta.path
                            .get_ident()
                            .map_or_else(Span::call_site, Ident::span),
                    ),
                });
            }
            Ok(())
        })?;
    }
    Ok(out)
}

fn text(meta: &ParseNestedMeta<'_>) -> syn::Result<LitStr> {
    let text: LitStr = meta.value()?.parse()?;
    if text.value().is_empty() {
        return Err(syn::Error::new_spanned(
            text,
            "a name has at least one letter",
        ));
    }
    Ok(text)
}

/// What a field was: a statement that appends it to `out`, where its place is `place`.
pub(crate) fn past(ty: &Type, former: &[LitStr], default: Option<&Default>) -> TokenStream {
    if former.is_empty() && default.is_none() {
        return TokenStream::new();
    }
    let default = match default {
        None => quote! { ::core::option::Option::None },
        Some(Default::OfType(span)) => {
            let make =
                quote::quote_spanned! { *span => <#ty as ::core::default::Default>::default() };
            quote! { ::core::option::Option::Some(#make) }
        }
        Some(Default::Given(value)) => {
            let is_text = matches!(
                value,
                Expr::Lit(ExprLit {
                    lit: Lit::Str(_),
                    ..
                })
            );
            let is_string = matches!(ty, Type::Path(p) if p.path.is_ident("String"));
            match is_text && is_string {
                true => {
                    quote! { ::core::option::Option::Some(<#ty as ::core::convert::From<&str>>::from(#value)) }
                }
                false => {
                    quote! { ::core::option::Option::Some({ let value: #ty = #value; value }) }
                }
            }
        }
    };
    quote! { ::pelton::value::field_past::<#ty>(place, &[#(#former),*], #default, out); }
}

/// Refuses names of the past that are names of now, or that two fields have had. Each is a name and its former ones.
pub(crate) fn check_past<'a>(
    fields: impl Iterator<Item = (&'a str, &'a [LitStr])> + Clone,
) -> syn::Result<()> {
    let mut seen: Vec<String> = Vec::new();
    for (name, former) in fields.clone() {
        for text in former {
            let value = text.value();
            let fault = match () {
                () if value == name => "the field still has this name".to_owned(),
                () if fields.clone().any(|(n, _)| n == value) => {
                    format!("there is a field '{value}': it cannot be the former name of '{name}'")
                }
                () if seen.contains(&value) => format!("two fields were '{value}'"),
                () => {
                    seen.push(value);
                    continue;
                }
            };
            return Err(syn::Error::new_spanned(text, fault));
        }
    }
    Ok(())
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
