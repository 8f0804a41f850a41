//! The exchange between tasks: channels under a bound, and who gets which row.
//! Needs: model. A channel can be local or remote without its ends knowing: they are traits.

pub mod local;
pub mod partition;

use std::sync::Arc;

use pelton_model::element::Element;

/// Makes a task runnable again. Called from another task's step; must not run it there and then.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// The sending end of a channel.
pub trait Sender: Send {
    /// Takes an element; never waits. A sender asks [`has_room`](Self::has_room) between its steps.
    fn send(&mut self, element: Element);
    /// Whether the channel is below its bound. If not, the sender is woken once it is.
    fn has_room(&mut self) -> bool;
}

/// The receiving end of all channels from one task to another: an input gate.
pub trait Receiver: Send {
    /// The next element and by which of the channels it came, in the order sent over all of them. If there is none, the
    /// receiver is woken once there is.
    fn receive(&mut self) -> Option<(usize, Element)>;
}
