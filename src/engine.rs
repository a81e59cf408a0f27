//! One pass over some zones: entries are judged, what has expired is selected, claimed, looked at again and
//! removed.
//!
//! This module must not touch a file or a lock itself: it is generic over the four seams of [`crate::protocol`].
//!
//! - [`pass`]: the pass itself.
//! - [`workers`]: its threads.
//! - [`limits`]: when it ends early, and how fast it may go.
//! - [`budget`]: how much it may still remove.
//! - [`control`]: tells long work about the two.
//! - [`live`]: the counts of a pass while it is at work.
//! - [`outcomes`]: the outcomes of a pass, for the relief after it.

pub mod budget;
pub mod control;
pub mod limits;
pub mod live;
pub mod outcomes;
pub mod pass;
pub mod workers;

pub use budget::Budget;
pub use control::PassControl;
pub use limits::Limits;
pub use live::Live;
pub use outcomes::{Outcomes, Remembering};
pub use pass::{Pass, ReliefPlan, ReliefZone};
pub use workers::Workers;
