//! `msb events`.

use std::os::fd::AsFd as _;

use jiff::Timestamp;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::sandbox::{Database, Event};

use super::Outcome;
use super::args::{FileArgs, Format, FormatArgs, parse_time};
use super::settings::Context;

/// Show what has happened to sandboxes
///
/// With --format json one object per line.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  msb events --since 1h\n  msb events --follow app\n  msb events -f --format json"
)]
pub(super) struct Args {
    /// Only sandboxes of these names
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Only what happened since: a duration such as 10m, or a time
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<Timestamp>,
    /// Wait for more
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    format: FormatArgs,
}

impl Args {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let database = context.database()?;
        // Every change is a write to the database's log.
        let changes =
            Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(std::io::Error::from)?;
        let path = Database::path(&context.paths);
        if let Some(folder) = path.parent().filter(|_| self.follow) {
            changes.add_watch(folder, AddWatchFlags::IN_MODIFY).map_err(std::io::Error::from)?;
        }
        // Ends that nobody could tell of are found by whoever looks.
        database.all()?;
        let mut last = 0;
        let mut has_changed = false;
        let mut unseen: Vec<&String> = self.names.iter().collect();
        loop {
            for event in database.events(last)? {
                last = last.max(event.id);
                unseen.retain(|name| **name != event.sandbox);
                self.print(context, &event)?;
            }
            if !self.follow {
                // Somebody whom nothing has happened to may be new; who neither is there nor ever was is mistyped. Followers may wait
                // for them.
                for name in unseen {
                    context.target(&FileArgs::default().project(), name)?;
                }
                return Ok(0);
            }
            has_changed = wait(&changes, has_changed)?;
        }
    }

    fn print(&self, context: &Context, event: &Event) -> std::io::Result<()> {
        let wanted = self.names.is_empty() || self.names.contains(&event.sandbox);
        if !wanted || self.since.is_some_and(|since| event.time < since) {
            return Ok(());
        }
        match self.format.format {
            Format::Json => context.ui.data(serde_json::to_string(event)?),
            Format::Table => {
                let details =
                    event.details.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
                let details: String = details
                    .map(|(key, value)| match value.as_str() {
                        Some(text) => format!(" {key}={text}"),
                        None => format!(" {key}={value}"),
                    })
                    .collect();
                context.ui.data(format_args!("{:.3} {} {}{details}", event.time, event.sandbox, event.event))
            }
        }
    }
}

/// How long after it was written a change may take to be seen: readers learn of it through shared memory, of which nobody tells.
const SEEN_AFTER_MS: u8 = 100;

/// Waits for a change, and whether there was one. After a change (`again`) not for long, to look once more.
fn wait(changes: &Inotify, again: bool) -> std::io::Result<bool> {
    let limit = if again { SEEN_AFTER_MS.into() } else { PollTimeout::NONE };
    match poll(&mut [PollFd::new(changes.as_fd(), PollFlags::POLLIN)], limit) {
        Ok(_) | Err(nix::Error::EINTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    match changes.read_events() {
        Ok(_) => Ok(true),
        Err(nix::Error::EAGAIN) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}
