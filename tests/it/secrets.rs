//! Secrets that reach their hosts and never the sandbox.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, LazyLock};

use aho_corasick::AhoCorasick;
use msb_test_support::{Msb, Process, TestEnv, Vm, wait_until};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::suite::{Suite, tests};

pub(crate) fn register(suite: &mut Suite) {
    tests!(suite, vm: a_value_reaches_its_host_alone, what_heads_elsewhere_is_refused, the_disk_keeps_its_authorities);
    suite.vm_needing(&KEYRING, concat!(module_path!(), "::a_value_of_the_keyring"), a_value_of_the_keyring);
    tests!(suite, vm_as_root: a_value_is_nowhere_else);
    tests!(suite, cli: sources_that_are_missing, secrets_of_no_use, flags, added_to_a_file);
}

/// A keyring that is not the user's.
const KEYRING: [&str; 3] = ["dbus-run-session", "gnome-keyring-daemon", "secret-tool"];
const HOST: &str = "host.msb.internal";
/// Never an argument of anything, and in no file: made of two halves by whoever looks for it.
const HALVES: [&str; 2] = ["vaJ8t-never-in", "-the-sandbox-Q2x"];

fn value() -> String {
    HALVES.concat()
}

/// A server of the host with a certificate for [`HOST`], which hands over what it hears.
struct Server {
    port: u16,
    heads: Receiver<String>,
    /// The file of its authority.
    authority: std::path::PathBuf,
}

impl Server {
    fn new(env: &TestEnv) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = env.write("authority.pem", params.self_signed(&key).unwrap().pem());
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec![HOST.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = config.with_no_client_auth().with_single_cert(vec![leaf.der().clone()], key).unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, heads) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut reader = BufReader::new(StreamOwned::new(connection, stream.unwrap()));
                let mut head = String::new();
                // Whoever only looks says nothing.
                while !head.ends_with("\r\n\r\n") && matches!(reader.read_line(&mut head), Ok(1..)) {}
                let answer = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nheard\n";
                if head.ends_with("\r\n\r\n") && reader.get_mut().write_all(answer.as_bytes()).is_ok() {
                    let _ = reader.get_mut().flush();
                    let _ = sender.send(head);
                }
            }
        });
        Self { port, heads, authority }
    }

    /// What msb is given so that it trusts this server and knows the value.
    fn trusted(&self, msb: Msb) -> Msb {
        msb.env("SSL_CERT_FILE", &self.authority).env("TEST_VALUE", value())
    }

    fn url(&self) -> String {
        format!("https://{HOST}:{}/", self.port)
    }
}

fn a_value_reaches_its_host_alone(vm: &Vm) {
    let server = Server::new(vm);
    let script = format!("echo $KEY; curl -sS -H \"X-Key: $KEY\" -u me:$KEY {}", server.url());
    let secret = format!("KEY=env:TEST_VALUE@{HOST}");
    let msx = vm.program("msx").args(["--scope", "any", "--secret", &secret]);
    let ran = server.trusted(msx).arg(vm.image("clients")).args(["--", "sh", "-c", &script]).run().success();
    let (placeholder, rest) = ran.out().split_once('\n').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    assert!(placeholder.starts_with("msbsecret") && rest == "heard\n", "{placeholder} {rest}");
    let head = server.heads.recv().unwrap();
    assert!(head.contains(&format!("X-Key: {}\r\n", value())), "{head}");
    let basic = format!("Authorization: Basic {}\r\n", base64(&format!("me:{}", value())));
    assert!(head.contains(&basic), "{head}");
}

