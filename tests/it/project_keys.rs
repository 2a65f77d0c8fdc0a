//! Keys of a Sandboxfile that tie sandboxes to each other and to the host: `imports`, `exports`, `modules`, limits.

use msb_test_support::{TestEnv, Vm};

use crate::project_verbs::project;
use crate::suite::{Suite, tests};

pub(crate) fn register(suite: &mut Suite) {
    tests!(suite, vm: artifacts, failed_exports, modules, processes_are_limited);
    tests!(suite, cli: facts);
}

/// The plan as `name action reasons`.
fn plan(vm: &Vm) -> Vec<String> {
    let shown = vm.msb(["apply", "--dry-run", "--format", "json"]).run().success().json();
    let word = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let line = |change: &serde_json::Value| {
        format!("{} {} {}", word(&change["name"]), word(&change["action"]), word(&change["reasons"][0]))
    };
    shown.as_array().unwrap().iter().map(line).collect()
}

/// What one makes, another one gets: as a whole, to read, and anew when it is made anew.
fn artifacts(vm: &Vm) {
    let train = |version: &str| {
        format!(
            "command: [sh, -c, 'echo {version} > /out; mkdir -p /folder; ln -sf /etc/passwd /folder/link; \
             echo in > /folder/file']\nexports: {{model: /out, all: /folder}}"
        )
    };
    let web = "idle: true\nimports: {model: /srv/model, train: {all: /srv/all}, ./host.conf: /etc/host.conf}";
    vm.write("host.conf", "from the host");
    project(vm, &[("web", web), ("train", &train("v1"))]);
    let missing = ["`web` imports `model` of `train`, which has not exported it yet", "msb run train"];
    vm.msb(["start", "web"]).run().failed_saying(&missing);
    vm.msb(["run", "web", "-e", "true"]).run().failed_saying(&missing);
    vm.msb(["up", "-d", "web"]).run().success();
    let sees = |path: &str, text: &str| {
        vm.msb(["exec", "web", "--", "cat", path]).run().success().stdout_is(text);
    };
    sees("/srv/model", "v1\n");
    sees("/srv/all/file", "in\n");
    sees("/etc/host.conf", "from the host");
    vm.msb(["exec", "web", "--", "sh", "-c", "echo x > /srv/model"]).run().code(1).stderr_has("Read-only");
    // The work of another program is none of its own.
    vm.msb(["run", "train", "-e", "sh", "--", "-c", "echo no > /out"]).run().success();
    assert_eq!(vm.read("menv/train/exports/model"), "v1\n");
    assert_eq!(plan(vm), ["web keep ", "train keep completed"]);
    project(vm, &[("web", web), ("train", &train("v2"))]);
    assert_eq!(plan(vm), ["web restart imports", "train start not running"]);
    vm.msb(["apply", "-t", "0s"]).run().success();
    sees("/srv/model", "v2\n");
    vm.msb(["down", "-t", "0s"]).run().success();
    std::fs::remove_file(vm.work().join("host.conf")).unwrap();
    vm.msb(["up", "-d"]).run().failed_saying(&["host.conf"]);
    assert!(vm.processes().is_empty(), "nothing starts where something is missing: {:?}", vm.processes());
}

/// A job that has not made what it says has failed; one that fails exports nothing.
fn failed_exports(vm: &Vm) {
    let of = |command: &str| format!("command: [sh, -c, '{command}']\nexports: {{thing: /thing}}");
    project(
        vm,
        &[
            ("a", &of("echo 1 > /thing; exit 3")),
            ("b", &of("true")),
            ("c", "idle: true\nimports: {thing: /x}"),
        ],
    );
    vm.msb(["list"]).run().failed_saying(&["`thing`, which `a` and `b` export"]);
    let c = "idle: true\nimports: {b: {thing: /x}}";
    project(vm, &[("a", &of("echo 1 > /thing; exit 3")), ("b", &of("true")), ("c", c)]);
    vm.msb(["run", "a"]).run().code(3);
    assert!(!vm.work().join("menv/a/exports").exists());
    vm.msb(["run", "b"]).run().failed_saying(&["`/thing` cannot be exported as `thing`"]);
    vm.msb(["up", "-d", "c"]).run().failed_saying(&["`c` cannot start: `b`", "cannot be exported"]);
    // One that is stopped has not done its work.
    let stopped = "scripts: {start: \"trap 'exit 0' TERM; echo 1 > /thing; while :; do sleep 0.1; done\"}\n\
        exports: {thing: /thing}";
    project(vm, &[("a", stopped)]);
    vm.msb(["up", "-d"]).run().success();
    vm.msb(["stop", "a"]).run().success();
    assert!(!vm.work().join("menv/a/exports").exists());
    assert!(vm.processes().is_empty(), "{:?}", vm.processes());
}

