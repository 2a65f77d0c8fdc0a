//! On a terminal the guest's command behaves as a local one, and the terminal is given back as it was.

use std::time::Duration;

use msb_test_support::{Terminal, Vm};
use nix::sys::signal::Signal;

use crate::suite::{Suite, tests};

pub(crate) fn register(suite: &mut Suite) {
    tests!(suite, vm: size_and_resize, interrupt_reaches_the_command, end_of_input, suspend_reaches_the_shell, raw_bytes);
    tests!(suite, vm: restored_after_failure, restored_when_the_vmm_dies, restored_when_terminated, no_terminal_on_pipes, tty_flags);
    tests!(suite, vm: shell_of_a_project, output_before_exit_is_complete);
}

/// `msx busybox`, whose command is a shell, at its prompt.
fn shell(vm: &Vm, rows: u16, columns: u16) -> Terminal {
    let mut terminal = vm.program("msx").arg(vm.image("busybox")).terminal(rows, columns);
    terminal.expect("# ");
    terminal
}

fn size_and_resize(vm: &Vm) {
    let mut terminal = shell(vm, 31, 97);
    terminal.send("stty size; echo TERM=$TERM; tty\r");
    terminal.expect("31 97\r\n");
    terminal.expect("TERM=xterm-256color\r\n");
    terminal.expect("/dev/");
    terminal.send("exit\r");
    terminal.ends_with(0);

    let script = "trap 'stty size; exit 5' WINCH; echo ready; while :; do sleep 0.1; done";
    let mut terminal = vm.msx("busybox", ["sh", "-c", script]).terminal(24, 80);
    terminal.expect("ready");
    terminal.resize(44, 123);
    terminal.expect("44 123\r\n");
    terminal.ends_with(5);
}

/// Ctrl-C is for the guest: it ends what runs there, not msb.
fn interrupt_reaches_the_command(vm: &Vm) {
    let mut terminal = shell(vm, 24, 80);
    terminal.send("sleep 1000; echo interrupted=$?\r");
    std::thread::sleep(Duration::from_millis(300));
    terminal.send("\x03");
    terminal.send("echo still here\r");
    terminal.expect("\nstill here\r\n");
    terminal.send("exit\r");
    terminal.wait();
    terminal.assert_restored();

    let mut terminal = vm.msx("busybox", ["sh", "-c", "echo waiting; sleep 1000"]).terminal(24, 80);
    terminal.expect("waiting");
    terminal.send("\x03");
    terminal.ends_with(128 + 2);
}

/// Ctrl-D at the start of a line is the end of the input.
fn end_of_input(vm: &Vm) {
    let mut terminal = vm.msx("busybox", ["cat"]).terminal(24, 80);
    terminal.expect_raw();
    terminal.send("a line\r");
    terminal.expect("a line\r\na line\r\n");
    terminal.send("\x04");
    terminal.ends_with(0);

    let mut terminal = shell(vm, 24, 80);
    terminal.send("\x04");
    terminal.ends_with(0);
}

fn suspend_reaches_the_shell(vm: &Vm) {
    let mut terminal = shell(vm, 24, 80);
    terminal.send("sleep 1000\r");
    std::thread::sleep(Duration::from_millis(500));
    terminal.send("\x1a");
    terminal.expect("Stopped");
    terminal.expect("# ");
    terminal.send("kill -9 %1; sleep 1\r");
    terminal.expect("Killed");
    terminal.send("exit 4\r");
    terminal.ends_with(4);
}

/// In a raw guest terminal every key arrives as it is, also those that usually mean something.
fn raw_bytes(vm: &Vm) {
    let script = "stty raw -echo; echo ready; head -c 9 | od -An -tx1";
    let mut terminal = vm.msx("busybox", ["sh", "-c", script]).terminal(24, 80);
    terminal.expect("ready");
    terminal.send("\x03\x04\x1a\x1c\x7f\r\u{e4}\x00");
    terminal.expect("03 04 1a 1c 7f 0d c3 a4 00");
    terminal.ends_with(0);
}

fn restored_after_failure(vm: &Vm) {
    let mut terminal = vm.msx("busybox", ["sh", "-c", "stty raw; exit 3"]).terminal(24, 80);
    terminal.ends_with(3);
    let mut terminal = vm.msx("busybox", ["no-such-program"]).terminal(24, 80);
    terminal.ends_with(127);
    assert!(terminal.shown().contains("no-such-program"));
}

fn restored_when_the_vmm_dies(vm: &Vm) {
    let mut terminal = shell(vm, 24, 80);
    terminal.expect_raw();
    terminal.running().vmm().signal(Signal::SIGKILL);
    let status = terminal.wait_within(Duration::from_secs(5));
    assert_eq!(status.code(), Some(125), "{}", terminal.shown());
    terminal.assert_restored();
}

fn restored_when_terminated(vm: &Vm) {
    let mut terminal = shell(vm, 24, 80);
    terminal.expect_raw();
    terminal.running().signal(Signal::SIGTERM);
    // An interactive shell ignores SIGTERM, so this ends by the hang-up that closing the window sends.
    terminal.running().signal(Signal::SIGHUP);
    terminal.wait();
    terminal.assert_restored();
}

fn no_terminal_on_pipes(vm: &Vm) {
    vm.sh("tty; test -t 1 || echo pipe").run().success().stdout_is("not a tty\npipe\n");
}

/// `-T` on a terminal gives pipes; `-t` without one gives a terminal.
fn tty_flags(vm: &Vm) {
    let command = vm.program("msx").arg(vm.image("busybox"));
    let mut terminal =
        command.args(["-T", "--", "sh", "-c", "test -t 1 || echo no terminal"]).terminal(24, 80);
    terminal.expect("no terminal");
    terminal.ends_with(0);
    let command = vm.program("msx").arg(vm.image("busybox"));
    command
        .args(["-t", "--", "sh", "-c", "test -t 1 && echo a terminal"])
        .run()
        .success()
        .stdout_is("a terminal\r\n");
}

fn shell_of_a_project(vm: &Vm) {
    vm.write(
        "Sandboxfile",
        format!("sandboxes:\n  app:\n    image: {}\n    memory: 256\n", vm.image("busybox")),
    );
    let mut terminal = vm.msb(["shell", "app"]).terminal(24, 80);
    terminal.expect("# ");
    terminal.send("echo kept > /root/note; exit 6\r");
    terminal.ends_with(6);
    vm.msb(["shell", "app", "--", "-c", "cat /root/note"]).run().success().stdout_is("kept\n");
}

/// What was printed last is on the screen when the command has ended.
fn output_before_exit_is_complete(vm: &Vm) {
    let lines = if vm.emulated() { 2000 } else { 20_000 };
    let mut terminal =
        vm.msx("busybox", ["sh", "-c", &format!("seq 1 {lines}; echo the end")]).terminal(24, 80);
    terminal.ends_with(0);
    let shown = terminal.shown();
    let end = format!("{lines}\r\nthe end\r\n");
    assert!(shown.ends_with(&end), "it ends with {:?}", &shown[shown.len().saturating_sub(60)..]);
}
