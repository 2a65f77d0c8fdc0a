//! What an image's configuration says is what its command gets.

use msb_test_support::{Images, Vm};
use nix::sys::signal::Signal;

use crate::suite::{Suite, tests};

pub(crate) fn register(suite: &mut Suite) {
    tests!(suite, vm: everything_at_once, entrypoint_and_cmd, cmd, working_dir, numeric_users, user_and_group_names, unknown_user);
    tests!(suite, vm: stop_signal, user_flag_overrides, missing_workdir);
    tests!(suite, vm: tree_is_what_umoci_unpacks);
}

fn msx(vm: &Vm, image: &str) -> msb_test_support::Msb {
    vm.program("msx").arg(vm.image(image))
}

/// ENTRYPOINT, CMD, ENV with spaces, quotes and UTF-8, WORKDIR, USER by name with supplementary groups.
fn everything_at_once(vm: &Vm) {
    let wanted = |args: &str| {
        // The kernel keeps a process's groups sorted.
        format!(
            "arg=/entry.sh\narg=fixed\n{args}cwd=/home/app/wörk dir\nid=uid=1000(app) gid=1000(app) \
             groups=29(audio),1000(app),2000(extra)\nHOME=/home/app\n\
             PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nGREETING=grüß dich, wörld\nQUOTES=a\"b'c $HOME\nEMPTY=\n"
        )
    };
    msx(vm, "tricky").run().success().stdout_is(wanted("arg=one\narg=two words\n"));
    msx(vm, "tricky").args(["--", "three"]).run().success().stdout_is(wanted("arg=three\n"));
}

fn entrypoint_and_cmd(vm: &Vm) {
    msx(vm, "config:entrypoint").run().success().stdout_is("[a b][c]");
    msx(vm, "config:entrypoint").args(["--", "x", ""]).run().success().stdout_is("[x][]");
    msx(vm, "config:entrypoint").args(["-e", "echo", "--", "x"]).run().success().stdout_is("x\n");
}

fn cmd(vm: &Vm) {
    msx(vm, "config:cmd").run().success().stdout_is("from CMD");
    msx(vm, "config:cmd").args(["--", "echo", "instead"]).run().success().stdout_is("instead\n");
}

fn working_dir(vm: &Vm) {
    msx(vm, "config:workdir").args(["--", "pwd"]).run().success().stdout_is("/home/app\n");
    msx(vm, "config:workdir").args(["--workdir", "/etc", "--", "pwd"]).run().success().stdout_is("/etc\n");
}

/// A number that passwd knows gets its groups, with a group of its own only that.
fn numeric_users(vm: &Vm) {
    let script = ["--", "sh", "-c", "id -u; id -g; id -G; echo $HOME"];
    msx(vm, "config:uid").args(script).run().success().stdout_is("1000\n1000\n1000 29 2000\n/home/app\n");
    msx(vm, "config:uid-gid").args(script).run().success().stdout_is("1000\n2000\n2000\n/home/app\n");
    let run = msx(vm, "busybox").args(["--user", "12345:54321"]).args(script).run();
    run.success().stdout_is("12345\n54321\n54321\n/\n");
}

fn user_and_group_names(vm: &Vm) {
    msx(vm, "config:names")
        .args(["--", "id"])
        .run()
        .success()
        .stdout_is("uid=65534(nobody) gid=100(users) groups=100(users)\n");
}

fn unknown_user(vm: &Vm) {
    msx(vm, "config:unknown-user").args(["--", "id"]).run().failed_saying(&["ghost"]);
    msx(vm, "busybox").args(["--user", "app:ghosts", "--", "id"]).run().failed_saying(&["ghosts"]);
}

fn user_flag_overrides(vm: &Vm) {
    msx(vm, "config:uid").args(["--user", "root", "--", "id", "-u"]).run().success().stdout_is("0\n");
}

fn missing_workdir(vm: &Vm) {
    msx(vm, "busybox")
        .args(["--workdir", "/no/such/folder", "--", "true"])
        .run()
        .failed_saying(&["/no/such/folder"]);
}

/// When msb is asked to end, the command gets the signal its image wants.
fn stop_signal(vm: &Vm) {
    let script = "trap 'echo usr1; exit 3' USR1; trap 'echo term; exit 4' TERM; echo ready; while :; do sleep 0.1; done";
    let mut running = msx(vm, "config:stopsignal").args(["--", "sh", "-c", script]).spawn();
    running.expect("ready\n");
    running.signal(Signal::SIGTERM);
    running.expect("usr1\n");
    assert_eq!(running.wait(vm.hypervisor.limit()).code(), Some(3));
}

/// Whiteouts, opaque folders, hard links, symlinks, xattrs, capabilities, modes, devices, odd names, times, owners: all of the image whose
/// layers hold everything that is easy to get wrong.
fn tree_is_what_umoci_unpacks(vm: &Vm) {
    // The agent makes /etc/hosts where an image has none, and says in /etc/resolv.conf who answers names.
    let skipped = ["/dev", "/proc", "/sys", "/run", "/tmp", "/.msb", "/etc/hosts", "/etc/resolv.conf"];
    let run = msx(vm, "tricky:tree").args(["--", "python3", "-B", "-", "/"]).args(skipped);
    let guest = run.stdin(Images::lister()).run().success().out();
    let wanted = vm.images().tricky_tree();
    let differences: Vec<String> = differences(&wanted, &guest);
    assert!(
        differences.is_empty(),
        "{} lines differ:\n{}",
        differences.len(),
        differences[..differences.len().min(40)].join("\n")
    );
}

/// Lines of one text that are not in the other, marked as in a diff and sorted by path.
pub(crate) fn differences(wanted: &str, got: &str) -> Vec<String> {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
    let (wanted, got) = (lines(wanted), lines(got));
    let missing = wanted.difference(&got).map(|line| format!("{line}\n  - wanted"));
    let extra = got.difference(&wanted).map(|line| format!("{line}\n  + got"));
    let mut all: Vec<String> = missing.chain(extra).collect();
    all.sort();
    all
}
