#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::net::policy::Scope;

fn read(text: &str) -> Sandboxfile {
    parse(text, Path::new("Sandboxfile")).unwrap_or_else(|error| panic!("{}", show(&error)))
}

/// An error as a terminal shows it, without colour.
fn show(error: &Error) -> String {
    let mut shown = error.to_string();
    if let Some(snippet) = error.snippet() {
        shown = format!("{shown}\n{snippet}");
    }
    if let Some(hint) = error.hint() {
        shown = format!("{shown}\nhint: {hint}");
    }
    shown
}

fn refused(text: &str) -> String {
    show(&parse(text, Path::new("Sandboxfile")).unwrap_err())
}

/// `refused` for one line of a sandbox `app`, without the picture.
fn refused_line(line: &str) -> String {
    let error =
        parse(&format!("sandboxes:\n  app:\n    image: x\n    {line}\n"), Path::new("f")).unwrap_err();
    let at =
        error.snippet().map(|s| format!("{}:{}+{}: ", s.line, s.column, s.mark_width)).unwrap_or_default();
    format!("{at}{error}")
}

#[test]
fn every_key_is_read() {
    let file = read(concat!(
        "meta: {authors: [A, B], description: d, homepage: h, repository: r, readme: R.md, tags: [t], icon: i.png}\n",
        "sandboxes:\n",
        "  second:\n    image: ghcr.io/o/n@sha256:00\n    memory: 2G\n    env_file: .env\n    exec: /bin/true\n",
        "  first:\n    image: python\n    memory: 512\n    cpus: 2\n    envs: [A=1, 'B=x=y']\n",
        "    env_file: [a.env, b.env]\n    workdir: /srv\n    shell: /bin/bash\n",
        "    scripts:\n      start: |\n        one\n        two\n      test: x\n",
        "    command: [python3, -c, 'print(1)', 8080, true]\n    meta:\n    version: 1.2.3-rc.1\n    user: 1000:1000\n",
        "    disk: 16G\n    tty: true\n",
        "  third:\n    image: x\n    envs:\n      PORT: 8080\n      RATE: 1.10\n      ON: yes\n",
    ));
    assert_eq!(file.sandboxes.keys().collect::<Vec<_>>(), ["second", "first", "third"]);
    assert_eq!(file.meta.unwrap().authors, ["A", "B"]);
    let second = &file.sandboxes["second"];
    assert_eq!(second.memory, Some(Size::from_mib(2048)));
    assert_eq!(second.env_file, [".env"]);
    assert_eq!(second.program(), Some(vec!["/bin/true".to_owned()]));
    let first = &file.sandboxes["first"];
    assert_eq!(first.memory, Some(Size::from_mib(512)));
    assert_eq!((first.cpus, first.tty), (Some(2), Some(true)));
    assert_eq!(first.envs, [EnvVar::new("A", "1").unwrap(), EnvVar::new("B", "x=y").unwrap()]);
    assert_eq!(first.script("first", "start").unwrap(), "one\ntwo\n");
    assert_eq!(first.command, ["python3", "-c", "print(1)", "8080", "true"]);
    assert_eq!(first.user.as_deref(), Some("1000:1000"));
    assert_eq!(first.version.as_ref().unwrap().to_string(), "1.2.3-rc.1");
    let envs: Vec<String> = file.sandboxes["third"].envs.iter().map(ToString::to_string).collect();
    assert_eq!(envs, ["PORT=8080", "RATE=1.10", "ON=yes"]);
}

#[test]
fn nothing_is_a_valid_file() {
    for text in [
        "",
        "# only a comment\n",
        "---\n",
        "sandboxes:\n",
        "sandboxes: {}\n",
        "sandboxes: ~",
        "\u{feff}sandboxes:\r\n",
    ] {
        assert!(read(text).sandboxes.is_empty(), "{text:?}");
    }
}

#[test]
fn anchors_and_merge_keys_work() {
    let file = read("sandboxes:\n  a: &a\n    image: x\n    cpus: 2\n  b:\n    <<: *a\n    image: y\n");
    assert_eq!((file.sandboxes["b"].image.as_str(), file.sandboxes["b"].cpus), ("y", Some(2)));
}

