//! Accumulators of two panes that stand under the same slots: one is taken into the other, or out of it, slot by slot.
//! Only counts and exact sums.

use pelton_model::{Error, Result};

use super::{Acc, Numbers, Op, overflow};

impl Acc {
    /// Counts rows, and appends slots that had none to `new`, each once, in their order.
    pub(in crate::operators::window) fn count_new(&mut self, slots: &[u32], new: &mut Vec<u32>) {
        let Numbers::Counts(counts) = &mut self.numbers else {
            return;
        };
        // Every slot is written, and stays where it is new: whether it is cannot be foreseen, and a wrong guess costs
        // more than the write.
        let mut end = new.len();
        new.resize(end + slots.len(), 0);
        for slot in slots {
            if let (Some(count), Some(to)) = (counts.get_mut(*slot as usize), new.get_mut(end)) {
                *to = *slot;
                end += usize::from(*count == 0);
                *count += 1;
            }
        }
        new.truncate(end);
    }

    /// Takes in all of `from`. Errors: a sum that does not fit.
    pub(in crate::operators::window) fn take_in_whole(&mut self, from: &Self) -> Result<()> {
        if self.slots() < from.slots() {
            self.grow(from.slots());
        }
        if let (Some(into), Some(from)) = (&mut self.seen, &from.seen) {
            into.iter_mut().zip(from).for_each(|(a, b)| *a += b);
        }
        let mut fits = true;
        match (&mut self.numbers, &from.numbers, self.op) {
            (Numbers::Counts(into), Numbers::Counts(from), _) => {
                into.iter_mut().zip(from).for_each(|(a, b)| *a += b);
            }
            (Numbers::Exact(into), Numbers::Exact(from), Op::Sum) => {
                for (a, b) in into.iter_mut().zip(from) {
                    let (sum, over) = a.overflowing_add(*b);
                    *a = sum;
                    fits &= !over;
                }
            }
            _ => return Err(foreign()),
        }
        if fits { Ok(()) } else { Err(overflow()) }
    }

    /// Takes out all of `from` again.
    pub(in crate::operators::window) fn take_out_whole(&mut self, from: &Self) -> Result<()> {
        if let (Some(into), Some(from)) = (&mut self.seen, &from.seen) {
            into.iter_mut().zip(from).for_each(|(a, b)| *a -= b);
        }
        match (&mut self.numbers, &from.numbers, self.op) {
            (Numbers::Counts(into), Numbers::Counts(from), _) => {
                into.iter_mut().zip(from).for_each(|(a, b)| *a -= b);
            }
            // Both are sums of values that were added without overflow.
            (Numbers::Exact(into), Numbers::Exact(from), Op::Sum) => {
                for (a, b) in into.iter_mut().zip(from) {
                    *a = a.wrapping_sub(*b);
                }
            }
            _ => return Err(foreign()),
        }
        Ok(())
    }

    /// Appends the slots that `from` counted rows in, and that have none here.
    pub(in crate::operators::window) fn emptied(&self, from: &Self, slots: &mut Vec<u32>) {
        let (Numbers::Counts(own), Numbers::Counts(from)) = (&self.numbers, &from.numbers) else {
            return;
        };
        const CHUNK: usize = 256;
        for (i, (own, from)) in own.chunks(CHUNK).zip(from.chunks(CHUNK)).enumerate() {
            let both = || own.iter().zip(from);
            let is_one = |(own, from): (&u64, &u64)| *own == 0 && *from != 0;
            // Mostly there is none.
            if both().fold(false, |any, both| any | is_one(both)) {
                let at = (i * CHUNK) as u32;
                let found = (at..).zip(both()).filter(|(_, both)| is_one(*both));
                slots.extend(found.map(|(slot, _)| slot));
            }
        }
    }

    /// Whether rows were counted in a slot.
    pub(in crate::operators::window) fn has_rows(&self, slot: u32) -> bool {
        match &self.numbers {
            Numbers::Counts(counts) => counts.get(slot as usize).is_some_and(|n| *n > 0),
            _ => false,
        }
    }
}

fn foreign() -> Error {
    Error::bug("what cannot be taken out of an accumulator")
}
