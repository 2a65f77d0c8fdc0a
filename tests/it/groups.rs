//! Groups: sandboxes that reach each other by name, and nobody else.

use msb_test_support::{Process, Vm, wait_until};
use nix::sys::signal::Signal;

use crate::suite::{Suite, tests};

pub(crate) fn register(suite: &mut Suite) {
    tests!(suite, vm: of_a_project, of_the_user, datagrams, named_and_numbered);
}

const SERVER: &str = "mkdir -p /www; echo served > /www/index.html; exec httpd -f -p 80 -h /www";

/// Finds `host` by name, and fetches its page, with the programs of the test image that work in it.
const FETCH: &str = "case $1 in *[a-z]*) set -- $(nslookup $1 | sed -n 's/^Address: //p');; esac
    : ${1:?no such name}; printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 20 $1 80 | grep served";

/// Asks `host` in the running sandbox `name`; gives what comes, or how it ends.
fn ask(vm: &Vm, name: &str, host: &str) -> Result<String, String> {
    let done = vm.msb(["exec", name, "--", "sh", "-c", FETCH, "sh", host]).run();
    if done.exit_code() == Some(0) { Ok(done.out()) } else { Err(done.err()) }
}

fn serves(vm: &Vm, name: &str, host: &str) {
    wait_until(vm.hypervisor.limit(), "the other sandbox serves", || {
        ask(vm, name, host).is_ok_and(|answer| answer == "served\n")
    });
}

/// The supervisor of the sandbox `name`.
fn supervisor(vm: &Vm, name: &str) -> Process {
    let pid =
        vm.msb(["status", name, "--format", "json"]).run().success().json()[0]["supervisor_pid"].clone();
    Process::find(pid.as_i64().and_then(|pid| i32::try_from(pid).ok()).unwrap()).unwrap()
}

/// Brought up in order, they find each other by name; whoever is not in the group finds and reaches nobody. Who is killed cannot
/// be reached, and is when it has come back, at the same address.
fn of_a_project(vm: &Vm) {
    let image = vm.image("busybox");
    let one = |name: &str, rest: &str| format!("  {name}:\n    image: {image}\n    memory: 128\n{rest}");
    let command = format!("    command: [sh, -c, '{SERVER}']\n");
    let idle = "    idle: true\n";
    vm.write(
        "Sandboxfile",
        [
            "sandboxes:\n",
            &one("web", &format!("{idle}    groups: [back]\n    depends_on: [db]\n    scope: group\n")),
            &one("db", &format!("{command}    groups: {{back: {{network: {{hostname: store}}}}}}\n")),
            &one("stranger", idle),
        ]
        .concat(),
    );
    vm.msb(["up", "--detach"]).run().success();
    for name in ["db", "store", "db.back"] {
        serves(vm, "web", name);
    }
    let places = vm.msb(["status", "db", "--format", "json"]).run().success().json()[0]["groups"].clone();
    let address = places[0]["address"].as_str().unwrap().to_owned();
    assert_eq!(places[0]["group"], "back");
    // It knows itself by that address, and so do others.
    vm.msb(["exec", "db", "--", "hostname", "-i"]).run().success().stdout_has(&address);
    vm.msb(["exec", "web", "--", "ping", "-c", "1", "db"]).run().success().stdout_has(&address);
    vm.msb(["exec", "web", "--", "nc", "-w", "5", &address, "81"]).run().code(1).stderr_has("refused");
    vm.msb(["net", "explain", "web", "tcp://db:80"])
        .run()
        .success()
        .stdout_has("allowed")
        .stdout_has(&address);
    vm.msb(["net", "explain", "db", "tcp://web:80", "--from"]).run().success().stdout_has("allowed");
    assert!(ask(vm, "stranger", "db").is_err());
    assert!(ask(vm, "stranger", &address).is_err());
    supervisor(vm, "db").signal(Signal::SIGKILL);
    wait_until(vm.hypervisor.limit(), "nobody is there", || {
        let call = vm.msb(["exec", "web", "--", "nc", "-w", "5", &address, "80"]).run();
        call.err().contains("unreachable") || call.err().contains("No route")
    });
    vm.msb(["start", "db"]).run().success();
    serves(vm, "web", &address);
    vm.msb(["down", "-t", "0s"]).run().success();
}

