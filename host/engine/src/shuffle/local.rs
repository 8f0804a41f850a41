//! An input gate within a process: all channels from one task to another. They share a queue, so that their elements
//! come in the order sent; elements pass as pointers, bounded by the bytes that they keep alive.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pelton_model::barrier::Barrier;
use pelton_model::element::Element;
use pelton_model::id::CheckpointId;

use super::{Receiver, Sender, Waker};

#[derive(Default)]
struct Queue {
    /// (channel, bytes, element).
    elements: VecDeque<(usize, usize, Element)>,
    bytes: usize,
    /// The barriers among the elements, in their order.
    barriers: VecDeque<Barrier>,
    /// How many ends are among them.
    ends: usize,
    sender_waits: bool,
    receiver_waits: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    /// How many barriers are in the queue: the receiver looks at each step, without the lock.
    barriers: AtomicUsize,
    bytes_max: usize,
    on_data: Waker,
    on_room: Waker,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // A queue is whole between any two statements below, so a panic elsewhere cannot have torn it.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the sender when half is free, so that it does not run for one element at a time.
    fn freed(&self, mut queue: MutexGuard<'_, Queue>) {
        if queue.sender_waits && queue.bytes <= self.bytes_max / 2 {
            queue.sender_waits = false;
            drop(queue);
            (self.on_room)();
        }
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
        barriers: AtomicUsize::new(0),
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
        match &element {
            Element::Barrier(barrier) => {
                queue.barriers.push_back(*barrier);
                self.1.barriers.fetch_add(1, Ordering::Release);
            }
            Element::End => queue.ends += 1,
            _ => {}
        }
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
        match &element {
            Element::Barrier(_) => {
                queue.barriers.pop_front();
                self.0.barriers.fetch_sub(1, Ordering::Release);
            }
            Element::End => queue.ends -= 1,
            _ => {}
        }
        self.0.freed(queue);
        Some((channel, element))
    }

    fn barrier(&mut self) -> Option<Barrier> {
        if self.0.barriers.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.0.lock().barriers.back().copied()
    }

    fn overtake(&mut self, checkpoint: CheckpointId, open: usize) -> Option<Vec<(usize, Element)>> {
        let mut queue = self.0.lock();
        let is_it = |e: &Element| matches!(e, Element::Barrier(b) if b.checkpoint == checkpoint);
        let arrived = queue.barriers.iter().any(|b| b.checkpoint == checkpoint);
        if !arrived && queue.ends < open {
            return None;
        }
        let before = queue.elements.iter().take_while(|(_, _, e)| !is_it(e));
        let flows =
            before.filter(|(_, _, e)| matches!(e, Element::Batch(_) | Element::Watermark(_)));
        let in_flight = flows.map(|(channel, _, e)| (*channel, e.clone())).collect();
        if arrived {
            let mut freed = 0;
            queue.elements.retain(|(_, bytes, e)| {
                freed += if is_it(e) { *bytes } else { 0 };
                !is_it(e)
            });
            queue.bytes -= freed;
            let had = queue.barriers.len();
            queue.barriers.retain(|b| b.checkpoint != checkpoint);
            let gone = had - queue.barriers.len();
            self.0.barriers.fetch_sub(gone, Ordering::Release);
            self.0.freed(queue);
        }
        Some(in_flight)
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

    #[test]
    fn a_barrier_overtakes_what_stands_before_it_on_any_channel() {
        use pelton_model::barrier::{BarrierMode, SnapshotForm};
        let none = || Arc::new(|| {}) as Waker;
        let (mut ends, mut rx) = gate(2, 1 << 20, none(), none());
        let barrier = |id| Barrier {
            checkpoint: CheckpointId(id),
            form: SnapshotForm::Native,
            mode: BarrierMode::Unaligned { after_ms: 0 },
            last: false,
        };
        let time = |t| Element::Watermark(Watermark(t));
        let seen = |elements: Vec<(usize, Element)>| -> Vec<(usize, i64)> {
            let time = |(channel, e)| match e {
                Element::Watermark(w) => (channel, w.0),
                other => panic!("{other:?}"),
            };
            elements.into_iter().map(time).collect()
        };
        ends[0].send(time(1));
        ends[1].send(Element::Idle);
        ends[1].send(time(2));
        assert_eq!(rx.barrier(), None);
        assert!(rx.overtake(CheckpointId(1), 2).is_none(), "it has not come");
        ends.iter_mut()
            .for_each(|e| e.send(Element::Barrier(barrier(1))));
        ends[0].send(time(3));
        ends.iter_mut()
            .for_each(|e| e.send(Element::Barrier(barrier(2))));
        assert_eq!(rx.barrier(), Some(barrier(2)));
        assert_eq!(
            seen(rx.overtake(CheckpointId(1), 2).unwrap()),
            [(0, 1), (1, 2)]
        );
        assert!(rx.overtake(CheckpointId(1), 2).is_none(), "it is gone");
        assert_eq!(
            seen(rx.overtake(CheckpointId(2), 2).unwrap()),
            [(0, 1), (1, 2), (0, 3)]
        );
        assert_eq!(rx.barrier(), None);
        ends[0].send(Element::End);
        assert!(rx.overtake(CheckpointId(3), 2).is_none());
        ends[1].send(Element::End);
        let all = rx.overtake(CheckpointId(3), 2).unwrap();
        assert_eq!(seen(all), [(0, 1), (1, 2), (0, 3)], "no barrier can come");
        let left = std::iter::from_fn(|| rx.receive()).count();
        assert_eq!(left, 6, "rows, times and ends are still to be read");
    }
}
