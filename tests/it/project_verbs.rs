//! The sandboxes of a project as a whole: `up`, `down`, `apply`, and what they depend on.

use msb_test_support::{TestEnv, Vm, wait_until};
use nix::sys::signal::Signal;

use crate::suite::{Suite, tests};

pub(crate) fn register(suite: &mut Suite) {
    tests!(suite, vm: order, attached, interrupted, impatient, applied, unhealthy_dependency, health_changes, gone_ones);
    tests!(suite, cli: mistakes);
}

/// A Sandboxfile of busyboxes: a name and the lines of each.
pub(crate) fn project(vm: &Vm, sandboxes: &[(&str, &str)]) {
    let image = vm.image("busybox");
    let mut text = "sandboxes:\n".to_owned();
    for (name, lines) in sandboxes {
        text += &format!("  {name}:\n    image: {image}\n    memory: 128\n");
        for line in lines.lines() {
            text += &format!("    {line}\n");
        }
    }
    vm.write("Sandboxfile", text);
}

/// `NAME WHAT` of every event, and the new status for one of health.
fn events(vm: &Vm) -> Vec<String> {
    let shown = vm.msb(["events", "--format", "json"]).run().success().out();
    let event = |line: &str| {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        let word = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let text = format!("{} {}", word(&event["sandbox"]), word(&event["event"]));
        match word(&event["details"]["status"]) {
            status if status.is_empty() => text,
            status => format!("{text} {status}"),
        }
    };
    shown.lines().map(event).collect()
}

#[track_caller]
fn in_order(events: &[String], wanted: &[&str]) {
    let mut rest = events.iter();
    for wanted in wanted {
        assert!(rest.any(|event| event == wanted), "no {wanted:?} in its place in {events:#?}");
    }
}

fn states(vm: &Vm) -> Vec<(String, String)> {
    let rows = vm.msb(["ps", "--all", "--format", "json"]).run().success().json();
    let word = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let mut states: Vec<_> =
        rows.as_array().unwrap().iter().map(|row| (word(&row["name"]), word(&row["state"]))).collect();
    states.sort();
    states
}

/// The plan as `name action reasons`.
fn plan(vm: &Vm, flags: &[&str]) -> Vec<String> {
    let shown = vm.msb(["apply", "--format", "json"]).args(flags).run().success().json();
    let line = |change: &serde_json::Value| {
        let reasons: Vec<_> =
            change["reasons"].as_array().unwrap().iter().map(|reason| reason.as_str().unwrap()).collect();
        let (name, action) = (change["name"].as_str().unwrap(), change["action"].as_str().unwrap());
        format!("{name} {action} {}", reasons.join(",")).trim_end().to_owned()
    };
    shown.as_array().unwrap().iter().map(line).collect()
}

/// What becomes healthy by and by, what has to complete, and what needs both.
fn order(vm: &Vm) {
    project(
        vm,
        &[
            ("web", "idle: true\ndepends_on: {job: {condition: completed}, db: {condition: healthy}}"),
            ("job", "command: [sh, -c, 'echo did it']\ndepends_on: [db]"),
            (
                "db",
                "scripts: {start: 'sleep 0.5; touch /ready; while :; do sleep 1; done'}\n\
                 healthcheck: {test: test -e /ready, interval: 200ms, retries: 500}",
            ),
            ("other", "idle: true"),
        ],
    );
    vm.msb(["up", "-d", "web"]).run().success().stdout_is("").stderr_has("Started").stderr_has("web");
    let seen = events(vm);
    in_order(&seen, &["db start", "db health healthy", "web start"]);
    in_order(&seen, &["db start", "job start", "job die", "web start"]);
    let state = |name: &str, state: &str| (name.to_owned(), state.to_owned());
    let up = [state("db", "running"), state("job", "stopped"), state("web", "running")];
    assert_eq!(states(vm), up, "what nothing needs is not started");
    vm.msb(["ps"]).run().success().stdout_has("running (healthy)");
    let inspected = vm.msb(["inspect", "db"]).run().success().json();
    assert_eq!(inspected[0]["live"]["health"]["status"], "healthy");
    vm.msb(["up", "-d", "web"]).run().success().stderr_has("db is running already");
    vm.msb(["down", "web", "other"]).run().success().stderr_has("other was not running");
    assert_eq!(states(vm)[0], state("db", "running"));
    vm.msb(["up", "-d"]).run().success();
    vm.msb(["down", "-t", "0s"]).run().success();
    in_order(&events(vm)[seen.len()..], &["other start", "web die", "db stop"]);
    assert!(states(vm).iter().all(|(_, state)| state == "stopped"), "{:?}", states(vm));
    assert!(vm.processes().is_empty(), "{:?}", vm.processes());
    vm.msb(["down"]).run().success().stderr_has("nothing");
}

