//! A sandbox from definition to exit code: what it runs, where its disk is, booting it, and what went wrong.

mod boot;
mod command;
mod control;
pub mod copy;
mod database;
mod diagnosis;
mod error;
mod images;
mod installed;
mod log;
mod plan;
mod projects;
mod running;
mod signals;
mod state;
mod supervisor;
mod timings;
mod usage;
mod volume_uses;

pub use boot::{Streams, boot};
pub use command::{Invocation, Program};
pub use control::{Answer, Client, Live, MainProcess, Question};
pub use database::{Database, Ended, Event, Kind, Record, State, Subject};
pub use error::{Error, headline};
pub use images::{Drift, PinChange, ProjectImages};
pub use installed::{Installed, check_name as check_installed_name};
pub use log::{Follow, LogLimits, LogQuery, LogReader, LogRecord, LogStream, LogWriter};
pub use plan::{DEFAULT_MEMORY_MIB, Definition, ImageChange, Machine, Plan, Restart, Storage};
pub use projects::{Projects, image_uses};
pub use running::{Ending, Facts, Running};
pub use signals::number as signal_number;
pub use state::{Holder, KeptDisk, Stamp, Status, disk_usage, read_stamp, status};
pub use supervisor::{Desk, OnDuty, Order, SUPERVISE_SUBCOMMAND, start, supervise_main};
pub use timings::{Phase, Timings};
pub use usage::{cpu_time, resident_bytes};
pub use volume_uses::{VolumeUses, volume_uses};
