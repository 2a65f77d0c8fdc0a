//! Sandboxes that outlive their caller: started, used, watched, stopped.

use msb_test_support::{Vm, wait_until};

use crate::suite::{Suite, tests};

pub(crate) fn register(suite: &mut Suite) {
    tests!(suite, vm: a_life, named_sandboxes, one_of_a_run, attach, detach_keys, exec_options, attached_runs_can_be_used);
    tests!(suite, vm: logs_follow, restart_policy, pause, limits, does_not_start, two_starts, clean, events_follow);
    tests!(suite, vm_alone: many_commands);
    tests!(suite, cli: unknown_names, newer_database);
}

/// A Sandboxfile with the sandbox `app` and these further lines of it.
pub(crate) fn project(vm: &Vm, lines: &[&str]) {
    let mut text = format!("sandboxes:\n  app:\n    image: {}\n    memory: 256\n", vm.image("busybox"));
    for line in lines {
        text += &format!("    {line}\n");
    }
    vm.write("Sandboxfile", text);
}

/// A main process that counts its starts on its disk, says so, and ends with code 3 when asked to.
const SERVICE: &[&str] = &[
    "scripts:",
    "  start: |",
    "    echo x >> /root/starts; echo start $(wc -l < /root/starts); echo warning >&2",
    "    trap 'echo bye; exit 3' TERM",
    "    while :; do sleep 0.1; done",
];

fn state(vm: &Vm) -> serde_json::Value {
    vm.msb(["ps", "--all", "--format", "json"]).run().success().json()[0].clone()
}

pub(crate) fn logged(vm: &Vm, text: &str) {
    wait_until(vm.hypervisor.limit(), &format!("the log has {text:?}"), || {
        vm.msb(["logs", "app"]).run().success().out().contains(text)
    });
}

fn a_life(vm: &Vm) {
    project(vm, SERVICE);
    vm.msb(["start", "app"]).run().success().stdout_is("");
    vm.msb(["list"]).run().success().stdout_has("running");
    vm.msb(["ps"]).run().success().stdout_has("app").stdout_has("running");
    let live = state(vm);
    assert_eq!(live["state"], "running");
    assert!(live["resident_bytes"].as_u64().unwrap() > 1 << 20, "{live}");
    logged(vm, "start 1\n");
    vm.msb(["exec", "app", "--", "cat", "/root/starts"]).run().success().stdout_is("x\n");
    let logs = vm.msb(["logs", "app"]).run().success();
    logs.stdout_is("start 1\n").stderr_has("warning");
    // From a folder below the project's, and from elsewhere by its file.
    std::fs::create_dir_all(vm.work().join("a/b")).unwrap();
    vm.msb(["exec", "app", "--", "true"]).cwd(vm.work().join("a/b")).run().success();
    vm.msb(["exec", "--file"]).arg(vm.work()).args(["app", "--", "true"]).cwd(vm.tmp()).run().success();
    vm.msb(["start", "app"]).run().failed_saying(&["app", "running", "msb stop app"]);
    vm.msb(["run", "app"]).run().failed_saying(&["app", "running"]);
    vm.msb(["rm", "app"]).run().failed_saying(&["running", "--force"]);
    vm.msb(["stop", "app"]).run().success().stdout_is("");
    vm.msb(["wait", "app"]).run().success().stdout_is("3\n");
    vm.msb(["ps"])
        .run()
        .success()
        .stdout_is("NAME   PROJECT   STATE   SINCE   PID   CPU TIME   MEMORY   DISK\n");
    let ended = state(vm);
    assert_eq!((&ended["state"], &ended["exit_code"]), (&"stopped".into(), &3.into()));
    vm.msb(["stop", "app"]).run().success().stderr_has("not running");
    vm.msb(["exec", "app", "--", "true"]).run().failed_saying(&["not running", "msb start app"]);
    vm.msb(["restart", "app"]).run().success();
    logged(vm, "start 2\n");
    vm.msb(["kill", "app"]).run().success();
    vm.msb(["wait", "app"]).run().success().stdout_is("137\n");
    let inspected = vm.msb(["inspect", "app"]).run().success().json();
    assert_eq!(inspected[0]["kind"], "project");
    assert_eq!(inspected[0]["last_run"]["exit_code"], 137);
    vm.msb(["rm", "app"]).run().success();
    assert!(!vm.work().join("menv/app").exists());
    assert!(vm.processes().is_empty(), "{:?}", vm.processes());
}

