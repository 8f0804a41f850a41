//! The job graph as a component describes it, read into the model's. The guest is not trusted: numbers, depths and
//! counts are checked here; what the graph means is `pelton_model::graph::check`'s affair.

pub(crate) mod read;
pub(crate) mod wire;
