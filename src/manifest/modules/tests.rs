#![allow(clippy::unwrap_used)]

use tempfile::TempDir;

use super::super::{Condition, ImportSource};
use super::*;

/// A project: paths and contents.
fn project(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    dir
}

fn refused(files: &[(&str, &str)]) -> (String, usize) {
    let dir = project(files);
    let error = load(&dir.path().join("Sandboxfile")).unwrap_err();
    let line = error.snippet().map_or(0, |snippet| snippet.line);
    (format!("{error} ({})", error.hint().unwrap_or_default()), line)
}

const DATABASE: &str = "sandboxes:\n  db:\n    image: postgres\n    volumes: [./data:/data, '~/x:/x', named:/n]\n    \
    env_file: db.env\n    healthcheck: {test: x}\n  migrate:\n    image: y\n    depends_on: {db: {condition: healthy}}\n    \
    imports: {schema: /schema, ./extra: /extra}\n  design: {image: z, exports: {schema: /out}}\n";

#[test]
fn sandboxes_of_a_module_are_the_projects_own() {
    let own = "sandboxes:\n  web:\n    image: x\n    depends_on: {db: {condition: healthy}, prepare: {condition: completed}}\n\
        modules:\n  ./database:\n    db:\n    migrate: {as: prepare}\n    design: {}\n";
    let dir = project(&[("Sandboxfile", own), ("database/Sandboxfile", DATABASE)]);
    let file = load(&dir.path().join("Sandboxfile")).unwrap();
    assert_eq!(file.sandboxes.keys().collect::<Vec<_>>(), ["web", "db", "prepare", "design"]);
    let base = dir.path().canonicalize().unwrap().join("database");
    let db = &file.sandboxes["db"];
    assert_eq!(db.env_file, [base.join("db.env").to_str().unwrap()]);
    let sources: Vec<_> = db.volumes.iter().map(|volume| volume.source.clone()).collect();
    let host = |path: PathBuf| VolumeSource::Host(path);
    assert_eq!(sources, [host(base.join("data")), host("~/x".into()), VolumeSource::Named("named".into())]);
    let prepare = &file.sandboxes["prepare"];
    assert_eq!(prepare.depends_on["db"], Condition::Healthy);
    assert_eq!(prepare.depends_on["design"], Condition::Completed);
    let sources: Vec<_> = prepare.imported().map(|import| import.source).collect();
    let extra = base.join("extra");
    let export = ImportSource::Export { sandbox: Some("design"), name: "schema" };
    assert_eq!(sources, [export, ImportSource::Host(extra.to_str().unwrap())]);
}

#[test]
fn modules_have_modules() {
    let dir = project(&[
        ("Sandboxfile", "modules:\n  a: {x: {as: y}}\n"),
        ("a/Sandboxfile", "modules:\n  ../b/other.yaml: {z: {as: x}}\n"),
        ("b/other.yaml", "sandboxes: {z: {image: i, env_file: z.env}}\n"),
    ]);
    let file = load(&dir.path().join("Sandboxfile")).unwrap();
    assert!(file.sandboxes["y"].env_file[0].ends_with("/b/z.env"), "{file:?}");
}

#[test]
fn what_cannot_be_taken_is_refused_with_its_line() {
    let small = ("m/Sandboxfile", "sandboxes: {db: {image: x}, web: {image: x, depends_on: [db]}}\n");
    let table = [
        ("modules:\n  ./n:\n    db:\n", "there is no Sandboxfile at `./n`", 2),
        ("modules:\n  m:\n    bd:\n", "`m` has no sandbox `bd` (did you mean `db`?)", 3),
        ("modules:\n  m:\n", "nothing is taken from `m`", 2),
        ("modules:\n  m: [db]\n", "modules", 2),
        ("modules:\n  m:\n    db: {at: x}\n", "unknown key `at`", 3),
        ("modules:\n  m:\n    db: {as: a/b}\n", "`a/b` cannot be the name of a sandbox", 3),
        (
            "modules:\n  m:\n    web:\n",
            "`web` needs `db` of the same file (take that one as well: `db:` beside it)",
            3,
        ),
        ("sandboxes:\n  db: {image: y}\nmodules:\n  m:\n    db:\n", "there are two sandboxes `db`", 5),
        ("modules:\n  m:\n    db:\n    web: {as: db}\n", "there are two sandboxes `db`", 4),
        (
            "sandboxes:\n  a:\n    image: x\n    depends_on: {db: {condition: healthy}}\nmodules: {m: {db: }}\n",
            "`a` waits for `db`, which has no health check",
            4,
        ),
        (
            "sandboxes:\n  a: {image: x, depends_on: [no]}\nmodules: {m: {db: }}\n",
            "`no`, which does not exist",
            2,
        ),
        ("modules:\n  .:\n    a:\n", "modules lead to each other in a circle", 2),
    ];
    for (text, words, line) in table {
        let (said, at) = refused(&[("Sandboxfile", text), small]);
        assert!(said.contains(words), "{text}: {said}");
        assert_eq!(at, line, "{text}: {said}");
    }
    let round = [("Sandboxfile", "modules:\n  m: {a: }\n"), ("m/Sandboxfile", "modules:\n  ..: {a: }\n")];
    assert!(refused(&round).0.contains("in a circle"));
    // A mistake in the module itself is shown there.
    let broken =
        [("Sandboxfile", "modules:\n  m: {a: }\n"), ("m/Sandboxfile", "sandboxes:\n  a:\n    imag: x\n")];
    assert_eq!(refused(&broken).1, 3);
}
