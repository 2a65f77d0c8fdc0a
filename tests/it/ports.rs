//! Ports of sandboxes that are published on the host.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;

use msb_test_support::{Vm, wait_until};

use crate::suite::{Suite, tests};

pub(crate) fn register(suite: &mut Suite) {
    tests!(suite, vm: published, of_loopback, taken, named_by_the_sandboxfile, an_attached_run_says_where_its_ports_are);
}

/// A web server on all addresses, and one on the sandbox's loopback alone.
const SERVERS: &str = "mkdir -p /www; echo served > /www/index.html
    httpd -p 127.0.0.1:8080 -h /www; exec httpd -f -p 80 -h /www";

/// Where `port` of the sandbox is on the host.
fn address(vm: &Vm, name: &str, port: &str) -> String {
    let all = vm.msb(["port", name, port]).run().success().out();
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
    let addresses = [address(vm, "web", "80"), address(vm, "web", "8080")];
    assert!(addresses.iter().all(|address| address.starts_with("127.0.0.1:")), "{addresses:?}");
    for address in &addresses {
        serves(vm, address);
    }
    vm.msb(["port", "web", "81"]).run().failed_saying(&["81"]);
    vm.msb(["stop", "-t", "0s", "web"]).run().success();
    assert!(addresses.iter().all(|address| TcpStream::connect(address).is_err()));
}

/// By TCP on ::1, and by UDP on either loopback.
const LOOPBACK: &str = "
import socket, threading
def serve(family, kind, address, port):
    server = socket.socket(family, kind)
    server.bind((address, port))
    if kind == socket.SOCK_STREAM:
        server.listen()
    while kind == socket.SOCK_STREAM:
        client, _ = server.accept()
        client.recv(100)
        client.sendall(b'served\\n')
        client.close()
    while True:
        question, client = server.recvfrom(65536)
        server.sendto(question + b'!', client)
for place in (
    (socket.AF_INET6, socket.SOCK_STREAM, '::1', 8081),
    (socket.AF_INET, socket.SOCK_DGRAM, '127.0.0.1', 9001),
    (socket.AF_INET6, socket.SOCK_DGRAM, '::1', 9002),
):
    threading.Thread(target=serve, args=place).start()
";

/// Servers on the sandbox's loopback alone. What is not served is refused at once.
fn of_loopback(vm: &Vm) {
    let image = vm.image("python");
    let ports = ["-p", "0:8081", "-p", "0:9001/udp", "-p", "0:9002/udp", "-p", "0:8082"];
    let create = vm.msb(["create", "--name", "web"]).args(ports);
    create.args([&image, "--", "python3", "-c", LOOPBACK]).run().success();
    vm.msb(["start", "web"]).run().success();
    serves(vm, &address(vm, "web", "8081"));
    for port in ["9001/udp", "9002/udp"] {
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        client.connect(address(vm, "web", port)).unwrap();
        for question in [&b"short"[..], &[b'x'; 20_000]] {
            let mut answer = vec![0; 65_536];
            wait_until(vm.hypervisor.limit(), "the sandbox answers", || {
                client.send(question).unwrap();
                client.recv(&mut answer).is_ok_and(|length| answer[..length] == [question, b"!"].concat())
            });
        }
    }
    assert_eq!(get(&address(vm, "web", "8082")), None);
    vm.msb(["rm", "-f", "web"]).run().success();
}

/// Who has a port is named, and the other one goes on.
fn taken(vm: &Vm) {
    let image = vm.image("busybox");
    vm.msb(["create", "--name", "one", "-p", "0:80", &image, "--", "sh", "-c", SERVERS]).run().success();
    vm.msb(["start", "one"]).run().success();
    let here = address(vm, "one", "80");
    let port = here.rsplit(':').next().unwrap();
    vm.program("msx")
        .args([&image, "-p", &format!("{port}:80"), "--", "true"])
        .run()
        .failed_saying(&[port, "in use by sandbox `one`"]);
    // A sandbox that was made to be started and could not be leaves its name free.
    let published = format!("{port}:80");
    for _ in 0..2 {
        vm.msb(["run", "-d", "--name", "two", "-p", &published, &image, "--", "true"])
            .run()
            .failed_saying(&[port, "in use by sandbox `one`"]);
    }
    vm.msb(["inspect", "two"]).run().failed_saying(&["there is no sandbox `two`"]);
    serves(vm, &here);
    vm.msb(["rm", "-f", "one"]).run().success();
}

fn named_by_the_sandboxfile(vm: &Vm) {
    let lines = ["    ports: [\"0:80\"]\n", "    scope: none\n"].concat();
    vm.write("Sandboxfile", format!("sandboxes:\n  app:\n    image: {}\n{lines}", vm.image("busybox")));
    vm.msb(["run", "-d", "app", "--", "sh", "-c", SERVERS]).run().success();
    serves(vm, &address(vm, "app", "80"));
    // The scope is about what it may reach by itself: not even its own port on the host.
    let here = address(vm, "app", "80").replace("127.0.0.1", "http://192.0.0.1");
    let refused = vm.msb(["exec", "app", "--", "wget", "-q", "-O", "-", &here]).run();
    assert_ne!(refused.exit_code(), Some(0), "{refused}");
    vm.msb(["stop", "-t", "0s", "app"]).run().success();
}

/// Nobody could ask for it by a name.
fn an_attached_run_says_where_its_ports_are(vm: &Vm) {
    vm.msb(["run", "--image", "-p", "0:80", &vm.image("busybox"), "--", "true"])
        .run()
        .success()
        .stderr_has("note: port 80/tcp is published at 127.0.0.1:");
}
