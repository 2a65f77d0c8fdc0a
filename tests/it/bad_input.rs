//! Wrong input gives one clear message, a hint, and 125, or 2 for wrong usage.

use msb_test_support::{TestEnv, Vm};

use crate::suite::{Suite, tests};

pub(crate) fn register(suite: &mut Suite) {
    tests!(suite, cli: no_sandboxfile, broken_yaml, unknown_key, later_key, wrong_values, unknown_sandbox, unknown_script);
    tests!(suite, cli: wrong_usage, memory_out_of_range, broken_config, unwritable_home);
    tests!(suite, vm: kernel_missing, kernel_of_another_kind, no_qemu, bad_vmm_name);
    tests!(suite, registry_as_root: no_permission_on_kvm);
}

fn no_sandboxfile(env: &TestEnv) {
    env.msb(["add", "x", "--image", "y"]).run().failed_saying(&["no Sandboxfile", "msb init"]);
    env.msb(["run", "--sandbox", "app"]).run().failed_saying(&["no Sandboxfile", "msb init"]);
    env.msb(["remove", "app"]).run().failed_saying(&["no Sandboxfile"]);
    env.msb(["shell", "app"]).run().failed_saying(&["no Sandboxfile"]);
    env.msb(["run", "app~test"]).run().failed_saying(&["no Sandboxfile"]);
    env.msb(["run", "app", "-f", "/nowhere/Sandboxfile"]).run().failed_saying(&["/nowhere/Sandboxfile"]);
}

/// The line is shown with its number and the place in it.
fn broken_yaml(env: &TestEnv) {
    env.write("Sandboxfile", "sandboxes:\n  app:\n\timage: x\n");
    env.msb(["list"]).run().failed_saying(&["Sandboxfile:3", "image: x"]);
    env.write("Sandboxfile", "sandboxes:\n  app:\n    image: [x\n    memory: 1\n");
    env.msb(["run", "app"]).run().failed_saying(&["Sandboxfile:"]);
    env.write("Sandboxfile", "sandboxes:\n  app:\n    image: a\n  app:\n    image: b\n");
    env.msb(["list"]).run().failed_saying(&["app", "twice", "Sandboxfile:4"]);
    env.write("Sandboxfile", b"sandboxes:\n  \xFF: x\n");
    env.msb(["list"]).run().failed_saying(&["UTF-8"]);
}

fn unknown_key(env: &TestEnv) {
    env.write("Sandboxfile", "sandboxes:\n  app:\n    image: python\n    memroy: 512\n");
    let finished = env.msb(["run", "app"]).run();
    finished.failed_saying(&[
        "unknown key",
        "memroy",
        "Sandboxfile:4:5",
        "memroy: 512",
        "did you mean `memory`",
    ]);
    env.write("Sandboxfile", "sandbox:\n  app: {image: x}\n");
    env.msb(["list"]).run().failed_saying(&["sandbox", "Sandboxfile:1:1", "sandboxes"]);
}

/// Keys of the format that this version does not have are not taken in silence.
fn later_key(env: &TestEnv) {
    for key in ["builds", "init"] {
        env.write("Sandboxfile", format!("sandboxes:\n  app:\n    image: python\n    {key}: [x]\n"));
        env.msb(["list"]).run().failed_saying(&[key, "Sandboxfile:4"]);
    }
}

fn wrong_values(env: &TestEnv) {
    for (line, word) in [
        ("memory: lots", "memory"),
        ("memory: 0", "memory"),
        ("cpus: 0", "cpus"),
        ("cpus: many", "cpus"),
        ("envs: [NOVALUE]", "envs"),
        ("workdir: relative", "workdir"),
        ("scripts: {'bad/name': x}", "bad/name"),
        ("disk: 1K", "disk"),
        ("command: 'a b'", "command"),
    ] {
        env.write("Sandboxfile", format!("sandboxes:\n  app:\n    image: python\n    {line}\n"));
        env.msb(["list"]).run().failed_saying(&[word, "Sandboxfile:4"]);
    }
    env.write("Sandboxfile", "sandboxes:\n  app:\n    memory: 512\n");
    env.msb(["list"]).run().failed_saying(&["image", "app"]);
}

