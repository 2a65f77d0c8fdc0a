//! Waiting until a sandbox has come far enough for another one to start.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::manifest::Condition;
use crate::sandbox::{self, Answer, Ended, Health, Interrupter, Question};

use super::failure::Failure;
use super::settings::Context;
use super::stop::last_run;
use super::target::Target;

/// Waits, which all end when the user leaves.
#[derive(Debug, Default)]
pub(super) struct Waits {
    leaving: AtomicBool,
    open: Mutex<Vec<Weak<Interrupter>>>,
}

impl Waits {
    /// Ends every wait; none begins any more.
    pub(super) fn leave(&self) {
        self.leaving.store(true, Ordering::SeqCst);
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.iter().filter_map(Weak::upgrade).for_each(|wait| wait.interrupt());
    }

    /// Whether the user has left.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::SeqCst)
    }

    /// Waits until `needed` has come to `condition`, so that the sandbox `name` can start.
    pub(super) fn wait(
        &self,
        context: &Context,
        name: &str,
        (needed, condition): (&Target, Condition),
    ) -> Result<(), Failure> {
        let failed = |what: String| {
            Err(Failure::new(format!("`{name}` cannot start: `{}` {what}", needed.name()))
                .hint(format!("`msb logs {0}` and `msb inspect {0}` may tell why", needed.name())))
        };
        match condition {
            Condition::Started => Ok(()),
            Condition::Healthy => match self.ask(context, needed, Question::Health) {
                Ok(Answer::Status(live)) => match live.health {
                    Some(health) if health.status == Health::Healthy => Ok(()),
                    health => failed(format!("is unhealthy: {}", health.unwrap_or_default().output)),
                },
                Err(error) if needed.is_up(context)? => Err(error),
                _ => failed("ended before it was healthy".to_owned()),
            },
            Condition::Completed => {
                let ended = self.end_of(context, needed)?;
                match (ended.exit_code, ended.message) {
                    (Some(0), _) => Ok(()),
                    (Some(code), _) => failed(format!("ended with exit code {code}")),
                    (None, message) => failed(message.unwrap_or_else(|| "did not complete".to_owned())),
                }
            }
        }
    }

    /// Waits for the end of a sandbox; of one that does not run, or when the user leaves, what is known of its last run.
    pub(super) fn end_of(&self, context: &Context, needed: &Target) -> Result<Ended, Failure> {
        while !self.is_leaving() && needed.is_up(context)? {
            match self.ask(context, needed, Question::Wait) {
                Ok(Answer::Ended(ended)) => return Ok(ended),
                // Just starting or ending, or its supervisor was killed: the lock and the database know.
                _ => std::thread::sleep(std::time::Duration::from_millis(20)),
            }
        }
        last_run(context, needed)
    }

    /// The answer to a question that may take any time.
    fn ask(&self, context: &Context, needed: &Target, question: Question) -> Result<Answer, Failure> {
        let mut client = needed.client(context)?;
        let wait = Arc::new(client.interrupter()?);
        {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            // Whoever leaves from here on finds it in the list.
            if self.is_leaving() {
                return Err(sandbox::Error::NotRunning { name: needed.name().to_owned() }.into());
            }
            open.retain(|wait| wait.strong_count() > 0);
            open.push(Arc::downgrade(&wait));
        }
        let answer = client.ask(question);
        drop(wait);
        Ok(answer?)
    }
}
