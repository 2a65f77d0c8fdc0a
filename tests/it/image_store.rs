//! What the image store holds: looking at it, naming, removing, pruning.

use msb_test_support::{TestEnv, Vm};
use serde_json::Value;

use crate::suite::{Suite, tests};

pub(crate) fn register(suite: &mut Suite) {
    tests!(suite, registry: inspect, history, names_and_removal, disk_usage, prune_by_flags, unknown_images);
    tests!(suite, registry: indexes_are_kept, save_and_load, save_for_skopeo, kept_blobs, push_elsewhere, push_refused);
    tests!(suite, cli: empty_store);
    tests!(suite, vm_without_images: running_images_stay, kept_disks_keep_their_images);
}

fn json(env: &TestEnv, words: &[&str]) -> Value {
    env.msb(words).args(["--format", "json"]).run().success().json()
}

fn names(env: &TestEnv) -> Vec<String> {
    let rows = json(env, &["image", "ls"]);
    rows.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect()
}

fn inspect(env: &TestEnv) {
    let registry = env.own_registry();
    let image = registry.image("python:3.11");
    env.msb(["pull", &image]).run().success();
    let digest = registry.digest("python", "3.11");
    let short: String = digest.chars().skip("sha256:".len()).take(12).collect();
    for what in [&image, &digest, &short] {
        let found = json(env, &["image", "inspect", what]);
        let found = &found[0];
        assert_eq!(
            (found["digest"].as_str(), &found["names"][0]),
            (Some(digest.as_str()), &image.as_str().into())
        );
        assert!(found["platform"].as_str().unwrap().starts_with("linux/"), "{found}");
        let layer = &found["layers"][0];
        assert!(layer["diff_id"].as_str().unwrap().starts_with("sha256:"), "{found}");
        assert!(layer["blob"] != layer["diff_id"] && layer["size_bytes"].as_u64() > Some(0), "{found}");
    }
    // JSON without a flag, as other tools have it; several at once.
    assert_eq!(
        env.msb(["image", "inspect", &image, &short]).run().success().json().as_array().unwrap().len(),
        2
    );
    env.msb(["image", "inspect", &short, "--format", "table"])
        .run()
        .success()
        .stdout_has(&digest)
        .stdout_has("PLATFORM");
}

/// The index behind a name is kept as it came, and goes with the name.
fn indexes_are_kept(env: &TestEnv) {
    let registry = env.own_registry();
    let image = registry.image("busybox:multi");
    env.msb(["pull", &image]).run().success();
    let index = registry.digest("busybox", "multi");
    let found = json(env, &["image", "inspect", &image]);
    assert_eq!(found[0]["index"], index);
    assert!(found[0]["digest"] != found[0]["index"], "{found}");
    let kept = env.home().join("cache/blobs").join(format!("{}.zst", index.trim_start_matches("sha256:")));
    assert!(kept.is_file());
    env.msb(["image", "rm", &image]).run().success();
    assert!(!kept.exists());
}

fn history(env: &TestEnv) {
    let image = env.image("python");
    env.msb(["pull", &image]).run().success();
    let steps = json(env, &["image", "history", &image]);
    let layers = json(env, &["image", "inspect", &image])[0]["layers"].as_array().unwrap().len();
    let made = steps.as_array().unwrap().iter().filter(|step| step["layer"].is_string()).count();
    assert_eq!(made, layers, "{steps}");
    env.msb(["image", "history", &image]).run().success().stdout_has("CREATED BY");
}

fn names_and_removal(env: &TestEnv) {
    let image = env.image("busybox");
    env.msb(["pull", &image]).run().success();
    env.msb(["tag", &image, "mine"]).run().success().stdout_is("");
    env.msb(["tag", "mine:latest", "mine:2"]).run().success();
    assert_eq!(names(env), [image.as_str(), "mine:2", "mine:latest"]);
    env.msb(["image", "rm", &image, "mine"]).run().success().stdout_is(format!("{image}\nmine:latest\n"));
    assert_eq!(names(env), ["mine:2"]);
    let digest = json(env, &["image", "inspect", "mine:2"])[0]["digest"].as_str().unwrap().to_owned();
    let removed = env.msb(["image", "rm", &digest]).run().success();
    assert_eq!(removed.out(), format!("mine:2\n{digest}\n"));
    assert!(names(env).is_empty());
    assert_eq!(json(env, &["df"])["total_bytes"], 0);
}

fn disk_usage(env: &TestEnv) {
    for image in ["busybox:latest", "busybox:docker", "python"] {
        env.msb(["pull", &env.image(image)]).run().success();
    }
    let usage = json(env, &["df"]);
    let number = |key: &str| usage[key].as_u64().unwrap_or_else(|| panic!("{key}: {usage}"));
    assert!(number("shared_bytes") > 0, "two images have one layer: {usage}");
    assert_eq!(
        number("total_bytes"),
        number("images_bytes") + number("layers_bytes") + number("blobs_bytes")
    );
    assert_eq!(number("reclaimable_bytes"), number("total_bytes"));
    assert_eq!(usage["images"].as_array().unwrap().len(), 3);
    env.msb(["df"]).run().success().stdout_has("RECLAIMABLE").stdout_has("Layers");
    env.msb(["df", "-v"]).run().success().stdout_has("UNIQUE").stdout_has("python");
}

