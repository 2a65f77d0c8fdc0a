//! What an attached run has of a supervisor: others find it while it lasts.

use std::sync::Arc;

use super::super::database::{Ended, Subject};
use super::super::running::Running;
use super::super::{Error, boot::Streams};
use super::desk::{Desk, Main};
use super::serve::Serving;
use crate::paths::Paths;

/// The desk of an attached run, open until this is dropped.
#[derive(Debug)]
pub struct OnDuty {
    desk: Arc<Desk>,
    serving: Option<Serving>,
}

impl OnDuty {
    /// Opens the desk for a run whose streams belong to the caller: others can start processes in it and stop it.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn open(&mut self, paths: &Paths, running: &Running, streams: Streams) -> Result<(), Error> {
        let main = running.main_control().map(|control| Main { control, audience: None, input: None });
        self.desk.up(running, streams, main)?;
        self.serving = Some(Serving::start(paths, Arc::clone(&self.desk))?);
        Ok(())
    }

    /// Notes that the run begins, and what is wrong with the database, if anything.
    #[must_use]
    pub fn begin(paths: &Paths, subject: Subject<'_>) -> (Self, Option<Error>) {
        let (desk, problem) = Desk::new(paths, subject);
        desk.starting();
        (Self { desk: Arc::new(desk), serving: None }, problem)
    }

    /// Notes how the run ended.
    pub fn ended(self, how: Ended) {
        self.desk.down();
        self.desk.over(how);
    }
}