#[test]
fn unknown_keys_show_the_line_and_the_nearest_key() {
    assert_eq!(
        refused("sandboxes:\n  app:\n    imagee: python\n    cpus: 1\n"),
        "unknown key `imagee` in sandbox `app`\n --> Sandboxfile:3:5\n  |\n3 |     imagee: python\n  |     ^^^^^^\n\
         hint: did you mean `image`?"
    );
    assert_eq!(
        refused("# c\nsandboxes:\n  app:\n    image: x\n    builds:\n      - 80:80\n"),
        "this version of msb does not support `builds` in sandbox `app`\n --> Sandboxfile:5:5\n  |\n5 |     builds:\n  \
         |     ^^^^^^\nhint: `builds` belongs to the Sandboxfile format; remove it or use a newer msb"
    );
    let hints = [
        ("services:\n  a:\n    image: x\n", "did you mean `sandboxes`?"),
        ("image: x\n", "`image` belongs to a sandbox: put it under `sandboxes:` and the name of one"),
        ("sandboxes:\n  a:\n    image: x\n    environment: []\n", "did you mean `envs`?"),
        (
            "sandboxes:\n  a:\n    image: x\n    build: 1\n",
            "the nearest key, `builds`, is not supported by this version of msb",
        ),
        ("sandboxes:\n  a:\n    image: x\n    secret: 1\n", "did you mean `secrets`?"),
        ("sandboxes:\n  a:\n    image: x\n    sandboxes:\n", "`sandboxes` belongs to the top of the file"),
        ("zzz: 1\n", "the keys here are meta, sandboxes, modules, groups"),
        ("meta:\n  autor: x\n", "did you mean `authors`?"),
    ];
    for (text, hint) in hints {
        let error = parse(text, Path::new("f")).unwrap_err();
        assert_eq!(error.hint().as_deref(), Some(hint), "{text}");
    }
}

#[test]
fn a_port_by_itself_is_shown_as_a_list() {
    let error = parse("sandboxes:\n  a:\n    image: x\n    ports: 8080:80\n", Path::new("f")).unwrap_err();
    assert_eq!(error.hint().as_deref(), Some("write a list: `ports: [8080:80]`"));
}

#[test]
fn every_key_of_a_later_version_says_so() {
    let keys = ["builds", "init"];
    for key in keys {
        for text in [format!("{key}: x\n"), format!("sandboxes:\n  a:\n    image: x\n    {key}: x\n")] {
            let error = parse(&text, Path::new("f")).unwrap_err();
            assert!(
                matches!(&error, Error::UnsupportedKey { key: named, .. } if named == key),
                "{text}: {error}"
            );
        }
    }
}