/// Lines of all with names in front; the code of the first that fails.
fn attached(vm: &Vm) {
    project(
        vm,
        &[
            ("a", "command: [sh, -c, 'echo one; printf two; echo three >&2; exit 3']"),
            ("long", "command: [sh, -c, 'echo here']\ndepends_on: [a]"),
        ],
    );
    let up = vm.msb(["up"]).run().code(3);
    let mut lines: Vec<String> = up.out().lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["a    | one", "a    | two", "long | here"]);
    up.stderr_has("a    | three").stderr_has("a ended with exit code 3");
    // What an earlier run has written is not shown again.
    let again = vm.msb(["up", "long"]).env("NO_COLOR", "1").run().code(3).out();
    assert_eq!(again.matches("one").count(), 1, "{again}");
    let mut terminal = vm.msb(["up", "a"]).terminal(24, 80);
    terminal.expect("\u{1b}[36ma |\u{1b}[0m two");
    terminal.ends_with(3);
}

const STOPS_WHEN_ASKED: &str =
    "scripts: {start: \"trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.1; done\"}";
const NEVER_STOPS: &str = "scripts: {start: \"trap '' TERM; echo ready; while :; do sleep 0.1; done\"}";

/// Ctrl-C stops what was started here, and only that, the dependent ones first; a second one kills.
fn interrupted(vm: &Vm) {
    let web = format!("{STOPS_WHEN_ASKED}\ndepends_on: [db]");
    project(vm, &[("web", &web), ("db", STOPS_WHEN_ASKED), ("other", "idle: true")]);
    vm.msb(["up", "-d", "other"]).run().success();
    let mut up = vm.msb(["up"]).spawn();
    up.expect("web   | ready");
    up.signal(Signal::SIGINT);
    assert_eq!(up.wait(vm.hypervisor.limit()).code(), Some(130));
    let rest = String::from_utf8(up.rest()).unwrap();
    assert!(rest.contains("web   | bye") && rest.contains("db    | bye"), "{rest}");
    in_order(&events(vm), &["web stop", "web die", "db stop", "db die"]);
    let running: Vec<_> = states(vm).into_iter().filter(|(_, state)| state == "running").collect();
    assert_eq!(running, [("other".to_owned(), "running".to_owned())]);
    vm.msb(["down", "-t", "0s"]).run().success();
    project(vm, &[("app", NEVER_STOPS)]);
    let mut up = vm.msb(["up", "-t", "1h"]).spawn();
    up.expect("app | ready");
    up.signal(Signal::SIGINT);
    wait_until(vm.hypervisor.limit(), "it is asked to stop", || {
        events(vm).iter().any(|event| event == "app stop")
    });
    up.signal(Signal::SIGINT);
    assert_eq!(up.wait(vm.hypervisor.limit()).code(), Some(130));
    assert!(vm.processes().is_empty(), "{:?}", vm.processes());
}

/// Ctrl-C ends the wait for one that runs already and is not well yet, and leaves that one alone.
fn impatient(vm: &Vm) {
    let db = "scripts: {start: 'while :; do echo tick; sleep 0.1; done'}\nhealthcheck: {test: 'false', start_period: 24h}";
    project(vm, &[("db", db), ("web", "idle: true\ndepends_on: {db: {condition: healthy}}")]);
    vm.msb(["up", "-d", "db"]).run().success();
    let mut up = vm.msb(["up"]).spawn();
    up.expect("db  | tick");
    up.signal(Signal::SIGINT);
    assert_eq!(up.wait(vm.hypervisor.limit()).code(), Some(130));
    let only = [("db".to_owned(), "running".to_owned())];
    assert_eq!(states(vm), only);
    vm.msb(["down", "-t", "0s"]).run().success();
}

