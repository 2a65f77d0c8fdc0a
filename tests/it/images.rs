//! Images come from registries and archives, whole or not at all.

use std::process::Command;

use msb_test_support::{Images, TestEnv, Tree, Vm};

use crate::config::differences;
use crate::suite::{Suite, tests};

pub(crate) fn register(suite: &mut Suite) {
    tests!(suite, registry: pull_by_tag, pull_by_digest, pull_kinds_of_manifests, pull_again_is_quick, pull_at_once, list_as_json);
    tests!(suite, registry: load_archives, load_under_a_name, load_from_input, damaged_layer, no_such_image, registry_down, not_a_reference);
    tests!(suite, registry: load_nonsense, killed_pull);
    tests!(suite, registry_as_root: no_space);
    tests!(suite, vm: corpus);
    tests!(suite, vm_without_images: loaded_images_run, pulled_by_digest_runs, platform_is_chosen);
}

/// The images that `msb image ls` shows, as name and digest.
fn listed(env: &TestEnv) -> Vec<(String, String)> {
    let json = env.msb(["image", "ls", "--format", "json"]).run().success().json();
    let text = |row: &serde_json::Value, key: &str| {
        row[key].as_str().unwrap_or_else(|| panic!("{key} in {row}")).to_owned()
    };
    json.as_array().unwrap().iter().map(|row| (text(row, "name"), text(row, "digest"))).collect()
}

fn pull_by_tag(env: &TestEnv) {
    let registry = env.own_registry();
    let image = registry.image("python:3.11");
    let finished = env.msb(["pull", &image]).run().success();
    assert!(!finished.err().contains('\r'), "no progress bars without a terminal: {finished}");
    let digest = registry.digest("python", "3.11");
    assert_eq!(listed(env), [(image, digest)]);
    let short: String =
        registry.digest("python", "3.11").split(':').next_back().unwrap().chars().take(12).collect();
    env.msb(["image", "ls"]).run().success().stdout_has("python:3.11").stdout_has(&short);
}

fn pull_by_digest(env: &TestEnv) {
    let registry = env.own_registry();
    let digest = registry.digest("busybox", "latest");
    env.msb(["pull", &registry.image(&format!("busybox@{digest}"))]).run().success();
    assert_eq!(listed(env)[0].1, digest);
    let other = format!("busybox@sha256:{}", "0".repeat(64));
    env.msb(["pull", &registry.image(&other)]).run().failed_saying(&["busybox", "no image"]);
}

/// OCI with gzip, OCI with zstd, docker schema 2, an index of several platforms.
fn pull_kinds_of_manifests(env: &TestEnv) {
    for tag in ["latest", "zstd", "docker", "multi"] {
        env.msb(["pull", &env.image(&format!("busybox:{tag}"))]).run().success();
    }
    assert_eq!(listed(env).len(), 4);
    // All have the one layer, which is stored once.
    let layers = Tree::of(&[&env.home().join("cache/layers")]);
    assert_eq!(
        layers.files().filter(|(path, _)| path.extension().is_some_and(|end| end == "erofs")).count(),
        1
    );
}

fn pull_again_is_quick(env: &TestEnv) {
    let image = env.image("python");
    env.msb(["pull", &image]).run().success();
    let before = Tree::of(&[&env.home()]);
    let again = env.msb(["pull", &image]).run().success();
    assert!(again.elapsed.as_millis() < 1000, "{again}");
    let after = Tree::of(&[&env.home()]);
    let new: Vec<_> = after.new_since(&before);
    assert!(new.is_empty(), "nothing is fetched again: {new:?}");
}

/// Several processes pull the same image and all find it whole.
fn pull_at_once(env: &TestEnv) {
    let image = env.image("python");
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| env.msb(["pull", &image]).run().success());
        }
    });
    assert_eq!(listed(env).len(), 1);
    let tmp = Tree::of(&[&env.home().join("cache/tmp")]);
    assert_eq!(tmp.files().count(), 0, "nothing half-done is left");
}

fn list_as_json(env: &TestEnv) {
    assert!(listed(env).is_empty());
    env.msb(["pull", &env.image("busybox")]).run().success();
    let json = env.msb(["image", "ls", "--format", "json"]).run().success().json();
    let row = &json[0];
    assert!(row["size_bytes"].as_u64().unwrap() > 1_000_000, "{row}");
    assert_eq!(row["layers"], 1, "{row}");
}

