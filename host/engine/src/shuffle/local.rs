//! An input gate within a process: all channels from one task to another. They share a queue, so that their elements
//! come in the order sent; elements pass as pointers, bounded by the bytes that they keep alive.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pelton_model::element::Element;

use super::{Receiver, Sender, Waker};

#[derive(Default)]
struct Queue {
    /// (channel, bytes, element).
    elements: VecDeque<(usize, usize, Element)>,
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

/// A gate of so many channels that hold together up to about `bytes_max` bytes (a single larger element passes): its
/// sending ends and the receiving one. `on_data` wakes the receiver, `on_room` the sender.
pub fn gate(
    channels: usize,
    bytes_max: usize,
    on_data: Waker,
    on_room: Waker,
) -> (Vec<impl Sender + 'static>, impl Receiver + 'static) {
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
    let senders = (0..channels)
        .map(|channel| LocalSender(channel, Arc::clone(&shared)))
        .collect();
    (senders, LocalReceiver(shared))
}

struct LocalSender(usize, Arc<Shared>);
struct LocalReceiver(Arc<Shared>);

impl Sender for LocalSender {
    fn send(&mut self, element: Element) {
        let bytes = element.bytes();
        let mut queue = self.1.lock();
        queue.bytes += bytes;
        queue.elements.push_back((self.0, bytes, element));
        if std::mem::take(&mut queue.receiver_waits) {
            drop(queue);
            (self.1.on_data)();
        }
    }

    fn has_room(&mut self) -> bool {
        let mut queue = self.1.lock();
        let room = queue.bytes < self.1.bytes_max;
        queue.sender_waits = !room;
        room
    }
}

impl Receiver for LocalReceiver {
    fn receive(&mut self) -> Option<(usize, Element)> {
        let mut queue = self.0.lock();
        let Some((channel, bytes, element)) = queue.elements.pop_front() else {
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
        Some((channel, element))
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
        let (mut ends, mut rx) = gate(1, 40, count(&data), count(&room));
        let mut tx = ends.pop().unwrap();
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

    #[test]
    fn the_channels_of_a_gate_keep_the_order_among_them() {
        let none = || Arc::new(|| {}) as Waker;
        let (mut ends, mut rx) = gate(2, 1 << 20, none(), none());
        for (channel, time) in [(1, 5), (0, 3), (1, 6), (1, 7), (0, 4)] {
            ends[channel].send(Element::Watermark(Watermark(time)));
        }
        let seen: Vec<_> = std::iter::from_fn(|| rx.receive())
            .map(|(channel, e)| match e {
                Element::Watermark(w) => (channel, w.0),
                _ => (channel, 0),
            })
            .collect();
        assert_eq!(seen, [(1, 5), (0, 3), (1, 6), (1, 7), (0, 4)]);
    }
}
