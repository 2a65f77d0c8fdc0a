//! What is known about sandboxes beyond their folders: when they ran, how they ended, and what happened to them.
//!
//! A row is a memory, not a truth: whether a sandbox runs is told by the lock on its disk, which the kernel drops with the last
//! process that could write it. Reading a row that says "running" of a sandbox whose lock is free mends the row.

mod open;
mod record;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::{Connection, Row, named_params};

use super::error::Error;
use super::plan::Definition;
use super::state::{self, Status};
use crate::paths::Paths;
use record::{COLUMNS, record, timestamp, word};

pub(super) use record::Happening;
pub use record::{Ended, Event, Kind, Record, State, Subject};

/// Events kept, those of networks aside.
const EVENTS_KEPT: i64 = 10_000;
/// Events of networks kept of one sandbox, and the reach of them all: whoever makes many pushes out its own.
const NETWORK_EVENTS_KEPT: i64 = 5_000;
const NETWORK_EVENTS_REACH: i64 = 40_000;
/// After so many the oldest are removed.
const SWEEP: i64 = 256;
/// Notes the end of a run: of which sandbox, when, its exit code, its message.
const END: &str = "UPDATE sandbox SET state = 'stopped', finished = ?2, pid = NULL, exit_code = ?3, message = ?4 WHERE id = ?1";

/// The database of one user.
#[derive(Debug)]
pub struct Database {
    path: PathBuf,
    connection: Connection,
}

impl Database {
    /// The file under `paths`.
    #[must_use]
    pub fn path(paths: &Paths) -> PathBuf {
        paths.data.join("state.db")
    }

    fn run(&self, sql: &str) -> Result<(), Error> {
        self.connection.execute_batch(sql).map_err(wrapper(&self.path))
    }

    /// Adds a sandbox, or says again what a known one is.
    ///
    /// # Errors
    /// [`Error::NameInUse`] when another named sandbox has the name.
    pub fn put(&self, subject: Subject<'_>) -> Result<Record, Error> {
        let definition = serde_json::to_string(subject.definition).unwrap_or_default();
        let put = self.connection.query_row(
            &format!(
                "INSERT INTO sandbox (kind, name, folder, sandboxfile, definition, created, state)
                 VALUES (:kind, :name, :folder, :sandboxfile, :definition, :now, 'created')
                 ON CONFLICT (folder) DO UPDATE SET kind = :kind, name = :name, sandboxfile = :sandboxfile, definition = :definition
                 RETURNING {COLUMNS}"
            ),
            named_params! {
                ":kind": word(&subject.kind),
                ":name": subject.definition.name,
                ":folder": text(subject.folder)?,
                ":sandboxfile": subject.sandboxfile.map(text).transpose()?,
                ":definition": definition,
                ":now": now(),
            },
            record,
        );
        match put {
            Err(rusqlite::Error::SqliteFailure(code, _))
                if code.extended_code == rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE =>
            {
                Err(Error::NameInUse { name: subject.definition.name.clone() })
            }
            other => other.map_err(wrapper(&self.path)),
        }
    }

