//! Everybody who has a project's lock file runs the same images.

use msb_test_support::{Registry, TestEnv, Vm};

use crate::suite::{Suite, tests};

pub(crate) fn register(suite: &mut Suite) {
    tests!(suite, registry: lock_and_update, unreadable_lock_file);
    tests!(suite, vm: locked_and_frozen_refuse, first_run_pins, moved_image_keeps_or_recreates);
}

/// A project with sandboxes of these images of `registry`.
fn project(env: &TestEnv, registry: &Registry, images: &[(&str, &str)]) {
    let mut text = String::from("sandboxes:\n");
    for (name, image) in images {
        text += &format!("  {name}:\n    image: {}\n    memory: 256\n", registry.image(image));
    }
    env.write("Sandboxfile", text);
}

/// Makes `busybox:latest` another image with the same files, and gives the digests of both.
fn move_tag(registry: &Registry) -> (String, String) {
    let (old, new) = (registry.digest("busybox", "latest"), registry.digest("busybox", "zstd"));
    assert_ne!(old, new);
    registry.retag("busybox", "latest", &new);
    (old, new)
}

fn lock_and_update(env: &TestEnv) {
    let registry = env.movable_registry();
    project(env, &registry, &[("app", "busybox"), ("again", "busybox:latest"), ("py", "python:3.11")]);
    env.msb(["lock", "--locked"]).run().failed_saying(&["not in", "Sandboxfile.lock", "msb lock"]);
    env.msb(["lock"]).run().success().stdout_is("");
    let locked = env.read("Sandboxfile.lock");
    let entry = |repository: &str, tag: &str| {
        format!(
            "[[image]]\nname = \"{}\"\nplatform = \"linux/amd64\"\ndigest = \"{}\"\n",
            registry.image(&format!("{repository}:{tag}")),
            registry.digest(repository, tag)
        )
    };
    let both = format!("{}\n{}", entry("busybox", "latest"), entry("python", "3.11"));
    assert!(locked.ends_with(&both), "{locked}");
    env.msb(["lock", "--locked"]).run().success();

    // Nothing but an update moves a pin.
    let (old, new) = move_tag(&registry);
    env.msb(["lock"]).run().success();
    assert_eq!(env.read("Sandboxfile.lock"), locked);
    let short = |digest: &str| digest.split(':').next_back().unwrap()[..12].to_owned();
    let dry = env.msb(["update", "--dry-run"]).run().success();
    assert_eq!(dry.err().matches("Would update").count(), 1, "{dry}");
    dry.stderr_has(&format!("{} -> {}", short(&old), short(&new)));
    assert_eq!(env.read("Sandboxfile.lock"), locked);
    env.msb(["update", "py"]).run().success();
    assert_eq!(env.read("Sandboxfile.lock"), locked);
    env.msb(["update", "pi"]).run().failed_saying(&["pi", "py"]);
    env.msb(["update"]).run().success();
    assert_eq!(env.read("Sandboxfile.lock"), locked.replace(&old, &new));

    // What the Sandboxfile no longer has goes.
    project(env, &registry, &[("py", "python:3.11")]);
    env.msb(["lock", "--locked"]).run().failed_saying(&["no longer has", "msb lock"]);
    env.msb(["lock"]).run().success();
    assert!(!env.read("Sandboxfile.lock").contains("busybox"));
}

/// Neither flag lets a run choose an image by itself; both fail before anything is fetched or booted.
fn locked_and_frozen_refuse(env: &Vm) {
    let registry = env.movable_registry();
    project(env, &registry, &[("app", "busybox")]);
    for flag in ["--locked", "--frozen"] {
        env.msb(["run", "app", flag, "--", "true"]).run().failed_saying(&["busybox", "msb lock"]);
    }
    env.msb(["lock"]).run().success();
    let empty = env.root().join("other-home");
    let frozen = env.msb(["run", "app", "--frozen", "--", "true"]).env("MSB_HOME", empty);
    frozen.run().failed_saying(&["busybox", "--frozen"]);
    let image = registry.image("busybox");
    env.msb(["run", "--image", &image, "--locked", "--", "true"]).run().failed_saying(&["--locked"]);
    env.msb(["run", "--image", &image, "--keep", "--", "true"]).run().failed_saying(&["--keep"]);
}

fn unreadable_lock_file(env: &TestEnv) {
    let registry = env.movable_registry();
    project(env, &registry, &[("app", "busybox")]);
    let conflict = "version = 1\n<<<<<<< ours\n=======\n>>>>>>> theirs\n";
    env.write("Sandboxfile.lock", conflict);
    for words in [["lock"], ["update"]] {
        env.msb(words).run().failed_saying(&["Sandboxfile.lock", "not a lock file", "msb lock"]);
    }
    assert_eq!(env.read("Sandboxfile.lock"), conflict);
}

fn first_run_pins(vm: &Vm) {
    let registry = vm.movable_registry();
    project(vm, &registry, &[("app", "busybox")]);
    vm.msb(["run", "app", "--", "true"]).run().success();
    let (old, _) = move_tag(&registry);
    assert!(vm.read("Sandboxfile.lock").contains(&old));
    // Somebody else gets the project: the tag has moved, their first run does not.
    let other = vm.root().join("other-home");
    vm.msb(["run", "app", "--locked", "--recreate", "--", "true"]).env("MSB_HOME", &other).run().success();
    let listed = vm.msb(["image", "ls", "--format", "json"]).env("MSB_HOME", &other).run().success();
    assert_eq!(listed.json()[0]["digest"], old);
    drop(registry);
    vm.msb(["run", "app", "--frozen", "--", "true"]).run().success();
}

fn moved_image_keeps_or_recreates(vm: &Vm) {
    let registry = vm.movable_registry();
    project(vm, &registry, &[("app", "busybox")]);
    vm.msb(["run", "app", "--", "touch", "/root/note"]).run().success();
    move_tag(&registry);
    vm.msb(["update"]).run().success();
    let look = ["--", "ls", "/root"];
    let run = |flags: &[&str]| vm.msb([&["run", "app"], flags, &look].concat()).run();
    run(&[]).failed_saying(&["image", "changed", "--recreate", "--keep"]);
    run(&["--keep"]).success().stdout_is("note\n");
    run(&["--keep", "--recreate"]).code(2);
    run(&["--recreate"]).success().stdout_is("");
    run(&[]).success();
}