fn named_sandboxes(vm: &Vm) {
    let image = vm.image("busybox");
    vm.msb(["create", "--name", "box", "--idle", "--memory", "256", &image])
        .run()
        .success()
        .stdout_is("box\n");
    vm.msb(["create", "--name", "box", &image]).run().failed_saying(&["box", "already"]);
    vm.msb(["list"]).run().success().stdout_has("box").stdout_has("new");
    vm.msb(["start", "box"]).run().success();
    vm.msb(["exec", "box", "--", "sh", "-c", "echo kept > /root/a; hostname"])
        .run()
        .success()
        .stdout_is("box\n");
    vm.msb(["kill", "-s", "HUP", "box"]).run().failed_saying(&["no main process"]);
    vm.msb(["attach", "box"]).run().failed_saying(&["no main process"]);
    vm.msb(["rename", "box", "chest"]).run().success();
    vm.msb(["stop", "chest"]).run().success();
    vm.msb(["start", "chest"]).run().success();
    let script = "cat /root/a; hostname";
    vm.msb(["exec", "chest", "--", "sh", "-c", script]).run().success().stdout_is("kept\nchest\n");
    vm.msb(["exec", "box", "--", "true"]).run().failed_saying(&["no sandbox `box`", "chest"]);
    vm.msb(["rm", "--force", "chest"]).run().success();
    vm.msb(["start", "chest"]).run().failed_saying(&["no sandbox `chest`"]);
    assert!(std::fs::read_dir(vm.home().join("data/sandboxes")).unwrap().next().is_none());
}

/// `run --detach` of an image makes a sandbox of it.
fn one_of_a_run(vm: &Vm) {
    let image = vm.image("busybox");
    let run = ["run", "--detach", "--memory", "256", &image, "--", "sh", "-c", "echo hello; exit 4"];
    let name = vm.msb(run).run().success().out();
    let name = name.trim();
    assert!(name.starts_with("busybox-"), "{name}");
    vm.msb(["wait", name]).run().success().stdout_is("4\n");
    vm.msb(["logs", name]).run().success().stdout_is("hello\n");
    // What it runs is its own: it does so with every start.
    let inspected = vm.msb(["inspect", name]).run().success().json();
    assert_eq!(
        inspected[0]["definition"]["command"],
        serde_json::json!(["sh", "-c", "echo hello; exit 4"]),
        "{inspected}"
    );
    vm.msb(["restart", name]).run().success();
    vm.msb(["wait", name]).run().success().stdout_is("4\n");
    vm.msb(["rm", name]).run().success();
    let run = ["run", "-d", "--name", "own", "--memory", "256", "-e", "sh", &image, "--", "-c", "exit 5"];
    vm.msb(run).run().success().stdout_is("own\n");
    vm.msb(["wait", "own"]).run().success().stdout_is("5\n");
    vm.msb(["start", "own"]).run().success();
    vm.msb(["wait", "own"]).run().success().stdout_is("5\n");
    vm.msb(["rm", "own"]).run().success();
    let run = ["run", "-d", "--rm", "--name", "gone", "--memory", "256", &image, "--", "sleep", "1000"];
    vm.msb(run).run().success().stdout_is("gone\n");
    vm.msb(["stop", "-t", "0s", "gone"]).run().success();
    vm.msb(["ps", "-a"]).run().success();
    vm.msb(["logs", "gone"]).run().failed_saying(&["no sandbox `gone`"]);
    vm.msb(["run", "--name", "x", &image]).run().code(2);
    vm.msb(["run", "--idle", &image]).run().failed_saying(&["--idle", "--detach"]);
}

fn attach(vm: &Vm) {
    project(vm, &[]);
    vm.msb(["run", "-d", "-i", "app", "--", "cat"]).run().success().stdout_is("app\n");
    let mut one = vm.msb(["attach", "app"]).spawn();
    let mut two = vm.msb(["attach", "app"]).spawn();
    // What one types, both see.
    one.send("from one\n");
    one.expect("from one\n");
    two.send("from two\n");
    two.expect("from two\n");
    one.expect("from two\n");
    // The end of one's input is not the end of the process's.
    drop(two.stdin());
    one.send("still here\n");
    one.expect("still here\n");
    two.expect("still here\n");
    vm.msb(["exec", "app", "--", "ps"]).run().success().stdout_has("cat");
    vm.msb(["kill", "-s", "TERM", "app"]).run().success();
    assert_eq!(one.wait(vm.hypervisor.limit()).code(), Some(143));
    assert_eq!(two.wait(vm.hypervisor.limit()).code(), Some(143));
}

