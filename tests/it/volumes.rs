//! Folders and files of the host, named volumes and memory in a sandbox.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use msb_test_support::{Finished, Msb, TestEnv, Vm, wait_until};
use nix::sys::signal::Signal;

use crate::suite::{Suite, tests};

pub(crate) fn register(suite: &mut Suite) {
    tests!(suite, vm: folder_is_shared, behaves_like_a_file_system, read_only_is_the_hosts_word, single_files);
    tests!(suite, vm: other_users_of_the_guest, links_stay_inside, changes_of_the_host_are_seen, odd_names, nested);
    tests!(suite, vm: volumes_of_a_sandboxfile, installed_sandboxes_keep_volumes, memory_file_systems);
    tests!(suite, vm: named_volume_keeps, named_volume_is_written_by_one, named_volume_survives_kill, too_many_volumes);
    tests!(suite, cli: missing_source, wrong_volumes, volume_commands, add_writes_volumes);
}

/// `msx IMAGE -v … -- sh -c SCRIPT`.
fn with(vm: &Vm, volumes: &[&str], script: &str) -> Msb {
    let flags = volumes.iter().flat_map(|volume| ["-v", volume]);
    vm.program("msx").arg(vm.image("busybox")).args(flags).args(["--", "sh", "-c", script])
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn folder_is_shared(vm: &Vm) {
    vm.write("src/in/host.txt", "from the host\n");
    let script = "cat /work/in/host.txt; stat -c '%u %g %a' /work/in/host.txt; echo hi > /work/made; \
                  chmod 750 /work/made; mkdir /work/dir; ln -s made /work/link; ln /work/made /work/dir/hard; \
                  mkfifo /work/fifo; mv /work/in/host.txt /work/dir/moved";
    with(vm, &["./src:/work"], script).run().success().stdout_is("from the host\n0 0 644\n");
    let src = vm.work().join("src");
    let me = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    for made in ["made", "dir", "link", "dir/hard", "dir/moved", "fifo"] {
        let found = fs::symlink_metadata(src.join(made)).unwrap();
        assert_eq!((found.uid(), found.gid()), me, "{made}");
    }
    assert_eq!((vm.read("src/made").as_str(), mode(&src.join("made"))), ("hi\n", 0o750));
    assert_eq!(fs::read_link(src.join("link")).unwrap(), Path::new("made"));
    assert_eq!(fs::metadata(src.join("dir/hard")).unwrap().nlink(), 2);
    assert!(fs::symlink_metadata(src.join("fifo")).unwrap().file_type().is_fifo());
    assert!(!src.join("in/host.txt").exists());
    assert!(vm.processes().is_empty(), "something still runs");
}

fn behaves_like_a_file_system(vm: &Vm) {
    let script = vm.write("program/behaviour.py", include_str!("volumes/behaviour.py"));
    fs::create_dir(vm.work().join("share")).unwrap();
    let run = vm.program("msx").arg(vm.image("python")).args([
        "-v",
        "./share:/share",
        "-v",
        "./program:/program:ro",
    ]);
    let text = run.args(["--", "python3", "-B", "/program/behaviour.py", "/share"]).run().success().out();
    assert!(!text.contains("FAILED") && text.ends_with(" checks\n"), "{text}");
    assert!(script.exists() && vm.work().join("share/contents/big").exists());
}

/// The guest's kernel may think what it likes of its mount: the host refuses.
fn read_only_is_the_hosts_word(vm: &Vm) {
    vm.write("src/file", "kept");
    let script = "echo x > /work/file; mount -o remount,rw,bind /work && echo remounted; mkdir /raw; \
                  mount -t virtiofs msb /raw && echo mounted again; \
                  for f in /work /raw; do echo y > $f/file; rm $f/file; touch $f/new; chmod 777 $f/file; \
                  mv $f/file $f/moved; mkdir $f/dir; truncate -s 0 $f/file; touch -d @1 $f/file; done; cat /work/file";
    let before = fs::metadata(vm.work().join("src/file")).unwrap();
    let run = with(vm, &["./src:/work:ro"], script).run();
    run.success().stdout_has("remounted\n").stderr_has("Read-only file system");
    let after = fs::metadata(vm.work().join("src/file")).unwrap();
    assert_eq!((before.mtime(), before.ctime(), before.mode()), (after.mtime(), after.ctime(), after.mode()));
    assert_eq!(vm.read("src/file"), "kept");
    assert_eq!(fs::read_dir(vm.work().join("src")).unwrap().count(), 1);
}

/// The file and nothing beside it.
fn single_files(vm: &Vm) {
    vm.write("conf/app.ini", "one\n");
    vm.write("conf/secret", "secret\n");
    let script = "cat /etc/app.ini; echo two >> /etc/app.ini; echo x > /opt/a/b.ini; \
                  mkdir /raw; mount -t virtiofs msb /raw && find /raw -type f -exec cat {} +; ls /opt/a";
    with(vm, &["./conf/app.ini:/etc/app.ini", "./conf/app.ini:/opt/a/b.ini:ro"], script)
        .run()
        .success()
        .stdout_is("one\none\ntwo\none\ntwo\nb.ini\n")
        .stderr_has("Read-only file system");
    assert_eq!(vm.read("conf/app.ini"), "one\ntwo\n");
    with(vm, &["./conf:/etc/hosts"], "true")
        .run()
        .failed_saying(&["./conf:/etc/hosts", "a folder cannot be mounted on a file"]);
}

/// Whoever makes a file in the guest, it is the caller's; and the caller's files are those of the user the sandbox runs as.
fn other_users_of_the_guest(vm: &Vm) {
    fs::create_dir(vm.work().join("src")).unwrap();
    fs::set_permissions(vm.work().join("src"), fs::Permissions::from_mode(0o777)).unwrap();
    vm.write("src/private", "p");
    fs::set_permissions(vm.work().join("src/private"), fs::Permissions::from_mode(0o600)).unwrap();
    let script = "id -u; stat -c '%u:%g' /work/private; cat /work/private; touch /work/by-$(id -u); rm /work/by-$(id -u)";
    for (user, id) in [("nobody:users", "65534\n65534:100\np"), ("1234:99", "1234\n1234:99\np")] {
        let run = vm.program("msx").arg(vm.image("busybox")).args(["--user", user, "-v", "./src:/work"]);
        run.args(["--", "sh", "-c", script]).run().success().stdout_is(id);
    }
    let script = "su nobody -s /bin/sh -c 'echo made > /work/by-nobody; cat /work/private'; stat -c %u /work/by-nobody";
    with(vm, &["./src:/work"], script).run().success().stdout_is("0\n").stderr_has("Permission denied");
    let made = fs::metadata(vm.work().join("src/by-nobody")).unwrap();
    assert_eq!(made.uid(), nix::unistd::geteuid().as_raw());
    let script = "chmod u+s /work/private || chmod g+s /work/private || chown 5 /work/private || \
                  mknod /work/null c 1 3 || echo refused";
    with(vm, &["./src:/work"], script).run().success().stdout_is("refused\n");
    assert_eq!(mode(&vm.work().join("src/private")), 0o600);
}

/// A link is followed in the guest, wherever it came from and whoever changes it.
fn links_stay_inside(vm: &Vm) {
    vm.write("outside/secret", "secret");
    vm.write("src/sub/file", "inside");
    let outside = vm.work().join("outside");
    symlink(&outside, vm.work().join("src/absolute")).unwrap();
    symlink("../outside", vm.work().join("src/relative")).unwrap();
    symlink("../../..", vm.work().join("src/sub/up")).unwrap();
    let script = r#"cd /work; cat absolute/secret relative/secret ../outside/secret sub/up/outside/secret 2>/dev/null
        ls sub/up | grep -c '^proc$'; ln -s /etc made; cat made/hostname 2>/dev/null; echo x > made/from-guest
        (while :; do rm -rf sub/t; mkdir sub/t; rm -rf sub/t; ln -s / sub/t; done) & racer=$!
        i=0; while [ $i -lt 400 ]; do cat sub/t/outside/secret sub/t/../../outside/secret 2>/dev/null; i=$((i + 1)); done
        kill $racer; ls -a / | grep -c from-guest; ls /etc/from-guest"#;
    with(vm, &["./src:/work"], script).run().success().stdout_is("1\n0\n/etc/from-guest\n");
    assert!(!Path::new("/etc/from-guest").exists());
    assert_eq!(vm.read("outside/secret"), "secret");
}

fn changes_of_the_host_are_seen(vm: &Vm) {
    vm.write("src/log", "first\n");
    let script = "cat /work/log; touch /work/ready; while [ ! -e /work/go ]; do sleep 0.05; done; cat /work/log; cat /work/new/file";
    let mut running = with(vm, &["./src:/work"], script).spawn();
    running.expect("first\n");
    wait_until(Duration::from_secs(60), "the guest's file", || vm.work().join("src/ready").exists());
    // The same file, longer: its new size is seen at once.
    use std::io::Write;
    let mut log = fs::File::options().append(true).open(vm.work().join("src/log")).unwrap();
    log.write_all(b"second\n").unwrap();
    vm.write("src/new/file", "third\n");
    vm.write("src/go", "");
    running.expect("first\nsecond\nthird\n");
    assert!(running.wait(Duration::from_secs(60)).success());
}

fn odd_names(vm: &Vm) {
    let folders: [&[u8]; 4] = [b"with space", b"co:lon", b"back\\slash", b"not\xffutf8"];
    let mut command = vm.program("msx").arg(vm.image("busybox"));
    for (number, name) in folders.iter().enumerate() {
        let folder = vm.work().join(OsStr::from_bytes(name));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("f"), format!("{number}")).unwrap();
        let mut volume = b"./".to_vec();
        volume.extend(name.iter().flat_map(|byte| match byte {
            b':' | b'\\' => vec![b'\\', *byte],
            byte => vec![*byte],
        }));
        volume.extend(format!(":/odd/t\\:{number} x").bytes());
        command = command.arg("-v").arg(OsStr::from_bytes(&volume));
    }
    command
        .args(["--", "sh", "-c", "cat /odd/*/f; ls /odd"])
        .run()
        .success()
        .stdout_is("0123t:0 x\nt:1 x\nt:2 x\nt:3 x\n");
}

