#![allow(clippy::unwrap_used)]

use std::fs;

use super::super::{EnvVar, Meta, Size};
use super::*;

pub(super) fn file() -> &'static Path {
    Path::new("Sandboxfile")
}

pub(super) fn small() -> SandboxSpec {
    let mut spec = SandboxSpec::new("python");
    spec.memory = Some(Size::from_mib(1024));
    spec
}

fn added(text: &str) -> String {
    add(text, file(), "app", &small()).unwrap()
}

const ENTRY: &str = "  app:\n    image: python\n    memory: 1024\n";

#[test]
fn adds_to_every_form_of_nothing() {
    let table = [
        ("", format!("sandboxes:\n{ENTRY}")),
        ("# mine\n", format!("# mine\n\nsandboxes:\n{ENTRY}")),
        ("sandboxes:\n", format!("sandboxes:\n{ENTRY}")),
        ("sandboxes:", format!("sandboxes:\n{ENTRY}")),
        ("sandboxes: {} # none\n", format!("sandboxes: # none\n{ENTRY}")),
        ("sandboxes: ~\n", format!("sandboxes:\n{ENTRY}")),
        ("sandboxes: null\nmeta: {}\n", format!("sandboxes:\n{ENTRY}meta: {{}}\n")),
        (
            "# a\nsandboxes:\n  # b\n\n# c\nmeta:\n",
            format!("# a\nsandboxes:\n  # b\n\n{ENTRY}\n# c\nmeta:\n"),
        ),
        ("meta:\n  icon: i\n\n# end\n", format!("meta:\n  icon: i\n\nsandboxes:\n{ENTRY}\n# end\n")),
        ("---\nsandboxes:\n...\n", format!("---\nsandboxes:\n{ENTRY}...\n")),
        ("sandboxes:\r\n  # x\r\n", format!("sandboxes:\n  # x\n\n{ENTRY}").replace('\n', "\r\n")),
        ("{}", "{\"sandboxes\": {\"app\": {\"image\": \"python\", \"memory\": 1024}}}".to_owned()),
        (
            "{\"sandboxes\": null}",
            "{\"sandboxes\": {\"app\": {\"image\": \"python\", \"memory\": 1024}}}".to_owned(),
        ),
        ("\u{feff}sandboxes:\n", format!("\u{feff}sandboxes:\n{ENTRY}")),
    ];
    for (before, after) in table {
        assert_eq!(added(before), after, "{before:?}");
    }
}

/// The text may end in the midst of a line, and its last byte be one of several of a character.
#[test]
fn adds_behind_any_character() {
    assert!(added("# gr\u{fc}\u{df}e \u{e9}").starts_with("# gr\u{fc}\u{df}e \u{e9}\n"));
    let _ = add("\u{feff}", file(), "app", &small());
}

#[test]
fn adds_after_the_last_in_the_style_of_the_file() {
    let table = [
        // Four spaces, and comments that belong to the entry above.
        (
            "sandboxes:\n    a:\n        image: x  # why\n        # cpus: 2\n\nmeta: {}\n",
            "sandboxes:\n    a:\n        image: x  # why\n        # cpus: 2\n\n    app:\n        image: python\n        memory: 1024\n\nmeta: {}\n",
        ),
        // Dense stays dense.
        (
            "sandboxes:\n  a: {image: x}\n  # the second\n  b:\n    image: y\n",
            "sandboxes:\n  a: {image: x}\n  # the second\n  b:\n    image: y\n  app:\n    image: python\n    memory: 1024\n",
        ),
        // Airy stays airy; the end of the file gets its line break.
        (
            "sandboxes:\n  a:\n    image: x\n\n  b:\n    image: y",
            "sandboxes:\n  a:\n    image: x\n\n  b:\n    image: y\n\n  app:\n    image: python\n    memory: 1024\n",
        ),
        // A body that keeps its last empty lines keeps exactly those.
        (
            "sandboxes:\n  a:\n    image: x\n    scripts:\n      start: |+\n        echo\n\n\n",
            "sandboxes:\n  a:\n    image: x\n    scripts:\n      start: |+\n        echo\n\n\n  app:\n    image: python\n    memory: 1024\n",
        ),
        (
            "sandboxes: {a: {image: x}}\n",
            "sandboxes: {a: {image: x}, \"app\": {\"image\": \"python\", \"memory\": 1024}}\n",
        ),
        (
            "{\n  \"sandboxes\": {\n    \"a\": {\"image\": \"x\"}\n  }\n}\n",
            "{\n  \"sandboxes\": {\n    \"a\": {\"image\": \"x\"}, \"app\": {\"image\": \"python\", \"memory\": 1024}\n  }\n}\n",
        ),
    ];
    for (before, after) in table {
        assert_eq!(added(before), after, "{before}");
    }
}