fn detach_keys(vm: &Vm) {
    project(vm, &[]);
    vm.msb(["run", "-d", "-t", "app", "--", "sh"]).run().success();
    let mut terminal = vm.msb(["attach", "app"]).terminal(24, 80);
    terminal.send("echo $((40 + 2))\r");
    terminal.expect("42\r\n");
    terminal.send("\x10\x11");
    terminal.expect("left app running");
    terminal.ends_with(0);
    terminal.assert_restored();
    let mut again = vm.msb(["attach", "--detach-keys", "ctrl-x", "app"]).terminal(30, 100);
    again.send("stty size\r");
    again.expect("30 100");
    again.send("exit 9\r");
    again.ends_with(9);
    vm.msb(["wait", "app"]).run().success().stdout_is("9\n");
}

fn exec_options(vm: &Vm) {
    project(vm, &["workdir: /home/app", "user: app", "envs: [A=file]"]);
    vm.msb(["run", "-d", "--idle", "app"]).run().success();
    let show = "pwd; id -un; echo $A $B";
    let exec = |flags: &[&str]| {
        vm.msb(["exec"]).args(flags).args(["app", "--", "sh", "-c", show]).run().success().out()
    };
    assert_eq!(exec(&[]), "/home/app\napp\nfile\n");
    assert_eq!(exec(&["--user", "root", "--workdir", "/", "--env", "B=flag"]), "/\nroot\nfile flag\n");
    vm.msb(["exec", "app", "--", "cat"]).stdin("typed").run().success().stdout_is("typed");
    vm.msb(["exec", "--no-stdin", "app", "--", "cat"]).stdin("typed").run().success().stdout_is("");
    vm.msb(["exec", "app", "--", "no-such-program"]).run().code(127).stderr_has("no-such-program");
    vm.msb(["exec", "app", "--", "/etc/passwd"]).run().code(126);
    vm.msb(["exec", "app", "--", "sh", "-c", "kill -9 $$"]).run().code(137);
    vm.msb(["exec", "--timeout", "200ms", "app", "--", "sleep", "1000"]).run().code(124).stderr_has("longer");
    vm.msb(["exec", "-d", "app", "--", "sh", "-c", "touch /tmp/begun; sleep 1000"])
        .run()
        .success()
        .stdout_is("");
    wait_until(vm.hypervisor.limit(), "the detached command runs", || {
        vm.msb(["exec", "app", "--", "test", "-e", "/tmp/begun"]).run().exit_code() == Some(0)
    });
    vm.msb(["exec", "-d", "app", "--", "no-such-program"]).run().code(127);
    let mut terminal = vm.msb(["exec", "-it", "app", "--", "sh"]).terminal(31, 99);
    terminal.send("stty size; exit 6\r");
    terminal.expect("31 99");
    terminal.ends_with(6);
    // A command goes with its caller.
    let mut waiting = vm.msb(["exec", "app", "--", "sh", "-c", "echo ready; exec sleep 4321"]).spawn();
    waiting.expect("ready\n");
    waiting.signal(nix::sys::signal::Signal::SIGKILL);
    wait_until(vm.hypervisor.limit(), "the command ends", || {
        !vm.msb(["exec", "app", "--", "ps"]).run().success().out().contains("4321")
    });
    vm.msb(["stop", "-t", "0s", "app"]).run().success();
}

fn attached_runs_can_be_used(vm: &Vm) {
    project(vm, &[]);
    let mut run = vm.msb(["run", "app", "--", "sh", "-c", "echo ready; exec sleep 1000"]).spawn();
    run.expect("ready\n");
    vm.msb(["exec", "app", "--", "hostname"]).run().success().stdout_is("app\n");
    vm.msb(["ps"]).run().success().stdout_has("app");
    vm.msb(["attach", "app"]).run().failed_saying(&["terminal it was started from"]);
    vm.msb(["logs", "app"]).run().success().stdout_is("ready\n");
    vm.msb(["stop", "app"]).run().success();
    assert_eq!(run.wait(vm.hypervisor.limit()).code(), Some(143));
    assert_eq!(state(vm)["exit_code"], 143);
}

