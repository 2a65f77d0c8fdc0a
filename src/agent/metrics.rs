//! What goes on in a guest.

use super::shared::plain;
use super::tool::{Exec, Lines, Running, ToolError, parse};
use msb_guest::message::{ByteString, Metrics, MetricsSpec, Tool};

/// Longest line of an answer.
const LINE_LIMIT: usize = 2 << 20;
/// Most processes taken over.
const PROCESS_LIMIT: usize = 500;

/// Measurements on their way from the guest.
#[derive(Debug)]
pub struct Measurements(Lines);

/// Starts measuring: once, or until what is returned is dropped.
///
/// # Errors
/// Why the connection ended.
pub fn metrics(guest: &(impl Exec + ?Sized), spec: MetricsSpec) -> Result<Measurements, ToolError> {
    Ok(Measurements(Lines::new(Running::start(guest, Tool::Metrics(spec))?, LINE_LIMIT)))
}

impl Measurements {
    /// The next measurement; `None` after the only one.
    ///
    /// # Errors
    /// [`ToolError`].
    pub async fn next(&mut self) -> Result<Option<Metrics>, ToolError> {
        self.0.next().await?.map(|line| parse_metrics(&line)).transpose()
    }
}

/// Reads one measurement. Text in it is safe to print, and its numbers are what a guest may say, true or not.
///
/// # Errors
/// [`ToolError::Answer`].
pub fn parse_metrics(line: &[u8]) -> Result<Metrics, ToolError> {
    let mut metrics: Metrics = parse(line)?;
    metrics.processes.truncate(PROCESS_LIMIT);
    for process in &mut metrics.processes {
        process.command = ByteString::from(plain(&String::from_utf8_lossy(process.command.as_bytes())));
        if !process.state.is_ascii_graphic() {
            process.state = '?';
        }
    }
    Ok(metrics)
}
