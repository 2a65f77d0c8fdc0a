//! Opening the database: making it, bringing it up to date, and reading one that cannot be written.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::statvfs::{FsFlags, statvfs};
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{Database, wrapper};
use crate::paths::{self, Paths};
use crate::sandbox::Error;

/// The steps from an empty database to the current one. Never change one: add another.
const MIGRATIONS: [&str; 1] = ["
    CREATE TABLE sandbox (
        id INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        folder TEXT NOT NULL UNIQUE,
        sandboxfile TEXT,
        definition TEXT NOT NULL,
        created INTEGER NOT NULL,
        state TEXT NOT NULL,
        started INTEGER,
        finished INTEGER,
        pid INTEGER,
        exit_code INTEGER,
        message TEXT,
        restarts INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE UNIQUE INDEX sandbox_named ON sandbox (name) WHERE kind = 'named';
    CREATE TABLE event (
        id INTEGER PRIMARY KEY,
        at INTEGER NOT NULL,
        sandbox TEXT NOT NULL,
        folder TEXT NOT NULL,
        what TEXT NOT NULL,
        details TEXT NOT NULL
    ) STRICT;
"];
/// How long another process may write before we give up.
const BUSY_LIMIT: Duration = Duration::from_secs(10);

/// Whether the file system of `folder` is mounted read-only.
fn is_read_only(folder: &Path) -> bool {
    statvfs(folder).is_ok_and(|stat| stat.flags().contains(FsFlags::ST_RDONLY))
}

impl Database {
    /// Opens the database, making it or bringing it up to date where needed. On a file system that is mounted read-only it can
    /// be read, and is empty where there is none.
    ///
    /// # Errors
    /// [`Error::NewerDatabase`] for one that a later msb has changed, [`Error::Database`] for anything else.
    pub fn open(paths: &Paths) -> Result<Self, Error> {
        let path = Self::path(paths);
        paths::create_private(&paths.data)
            .map_err(|source| Error::State { path: paths.data.clone(), source })?;
        if is_read_only(&paths.data) {
            return Self::open_read_only(path);
        }
        let failed = |source| Error::Database { path: path.clone(), source };
        let connection = Connection::open(&path).map_err(failed)?;
        connection.busy_timeout(BUSY_LIMIT).map_err(failed)?;
        let mut this = Self { path, connection };
        this.migrate()?;
        // No wait for the disk at each change: after a power cut nothing runs anyway.
        this.run("PRAGMA synchronous = NORMAL")?;
        Ok(this)
    }

    /// A reader of a database with a write-ahead log makes files beside it, unless they are there, or the database is said not to change.
    fn open_read_only(path: PathBuf) -> Result<Self, Error> {
        let failed = |source| Error::Database { path: path.clone(), source };
        let is_there = path.exists();
        let connection = if !is_there {
            Connection::open_in_memory()
        } else if path.with_extension("db-shm").exists() {
            Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)
        } else {
            // <https://www.sqlite.org/uri.html>
            let name: String = path
                .to_string_lossy()
                .chars()
                .map(|c| match c {
                    '%' | '?' | '#' => format!("%{:02X}", u32::from(c)),
                    other => other.to_string(),
                })
                .collect();
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
            Connection::open_with_flags(format!("file:{name}?immutable=1"), flags)
        };
        let mut this = Self { connection: connection.map_err(failed)?, path: path.clone() };
        if is_there {
            return match this.version()?.cmp(&MIGRATIONS.len()) {
                std::cmp::Ordering::Equal => Ok(this),
                std::cmp::Ordering::Greater => Err(Error::NewerDatabase { path }),
                std::cmp::Ordering::Less => Err(Error::State { path, source: nix::Error::EROFS.into() }),
            };
        }
        this.apply_migrations()?;
        this.run("PRAGMA query_only = ON")?;
        Ok(this)
    }

    fn migrate(&mut self) -> Result<(), Error> {
        let newest = MIGRATIONS.len();
        let version = self.version()?;
        if version > newest {
            return Err(Error::NewerDatabase { path: self.path.clone() });
        }
        if version == newest {
            return Ok(());
        }
        // Definitions may hold secrets of the user's.
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&self.path, std::fs::Permissions::from_mode(0o600))
            .map_err(|source| Error::State { path: self.path.clone(), source })?;
        self.allow_readers_beside_a_writer()?;
        self.apply_migrations()
    }

    /// SQLite does not wait here for another process that is at the same: both may have begun to read, and each would wait for the other
    /// (<https://www.sqlite.org/c3ref/busy_handler.html>).
    fn allow_readers_beside_a_writer(&self) -> Result<(), Error> {
        let end = Instant::now() + BUSY_LIMIT;
        loop {
            match self.connection.execute_batch("PRAGMA journal_mode = WAL") {
                Err(error)
                    if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && Instant::now() < end =>
                {
                    std::thread::sleep(Duration::from_millis(1));
                }
                result => return result.map_err(wrapper(&self.path)),
            }
        }
    }

    fn apply_migrations(&mut self) -> Result<(), Error> {
        let newest = MIGRATIONS.len();
        let wrap = wrapper(&self.path);
        let change = self
            .connection
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
            .map_err(&wrap)?;
        // Somebody else may have done it while we waited.
        let version: usize = change.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(&wrap)?;
        for step in MIGRATIONS.iter().skip(version) {
            change.execute_batch(step).map_err(&wrap)?;
        }
        change.pragma_update(None, "user_version", newest).map_err(&wrap)?;
        change.commit().map_err(&wrap)
    }

    fn version(&self) -> Result<usize, Error> {
        let version = self.connection.query_row("PRAGMA user_version", [], |row| row.get(0));
        version.map_err(wrapper(&self.path))
    }
}