fn logs_follow(vm: &Vm) {
    project(vm, &[]);
    let script = "for n in 1 2 3; do echo out $n; echo err $n >&2; done; read x; echo end";
    vm.msb(["run", "-d", "-i", "app", "--", "sh", "-c", script]).run().success();
    let mut follow = vm.msb(["logs", "--follow", "app"]).spawn();
    follow.expect("out 3\n");
    let mut attached = vm.msb(["attach", "app"]).spawn();
    attached.send("\n");
    follow.expect("end\n");
    assert!(follow.wait(vm.hypervisor.limit()).success());
    attached.wait(vm.hypervisor.limit());
    vm.msb(["logs", "app"])
        .run()
        .success()
        .stdout_is("out 1\nout 2\nout 3\nend\n")
        .stderr_has("err 1\nerr 2\nerr 3\n");
    vm.msb(["logs", "--stream", "stderr", "app"]).run().success().stdout_is("");
    vm.msb(["logs", "-n", "1", "app"]).run().success().stdout_is("end\n");
    let stamped = vm.msb(["logs", "-t", "-n", "1", "app"]).run().success().out();
    let (time, rest) = stamped.split_once(' ').unwrap();
    assert!(time.ends_with('Z') && rest == "end\n", "{stamped}");
    vm.msb(["logs", "--since", time, "app"]).run().success().stdout_is("end\n");
    vm.msb(["logs", "--until", time, "app"]).run().success().stdout_is("out 1\nout 2\nout 3\n");
    vm.msb(["logs", "--since", "yesterday", "app"]).run().code(2);
}

fn restart_policy(vm: &Vm) {
    project(vm, &[]);
    let fails = "echo x >> /root/starts; exit 5";
    vm.msb(["run", "-d", "--restart", "on-failure:2", "app", "--", "sh", "-c", fails]).run().success();
    vm.msb(["wait", "app"]).run().success().stdout_is("5\n");
    assert_eq!(state(vm)["restarts"], 2);
    vm.msb(["run", "app", "--", "cat", "/root/starts"]).run().success().stdout_is("x\nx\nx\n");
    // What is stopped stays so.
    vm.msb(["run", "-d", "--restart", "always", "app", "--", "sleep", "1000"]).run().success();
    vm.msb(["stop", "-t", "0s", "app"]).run().success();
    assert_eq!(state(vm)["state"], "stopped");
    vm.msb(["run", "-d", "--restart", "sometimes", "app"]).run().code(2);
}

fn pause(vm: &Vm) {
    project(vm, &[]);
    vm.msb(["run", "-d", "--idle", "app"]).run().success();
    vm.msb(["unpause", "app"]).run().failed_saying(&["not paused"]);
    vm.msb(["pause", "app"]).run().success();
    assert_eq!(state(vm)["state"], "paused");
    vm.msb(["pause", "app"]).run().failed_saying(&["paused already"]);
    vm.msb(["exec", "app", "--", "true"]).run().failed_saying(&["paused", "msb unpause"]);
    vm.msb(["unpause", "app"]).run().success();
    vm.msb(["exec", "app", "--", "true"]).run().success();
    vm.msb(["pause", "app"]).run().success();
    vm.msb(["stop", "app"]).run().success();
    assert_eq!(state(vm)["state"], "stopped");
}

fn limits(vm: &Vm) {
    project(vm, &[]);
    for flag in ["--max-duration", "--idle-timeout"] {
        vm.msb(["run", "-d", "--idle", flag, "100ms", "app"]).run().success();
        vm.msb(["wait", "app"]).run().success().stdout_is("-\n").stderr_has("ti");
        assert_eq!(state(vm)["state"], "stopped");
    }
}

fn does_not_start(vm: &Vm) {
    project(vm, &[]);
    vm.msb(["run", "-d", "app", "--", "no-such-program"]).run().code(127).stderr_has("no-such-program");
    assert_eq!(state(vm)["state"], "stopped");
    vm.msb(["run", "-d", "app", "--kernel", "/nowhere"]).run().failed_saying(&["/nowhere"]);
    vm.msb(["run", "-d", "--user", "nobody-knows", "app", "--", "true"])
        .run()
        .failed_saying(&["nobody-knows"]);
    vm.msb(["run", "app", "--", "true"]).run().success();
}

fn two_starts(vm: &Vm) {
    project(vm, SERVICE);
    let starts: Vec<_> = (0..3).map(|_| vm.msb(["start", "app"]).spawn()).collect();
    let codes: Vec<_> =
        starts.into_iter().map(|mut start| start.wait(vm.hypervisor.limit() * 2).code().unwrap()).collect();
    assert_eq!(codes.iter().filter(|code| **code == 0).count(), 1, "{codes:?}");
    logged(vm, "start 1\n");
    vm.msb(["exec", "app", "--", "cat", "/root/starts"]).run().success().stdout_is("x\n");
    vm.msb(["stop", "-t", "0s", "app"]).run().success();
}

fn clean(vm: &Vm) {
    project(vm, &[]);
    vm.msb(["run", "app", "--", "touch", "/root/a"]).run().success();
    vm.msb(["clean"]).run().failed_saying(&["--yes"]);
    vm.msb(["clean", "--yes"]).run().success().stderr_has("Freed");
    assert!(!vm.work().join("menv/app").exists());
    vm.msb(["clean", "--yes"]).run().success().stderr_has("nothing");
    vm.msb(["run", "-d", "--idle", "app"]).run().success();
    vm.msb(["clean", "--yes"]).run().success().stderr_has("runs");
    vm.msb(["stop", "app"]).run().success();
}