/// Inner mounts come after outer ones, in whatever order they are given.
fn nested(vm: &Vm) {
    vm.write("outer/file", "outer\n");
    vm.write("inner/file", "inner\n");
    fs::create_dir_all(vm.work().join("outer/a")).unwrap();
    let volumes = ["./inner:/work/a/b:ro", "./outer:/work", "cache:/work/a"];
    let script = "cat /work/file /work/a/b/file; echo x > /work/a/kept; mount | grep -c ' /work'";
    with(vm, &volumes, script).run().success().stdout_is("outer\ninner\n3\n");
    with(vm, &["cache:/c"], "ls /c").run().success().stdout_is("b\nkept\n");
    assert!(!vm.work().join("outer/a/kept").exists());
}

fn volumes_of_a_sandboxfile(vm: &Vm) {
    let image = vm.image("busybox");
    fs::create_dir_all(vm.user_home().join("conf")).unwrap();
    fs::write(vm.user_home().join("conf/c"), "home\n").unwrap();
    vm.write("src/a", "project\n");
    vm.write("deep/er/x", "");
    vm.write(
        "Sandboxfile",
        format!(
            "sandboxes:\n  app:\n    image: {image}\n    memory: 256\n    volumes:\n      - ./src:/work  # the code\n      \
             - ~/conf:/conf:ro\n      - state:/state\n    tmpfs: [/scratch:size=1m]\n"
        ),
    );
    let script = "cat /work/a /conf/c; echo x > /state/s; df -k /scratch | awk 'END {print $2}'; cat /more/x";
    let arguments = ["run", "app", "-v", "./er:/more", "--", "sh", "-c", script];
    vm.msb(arguments).cwd(vm.work().join("deep")).run().success().stdout_is("project\nhome\n1024\n");
    vm.msb(["volume", "rm", "state"])
        .run()
        .failed_saying(&["volume `state` belongs to the sandbox `app` of", "--force"]);
    vm.msb(["volume", "prune", "--force"]).run().success().stdout_is("");
    vm.msb(["volume", "rm", "--force", "state"]).run().success().stdout_is("state\n");
}

