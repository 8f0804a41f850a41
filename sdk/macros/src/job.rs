//! `#[pelton::job]`: the exports of a component around the job function.

use proc_macro2::TokenStream;
use quote::quote;
use syn::ItemFn;

use crate::names::plain;

pub(crate) fn expand(attr: TokenStream, item: &ItemFn) -> syn::Result<TokenStream> {
    if !attr.is_empty() {
        return Err(syn::Error::new_spanned(
            attr,
            "#[pelton::job] takes no arguments; name the job by job.name(\"..\")",
        ));
    }
    if item.sig.inputs.len() != 2
        || item.sig.asyncness.is_some()
        || !item.sig.generics.params.is_empty()
    {
        return Err(syn::Error::new_spanned(
            &item.sig,
            "a job is `fn name(job: &mut Job, params: &Params) -> Result<()>`",
        ));
    }
    let function = &item.sig.ident;
    let name = plain(function).replace('_', "-");
    Ok(quote! {
        #item

        #[cfg(target_family = "wasm")]
        const _: () = {
            struct Component;
            impl ::pelton::runtime::component::Job for Component {
                const NAME: &'static str = #name;
                fn build(job: &mut ::pelton::Job, params: &::pelton::Params) -> ::pelton::Result<()> {
                    #function(job, params)
                }
            }
            ::pelton::export_component!(Component);
        };
    })
}
