//! Several pulls at once, in threads and in processes, and pulls that are killed.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::fake_registry::{Answer, FakeRegistry, Parts, blob};
use super::fixture::Registry;
use super::*;

const STORE: &str = "MSB_TEST_STORE";
const REFERENCE: &str = "MSB_TEST_REFERENCE";

/// Not a test of its own: the child process of the tests below.
#[test]
#[ignore = "runs as a child of other tests"]
fn child_pull() {
    let (Some(store), Ok(reference)) = (std::env::var_os(STORE), std::env::var(REFERENCE)) else { return };
    let store = Store::open(Path::new(&store)).unwrap();
    let record = Record::default();
    let image = match store.pull(&reference.parse().unwrap(), &PullOptions::default(), &record) {
        Ok(image) => image,
        Err(error) => panic!("{error}"),
    };
    std::fs::write(
        store.root().with_extension(std::process::id().to_string()),
        format!("{} {}", record.count("started"), image.digest),
    )
    .unwrap();
}

/// Not a test of its own: pulls and prunes until it is killed.
#[test]
#[ignore = "runs as a child of other tests"]
fn child_prune() {
    let (Some(store), Ok(reference)) = (std::env::var_os(STORE), std::env::var(REFERENCE)) else { return };
    let store = Store::open(Path::new(&store)).unwrap();
    loop {
        store.pull(&reference.parse().unwrap(), &PullOptions::default(), &Silent).unwrap();
        store.prune(&PruneOptions { all: true, ..PruneOptions::default() }, &[]).unwrap();
        std::fs::write(store.root().with_extension("round"), "").unwrap();
    }
}

/// Not a test of its own: loads an archive and writes it again.
#[test]
#[ignore = "runs as a child of other tests"]
fn child_load() {
    let (Some(store), Ok(archive)) = (std::env::var_os(STORE), std::env::var(REFERENCE)) else { return };
    let store = Store::open(Path::new(&store)).unwrap();
    let source = LoadSource::Path(archive.into());
    let image = match store.load(&source, &LoadOptions::default(), &Silent) {
        Ok(mut images) => images.remove(0),
        Err(error) => panic!("{error}"),
    };
    let target = SaveTarget::Path(store.root().with_extension("saved"));
    let name = image.reference.to_string();
    let saved =
        store.save(&[name.as_str().into()], SaveFormat::OciArchive, target, &PullOptions::default(), &Silent);
    saved.unwrap_or_else(|error| panic!("{error}"));
}

/// The fixture image as an archive.
fn archive(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("app.tar");
    let source = format!("oci:{}:1", super::fixture::layout().display());
    super::fixture::skopeo(&["copy", "-q", &source, &format!("oci-archive:{}:app:1", path.display())]);
    path
}

#[test]
fn killed_loads_and_saves_leave_what_the_next_one_cleans() {
    let folder = tempfile::tempdir().unwrap();
    let (archive, root) = (archive(folder.path()), folder.path().join("cache"));
    let store = Store::open(&root).unwrap();
    let name: Reference = "app:1".parse().unwrap();
    let load = || store.load(&LoadSource::Path(archive.clone()), &LoadOptions::default(), &Silent);
    for round in 0..12u64 {
        let mut command = child("child_load", &root, &name);
        let mut victim = command.env(REFERENCE, &archive).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(round * 10));
        let _ = (victim.kill(), victim.wait());
        if let Some(image) = store.find(&name).unwrap() {
            assert_sound(&image);
        }
        // What a finished load has kept is whole, too: it can be saved.
        if round % 3 == 2 {
            assert_sound(&load().unwrap()[0]);
            let target = SaveTarget::Path(folder.path().join("out.tar"));
            store
                .save(&["app:1".into()], SaveFormat::OciArchive, target, &PullOptions::default(), &Silent)
                .unwrap();
            assert!(files(&root.join("tmp")).is_empty());
            store.prune(&PruneOptions { all: true, ..PruneOptions::default() }, &[]).unwrap();
            assert_empty(&root);
        }
    }
}