fn installed_sandboxes_keep_volumes(vm: &Vm) {
    vm.write("data/f", "kept\n");
    let image = vm.image("busybox");
    vm.msb(["install", &image, "shower", "-e", "cat", "-v", "./data:/data:ro", "--", "/data/f"])
        .run()
        .success();
    vm.program("shower").cwd(vm.tmp()).run().success().stdout_is("kept\n");
    fs::rename(vm.work().join("data"), vm.work().join("moved")).unwrap();
    vm.program("shower").cwd(vm.tmp()).run().failed_saying(&["does not exist", "/work/./data"]);
}

fn memory_file_systems(vm: &Vm) {
    let script = "stat -c %a /a /b/c; df -k /a | awk 'END {print $2}'; dd if=/dev/zero of=/a/x bs=1M count=3";
    let run = vm.program("msx").arg(vm.image("busybox")).args([
        "--tmpfs",
        "/a:size=2m",
        "--tmpfs",
        "/b/c:mode=700",
    ]);
    let run = run.args(["--", "sh", "-c", script]).run();
    assert_eq!(run.out(), "1777\n700\n2048\n");
    run.code(1).stderr_has("No space left");
}

fn named_volume_keeps(vm: &Vm) {
    // What the image has at the place is what a new volume begins with.
    let script = "cat /etc/passwd | wc -l; echo x > /etc/new; chown 77:88 /etc/new; chmod 4755 /etc/new; ls /etc | grep -c lost+found";
    let lines = with(vm, &["conf:/etc"], script).run().out();
    assert!(lines.ends_with("\n0\n") && !lines.starts_with('0'), "{lines}");
    with(vm, &["conf:/data:ro"], "stat -c '%u %g %a' /data/new; touch /data/y")
        .run()
        .code(1)
        .stdout_is("77 88 4755\n")
        .stderr_has("Read-only file system");
    with(vm, &["empty:/data:ro"], "true")
        .run()
        .failed_saying(&["empty:/data:ro", "nothing was ever written"]);
    vm.msb(["volume", "create", "--size", "100M", "small"]).run().success();
    let size: u64 = with(vm, &["small:/s"], "df -m /s | awk 'END {print $2}'")
        .run()
        .success()
        .out()
        .trim()
        .parse()
        .unwrap();
    assert!((60..=100).contains(&size), "{size}");
}