    /// Every sandbox, oldest first, with rows mended that a crash left behind. Rows of folders that are gone are dropped.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub fn all(&self) -> Result<Vec<Record>, Error> {
        let rows = self.select(&format!("SELECT {COLUMNS} FROM sandbox ORDER BY id"), [])?;
        rows.into_iter().filter_map(|row| self.mended(row).transpose()).collect()
    }

    /// The sandbox in `folder`.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub fn in_folder(&self, folder: &Path) -> Result<Option<Record>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM sandbox WHERE folder = ?1");
        let row = self.select(&sql, [text(folder)?])?.pop();
        row.map_or(Ok(None), |row| self.mended(row))
    }

    /// The sandbox that `msb create` called `name`.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub fn named(&self, name: &str) -> Result<Option<Record>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM sandbox WHERE kind = 'named' AND name = ?1");
        let row = self.select(&sql, [name])?.pop();
        row.map_or(Ok(None), |row| self.mended(row))
    }

    fn select(&self, sql: &str, parameters: impl rusqlite::Params) -> Result<Vec<Record>, Error> {
        let select = || {
            let mut statement = self.connection.prepare_cached(sql)?;
            statement.query_map(parameters, record)?.collect::<rusqlite::Result<_>>()
        };
        select().map_err(wrapper(&self.path))
    }

    /// `row` as the lock of its disk has it; `None` when its folder is gone.
    fn mended(&self, row: Record) -> Result<Option<Record>, Error> {
        if row.state == State::Created && row.kind == Kind::Named {
            return Ok(Some(row));
        }
        match state::status(&row.folder)? {
            Status::New if row.kind != Kind::Named && !row.folder.exists() => {
                if_writable(self.remove(row.id))?;
                Ok(None)
            }
            Status::New | Status::Stopped
                if matches!(row.state, State::Starting | State::Running | State::Paused) =>
            {
                let message = "its supervisor was killed".to_owned();
                let how = Ended { exit_code: None, message: Some(message) };
                if if_writable(self.was_killed(&row, &how))? == Some(false) {
                    // Meanwhile its supervisor has said how it ended, or another reader that it did.
                    let sql = format!("SELECT {COLUMNS} FROM sandbox WHERE id = ?1");
                    return Ok(self.select(&sql, [row.id])?.pop());
                }
                let finished = Some(timestamp(now()));
                let Ended { exit_code, message } = how;
                Ok(Some(Record { state: State::Stopped, finished, pid: None, exit_code, message, ..row }))
            }
            _ => Ok(Some(row)),
        }
    }

    /// Notes that process `pid` starts the sandbox.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub fn starting(&self, id: i64, pid: u32) -> Result<(), Error> {
        self.change(
            "UPDATE sandbox SET state = 'starting', started = ?2, finished = NULL, pid = ?3, exit_code = NULL, message = NULL,
             restarts = 0 WHERE id = ?1",
            (id, now(), pid),
        )
    }

    /// Notes what the sandbox does now.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub fn set_state(&self, id: i64, state: State) -> Result<(), Error> {
        self.change("UPDATE sandbox SET state = ?2 WHERE id = ?1", (id, word(&state)))
    }

    /// Notes what the sandbox is now.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub fn set_definition(&self, id: i64, definition: &Definition) -> Result<(), Error> {
        let definition = serde_json::to_string(definition).unwrap_or_default();
        self.change("UPDATE sandbox SET definition = ?2 WHERE id = ?1", (id, definition))
    }

    /// Counts a restart.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub fn restarted(&self, id: i64) -> Result<(), Error> {
        self.change(
            "UPDATE sandbox SET restarts = restarts + 1, started = ?2, finished = NULL, state = 'starting' WHERE id = ?1",
            (id, now()),
        )
    }

    /// Notes the end of a run.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub fn ended(&self, id: i64, how: &Ended) -> Result<(), Error> {
        self.change(END, (id, now(), how.exit_code, &how.message))
    }

    /// Notes the end of the run of `row`, which nobody could tell of; whether it still was to be noted.
    fn was_killed(&self, row: &Record, how: &Ended) -> Result<bool, Error> {
        let sql = format!("{END} AND pid IS ?5 AND state <> 'stopped'");
        let noted = self.count_changes(&sql, (row.id, now(), how.exit_code, &how.message, row.pid))? > 0;
        if noted {
            self.note(&row.definition.name, &row.folder, "die", how.details())?;
        }
        Ok(noted)
    }

    /// Gives a named sandbox another name.
    ///
    /// # Errors
    /// [`Error::NameInUse`] when another named sandbox has it.
    pub fn rename(&self, record: &Record, name: &str) -> Result<(), Error> {
        let definition = Definition { name: name.to_owned(), ..record.definition.clone() };
        self.put(Subject {
            kind: record.kind,
            folder: &record.folder,
            sandboxfile: record.sandboxfile.as_deref(),
            definition: &definition,
        })
        .map(drop)
    }

    /// Forgets a sandbox.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub fn remove(&self, id: i64) -> Result<(), Error> {
        self.change("DELETE FROM sandbox WHERE id = ?1", [id])
    }

    fn change(&self, sql: &str, parameters: impl rusqlite::Params) -> Result<(), Error> {
        self.count_changes(sql, parameters).map(drop)
    }

    fn count_changes(&self, sql: &str, parameters: impl rusqlite::Params) -> Result<usize, Error> {
        let change = || self.connection.prepare_cached(sql)?.execute(parameters);
        change().map_err(wrapper(&self.path))
    }

    /// Records that something happened.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub fn note(
        &self,
        name: &str,
        folder: &Path,
        event: &str,
        details: serde_json::Value,
    ) -> Result<(), Error> {
        self.change(
            "INSERT INTO event (at, sandbox, folder, what, details) VALUES (?1, ?2, ?3, ?4, ?5)",
            (now(), name, text(folder)?, event, details.to_string()),
        )?;
        let last = self.connection.last_insert_rowid();
        if last % SWEEP == 0 {
            self.sweep(last, text(folder)?)?;
        }
        Ok(())
    }

    /// Records what has happened on the network of a sandbox: all of it or nothing.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub(super) fn note_all(&self, name: &str, folder: &Path, rows: &[Happening]) -> Result<(), Error> {
        let folder = text(folder)?;
        let insert = || {
            let all = self.connection.unchecked_transaction()?;
            let sql = "INSERT INTO event (at, sandbox, folder, what, details) VALUES (?1, ?2, ?3, ?4, ?5)";
            let mut statement = all.prepare_cached(sql)?;
            for Happening { time, what, details } in rows {
                statement.execute((time.as_millisecond(), name, folder, what, details.to_string()))?;
            }
            drop(statement);
            all.commit()?;
            Ok(self.connection.last_insert_rowid())
        };
        let last = insert().map_err(wrapper(&self.path))?;
        let first = last - i64::try_from(rows.len()).unwrap_or(SWEEP);
        if first / SWEEP != last / SWEEP {
            self.sweep(last, folder)?;
        }
        Ok(())
    }

    /// Removes the oldest events, after the one with the number `last` of the sandbox in `folder`.
    fn sweep(&self, last: i64, folder: &str) -> Result<(), Error> {
        self.change(
            "DELETE FROM event WHERE what LIKE 'net-%' AND (id <= ?1 OR folder = ?2 AND id <=
             (SELECT id FROM event WHERE what LIKE 'net-%' AND folder = ?2 ORDER BY id DESC LIMIT 1 OFFSET ?3))",
            (last - NETWORK_EVENTS_REACH, folder, NETWORK_EVENTS_KEPT),
        )?;
        self.change(
            "DELETE FROM event WHERE what NOT LIKE 'net-%' AND id <=
             (SELECT id FROM event WHERE what NOT LIKE 'net-%' ORDER BY id DESC LIMIT 1 OFFSET ?1)",
            [EVENTS_KEPT],
        )
    }

    /// The events after number `after`, oldest first.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub fn events(&self, after: i64) -> Result<Vec<Event>, Error> {
        let select = || {
            let sql =
                "SELECT id, at, sandbox, folder, what, details FROM event WHERE id > ?1 ORDER BY at, id";
            let mut statement = self.connection.prepare_cached(sql)?;
            let event = |row: &Row<'_>| {
                Ok(Event {
                    id: row.get(0)?,
                    time: timestamp(row.get(1)?),
                    sandbox: row.get(2)?,
                    folder: PathBuf::from(row.get::<_, String>(3)?),
                    event: row.get(4)?,
                    details: serde_json::from_str(&row.get::<_, String>(5)?).unwrap_or_default(),
                })
            };
            statement.query_map([after], event)?.collect::<rusqlite::Result<_>>()
        };
        select().map_err(wrapper(&self.path))
    }
}

/// Without the failure of a change that nobody asked for, where there is no room for it or everything is read-only: the next
/// reader finds the same out.
fn if_writable<T>(change: Result<T, Error>) -> Result<Option<T>, Error> {
    use rusqlite::ErrorCode::{DiskFull, ReadOnly};
    match change {
        Err(Error::Database { source, .. })
            if matches!(source.sqlite_error_code(), Some(DiskFull | ReadOnly)) =>
        {
            Ok(None)
        }
        other => other.map(Some),
    }
}

fn wrapper(path: &Path) -> impl Fn(rusqlite::Error) -> Error {
    |source| Error::Database { path: path.to_owned(), source }
}

/// Milliseconds since 1970.
fn now() -> i64 {
    Timestamp::now().as_millisecond()
}

fn text(path: &Path) -> Result<&str, Error> {
    path.to_str().ok_or_else(|| Error::NotUtf8 { path: path.to_owned() })
}
