//! The sandboxes of one Sandboxfile as a whole: in which order they start and stop, and what has to change.

mod plan;
mod walk;

pub use plan::{Action, Change, Comparison, Last, plan};
pub use walk::{Ending, Steps, with_needed};
