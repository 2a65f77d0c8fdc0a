#![allow(clippy::unwrap_used)]

use std::path::Path;

use super::*;

const TRAIN: &str = "  train:\n    image: x\n    exports: {model: /out/model.bin, log: /out}\n";

fn parsed(lines: &str) -> Result<Sandboxfile, super::super::Error> {
    super::super::parse(&format!("sandboxes:\n{TRAIN}{lines}"), Path::new("f"))
}

#[test]
fn an_import_is_of_the_host_or_of_a_sandbox() {
    let web = "  web:\n    image: x\n    imports:\n      model: /srv/m\n      train: {log: /srv/log}\n      \
        ./web.conf: /etc/./web.conf\n      ~/.ssh: /root/.ssh\n";
    let mut file = parsed(web).unwrap();
    let shown = |file: &Sandboxfile| -> Vec<(String, String)> {
        let text = |source| match source {
            ImportSource::Host(path) => path.to_owned(),
            ImportSource::Export { sandbox, name } => format!("{}.{name}", sandbox.unwrap_or("?")),
        };
        let spec = &file.sandboxes["web"];
        spec.imported().map(|import| (text(import.source), import.target.to_owned())).collect()
    };
    let pair = |(from, to): (&str, &str)| (from.to_owned(), to.to_owned());
    let host = [("./web.conf", "/etc/web.conf"), ("~/.ssh", "/root/.ssh")];
    let wanted = [("?.model", "/srv/m"), ("train.log", "/srv/log"), host[0], host[1]];
    assert_eq!(shown(&file), wanted.map(pair));
    assert!(file.sandboxes["web"].depends_on.is_empty());
    link(&mut file).unwrap();
    let linked = [("train.model", "/srv/m"), ("train.log", "/srv/log"), host[0], host[1]];
    assert_eq!(shown(&file), linked.map(pair));
    assert_eq!(file.sandboxes["web"].depends_on["train"], Condition::Completed);
}

#[test]
fn what_is_imported_is_waited_for_even_where_less_is_asked() {
    let mut file = parsed("  web: {image: x, depends_on: [train], imports: {model: /m}}\n").unwrap();
    link(&mut file).unwrap();
    assert_eq!(file.sandboxes["web"].depends_on["train"], Condition::Completed);
}

#[test]
fn what_cannot_be_imported_is_refused_with_its_line() {
    for (lines, words, line) in [
        (
            "  w:\n    image: x\n    imports:\n      modle: /m\n",
            "imports `modle`, which no other sandbox exports",
            8,
        ),
        (
            "  w:\n    image: x\n    imports:\n      tarin: {model: /m}\n",
            "imports from `tarin`, which does not exist",
            8,
        ),
        (
            "  w:\n    image: x\n    imports:\n      train: {modle: /m}\n",
            "`modle`, which `train` does not export",
            8,
        ),
        ("  w:\n    image: x\n    imports:\n      model: m\n", "`m` is not an absolute path", 8),
        ("  w:\n    image: x\n    imports:\n      ./a: {b: /m}\n", "takes one path", 8),
        ("  w:\n    image: x\n    imports:\n      a/b: /m\n", "is neither a name nor a path", 8),
        ("  w:\n    image: x\n    imports:\n      ~you/x: /m\n", "is somebody else's", 8),
        ("  w:\n    image: x\n    imports:\n      train: {}\n", "imports nothing", 8),
        ("  w:\n    image: x\n    imports: [model]\n", "`imports` of sandbox `w`", 7),
        ("  w:\n    image: x\n    exports: {a/b: /m}\n", "`exports.a/b` of sandbox `w` is not a name", 7),
        ("  w:\n    image: x\n    exports: {a: m}\n", "`m` is not an absolute path", 7),
        ("  w:\n    image: x\n    idle: true\n    exports: {a: /m}\n", "is not for one that is idle", 8),
        (
            "  w:\n    image: x\n    tmpfs: [/m]\n    imports: {model: /m}\n",
            "`imports` of sandbox `w` mounts a second thing on /m",
            8,
        ),
        (
            "  o: {image: x, exports: {model: /m}}\n  w:\n    image: x\n    imports:\n      model: /m\n",
            "`model`, which `train` and `o` export",
            9,
        ),
    ] {
        let error = parsed(lines).unwrap_err();
        assert!(error.to_string().contains(words), "{lines}: {error}");
        assert_eq!(error.snippet().map(|snippet| snippet.line), Some(line), "{lines}");
    }
    let never =
        parsed("  a: {image: x, restart: always, exports: {b: /b}}\n  w: {image: x, imports: {b: /b}}\n");
    assert!(never.unwrap_err().to_string().contains("`w` waits for `a`, which is always started again"));
    let circle = "  a: {image: x, imports: {b: /b}, exports: {a: /a}}\n  b: {image: x, imports: {a: /a}, exports: {b: /b}}\n";
    let error = parsed(circle).unwrap_err();
    assert!(error.to_string().contains("in a circle: a -> b -> a"), "{error}");
    assert_eq!(error.snippet().unwrap().line, 5);
}
