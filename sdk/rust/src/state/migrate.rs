//! Values of a former type, which the user's function makes those of now, key by key.
//!
//! They stand in a state of their own, behind the one that they become. A key that has no value is looked up there; what is
//! found is made a value, and is gone there. So no key ever has both, and when nothing is left, what remains is a look at
//! an empty state for keys that have no value.

use std::rc::Rc;

use super::value::ValueCells;
use crate::place;
use crate::value::Value;

/// Values of a former type.
pub(super) trait Former<T> {
    /// What the key at hand has here, made a value of now; it is gone here.
    fn take(&self) -> Option<T>;
    /// What the key at hand has here is gone.
    fn forget(&self);
}

pub(super) struct Migration<Old: Value, F> {
    cells: Rc<ValueCells<Old>>,
    f: F,
    /// What a panic says it was about.
    about: Rc<str>,
}

impl<T: Value> ValueCells<T> {
    /// Declares the state of former values.
    pub(super) fn migrate_from<Old: Value>(&self, f: impl Fn(Old) -> T + 'static) {
        let Some(all) = self.spec.among.upgrade() else {
            return;
        };
        let (name, kind) = {
            let state = self.spec.state.borrow();
            (state.name.clone(), state.kind)
        };
        let mut former = format!("{name}@former");
        let mut count = 1;
        while all
            .specs
            .borrow()
            .iter()
            .any(|s| s.state.borrow().name == former)
        {
            count += 1;
            former = format!("{name}@former-{count}");
        }
        let cells = all.value_cells::<Old>(&former, kind, true);
        let about = format!("while state '{name}' was migrated").into();
        cells.spec.state.borrow_mut().restores = Some(name);
        self.add_former(Box::new(Migration { cells, f, about }));
    }
}

impl<T, Old: Value, F: Fn(Old) -> T> Former<T> for Migration<Old, F> {
    fn take(&self) -> Option<T> {
        let old = self.cells.with(|v| v.map(Old::own))?;
        place::about(Some(&self.about));
        let new = (self.f)(old);
        place::about(None);
        self.cells.clear();
        Some(new)
    }

    fn forget(&self) {
        if self.cells.with(|v| v.is_some()) {
            self.cells.clear();
        }
    }
}
