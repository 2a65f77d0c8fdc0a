//! Looking into sandboxes from outside: copies, changes, measurements; whether they run or not.

use msb_test_support::Vm;

use crate::background::project;
use crate::suite::{Suite, tests};

pub(crate) fn register(suite: &mut Suite) {
    tests!(suite, vm: copies_both_ways, copies_of_a_stopped_sandbox, copies_refused, changes, metrics, top, clock_after_a_pause);
}

fn idle(vm: &Vm) {
    project(vm, &[]);
    vm.msb(["run", "-d", "--idle", "app"]).run().success();
}

fn in_guest(vm: &Vm, script: &str) -> String {
    vm.msb(["exec", "app", "--", "sh", "-c", script]).run().success().out()
}

fn copies_both_ways(vm: &Vm) {
    idle(vm);
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 253) as u8).collect();
    vm.write("src/data", &bytes);
    vm.write("src/deep/tool", "#!/bin/sh\necho tool\n");
    use std::os::unix::fs::PermissionsExt as _;
    let tool = vm.work().join("src/deep/tool");
    std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink("data", vm.work().join("src/link")).unwrap();
    vm.msb(["cp", "src", "app:/root"]).run().success().stdout_is("");
    let script = "cd /root/src; deep/tool; readlink link; stat -c '%u %a' data; wc -c < link";
    assert_eq!(in_guest(vm, script), "tool\ndata\n0 644\n3000000\n");
    vm.msb(["cp", "src/.", "app:/srv"]).run().success();
    assert_eq!(in_guest(vm, "ls /srv"), "data\ndeep\nlink\n");
    vm.msb(["cp", "app:/root/src", "back"]).run().success();
    assert!(std::fs::read(vm.work().join("back/data")).unwrap() == bytes);
    assert_eq!(std::fs::read_link(vm.work().join("back/link")).unwrap().to_str(), Some("data"));
    vm.msb(["cp", "app:/root/src/deep/tool", "."]).run().success();
    assert_eq!(vm.read("tool"), "#!/bin/sh\necho tool\n");
    // As a tar archive.
    let archive = vm.msb(["cp", "app:/root/src/deep", "-"]).run().success();
    let archive = archive.stdout.clone();
    vm.msb(["cp", "-", "app:/tmp"]).stdin(archive).run().success();
    assert_eq!(in_guest(vm, "/tmp/deep/tool"), "tool\n");
    vm.msb(["stop", "app"]).run().success();
}

fn copies_of_a_stopped_sandbox(vm: &Vm) {
    project(vm, &[]);
    vm.write("in", "from the host\n");
    vm.msb(["cp", "in", "app:/root/in"]).run().success();
    vm.msb(["run", "app", "--", "sh", "-c", "cat /root/in; echo from the guest > /root/out"])
        .run()
        .success()
        .stdout_is("from the host\n");
    vm.msb(["cp", "app:/root/out", "out"]).run().success();
    assert_eq!(vm.read("out"), "from the guest\n");
    vm.msb(["diff", "app"]).run().success().stdout_has("A /root/in\n").stdout_has("A /root/out\n");
    vm.msb(["list"]).run().success().stdout_has("stopped");
    assert!(vm.processes().is_empty(), "{:?}", vm.processes());
}

fn copies_refused(vm: &Vm) {
    idle(vm);
    vm.write("file", "x");
    vm.msb(["cp", "file", "elsewhere"]).run().failed_saying(&["neither", "NAME:PATH"]);
    vm.msb(["cp", "app:/a", "app:/b"]).run().failed_saying(&["on the host"]);
    vm.msb(["cp", "missing", "app:/tmp"]).run().failed_saying(&["missing", "no such file"]);
    vm.msb(["cp", "app:/missing", "."]).run().failed_saying(&["/missing", "no such file"]);
    vm.msb(["cp", "file", "app:/no/such/folder/x"]).run().failed_saying(&["no such file"]);
    vm.msb(["cp", "app:/etc", "file"]).run().failed_saying(&["is a file"]);
    vm.msb(["cp", "file", "nobody:/tmp"]).run().failed_saying(&["no sandbox `nobody`"]);
    assert_eq!(vm.read("file"), "x");
    // What leads out of the target stays out of it, whatever the guest has there.
    in_guest(vm, "mkdir /evil; ln -s / /evil/root; ln -s ../../../../etc/passwd /evil/up");
    vm.msb(["cp", "app:/evil", "landed"]).run().success();
    assert_eq!(std::fs::read_link(vm.work().join("landed/root")).unwrap().to_str(), Some("/"));
    vm.msb(["stop", "app"]).run().success();
}

fn changes(vm: &Vm) {
    idle(vm);
    in_guest(vm, "echo x > /root/new; echo y >> /etc/passwd; rm /etc/group");
    let changes = vm.msb(["diff", "app"]).run().success();
    let changes =
        changes.stdout_has("A /root/new\n").stdout_has("C /etc/passwd\n").stdout_has("D /etc/group\n");
    assert!(!changes.out().contains("/bin"), "{}", changes.out());
    let rows = vm.msb(["diff", "app", "--format", "json"]).run().success().json();
    assert!(
        rows.as_array().unwrap().iter().any(|row| row["path"] == "/etc/group" && row["kind"] == "D"),
        "{rows}"
    );
    vm.msb(["stop", "app"]).run().success();
}

fn metrics(vm: &Vm) {
    project(vm, &[]);
    vm.msb(["metrics"]).run().failed_saying(&["no sandbox runs"]);
    vm.msb(["run", "-d", "app", "--", "sh", "-c", "while :; do :; done"]).run().success();
    let rows = vm.msb(["metrics", "--format", "json"]).run().success().json();
    let row = &rows[0];
    assert_eq!(row["name"], "app");
    assert!(row["cpu_percent"].as_f64().unwrap() > 1.0, "{row}");
    let total = row["guest"]["memory"]["total"].as_u64().unwrap();
    assert!((150 << 20..256 << 20).contains(&total), "{row}");
    assert!(row["resident_bytes"].as_u64().unwrap() > 1 << 20);
    vm.msb(["metrics", "app"]).run().success().stdout_has("app").stdout_has("%");
    // It goes on until the sandbox has ended.
    let mut watch = vm.msb(["metrics", "--watch", "--interval", "100ms"]).spawn();
    watch.expect("NAME");
    watch.expect("NAME");
    vm.msb(["stop", "-t", "0s", "app"]).run().success();
    assert!(watch.wait(vm.hypervisor.limit()).success());
    vm.msb(["top"]).run().failed_saying(&["terminal"]);
}

fn top(vm: &Vm) {
    project(vm, &[]);
    vm.msb(["run", "-d", "app", "--", "sleep", "4321"]).run().success();
    let mut terminal = vm.msb(["top", "--interval", "100ms"]).terminal(24, 100);
    terminal.expect("sleep 4321");
    terminal.send("q");
    terminal.ends_with(0);
    terminal.assert_restored();
    vm.msb(["stop", "-t", "0s", "app"]).run().success();
}

/// A guest does not know how long it stood still.
fn clock_after_a_pause(vm: &Vm) {
    idle(vm);
    vm.msb(["pause", "app"]).run().success();
    // The pause itself is what is tested.
    std::thread::sleep(std::time::Duration::from_secs(3));
    vm.msb(["unpause", "app"]).run().success();
    let host = || std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let before = host();
    let guest: u64 = in_guest(vm, "date +%s").trim().parse().unwrap();
    let after = host();
    assert!((before.saturating_sub(2)..=after + 2).contains(&guest), "{before} {guest} {after}");
    vm.msb(["stop", "app"]).run().success();
}
