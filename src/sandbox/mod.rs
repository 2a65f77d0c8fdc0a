//! A sandbox from definition to exit code: what it runs, where its disk is, booting it, and what went wrong.

mod boot;
mod command;
mod diagnosis;
mod error;
mod images;
mod installed;
mod plan;
mod projects;
mod running;
mod signals;
mod state;
mod timings;

pub use boot::boot;
pub use command::{Invocation, Program};
pub use error::Error;
pub use images::{Drift, PinChange, ProjectImages};
pub use installed::{Installed, check_name as check_installed_name};
pub use plan::{DEFAULT_MEMORY_MIB, Definition, ImageChange, Machine, Plan, Storage};
pub use projects::{Projects, image_uses};
pub use running::{Ending, Running};
pub use state::{Holder, KeptDisk, Stamp, Status, disk_usage, read_stamp, status};
pub use timings::{Phase, Timings};
