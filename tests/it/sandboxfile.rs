//! `init`, `add`, `remove`, `list`: the Sandboxfile as people edit it.

use msb_test_support::TestEnv;

use crate::suite::{Suite, tests};

pub(crate) fn register(suite: &mut Suite) {
    tests!(suite, cli: init_makes_a_project, init_keeps_what_is_there, init_templates, add_writes_all_flags, add_keeps_comments);
    tests!(suite, cli: add_several, add_twice, remove_keeps_the_rest, list_shows_projects, list_as_json, list_without_project);
}

fn init_makes_a_project(env: &TestEnv) {
    env.msb(["init"]).run().success().stdout_is("");
    assert!(env.read("Sandboxfile").contains("sandboxes:"));
    assert!(env.read(".gitignore").lines().any(|line| line == "menv/"));
    env.msb(["list"]).run().success();
}

fn init_keeps_what_is_there(env: &TestEnv) {
    env.write(".gitignore", "/target\n*.log");
    env.msb(["init"]).run().success();
    assert_eq!(env.read(".gitignore"), "/target\n*.log\nmenv/\n");
    let before = env.read("Sandboxfile");
    env.msb(["init"]).run().failed_saying(&["Sandboxfile", "exists"]);
    assert_eq!(env.read("Sandboxfile"), before);
    assert_eq!(env.read(".gitignore"), "/target\n*.log\nmenv/\n");
    env.msb(["init", "--file", "new/folder"]).run().success();
    assert!(env.read("new/folder/Sandboxfile").contains("sandboxes:"));
}

fn init_templates(env: &TestEnv) {
    for template in ["python", "node"] {
        env.msb(["init", "--template", template, "-f", template]).run().success();
        let text = env.read(&format!("{template}/Sandboxfile"));
        assert!(text.contains("image:") && text.contains("start:"), "{text}");
        env.msb(["list", "-f", template]).run().success();
    }
    env.msb(["init", "--template", "pyton", "-f", "x"]).run().code(2).stderr_has("python");
}

/// Every flag ends up as the key that `run` reads; what was written is read back by `list`.
fn add_writes_all_flags(env: &TestEnv) {
    env.msb(["init"]).run().success();
    let add =
        env.msb(["add", "app", "--image", "python:3.11", "--cpus", "2", "--memory", "512M", "--disk", "4G"]);
    let add = add.args([
        "--env",
        "A=1",
        "--env",
        "B=two words",
        "--env-file",
        ".env",
        "--workdir",
        "/app",
        "--user",
        "app",
    ]);
    let add = add.args(["--shell", "/bin/ash", "--start", "echo \"hi\"", "--script", "test=run 'all': it"]);
    add.run().success().stdout_is("");
    env.write(".env", "");
    let text = env.read("Sandboxfile");
    for part in [
        "image: python:3.11",
        "cpus: 2",
        "512",
        "4",
        "A=1",
        "two words",
        ".env",
        "/app",
        "user: app",
        "/bin/ash",
        "start:",
        "test:",
    ] {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
    let json = env.msb(["list", "--format", "json"]).run().success().json();
    assert_eq!(json[0]["memory_mib"], 512);
    assert_eq!(json[0]["cpus"], 2);
    assert_eq!(json[0]["scripts"], serde_json::json!(["start", "test"]));
}

fn add_keeps_comments(env: &TestEnv) {
    let before = "# my project\nsandboxes:\n  # the first\n  one:\n    image: \"alpine\" # small\n\n    memory:   256\n";
    env.write("Sandboxfile", before);
    env.msb(["add", "two", "--image", "busybox"]).run().success();
    let after = env.read("Sandboxfile");
    assert!(after.starts_with(before), "{after}");
    assert!(after.contains("  two:\n    image: busybox"), "{after}");
    env.msb(["remove", "two"]).run().success();
    assert_eq!(env.read("Sandboxfile"), before);
}

fn add_several(env: &TestEnv) {
    env.msb(["init"]).run().success();
    env.msb(["add", "a", "b", "c", "-i", "busybox"]).run().success();
    let json = env.msb(["list", "--format", "json"]).run().success().json();
    let names: Vec<&str> = json.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "b", "c"]);
}

fn add_twice(env: &TestEnv) {
    env.msb(["init"]).run().success();
    env.msb(["add", "app", "-i", "busybox"]).run().success();
    let before = env.read("Sandboxfile");
    env.msb(["add", "app", "-i", "python"]).run().failed_saying(&["app"]);
    env.msb(["add", "new", "app", "-i", "python"]).run().failed_saying(&["app"]);
    assert_eq!(env.read("Sandboxfile"), before, "all or nothing");
}

fn remove_keeps_the_rest(env: &TestEnv) {
    env.write(
        "Sandboxfile",
        "sandboxes:\n  one: {image: a}\n  # about two\n  two:\n    image: b\n  three:\n    image: c # last\n",
    );
    env.msb(["remove", "two"]).run().success();
    let text = env.read("Sandboxfile");
    assert!(
        text.contains("  one: {image: a}\n")
            && text.contains("image: c # last")
            && !text.contains("image: b"),
        "{text}"
    );
    env.msb(["remove", "thre"]).run().failed_saying(&["thre", "three"]);
}

fn list_shows_projects(env: &TestEnv) {
    env.write("Sandboxfile", "sandboxes:\n  web: {image: python, memory: 2G}\n  db: {image: busybox}\n");
    env.msb(["list"]).run().success().stdout_has("web").stdout_has("db").stdout_has("python");
    env.msb(["ls", "-f", "Sandboxfile"]).cwd(env.work()).run().success().stdout_has("web");
}

fn list_as_json(env: &TestEnv) {
    env.write("Sandboxfile", "sandboxes:\n  web: {image: python, memory: 2G}\n");
    let json = env.msb(["list", "--format", "json"]).run().success().json();
    let row = &json[0];
    assert_eq!((row["name"].as_str(), row["kind"].as_str()), (Some("web"), Some("project")), "{row}");
    assert_eq!((row["state"].as_str(), row["memory_mib"].as_u64()), (Some("new"), Some(2048)), "{row}");
}

/// Installed sandboxes can be listed anywhere, so no Sandboxfile is no error.
fn list_without_project(env: &TestEnv) {
    let json = env.msb(["list", "--format", "json"]).run().success().json();
    assert_eq!(json, serde_json::json!([]));
    env.msb(["list", "-f", "/nowhere"]).run().failed_saying(&["/nowhere"]);
}
