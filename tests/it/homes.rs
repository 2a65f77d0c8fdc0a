//! Where everything is kept can be in memory, read-only, or full. Each of these homes is seen by the commands of its test alone.

use msb_test_support::{Finished, Vm};

use crate::suite::{Suite, tests};

pub(crate) fn register(suite: &mut Suite) {
    tests!(suite, vm: in_memory, read_only, full);
}

/// Runs a script that may mount things; `$1` is an image.
fn with_mounts(vm: &Vm, script: &str) -> Finished {
    vm.program("unshare").args(["-m", "sh", "-c", script, "sh", &vm.image("busybox")]).run()
}

fn in_memory(vm: &Vm) {
    let script = r#"
        mount -t tmpfs none "$MSB_HOME" && msx -q "$1" -- echo thrown away &&
        msb -q create --name box "$1" -- echo kept > /dev/null && msb -q start --attach box && msb rm box
    "#;
    with_mounts(vm, script).success().stdout_is("thrown away\nkept\n");
}

fn read_only(vm: &Vm) {
    vm.msb(["create", "--name", "box", "--idle", &vm.image("busybox")]).run().success();
    let script = r#"
        mount --bind "$MSB_HOME" "$MSB_HOME" && mount -o remount,bind,ro "$MSB_HOME"
        msb ls --format json && msb ps -a && msb events && msb df && msx "$1" -- echo thrown away && msb start box
    "#;
    let run = with_mounts(vm, script).code(125).stderr_has("Read-only file system");
    assert!(run.out().contains("\"box\"") && run.out().ends_with("thrown away\n"), "{run}");
    vm.msb(["start", "box"]).run().success();
    vm.msb(["rm", "-f", "box"]).run().success();
}

/// What runs goes on, what is asked is answered, and with room everything works again.
fn full(vm: &Vm) {
    let script = r#"
        mount -t tmpfs -o size=16m none "$MSB_HOME" && msb -q create --name box --idle "$1" > /dev/null && msb -q start box || exit 1
        dd if=/dev/zero of="$MSB_HOME/fill" bs=64k 2> /dev/null
        dd if=/dev/zero of="$MSB_HOME/rest" bs=1 2> /dev/null
        msb exec box -- echo alive || exit 2
        msb ps > /dev/null || exit 3
        msb create --name other "$1" && exit 4
        msb stop -t 0s box > /dev/null || exit 5
        msb ps -a --format json | grep -c '"state": "stopped"' || exit 6
        rm "$MSB_HOME/fill" "$MSB_HOME/rest"
        msb -q start box && msb exec box -- echo again && msb rm -f box
    "#;
    let run = with_mounts(vm, script).success().stderr_has("is full");
    assert!(run.out().starts_with("alive\n1\nagain\n"), "{run}");
}