fn named_volume_is_written_by_one(vm: &Vm) {
    let mut writer = with(vm, &["db:/d"], "echo 1 > /d/n; echo up; sleep 1000").spawn();
    writer.expect("up\n");
    let refused = |finished: Finished| {
        finished
            .failed_saying(&["volume `db` is in use by sandbox `busybox` (process ", "one sandbox at a time"])
    };
    refused(with(vm, &["db:/d"], "true").run());
    refused(with(vm, &["db:/d:ro"], "true").run());
    refused(vm.msb(["volume", "rm", "db"]).run());
    let inspected = vm.msb(["volume", "inspect", "db"]).run().success().json();
    assert!(inspected[0]["used_by"][0].as_str().unwrap().starts_with("sandbox `busybox`"), "{inspected}");
    writer.signal(Signal::SIGTERM);
    writer.wait(Duration::from_secs(60));
    let mut reader = with(vm, &["db:/d:ro"], "cat /d/n; sleep 1000").spawn();
    reader.expect("1\n");
    with(vm, &["db:/other:ro"], "cat /other/n").run().success().stdout_is("1\n");
    with(vm, &["db:/d"], "true").run().failed_saying(&["volume `db` is in use by process "]);
}

fn named_volume_survives_kill(vm: &Vm) {
    let mut writer =
        with(vm, &["db:/d"], "seq 1 5000 > /d/n; sync; echo up; seq 1 100000 > /d/unsynced; sleep 1000")
            .spawn();
    writer.expect("up\n");
    let mut family = writer.process().descendants();
    family.push(writer.process());
    family.iter().for_each(|process| process.signal(Signal::SIGKILL));
    writer.wait(Duration::from_secs(60));
    with(vm, &["db:/d"], "tail -n 1 /d/n").run().success().stdout_is("5000\n");
    // A throw-away sandbox that writes a volume is not just switched off.
    let disk = vm.home().join("data/volumes/db/disk.ext4");
    let check = std::process::Command::new("/sbin/e2fsck").arg("-fn").arg(disk).output().unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
}

