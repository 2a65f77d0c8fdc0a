//! What a sandbox synced is there after everything was killed, and its file system is whole.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use msb_test_support::{Process, Tree, Vm, wait_until};
use nix::sys::signal::Signal;

use crate::suite::{Suite, tests};

pub(crate) fn register(suite: &mut Suite) {
    tests!(suite, vm: synced_data_survives, killed_while_writing, killed_while_starting);
}

fn project(vm: &Vm) {
    let image = vm.image("busybox");
    vm.write(
        "Sandboxfile",
        format!("sandboxes:\n  app:\n    image: {image}\n    memory: 256\n    disk: 512M\n"),
    );
}

/// The disk image of the project's sandbox, told by ext4's magic number.
fn disk(vm: &Vm) -> PathBuf {
    let tree = Tree::of(&[&vm.work().join("menv")]);
    let is_ext4 = |path: &&std::path::Path| {
        use std::os::unix::fs::FileExt;
        let mut magic = [0; 2];
        let file = std::fs::File::open(path).unwrap();
        file.read_exact_at(&mut magic, 1080).is_ok() && magic == [0x53, 0xEF]
    };
    tree.files().map(|(path, _)| path).find(is_ext4).expect("menv holds an ext4 disk").to_path_buf()
}

/// Checks the file system without changing it. After an orderly end its journal is empty and it is marked clean.
fn assert_clean(vm: &Vm) {
    let check = Command::new("/sbin/e2fsck").arg("-fn").arg(disk(vm)).output().unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
}

/// Everything that runs for this test dies at the same moment.
fn kill_all(vm: &Vm, caller: Process) {
    let mut family = caller.descendants();
    family.push(caller);
    for process in &family {
        process.signal(Signal::SIGKILL);
    }
    wait_until(Duration::from_secs(5), "all are gone", || {
        !family.iter().any(Process::alive) && vm.processes().is_empty()
    });
}

fn synced_data_survives(vm: &Vm) {
    project(vm);
    let script = "seq 1 20000 > /data; sha256sum /data > /sum; sync; echo synced; sleep 1000";
    let mut running = vm.msb(["run", "app", "--", "sh", "-c", script]).spawn();
    running.expect("synced\n");
    kill_all(vm, running.process());
    vm.msb(["run", "app", "--", "sh", "-c", "sha256sum -c /sum"]).run().success().stdout_is("/data: OK\n");
    assert_clean(vm);
}

fn killed_while_writing(vm: &Vm) {
    project(vm);
    let script = "i=0; while :; do i=$((i+1)); mkdir -p /d/$i; echo $i > /d/$i/f; sync; echo $i; done";
    for _ in 0..2 {
        let mut running = vm.msb(["run", "app", "--", "sh", "-c", script]).spawn();
        running.expect("2\n");
        std::thread::sleep(Duration::from_millis(300));
        kill_all(vm, running.process());
    }
    vm.msb(["run", "app", "--", "sh", "-c", "ls /d > /dev/null && cat /d/1/f"])
        .run()
        .success()
        .stdout_is("1\n");
    assert_clean(vm);
}

/// Killed at any point of its start, the next run works.
fn killed_while_starting(vm: &Vm) {
    project(vm);
    for delay in [1, 5, 10, 20, 40, 80, 160] {
        let running = vm.msb(["run", "app", "--", "true"]).spawn();
        std::thread::sleep(Duration::from_millis(delay));
        running.signal(Signal::SIGKILL);
        drop(running);
    }
    wait_until(Duration::from_secs(5), "all are gone", || vm.processes().is_empty());
    vm.msb(["run", "app", "--", "echo", "fine"]).run().success().stdout_is("fine\n");
    assert_clean(vm);
}