#[test]
fn mistakes_in_values_name_key_and_rule() {
    let table = [
        ("memory: 12x", "4:13+3: `memory` of sandbox `app`: `x` in `12x` is not a unit: use K, M, G or T"),
        ("memory: 0", "4:13+1: `memory` of sandbox `app` is 0B, and must be at least 64M"),
        ("memory: 63M", "4:13+3: `memory` of sandbox `app` is 63M, and must be at least 64M"),
        ("disk: 17T", "4:11+3: `disk` of sandbox `app` is 17T, and can be at most 16T"),
        ("memory: [1]", "4:13+1: `memory` of sandbox `app` must be a single value"),
        ("cpus: 0", "4:11+1: `cpus` of sandbox `app`: `0` is not a whole number from 1 to 255"),
        ("cpus: 1.5", "4:11+3: `cpus` of sandbox `app`: `1.5` is not a whole number from 1 to 255"),
        ("tty: yes", "4:10+3: `tty` of sandbox `app` must be true or false"),
        (
            "envs: [A=1, B]",
            "4:17+1: `envs.1` of sandbox `app`: `B` has no value: write `B=VALUE`, or `B=` for an empty one",
        ),
        ("envs: {A: }", "4:13+1: `envs.A` of sandbox `app` has no value"),
        ("envs: 5", "4:5+4: `envs` of sandbox `app` must be a list of KEY=VALUE or a map"),
        ("command: ls", "4:14+2: `command` of sandbox `app` must be a list"),
        ("command: ['', x]", "4:15+2: `command.0` of sandbox `app` is empty, and must be a program"),
        ("scripts: [x]", "4:14+1: `scripts` of sandbox `app` must be a map of keys and values"),
        ("scripts: {a b: x}", "4:15+3: `a b` cannot be the name of a script (sandbox `app`)"),
        ("scripts: {a: {b: c}}", "4:18+1: `scripts.a` of sandbox `app` must be a single value"),
        ("workdir: srv", "4:14+3: `workdir` of sandbox `app` is not an absolute path"),
        ("user: ''", "4:11+2: `user` of sandbox `app` is empty"),
        (
            "version: 1.0",
            "4:14+3: `version` of sandbox `app`: `1.0` is not a semantic version such as 1.0.0: unexpected end of input while parsing minor version number",
        ),
        ("shell: \"a\\0b\"", "4:12+6: `shell` of sandbox `app`: a NUL byte is not allowed"),
        ("env_file: {a: b}", "4:15+1: `env_file` of sandbox `app` must be one path or a list of paths"),
        ("meta: {tags: x}", "4:18+1: `meta.tags` of sandbox `app` must be a list"),
        (
            "scope: lan",
            "4:12+3: `scope` of sandbox `app`: `lan` is not a scope: there are none, group, public and any",
        ),
        (
            "network: [allow x.example, allow ftp://y]",
            "4:32+13: `network.1` of sandbox `app`: `ftp` is not a protocol: there are tcp, udp and icmp",
        ),
        ("network: allow x.example", "4:5+7: `network` of sandbox `app` must be a list of rules"),
        (
            "network: none",
            "4:14+4: `network` of sandbox `app`: rules stand here; write `scope: none` instead",
        ),
        (
            "network: {max_connections: many}",
            "4:32+4: `network.max_connections` of sandbox `app`: `many` cannot be: write a whole number from 1 to 4294967295",
        ),
        (
            "network: {connection_rate: 0}",
            "4:32+1: `network.connection_rate` of sandbox `app`: `0` cannot be: write a whole number from 1 to 4294967295",
        ),
        (
            "network: {proxy: 'http://u:p@x'}",
            "4:22+14: `network.proxy` of sandbox `app`: the URL of a proxy with a password is not for files and command lines that others read: put it into a variable or a file that only you can read, and name that: env:NAME or file:/PATH",
        ),
        ("ports: 8080:80", "4:12+7: `ports` of sandbox `app` must be a list"),
        (
            "network: {scope: pub}",
            "4:22+3: `network.scope` of sandbox `app`: `pub` is not a scope: there are none, group, public and any",
        ),
        ("network: {rule: []}", "4:15+4: unknown key `rule` in `network` of sandbox `app`"),
        (
            "ports: [80:0]",
            "4:13+4: `ports.0` of sandbox `app`: a sandbox has no port 0; 0 stands for a free port of the host, as in 0:80",
        ),
        (
            "ports: [8080, 1:1, 8079-8080:79-80]",
            "4:24+15: `ports.2` of sandbox `app` publishes port 8080 of the host a second time",
        ),
        ("image: y", "4:5+5: the key `image` is there twice in sandbox `app`"),
        ("user: !custom x", "4:19+1: not valid YAML: unsupported tag `!custom`"),
    ];
    let got: Vec<(&str, String)> = table.iter().map(|(line, _)| (*line, refused_line(line))).collect();
    let expected: Vec<(&str, String)> =
        table.iter().map(|(line, error)| (*line, (*error).to_owned())).collect();
    assert_eq!(got, expected);
}

#[test]
fn exec_excludes_command_and_image_is_required() {
    assert_eq!(
        refused("sandboxes:\n  a:\n    image: x\n    exec: /x\n    command: [y]\n"),
        "`exec` of sandbox `a` excludes `command`\n --> Sandboxfile:4:11\n  |\n4 |     exec: /x\n  |           ^^\n\
         hint: write the program and its arguments as a list under `command`"
    );
    for text in [
        "sandboxes:\n  app:\n    cpus: 1\n",
        "sandboxes:\n  app:\n",
        "sandboxes:\n  b: {image: x}\n  app: {}\n",
    ] {
        let shown = refused(text);
        assert!(shown.starts_with("missing key `image` in sandbox `app`\n"), "{shown}");
        assert!(shown.contains("  app:") && shown.contains("\n  |   ^^^\n"), "{shown}");
    }
}

#[test]
fn names_have_rules() {
    let name = |name: &str| parse(&format!("sandboxes:\n  {name}:\n    image: x\n"), Path::new("f")).err();
    for good in ["a", "A-1_b.c", "1", "true", "3.11", &"x".repeat(63)] {
        assert!(name(good).is_none(), "{good}");
    }
    for bad in ["-a", ".", "'a~b'", "a/b", "é", "''", "'a b'", &"x".repeat(64)] {
        let error = name(bad).unwrap_or_else(|| panic!("{bad} was accepted"));
        assert!(error.to_string().contains("cannot be the name of a sandbox"), "{error}");
        assert!(error.hint().is_some());
        assert_eq!(error.snippet().map(|s| (s.line, s.column)), Some((2, 3)), "{bad}");
    }
}