fn load_archives(env: &TestEnv) {
    for (name, tag) in
        [("docker-archive.tar", "saved"), ("oci-archive.tar", "archived"), ("layout", "laid-out")]
    {
        let finished = env.msb(["load", "-i"]).arg(env.images().archive(name)).run().success();
        assert!(finished.out().trim_end().ends_with(tag), "{finished}");
    }
    assert_eq!(listed(env).len(), 3);
}

fn load_under_a_name(env: &TestEnv) {
    let archive = env.images().archive("oci-archive.tar");
    env.msb(["load", "--tag", "mine:1", "-i"]).arg(archive).run().success().stdout_has("mine:1");
    assert!(listed(env)[0].0.ends_with("mine:1"));
}

fn load_from_input(env: &TestEnv) {
    let archive = std::fs::read(env.images().archive("docker-archive.tar")).unwrap();
    env.msb(["load"]).stdin(archive).run().success().stdout_has("saved");
    assert_eq!(listed(env).len(), 1);
}

/// A changed byte in a layer is noticed, named, and leaves nothing.
fn damaged_layer(env: &TestEnv) {
    let registry = env.corrupted_registry("busybox");
    let finished =
        env.msb(["pull", &registry.image("busybox")]).run().code(125).stdout_is("").stderr_has("layer");
    assert!(finished.err().contains("sha256:"), "{finished}");
    assert!(listed(env).is_empty());
    let left: Vec<_> = Tree::of(&[&env.home()])
        .files()
        .map(|(path, size)| (path.to_path_buf(), size))
        .filter(|(_, size)| *size > 4096)
        .collect();
    assert!(left.is_empty(), "{left:?}");
    // The right content afterwards is taken.
    env.msb(["pull", &env.image("busybox")]).run().success();
}

fn no_such_image(env: &TestEnv) {
    let registry = env.own_registry();
    env.msb(["pull", &registry.image("no/such/image")])
        .run()
        .failed_saying(&["no/such/image", "no repository"]);
    env.msb(["pull", &registry.image("busybox:no-such-tag")]).run().failed_saying(&["no-such-tag"]);
}

fn registry_down(env: &TestEnv) {
    let registry = env.own_registry();
    let image = registry.image("busybox");
    drop(registry);
    let finished = env.msb(["pull", &image]).run().failed_saying(&["127.0.0.1", "connect"]);
    assert!(finished.elapsed.as_secs() < 10, "{finished}");
    env.program("msx").arg(&image).run().code(125).stdout_is("");
}

fn not_a_reference(env: &TestEnv) {
    for text in ["", "UPPER/case", "a b", "x@sha256:12", ":tag", "x:y:z"] {
        let finished = env.msb(["pull", text]).run().stdout_is("");
        assert!(matches!(finished.exit_code(), Some(2 | 125)), "{finished}");
    }
}

fn load_nonsense(env: &TestEnv) {
    env.msb(["load", "-i", "/no/such/file"]).run().failed_saying(&["/no/such/file"]);
    let file = env.write("nonsense.tar", vec![b'x'; 5000]);
    env.msb(["load", "-i"]).arg(&file).run().failed_saying(&["nonsense.tar"]);
    env.msb(["load", "-i"]).arg(env.work()).run().failed_saying(&["work"]);
    env.msb(["load"]).run().code(125).stdout_is("");
    let whole = std::fs::read(env.images().archive("docker-archive.tar")).unwrap();
    let half = env.write("half.tar", &whole[..whole.len() / 2]);
    env.msb(["load", "-i"]).arg(half).run().failed_saying(&["half.tar"]);
    assert!(listed(env).is_empty());
}

/// Killed at any point of a pull, nothing half-done shows and the next pull works.
fn killed_pull(env: &TestEnv) {
    let image = env.image("python");
    for delay in [5, 20, 60, 120, 200] {
        let running = env.msb(["pull", &image]).spawn();
        std::thread::sleep(std::time::Duration::from_millis(delay));
        running.signal(nix::sys::signal::Signal::SIGKILL);
        drop(running);
        assert!(listed(env).len() <= 1);
    }
    env.msb(["pull", &image]).run().success();
    assert_eq!(listed(env).len(), 1);
}

