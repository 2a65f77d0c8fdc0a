//! What is around the main job: versions, help, completions, links, the doctor.

use std::time::Duration;

use msb_test_support::{TestEnv, Vm};

use crate::suite::{Suite, tests};

pub(crate) fn register(suite: &mut Suite) {
    tests!(suite, cli: version, help, help_of_every_command, tree, completions, names_complete, links, no_colour_on_pipes, output_closed_early);
    tests!(suite, vm: doctor, doctor_as_json, announces_emulation);
}

fn version(env: &TestEnv) {
    let finished = env.msb(["--version"]).run().success();
    assert!(finished.out().starts_with("msb ") && finished.err().is_empty(), "{finished}");
    assert!(finished.elapsed < Duration::from_millis(500), "{finished}");
}

fn help(env: &TestEnv) {
    for name in ["msb", "msr", "msx", "msi"] {
        env.program(name).arg("--help").run().success().stdout_has("Usage:").stdout_has("Examples:");
    }
    env.msb::<[&str; 0]>([]).run().code(2).stdout_is("").stderr_has("Usage:");
}

fn help_of_every_command(env: &TestEnv) {
    let commands = [
        "init",
        "add",
        "remove",
        "list",
        "run",
        "shell",
        "exe",
        "install",
        "uninstall",
        "pull",
        "load",
        "login",
        "logout",
        "save",
        "push",
        "tag",
        "df",
        "doctor",
    ];
    for command in commands {
        env.msb([command, "--help"]).run().success().stdout_has("Usage:");
    }
}

fn completions(env: &TestEnv) {
    for (shell, word) in [("bash", "complete "), ("zsh", "#compdef msb"), ("fish", "--command msb")] {
        env.msb(["completion", shell]).run().success().stdout_has(word).stdout_has("MSB_COMPLETE");
    }
}

/// A shell that loads the script completes names.
fn names_complete(env: &TestEnv) {
    env.write(
        "Sandboxfile",
        "sandboxes:\n  web: {image: x, scripts: {test: y}}\n  worker: {image: x}\n  db: {image: x}\n",
    );
    let script = env.msb(["completion", "bash"]).run().success().out();
    env.write("completion.bash", script);
    let completes = |words: &str, wanted: &str| {
        let run = format!(
            "source ./completion.bash; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _clap_complete_msb msb \"${{COMP_WORDS[$COMP_CWORD]}}\" x; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        let shown = env.program("bash").args(["--norc", "-c", &run]).run().success().out();
        let mut shown: Vec<&str> = shown.lines().collect();
        shown.sort_unstable();
        assert_eq!(shown.join(" "), wanted, "{words}");
    };
    for verb in
        ["stop", "start", "logs", "exec", "attach", "inspect", "up", "down", "rm", "wait", "restart", "ps"]
    {
        completes(&format!("msb {verb} w"), "web worker");
    }
    completes("msb stop db we", "web");
    completes("msb run web", "web web~test");
    completes("msb cp d", "db:");
    completes("msb vol", "volume");
    completes("msb up --det", "--detach");
    // A file with a mistake is no reason to write into the user's line.
    env.write("Sandboxfile", "sandboxes: [");
    completes("msb stop w", "");
}

/// `msb self link` makes the three short names, again and again, and takes no one else's file.
fn links(env: &TestEnv) {
    let folder = env.work().join("links");
    std::fs::create_dir(&folder).unwrap();
    for _ in 0..2 {
        env.msb(["self", "link", "--dir"]).arg(&folder).run().success();
    }
    for name in ["msr", "msx", "msi"] {
        env.program(folder.join(name)).arg("--version").run().success();
    }
    std::fs::remove_file(folder.join("msx")).unwrap();
    std::fs::write(folder.join("msx"), "someone else's").unwrap();
    env.msb(["self", "link", "--dir"]).arg(&folder).run().failed_saying(&["msx"]);
    assert_eq!(std::fs::read_to_string(folder.join("msx")).unwrap(), "someone else's");
}

fn no_colour_on_pipes(env: &TestEnv) {
    let finished = env.msb(["run", "--sandbox", "nothing"]).run().code(125);
    assert!(!finished.err().contains('\u{1b}'), "{finished}");
    let mut terminal = env.msb(["run", "--sandbox", "nothing"]).env("NO_COLOR", "1").terminal(24, 80);
    terminal.ends_with(125);
    assert!(!terminal.shown().contains('\u{1b}'), "{:?}", terminal.shown());
}

/// `msb --help | true` is no error to report.
fn output_closed_early(env: &TestEnv) {
    let mut running = env.msb(["completion", "bash"]).spawn();
    drop(running.stdout());
    running.wait(Duration::from_secs(10));
    let errors = running.errors();
    assert!(!errors.contains("panicked"), "{errors}");
}

fn doctor(vm: &Vm) {
    let finished = vm.msb(["doctor"]).run().success();
    for word in ["kvm", "kernel", vm.hypervisor.name(), "disk"] {
        assert!(finished.out().to_lowercase().contains(word), "{word}\n{finished}");
    }
    // Nothing can run: the answer is no, with the reason.
    let run = vm.msb(["doctor"]).env("MSB_VMM", "qemu").env("PATH", vm.bin());
    run.run().code(1).stdout_has("qemu");
    vm.msb(["doctor"]).env("MSB_KERNEL", "/no/such/vmlinux").run().code(1).stdout_has("/no/such/vmlinux");
}

fn doctor_as_json(vm: &Vm) {
    let json = vm.msb(["doctor", "--format", "json"]).run().success().json();
    let names: Vec<_> = json.as_array().unwrap().iter().filter_map(|check| check["name"].as_str()).collect();
    assert!(names.contains(&"KVM") && names.contains(&"guest kernel"), "{json}");
}

/// Where the automatic choice falls on software emulation, that is said once with the reason, on stderr.
fn announces_emulation(vm: &Vm) {
    let finished = vm
        .sh("echo out")
        .env("MSB_VMM", "auto")
        .env("MSB_KVM_PROBE", "")
        .env("MSB_KERNEL", std::env::var("MSB_TEST_KERNEL").unwrap());
    let finished = finished.limit(Duration::from_secs(90)).run().success().stdout_is("out\n");
    let lines = finished.err().lines().filter(|line| line.to_lowercase().contains("emulat")).count();
    let native = msb_test_support::Hypervisor::Krun.availability().is_ok_and(|machine| !machine.skip_probe);
    assert_eq!(lines, usize::from(!native), "{finished}");
}

fn tree(env: &TestEnv) {
    let tree = env.msb(["--tree"]).run().success().out();
    for line in ["msb ", "├── init ", "├── image ", "│   ├── ls ", "└── completion "]
    {
        assert!(tree.lines().any(|shown| shown.starts_with(line)), "{line}\n{tree}");
    }
    env.msb::<[&str; 0]>([]).run().code(2).stderr_has("Usage");
    env.msb(["--quiet"]).run().code(2).stderr_has("no command");
}
