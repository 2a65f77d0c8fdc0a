//! Sandboxes on hosts whose network is not the usual one: none at all, IPv6 alone, a VPN. Each host is a network namespace.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use msb_test_support::{Msb, Vm};

use crate::suite::{Suite, tests};

pub(crate) fn register(suite: &mut Suite) {
    tests!(suite, vm_as_root: without_a_network, with_ipv6_alone, behind_a_vpn, on_a_routed_network);
}

fn ip(words: &str) {
    let status = Command::new("ip").args(words.split_whitespace()).status().unwrap();
    assert!(status.success(), "ip {words}");
}

/// A host, what it is connected to, and a server there.
struct Host {
    name: String,
    server: Option<Child>,
}

/// Sends every client on port 80 half a megabyte and a line.
const SERVER: &str = "
import socket, threading
listener = socket.create_server(('::', 80), family=socket.AF_INET6, dualstack_ipv6=True)
print('ready', flush=True)
while True:
    client, _ = listener.accept()
    threading.Thread(target=lambda: (client.sendall(b'x' * 500000 + b'\\nserved\\n'), client.close())).start()
";

impl Host {
    /// A host of which nothing is connected to anything.
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("msb-h{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        for end in ["h", "i"] {
            ip(&format!("netns add {name}{end}"));
            ip(&format!("-n {name}{end} link set lo up"));
        }
        let folder = format!("/etc/netns/{name}h");
        fs::create_dir_all(&folder).unwrap();
        fs::write(format!("{folder}/resolv.conf"), "").unwrap();
        Self { name, server: None }
    }

    /// Connects it by `link` with these addresses at its end and the other one.
    fn connect(&self, link: &str, ours: &str, theirs: &str) {
        let name = &self.name;
        ip(&format!("link add {link} netns {name}h type veth peer name {link} netns {name}i"));
        for (end, address) in [("h", ours), ("i", theirs)] {
            let nodad = if address.contains(':') { "nodad" } else { "" };
            ip(&format!("-n {name}{end} addr add {address} dev {link} {nodad}"));
            ip(&format!("-n {name}{end} link set {link} up"));
        }
    }

    fn ip(&self, end: &str, words: &str) {
        ip(&format!("-n {}{end} {words}", self.name));
    }

    fn serve(&mut self, end: &str) {
        let inside = ["netns", "exec", &format!("{}{end}", self.name), "python3", "-c", SERVER];
        let mut server = Command::new("ip").args(inside).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        self.server = Some(server);
    }

    fn program(&self, vm: &Vm, words: &[&str]) -> Msb {
        vm.program("ip").args(["netns", "exec", &format!("{}h", self.name)]).args(words)
    }

    fn sh(&self, vm: &Vm, script: &str) -> Msb {
        self.program(vm, &["msx", &vm.image("busybox"), "--", "sh", "-c", script])
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
        for end in ["h", "i"] {
            let _ = Command::new("ip").args(["netns", "del", &format!("{}{end}", self.name)]).status();
        }
        let _ = fs::remove_dir_all(format!("/etc/netns/{}h", self.name));
    }
}

/// A sandbox is told at once, and `explain` says whose fault it is.
fn without_a_network(vm: &Vm) {
    let host = Host::new();
    let script = "nc 93.184.216.34 80 < /dev/null; nc 2606:4700::80 80 < /dev/null; nslookup example.com > /dev/null || echo no name";
    host.sh(vm, script).run().success().stdout_is("no name\n").stderr_has("Network is unreachable");
    host.program(vm, &["msb", "net", "explain", "https://93.184.216.34"])
        .run()
        .success()
        .stdout_has("this machine has no route there");
    host.program(vm, &["msb", "net", "explain", "--format", "json", "https://93.184.216.34"])
        .run()
        .stdout_has("\n  \"allowed\": false");
}

fn with_ipv6_alone(vm: &Vm) {
    let mut host = Host::new();
    host.connect("v6", "2606:4700:2::2/64", "2606:4700:2::1/64");
    host.ip("h", "route add default via 2606:4700:2::1");
    host.ip("i", "addr add 2606:4700::80/128 dev lo nodad");
    host.serve("i");
    let script = "nc 2606:4700::80 80 < /dev/null | tail -n 1; nc 93.184.216.34 80 < /dev/null || echo no";
    host.sh(vm, script).run().success().stdout_is("served\nno\n").stderr_has("Network is unreachable");
    host.program(vm, &["msb", "net", "explain", "https://[2606:4700::80]"])
        .run()
        .success()
        .stdout_has("allowed");
}

/// All but the office's network goes through a tunnel with small packets; what is larger finds its way all the same.
fn behind_a_vpn(vm: &Vm) {
    let mut host = Host::new();
    host.connect("lan", "192.88.3.2/24", "192.88.3.1/24");
    host.connect("vpn", "10.99.0.2/24", "10.99.0.1/24");
    for end in ["h", "i"] {
        host.ip(end, "link set vpn mtu 1280");
    }
    host.ip("h", "route add default via 192.88.3.1 metric 100");
    host.ip("h", "route add default via 10.99.0.1 metric 50");
    host.ip("i", "addr add 93.184.216.34/32 dev lo");
    // What comes back by the other link is not what was asked for.
    host.ip("i", "route add blackhole 192.88.3.2");
    host.serve("i");
    let script = "nc 93.184.216.34 80 < /dev/null | wc -c; nc 10.99.0.1 80 < /dev/null || echo private";
    host.sh(vm, script).run().success().stdout_is("500008\nprivate\n");
}

/// What a route brings to this machine is this machine, as an address of a load balancer is.
fn on_a_routed_network(vm: &Vm) {
    let mut host = Host::new();
    host.ip("h", "route add local 34.1.2.0/24 dev lo");
    host.serve("h");
    let script = "nc 34.1.2.7 80 < /dev/null | tail -n 1";
    host.sh(vm, script).run().success().stdout_is("");
    let words = ["msx", "--scope", "any", &vm.image("busybox"), "--", "sh", "-c", script];
    host.program(vm, &words).run().success().stdout_is("served\n");
}