#[test]
fn yaml_mistakes_show_the_line() {
    assert_eq!(
        refused("sandboxes:\n\tapp:\n\t\timage: x\n"),
        "not valid YAML: tabs disallowed within this context (block indentation)\n --> Sandboxfile:2:2\n  |\n\
         2 |  app:\n  |  ^\nhint: YAML is indented with spaces, not with tabs"
    );
    assert_eq!(
        refused("sandboxes:\n  a:\n     image: x\n    cpus: 1\n"),
        "not valid YAML: while parsing a block mapping, did not find expected key\n --> Sandboxfile:4:5\n  |\n\
         4 |     cpus: 1\n  |     ^\nhint: keys of one map start in the same column: compare this line with those above it"
    );
    assert_eq!(
        refused("sandboxes:\n---\nsandboxes:\n"),
        "not valid YAML: a Sandboxfile is one document, and a second begins here\n --> Sandboxfile:3:1\n  |\n\
         3 | sandboxes:\n  | ^"
    );
    assert!(refused("sandboxes: [\n").contains("Sandboxfile:1:12"));
    assert!(refused("- a\n").starts_with("the Sandboxfile must be a map of keys and values"));
    assert!(refused("sandboxes:\n  a: *b\n").contains("unknown anchor"));
}

#[test]
fn limits_hold() {
    let large = format!("# {}\n", "x".repeat(LARGEST_FILE));
    assert!(matches!(parse(&large, Path::new("f")), Err(Error::TooLarge { .. })));
    let deep = format!("meta:\n  tags: {}\n", "[".repeat(50_000));
    assert!(parse(&deep, Path::new("f")).is_err());
    let mut bomb = "sandboxes:\n  a: &a0 {image: x, command: [x, x, x, x, x, x, x, x, x]}\n".to_owned();
    for level in 1..30 {
        let inner = vec![format!("*a{}", level - 1); 9].join(", ");
        bomb.push_str(&format!("  b{level}: &a{level} {{image: x, command: [{inner}]}}\n"));
    }
    assert!(parse(&bomb, Path::new("f")).is_err());
    let merges: String = (0..2_000).map(|n| format!("  s{n}:\n    <<: *a\n    image: y\n")).collect();
    assert!(parse(&format!("sandboxes:\n  a: &a\n    image: x\n{merges}"), Path::new("f")).is_err());
    let many: String = (0..2_000).map(|n| format!("  s{n}:\n    image: y\n")).collect();
    assert_eq!(read(&format!("sandboxes:\n{many}")).sandboxes.len(), 2_000);
}

#[test]
fn unknown_sandboxes_and_scripts_suggest() {
    let file =
        read("sandboxes:\n  app:\n    image: x\n    scripts: {start: a, test: b}\n  web:\n    image: x\n");
    assert_eq!(
        show(&file.sandbox("ap").unwrap_err()),
        "no sandbox `ap` in the Sandboxfile\nhint: did you mean `app`?"
    );
    assert_eq!(
        show(&file.sandbox("database").unwrap_err()),
        "no sandbox `database` in the Sandboxfile\nhint: its sandboxes are app, web"
    );
    let app = file.sandbox("app").unwrap();
    assert_eq!(
        show(&app.script("app", "tset").unwrap_err()),
        "sandbox `app` has no script `tset`\nhint: did you mean `test`?"
    );
    assert_eq!(
        show(&file.sandboxes["web"].script("web", "x").unwrap_err()),
        "sandbox `web` has no script `x`\nhint: it has no scripts: add one under `scripts:`"
    );
    assert!(read("").sandbox("x").unwrap_err().hint().unwrap().contains("msb add"));
}

#[test]
fn environment_merges_files_and_envs() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.env"), "A=1\nB=1\nC=1\n").unwrap();
    fs::write(dir.path().join("b.env"), "B=2\nC=2\n").unwrap();
    let mut spec = SandboxSpec::new("x");
    spec.env_file = vec!["a.env".to_owned(), "b.env".to_owned()];
    spec.envs = vec![EnvVar::new("C", "3").unwrap(), EnvVar::new("D", "3").unwrap()];
    let merged: Vec<String> = spec.environment(dir.path()).unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(merged, ["A=1", "B=2", "C=3", "D=3"]);
    spec.env_file.push("missing.env".to_owned());
    let error = spec.environment(dir.path()).unwrap_err();
    assert!(matches!(&error, Error::Read { path, .. } if path.ends_with("missing.env")), "{error}");
}

