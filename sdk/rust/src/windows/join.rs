//! Two streams in the same windows: pairs of rows, or all rows of both sides.
//!
//! As in Flink, the streams are united, each row with its side, and the windows are those of one stream: with any assigner,
//! trigger and evictor. Watermarks merge as those of a union do.

use std::rc::Rc;

use super::Window;
use super::assigner::WindowAssigner;
use super::evictor::Evictor;
use super::record::{Lent, Tagged, TaggedRef};
use super::stream::GeneralWindowedStream;
use super::trigger::{DefaultTrigger, Trigger};
use crate::bindings::exports::pelton::job::graph::Partition;
use crate::draft::{self, End, Shared};
use crate::function::transform::{MapIntoStep, Slot};
use crate::function::{Effect, Out, Step, StepFunction};
use crate::key::Key;
use crate::record::{Record, RefOf};
use crate::stream::{KeyedStream, add_step};
use crate::time::Duration;
use crate::value::{Schema, top_field};

/// Rows of two streams with equal keys in windows; all of both sides are handed to a function. `G` says when windows fire.
pub struct CoGrouped<A: Record, B: Record, K: Key, G = DefaultTrigger>(
    GeneralWindowedStream<Tagged<A, B>, Tagged<A, B>, K, G>,
);

/// Rows of two streams with equal keys in windows; each pair of rows of a window is handed to a function.
pub struct Joined<A: Record, B: Record, K: Key, G = DefaultTrigger>(CoGrouped<A, B, K, G>);

impl<T: Record, V: Record, K: Key> KeyedStream<T, V, K> {
    /// Puts the rows of two streams into the same windows, those with equal keys together:
    /// `bids.co_group(asks, tumbling(seconds(10))).apply("both", |key, window, bids, asks, out| ..)`.
    pub fn co_group<U: Record, W: Record>(
        self,
        other: KeyedStream<U, W, K>,
        windows: impl WindowAssigner<Tagged<V, W>>,
    ) -> CoGrouped<V, W, K> {
        if !Rc::ptr_eq(&self.draft, &other.draft) {
            let why = "streams of two jobs cannot be in the same windows";
            self.draft.borrow_mut().fail(why.into());
        }
        let draft = self.draft;
        let key = key_names(self.key.len());
        let mut end = tag::<V, Tagged<V, W>>(&draft, &self.ends, &self.key, "left", |row, slot| {
            slot.fill(Lent(TaggedRef {
                left: Some(row),
                right: None,
            }))
        });
        end.extend(tag::<W, Tagged<V, W>>(
            &draft,
            &other.ends,
            &other.key,
            "right",
            |row, slot| {
                slot.fill(Lent(TaggedRef {
                    left: None,
                    right: Some(row),
                }))
            },
        ));
        end.iter_mut()
            .for_each(|e| e.partition = Partition::Key(key.clone()));
        let both = KeyedStream::<Tagged<V, W>, Tagged<V, W>, K>::at(draft, end, key);
        CoGrouped(both.window_by(windows))
    }

    /// Each pair of rows of two streams with equal keys and in the same window:
    /// `bids.window_join(asks, tumbling(seconds(10))).apply("pairs", |key, bid, ask, out| ..)`.
    pub fn window_join<U: Record, W: Record>(
        self,
        other: KeyedStream<U, W, K>,
        windows: impl WindowAssigner<Tagged<V, W>>,
    ) -> Joined<V, W, K> {
        Joined(self.co_group(other, windows))
    }
}

/// The names of the key's parts in both streams.
fn key_names(parts: usize) -> Vec<String> {
    (0..parts).map(|i| format!("__key_{i}")).collect()
}

