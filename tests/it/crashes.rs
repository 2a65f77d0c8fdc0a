//! Whatever is killed, and whenever: the next command tells the truth and the next start works.

use std::time::Duration;

use msb_test_support::{Process, Vm, wait_until};
use nix::sys::signal::Signal;

use crate::background::{logged, project};
use crate::suite::{Suite, tests};

pub(crate) fn register(suite: &mut Suite) {
    tests!(suite, vm: supervisor_killed, machine_killed, starter_killed, stopped_supervisor, killed_at_each_stage, stale_socket);
    tests!(suite, vm: attached_caller_killed, killed_while_stopping);
}

fn started(vm: &Vm) -> (Process, Process) {
    project(vm, &[]);
    vm.msb(["run", "-d", "--idle", "app"]).run().success();
    let row = vm.msb(["ps", "--format", "json"]).run().success().json()[0].clone();
    let process = |key: &str| Process::find(i32::try_from(row[key].as_i64().unwrap()).unwrap()).unwrap();
    (process("supervisor_pid"), process("vmm_pid"))
}

/// The sandbox is known to be stopped, nothing of it is left, and it can be started.
fn is_stopped_and_starts(vm: &Vm, message: &str) {
    wait_until(Duration::from_secs(10), "the sandbox is known to be stopped", || {
        vm.msb(["list"]).run().success().out().contains("stopped")
    });
    let row = vm.msb(["ps", "--all", "--format", "json"]).run().success().json()[0].clone();
    assert_eq!(row["state"], "stopped");
    assert!(row["message"].to_string().contains(message), "{row}");
    let ends = vm.msb(["events", "app"]).run().success().out();
    assert_eq!(ends.matches("app die ").count(), 1, "{ends}");
    assert!(ends.contains(message), "{ends}");
    wait_until(Duration::from_secs(10), "nothing is left", || vm.processes().is_empty());
    vm.msb(["run", "-d", "--idle", "app"]).run().success();
    vm.msb(["stop", "-t", "0s", "app"]).run().success();
    vm.msb(["run", "app", "--", "true"]).run().success();
}

fn supervisor_killed(vm: &Vm) {
    let (supervisor, machine) = started(vm);
    supervisor.signal(Signal::SIGKILL);
    wait_until(Duration::from_secs(5), "the machine ends with its supervisor", || !machine.alive());
    is_stopped_and_starts(vm, "supervisor was killed");
}

fn machine_killed(vm: &Vm) {
    let (supervisor, machine) = started(vm);
    let mut exec = vm.msb(["exec", "app", "--", "sh", "-c", "echo ready; sleep 1000"]).spawn();
    exec.expect("ready\n");
    machine.signal(Signal::SIGKILL);
    wait_until(Duration::from_secs(10), "the supervisor ends with its machine", || !supervisor.alive());
    assert_eq!(exec.wait(Duration::from_secs(10)).code(), Some(125));
    let errors = exec.errors();
    assert!(errors.contains("ended while the command ran"), "{errors}");
    is_stopped_and_starts(vm, "killed from outside");
}

/// Nobody was told that the sandbox is up, so it is not.
fn starter_killed(vm: &Vm) {
    project(vm, &[]);
    let starting = vm.msb(["run", "-d", "--idle", "app"]).spawn();
    wait_until(vm.hypervisor.limit(), "the supervisor runs", || {
        vm.processes().iter().any(|process| process.command_line().contains("msb-supervisor"))
    });
    starting.signal(Signal::SIGKILL);
    wait_until(vm.hypervisor.limit(), "the supervisor gives up", || vm.processes().is_empty());
    vm.msb(["run", "app", "--", "true"]).run().success();
}

/// A supervisor that does not answer is killed in the end.
fn stopped_supervisor(vm: &Vm) {
    let (supervisor, machine) = started(vm);
    supervisor.signal(Signal::SIGSTOP);
    vm.msb(["kill", "app"]).limit(Duration::from_secs(60)).run().success();
    assert!(!supervisor.alive() && !machine.alive());
    is_stopped_and_starts(vm, "supervisor was killed");
}

/// The supervisor is killed after ever longer times, so that it dies at every stage of a start.
fn killed_at_each_stage(vm: &Vm) {
    project(vm, &[]);
    let step = if vm.emulated() { 300 } else { 30 };
    for number in 0..8 {
        let mut starting = vm.msb(["run", "-d", "--idle", "app"]).spawn();
        let found =
            || vm.processes().into_iter().find(|process| process.command_line().contains("msb-supervisor"));
        wait_until(vm.hypervisor.limit(), "the supervisor runs", || found().is_some());
        // Not a wait for something to be done: this is the time at which it dies.
        std::thread::sleep(Duration::from_millis(number * step));
        if let Some(supervisor) = found() {
            supervisor.signal(Signal::SIGKILL);
        }
        starting.wait(vm.hypervisor.limit());
        wait_until(Duration::from_secs(10), "its machine ends", || vm.processes().is_empty());
        // The lock goes with the last thread of a process, a moment after the process itself.
        wait_until(Duration::from_secs(10), "the sandbox is known to be stopped", || {
            !vm.msb(["list"]).run().success().out().contains("running")
        });
        vm.msb(["ps"]).run().success();
    }
    vm.msb(["run", "app", "--", "true"]).run().success();
}

/// As after a reboot: a socket and a row of a process that is no more, or is another one.
fn stale_socket(vm: &Vm) {
    let (supervisor, _) = started(vm);
    let sockets = vm.home().join("run");
    let socket = std::fs::read_dir(&sockets).unwrap().next().unwrap().unwrap().path();
    supervisor.signal(Signal::SIGKILL);
    wait_until(Duration::from_secs(10), "nothing is left", || vm.processes().is_empty());
    assert!(socket.exists());
    vm.msb(["exec", "app", "--", "true"]).run().failed_saying(&["not running"]);
    vm.msb(["stop", "app"]).run().success().stderr_has("not running");
    is_stopped_and_starts(vm, "supervisor was killed");
}

fn attached_caller_killed(vm: &Vm) {
    project(vm, &[]);
    let mut run = vm.msb(["run", "app", "--", "sh", "-c", "echo ready; sleep 1000"]).spawn();
    run.expect("ready\n");
    vm.msb(["exec", "app", "--", "true"]).run().success();
    run.signal(Signal::SIGKILL);
    is_stopped_and_starts(vm, "supervisor was killed");
}

fn killed_while_stopping(vm: &Vm) {
    project(vm, &[]);
    // It takes its time to stop.
    let script = "trap '' TERM; echo ready; while :; do sleep 1; done";
    vm.msb(["run", "-d", "app", "--", "sh", "-c", script]).run().success();
    logged(vm, "ready");
    let mut stopping = vm.msb(["stop", "--time", "1h", "app"]).spawn();
    wait_until(vm.hypervisor.limit(), "it is asked to stop", || {
        vm.msb(["events"]).run().success().out().contains("app stop")
    });
    vm.msb(["kill", "app"]).run().success();
    assert!(stopping.wait(vm.hypervisor.limit()).success());
    is_stopped_and_starts(vm, "");
}
