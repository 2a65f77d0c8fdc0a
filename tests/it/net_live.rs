//! Changing what a sandbox may reach while it runs.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use msb_test_support::{Vm, wait_until};

use crate::suite::{Suite, tests};

pub(crate) fn register(suite: &mut Suite) {
    tests!(suite, vm: a_revoked_host_is_cut, a_change_lasts_as_long_as_it_says, a_change_lasts_through_restarts, apply_changes_rules_without_a_restart, changes_at_once_all_last);
}

fn shown(vm: &Vm, name: &str) -> String {
    vm.msb(["net", "show", name]).run().success().out()
}

/// An open connection ends at once when its host is denied; allowed again, it can be reached again.
fn a_revoked_host_is_cut(vm: &Vm) {
    vm.write("Sandboxfile", format!("sandboxes:\n  app:\n    image: {}\n", vm.image("busybox")));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    vm.msb(["run", "-d", "app", "--", "sleep", "1000"]).run().success();
    let connect = format!("nc -w 5 192.0.0.1 {port} < /dev/null");
    let refused = vm.msb(["exec", "app", "--", "sh", "-c", &connect]).run();
    assert_ne!(refused.exit_code(), Some(0), "{refused}");
    vm.msb(["net", "set", "app", "--allow", "host"])
        .run()
        .success()
        .stderr_has("until the sandbox is stopped");
    assert_eq!(shown(vm, "app"), "allow host\nscope public\n");
    vm.msb(["net", "explain", "app", &format!("host:{port}")]).run().stdout_has("rule 1, `allow host`");
    let open = format!("(echo open; sleep 1000) | nc 192.0.0.1 {port}");
    vm.msb(["exec", "-d", "app", "--", "sh", "-c", &open]).run().success();
    let (mut client, _) = listener.accept().unwrap();
    client.read_exact(&mut [0; 5]).unwrap();
    vm.msb(["net", "set", "app", "--deny", &format!("tcp://host:{port}")]).run().success();
    // Cut, not closed in order.
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(shown(vm, "app"), format!("deny tcp://host:{port}\nallow host\nscope public\n"));
    wait_until(vm.hypervisor.limit(), "the cut is recorded", || {
        vm.msb(["events", "app"]).run().success().out().contains("verdict=revoked")
    });
    vm.msb(["net", "set", "app", "--remove", &format!("deny tcp://host:{port}")]).run().success();
    let server = std::thread::spawn(move || listener.accept().unwrap().0.write_all(b"again\n"));
    vm.msb(["exec", "app", "--", "sh", "-c", &format!("nc 192.0.0.1 {port} < /dev/null")])
        .run()
        .success()
        .stdout_is("again\n");
    server.join().unwrap().unwrap();
    vm.msb(["net", "set", "app", "--remove", "deny lan"])
        .run()
        .failed_saying(&["`deny lan` is not a rule", "net show"]);
    let nothing = vm.msb(["net", "set", "app"]).run().stderr_has("nothing to change");
    assert_eq!(nothing.exit_code(), Some(2), "{nothing}");
    vm.msb(["stop", "-t", "0s", "app"]).run().success();
    vm.msb(["net", "set", "app", "--scope", "any"]).run().failed_saying(&["not running"]);
}

/// Of a project's sandbox, until it is stopped; of one that was created, for good.
fn a_change_lasts_as_long_as_it_says(vm: &Vm) {
    let image = vm.image("busybox");
    vm.write("Sandboxfile", format!("sandboxes:\n  app:\n    image: {image}\n    scope: group\n"));
    vm.msb(["create", "--name", "own", &image, "--", "sleep", "1000"]).run().success();
    vm.msb(["run", "-d", "app", "--", "sleep", "1000"]).run().success();
    vm.msb(["start", "own"]).run().success();
    for name in ["app", "own"] {
        vm.msb(["net", "set", name, "--scope", "any", "--deny", "lan"]).run().success();
        assert_eq!(shown(vm, name), "deny lan\nscope any\n");
        vm.msb(["stop", "-t", "0s", name]).run().success();
    }
    assert_eq!([shown(vm, "app"), shown(vm, "own")], ["scope group\n", "deny lan\nscope any\n"]);
    vm.msb(["start", "own"]).run().success();
    assert_eq!(shown(vm, "own"), "deny lan\nscope any\n");
    vm.msb(["rm", "-f", "own"]).run().success();
}