/// As in the session of a desktop; and what is said where it is locked, or is not there.
fn a_value_of_the_keyring(vm: &Vm) {
    let server = Server::new(vm);
    let in_guest = format!("curl -sS -H \"X-Key: $KEY\" {}", server.url());
    let secret = format!("KEY=keyring:the-service/me@{HOST}");
    let run = vm.write(
        "session.sh",
        format!(
            "printf '\\n' | gnome-keyring-daemon --foreground --unlock --components=secrets > keyring.log 2>&1 &\n\
             until printf '%s%s' {} {} | secret-tool store --label=x service the-service username me 2> /dev/null; do sleep 0.1; done\n\
             msx --scope any --secret '{secret}' \"$1\" -- sh -c '{in_guest}'\n\
             msx --scope any --secret 'KEY=keyring:the-service/you@{HOST}' \"$1\" -- true\n\
             kill $!\n",
            HALVES[0], HALVES[1]
        ),
    );
    let session = vm.program("dbus-run-session").args(["--", "sh"]).arg(run).arg(vm.image("clients"));
    let session = session.env("XDG_RUNTIME_DIR", vm.tmp()).env("SSL_CERT_FILE", &server.authority).run();
    assert_eq!(session.out(), "heard\n", "{}", session.err());
    let hint = "secret-tool store --label=the-service service the-service username you";
    session.stderr_has("the keyring's entry the-service/you: there is no such entry").stderr_has(hint);
    let head = server.heads.recv().unwrap();
    assert!(head.contains(&format!("X-Key: {}\r\n", value())), "{head}");
    let outside = vm.program("msx").args(["--secret", &secret]).arg(vm.image("clients")).args(["--", "true"]);
    outside.run().failed_saying(&["no keyring answers: ", "dbus-run-session", "`file`"]);
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// Languages with certificates of their own trust the authority as well.
fn what_heads_elsewhere_is_refused(vm: &Vm) {
    let server = Server::new(vm);
    let url = server.url();
    let python = "import os, sys, urllib.request, urllib.error\n\
        def ask(url, **more):\n  \
          try: return urllib.request.urlopen(urllib.request.Request(url, **more)).read().decode()\n  \
          except urllib.error.HTTPError as error: return f'{error.code} {error.read().decode()}'\n\
        url, key, other = sys.argv[1], os.environ['KEY'], os.environ['OTHER']\n\
        print(ask(url, headers={'X': key}))\n\
        print(ask(url, headers={'X': other}))\n\
        print(ask(url + '?k=' + key))\n\
        print(ask(url, data=key.encode()))\n";
    let secrets = [format!("KEY=env:TEST_VALUE@{HOST}"), "OTHER=env:TEST_VALUE@other.example".to_owned()];
    let msx = vm.program("msx").args(["--scope", "any", "--secret", &secrets[0], "--secret", &secrets[1]]);
    let ran = server
        .trusted(msx)
        .arg(vm.image("clients"))
        .args(["--", "python3", "-c", python, &url])
        .run()
        .success();
    let out = ran.out();
    assert!(out.starts_with("heard\n"), "{out}");
    assert!(
        out.contains(
            "403 msb: the secret `OTHER` is not for host.msb.internal\nhint: it is for other.example"
        ),
        "{out}"
    );
    assert!(
        out.contains("403 msb: the secret `KEY` may not be sent to host.msb.internal in the query"),
        "{out}"
    );
    assert!(out.contains("in the body of a request\nhint: if it belongs there, add `body`"), "{out}");
    assert!(!out.contains(&value()));
    assert!(server.heads.recv().unwrap().contains(&format!("X: {}\r\n", value())));
}

/// In the memory of the machine, on disks, in logs and state, and in what the system shows of processes.
fn a_value_is_nowhere_else(vm: &Vm) {
    let server = Server::new(vm);
    vm.write(
        "Sandboxfile",
        format!(
            "sandboxes:\n  app:\n    image: {}\n    scope: any\n    memory: 256\n    command: [sh, -c, 'echo $KEY; exec sleep 1000']\n    \
             secrets:\n      KEY: {{from: {{env: TEST_VALUE}}, hosts: {HOST}}}\n",
            vm.image("clients")
        ),
    );
    server.trusted(vm.msb(["start", "app"])).run().success();
    let script = format!("curl -sS -H \"X-Key: $KEY\" {}; env; cat /proc/1/environ", server.url());
    let ran = vm.msb(["exec", "app", "--", "sh", "-c", &script]).run().success();
    ran.stdout_has("heard").stdout_has("KEY=msbsecret");
    assert!(server.heads.recv().unwrap().contains(&value()));
    let wrong = format!("curl -sS {}?k=$KEY", server.url());
    vm.msb(["exec", "app", "--", "sh", "-c", &wrong]).run().success().stdout_has("in the query of a request");
    wait_until(vm.hypervisor.limit(), "the refusal is an event", || {
        let events = vm.msb(["events", "app"]).run().success().out();
        events.contains("net-secret") && events.contains("may not be sent to host.msb.internal in the query")
    });
    let inspected = vm.msb(["inspect", "app"]).run().success().stdout_has("TEST_VALUE");
    assert!(!inspected.out().contains(&value()));
    let processes = Process::of_home(&vm.home());
    let supervisor =
        processes.iter().find(|process| process.command_line().contains("msb-supervisor")).unwrap();
    let vmm = supervisor.descendants().into_iter().find(Process::is_vmm).unwrap();
    for process in [supervisor, &vmm] {
        for file in ["cmdline", "environ"] {
            let text = fs::read(format!("/proc/{}/{file}", process.pid)).unwrap();
            assert!(!contains(&text), "{file} of {}", process.command_line());
        }
    }
    let limits = fs::read_to_string(format!("/proc/{}/limits", supervisor.pid)).unwrap();
    assert!(
        limits.lines().any(|line| line.starts_with("Max core file size") && line.contains(" 0 ")),
        "{limits}"
    );
    assert!(!memory_contains(vmm.pid), "the machine's memory");
    // The search finds what is there.
    assert!(memory_contains(supervisor.pid), "the supervisor's memory");
    vm.msb(["stop", "app"]).run().success();
    for folder in [vm.home(), vm.work()] {
        assert_eq!(file_with_value(&folder), None);
    }
}

fn contains(bytes: &[u8]) -> bool {
    static FINDER: LazyLock<AhoCorasick> = LazyLock::new(|| AhoCorasick::new([value()]).unwrap());
    FINDER.is_match(bytes)
}

/// Whether the memory of a process has the value in it.
fn memory_contains(pid: i32) -> bool {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let mut memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut piece = vec![0; 1 << 20];
    for line in maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|mode| mode.starts_with("rw")))
    {
        let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let [start, end] = [start, end].map(|text| u64::from_str_radix(text, 16).unwrap());
        let mut at = start;
        while at < end {
            let length = (end - at).min(piece.len() as u64) as usize;
            // Devices cannot be read so.
            if memory.seek(SeekFrom::Start(at)).is_err() || memory.read_exact(&mut piece[..length]).is_err() {
                break;
            }
            if contains(&piece[..length]) {
                return true;
            }
            // Pieces overlap, so that nothing is lost between them.
            at += if at + length as u64 == end { length as u64 } else { length as u64 - 64 };
        }
    }
    false
}