fn events_follow(vm: &Vm) {
    project(vm, &[]);
    let mut events = vm.msb(["events", "--follow", "--format", "json"]).spawn();
    vm.msb(["run", "-d", "app", "--", "sh", "-c", "exit 2"]).run().success();
    let seen = events.expect("\"die\"");
    let first: serde_json::Value = serde_json::from_str(seen.lines().next().unwrap()).unwrap();
    assert_eq!((&first["event"], &first["sandbox"]), (&"start".into(), &"app".into()));
    vm.msb(["events", "--since", "1h", "app"]).run().success().stdout_has("app die exitCode=2");
    vm.msb(["events", "other"]).run().failed_saying(&["there is no sandbox `other`"]);
}

/// Neither side grows with the number of commands.
fn many_commands(vm: &Vm) {
    project(vm, &[]);
    vm.msb(["run", "-d", "--idle", "app"]).run().success();
    let supervisor = i32::try_from(state(vm)["supervisor_pid"].as_i64().unwrap()).unwrap();
    let supervisor = msb_test_support::Process::find(supervisor).unwrap();
    let run = |count| {
        for _ in 0..count {
            vm.msb(["exec", "app", "--", "true"]).run().success();
        }
    };
    let guest = "ls /proc/1/fd | wc -l; awk '/VmRSS/ {print $2}' /proc/1/status";
    let measure = || {
        let guest = vm.msb(["exec", "app", "--", "sh", "-c", guest]).run().success().out();
        let guest: Vec<u64> = guest.lines().map(|line| line.parse().unwrap()).collect();
        let files = std::fs::read_dir(format!("/proc/{}/fd", supervisor.pid)).unwrap().count() as u64;
        (files, guest[0], supervisor.resident_kib(), guest[1])
    };
    let count = if vm.emulated() { 20 } else { 200 };
    run(count / 2);
    let before = measure();
    run(count);
    let mut after = before;
    // The descriptors of a command before may still be closing.
    wait_until(vm.hypervisor.limit(), "there are as many descriptors as before", || {
        after = measure();
        after.0 <= before.0 + 2 && after.1 <= before.1 + 2
    });
    assert!(after.2 < before.2 + 1024 && after.3 < before.3 + 512, "KiB: {before:?} {after:?}");
    vm.msb(["stop", "app"]).run().success();
}

fn unknown_names(env: &msb_test_support::TestEnv) {
    for verb in ["start", "stop", "exec", "attach", "logs", "inspect", "kill", "rm", "pause", "wait"] {
        env.msb([verb, "nothing"]).run().failed_saying(&["there is no sandbox `nothing`", "msb create"]);
    }
    env.write("Sandboxfile", "sandboxes:\n  web:\n    image: busybox\n");
    env.msb(["stop", "wbe"]).run().failed_saying(&["did you mean `web`?"]);
    env.msb(["stop", "web"]).run().success().stderr_has("not running");
    env.msb(["logs", "web"]).run().success().stdout_is("");
    env.msb(["wait", "web"]).run().failed_saying(&["never run"]);
    env.msb(["rename", "web", "x"]).run().failed_saying(&["Sandboxfile"]);
    for wrong in [
        &["create", "--name", "a b", "busybox"][..],
        &["run", "-d", "--image", "--name", "a b", "busybox"],
        &["rename", "web", "a b"],
        &["install", "busybox", "a b"],
    ] {
        env.msb(wrong).run().code(2).stderr_has("invalid value 'a b'").stderr_has("use letters, digits");
    }
    env.msb(["attach", "--detach-keys", "ctrl-", "web"]).run().failed_saying(&["no keys"]);
    env.msb(["kill", "-s", "WHAT", "web"]).run().failed_saying(&["no signal"]);
}

fn newer_database(env: &msb_test_support::TestEnv) {
    env.msb(["ps"]).run().success();
    let database = env.home().join("data/state.db");
    // The number of the newest migration is in the header of the file.
    let mut bytes = std::fs::read(&database).unwrap();
    bytes[60..64].copy_from_slice(&99_u32.to_be_bytes());
    std::fs::write(&database, bytes).unwrap();
    env.msb(["ps"]).run().failed_saying(&["newer msb"]);
    std::fs::write(&database, "nonsense, and not little of it").unwrap();
    env.msb(["ps"]).run().failed_saying(&["state.db"]);
}