fn prune_by_flags(env: &TestEnv) {
    let (busybox, python) = (env.image("busybox"), env.image("python"));
    for image in [&busybox, &python] {
        env.msb(["pull", image]).run().success();
    }
    env.msb(["image", "prune"]).run().success().stdout_is("").stderr_has("Freed");
    for kept in [&["--older-than", "1h"][..], &["--keep-storage", "10G"], &["--all", "--dry-run"]] {
        env.msb(["image", "prune"]).args(kept).run().success();
        assert_eq!(names(env).len(), 2, "{kept:?}");
    }
    env.msb(["tag", &busybox, &python]).run().success();
    let pruned = json(env, &["image", "prune"]);
    assert_eq!(pruned["images"].as_array().unwrap().len(), 1, "what lost its name goes: {pruned}");
    assert!(pruned["freed_bytes"].as_u64() > Some(0), "{pruned}");
    assert_eq!(names(env).len(), 2);
    env.msb(["image", "prune", "--keep-storage", "0"])
        .run()
        .success()
        .stdout_has("python")
        .stderr_has("0 B left");
    assert!(names(env).is_empty());
    env.msb(["image", "prune", "--older-than", "1"]).run().code(2).stderr_has("30d");
}

fn unknown_images(env: &TestEnv) {
    for words in [
        &["image", "inspect", "no-such"][..],
        &["image", "history", "no-such"],
        &["image", "rm", "no-such"],
        &["tag", "no-such", "x"],
    ] {
        env.msb(words).run().failed_saying(&["no-such", "msb pull no-such"]);
    }
    env.msb(["tag", "no-such", "UPPER"]).run().failed_saying(&["UPPER"]);
}

/// Looking at a store that was never used makes nothing.
fn empty_store(env: &TestEnv) {
    assert!(names(env).is_empty());
    assert_eq!(json(env, &["df"])["total_bytes"], 0);
    assert_eq!(json(env, &["image", "prune", "--all", "--dry-run"])["freed_bytes"], 0);
    assert!(!env.home().join("cache").exists());
    env.msb(["image", "prune", "--all"]).run().success();
}

/// What runs is named and kept, however it was started; afterwards it can go.
fn running_images_stay(vm: &Vm) {
    let image = vm.image("busybox");
    let mut running = vm.program("msx").args([&image, "--", "sh", "-c", "echo ready; cat"]).spawn();
    running.expect("ready\n");
    let process = format!("process {}", running.process().pid);
    vm.msb(["image", "rm", &image]).run().failed_saying(&["in use by", "msx", &process]);
    vm.msb(["image", "prune", "--all"]).run().success().stdout_is("");
    vm.msb(["df", "-v"]).run().success().stdout_has(&process);
    // Taken by force, it runs on with the files it has open.
    vm.msb(["image", "rm", "--force", &image]).run().success();
    assert!(names(vm).is_empty());
    assert!(running.wait(vm.hypervisor.limit()).success());
    vm.msx("busybox", ["true"]).run().success();
    vm.msb(["image", "prune", "--all"]).run().success().stdout_has("busybox");
}

/// The disk of a project's sandbox and an installed one only make sense on top of their image.
fn kept_disks_keep_their_images(vm: &Vm) {
    let image = vm.image("busybox");
    vm.write("Sandboxfile", format!("sandboxes:\n  app:\n    image: {image}\n    memory: 256\n"));
    vm.msb(["run", "app", "--exec", "true"]).run().success();
    let place = vm.work().display().to_string();
    vm.msb(["image", "rm", &image]).run().failed_saying(&["in use by", "`app`", &place]);
    vm.msb(["image", "prune", "--all"]).run().success().stdout_is("");
    std::fs::remove_dir_all(vm.work().join("menv")).unwrap();
    vm.msb(["image", "rm", &image]).run().failed_saying(&["in use by", "Sandboxfile.lock"]);
    std::fs::remove_file(vm.work().join("Sandboxfile.lock")).unwrap();
    vm.program("msi").args([&image, "installed"]).run().success();
    vm.msb(["image", "rm", &image]).run().failed_saying(&["in use by", "`installed`"]);
    vm.msb(["uninstall", "installed"]).run().success();
    vm.msb(["image", "rm", &image]).run().success();
    assert_eq!(json(vm, &["df"])["total_bytes"], 0);
}