/// Makes tagged rows of a stream's: the key under its common name, and the row on its side.
fn tag<V: Record, M: Record>(
    draft: &Shared,
    ends: &[End],
    key: &[String],
    name: &str,
    make: impl Fn(RefOf<'_, V>, Slot<'_, M>) -> crate::function::transform::Filled<M> + 'static,
) -> Vec<End> {
    let mut ends = ends.to_vec();
    ends.iter_mut()
        .for_each(|e| e.partition = Partition::Forward);
    let parts = key_parts(draft, &ends, key);
    let mut output: Schema = parts.concat();
    output.extend(M::schema());
    let spec = StepFunction {
        view: V::schema(),
        output,
        effect: Effect::Make(M::schema()),
    };
    let step = move |_: &crate::function::Open| {
        Ok(Box::new(MapIntoStep::<V, M, _>::new(make)) as Box<dyn Step>)
    };
    let tagged = add_step(draft, &ends, name, spec, Box::new(step));
    let mut renames: Vec<(String, String)> =
        key.iter().cloned().zip(key_names(key.len())).collect();
    renames.extend(["__left", "__right"].map(|n| (n.to_owned(), n.to_owned())));
    let mut output = Schema::new();
    for (mut part, name) in parts.into_iter().zip(key_names(key.len())) {
        if let Some(field) = part.first_mut() {
            field.name = name;
        }
        output.extend(part);
    }
    output.extend(M::schema());
    let mut d = draft.borrow_mut();
    let operator = d.add(
        &format!("{name} key"),
        draft::select(None, renames),
        Some(output),
    );
    d.connect(
        &[End {
            operator: tagged,
            port: 0,
            partition: Partition::Forward,
        }],
        operator,
    );
    vec![End {
        operator,
        port: 0,
        partition: Partition::Forward,
    }]
}

/// The fields of the key, each with its nodes.
fn key_parts(draft: &Shared, ends: &[End], key: &[String]) -> Vec<Schema> {
    let draft = draft.borrow();
    let schema = ends.first().and_then(|end| {
        let operator = draft.operators.get(end.operator as usize)?;
        Some(&operator.outputs.get(end.port as usize)?.schema)
    });
    key.iter()
        .filter_map(|name| Some(top_field(schema?, name)?.1.to_vec()))
        .collect()
}

impl<A: Record, B: Record, K: Key, G: Trigger<Tagged<A, B>>> CoGrouped<A, B, K, G> {
    /// Says when windows fire, in place of once at their end.
    pub fn trigger<H: Trigger<Tagged<A, B>>>(self, trigger: H) -> CoGrouped<A, B, K, H> {
        CoGrouped(self.0.trigger(trigger))
    }

    /// Removes rows of a window when it fires.
    #[must_use]
    pub fn evictor(self, evictor: impl Evictor<Tagged<A, B>>) -> Self {
        Self(self.0.evictor(evictor))
    }

    /// Rows that are behind the watermark by up to this still count: their window fires again. Later ones are dropped, and
    /// counted by `late_rows`.
    #[must_use]
    pub fn allowed_lateness(self, lateness: Duration) -> Self {
        Self(self.0.allowed_lateness(lateness))
    }

    /// For each firing, `f` is called with all rows of the window, those of each side in the order in which they came;
    /// one side may have none. `|key, window, lefts, rights, out| ..`
    pub fn apply<O: Record>(
        self,
        name: &str,
        f: impl Fn(K::Ref<'_>, Window, &[A::Ref<'_>], &[B::Ref<'_>], &mut Out<O>) + 'static,
    ) -> crate::stream::Stream<O> {
        self.0.process_with(name, move |key, window, rows, _, out| {
            let lefts: Vec<A::Ref<'_>> = rows.iter().filter_map(TaggedRef::left).collect();
            let rights: Vec<B::Ref<'_>> = rows.iter().filter_map(TaggedRef::right).collect();
            f(key, window, &lefts, &rights, out);
        })
    }
}

impl<A: Record, B: Record, K: Key, G: Trigger<Tagged<A, B>>> Joined<A, B, K, G> {
    /// Says when windows fire, in place of once at their end.
    pub fn trigger<H: Trigger<Tagged<A, B>>>(self, trigger: H) -> Joined<A, B, K, H> {
        Joined(self.0.trigger(trigger))
    }

    /// Removes rows of a window when it fires.
    #[must_use]
    pub fn evictor(self, evictor: impl Evictor<Tagged<A, B>>) -> Self {
        Self(self.0.evictor(evictor))
    }

    /// As [`CoGrouped::allowed_lateness`].
    #[must_use]
    pub fn allowed_lateness(self, lateness: Duration) -> Self {
        Self(self.0.allowed_lateness(lateness))
    }

    /// For each firing, `f` is called with each pair of a left and a right row: `|key, left, right, out| ..`
    pub fn apply<O: Record>(
        self,
        name: &str,
        f: impl Fn(K::Ref<'_>, A::Ref<'_>, B::Ref<'_>, &mut Out<O>) + 'static,
    ) -> crate::stream::Stream<O> {
        self.0.apply(name, move |key, _, lefts, rights, out| {
            for left in lefts {
                for right in rights {
                    f(key, *left, *right, out);
                }
            }
        })
    }
}