fn unknown_sandbox(env: &TestEnv) {
    env.write("Sandboxfile", "sandboxes:\n  website: {image: python}\n  database: {image: python}\n");
    env.msb(["run", "--sandbox", "webiste"]).run().failed_saying(&["webiste", "did you mean `website`"]);
    env.msb(["shell", "webiste"]).run().failed_saying(&["webiste", "website"]);
    env.msb(["remove", "databse"]).run().failed_saying(&["databse", "database"]);
    env.msb(["uninstall", "nothing"]).run().failed_saying(&["nothing"]);
}

fn unknown_script(env: &TestEnv) {
    env.write("Sandboxfile", "sandboxes:\n  app: {image: python, scripts: {start: x, test: y}}\n");
    env.program("msr").arg("app~tset").run().failed_saying(&["tset", "did you mean `test`"]);
}

fn wrong_usage(env: &TestEnv) {
    for words in [
        &["no-such-command"][..],
        &["run"],
        &["add", "x"],
        &["pull"],
        &["exe", "x", "--no-such-flag"],
        &["exe", "x", "--cpus", "0"],
        &["exe", "x", "--cpus", "1000"],
        &["exe", "x", "--vmm", "xen"],
        &["list", "--format", "xml"],
    ] {
        let finished = env.msb(words).run().code(2).stdout_is("");
        assert!(finished.err().starts_with("error:"), "{finished}");
    }
    env.msb(["lst"]).run().code(2).stderr_has("list");
}

fn memory_out_of_range(env: &TestEnv) {
    for memory in ["0", "1", "999999999", "-1", "x", "99999999999999999999"] {
        let finished =
            env.msb(["exe", "no-such-image"]).arg(format!("--memory={memory}")).run().stdout_is("");
        assert!(matches!(finished.exit_code(), Some(2 | 125)), "{finished}");
        assert!(finished.err().contains("memory"), "{finished}");
    }
}

fn broken_config(env: &TestEnv) {
    std::fs::create_dir_all(env.home().join("config")).unwrap();
    std::fs::write(env.home().join("config/config.toml"), "vmm = \"xen\"\n").unwrap();
    env.msb(["doctor"]).run().failed_saying(&["config.toml", "xen"]);
    std::fs::write(env.home().join("config/config.toml"), "no_such_setting = 1\n").unwrap();
    env.msb(["doctor"]).run().failed_saying(&["config.toml", "no_such_setting"]);
    let registry = "[registry.\"registry.example\"]\nmirrors = [\"https://mirror.example\"]\n";
    std::fs::write(env.home().join("config/config.toml"), registry).unwrap();
    env.msb(["doctor"]).run().failed_saying(&["config.toml", "line 2", "leave out `https://`"]);
}

fn unwritable_home(env: &TestEnv) {
    env.msb(["pull", "127.0.0.1:1/x"])
        .env("MSB_HOME", "/proc/nowhere")
        .run()
        .failed_saying(&["/proc/nowhere"]);
}

fn kernel_missing(vm: &Vm) {
    vm.sh("true").env("MSB_KERNEL", "/no/such/vmlinux").run().failed_saying(&["kernel", "/no/such/vmlinux"]);
}

fn kernel_of_another_kind(vm: &Vm) {
    let file = vm.write("vmlinux", "#!/bin/sh\n");
    vm.sh("true").env("MSB_KERNEL", file).run().failed_saying(&["kernel", "ELF"]);
}

fn no_qemu(vm: &Vm) {
    let run = vm.sh("true").env("MSB_VMM", "qemu").env("PATH", vm.bin());
    run.run().failed_saying(&["qemu-system-x86", "install"]);
}

fn bad_vmm_name(vm: &Vm) {
    let finished = vm.sh("true").env("MSB_VMM", "xen").run().stdout_is("").stderr_has("xen");
    assert!(matches!(finished.exit_code(), Some(2 | 125)), "{finished}");
}

/// `/dev/kvm` may be opened by its group alone; even root without its capabilities is refused.
fn no_permission_on_kvm(env: &TestEnv) {
    let device = env.root().join("kvm");
    let script = "mknod \"$1\" c 10 232 && chmod 000 \"$1\" && touch /dev/kvm && mount --bind \"$1\" /dev/kvm && \
                  exec setpriv --bounding-set=-all --inh-caps=-all --ambient-caps=-all msb doctor";
    let run = env.program("unshare").args(["-m", "sh", "-c", script, "sh"]).arg(&device);
    let finished = run.run();
    assert!(
        finished.out().contains("may not open /dev/kvm") && finished.out().contains("group"),
        "{finished}"
    );
}