#[test]
fn loads_and_saves_on_a_full_disk_name_it_and_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let archive = archive(folder.path());
    let place = folder.path().join("small");
    std::fs::create_dir(&place).unwrap();
    let script = r#"mount -t tmpfs -o "size=$1" none "$0" && shift && "$@"; code=$?; find "$0" -type f -size +64k; exit $code"#;
    // Too small for a layer, for the kept blobs beside the layers, for the saved archive beside the store.
    for (size, expected) in [
        ("1m", "no space left for images in"),
        ("7m", "no space left for images in"),
        ("11m", "no space left for"),
    ] {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c", script]).arg(&place).arg(size);
        command.arg(std::env::current_exe().unwrap());
        command.args(["--exact", "image::tests::processes::child_load", "--ignored", "--nocapture"]);
        let output = command.env(STORE, place.join("cache")).env(REFERENCE, &archive).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        assert!(!output.status.success() && text.contains(expected), "{size}: {text}");
        let left: Vec<&str> =
            text.lines().filter(|line| line.starts_with(&place.display().to_string())).collect();
        assert!(
            left.iter().all(|file| file.contains("/layers/") || file.contains("/blobs/")),
            "{size}: {left:?}"
        );
    }
}

/// Killed at any moment, a removal leaves a store that works and that the next removal empties.
#[test]
fn killed_prunes_leave_nothing_behind() {
    let fake = FakeRegistry::with(&Parts::new(100_000));
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("cache");
    let store = Store::open(&root).unwrap();
    for round in 0..10u64 {
        let mut victim = child("child_prune", &root, &fake.reference()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while !root.with_extension("round").exists() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        // Somewhere in the second round.
        std::thread::sleep(Duration::from_micros(700 * round));
        victim.kill().unwrap();
        assert_eq!(victim.wait().unwrap().signal(), Some(9), "it runs until it is killed");
        std::fs::remove_file(root.with_extension("round")).unwrap();
        if let Some(image) = store.find(&fake.reference()).unwrap() {
            assert_sound(&image);
        }
        for image in store.list().unwrap() {
            assert_sound(&image);
        }
        if round % 2 == 0 {
            store.prune(&PruneOptions { all: true, ..PruneOptions::default() }, &[]).unwrap();
            assert_empty(&root);
        }
    }
    assert_sound(&store.pull(&fake.reference(), &PullOptions::default(), &Silent).unwrap());
}

fn child(name: &str, store: &Path, reference: &Reference) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("image::tests::processes::{name}"), "--ignored", "-q"]);
    command
        .env(STORE, store)
        .env(REFERENCE, reference.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn spawn(store: &Path, reference: &Reference) -> Child {
    child("child_pull", store, reference).spawn().unwrap()
}

#[test]
fn threads_share_the_work() {
    let registry = Registry::with_app();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("cache");
    let reference = registry.reference("test/app:1");
    let records: Vec<Record> = (0..4).map(|_| Record::default()).collect();
    std::thread::scope(|scope| {
        for record in &records {
            scope.spawn(|| {
                let store = Store::open(&root).unwrap();
                let image = store.pull(&reference, &PullOptions::default(), record).unwrap();
                assert_sound(&image);
            });
        }
    });
    let total = |word: &str| records.iter().map(|record| record.count(word)).sum::<usize>();
    assert_eq!((total("done-layer"), total("assembling"), total("cached")), (2, 1, 6));
    assert_eq!(std::fs::read_dir(root.join("tmp")).unwrap().count(), 0);
}

#[test]
fn processes_share_the_work_and_say_that_they_wait() {
    let parts = Parts::new(3_000_000);
    let fake = FakeRegistry::with(&parts);
    // The first transfer breaks and resumes after half a second, which the second process meets.
    fake.set(&blob(&parts.layer), Answer { cut: Some(1_000_000), cuts: 1, ..Answer::ok(&parts.layer) });
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("cache");
    let reference = fake.reference();
    let mut other = spawn(&root, &reference);
    let deadline = Instant::now() + Duration::from_secs(20);
    while fake.count("/blobs/") < 2 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    let (store, record) = (Store::open(&root).unwrap(), Record::default());
    let image = store.pull(&reference, &PullOptions::default(), &record).unwrap();
    assert_sound(&image);
    assert_eq!((record.count("waiting") >= 1, record.count("cached"), record.count("started")), (true, 1, 0));
    let other_id = other.id();
    assert!(other.wait().unwrap().success());
    let said = std::fs::read_to_string(root.with_extension(other_id.to_string())).unwrap();
    assert_eq!(said, format!("1 {}", image.digest));
}

#[test]
fn a_killed_pull_leaves_nothing_visible_and_the_next_one_works() {
    let parts = Parts::new(3_000_000);
    let fake = FakeRegistry::with(&parts);
    let stalled = Answer { cut: Some(1_000_000), cuts: 1, ..Answer::ok(&parts.layer) };
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("cache");
    let reference = fake.reference();
    let store = Store::open(&root).unwrap();
    for _ in 0..3 {
        fake.set(&blob(&parts.layer), stalled.clone());
        let before = fake.count("/blobs/");
        let mut victim = spawn(&root, &reference);
        while fake.count("/blobs/") < before + 2 {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(100));
        victim.kill().unwrap();
        assert_eq!(victim.wait().unwrap().signal(), Some(9));
        assert!(store.find(&reference).unwrap().is_none());
        assert!(store.list().unwrap().is_empty());
        let left = files(&root);
        assert!(left.iter().all(|file| file.starts_with("tmp/")) && !left.is_empty(), "{left:?}");
    }
    std::fs::write(root.join("tmp/layer-0000"), "left by another pull").unwrap();
    let image = store.pull(&reference, &PullOptions::default(), &Silent).unwrap();
    assert_sound(&image);
    assert!(files(&root.join("tmp")).is_empty());
}

#[test]
fn kills_at_any_moment_never_spoil_the_store() {
    let registry = Registry::with_app();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("cache");
    let reference = registry.reference("test/app:1");
    let store = Store::open(&root).unwrap();
    for round in 0..12u64 {
        let mut victim = spawn(&root, &reference);
        std::thread::sleep(Duration::from_millis(round * 12));
        let _ = (victim.kill(), victim.wait());
        if let Some(image) = store.find(&reference).unwrap() {
            assert_sound(&image);
            std::fs::remove_dir_all(&root).unwrap();
        }
    }
    assert_sound(&store.pull(&reference, &PullOptions::default(), &Silent).unwrap());
    assert!(files(&root.join("tmp")).is_empty());
}

#[test]
fn full_and_read_only_disks_are_named() {
    let fake = FakeRegistry::with(&Parts::new(3_000_000));
    for (flags, expected) in [("size=1m", "no space left for images in"), ("ro", "no permission for")] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("unshare");
        let script = r#"mount -t tmpfs -o "$1" none "$0" && shift && exec "$@""#;
        command.args(["--map-root-user", "--mount", "sh", "-c", script]).arg(folder.path()).arg(flags);
        command.arg(std::env::current_exe().unwrap());
        command.args(["--exact", "image::tests::processes::child_pull", "--ignored", "--nocapture"]);
        command.env(STORE, folder.path().join("cache")).env(REFERENCE, fake.reference().to_string());
        let output = command.output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let place = format!("{expected} {}/cache", folder.path().display());
        assert!(text.contains(&place), "{flags}: {text}");
    }
}

#[test]
fn stored_credentials_are_sent_when_asked_for() {
    let parts = Parts::new(1000);
    let fake = FakeRegistry::with(&parts);
    let challenge = Answer::status(401, "").header("www-authenticate", "Basic realm=\"x\"");
    fake.sequence("/v2/app/manifests/1", vec![challenge, Answer::ok(&parts.manifest)]);
    let folder = tempfile::tempdir().unwrap();
    let config = format!(r#"{{"auths":{{"127.0.0.1:{}":{{"auth":"dXNlcjpwYXNz"}}}}}}"#, fake.port);
    std::fs::write(folder.path().join("config.json"), config).unwrap();
    let mut command = child("child_pull", &folder.path().join("cache"), &fake.reference());
    // A proxy in the environment must not be asked for a registry on this machine.
    command
        .env("DOCKER_CONFIG", folder.path())
        .env("HTTP_PROXY", "http://127.0.0.1:1")
        .env("ALL_PROXY", "http://127.0.0.1:1");
    assert!(command.status().unwrap().success());
    assert_eq!(fake.count("authorization: Basic dXNlcjpwYXNz"), 3);
}