/// Outside of projects, with somebody who comes later and with a throw-away run; the group goes with its last member.
fn of_the_user(vm: &Vm) {
    let image = vm.image("busybox");
    let create = |name: &str, more: &[&str]| {
        vm.msb(["create", "--name", name, "--memory", "128", "--group", "team"]).args(more).run().success();
        vm.msb(["start", name]).run().success();
    };
    create("first", &["--idle", &image]);
    assert!(ask(vm, "first", "late").is_err());
    create("late", &[&image, "--", "sh", "-c", SERVER]);
    serves(vm, "first", "late");
    let fetch = ["--", "sh", "-c", FETCH, "sh", "late.team"];
    let run = |group: &str| {
        vm.msb(["run", "--image", "--group", group, "--memory", "128", &image]).args(fetch).run()
    };
    run("team").success().stdout_is("served\n");
    assert_ne!(run("other").exit_code(), Some(0));
    vm.msb(["rm", "-f", "first", "late"]).run().success();
    assert!(!vm.home().join("data/groups/1").exists());
}

/// By UDP, under the group's names and addresses, of any length; where nobody listens, that is heard.
fn datagrams(vm: &Vm) {
    let image = vm.image("python");
    let create = |name: &str, more: &[&str]| {
        vm.msb(["create", "--name", name, "--group", "team"]).args(more).run().success();
        vm.msb(["start", name]).run().success();
    };
    let server = "
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(('0.0.0.0', 9000))
while True:
    question, client = server.recvfrom(65536)
    server.sendto(client[0].encode() + b' ' + question, client)
";
    create("echo", &[&image, "--", "python3", "-c", server]);
    create("asks", &["--idle", &image]);
    let client = "
import socket
own = socket.gethostbyname(socket.gethostname())
peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
peer.settimeout(60)
peer.connect((socket.gethostbyname('echo'), 9000))
while True:
    try:
        peer.send(b'first')
        assert peer.recv(65536) == own.encode() + b' first'
        break
    except ConnectionRefusedError:
        pass
for size in (0, 1, 1500, 60000):
    peer.send(b'x' * size)
    print(len(peer.recv(65536)) - len(own))
nobody = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
nobody.settimeout(60)
nobody.connect((socket.gethostbyname('echo'), 9001))
try:
    nobody.send(b'x')
    nobody.recv(1)
except ConnectionRefusedError:
    print('refused')
";
    let run = vm.msb(["exec", "asks", "--", "python3", "-c", client]).run();
    run.success().stdout_is("1\n2\n1501\n60001\nrefused\n");
    vm.msb(["rm", "-f", "echo", "asks"]).run().success();
}

/// What is asked for is had, or refused by name.
fn named_and_numbered(vm: &Vm) {
    let file = |ip: &str| {
        format!(
            "groups:\n  back: {{network: {{subnet: 10.213.7.0/24}}}}\nsandboxes:\n  app:\n    image: {}\n    \
             memory: 128\n    groups: {{back: {{network: {{ip: {ip}}}}}}}\n",
            vm.image("busybox")
        )
    };
    vm.write("Sandboxfile", file("10.213.7.10"));
    let own = vm.msb(["run", "app", "--", "ip", "-4", "addr", "show", "eth0"]).run().success();
    own.stdout_has("10.213.7.10/24");
    vm.write("Sandboxfile", file("10.213.8.10"));
    vm.msb(["run", "app", "--", "true"]).run().failed_saying(&["10.213.8.10", "10.213.7.0/24"]);
    vm.msb(["run", "--image", "--group", "no/name", &vm.image("busybox")])
        .run()
        .code(2)
        .stderr_has("--group");
}
