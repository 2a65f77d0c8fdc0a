//! Registries that want to know who asks, have certificates of their own, or stand in for another.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use msb_test_support::{Door, Registry, TestEnv};

use crate::suite::{Suite, tests};

pub(crate) fn register(suite: &mut Suite) {
    tests!(suite, registry: login_and_logout, login_asks_on_a_terminal, login_wants_a_way_to_the_password, login_of_other_tools);
    tests!(suite, registry: login_with_a_helper, own_authority, any_certificate, mirror, default_registry, several_images);
    tests!(suite, registry: platform_and_policy, progress_in_plain_lines, proxy);
}

const GUARDED: Door = Door { password: true, tls: false };

fn configure(env: &TestEnv, text: &str) {
    std::fs::create_dir_all(env.home().join("config")).unwrap();
    std::fs::write(env.home().join("config/config.toml"), text).unwrap();
}

fn docker_config(env: &TestEnv) -> PathBuf {
    env.user_home().join(".docker/config.json")
}

fn login(env: &TestEnv, registry: &Registry, password: &str) -> msb_test_support::Msb {
    env.msb(["login", registry.address(), "-u", Door::USER, "--password-stdin"])
        .stdin(format!("{password}\n"))
}

fn login_and_logout(env: &TestEnv) {
    let registry = env.guarded_registry(GUARDED);
    let image = registry.image("busybox");
    let refused =
        env.msb(["pull", &image]).run().failed_saying(&["busybox", "needs a login", "msb login 127.0.0.1"]);
    assert!(!refused.err().contains("docker login"), "{refused}");

    login(env, &registry, "hunter2").run().failed_saying(&["does not accept"]).stderr_lacks("hunter2");
    assert!(!docker_config(env).exists(), "what is wrong is not kept");

    std::fs::create_dir(env.user_home().join(".docker")).unwrap();
    std::fs::write(
        docker_config(env),
        r#"{"HttpHeaders": {"X": "y"}, "auths": {"other.example": {"auth": "eDp5"}}}"#,
    )
    .unwrap();
    let done = login(env, &registry, Door::PASSWORD).run().success().stdout_is("");
    assert!(done.err().contains("config.json") && !done.err().contains(Door::PASSWORD), "{done}");
    assert_eq!(std::fs::metadata(docker_config(env)).unwrap().permissions().mode() & 0o777, 0o600);
    let kept: serde_json::Value =
        serde_json::from_slice(&std::fs::read(docker_config(env)).unwrap()).unwrap();
    assert_eq!(
        (&kept["HttpHeaders"]["X"], &kept["auths"]["other.example"]["auth"]),
        (&"y".into(), &"eDp5".into())
    );
    env.msb(["pull", &image]).run().success();
    // Other tools find it as well.
    let mut skopeo = Command::new("skopeo");
    skopeo.args(["inspect", "--tls-verify=false", "--authfile"]).arg(docker_config(env));
    assert!(skopeo.arg(format!("docker://{image}")).output().unwrap().status.success());

    env.msb(["logout", registry.address()]).run().success().stderr_has("config.json");
    env.msb(["logout", registry.address()]).run().success().stderr_has("nothing was stored");
    env.msb(["pull", &image]).run().failed_saying(&["needs a login"]);
    let kept: serde_json::Value =
        serde_json::from_slice(&std::fs::read(docker_config(env)).unwrap()).unwrap();
    assert!(kept["auths"]["other.example"].is_object(), "{kept}");
}

/// The password does not show, can be corrected, and Ctrl-C leaves a terminal that works.
fn login_asks_on_a_terminal(env: &TestEnv) {
    let registry = env.guarded_registry(GUARDED);
    let mut terminal = env.msb(["login", registry.address()]).terminal(24, 100);
    terminal.expect("User name for 127.0.0.1");
    terminal.send("user\r");
    terminal.expect("Password of user: ");
    terminal.expect_raw();
    terminal.send("wrong\x15pass wordx\x7f\r");
    terminal.expect("Logged in");
    terminal.ends_with(0);
    assert!(!terminal.shown().contains("pass word"), "{}", terminal.shown());
    env.msb(["pull", &registry.image("busybox")]).run().success();

    let mut terminal = env.msb(["login", registry.address(), "-u", "user"]).terminal(24, 100);
    terminal.expect("Password of user: ");
    terminal.expect_raw();
    terminal.send("pas\x03");
    terminal.ends_with(128 + 2);
}

