//! The process that keeps a sandbox running when its caller has gone, and what it and an attached caller have in common: the
//! [`Desk`], where others ask about the sandbox.

mod acts;
mod desk;
mod duty;
mod health;
mod order;
mod process;
mod serve;

/// What `ps` and those who meet its lock see of a supervisor.
pub(super) const NAME: &std::ffi::CStr = c"msb-supervisor";

pub use desk::Desk;
pub use duty::OnDuty;
pub use order::{Order, start};
pub use process::{SUPERVISE_SUBCOMMAND, supervise_main};
