//! A channel within a process: elements pass as pointers, bounded by the bytes that they keep alive.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pelton_model::element::Element;

use super::{Receiver, Sender, Waker};

#[derive(Default)]
struct Queue {
    elements: VecDeque<(usize, Element)>,
    bytes: usize,
    sender_waits: bool,
    receiver_waits: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    bytes_max: usize,
    on_data: Waker,
    on_room: Waker,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // A queue is whole between any two statements below, so a panic elsewhere cannot have torn it.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A channel that holds up to about `bytes_max` bytes (a single larger element passes). `on_data` wakes the receiver,
/// `on_room` the sender.
pub fn channel(
    bytes_max: usize,
    on_data: Waker,
    on_room: Waker,
) -> (impl Sender + 'static, impl Receiver + 'static) {
    let queue = Queue {
        receiver_waits: true,
        ..Queue::default()
    };
    let shared = Arc::new(Shared {
        queue: Mutex::new(queue),
        bytes_max,
        on_data,
        on_room,
    });
    (LocalSender(Arc::clone(&shared)), LocalReceiver(shared))
}

struct LocalSender(Arc<Shared>);
struct LocalReceiver(Arc<Shared>);

impl Sender for LocalSender {
    fn send(&mut self, element: Element) {
        let bytes = element.bytes();
        let mut queue = self.0.lock();
        queue.bytes += bytes;
        queue.elements.push_back((bytes, element));
        if std::mem::take(&mut queue.receiver_waits) {
            drop(queue);
            (self.0.on_data)();
        }
    }

    fn has_room(&mut self) -> bool {
        let mut queue = self.0.lock();
        let room = queue.bytes < self.0.bytes_max;
        queue.sender_waits = !room;
        room
    }
}

impl Receiver for LocalReceiver {
    fn receive(&mut self) -> Option<Element> {
        let mut queue = self.0.lock();
        let Some((bytes, element)) = queue.elements.pop_front() else {
            queue.receiver_waits = true;
            return None;
        };
        queue.bytes -= bytes;
        // Wake the sender when half is free, so that it does not run for one element at a time.
        if queue.sender_waits && queue.bytes <= self.0.bytes_max / 2 {
            queue.sender_waits = false;
            drop(queue);
            (self.0.on_room)();
        }
        Some(element)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pelton_model::watermark::Watermark;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn wakes_each_end_once() {
        let (data, room) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let count = |c: &Arc<AtomicUsize>| {
            let c = Arc::clone(c);
            Arc::new(move || {
                c.fetch_add(1, Ordering::SeqCst);
            }) as Waker
        };
        let (mut tx, mut rx) = channel(40, count(&data), count(&room));
        for t in 0..3 {
            assert!(tx.has_room());
            tx.send(Element::Watermark(Watermark(t)));
        }
        assert!(!tx.has_room());
        assert_eq!(data.load(Ordering::SeqCst), 1);
        assert!(rx.receive().is_some());
        assert_eq!(room.load(Ordering::SeqCst), 0, "not before half is free");
        assert!(rx.receive().is_some() && rx.receive().is_some() && rx.receive().is_none());
        assert_eq!(room.load(Ordering::SeqCst), 1);
        tx.send(Element::End);
        assert_eq!(data.load(Ordering::SeqCst), 2);
    }
}