#[test]
fn writes_every_key_as_people_do() {
    let mut spec = small();
    spec.version = Some("1.0.0".parse().unwrap());
    spec.meta = Some(Meta { authors: vec!["Ann <a@b.c>".to_owned()], ..Meta::default() });
    spec.cpus = Some(2);
    spec.disk = Some("16G".parse().unwrap());
    spec.user = Some("1000".to_owned());
    spec.workdir = Some("/srv".to_owned());
    spec.shell = Some("/bin/sh".to_owned());
    spec.tty = Some(false);
    spec.env_file = vec![".env".to_owned()];
    spec.envs = vec![EnvVar::new("A", "two words").unwrap(), EnvVar::new("B", "a: \"b\" # c\n").unwrap()];
    spec.command = vec!["python3".to_owned(), "-c".to_owned(), "print('\"')".to_owned()];
    spec.scripts.insert("start".to_owned(), "python3 -c \"print(\\\"hello\\\")\"".to_owned());
    spec.scripts.insert("test".to_owned(), "set -e\n\nif x; then\n\techo \"$@\"\nfi\n".to_owned());
    spec.scripts.insert("on".to_owned(), "  indented\nfirst".to_owned());
    let text = add("sandboxes:\n", file(), "3.11", &spec).unwrap();
    assert_eq!(
        text,
        r#"sandboxes:
  "3.11":
    image: python
    version: "1.0.0"
    meta:
      authors:
        - Ann <a@b.c>
    memory: 1024
    cpus: 2
    disk: 16G
    user: "1000"
    workdir: /srv
    shell: /bin/sh
    tty: false
    env_file:
      - .env
    envs:
      - A=two words
      - 'B=a: "b" # c
'
    command:
      - python3
      - "-c"
      - "print('\"')"
    scripts:
      start: 'python3 -c "print(\"hello\")"'
      test: |
        set -e

        if x; then
        	echo "$@"
        fi
      "on": |2-
          indented
        first
"#
        .replace("'B=a: \"b\" # c\n'", r#""B=a: \"b\" # c\n""#)
    );
}

#[test]
fn add_refuses_what_is_there_or_broken() {
    let error = add("sandboxes:\n  app:\n    image: x\n", file(), "app", &small()).unwrap_err();
    assert_eq!(error.to_string(), "the Sandboxfile already has a sandbox `app`");
    assert!(matches!(add("", file(), "a~b", &small()), Err(Error::Invalid { .. })));
    assert!(matches!(add("", file(), "a", &SandboxSpec::new("")), Err(Error::Invalid { .. })));
    assert!(matches!(add("sandboxes: [", file(), "a", &small()), Err(Error::Invalid { .. })));
    let mut spec = small();
    spec.scripts.insert("start".to_owned(), "x".repeat(LARGEST_FILE));
    assert!(matches!(add("", file(), "a", &spec), Err(Error::TooLarge { .. })));
    let explicit = "? sandboxes\n: ? a\n  : image: x\n";
    assert!(matches!(add(explicit, file(), "b", &small()), Err(Error::CannotEdit { .. })));
}

#[test]
fn long_bodies_survive() {
    let mut spec = small();
    let hundred_kilobytes = "quo\"te 'x' $HOME é \\".repeat(5_000);
    spec.scripts.insert("one".to_owned(), hundred_kilobytes.clone());
    spec.scripts.insert("many".to_owned(), format!("{hundred_kilobytes}\r\n\u{1}"));
    spec.command = vec!["sh".to_owned(), hundred_kilobytes];
    let text = add("", file(), "app", &spec).unwrap();
    assert_eq!(parse(&text, file()).unwrap().sandboxes["app"], spec);
}

const THREE: &str = "\
# The project.

sandboxes:
  # first, alone
  a:
    image: x # why
    # cpus: 2

  # about b,
  # two lines
  b:
    image: y
    scripts:
      start: |
        # not a comment
        echo

  # floating

  c: {image: z}
  # trailing

# The end.
meta:
  icon: i
";

#[test]
fn removes_an_entry_and_its_own_comments() {
    let remove = |names: &[&str]| remove(THREE, file(), names).unwrap();
    let without = |part: &str| {
        assert!(THREE.contains(part), "{part}");
        THREE.replacen(part, "", 1)
    };
    let a = "  # first, alone\n  a:\n    image: x # why\n    # cpus: 2\n\n";
    let b = "\n  # about b,\n  # two lines\n  b:\n    image: y\n    scripts:\n      start: |\n        # not a comment\n        echo\n";
    assert_eq!(remove(&["a"]), without(a));
    assert_eq!(remove(&["b"]), without(b));
    assert_eq!(remove(&["c"]), without("\n  c: {image: z}\n"));
    let rest = "# The project.\n\nsandboxes:\n\n  # floating\n  # trailing\n\n# The end.\nmeta:\n  icon: i\n";
    assert_eq!(remove(&["c", "a", "b", "a"]), rest);
}

#[test]
fn removes_from_flow_maps() {
    let text = "sandboxes: {a: {image: x}, \"b\": {image: y}, c: {image: z}} # end\n";
    let remove = |names: &[&str]| remove(text, file(), names).unwrap();
    assert_eq!(remove(&["a"]), "sandboxes: {\"b\": {image: y}, c: {image: z}} # end\n");
    assert_eq!(remove(&["b"]), "sandboxes: {a: {image: x}, c: {image: z}} # end\n");
    assert_eq!(remove(&["c"]), "sandboxes: {a: {image: x}, \"b\": {image: y}} # end\n");
    assert_eq!(remove(&["a", "b", "c"]), "sandboxes: {} # end\n");
}

#[test]
fn remove_names_the_nearest_and_guards_anchors() {
    let error = remove(THREE, file(), &["a", "cc"]).unwrap_err();
    assert_eq!(error.to_string(), "no sandbox `cc` in the Sandboxfile");
    assert_eq!(error.hint().unwrap(), "did you mean `c`?");
    let shared = "sandboxes:\n  a: &a\n    image: x\n  b: *a\n";
    let error = remove(shared, file(), &["a"]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot edit the Sandboxfile safely: other parts of the file depend on `a`"
    );
    assert_eq!(remove(shared, file(), &["b"]).unwrap(), "sandboxes:\n  a: &a\n    image: x\n");
}

#[test]
fn files_are_changed_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("Sandboxfile");
    fs::write(&path, "sandboxes:\n").unwrap();
    let spec = small();
    add_to_file(&path, &[("a", &spec), ("b", &spec)]).unwrap();
    let both = fs::read_to_string(&path).unwrap();
    assert!(add_to_file(&path, &[("c", &spec), ("a", &spec)]).is_err());
    assert!(remove_from_file(&path, &["a", "zz"]).is_err());
    assert_eq!(fs::read_to_string(&path).unwrap(), both);
    remove_from_file(&path, &["a", "b"]).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "sandboxes:\n");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn writers_take_turns() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("Sandboxfile");
    fs::write(&path, "# kept\nsandboxes:\n").unwrap();
    std::thread::scope(|scope| {
        for n in 0..8 {
            let path = &path;
            scope.spawn(move || add_to_file(path, &[(&format!("s{n}"), &small())]).unwrap());
        }
    });
    assert_eq!(super::super::load(&path).unwrap().sandboxes.len(), 8);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}
