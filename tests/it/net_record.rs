//! The record of what sandboxes reached and what they were kept from.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use msb_test_support::{Vm, wait_until};
use serde_json::Value;

use crate::suite::{Suite, tests};

pub(crate) fn register(suite: &mut Suite) {
    tests!(suite, vm: denials_are_recorded, connections_are_recorded_when_asked_for);
}

/// The events of the sandbox `app` of this kind.
fn events(vm: &Vm, kind: &str) -> Vec<Value> {
    let all = vm.msb(["events", "app", "--format", "json"]).run().success().out();
    let events = all.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.filter(|event| event["event"] == kind).map(|event| event["details"].clone()).collect()
}

/// By address and by name, each once per second at most, however often it is tried.
fn denials_are_recorded(vm: &Vm) {
    vm.write("Sandboxfile", format!("sandboxes:\n  app:\n    image: {}\n", vm.image("busybox")));
    vm.msb(["run", "-d", "app", "--", "sleep", "1000"]).run().success();
    let script = "for i in 1 2 3 4 5 6 7 8 9; do nc -w 60 10.1.2.3 22 < /dev/null; done; nslookup host.msb.internal; true";
    vm.msb(["exec", "app", "--", "sh", "-c", script]).run().success();
    wait_until(vm.hypervisor.limit(), "the denials are recorded", || {
        let denied = events(vm, "net-denied");
        let times = |of: &dyn Fn(&Value) -> bool| -> u64 {
            denied.iter().filter(|event| of(event)).map(|event| event["times"].as_u64().unwrap()).sum()
        };
        times(&|event| event["address"] == "10.1.2.3") >= 9
            && times(&|event| event["name"] == "host.msb.internal") > 0
    });
    let denied = events(vm, "net-denied");
    let first = &denied[0];
    assert_eq!(
        (&first["protocol"], &first["port"], &first["scope"]),
        (&"tcp".into(), &22.into(), &"public".into())
    );
    let reason = "scope `public`, which does not reach private networks (lan)";
    assert_eq!(first["reason"], reason);
    vm.msb(["events", "app"]).run().stdout_has("app net-denied address=10.1.2.3");
    let metrics = vm.msb(["stats", "app", "--format", "json"]).run().success().out();
    let metrics: Value = serde_json::from_str(&metrics).unwrap();
    assert!(metrics[0]["traffic"]["denied"].as_u64().unwrap() >= 10, "{metrics}");
    vm.msb(["stop", "-t", "0s", "app"]).run().success();
}

/// With the name that led there, and the bytes each way; what is still open when the sandbox ends is recorded then.
fn connections_are_recorded_when_asked_for(vm: &Vm) {
    let lines = "    network: {rules: [allow host], log: true}\n";
    vm.write("Sandboxfile", format!("sandboxes:\n  app:\n    image: {}\n{lines}", vm.image("busybox")));
    let listener = TcpListener::bind("[::1]:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut first, _) = listener.accept().unwrap();
        first.read_exact(&mut [0; 6]).unwrap();
        first.write_all(b"answered\n").unwrap();
        drop(first);
        let (mut second, _) = listener.accept().unwrap();
        second.read_exact(&mut [0; 5]).unwrap();
        // Until the sandbox has gone.
        let _ = second.read(&mut [0]);
    });
    let script = format!(
        "echo asked | nc host.msb.internal {port}; (echo open; sleep 1000) | nc host.msb.internal {port} & sleep 1000"
    );
    vm.msb(["run", "-d", "app", "--", "sh", "-c", &script]).run().success();
    wait_until(vm.hypervisor.limit(), "the first connection is recorded", || {
        !events(vm, "net-connection").is_empty()
    });
    wait_until(vm.hypervisor.limit(), "the second connection is there", || {
        let metrics = vm.msb(["stats", "app", "--format", "json"]).run().success().out();
        let metrics: Value = serde_json::from_str(&metrics).unwrap();
        metrics[0]["traffic"]["sent_bytes"] == 11
    });
    vm.msb(["stop", "-t", "0s", "app"]).run().success();
    server.join().unwrap();
    let connections = events(vm, "net-connection");
    let bytes: Vec<_> =
        connections.iter().map(|one| (one["sent"].clone(), one["received"].clone())).collect();
    assert_eq!(bytes, [(6.into(), 9.into()), (5.into(), 0.into())], "{connections:?}");
    assert_eq!(connections[0]["names"], serde_json::json!(["host.msb.internal"]));
    assert_eq!(
        (&connections[0]["verdict"], &connections[0]["rule"]),
        (&"allowed".into(), &"allow host".into())
    );
}