/// Sandboxes of another Sandboxfile, with its paths, in this project.
fn modules(vm: &Vm) {
    project(vm, &[("web", "idle: true\ndepends_on: {store: {condition: healthy}}")]);
    let own = vm.read("Sandboxfile");
    let health = "healthcheck: {test: test -e /data/ready, interval: 200ms, retries: 500}";
    project(vm, &[("db", &format!("idle: true\nvolumes: [./data:/data]\nenv_file: db.env\n{health}"))]);
    let module = vm.read("Sandboxfile");
    for folder in ["database/data", "here"] {
        std::fs::create_dir_all(vm.work().join(folder)).unwrap();
    }
    vm.write("database/Sandboxfile", module);
    vm.write("database/data/ready", "yes");
    vm.write("database/db.env", "WHO=module\n");
    vm.write("Sandboxfile", format!("{own}modules:\n  ./database:\n    db: {{as: store}}\n"));
    vm.msb(["up", "-d"]).cwd(vm.work().join("here")).run().success();
    let shown =
        vm.msb(["exec", "store", "--", "sh", "-c", "cat /data/ready; echo $HOSTNAME"]).run().success();
    shown.stdout_is("yesstore\n");
    vm.msb(["ls"]).run().success().stdout_has("store").stdout_has("web");
    assert!(vm.work().join("menv/store").exists() && !vm.work().join("database/menv").exists());
    // There it is a sandbox of its own, which does not run.
    let there = vm.msb(["ls", "--format", "json"]).cwd(vm.work().join("database")).run().success().json();
    assert_eq!((&there[0]["name"], &there[0]["state"]), (&"db".into(), &"new".into()));
    vm.write("database/db.env", "WHO=changed\n");
    assert_eq!(plan(vm), ["web keep ", "store restart envs"]);
    vm.msb(["down", "-t", "0s"]).run().success().stderr_has("store");
    assert!(vm.processes().is_empty(), "{:?}", vm.processes());
}

/// A sandbox that makes processes without end runs out of them, and can still be looked into.
fn processes_are_limited(vm: &Vm) {
    project(vm, &[("app", "idle: true\npids_limit: 16")]);
    vm.msb(["up", "-d"]).run().success();
    let many = "for i in $(seq 40); do sleep 1000 >/dev/null 2>&1 & done; echo all";
    let made = vm.msb(["exec", "app", "--", "sh", "-c", many]).run();
    assert!(!made.out().contains("all"), "{}", made.out());
    made.stderr_has("fork");
    vm.msb(["cp", "app:/etc/hosts", "-"]).run().success();
    vm.msb(["down", "-t", "0s"]).run().success();
    let image = vm.image("busybox");
    let few = "for i in 1 2 3; do sleep 1000 >/dev/null 2>&1 & done; echo all";
    vm.msb(["exe", &image, "--pids-limit", "16", "--", "sh", "-c", few]).run().success().stdout_is("all\n");
}

/// What is there for people is shown to people.
fn facts(env: &TestEnv) {
    let text = "meta: {description: the whole}\nsandboxes:\n  app:\n    image: x\n    version: 1.2.3\n    \
        meta: {authors: [me], tags: [web], homepage: 'https://example.org'}\n";
    env.write("Sandboxfile", text);
    let shown = env.msb(["inspect", "app"]).run().success().json();
    assert_eq!(shown[0]["meta"]["authors"][0], "me");
    assert_eq!(shown[0]["meta"]["homepage"], "https://example.org");
    assert_eq!(shown[0]["version"], "1.2.3");
    assert_eq!(shown[0]["project_meta"]["description"], "the whole");
    env.write("Sandboxfile", "sandboxes:\n  app:\n    image: x\n    meta: {author: me}\n");
    env.msb(["inspect", "app"]).run().failed_saying(&["unknown key `author`", "Sandboxfile:4", "`authors`"]);
}
