//! Which row a call is at, so that a panic can name it.

use std::cell::{Cell, RefCell};
use std::panic::PanicHookInfo;
use std::rc::Rc;

use crate::host;

const NO_ROW: usize = usize::MAX;

thread_local! {
    static ROW: Cell<usize> = const { Cell::new(NO_ROW) };
    static ORIGIN: RefCell<Option<Rc<Vec<u32>>>> = const { RefCell::new(None) };
    static ABOUT: RefCell<Option<Rc<str>>> = const { RefCell::new(None) };
}

/// A function begins to work on rows, whose place in the call's batch `origin` gives.
pub(crate) fn enter(origin: Option<&Rc<Vec<u32>>>) {
    ROW.set(NO_ROW);
    ORIGIN.set(origin.cloned());
}

#[inline(always)]
pub(crate) fn set(row: usize) {
    ROW.set(row);
}

/// What a panic from now on is also about, such as `while it was ..`.
pub(crate) fn about(what: Option<&Rc<str>>) {
    ABOUT.set(what.cloned());
}

/// No function is at work.
pub(crate) fn leave() {
    ROW.set(NO_ROW);
    ORIGIN.take();
    ABOUT.take();
}

fn row() -> Option<usize> {
    let row = ROW.get();
    if row == NO_ROW {
        return None;
    }
    ORIGIN
        .try_with(|o| {
            o.try_borrow()
                .ok()?
                .as_ref()
                .map_or(Some(row), |o| o.get(row).map(|r| *r as usize))
        })
        .ok()?
}

/// What a panic says, with its place in the code and in the batch.
fn describe(info: &PanicHookInfo<'_>) -> String {
    let message = info.payload_as_str().unwrap_or("panic");
    let place = info
        .location()
        .map_or(String::new(), |l| format!(", at {}:{}", l.file(), l.line()));
    let row = row().map_or(String::new(), |row| format!(", in row {row} of the batch"));
    let about = ABOUT.try_with(|about| about.try_borrow().ok()?.clone());
    let about = about.ok().flatten();
    let about = about.map_or(String::new(), |about| format!(", {about}"));
    format!("{message}{place}{row}{about}")
}

/// Panics are told to the host before the trap that they end in.
pub(crate) fn hook_panics() {
    if cfg!(target_family = "wasm") {
        std::panic::set_hook(Box::new(|info| host::panic(&describe(info))));
    }
}
