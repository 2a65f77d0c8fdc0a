//! `msi`: sandboxes as commands on PATH.

use msb_test_support::{Tree, Vm};

use crate::suite::{Suite, tests};

pub(crate) fn register(suite: &mut Suite) {
    tests!(suite, vm: side_by_side, arguments_and_streams, default_names, options_are_kept, uninstall, taken_names);
}

/// Two of one image keep their own state and work from any folder.
fn side_by_side(vm: &Vm) {
    let image = vm.image("busybox");
    vm.program("msi").args([&image, "first"]).run().success().stdout_is("");
    vm.msb(["install", "--image", &image, "--name", "second"]).run().success();
    vm.program("first").args(["sh", "-c", "echo one > /root/state"]).run().success();
    vm.program("second").args(["sh", "-c", "ls /root; echo two > /root/state"]).run().success().stdout_is("");
    vm.program("first").args(["cat", "/root/state"]).cwd("/").run().success().stdout_is("one\n");
    vm.program("second").args(["cat", "/root/state"]).cwd(vm.tmp()).run().success().stdout_is("two\n");
    vm.msb(["list"]).run().success().stdout_has("first").stdout_has("second").stdout_has("installed");
    // Both at once.
    let mut running = vm.program("first").args(["sh", "-c", "echo ready; cat"]).spawn();
    running.expect("ready\n");
    vm.program("second").arg("true").run().success();
    vm.program("first").arg("true").run().failed_saying(&["first", "running"]);
    assert!(running.wait(vm.hypervisor.limit()).success());
    assert!(Tree::of(&[&vm.work()]).files().next().is_none(), "nothing is kept in the working folder");
}

/// All words belong to the program inside, also those that look like flags of msb.
fn arguments_and_streams(vm: &Vm) {
    vm.program("msi").args([&vm.image("config:entrypoint"), "show"]).run().success();
    vm.program("show").run().success().stdout_is("[a b][c]");
    vm.program("show")
        .args(["--help", "-f", "--", "x y", "~"])
        .run()
        .success()
        .stdout_is("[--help][-f][--][x y][~]");
    vm.program("msi")
        .args([&vm.image("busybox"), "tool", "-e", "/bin/sh", "--", "-c", "cat; exit 3"])
        .run()
        .success();
    vm.program("tool").stdin("through").run().code(3).stdout_is("through");
}

fn default_names(vm: &Vm) {
    vm.program("msi").arg(vm.image("config:cmd")).run().success();
    vm.program("config").run().success().stdout_is("from CMD");
}

fn options_are_kept(vm: &Vm) {
    let install =
        vm.program("msi").args([&vm.image("busybox"), "me", "--user", "app", "--workdir", "/home/app"]);
    install.args(["--env", "X=a b", "--memory", "200M", "-e", "/bin/sh"]).run().success();
    vm.program("me")
        .args(["-c", "id -un; pwd; echo \"$X\""])
        .run()
        .success()
        .stdout_is("app\n/home/app\na b\n");
}

fn uninstall(vm: &Vm) {
    let before = Tree::of(&[&vm.home()]);
    vm.program("msi").args([&vm.image("busybox"), "gone"]).run().success();
    vm.program("gone").args(["sh", "-c", "echo state > /root/state"]).run().success();
    let launcher = vm.home().join("bin/gone");
    assert!(launcher.exists());
    vm.msb(["uninstall", "gone"]).run().success().stdout_is("");
    assert!(!launcher.exists());
    let after = Tree::of(&[&vm.home()]);
    let mut left: Vec<_> = after.new_since(&before).into_iter().filter(|path| path.is_file()).collect();
    // The state database belongs to no sandbox.
    left.retain(|path| path.file_stem().is_none_or(|stem| stem != "state"));
    assert!(left.is_empty(), "{left:?}");
    vm.msb(["uninstall", "gone"]).run().failed_saying(&["gone"]);
    vm.program("msi").args([&vm.image("busybox"), "gone"]).run().success();
    vm.program("gone").args(["ls", "/root"]).run().success().stdout_is("");
}

fn taken_names(vm: &Vm) {
    let image = vm.image("busybox");
    vm.program("msi").args([&image, "ls"]).run().failed_saying(&["ls", "/bin/ls"]);
    vm.program("msi").args([&image, "mine"]).run().success();
    vm.program("msi").args([&image, "mine"]).run().failed_saying(&["mine"]);
    for name in ["../x", "a/b", ".hidden", "-x y", "a b"] {
        vm.msb(["install", &image, "--name"]).arg(name).run().code(2);
    }
}