/// A file below `folder` that has the value in it. The images, which all tests share, are not looked through.
fn file_with_value(folder: &std::path::Path) -> Option<std::path::PathBuf> {
    let files = walkdir::WalkDir::new(folder).into_iter().filter_map(Result::ok);
    let files = files.filter(|entry| entry.file_type().is_file());
    files.map(walkdir::DirEntry::into_path).find(|path| fs::read(path).is_ok_and(|bytes| contains(&bytes)))
}

/// What programs look at has one authority more, and the disk does not.
fn the_disk_keeps_its_authorities(vm: &Vm) {
    vm.write(
        "Sandboxfile",
        format!(
            "sandboxes:\n  app:\n    image: {}\n    memory: 256\n    envs: [CURL_CA_BUNDLE=/own]\n    secrets:\n      KEY: \
             {{from: {{command: [echo, xyz]}}, hosts: [api.example.com]}}\n",
            vm.image("clients")
        ),
    );
    let count = "grep -c BEGIN /etc/ssl/certs/ca-certificates.crt; grep -c BEGIN \"$SSL_CERT_FILE\"; echo $CURL_CA_BUNDLE; \
        grep -c BEGIN $NODE_EXTRA_CA_CERTS";
    let with = vm.msb(["run", "app", "-e", "sh", "--", "-c", count]).run().success().out();
    let text = vm.read("Sandboxfile");
    vm.write("Sandboxfile", text.split("    secrets:").next().unwrap());
    let without = vm.msb([
        "run",
        "app",
        "-e",
        "sh",
        "--",
        "-c",
        "grep -c BEGIN /etc/ssl/certs/ca-certificates.crt; env",
    ]);
    let without = without.run().success().out();
    let before: usize = without.lines().next().unwrap().parse().unwrap();
    assert_eq!(with, format!("{0}\n{0}\n/own\n1\n", before + 1));
    assert!(!without.contains("SSL_CERT_FILE") && !without.contains("KEY="), "{without}");
    let changed = vm.msb(["diff", "app"]).run().success().out();
    assert!(!changed.contains("/etc/ssl"), "{changed}");
}

