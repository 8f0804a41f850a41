//! The allocator of components: free lists by size for small blocks, and the standard library's allocator for the rest.
//!
//! A call makes some twenty small lists (columns, outputs, their records) and frees them all again, so that taking one
//! from a list in three instructions saves a third of the fixed price of a call. Blocks of a size never become blocks of
//! another: what is kept is at most the greatest use of each size. Single-threaded, as components are.
//!
//! `unsafe` here: a free block's first word is the address of the next one of its size, and blocks are only ever handed
//! out whole, so that size and alignment of a layout always fit.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr::null_mut;

/// Blocks are multiples of this, and aligned to it.
const GRAIN: usize = 16;
/// Larger blocks are the standard library's.
const SMALL_MAX: usize = 512;
/// Blocks of one size that are cut at once.
const CUT: usize = 16;

struct Lists {
    first: UnsafeCell<[*mut u8; SMALL_MAX / GRAIN + 1]>,
}

// SAFETY: a component has one thread.
unsafe impl Sync for Lists {}

#[global_allocator]
static LISTS: Lists = Lists {
    first: UnsafeCell::new([null_mut(); SMALL_MAX / GRAIN + 1]),
};

#[inline(always)]
fn is_small(layout: Layout) -> bool {
    layout.size() <= SMALL_MAX && layout.align() <= GRAIN
}

// SAFETY: small blocks come from and go to the list of their size, which depends on nothing but the layout.
unsafe impl GlobalAlloc for Lists {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !is_small(layout) {
            return unsafe { System.alloc(layout) };
        }
        let class = layout.size().div_ceil(GRAIN);
        // SAFETY: one thread, and the reference ends before anything else is called.
        let slot = unsafe { &mut (*self.first.get())[class] };
        if slot.is_null() {
            return unsafe { self.cut(class) };
        }
        let block = *slot;
        *slot = unsafe { block.cast::<*mut u8>().read() };
        block
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if !is_small(layout) {
            return unsafe { System.dealloc(block, layout) };
        }
        let class = layout.size().div_ceil(GRAIN);
        unsafe {
            let slot = &mut (*self.first.get())[class];
            block.cast::<*mut u8>().write(*slot);
            *slot = block;
        }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises that the size is one for this alignment.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (is_small(layout), is_small(wanted)) {
            (false, false) => unsafe { System.realloc(block, layout, size) },
            (true, true) if layout.size().div_ceil(GRAIN) == size.div_ceil(GRAIN) => block,
            _ => unsafe {
                let fresh = self.alloc(wanted);
                if !fresh.is_null() {
                    fresh.copy_from_nonoverlapping(block, layout.size().min(size));
                    self.dealloc(block, layout);
                }
                fresh
            },
        }
    }
}

impl Lists {
    /// Takes room for several blocks of a size, and hands out the first.
    #[cold]
    unsafe fn cut(&self, class: usize) -> *mut u8 {
        let size = class * GRAIN;
        // SAFETY: the size is above 0, since nobody allocates 0 bytes.
        let room = unsafe { System.alloc(Layout::from_size_align_unchecked(size * CUT, GRAIN)) };
        if room.is_null() {
            return room;
        }
        for at in (1..CUT).rev() {
            unsafe {
                let slot = &mut (*self.first.get())[class];
                let block = room.add(at * size);
                block.cast::<*mut u8>().write(*slot);
                *slot = block;
            }
        }
        room
    }
}