/// Through one that is asked for, and one of the restart policy; the gateway of the new machine goes by it as well.
fn a_change_lasts_through_restarts(vm: &Vm) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connect = format!("nc -w 20 192.0.0.1 {} < /dev/null", listener.local_addr().unwrap().port());
    // Who has come is let go at once.
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let image = vm.image("busybox");
    let start = "scripts: {start: 'sleep 1000; exit 1'}";
    vm.write("Sandboxfile", format!("sandboxes:\n  app:\n    image: {image}\n    {start}\n"));
    vm.msb(["run", "-d", "--restart", "on-failure", "app"]).run().success();
    let reaches = || vm.msb(["exec", "app", "--", "sh", "-c", &connect]).run().exit_code() == Some(0);
    assert!(!reaches());
    vm.msb(["net", "set", "app", "--allow", "host"]).run().success();
    // The machine may be gone before it can say how that ended.
    let _ = vm.msb(["exec", "app", "--", "sh", "-c", "kill -9 $(pidof sleep)"]).run();
    wait_until(vm.hypervisor.limit(), "it runs again", || {
        let rows = vm.msb(["status", "app", "--format", "json"]).run().success().json();
        rows[0]["restarts"] == 1 && rows[0]["state"] == "running"
    });
    assert!(reaches());
    let restart = || vm.msb(["restart", "-t", "0s", "app"]).run().success();
    for _ in 0..2 {
        restart().stderr_has("msb net set app --reset");
        assert_eq!(shown(vm, "app"), "allow host\nscope public\n");
    }
    assert!(reaches());
    vm.msb(["net", "set", "app", "--reset"]).run().success();
    let quiet = restart();
    assert!(!quiet.err().contains("--reset"), "{quiet}");
    assert!(!reaches());
    vm.msb(["stop", "-t", "0s", "app"]).run().success();
}

/// Also back to what the file says, where it was changed by hand.
fn apply_changes_rules_without_a_restart(vm: &Vm) {
    let image = vm.image("busybox");
    let file = |more: &str| {
        format!(
            "sandboxes:\n  app:\n    image: {image}\n    command: [sleep, \"1000\"]\n    network:\n      - allow 10.0.0.5\n{more}"
        )
    };
    vm.write("Sandboxfile", file(""));
    vm.msb(["up", "-d"]).run().success();
    let started = || {
        let rows = vm.msb(["ps", "--format", "json"]).run().success().out();
        let rows: serde_json::Value = serde_json::from_str(&rows).unwrap();
        rows[0]["started"].clone()
    };
    let before = started();
    vm.write("Sandboxfile", file("      - deny lan\n"));
    vm.msb(["apply"]).run().success().stdout_has("update").stdout_has("changed: network");
    assert_eq!(shown(vm, "app"), "allow 10.0.0.5\ndeny lan\nscope public\n");
    vm.msb(["net", "set", "app", "--deny", "any"]).run().success();
    vm.msb(["apply"]).run().success().stdout_has("update");
    assert_eq!(shown(vm, "app"), "allow 10.0.0.5\ndeny lan\nscope public\n");
    vm.msb(["apply"]).run().success().stdout_has("keep");
    assert_eq!(started(), before);
    vm.msb(["down"]).run().success();
}

fn changes_at_once_all_last(vm: &Vm) {
    vm.msb(["run", "-d", "--image", "--name", "app", "--idle", &vm.image("busybox")]).run().success();
    let hosts: Vec<String> = (1..=8).map(|last| format!("10.0.0.{last}")).collect();
    std::thread::scope(|scope| {
        for host in &hosts {
            scope.spawn(|| vm.msb(["net", "set", "app", "--deny", host]).run().success());
        }
    });
    let shown = shown(vm, "app");
    assert!(hosts.iter().all(|host| shown.contains(&format!("deny {host}\n"))), "{shown}");
}
