//! The rows of the database.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::Row;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::super::plan::Definition;

/// Where the definition of a sandbox comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A Sandboxfile.
    Project,
    /// `msb create` or `msb run --detach`; its only definition is in the database.
    Named,
    /// `msb install`.
    Installed,
}

/// What a sandbox was doing when last heard of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It never ran.
    Created,
    /// Its machine boots.
    Starting,
    /// Its machine is up.
    Running,
    /// Its machine stands still.
    Paused,
    /// It ended, or waits to be started again.
    Stopped,
}

/// One sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Record {
    /// Number in the database.
    #[serde(skip)]
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Where it comes from.
    pub kind: Kind,
    /// The folder with its disk.
    pub folder: PathBuf,
    /// The Sandboxfile that defines it.
    pub sandboxfile: Option<PathBuf>,
    /// What it is, as last run.
    pub definition: Definition,
    /// When it came to be.
    pub created: Timestamp,
    /// What it does.
    pub state: State,
    /// When it was last started.
    pub started: Option<Timestamp>,
    /// When it last ended.
    pub finished: Option<Timestamp>,
    /// The process that supervises it.
    pub pid: Option<u32>,
    /// How its main process ended.
    pub exit_code: Option<u8>,
    /// Why it ended, where that was not its main process's doing.
    pub message: Option<String>,
    /// How often it was restarted by itself since it was started.
    pub restarts: u32,
}

/// Something that happened to a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// Number, in the order in which they were recorded.
    #[serde(skip)]
    pub id: i64,
    /// When.
    pub time: Timestamp,
    /// Name of the sandbox.
    pub sandbox: String,
    /// The folder with its disk.
    pub folder: PathBuf,
    /// What: `create`, `start`, `die`, `stop`, `kill`, `pause`, `net-denied`, …
    pub event: String,
    /// More about it.
    pub details: serde_json::Value,
}

/// Something that happened on the network of a sandbox, to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::sandbox) struct Happening {
    /// When.
    pub(in crate::sandbox) time: Timestamp,
    /// What; begins with `net-`.
    pub(in crate::sandbox) what: &'static str,
    /// More about it.
    pub(in crate::sandbox) details: serde_json::Value,
}

/// Which sandbox a row is about.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Where it comes from.
    pub kind: Kind,
    /// The folder with its disk.
    pub folder: &'a Path,
    /// The Sandboxfile that defines it.
    pub sandboxfile: Option<&'a Path>,
    /// What it is.
    pub definition: &'a Definition,
}

/// How a run ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The main process's exit code, as a shell would show it.
    pub exit_code: Option<u8>,
    /// Why it ended, where that was not the main process's doing.
    pub message: Option<String>,
}

impl Ended {
    /// What the event `die` says about it.
    pub(in crate::sandbox) fn details(&self) -> serde_json::Value {
        json!({ "exitCode": self.exit_code, "message": self.message })
    }
}

/// The columns [`record`] reads.
pub(super) const COLUMNS: &str = "id, kind, name, folder, sandboxfile, definition, created, state, started, finished, pid, exit_code, message, restarts";

pub(super) fn record(row: &Row<'_>) -> rusqlite::Result<Record> {
    let name: String = row.get(2)?;
    let definition: String = row.get(5)?;
    Ok(Record {
        id: row.get(0)?,
        kind: from_word(row.get(1)?).unwrap_or(Kind::Named),
        folder: PathBuf::from(row.get::<_, String>(3)?),
        sandboxfile: row.get::<_, Option<String>>(4)?.map(PathBuf::from),
        definition: serde_json::from_str(&definition).unwrap_or_else(|_| Definition::new(&name, "")),
        name,
        created: timestamp(row.get(6)?),
        state: from_word(row.get(7)?).unwrap_or(State::Stopped),
        started: row.get::<_, Option<i64>>(8)?.map(timestamp),
        finished: row.get::<_, Option<i64>>(9)?.map(timestamp),
        pid: row.get(10)?,
        exit_code: row.get(11)?,
        message: row.get(12)?,
        restarts: row.get(13)?,
    })
}

pub(super) fn timestamp(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or_default()
}

/// A value of a plain enumeration as JSON has it, without quotes.
pub(super) fn word(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn from_word<T: serde::de::DeserializeOwned>(word: String) -> Option<T> {
    serde_json::from_value(serde_json::Value::String(word)).ok()
}
