//! What a guest's writable disk changes of its image.

use super::files::is_absolute;
use super::tool::{Exec, Lines, Running, ToolError, parse};
use msb_guest::message::{Change, Tool};

/// Longest line of an answer: a path may be an array of numbers.
const LINE_LIMIT: usize = 128 << 10;

/// Changes on their way from the guest, in no particular order except that a folder comes before what is in it.
#[derive(Debug)]
pub struct Changes(Lines);

/// Starts telling what changed.
///
/// # Errors
/// Why the connection ended.
pub fn changes(guest: &(impl Exec + ?Sized)) -> Result<Changes, ToolError> {
    Ok(Changes(Lines::new(Running::start(guest, Tool::Diff)?, LINE_LIMIT)))
}

impl Changes {
    /// The next change; `None` when these are all.
    ///
    /// # Errors
    /// [`ToolError`], also when the guest could not look at everything.
    pub async fn next(&mut self) -> Result<Option<Change>, ToolError> {
        self.0.next().await?.map(|line| parse_change(&line)).transpose()
    }
}

/// Reads what the guest says about one change. The path is absolute and has no `..` and no NUL; it may have control
/// characters.
///
/// # Errors
/// [`ToolError::Answer`].
pub fn parse_change(line: &[u8]) -> Result<Change, ToolError> {
    let change: Change = parse(line)?;
    match is_absolute(change.path.as_bytes()) {
        true => Ok(change),
        false => Err(ToolError::Answer("a path that is none")),
    }
}
