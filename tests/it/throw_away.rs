//! `msx`: a sandbox that leaves nothing.

use std::thread;

use msb_test_support::{Tree, Vm};

use crate::suite::{Suite, tests};

pub(crate) fn register(suite: &mut Suite) {
    tests!(suite, vm: leaves_nothing, leaves_nothing_when_killed, runs_do_not_share, names_of_the_command, flags_take_effect);
    tests!(suite, vm: python_runs, python_reads_its_program, run_falls_back_to_an_image, script_does_not_apply);
    tests!(suite, vm_alone: eight_at_once);
    tests!(suite, vm_without_images: pulls_what_is_not_there);
}

fn leaves_nothing(vm: &Vm) {
    // The first run may make what stays, such as folders.
    vm.sh("true").run().success();
    let before = Tree::of(&[vm.root()]);
    vm.sh("dd if=/dev/zero of=/big bs=1M count=20 2>/dev/null; echo x > /root/x").run().success();
    vm.sh("exit 3").run().code(3);
    vm.msx("busybox", ["no-such-program"]).run().code(127);
    let after = Tree::of(&[vm.root()]);
    assert_eq!(after.new_since(&before), Vec::<&std::path::Path>::new());
    assert_eq!(after.gone_since(&before), Vec::<&std::path::Path>::new());
}

/// Also the first run in an empty home leaves nothing but folders and the image cache, even when it is killed.
fn leaves_nothing_when_killed(vm: &Vm) {
    let mut running = vm.sh("echo ready; sleep 1000").spawn();
    running.expect("ready\n");
    running.signal(nix::sys::signal::Signal::SIGKILL);
    running.wait(std::time::Duration::from_secs(5));
    let after = Tree::of(&[&vm.home(), &vm.tmp(), &vm.work(), &vm.user_home()]);
    let files: Vec<_> = after.files().filter(|(path, _)| !path.ends_with("cache")).collect();
    assert!(files.is_empty(), "{files:?}");
}

fn runs_do_not_share(vm: &Vm) {
    vm.sh("echo mine > /root/file; ls /root").run().success().stdout_is("file\n");
    vm.sh("ls /root").run().success().stdout_is("");
}

/// `msx`, `msb exe`, `msb x`, `msb exe --image` are one command.
fn names_of_the_command(vm: &Vm) {
    let image = vm.image("busybox");
    for words in [&["exe"][..], &["x"], &["exe", "--image"]] {
        vm.msb(words).arg(&image).args(["--", "echo", "one"]).run().success().stdout_is("one\n");
    }
    vm.program("msx")
        .arg(&image)
        .stdin("echo from the default command\n")
        .run()
        .success()
        .stdout_is("from the default command\n");
}

fn flags_take_effect(vm: &Vm) {
    vm.write("vars", "FROM_FILE=file value\n# a comment\nBOTH=file\n");
    let run = vm.program("msx").arg(vm.image("busybox"));
    let run = run.args([
        "--workdir",
        "/home/app",
        "--user",
        "app",
        "--env",
        "ONE=1",
        "--env-file",
        "vars",
        "--env",
        "BOTH=flag",
    ]);
    let script = "pwd; id -un; id -Gn; echo $HOME $ONE $FROM_FILE $BOTH";
    let wanted = "/home/app\napp\napp audio extra\n/home/app 1 file value flag\n";
    run.args(["--", "sh", "-c", script]).run().success().stdout_is(wanted);
}

fn python_runs(vm: &Vm) {
    let run =
        vm.msx("python", ["python3", "-c", "import sys, hashlib; print('hello from', sys.version_info[:2])"]);
    run.run().success().stdout_is("hello from (3, 11)\n");
}

/// The image's own command, which reads its program from standard input.
fn python_reads_its_program(vm: &Vm) {
    let run = vm.program("msx").arg(vm.image("python"));
    run.stdin("import os\nprint(os.getpid() > 0)\nraise SystemExit(9)\n").run().code(9).stdout_is("True\n");
}

/// Without a sandbox of that name `msb run` takes it for an image.
fn run_falls_back_to_an_image(vm: &Vm) {
    let image = vm.image("busybox");
    vm.msb(["run", &image, "--", "echo", "an image"]).run().success().stdout_is("an image\n");
    vm.write("Sandboxfile", "sandboxes: {}\n");
    vm.msb(["run", &image, "--", "echo", "an image"]).run().success().stdout_is("an image\n");
    vm.msb(["run", "--image", &image, "--", "echo", "an image"]).run().success().stdout_is("an image\n");
    let finished = vm.msb(["run", "--sandbox", "busybox", "--", "true"]).run().code(125).stdout_is("");
    assert!(finished.err().contains("busybox"), "{finished}");
}

fn script_does_not_apply(vm: &Vm) {
    let finished = vm.program("msx").arg(format!("{}~test", vm.image("busybox"))).run();
    assert!(matches!(finished.exit_code(), Some(2 | 125)), "{finished}");
}

/// More machines than processors all give the right answer.
fn eight_at_once(vm: &Vm) {
    let (count, flags) = (8, ["--memory", "192"]);
    thread::scope(|scope| {
        for number in 0..count {
            scope.spawn(move || {
                let script = format!("cat > /x; wc -c < /x; echo {number}; exit {number}");
                let run =
                    vm.program("msx").arg(vm.image("busybox")).args(flags).args(["--", "sh", "-c", &script]);
                run.stdin(vec![b'x'; 100_000 + number])
                    .run()
                    .code(i32::try_from(number).unwrap())
                    .stdout_is(format!("{}\n{number}\n", 100_000 + number));
            });
        }
    });
}

fn pulls_what_is_not_there(vm: &Vm) {
    let finished = vm.sh("echo pulled").run().success().stdout_is("pulled\n");
    assert!(!finished.err().contains('\r'), "progress bars are for terminals: {finished}");
    vm.sh("echo again").run().success().stdout_is("again\n");
}
