//! Ports of sandboxes that are published on the host.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use msb_test_support::{Vm, wait_until};

use crate::suite::{Suite, tests};

pub(crate) fn register(suite: &mut Suite) {
    tests!(suite, vm: published, taken, named_by_the_sandboxfile);
}

/// A web server on all addresses, and one on the sandbox's loopback alone.
const SERVERS: &str = "mkdir -p /www; echo served > /www/index.html
    httpd -p 127.0.0.1:8080 -h /www; exec httpd -f -p 80 -h /www";

/// Where `port` of the sandbox is on the host.
fn address(vm: &Vm, name: &str, port: u16) -> String {
    let all = vm.msb(["port", name, &port.to_string()]).run().success().out();
    all.lines().next().unwrap().to_owned()
}

fn get(address: &str) -> Option<String> {
    let mut server = TcpStream::connect(address).ok()?;
    server.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    server.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn serves(vm: &Vm, address: &str) {
    wait_until(vm.hypervisor.limit(), "the sandbox serves", || {
        get(address).is_some_and(|answer| answer.ends_with("served\n"))
    });
}

/// On the host's loopback, whether the server listens everywhere or on the sandbox's loopback; and gone with the sandbox.
fn published(vm: &Vm) {
    let image = vm.image("busybox");
    let ports = ["create", "--name", "web", "-p", "0:80", "-p", "127.0.0.1:0:8080"];
    vm.msb(ports).args([&image, "--", "sh", "-c", SERVERS]).run().success();
    vm.msb(["port", "web"]).run().failed_saying(&["not running"]);
    vm.msb(["start", "web"]).run().success();
    let addresses = [address(vm, "web", 80), address(vm, "web", 8080)];
    assert!(addresses.iter().all(|address| address.starts_with("127.0.0.1:")), "{addresses:?}");
    for address in &addresses {
        serves(vm, address);
    }
    vm.msb(["port", "web", "81"]).run().failed_saying(&["81"]);
    vm.msb(["stop", "-t", "0s", "web"]).run().success();
    assert!(addresses.iter().all(|address| TcpStream::connect(address).is_err()));
}

/// Who has a port is named, and the other one goes on.
fn taken(vm: &Vm) {
    let image = vm.image("busybox");
    vm.msb(["create", "--name", "one", "-p", "0:80", &image, "--", "sh", "-c", SERVERS]).run().success();
    vm.msb(["start", "one"]).run().success();
    let here = address(vm, "one", 80);
    let port = here.rsplit(':').next().unwrap();
    vm.program("msx")
        .args([&image, "-p", &format!("{port}:80"), "--", "true"])
        .run()
        .failed_saying(&[port, "in use by msb"]);
    serves(vm, &here);
    vm.msb(["rm", "-f", "one"]).run().success();
}

fn named_by_the_sandboxfile(vm: &Vm) {
    let lines = ["    ports: [\"0:80\"]\n", "    scope: none\n"].concat();
    vm.write("Sandboxfile", format!("sandboxes:\n  app:\n    image: {}\n{lines}", vm.image("busybox")));
    vm.msb(["run", "-d", "app", "--", "sh", "-c", SERVERS]).run().success();
    serves(vm, &address(vm, "app", 80));
    // The scope is about what it may reach by itself.
    let refused =
        vm.msb(["exec", "app", "--", "wget", "-T", "5", "-q", "-O", "-", "http://192.0.0.1:1/"]).run();
    assert_ne!(refused.exit_code(), Some(0), "{refused}");
    vm.msb(["stop", "-t", "0s", "app"]).run().success();
}
