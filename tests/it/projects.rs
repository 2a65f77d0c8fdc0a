//! Sandboxes of a project: kept under `./menv`, one run at a time.

use msb_test_support::Vm;

use crate::suite::{Suite, tests};

pub(crate) fn register(suite: &mut Suite) {
    tests!(suite, vm: from_init_to_run, files_are_kept, two_runs_at_once, different_sandboxes_at_once, found_upwards, file_flag);
    tests!(suite, vm: sandbox_wins_over_image, settings_take_effect, command_key, image_changes, scripts_in_any_workdir);
}

/// A Sandboxfile with the sandbox `app` and these further lines of it.
fn project(vm: &Vm, lines: &[&str]) {
    let mut text = format!("sandboxes:\n  app:\n    image: {}\n    memory: 256\n", vm.image("busybox"));
    for line in lines {
        text += &format!("    {line}\n");
    }
    vm.write("Sandboxfile", text);
}

/// The words of the README, as typed.
fn from_init_to_run(vm: &Vm) {
    vm.msb(["init"]).run().success().stdout_is("");
    assert!(vm.read(".gitignore").lines().any(|line| line == "menv/"));
    let start = "python3 -c 'print(\"hello\")'";
    let add = vm.msb([
        "add",
        "app",
        "--image",
        &vm.image("python"),
        "--cpus",
        "1",
        "--memory",
        "512",
        "--start",
        start,
    ]);
    add.args(["--script", "test=echo test \"$@\""]).run().success().stdout_is("");
    for words in [&["run", "app"][..], &["run", "--sandbox", "app"], &["run", "app~start"]] {
        vm.msb(words).run().success().stdout_is("hello\n");
    }
    vm.program("msr").arg("app").run().success().stdout_is("hello\n");
    vm.program("msr").args(["app~test", "--", "-v", "x y"]).run().success().stdout_is("test -v x y\n");
    vm.msb(["list"]).run().success().stdout_has("app").stdout_has("start test").stdout_has("stopped");
    vm.msb(["remove", "app"]).run().success();
    vm.msb(["run", "--sandbox", "app"]).run().failed_saying(&["app"]);
}

fn files_are_kept(vm: &Vm) {
    project(vm, &[]);
    vm.msb([
        "run",
        "app",
        "--",
        "sh",
        "-c",
        "echo one > /root/a; mkdir /new; rm /etc/group; ln -s a /root/b",
    ])
    .run()
    .success();
    let script = "cat /root/b; ls -d /new; test -e /etc/group || echo removed; stat -c %U /root/a";
    vm.msb(["run", "app", "--", "sh", "-c", script]).run().success().stdout_is("one\n/new\nremoved\nroot\n");
    assert!(vm.work().join("menv/app").is_dir());
    // A second sandbox of the same image starts from the image.
    let both =
        format!("{}  other:\n    image: {}\n    memory: 256\n", vm.read("Sandboxfile"), vm.image("busybox"));
    vm.write("Sandboxfile", both);
    vm.msb(["run", "other", "--", "ls", "/root"]).run().success().stdout_is("");
}

fn two_runs_at_once(vm: &Vm) {
    project(vm, &[]);
    let mut first = vm.msb(["run", "app", "--", "sh", "-c", "echo ready; cat"]).spawn();
    first.expect("ready\n");
    let holder = first.process().pid.to_string();
    let second = vm.msb(["run", "app", "--", "true"]).run();
    second.failed_saying(&["app", "running", &holder]);
    vm.msb(["list"]).run().success().stdout_has("running");
    first.send("x\n");
    assert!(first.wait(vm.hypervisor.limit()).success());
    vm.msb(["run", "app", "--", "true"]).run().success();
}

fn different_sandboxes_at_once(vm: &Vm) {
    let image = vm.image("busybox");
    let one = format!("    image: {image}\n    memory: 256\n    scripts:\n      start: hostname; cat\n");
    vm.write("Sandboxfile", format!("sandboxes:\n  one:\n{one}  two:\n{one}"));
    let mut one = vm.msb(["run", "one"]).spawn();
    let mut two = vm.msb(["run", "two"]).spawn();
    one.expect("\n");
    two.expect("\n");
    assert!(one.wait(vm.hypervisor.limit()).success());
    assert!(two.wait(vm.hypervisor.limit()).success());
}

