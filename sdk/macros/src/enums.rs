//! `#[derive(Record)]` on enums: a tag, and a nullable record for each variant.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{DataEnum, DeriveInput, Fields, Ident, LitStr, Type};

use crate::names::{attributes, check_past, constant, past, plain, snake};
use crate::structs::{shared, type_names};

struct Variant<'a> {
    ident: &'a Ident,
    field: Ident,
    ty: &'a Type,
    name: String,
    former: Vec<LitStr>,
}

pub(crate) fn derive(input: &DeriveInput, data: &DataEnum) -> syn::Result<TokenStream> {
    if !input.generics.params.is_empty() {
        return Err(syn::Error::new_spanned(
            &input.generics,
            "a record has no type parameters or lifetimes",
        ));
    }
    let tag = attributes(&input.attrs, &["tag"])?
        .tag
        .unwrap_or_else(|| "tag".into());
    let mut variants = Vec::new();
    for variant in &data.variants {
        let ty = match &variant.fields {
            Fields::Unnamed(f) if f.unnamed.len() == 1 => f.unnamed.first().map(|f| &f.ty),
            _ => None,
        };
        let Some(ty) = ty else {
            return Err(syn::Error::new_spanned(
                &variant.ident,
                "a variant holds one record: `Bid(Bid)`",
            ));
        };
        let snake = snake(&plain(&variant.ident));
        let said = attributes(&variant.attrs, &["name", "renamed_from"])?;
        let name = said.name.unwrap_or_else(|| snake.clone());
        variants.push(Variant {
            ident: &variant.ident,
            field: format_ident!("r#{snake}"),
            ty,
            name,
            former: said.former,
        });
    }
    let own = std::iter::once((tag.as_str(), &[][..]));
    let all = variants
        .iter()
        .map(|v| (v.name.as_str(), v.former.as_slice()));
    check_past(own.chain(all))?;
    if variants.is_empty() {
        return Err(syn::Error::new_spanned(
            &input.ident,
            "a record has at least one variant",
        ));
    }
    let types = types(input, &variants);
    let value = value_impl(&input.ident, &tag, &variants);
    let constants = constants(&input.ident, &tag, &variants);
    let shared = shared(&input.ident);
    Ok(quote! { #types #value #constants #shared })
}

fn types(input: &DeriveInput, variants: &[Variant<'_>]) -> TokenStream {
    let vis = &input.vis;
    let (row, columns, builder) = type_names(&input.ident);
    let idents: Vec<_> = variants.iter().map(|v| v.ident).collect();
    let fields: Vec<_> = variants.iter().map(|v| &v.field).collect();
    let tys: Vec<_> = variants.iter().map(|v| v.ty).collect();
    quote! {
        /// A row, borrowed.
        #[allow(dead_code, missing_docs, reason = "made by derive(Record)")]
        #[derive(Clone, Copy, Debug, PartialEq)]
        #vis enum #row<'a> { #(#idents(<#tys as ::pelton::value::Value>::Ref<'a>),)* }

        /// Columns: the tag, and a record for each variant.
        #[allow(dead_code, missing_docs, reason = "made by derive(Record)")]
        #[derive(Clone, Copy)]
        #vis struct #columns<'a> {
            pub __tag: <i64 as ::pelton::value::Value>::Column<'a>,
            #(pub #fields: <Option<#tys> as ::pelton::value::Value>::Column<'a>,)*
        }

        /// Columns under construction.
        #[allow(dead_code, missing_docs, reason = "made by derive(Record)")]
        #[derive(Default)]
        #vis struct #builder {
            __tag: <i64 as ::pelton::value::Value>::Builder,
            #(#fields: <Option<#tys> as ::pelton::value::Value>::Builder,)*
        }
    }
}

fn value_impl(owned: &Ident, tag: &str, variants: &[Variant<'_>]) -> TokenStream {
    let (row, columns, builder) = type_names(owned);
    let idents: Vec<_> = variants.iter().map(|v| v.ident).collect();
    let fields: Vec<_> = variants.iter().map(|v| &v.field).collect();
    let tys: Vec<_> = variants.iter().map(|v| v.ty).collect();
    let names: Vec<_> = variants.iter().map(|v| &v.name).collect();
    let tags: Vec<_> = (0..variants.len() as i64).collect();
    let count = variants.len() as u32 + 1;
    let pasts = variants.iter().map(|v| {
        let ty = v.ty;
        past(&syn::parse_quote! { Option<#ty> }, &v.former, None)
    });
    let pushes = variants.iter().map(|one| {
        let (ident, ty) = (one.ident, one.ty);
        let tag = variants
            .iter()
            .position(|v| v.ident == one.ident)
            .unwrap_or(0) as i64;
        let each = variants.iter().map(|v| {
            let field = &v.field;
            if v.ident == one.ident {
                quote! { <Option<#ty> as __Value>::push(&mut builder.#field, Some(inner)); }
            } else {
                quote! { __ColumnBuilder::push_default(&mut builder.#field); }
            }
        });
        quote! { #row::#ident(inner) => { builder.__tag.push(#tag); #(#each)* } }
    });
    let encodes = variants.iter().zip(&tags).map(|(one, tag)| {
        let (ident, ty) = (one.ident, one.ty);
        let each = variants.iter().map(|v| {
            if v.ident == one.ident {
                quote! { <Option<#ty> as __Value>::encode(Some(inner), out); }
            } else {
                quote! { out.push(0); }
            }
        });
        quote! { #row::#ident(inner) => { <i64 as __Value>::encode(#tag, out); #(#each)* } }
    });
    quote! {
        const _: () = {
            use ::pelton::value::{
                Column as __Column, ColumnBuilder as __ColumnBuilder, Cursor as __Cursor, Past as __Past, Row as __Row, Schema as __Schema, Value as __Value,
            };

            impl __Value for #owned {
                type Ref<'a> = #row<'a>;
                type Column<'a> = #columns<'a>;
                type Builder = #builder;
                const HAS_DEFAULT: bool = false #(|| <#tys as __Value>::HAS_DEFAULT)*;

                fn describe(name: &str, schema: &mut __Schema) {
                    schema.push(::pelton::value::record_node(name, #count));
                    schema.extend(Self::row_schema());
                }
                fn resolve<'a>(cursor: &mut __Cursor<'a>, rows: usize) -> ::pelton::Result<#columns<'a>> {
                    cursor.skip();
                    Self::row_resolve(cursor, rows)
                }
                #[inline(always)]
                fn read<'a>(column: &Self::Column<'a>, row: __Row) -> Self::Ref<'a> {
                    match <i64 as __Value>::read(&column.__tag, row) {
                        #(#tags => #row::#idents(<#tys as __Value>::read(&column.#fields.values(), row)),)*
                        other => ::pelton::value::unknown_tag(#tag, other),
                    }
                }
                fn own(value: #row<'_>) -> Self {
                    match value { #(#row::#idents(inner) => Self::#idents(<#tys as __Value>::own(inner)),)* }
                }
                #[inline(always)]
                fn lend(&self) -> #row<'_> {
                    match self { #(Self::#idents(inner) => #row::#idents(<#tys as __Value>::lend(inner)),)* }
                }
                #[inline]
                fn push(builder: &mut #builder, value: #row<'_>) {
                    match value { #(#pushes)* }
                }
                fn encode(value: #row<'_>, out: &mut Vec<u8>) {
                    match value { #(#encodes)* }
                }
                fn row_schema() -> __Schema {
                    let mut schema = __Schema::new();
                    <i64 as __Value>::describe(#tag, &mut schema);
                    #(<Option<#tys> as __Value>::describe(#names, &mut schema);)*
                    schema
                }
                fn past(place: u32, out: &mut Vec<__Past>) {
                    Self::row_past(place + 1, out);
                }
                fn row_past(mut place: u32, out: &mut Vec<__Past>) {
                    ::pelton::value::tag_past(place, out);
                    place += 1;
                    #(
                        <Option<#tys> as __Value>::past(place, out);
                        #pasts
                        place += ::pelton::value::nodes::<Option<#tys>>();
                    )*
                    let _ = place;
                }
                fn row_resolve<'a>(cursor: &mut __Cursor<'a>, rows: usize) -> ::pelton::Result<#columns<'a>> {
                    Ok(#columns {
                        __tag: <i64 as __Value>::resolve(cursor, rows)?,
                        #(#fields: <Option<#tys> as __Value>::resolve(cursor, rows)?,)*
                    })
                }
                fn row_finish(builder: &mut #builder, columns: &mut Vec<__Column>) {
                    __ColumnBuilder::finish(&mut builder.__tag, columns);
                    #(__ColumnBuilder::finish(&mut builder.#fields, columns);)*
                }
            }

            impl __ColumnBuilder for #builder {
                fn len(&self) -> usize { __ColumnBuilder::len(&self.__tag) }
                fn bytes(&self) -> usize {
                    __ColumnBuilder::bytes(&self.__tag) #(+ __ColumnBuilder::bytes(&self.#fields))*
                }
                fn reserve(&mut self, rows: usize) {
                    __ColumnBuilder::reserve(&mut self.__tag, rows);
                    #(__ColumnBuilder::reserve(&mut self.#fields, rows);)*
                }
                fn push_default(&mut self) {
                    __ColumnBuilder::push_default(&mut self.__tag);
                    #(__ColumnBuilder::push_default(&mut self.#fields);)*
                }
                fn finish(&mut self, columns: &mut Vec<__Column>) {
                    columns.push(::pelton::value::record_column());
                    #owned::row_finish(self, columns);
                }
            }
        };
    }
}

fn constants(owned: &Ident, tag: &str, variants: &[Variant<'_>]) -> TokenStream {
    let each = variants.iter().map(|v| {
        let (constant, ty, name) = (constant(v.ident), v.ty, &v.name);
        let doc = format!("The record of the variant `{name}`, null where a row is of another.");
        quote! {
            #[doc = #doc]
            pub const #constant: ::pelton::Field<#owned, Option<#ty>> = ::pelton::Field::new(#name);
        }
    });
    quote! {
        #[allow(dead_code, reason = "made by derive(Record)")]
        impl #owned {
            /// Which variant a row is, from 0.
            pub const TAG: ::pelton::Field<#owned, i64> = ::pelton::Field::new(#tag);
            #(#each)*
        }
    }
}