fn with_secret(env: &TestEnv, secret: &str) {
    env.write(
        "Sandboxfile",
        format!("sandboxes:\n  app:\n    image: x\n    secrets:\n      KEY: {secret}\n"),
    );
}

fn sources_that_are_missing(env: &TestEnv) {
    for (from, said) in [
        (
            "env: NO_SUCH",
            ["`KEY` cannot be read from the variable NO_SUCH: it is not set", "export NO_SUCH="],
        ),
        ("file: ./none", ["`KEY` cannot be read from the file ./none: No such file", "source"]),
        (
            "command: [sh, -c, exit 7]",
            ["from the command `sh -c exit 7`: it ended with exit status: 7", "yourself"],
        ),
        ("command: [no-such-program]", ["from the command `no-such-program`: No such file", "source"]),
        ("keyring: service/account", ["the keyring's entry service/account", "secret-tool"]),
    ] {
        with_secret(env, &format!("{{from: {{{from}}}, hosts: a.example}}"));
        env.msb(["run", "app"]).run().failed_saying(&said);
    }
}

fn secrets_of_no_use(env: &TestEnv) {
    env.write("key", "1\n");
    let run = |more: &str| {
        with_secret(env, &format!("{{from: {{file: key}}, hosts: api.example.com}}\n    {more}"));
        env.msb(["run", "app"]).run()
    };
    run("scope: none").failed_saying(&[
        "`KEY` is for api.example.com",
        "scope is `none`",
        "allow api.example.com:443",
    ]);
    run("network: [deny api.example.com]")
        .failed_saying(&["rule 1, `deny api.example.com`, keeps it from there"]);
    env.msb(["run", "app", "--env", "KEY=1"]).run().failed_saying(&["`KEY` is set twice", "another name"]);
    for (secret, said) in [
        ("{hosts: []}", "is empty"),
        ("{hosts: '*'}", "would give it to everybody"),
        ("{hosts: https://a.example}", "more than a host name"),
        ("{hosts: a.example, in: cookie}", "`cookie` is no part of a request"),
        ("{hosts: a.example, from: {env: A, file: B}}", "one of `env`, `file`, `command` and `keyring`"),
        ("{hosts: a.example, value: x}", "value"),
    ] {
        with_secret(env, secret);
        env.msb(["list"]).run().failed_saying(&["Sandboxfile:5", said]);
    }
}

fn flags(env: &TestEnv) {
    let wrong = env.msb(["run", "x", "--secret", &format!("KEY={}@a.example", value())]).run();
    assert!(!wrong.err().contains(&value()), "{}", wrong.err());
    wrong
        .code(2)
        .stderr_has("--secret")
        .stderr_has("where the value is, never what it is")
        .stderr_has("env:VAR");
    let hosts = env.msb(["run", "x", "--secret", "KEY"]).run().code(2);
    hosts.stderr_has("names no hosts").stderr_has("API_KEY@api.example.com");
}

fn added_to_a_file(env: &TestEnv) {
    env.write("Sandboxfile", "sandboxes:\n");
    let secrets =
        ["A@a.example", "B=file:./b@*.b.example,c.example:in=query,body", "C=command:pass show c@c.example"];
    let flags = secrets.iter().flat_map(|secret| ["--secret", secret]);
    env.msb(["add", "app", "--image", "x"]).args(flags).run().success();
    let file = env.read("Sandboxfile");
    assert!(file.contains("\n    secrets:\n"), "{file}");
    let shown =
        env.msb(["inspect", "app"]).run().success().json()[0]["definition"]["network"]["secrets"].clone();
    assert_eq!(shown[0]["from"]["env"], "A");
    assert_eq!(shown[1]["from"]["file"], "./b");
    assert_eq!(shown[1]["hosts"], serde_json::json!(["*.b.example", "c.example"]));
    assert_eq!(shown[1]["in"], serde_json::json!(["query", "body"]));
    assert_eq!(shown[2]["from"]["command"], serde_json::json!(["/bin/sh", "-c", "pass show c"]));
}