fn too_many_volumes(vm: &Vm) {
    let volumes: Vec<String> = (0..12).map(|number| format!("v{number}:/v{number}")).collect();
    let volumes: Vec<&str> = volumes.iter().map(String::as_str).collect();
    with(vm, &volumes, "true").run().failed_saying(&["has room for", "not 12"]);
}

fn missing_source(env: &TestEnv) {
    let run = env.program("msx").args(["busybox", "-v", "./nowhere:/x", "--", "true"]).run();
    run.failed_saying(&["the source of volume `", "does not exist", "nowhere"]);
    assert!(!env.work().join("nowhere").exists());
    symlink("nowhere", env.work().join("dangling")).unwrap();
    env.program("msx").args(["busybox", "-v", "./dangling:/x"]).run().failed_saying(&["does not exist"]);
    nix::unistd::mkfifo(&env.work().join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    env.program("msx")
        .args(["busybox", "-v", "./pipe:/x"])
        .run()
        .failed_saying(&["neither a folder nor a file"]);
}

fn wrong_volumes(env: &TestEnv) {
    for (volume, words) in [
        ("./src", "does not say where"),
        ("src/x:/work", "write ./src/x"),
        ("./src:/work:r", "there is ro and rw"),
        ("./src:/proc", "nothing can be mounted on"),
    ] {
        env.program("msx").args(["busybox", "-v", volume]).run().code(2).stderr_has(words);
    }
    env.program("msx").args(["busybox", "--tmpfs", "/x:size=big"]).run().code(2).stderr_has("is not a size");
    for (text, words) in [
        ("volumes: [./src]", "does not say where"),
        ("volumes: ['a:/x', 'b:/x']", "mounts a second thing on /x"),
        ("tmpfs: [/a, /a:size=1m]", "mounts a second thing on /a"),
        ("volume: [./src:/x]", "did you mean `volumes`?"),
    ] {
        env.write("Sandboxfile", format!("sandboxes:\n  app:\n    image: x\n    {text}\n"));
        env.msb(["run", "app"]).run().code(125).stderr_has(words).stderr_has("Sandboxfile:4:");
    }
}

fn volume_commands(env: &TestEnv) {
    env.msb(["volume", "ls", "--format", "json"]).run().success().stdout_is("[]\n");
    env.msb(["volume", "create", "b", "a"]).run().success().stdout_is("b\na\n");
    env.msb(["volume", "create", "--size", "1G", "a"])
        .run()
        .failed_saying(&["there is a volume `a` already"]);
    env.msb(["volume", "create", "../x"]).run().failed_saying(&["cannot be the name of a volume"]);
    env.msb(["volume", "create", "--size", "1M", "c"]).run().failed_saying(&["between 64 MiB and 16 TiB"]);
    let list = env.msb(["volume", "ls", "--format", "json"]).run().success().json();
    let names: Vec<&str> = list.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(list[0]["size_bytes"], 8u64 << 30);
    env.msb(["volume", "inspect", "aa"]).run().failed_saying(&["no volume `aa`", "did you mean `a`?"]);
    env.msb(["volume", "rm", "nope"]).run().failed_saying(&["no volume `nope`"]);
    env.msb(["volume", "prune"]).run().failed_saying(&["no terminal to ask on", "--force"]);
    env.msb(["volume", "prune", "--dry-run"]).run().success().stdout_is("a\nb\n");
    env.msb(["volume", "rm", "a"]).run().success().stdout_is("a\n");
    env.msb(["volume", "prune", "--force"]).run().success().stdout_is("b\n");
    env.msb(["volume", "ls", "--format", "json"]).run().success().stdout_is("[]\n");
}

fn add_writes_volumes(env: &TestEnv) {
    env.write("Sandboxfile", "# mine\nsandboxes:\n  old:  # stays\n    image: x\n");
    env.write("sub/src/f", "");
    let add =
        ["add", "app", "--image", "x", "-v", "./src:/work:ro", "-v", "data:/d", "--tmpfs", "/t:size=64m"];
    env.msb(add).cwd(env.work().join("sub")).run().success();
    let wanted = "# mine\nsandboxes:\n  old:  # stays\n    image: x\n\n  app:\n    image: x\n    volumes:\n      \
                  - ./sub/src:/work:ro\n      - data:/d\n    tmpfs:\n      - /t:size=64M\n";
    assert_eq!(env.read("Sandboxfile"), wanted);
}
