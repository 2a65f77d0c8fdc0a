//! Whether a running sandbox is well: its test, run in it again and again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::control::{Answer, Health, HealthReport, Live};
use super::super::database::State;
use super::desk::Desk;
use crate::agent::{Connection, ExecSpec, Outcome, Output, Process};
use crate::manifest::Healthcheck;

/// Longest time between two tests of a sandbox that has not been well yet, so that those who wait for it hear soon.
const FIRST_INTERVAL: Duration = Duration::from_secs(1);
/// Bytes kept of what a test writes.
const KEPT_OUTPUT: usize = 4096;

/// What is known of a sandbox's health, and what a further test makes of it.
#[derive(Debug)]
struct Judge {
    check: Healthcheck,
    /// Before this, failures of a sandbox that has not been well yet do not count.
    patient_until: Instant,
    report: HealthReport,
}

impl Judge {
    fn new(check: Healthcheck, now: Instant) -> Self {
        let patient_until = now + check.start_period() + check.interval();
        Self { check, patient_until, report: HealthReport::default() }
    }

    /// Takes the result of a test, with what it wrote; gives the time until the next one.
    fn judge(&mut self, now: Instant, result: Result<String, String>) -> Duration {
        let is_starting = self.report.status == Health::Starting;
        match result {
            Ok(output) => self.report = HealthReport { status: Health::Healthy, failures: 0, output },
            Err(output) => {
                self.report.output = output;
                // A sandbox that starts is looked at more often than its interval says, but fails no sooner.
                if !is_starting || now >= self.patient_until {
                    self.report.failures = self.report.failures.saturating_add(1);
                    self.patient_until = now + self.check.interval();
                }
                if self.report.failures >= self.check.retries() {
                    self.report.status = Health::Unhealthy;
                }
            }
        }
        match self.report.status {
            Health::Starting => self.check.interval().min(FIRST_INTERVAL),
            _ => self.check.interval(),
        }
    }
}

/// Tests the sandbox at `desk` for as long as its machine is there. One that stands still is not tested.
pub(super) async fn watch(desk: Arc<Desk>, connection: Arc<Connection>, check: Healthcheck, live: Live) {
    let spec = ExecSpec {
        argv: check.test.argv(&live.shell).into_iter().map(Into::into).collect(),
        cwd: Some(live.workdir.into()),
        user: live.user,
        null_stdin: true,
        ..ExecSpec::default()
    };
    let mut judge = Judge::new(check, Instant::now());
    loop {
        desk.standing_still(false).await;
        let Ok(process) = connection.exec(&spec) else { return };
        let Some(result) = test(process, judge.check.timeout(), &desk).await else { return };
        let wait = judge.judge(Instant::now(), result);
        desk.set_health(&judge.report);
        tokio::time::sleep(wait).await;
    }
}

/// The end of one test and what it wrote; `None` when the machine has gone.
async fn test(process: Process, limit: Duration, desk: &Desk) -> Option<Result<String, String>> {
    let Process { stdin: _stdin, stdout, stderr, control } = process;
    let ending = async {
        let (out, err) = tokio::join!(beginning(stdout), beginning(stderr));
        (control.wait().await, [out, err].concat())
    };
    tokio::pin!(ending);
    loop {
        tokio::select! {
            (outcome, output) = &mut ending => {
                let output = String::from_utf8_lossy(&output).trim_end().to_owned();
                return Some(match outcome.ok()? {
                    Outcome::Failed(failed) => Err(failed.message),
                    outcome if outcome.exit_code() == 0 => Ok(output),
                    outcome if output.is_empty() => Err(format!("exit code {}", outcome.exit_code())),
                    outcome => Err(format!("exit code {}: {output}", outcome.exit_code())),
                });
            }
            () = tokio::time::sleep(limit) => {
                // One that has ended meanwhile needs no signal.
                let _ = control.signal_group(libc::SIGKILL);
                return Some(Err(format!("took longer than {limit:?}")));
            }
            // Time in which it stands still is not the test's.
            () = desk.standing_still(true) => desk.standing_still(false).await,
        }
    }
}

/// The first bytes of an output; the rest is dropped.
async fn beginning(mut output: Output) -> Vec<u8> {
    let mut kept = Vec::new();
    while let Ok(Some(bytes)) = output.read().await {
        let room = KEPT_OUTPUT.saturating_sub(kept.len());
        kept.extend_from_slice(bytes.get(..room).unwrap_or(&bytes));
    }
    kept
}

impl Desk {
    /// Waits until the machine stands still, or does not.
    async fn standing_still(&self, still: bool) {
        let mut news = self.news();
        while (self.live().is_some_and(|live| live.state == State::Paused)) != still {
            if news.changed().await.is_err() {
                return;
            }
        }
    }

    /// Waits until it is known whether the sandbox is well.
    pub(super) async fn health(&self) -> Answer {
        let mut news = self.news();
        loop {
            if let Some(how) = self.has_ended() {
                return Answer::Ended(how);
            }
            // Between two starts it is on its way again.
            if let Some(live) = self.live() {
                match live.health.as_ref().map(|report| report.status) {
                    None => return Answer::Refused("has no health check".into()),
                    Some(Health::Starting) => {}
                    Some(_) => return Answer::Status(Box::new(live)),
                }
            }
            if news.changed().await.is_err() {
                return Answer::Refused("has ended".into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check() -> Healthcheck {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        Healthcheck {
            interval: seconds(10),
            retries: Some(2),
            start_period: seconds(60),
            ..Healthcheck::default()
        }
    }

    #[test]
    fn failures_count_one_per_interval_once_the_start_period_is_over() {
        let begun = Instant::now();
        let mut judge = Judge::new(check(), begun);
        let mut failed_at = |second: u64| {
            let wait = judge.judge(begun + Duration::from_secs(second), Err("no".into()));
            (judge.report.status, judge.report.failures, wait.as_secs())
        };
        assert_eq!(failed_at(0), (Health::Starting, 0, 1));
        assert_eq!(failed_at(69), (Health::Starting, 0, 1));
        assert_eq!(failed_at(70), (Health::Starting, 1, 1));
        assert_eq!(failed_at(79), (Health::Starting, 1, 1));
        assert_eq!(failed_at(80), (Health::Unhealthy, 2, 10));
    }

    #[test]
    fn a_success_is_believed_at_once_and_failures_after_it_count() {
        let now = Instant::now();
        let mut judge = Judge::new(check(), now);
        assert_eq!(judge.judge(now, Ok("fine".into())).as_secs(), 10);
        assert_eq!(judge.report.status, Health::Healthy);
        judge.judge(now, Err("no".into()));
        assert_eq!((judge.report.status, judge.report.failures), (Health::Healthy, 1));
        judge.judge(now, Err("no".into()));
        assert_eq!(judge.report.status, Health::Unhealthy);
        assert_eq!(judge.report.output, "no");
        judge.judge(now, Ok(String::new()));
        assert_eq!((judge.report.status, judge.report.failures), (Health::Healthy, 0));
    }
}