/// As cargo does: from a folder below the project's.
fn found_upwards(vm: &Vm) {
    project(vm, &["scripts:", "  start: echo found"]);
    let below = vm.work().join("a/b/c");
    std::fs::create_dir_all(&below).unwrap();
    vm.msb(["run", "app"]).cwd(&below).run().success().stdout_is("found\n");
    assert!(!below.join("menv").exists() && vm.work().join("menv").exists());
}

/// `-f` takes the file or its folder.
fn file_flag(vm: &Vm) {
    project(vm, &["scripts:", "  start: echo found"]);
    let elsewhere = vm.tmp();
    for file in [vm.work(), vm.work().join("Sandboxfile")] {
        vm.msb(["run", "app", "-f"]).arg(&file).cwd(&elsewhere).run().success().stdout_is("found\n");
    }
    std::fs::rename(vm.work().join("Sandboxfile"), vm.work().join("other.yaml")).unwrap();
    vm.msb(["run", "app", "--file"]).arg(vm.work().join("other.yaml")).run().success().stdout_is("found\n");
}

fn sandbox_wins_over_image(vm: &Vm) {
    let image = vm.image("busybox");
    vm.write("Sandboxfile", format!("sandboxes:\n  python:\n    image: {image}\n    memory: 256\n    scripts:\n      start: echo the sandbox\n"));
    vm.msb(["run", "python"]).run().success().stdout_is("the sandbox\n");
}

fn settings_take_effect(vm: &Vm) {
    vm.write("vars", "A=from file\nB=from file\n");
    let show = "'pwd; id -un; echo $A; echo $B; echo $C; awk \"/MemTotal/ {print int(\\$2 / 1024) < 256}\" /proc/meminfo'";
    let start = format!("  start: {show}");
    project(
        vm,
        &[
            "workdir: /home/app",
            "user: app",
            "env_file: vars",
            "envs:",
            "  - B=from list",
            "  - C=a=b",
            "scripts:",
            &start,
        ],
    );
    vm.msb(["run", "app"]).run().success().stdout_is("/home/app\napp\nfrom file\nfrom list\na=b\n1\n");
    // Flags win for one run.
    let run = vm.msb(["run", "app", "--env", "C=flag", "--user", "root", "--workdir", "/"]).run();
    run.success().stdout_is("/\nroot\nfrom file\nfrom list\nflag\n1\n");
}

/// `command` replaces the image's, arguments after `--` replace its arguments; a shell of one's own runs scripts.
fn command_key(vm: &Vm) {
    project(vm, &["command: [printf, '%s,', a, 'b c']"]);
    vm.msb(["run", "app"]).run().success().stdout_is("a,b c,");
    project(vm, &["shell: /bin/ash", "scripts:", "  start: |", "    echo $0 | sed 's,.*/,,'", "    exit 4"]);
    vm.msb(["run", "app"]).run().code(4).stdout_is("start\n");
}

/// The disk belongs to the image it was made for.
fn image_changes(vm: &Vm) {
    project(vm, &[]);
    vm.msb(["run", "app", "--", "sh", "-c", "echo old > /note"]).run().success();
    let changed = vm.read("Sandboxfile").replace(&vm.image("busybox"), &vm.image("python"));
    vm.write("Sandboxfile", changed);
    vm.msb(["run", "app", "--", "true"]).run().failed_saying(&["image", "changed", "--recreate"]);
    vm.msb(["run", "app", "--recreate", "--", "ls", "/note"]).run().code(1).stdout_is("");
    vm.msb(["run", "app", "--", "python3", "-c", "print(1)"]).run().success().stdout_is("1\n");
}

fn scripts_in_any_workdir(vm: &Vm) {
    project(vm, &["workdir: /etc", "scripts:", "  where: pwd; exit 2"]);
    vm.msb(["run", "app~where"]).run().code(2).stdout_is("/etc\n");
}