/// A full disk is named, and what was begun is gone; a layer that was complete before may stay. The small file system is seen by this
/// command alone.
fn no_space(env: &TestEnv) {
    let script = "mount -t tmpfs -o size=3m none \"$MSB_HOME\" && msb pull \"$1\"; code=$?; ls \"$MSB_HOME/cache/tmp\" >&2; exit $code";
    let run = env.program("unshare").args(["-m", "sh", "-c", script, "sh", &env.image("python")]);
    let finished = run.run().code(125).stdout_is("").stderr_has("space");
    assert!(!finished.err().lines().any(|line| line.starts_with("layer-")), "{finished}");
}

fn loaded_images_run(vm: &Vm) {
    let name = vm.msb(["load", "-i"]).arg(vm.images().archive("layout")).run().success().out();
    vm.program("msx").args([name.trim_end(), "--", "echo", "loaded"]).run().success().stdout_is("loaded\n");
}

fn pulled_by_digest_runs(vm: &Vm) {
    let registry = vm.own_registry();
    let image = registry.image(&format!("config@{}", registry.digest("config", "cmd")));
    vm.program("msx").arg(&image).run().success().stdout_is("from CMD");
    // What is here needs no registry.
    drop(registry);
    vm.program("msx").arg(&image).run().success().stdout_is("from CMD");
}

/// Reads `NAME SIZE` and that many bytes, again and again: the lister first, then file systems, each of which it mounts and lists.
const MOUNTS: &str = r"
import os, subprocess, sys
def take(head):
    name, size = head.split()
    path = os.path.join(b'/tmp', name)
    with open(path, 'wb') as file:
        left = int(size)
        while left:
            piece = sys.stdin.buffer.read(min(left, 1 << 20))
            file.write(piece)
            left -= len(piece)
    return path
lister = take(sys.stdin.buffer.readline())
os.mkdir('/mnt')
while head := sys.stdin.buffer.readline():
    disk = take(head)
    subprocess.run(['mount', '-t', 'erofs', '-o', 'ro,loop', disk, '/mnt'], check=True)
    print('image', head.split()[0].decode(), flush=True)
    subprocess.run([sys.executable, '-B', lister, '/mnt'], check=True)
    subprocess.run(['umount', '/mnt'], check=True)
    os.unlink(disk)
";

/// Every image of the corpus is in the guest's eyes what `umoci unpack` makes of it.
fn corpus(vm: &Vm) {
    let mut input = Vec::new();
    let mut add = |name: &str, contents: &[u8]| {
        input.extend(
            format!(
                "{name} {}
",
                contents.len()
            )
            .bytes(),
        );
        input.extend(contents);
    };
    add("lister", &Images::lister());
    let trees = vm.images().corpus();
    for (name, _) in &trees {
        let image = vm.image(&format!("corpus:{name}"));
        vm.msb(["pull", "--quiet", &image]).run().success();
        add(name, &disk(vm, &image));
    }
    let run = vm.msx("python", ["python3", "-B", "-c", MOUNTS]).stdin(input).run().success().out();
    let mut listed = run.split("image ").skip(1).map(|part| part.split_once('\n').unwrap());
    let mut wrong = Vec::new();
    for (name, wanted) in &trees {
        let (got_name, got) = listed.next().unwrap_or_default();
        assert_eq!(got_name, name);
        let lines = differences(wanted, got);
        if !lines.is_empty() {
            wrong.push(format!(
                "{name}: {} lines differ\n{}",
                lines.len(),
                lines[..lines.len().min(20)].join("\n")
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The bytes of the disk that a guest gets of an image.
fn disk(env: &TestEnv, image: &str) -> Vec<u8> {
    let (_, digest) = listed(env).into_iter().find(|(name, _)| name == image).unwrap();
    let folder = env.home().join("cache/images").join(digest.split_once(':').unwrap().1);
    let descriptor = std::fs::read_to_string(folder.join("disk.vmdk")).unwrap();
    let extents = descriptor.lines().filter(|line| line.starts_with("RW "));
    extents.flat_map(|line| std::fs::read(line.split('"').nth(1).unwrap()).unwrap()).collect()
}

/// Of several platforms this machine's is taken, whatever the order.
fn platform_is_chosen(vm: &Vm) {
    let machine = Command::new("uname").arg("-m").output().unwrap().stdout;
    vm.program("msx")
        .args([&vm.image("busybox:multi"), "--", "uname", "-m"])
        .run()
        .success()
        .stdout_is(machine);
}