#[test]
fn flags_are_checked_by_the_rules_of_the_file() {
    let mut spec = SandboxSpec::new("x");
    spec.validate("app").unwrap();
    spec.memory = Some(Size::from_mib(1));
    assert_eq!(
        show(&spec.validate("app").unwrap_err()),
        "`memory` of sandbox `app` is 1M, and must be at least 64M\nhint: a whole number alone is MiB"
    );
    assert_eq!(
        show(&SandboxSpec::new("x").validate("a~b").unwrap_err()),
        "`a~b` cannot be the name of a sandbox\nhint: `~` separates a sandbox from a script, as in `app~test`"
    );
}

/// The file in the repository is the one the types make; `MSB_UPDATE=1 cargo test schema` writes it anew.
#[test]
fn schema_file_is_up_to_date() {
    if std::env::var_os("MSB_UPDATE").is_some() {
        let path = Path::new(file!()).ancestors().nth(3).unwrap().join("Sandboxfile.schema.json");
        fs::write(path, schema()).unwrap();
        return;
    }
    let stored = include_str!("../../Sandboxfile.schema.json");
    assert!(stored == schema(), "Sandboxfile.schema.json is stale: run `MSB_UPDATE=1 cargo test schema`");
}

proptest! {
    #[test]
    fn any_text_is_answered(text in "(?s).{0,200}") {
        let _ = parse(&text, Path::new("f"));
    }

    #[test]
    fn any_yaml_like_text_is_answered(
        text in "((sandboxes|meta|image|memory|scripts|envs|app|x|1|~)?(:|: |- |\\n|\\n  |\\n    |\"|'|\\[|\\{|\\]|\\}|#|&a|\\*a|<<: |\\||>|!|%|,|\t|\r\n)){0,60}"
    ) {
        if let Err(error) = parse(&text, Path::new("f")) {
            let _ = show(&error);
        }
    }

    #[test]
    fn a_mistake_anywhere_points_into_the_text(line in 0usize..6, junk in "[\\]}:{\\[\t%@`'\"&*!|>-]{1,4}") {
        let mut lines = vec!["sandboxes:", "  a:", "    image: x", "    envs:", "      - A=1", "    cpus: 1"];
        lines.insert(line, &junk);
        if let Err(error) = parse(&lines.join("\n"), Path::new("f"))
            && let Some(snippet) = error.snippet()
        {
            prop_assert!(snippet.line >= 1 && snippet.line <= 8);
            prop_assert!(!error.to_string().contains('\n'));
        }
    }
}

#[test]
fn the_network_is_written_short_and_as_in_the_era() {
    let file = read(
        "sandboxes:\n  a:\n    image: x\n    scope: Any\n    network:\n      - deny *.example.com\n      - allow from lan:80\n    \
         ports:\n      - 8080\n      - 22:22\n      - \"[::]:0:53/udp\"\n  b:\n    image: x\n    network: {scope: none, rules: [allow x]}\n  \
         c:\n    image: x\n    network:\n    ports:\n    scope:\n",
    );
    let a = &file.sandboxes["a"];
    assert_eq!(a.scope, Some(Scope::Any));
    let rules: Vec<String> = a.network.rules.iter().map(ToString::to_string).collect();
    assert_eq!(rules, ["deny *.example.com", "allow from lan:80"]);
    let ports: Vec<String> = a.ports.iter().map(ToString::to_string).collect();
    assert_eq!(ports, ["8080:8080", "22:22", "[::]:0:53/udp"]);
    let b = &file.sandboxes["b"].network;
    assert_eq!((b.scope, b.rules.len()), (Some(Scope::None), 1));
    assert!(file.sandboxes["c"].network.is_empty() && file.sandboxes["c"].ports.is_empty());
    let twice = "sandboxes:\n  a:\n    image: x\n    scope: any\n    network: {scope: none}\n";
    assert!(
        refused(twice).starts_with("`network.scope` of sandbox `a` is a second scope\n --> Sandboxfile:5:22")
    );
}