fn applied(vm: &Vm) {
    let job = "command: ['true']";
    let worker = "idle: true\ndepends_on: {job: {condition: completed}}";
    project(vm, &[("web", "idle: true"), ("worker", worker), ("job", job)]);
    let new = ["web start new", "worker start new", "job start new"];
    assert_eq!(plan(vm, &["--dry-run"]), new);
    vm.msb(["apply", "--dry-run"]).run().success().stdout_is(
        "NAME     ACTION   WHY\nweb      start    new\nworker   start    new\njob      start    new\n",
    );
    assert!(states(vm).is_empty());
    assert_eq!(plan(vm, &[]), new);
    vm.msb(["apply"]).run().success().stdout_has("worker   keep").stderr_has("as the Sandboxfile says");
    let supervisor = |name: &str| {
        let rows = vm.msb(["ps", name, "--format", "json"]).run().success().json();
        rows[0]["supervisor_pid"].as_u64().unwrap()
    };
    let (web, worker_pid) = (supervisor("web"), supervisor("worker"));
    // One changes, one goes, one comes, one stays.
    project(vm, &[("web", "idle: true\nenvs: [A=1]"), ("worker", worker), ("job", job)]);
    let fresh =
        format!("  fresh:\n    image: {}\n    idle: true\n    memory: 128\n  web:", vm.image("busybox"));
    vm.write("Sandboxfile", vm.read("Sandboxfile").replace("  web:", &fresh));
    let changes = ["fresh start new", "web restart envs", "worker keep", "job keep completed"];
    assert_eq!(plan(vm, &["--dry-run"]), changes);
    vm.msb(["apply", "-t", "0s"]).run().success().stdout_has("changed: envs");
    assert!(supervisor("web") != web && supervisor("worker") == worker_pid);
    vm.msb(["exec", "web", "--", "sh", "-c", "echo $A"]).run().success().stdout_is("1\n");
    project(vm, &[("web", "idle: true\nenvs: [A=1]"), ("job", job)]);
    assert_eq!(
        plan(vm, &["-t", "0s"]),
        [
            "web keep",
            "job start not running",
            "worker stop not in the Sandboxfile",
            "fresh stop not in the Sandboxfile"
        ]
    );
    vm.msb(["wait", "job"]).run().success().stdout_is("0\n");
    let up: Vec<_> = states(vm).into_iter().filter(|(_, state)| state == "running").collect();
    assert_eq!(up, [("web".to_owned(), "running".to_owned())]);
    // Another image does not fit its disk, and that is known before it stops.
    let text = vm.read("Sandboxfile").replacen(&vm.image("busybox"), &vm.image("python"), 1);
    vm.write("Sandboxfile", text.replacen("memory: 128", "memory: 256", 1));
    let web = supervisor("web");
    vm.msb(["apply"]).run().code(125).stdout_has("changed: image, memory").stderr_has("--recreate");
    assert_eq!(supervisor("web"), web);
    vm.msb(["apply", "-t", "0s", "--recreate"]).run().success();
    vm.msb(["exec", "web", "--", "python3", "-c", "print(6 * 7)"]).run().success().stdout_is("42\n");
    vm.msb(["down", "-t", "0s"]).run().success();
}

fn unhealthy_dependency(vm: &Vm) {
    let sick =
        "idle: true\nhealthcheck: {test: [sh, -c, 'echo not well; exit 4'], interval: 100ms, retries: 2}";
    project(
        vm,
        &[
            ("db", sick),
            ("web", "idle: true\ndepends_on: {db: {condition: healthy}}"),
            ("top", "idle: true\ndepends_on: [web]"),
        ],
    );
    let words = ["`web` cannot start", "`db` is unhealthy", "exit code 4: not well"];
    vm.msb(["up", "-d"]).run().failed_saying(&words);
    assert_eq!(states(vm), [("db".to_owned(), "running".to_owned())]);
    vm.msb(["down", "-t", "0s"]).run().success();
    // In the foreground nothing is left.
    vm.msb(["up"]).run().failed_saying(&words);
    assert!(vm.processes().is_empty(), "{:?}", vm.processes());
    let job = "command: [sh, -c, 'exit 6']";
    project(vm, &[("job", job), ("web", "idle: true\ndepends_on: {job: {condition: completed}}")]);
    vm.msb(["up", "-d"]).run().failed_saying(&["`job` ended with exit code 6", "msb logs job"]);
    let ends = "command: ['true']\nhealthcheck: {test: 'false', interval: 1h}";
    project(vm, &[("db", ends), ("web", "idle: true\ndepends_on: {db: {condition: healthy}}")]);
    vm.msb(["up", "-d"]).run().failed_saying(&["`db` ended before it was healthy"]);
}