/// What is saved is loaded elsewhere with the same digest, from a file, a folder or through a pipe.
fn save_and_load(env: &TestEnv) {
    let (busybox, python) = (env.image("busybox"), env.image("python"));
    for image in [&busybox, &python] {
        env.msb(["pull", image]).run().success();
    }
    let before = json(env, &["image", "ls"]);
    env.msb(["save", "-o", "both.tar", &busybox, &python]).run().success().stdout_is("");
    let piped = env.msb(["save", &busybox]).run().success().stdout;
    env.msb(["save", "--format", "oci-dir", "-o", "layout", &python]).run().success();
    let empty = || {
        env.msb(["image", "prune", "--all"]).run().success();
        assert!(names(env).is_empty());
    };
    empty();
    env.msb(["load", "-i", "both.tar"]).run().success();
    assert_eq!(json(env, &["image", "ls"]), before);
    empty();
    env.msb(["load"]).stdin(piped).run().success().stdout_is(format!("{busybox}\n"));
    env.msb(["load", "-i", "layout"]).run().success().stdout_is(format!("{python}\n"));
    assert_eq!(json(env, &["image", "ls"]), before);
    env.msb(["save", "--format", "oci-dir", &python]).run().failed_saying(&["folder", "--output"]);
    env.msb(["save", "-o", "layout", "--format", "oci-dir", &python])
        .run()
        .failed_saying(&["layout", "not empty"]);
    env.msb(["save", "-o", "no/such/x.tar", &python]).run().failed_saying(&["no/such"]);
}

fn save_for_skopeo(env: &TestEnv) {
    let registry = env.own_registry();
    let image = registry.image("python:3.11");
    env.msb(["pull", &image]).run().success();
    env.msb(["save", "-o", "oci.tar", &image]).run().success();
    env.msb(["save", "--format", "docker-archive", "-o", "docker.tar", &image]).run().success();
    let raw = env.program("skopeo").args(["inspect", "--raw", "oci-archive:oci.tar:3.11"]).run().success();
    let sum = env.program("sha256sum").stdin(raw.stdout).run().success();
    assert_eq!(format!("sha256:{}", sum.out().split(' ').next().unwrap()), registry.digest("python", "3.11"));
    let copy = env.program("skopeo").args(["--insecure-policy", "copy", "-q"]);
    copy.arg(format!("docker-archive:docker.tar:{image}")).arg("oci:copied:x").run().success();
}

/// Loaded images are saved without any registry, unless the user does not want to keep what that takes.
fn kept_blobs(env: &TestEnv) {
    let archive = env.images().archive("oci-archive.tar");
    let name = env.msb(["load", "-i"]).arg(&archive).run().success().out();
    let name = name.trim_end();
    assert!(json(env, &["df"])["blobs_bytes"].as_u64() > Some(0));
    env.msb(["save", "-o", "again.tar", name]).run().success();
    env.msb(["image", "rm", name]).run().success();
    assert_eq!(json(env, &["df"])["total_bytes"], 0);
    let config = env.home().join("config/config.toml");
    std::fs::create_dir_all(config.parent().unwrap()).unwrap();
    std::fs::write(&config, "[images]\nkeep-blobs = \"never\"\n").unwrap();
    env.msb(["load", "-i"]).arg(&archive).run().success();
    assert_eq!(json(env, &["df"])["blobs_bytes"], 0);
    env.msb(["save", "-o", "none.tar", name]).run().failed_saying(&["layer 1", "keep-blobs"]);
    assert!(!env.work().join("none.tar").exists());
    std::fs::write(&config, "[images]\nkeep-blobs = \"some\"\n").unwrap();
    env.msb(["df"]).run().failed_saying(&["config.toml", "loaded"]);
    std::fs::write(&config, "[images]\nmax-size = \"1K\"\n").unwrap();
    env.msb(["load", "-i"]).arg(&archive).run().failed_saying(&["1024 bytes", "max-size"]);
}

fn push_elsewhere(env: &TestEnv) {
    let (from, to) = (env.own_registry(), env.empty_registry());
    let image = from.image("python:3.11");
    env.msb(["pull", &image]).run().success();
    let digest = from.digest("python", "3.11");
    let target = to.image("copy/python:new");
    env.msb(["push", &image, &target]).run().success().stdout_is(format!("{digest}\n"));
    assert_eq!(to.digest("copy/python", "new"), digest);
    // Under its own name, and without the registry it came from: everything is there.
    drop(from);
    let named = to.image("copy/python:again");
    env.msb(["tag", &image, &named]).run().success();
    env.msb(["push", &named]).run().success().stdout_is(format!("{digest}\n"));
    env.msb(["image", "prune", "--all"]).run().success();
    env.msb(["pull", &named]).run().success().stdout_is(format!("{digest}\n"));
}

fn push_refused(env: &TestEnv) {
    let read_only = env.own_registry();
    let image = env.image("busybox");
    env.msb(["pull", &image]).run().success();
    env.msb(["push", &image, &read_only.image("new/name")])
        .run()
        .failed_saying(&["cannot push to", "new/name"]);
    let digest = json(env, &["image", "ls"])[0]["digest"].as_str().unwrap().to_owned();
    env.msb(["push", &digest]).run().failed_saying(&["to push to", "REGISTRY/NAME:TAG"]);
    env.msb(["push", "no-such"]).run().failed_saying(&["no-such"]);
    drop(read_only);
}
