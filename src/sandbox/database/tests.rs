//! The database and what locks and other processes do to it.
#![allow(clippy::unwrap_used)]

use super::super::KeptDisk;
use super::*;
use serde_json::json;

fn paths() -> (tempfile::TempDir, Paths) {
    let dir = tempfile::tempdir().unwrap();
    let paths = Paths::under(dir.path());
    (dir, paths)
}

fn put(database: &Database, kind: Kind, name: &str, folder: &Path) -> Result<Record, Error> {
    database.put(Subject { kind, folder, sandboxfile: None, definition: &Definition::new(name, "image") })
}

#[test]
fn a_run_is_remembered_with_its_end() {
    let (dir, paths) = paths();
    let folder = dir.path().join("app");
    let _lock = KeptDisk::lock("app", &folder, None).unwrap();
    let database = Database::open(&paths).unwrap();
    let id = put(&database, Kind::Project, "app", &folder).unwrap().id;
    database.starting(id, 42).unwrap();
    database.set_state(id, State::Running).unwrap();
    database.restarted(id).unwrap();
    let other = Database::open(&paths).unwrap();
    let row = other.in_folder(&folder).unwrap().unwrap();
    assert_eq!((row.state, row.pid, row.restarts), (State::Starting, Some(42), 1));
    database.ended(id, &Ended { exit_code: Some(3), message: None }).unwrap();
    let row = other.all().unwrap().pop().unwrap();
    assert_eq!((row.state, row.pid, row.exit_code), (State::Stopped, None, Some(3)));
    assert!(row.started.unwrap() <= row.finished.unwrap());
}

#[test]
fn a_row_does_not_outlive_the_lock() {
    let (dir, paths) = paths();
    let folder = dir.path().join("app");
    let lock = KeptDisk::lock("app", &folder, None).unwrap();
    let database = Database::open(&paths).unwrap();
    let id = put(&database, Kind::Project, "app", &folder).unwrap().id;
    database.starting(id, std::process::id()).unwrap();
    database.set_state(id, State::Running).unwrap();
    assert_eq!(database.all().unwrap()[0].state, State::Running);
    drop(lock);
    let row = database.all().unwrap().pop().unwrap();
    assert_eq!((row.state, row.exit_code), (State::Stopped, None));
    assert_eq!(row.message.as_deref(), Some("its supervisor was killed"));
    // Told once, however many look.
    database.all().unwrap();
    let told = database.events(0).unwrap();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((told[0].event.as_str(), told[0].sandbox.as_str()), ("die", "app"));
    assert_eq!(told[0].details, json!({ "exitCode": null, "message": "its supervisor was killed" }));
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(database.all().unwrap().is_empty());
}

#[test]
fn what_cannot_be_written_can_be_read() {
    for (limit, lifted) in
        [("PRAGMA query_only = ON", "PRAGMA query_only = OFF"), ("PRAGMA max_page_count = 1", "")]
    {
        let (dir, paths) = paths();
        let [one, two] = ["1", "2"].map(|name| dir.path().join(name));
        let lock = KeptDisk::lock("one", &one, None).unwrap();
        let database = Database::open(&paths).unwrap();
        let id = put(&database, Kind::Project, "one", &one).unwrap().id;
        put(&database, Kind::Project, "two", &two).unwrap();
        database.set_state(id, State::Running).unwrap();
        database.run(limit).unwrap();
        drop(lock);
        let rows = database.all().unwrap();
        assert_eq!((rows.len(), rows[0].state), (1, State::Stopped), "{limit}");
        database.run(lifted).unwrap();
        assert_eq!(database.in_folder(&one).unwrap().unwrap().state, State::Stopped);
    }
}

#[test]
fn named_sandboxes_have_names_of_their_own() {
    let (dir, paths) = paths();
    let database = Database::open(&paths).unwrap();
    let [one, two] = ["1", "2"].map(|name| dir.path().join(name));
    let first = put(&database, Kind::Named, "web", &one).unwrap();
    assert!(matches!(put(&database, Kind::Named, "web", &two), Err(Error::NameInUse { .. })));
    put(&database, Kind::Project, "web", &dir.path().join("3")).unwrap();
    put(&database, Kind::Named, "db", &two).unwrap();
    assert!(matches!(database.rename(&first, "db"), Err(Error::NameInUse { .. })));
    database.rename(&first, "site").unwrap();
    assert_eq!(database.named("site").unwrap().unwrap().definition.name, "site");
    assert_eq!(database.named("web").unwrap(), None);
}

#[test]
fn events_are_kept_in_order_up_to_a_number() {
    let (dir, paths) = paths();
    let database = Database::open(&paths).unwrap();
    database.run("BEGIN").unwrap();
    for number in 0..EVENTS_KEPT + 600 {
        database.note("app", dir.path(), "start", json!({ "number": number })).unwrap();
    }
    database.run("COMMIT").unwrap();
    let events = database.events(0).unwrap();
    assert!((EVENTS_KEPT..EVENTS_KEPT + 256).contains(&(events.len() as i64)));
    let last = events.last().unwrap();
    assert_eq!(last.details, json!({ "number": EVENTS_KEPT + 599 }));
    assert_eq!(database.events(last.id - 1).unwrap(), std::slice::from_ref(last));
}

#[test]
fn a_database_from_the_future_is_refused_and_a_broken_one_named() {
    let (_dir, paths) = paths();
    Database::open(&paths).unwrap().run("PRAGMA user_version = 99").unwrap();
    assert!(matches!(Database::open(&paths), Err(Error::NewerDatabase { .. })));
    std::fs::write(Database::path(&paths), "this is not SQLite, whatever it is").unwrap();
    let _ = std::fs::remove_file(paths.data.join("state.db-wal"));
    assert!(matches!(Database::open(&paths), Err(Error::Database { .. })));
}

#[test]
fn two_processes_may_make_it_at_once() {
    let (dir, paths) = paths();
    std::thread::scope(|scope| {
        for number in 0..4 {
            let (paths, folder) = (paths.clone(), dir.path().join(number.to_string()));
            scope.spawn(move || {
                let database = Database::open(&paths).unwrap();
                put(&database, Kind::Named, &format!("n{number}"), &folder).unwrap();
            });
        }
    });
    assert_eq!(Database::open(&paths).unwrap().all().unwrap().len(), 4);
}

#[test]
fn the_file_is_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_dir, paths) = paths();
    Database::open(&paths).unwrap();
    for name in ["state.db", "state.db-wal"] {
        if let Ok(data) = paths.data.join(name).metadata() {
            assert_eq!(data.permissions().mode() & 0o777, 0o600, "{name}");
        }
    }
}
