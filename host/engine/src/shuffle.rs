//! The exchange between tasks: channels under a bound, and who gets which row.
//! Needs: model. A channel can be local or remote without its ends knowing: they are traits.

pub mod local;
pub mod partition;

use std::sync::Arc;

use pelton_model::barrier::Barrier;
use pelton_model::element::Element;
use pelton_model::id::CheckpointId;

/// Makes a task runnable again. Called from another task's step; must not run it there and then.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// The sending end of a channel.
pub trait Sender: Send {
    /// Takes an element; never waits. A sender asks [`has_room`](Self::has_room) between its steps.
    fn send(&mut self, element: Element);
    /// Whether the channel is below its bound. If not, the sender is woken once it is.
    fn has_room(&mut self) -> bool;
}

/// The receiving end of all channels from one task to another: an input gate. The task that sends puts the barriers of a
/// checkpoint on all of them at once, so that they stand next to each other.
pub trait Receiver: Send {
    /// The next element and by which of the channels it came, in the order sent over all of them. If there is none, the
    /// receiver is woken once there is.
    fn receive(&mut self) -> Option<(usize, Element)>;

    /// The newest barrier that has arrived, wherever it stands. Cheap where there is none.
    fn barrier(&mut self) -> Option<Barrier>;

    /// The barriers of a checkpoint overtake what stands before them, if they have arrived: they are gone, the other
    /// elements stay, and copies of the rows and watermarks among them, by channel, are in flight. If not they, but the ends
    /// of all of the `open` channels have arrived, what stands before those is. None: neither has yet.
    fn overtake(&mut self, checkpoint: CheckpointId, open: usize) -> Option<Vec<(usize, Element)>>;
}
