//! `#[derive(Record)]` on structs.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{
    DataStruct, DeriveInput, Fields, GenericArgument, Ident, LitStr, PathArguments, Type,
    Visibility,
};

use crate::names::{Default, attributes, check_past, constant, past, plain};

/// A field as the derive sees it.
struct Part<'a> {
    ident: &'a Ident,
    vis: &'a Visibility,
    ty: &'a Type,
    name: String,
    former: Vec<LitStr>,
    default: Option<Default>,
}

pub(crate) fn derive(input: &DeriveInput, data: &DataStruct) -> syn::Result<TokenStream> {
    if !input.generics.params.is_empty() {
        return Err(syn::Error::new_spanned(
            &input.generics,
            "a record has no type parameters or lifetimes",
        ));
    }
    let Fields::Named(fields) = &data.fields else {
        return Err(syn::Error::new_spanned(
            &input.ident,
            "a record has named fields",
        ));
    };
    if fields.named.is_empty() {
        return Err(syn::Error::new_spanned(
            &input.ident,
            "a record has at least one field",
        ));
    }
    attributes(&input.attrs, &[])?;
    let mut parts = Vec::new();
    for field in &fields.named {
        let Some(ident) = &field.ident else { continue };
        let said = attributes(&field.attrs, &["name", "renamed_from", "default"])?;
        let name = said.name.unwrap_or_else(|| plain(ident));
        if parts.iter().any(|p: &Part<'_>| p.name == name) {
            return Err(syn::Error::new_spanned(
                ident,
                format!("there are two fields '{name}'"),
            ));
        }
        parts.push(Part {
            ident,
            vis: &field.vis,
            ty: &field.ty,
            name,
            former: said.former,
            default: said.default,
        });
    }
    check_past(parts.iter().map(|p| (p.name.as_str(), p.former.as_slice())))?;
    let types = types(input, &parts);
    let value = value_impl(&input.ident, &parts);
    let rest = conveniences(input, &parts);
    Ok(quote! { #types #value #rest })
}

/// The borrowed form of a type that is known by its name; the others by projection.
fn borrowed(ty: &Type) -> Option<TokenStream> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last()?;
    let name = last.ident.to_string();
    let args: Vec<_> = match &last.arguments {
        PathArguments::AngleBracketed(a) => a.args.iter().collect(),
        _ => Vec::new(),
    };
    match (name.as_str(), args.as_slice()) {
        ("String", []) => Some(quote! { &'a str }),
        ("Vec", [GenericArgument::Type(Type::Path(item))]) if item.path.is_ident("u8") => {
            Some(quote! { &'a [u8] })
        }
        ("Vec", [item]) => Some(quote! { ::pelton::ListRef<'a, #item> }),
        ("Option", [GenericArgument::Type(inner)]) => {
            let inner = borrowed(inner)?;
            Some(quote! { ::core::option::Option<#inner> })
        }
        _ => None,
    }
}

fn types(input: &DeriveInput, parts: &[Part<'_>]) -> TokenStream {
    let vis = &input.vis;
    let owned = &input.ident;
    let (row, columns, builder) = type_names(owned);
    let name = owned.to_string();
    let refs = parts.iter().map(|p| {
        let (vis, ident, ty) = (p.vis, p.ident, p.ty);
        let ty =
            borrowed(ty).unwrap_or_else(|| quote! { <#ty as ::pelton::value::Value>::Ref<'a> });
        quote! { #vis #ident: #ty }
    });
    let fields: Vec<_> = parts.iter().map(|p| (p.vis, p.ident, p.ty)).collect();
    let column_fields = fields
        .iter()
        .map(|(v, i, t)| quote! { #v #i: <#t as ::pelton::value::Value>::Column<'a> });
    let builder_fields = fields
        .iter()
        .map(|(v, i, t)| quote! { #v #i: <#t as ::pelton::value::Value>::Builder });
    let builder_defaults = fields
        .iter()
        .map(|(_, i, _)| quote! { #i: ::core::default::Default::default() });
    let doc_ref = format!("A row of [`{name}`], borrowed.");
    let doc_columns = format!("Columns of [`{name}`].");
    let doc_builder = format!("Columns of [`{name}`] under construction.");
    quote! {
        #[doc = #doc_ref]
        #[allow(dead_code, missing_docs, reason = "made by derive(Record)")]
        #[derive(Clone, Copy, Debug, PartialEq)]
        #vis struct #row<'a> { #(#refs,)* }

        #[doc = #doc_columns]
        #[allow(dead_code, missing_docs, reason = "made by derive(Record)")]
        #[derive(Clone, Copy)]
        #vis struct #columns<'a> { #(#column_fields,)* }

        #[doc = #doc_builder]
        #[allow(dead_code, missing_docs, reason = "made by derive(Record)")]
        #vis struct #builder { #(#builder_fields,)* }

        impl ::core::default::Default for #builder {
            fn default() -> Self { Self { #(#builder_defaults,)* } }
        }
    }
}

pub(crate) fn type_names(owned: &Ident) -> (Ident, Ident, Ident) {
    (
        format_ident!("{owned}Ref"),
        format_ident!("{owned}Columns"),
        format_ident!("{owned}Builder"),
    )
}

fn value_impl(owned: &Ident, parts: &[Part<'_>]) -> TokenStream {
    let (row, columns, builder) = type_names(owned);
    let idents: Vec<_> = parts.iter().map(|p| p.ident).collect();
    let types: Vec<_> = parts.iter().map(|p| p.ty).collect();
    let names: Vec<_> = parts.iter().map(|p| &p.name).collect();
    let count = parts.len() as u32;
    let first = idents.first();
    let pasts: Vec<_> = parts
        .iter()
        .map(|p| past(p.ty, &p.former, p.default.as_ref()))
        .collect();
    let has_default = parts.iter().any(|p| p.default.is_some());
    quote! {
        const _: () = {
            use ::pelton::value::{
                Column as __Column, ColumnBuilder as __ColumnBuilder, Cursor as __Cursor, Past as __Past, Row as __Row, Schema as __Schema, Value as __Value,
            };

            impl __Value for #owned {
                type Ref<'a> = #row<'a>;
                type Column<'a> = #columns<'a>;
                type Builder = #builder;
                const HAS_DEFAULT: bool = #has_default #(|| <#types as __Value>::HAS_DEFAULT)*;

                fn describe(name: &str, schema: &mut __Schema) {
                    schema.push(::pelton::value::record_node(name, #count));
                    #(<#types as __Value>::describe(#names, schema);)*
                }
                fn resolve<'a>(cursor: &mut __Cursor<'a>, rows: usize) -> ::pelton::Result<#columns<'a>> {
                    cursor.skip();
                    Self::row_resolve(cursor, rows)
                }
                #[inline(always)]
                fn read<'a>(column: &Self::Column<'a>, row: __Row) -> Self::Ref<'a> {
                    #row { #(#idents: <#types as __Value>::read(&column.#idents, row),)* }
                }
                #[inline]
                fn own(value: #row<'_>) -> Self {
                    Self { #(#idents: <#types as __Value>::own(value.#idents),)* }
                }
                #[inline(always)]
                fn lend(&self) -> #row<'_> {
                    #row { #(#idents: <#types as __Value>::lend(&self.#idents),)* }
                }
                #[inline(always)]
                fn push(builder: &mut #builder, value: #row<'_>) {
                    #(<#types as __Value>::push(&mut builder.#idents, value.#idents);)*
                }
                fn encode(value: #row<'_>, out: &mut Vec<u8>) {
                    #(<#types as __Value>::encode(value.#idents, out);)*
                }
                fn row_schema() -> __Schema {
                    let mut schema = __Schema::new();
                    #(<#types as __Value>::describe(#names, &mut schema);)*
                    schema
                }
                fn past(place: u32, out: &mut Vec<__Past>) {
                    Self::row_past(place + 1, out);
                }
                fn row_past(mut place: u32, out: &mut Vec<__Past>) {
                    #(
                        <#types as __Value>::past(place, out);
                        #pasts
                        place += ::pelton::value::nodes::<#types>();
                    )*
                    let _ = place;
                }
                fn row_resolve<'a>(cursor: &mut __Cursor<'a>, rows: usize) -> ::pelton::Result<#columns<'a>> {
                    Ok(#columns { #(#idents: <#types as __Value>::resolve(cursor, rows)?,)* })
                }
                fn row_finish(builder: &mut #builder, columns: &mut Vec<__Column>) {
                    #(__ColumnBuilder::finish(&mut builder.#idents, columns);)*
                }
            }

            impl __ColumnBuilder for #builder {
                fn len(&self) -> usize { __ColumnBuilder::len(&self.#first) }
                #[inline]
                fn bytes(&self) -> usize { 0 #(+ __ColumnBuilder::bytes(&self.#idents))* }
                fn reserve(&mut self, rows: usize) { #(__ColumnBuilder::reserve(&mut self.#idents, rows);)* }
                fn push_default(&mut self) { #(__ColumnBuilder::push_default(&mut self.#idents);)* }
                fn finish(&mut self, columns: &mut Vec<__Column>) {
                    columns.push(::pelton::value::record_column());
                    #owned::row_finish(self, columns);
                }
                fn is_even(&self) -> bool {
                    let rows = __ColumnBuilder::len(self);
                    true #(&& __ColumnBuilder::len(&self.#idents) == rows && __ColumnBuilder::is_even(&self.#idents))*
                }
            }
        };
    }
}

fn conveniences(input: &DeriveInput, parts: &[Part<'_>]) -> TokenStream {
    let owned = &input.ident;
    let (row, _, _) = type_names(owned);
    let constants = parts.iter().map(|p| {
        let (vis, constant, ty, name) = (p.vis, constant(p.ident), p.ty, &p.name);
        let ident = p.ident;
        let doc = format!("The field `{name}`.");
        quote! {
            #[doc = #doc]
            #vis const #constant: ::pelton::Field<#owned, #ty> = ::pelton::Field::with(#name, const {
                fn read<'a>(row: #row<'a>, _: ::core::marker::PhantomData<&'a ()>) -> <#ty as ::pelton::value::Value>::Ref<'a> { row.#ident }
                fn write(row: &mut #owned, value: #ty) { row.#ident = value }
                &::pelton::record::Access::<#owned, #ty> { read, write }
            });
        }
    });
    let shared = shared(owned);
    quote! {
        #[allow(dead_code, reason = "made by derive(Record)")]
        impl #owned { #(#constants)* }
        #shared
    }
}

/// What structs and enums have alike.
pub(crate) fn shared(owned: &Ident) -> TokenStream {
    let (row, _, builder) = type_names(owned);
    quote! {
        impl ::pelton::Record for #owned {}
        impl ::pelton::value::Item for #owned {}

        impl ::core::convert::From<#row<'_>> for #owned {
            fn from(row: #row<'_>) -> Self { <Self as ::pelton::value::Value>::own(row) }
        }

        #[allow(dead_code, clippy::wrong_self_convention, reason = "made by derive(Record)")]
        impl #row<'_> {
            /// The row, owned.
            pub fn to_owned(self) -> #owned { <#owned as ::pelton::value::Value>::own(self) }
        }

        #[allow(dead_code, reason = "made by derive(Record)")]
        impl #owned {
            /// The row, borrowed.
            pub fn as_ref(&self) -> #row<'_> { ::pelton::value::Value::lend(self) }
        }

        impl ::pelton::Emit<#owned> for #owned {
            #[inline(always)]
            fn push_to(self, builder: &mut #builder) {
                <#owned as ::pelton::value::Value>::push(builder, ::pelton::value::Value::lend(&self));
            }
        }
        impl ::pelton::Emit<#owned> for &#owned {
            #[inline(always)]
            fn push_to(self, builder: &mut #builder) {
                <#owned as ::pelton::value::Value>::push(builder, ::pelton::value::Value::lend(self));
            }
        }
        impl ::pelton::Emit<#owned> for #row<'_> {
            #[inline(always)]
            fn push_to(self, builder: &mut #builder) {
                <#owned as ::pelton::value::Value>::push(builder, self);
            }
        }
    }
}