fn health_changes(vm: &Vm) {
    let health = "idle: true\nhealthcheck: {test: test ! -e /sick, interval: 100ms, retries: 2}";
    project(vm, &[("app", health)]);
    vm.msb(["up", "-d"]).run().success();
    let becomes = |status: &str| {
        wait_until(vm.hypervisor.limit(), &format!("it is {status}"), || {
            vm.msb(["ps", "app"]).run().success().out().contains(&format!("({status})"))
        });
    };
    becomes("healthy");
    vm.msb(["exec", "app", "--", "touch", "/sick"]).run().success();
    becomes("unhealthy");
    vm.msb(["exec", "app", "--", "rm", "/sick"]).run().success();
    becomes("healthy");
    in_order(&events(vm), &["app health healthy", "app health unhealthy", "app health healthy"]);
    vm.msb(["pause", "app"]).run().success();
    vm.msb(["ps"]).run().success().stdout_has("paused (healthy)");
    vm.msb(["unpause", "app"]).run().success();
    vm.msb(["exec", "app", "--", "touch", "/sick"]).run().success();
    becomes("unhealthy");
    vm.msb(["down", "-t", "0s"]).run().success();
}

/// `down` stops what runs of the project even when the file does not know it, or is broken.
fn gone_ones(vm: &Vm) {
    project(vm, &[("old", "idle: true"), ("new", "idle: true")]);
    vm.msb(["up", "-d"]).run().success();
    project(vm, &[("new", "idle: true")]);
    vm.msb(["down", "-t", "0s", "old"]).run().success();
    vm.write("Sandboxfile", "sandboxes: [");
    vm.msb(["down", "-t", "0s"]).run().success().stderr_has("new");
    assert!(vm.processes().is_empty(), "{:?}", vm.processes());
    // What waits to be started again is not up, and stops all the same.
    project(vm, &[("app", "command: ['false']\nrestart: always")]);
    vm.msb(["up", "-d"]).run().success();
    wait_until(vm.hypervisor.limit(), "it has been restarted some times", || {
        let rows = vm.msb(["ps", "app", "--format", "json"]).run().success().json();
        rows[0]["restarts"].as_u64().unwrap() >= 3
    });
    vm.msb(["start", "app"]).run().failed_saying(&["running already"]);
    vm.msb(["down", "-t", "0s"]).run().success().stderr_has("Stopped");
    assert!(vm.processes().is_empty(), "{:?}", vm.processes());
}

fn mistakes(env: &TestEnv) {
    for verb in ["up", "down", "apply"] {
        env.msb([verb]).run().failed_saying(&["no Sandboxfile", "msb init"]);
    }
    env.write("Sandboxfile", "sandboxes:\n  db: {image: x}\n  web: {image: x, depends_on: [bd]}\n");
    env.msb(["up"]).run().failed_saying(&["`web` depends on `bd`", "Sandboxfile:3:", "did you mean `db`?"]);
    let circle = "sandboxes:\n  a: {image: x, depends_on: [b]}\n  b: {image: x, depends_on: [a]}\n";
    env.write("Sandboxfile", circle);
    env.msb(["up", "-d"]).run().failed_saying(&["circle: a -> b -> a"]);
    env.write("Sandboxfile", "sandboxes:\n  db: {image: x}\n");
    env.msb(["up", "bd"]).run().failed_saying(&["no sandbox `bd`", "did you mean `db`?"]);
    env.msb(["up", "db", "db"]).run().failed_saying(&["twice"]);
    env.msb(["down", "bd"]).run().failed_saying(&["no sandbox `bd`"]);
    env.msb(["add", "web", "--image", "y", "--depends-on", "db:started", "--restart", "on-failure:2"])
        .run()
        .success();
    assert!(env.read("Sandboxfile").contains("depends_on:"), "{}", env.read("Sandboxfile"));
    env.msb(["add", "c", "--image", "y", "--depends-on", "bd"]).run().failed_saying(&["depends on `bd`"]);
    env.msb(["add", "c", "--image", "y", "--depends-on", "db:ready"]).run().code(2);
    env.msb(["remove", "db"]).run().failed_saying(&["other parts of the file depend on `db`"]);
    env.write("Sandboxfile", "sandboxes: {}\n");
    env.msb(["up"]).run().failed_saying(&["has no sandboxes", "msb add"]);
}