fn login_wants_a_way_to_the_password(env: &TestEnv) {
    let registry = env.guarded_registry(GUARDED);
    env.msb(["login", registry.address(), "-u", "user"])
        .run()
        .failed_saying(&["no terminal", "--password-stdin"]);
    env.msb(["login", registry.address(), "--password-stdin"]).run().code(2);
    login(env, &registry, "").run().failed_saying(&["must not be empty"]);
    // A password is no argument: whoever lists processes would see it.
    env.msb(["login", registry.address(), "-u", "user", "-p", "x"]).run().code(2);
    env.msb(["login", "http://127.0.0.1:1", "-u", "user"]).run().code(2).stderr_has("leave out `http://`");
    drop(registry);
}

/// What skopeo, podman or docker stored is used.
fn login_of_other_tools(env: &TestEnv) {
    let registry = env.guarded_registry(GUARDED);
    let file = env.work().join("auth.json");
    let mut skopeo = Command::new("skopeo");
    skopeo.args(["login", "--tls-verify=false", "-u", Door::USER, "-p", Door::PASSWORD, "--authfile"]);
    let output = skopeo.arg(&file).arg(registry.address()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let image = registry.image("busybox");
    env.msb(["pull", &image]).run().failed_saying(&["needs a login"]);
    env.msb(["pull", &image]).env("REGISTRY_AUTH_FILE", &file).run().success();
    let run_time = env.work().join("run/containers");
    std::fs::create_dir_all(&run_time).unwrap();
    std::fs::copy(&file, run_time.join("auth.json")).unwrap();
    env.msb(["pull", &image]).env("XDG_RUNTIME_DIR", env.work().join("run")).run().success();
}

/// With a credential store the password is given to its program and to no file.
fn login_with_a_helper(env: &TestEnv) {
    let registry = env.guarded_registry(GUARDED);
    let (program, kept) = (env.bin().join("docker-credential-test"), env.work().join("kept"));
    let script = format!(
        "#!/bin/sh\ncase $1 in store) cat > {0};; erase) read key; rm {0};;\n\
         get) read key; cat {0} 2> /dev/null || {{ echo credentials not found in native keychain; exit 1; }};; esac\n",
        kept.display()
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::create_dir(env.user_home().join(".docker")).unwrap();
    std::fs::write(docker_config(env), r#"{"credsStore": "test"}"#).unwrap();
    login(env, &registry, Door::PASSWORD).run().success().stderr_has("docker-credential-test");
    assert!(std::fs::read_to_string(&kept).unwrap().contains(Door::PASSWORD));
    assert!(!std::fs::read_to_string(docker_config(env)).unwrap().contains("auth\""));
    env.msb(["pull", &registry.image("busybox")]).run().success();
    env.msb(["logout", registry.address()]).run().success();
    assert!(!kept.exists());
    // One that answers nonsense is named, and asked no more than it has to be.
    std::fs::write(&program, "#!/bin/sh\necho hunter2\n").unwrap();
    let finished = env.msb(["pull", &registry.image("busybox")]).run();
    finished.failed_saying(&["docker-credential-test", "no credential"]).stderr_lacks("hunter2");
    env.msb(["pull", &env.image("busybox")]).run().success().stderr_lacks("docker-credential-test");
}

fn own_authority(env: &TestEnv) {
    let registry = env.guarded_registry(Door { password: true, tls: true });
    let image = registry.image("busybox");
    configure(env, &format!("[registry.\"{}\"]\nplain-http = false\n", registry.address()));
    let finished = env.msb(["pull", &image]).run();
    finished.failed_saying(&["no secure connection", "ca = "]);
    login(env, &registry, Door::PASSWORD).run().failed_saying(&["no secure connection"]);
    assert!(!docker_config(env).exists());
    configure(env, &format!("[registry.\"{}\"]\nca = {:?}\n", registry.address(), registry.authority()));
    env.msb(["pull", &image]).run().failed_saying(&["needs a login"]);
    login(env, &registry, Door::PASSWORD).run().success();
    env.msb(["pull", &image]).run().success();
}

fn any_certificate(env: &TestEnv) {
    let registry = env.guarded_registry(Door { password: false, tls: true });
    configure(env, &format!("[registry.\"{}\"]\ninsecure = true\n", registry.address()));
    env.msb(["pull", &registry.image("busybox")]).run().success();
}

/// A mirror stands in for a registry that is not there at all; its images have that registry's name.
fn mirror(env: &TestEnv) {
    let registry = env.own_registry();
    let mirrors = format!("mirrors = [\"127.0.0.1:1\", \"{}\"]", registry.address());
    configure(env, &format!("[registry.\"registry.invalid\"]\n{mirrors}\n"));
    let finished = env.msb(["pull", "registry.invalid/busybox"]).run().success();
    assert!(
        finished.err().contains("cannot connect to 127.0.0.1:1") && finished.err().contains("going on with"),
        "{finished}"
    );
    env.msb(["image", "ls"]).run().success().stdout_has("registry.invalid/busybox:latest");
}

fn default_registry(env: &TestEnv) {
    let registry = env.own_registry();
    configure(env, &format!("default-registry = \"{}\"\n", registry.address()));
    env.msb(["pull", "busybox"]).run().success();
    env.msb(["image", "ls"]).run().success().stdout_has(&registry.image("busybox"));
    drop(registry);
    env.msb(["pull", "--policy", "never", "busybox"]).run().success();
}

fn several_images(env: &TestEnv) {
    let registry = env.own_registry();
    let names = ["busybox", "python:3.11", "config:cmd", "busybox:zstd"];
    let images: Vec<String> = names.iter().map(|name| registry.image(name)).collect();
    let digests = [("busybox", "latest"), ("python", "3.11"), ("config", "cmd"), ("busybox", "zstd")];
    let wanted: String = digests.iter().map(|(name, tag)| registry.digest(name, tag) + "\n").collect();
    env.msb(["pull"]).args(&images).run().success().stdout_is(wanted);
    // Those that are there are got, and those that are not are named.
    let missing = [registry.image("busybox:none"), images[0].clone(), registry.image("config:none")];
    let finished = env.msb(["pull"]).args(&missing).run().code(125);
    let finished = finished.stdout_is(registry.digest("busybox", "latest") + "\n");
    assert!(finished.err().contains("busybox:none") && finished.err().contains("config:none"), "{finished}");
    let quiet = env.msb(["pull", "--quiet", &images[0]]).run().success();
    assert_eq!((quiet.out(), quiet.err()), (registry.digest("busybox", "latest") + "\n", String::new()));
}

fn platform_and_policy(env: &TestEnv) {
    let registry = env.own_registry();
    let image = registry.image("busybox:multi");
    env.msb(["pull", "--policy", "never", &image])
        .run()
        .failed_saying(&["is not on this machine", "msb pull"]);
    env.msb(["pull", "--platform", "linux/m68k", &image]).run().failed_saying(&["linux/m68k", "it offers"]);
    env.msb(["pull", "--platform", "nonsense/x/y/z", &image]).run().code(2);
    env.msb(["pull", "--policy", "missing", &image]).run().success();
    drop(registry);
    for policy in ["missing", "never"] {
        env.msb(["pull", "--policy", policy, &image]).run().success();
    }
    env.msb(["pull", &image]).run().failed_saying(&["connect"]);
    // For another platform it is not here.
    let other = ["pull", "--platform", "linux/m68k", "--policy", "never", &image];
    env.msb(other).run().failed_saying(&["is not on this machine"]);
}

/// Without a terminal each layer is a line when it is done.
fn progress_in_plain_lines(env: &TestEnv) {
    let first = env.msb(["pull", &env.image("python")]).run().success();
    assert!(!first.err().contains('\r') && first.err().contains(" done, "), "{first}");
    let again = env.msb(["pull", &env.image("python")]).run().success();
    assert!(again.err().contains(" already here") && !again.err().contains(" done, "), "{again}");
    let mut terminal = env.msb(["pull", &env.image("tricky")]).terminal(40, 120);
    terminal.expect("Pulled");
    terminal.ends_with(0);
}

/// A registry is asked by way of the proxy of the environment unless that is for others, or the registry is on this machine. A registry
/// can be a proxy for itself.
fn proxy(env: &TestEnv) {
    let registry = env.own_registry();
    let proxy = format!("http://{}", registry.address());
    configure(env, "[registry.\"registry.invalid\"]\nplain-http = true\n");
    let pull = |image: &str| env.msb(["pull", image]).env("HTTP_PROXY", &proxy).env("http_proxy", &proxy);
    pull("registry.invalid/busybox")
        .env("NO_PROXY", "registry.invalid")
        .run()
        .failed_saying(&["cannot connect"]);
    pull("registry.invalid/busybox").run().success();
    let gone = "http://127.0.0.1:1";
    let local = env.msb(["pull", &registry.image("busybox")]).env("HTTP_PROXY", gone).env("ALL_PROXY", gone);
    local.env("http_proxy", gone).run().success();
}
