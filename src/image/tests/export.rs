//! Images that leave the store: saved and pushed with the digests they came with, checked with skopeo and a real registry.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::fake_registry::{Answer, FakeRegistry, Parts, blob};
use super::fixture::{Registry, layout, run, skopeo};
use super::*;

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("cache")).unwrap();
    (folder, store)
}

fn save(store: &Store, name: &str, format: SaveFormat, path: &Path) -> Result<(), Error> {
    let target = SaveTarget::Path(path.to_path_buf());
    store.save(&[name.into()], format, target, &PullOptions::default(), &Silent)
}

fn load(path: &Path) -> Result<Image, Error> {
    let (_keep, store) = store();
    let source = LoadSource::Path(path.to_path_buf());
    store.load(&source, &LoadOptions::default(), &Silent).map(|mut images| images.remove(0))
}

/// What skopeo says the manifest is, byte for byte.
fn raw(source: &str) -> Vec<u8> {
    let mut command = Command::new("skopeo");
    command.args(["inspect", "--raw"]);
    if source.starts_with("docker:") {
        command.arg("--tls-verify=false");
    }
    let output = command.arg(source).output().unwrap();
    assert!(output.status.success(), "{source}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// The digests of the blobs that a copy with skopeo gives.
fn copied(source: &str, folder: &Path) -> Vec<String> {
    let copy = folder.join("copy");
    let _ = fs::remove_dir_all(&copy);
    skopeo(&["copy", "-q", source, &format!("oci:{}:x", copy.display())]);
    files(&copy.join("blobs"))
}

/// The fixture image pulled from a registry.
fn pulled(options: &PullOptions) -> (tempfile::TempDir, Store, Registry, Image) {
    let registry = Registry::with_app();
    let (keep, store) = store();
    let image = store.pull(&registry.reference("test/app:1"), options, &Silent).unwrap();
    (keep, store, registry, image)
}

#[test]
fn a_pulled_image_is_saved_with_the_digests_of_its_registry() {
    let (keep, store, registry, image) = pulled(&PullOptions::default());
    let name = registry.name("test/app:1");
    let original = raw(&format!("docker://{name}"));
    assert_eq!(Digest::sha256(&original), image.digest);
    let (archive, folder) = (keep.path().join("app.tar"), keep.path().join("app"));
    save(&store, &name, SaveFormat::OciArchive, &archive).unwrap();
    save(&store, image.digest.short(), SaveFormat::OciDir, &folder).unwrap();
    let expected = copied(&format!("oci:{}:1", layout().display()), keep.path());
    for source in [format!("oci-archive:{}:1", archive.display()), format!("oci:{}:1", folder.display())] {
        assert_eq!(raw(&source), original, "{source}");
        assert_eq!(copied(&source, keep.path()), expected, "{source}");
    }
    for path in [&archive, &folder] {
        let loaded = load(path).unwrap();
        assert_eq!((&loaded.digest, loaded.reference.short()), (&image.digest, name.clone()));
    }
    let again = keep.path().join("again.tar");
    save(&store, &name, SaveFormat::OciArchive, &again).unwrap();
    assert_eq!(fs::read(&archive).unwrap(), fs::read(&again).unwrap(), "the same each time");
    assert!(files(&store.root().join("tmp")).is_empty() && !store.blobs_folder().exists());
}

#[test]
fn docker_archives_keep_id_and_layers() {
    let (keep, store, registry, image) = pulled(&PullOptions::default());
    let archive = keep.path().join("app.tar");
    let name = registry.name("test/app:1");
    save(&store, &name, SaveFormat::DockerArchive, &archive).unwrap();
    let source = format!("docker-archive:{}:{name}", archive.display());
    skopeo(&["copy", "-q", &source, &format!("oci:{}:x", keep.path().join("copy").display())]);
    let loaded = load(&archive).unwrap();
    assert_eq!((loaded.config, loaded.reference), (image.config, image.reference));
    let id = |store: &Store, what: &str| store.details(&what.into(), &[]).unwrap().config_digest;
    let manifest: serde_json::Value = serde_json::from_slice(&raw(&source)).unwrap();
    assert_eq!(manifest["config"]["digest"], id(&store, &name).to_string());
}

#[test]
fn several_images_share_an_archive() {
    let (keep, store, registry, image) = pulled(&PullOptions::default());
    let name = registry.name("test/app:1");
    store.tag(&name.as_str().into(), &"other:2".parse().unwrap()).unwrap();
    for format in [SaveFormat::OciArchive, SaveFormat::DockerArchive] {
        let archive = keep.path().join("both.tar");
        let images = [name.as_str().into(), "other:2".into()];
        store
            .save(&images, format, SaveTarget::Path(archive.clone()), &PullOptions::default(), &Silent)
            .unwrap();
        let (_keep, second) = super::export::store();
        let loaded =
            second.load(&LoadSource::Path(archive.clone()), &LoadOptions::default(), &Silent).unwrap();
        assert_eq!(loaded.len(), 2);
        assert_eq!(loaded[0].digest == image.digest, format == SaveFormat::OciArchive);
        let list = run(Command::new("tar").arg("-tf").arg(&archive));
        let mut names: Vec<&str> = list.lines().collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all, "each file once");
    }
}

#[test]
fn loaded_images_keep_their_blobs_and_leave_as_they_came() {
    let folder = tempfile::tempdir().unwrap();
    let source = format!("oci:{}:1", layout().display());
    let (oci, docker) = (folder.path().join("oci.tar"), folder.path().join("docker.tar"));
    skopeo(&["copy", "-q", &source, &format!("oci-archive:{}:app:1", oci.display())]);
    skopeo(&["copy", "-q", &source, &format!("docker-archive:{}:app:1", docker.display())]);
    for archive in [&oci, &docker] {
        let (keep, store) = store();
        let load = |options: LoadOptions| {
            store.load(&LoadSource::Path(archive.clone()), &options, &Silent).unwrap().remove(0)
        };
        let digest = load(LoadOptions { keep_blobs: false, ..LoadOptions::default() }).digest;
        let out = keep.path().join("out.tar");
        let error = save(&store, "app:1", SaveFormat::OciArchive, &out).unwrap_err();
        assert!(matches!(error, Error::NoBlob { layer: 1, source: None, .. }), "{error}");
        assert!(error.hint().unwrap().contains("keep-blobs"));
        assert_eq!(fs::read_dir(keep.path()).unwrap().count(), 1, "nothing is left of the archive");
        // The layers are here, the blobs are not: they are taken from the archive all the same.
        assert_eq!(load(LoadOptions::default()).digest, digest);
        let details = store.details(&"app:1".into(), &[]).unwrap();
        assert!(details.layers.iter().all(|layer| layer.blob_kept), "{:?}", details.layers);
        save(&store, "app:1", SaveFormat::OciArchive, &out).unwrap();
        assert_eq!(super::export::load(&out).unwrap().digest, digest, "{}", archive.display());
        assert_eq!(Digest::sha256(&raw(&format!("oci-archive:{}:1", out.display()))), digest);
        let usage = store.usage(&[]).unwrap();
        assert_eq!(usage.blobs, 2);
        if archive == &docker {
            let plain: u64 = details.layers.iter().map(|layer| layer.blob_bytes).sum();
            assert!(usage.blobs_bytes < plain, "plain layers are kept compressed");
        }
        store.remove(&"app:1".into(), false, &[]).unwrap();
        assert_empty(store.root());
    }
}

#[test]
fn blobs_that_are_gone_say_so_and_kept_ones_need_no_registry() {
    for keep_blobs in [false, true] {
        let (keep, store, registry, image) = pulled(&PullOptions { keep_blobs, ..PullOptions::default() });
        let name = registry.name("test/app:1");
        drop(registry);
        let out = keep.path().join("out.tar");
        match (keep_blobs, save(&store, &name, SaveFormat::OciArchive, &out)) {
            (true, saved) => {
                saved.unwrap();
                assert_eq!(load(&out).unwrap().digest, image.digest);
            }
            (false, saved) => {
                let error = saved.unwrap_err().to_string();
                assert!(
                    error.contains("cannot be fetched again") && error.contains("cannot connect"),
                    "{error}"
                );
                assert!(!out.exists());
            }
        }
    }
}

#[test]
fn damaged_blobs_are_not_passed_on() {
    let (keep, store, registry, _image) = pulled(&PullOptions { keep_blobs: true, ..PullOptions::default() });
    let name = registry.name("test/app:1");
    let kept: Vec<PathBuf> =
        fs::read_dir(store.blobs_folder()).unwrap().map(|file| file.unwrap().path()).collect();
    let mut bytes = fs::read(&kept[0]).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&kept[0], &bytes).unwrap();
    let out = keep.path().join("out.tar");
    assert!(matches!(save(&store, &name, SaveFormat::OciArchive, &out), Err(Error::DigestMismatch { .. })));
    fs::write(&kept[0], &bytes[..last]).unwrap();
    assert!(matches!(save(&store, &name, SaveFormat::OciArchive, &out), Err(Error::SizeMismatch { .. })));
    assert!(!out.exists());
    let target = registry.reference("other/app:1");
    let error = store.push(&name.as_str().into(), Some(&target), &PullOptions::default(), &Silent);
    // The same registry has it, so nothing of ours is needed.
    assert!(error.is_ok(), "{error:?}");
    let elsewhere = Registry::start();
    let error = store.push(
        &name.as_str().into(),
        Some(&elsewhere.reference("app:1")),
        &PullOptions::default(),
        &Silent,
    );
    assert!(matches!(error, Err(Error::SizeMismatch { .. })), "{error:?}");
}

#[test]
fn targets_are_whole_or_untouched() {
    let (keep, store, registry, _image) = pulled(&PullOptions::default());
    let name = registry.name("test/app:1");
    let full = keep.path().join("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("file"), "mine").unwrap();
    let error = save(&store, &name, SaveFormat::OciDir, &full).unwrap_err();
    assert!(error.to_string().contains("not empty"), "{error}");
    let missing = keep.path().join("no/such/folder/out.tar");
    let error = save(&store, &name, SaveFormat::OciArchive, &missing).unwrap_err();
    assert!(error.to_string().contains("no/such/folder"), "{error}");
    assert!(matches!(save(&store, "none", SaveFormat::OciArchive, &missing), Err(Error::NotStored { .. })));
    let error = save(&store, &name, SaveFormat::OciArchive, Path::new("/dev/full")).unwrap_err();
    assert!(matches!(error, Error::NoSpace { .. }), "{error}");
    let mut stream = Vec::new();
    let (reader, writer) = std::io::pipe().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| std::io::Read::read_to_end(&mut { reader }, &mut stream).unwrap());
        let target = SaveTarget::Stream(Box::new(writer));
        store
            .save(&[name.as_str().into()], SaveFormat::OciArchive, target, &PullOptions::default(), &Silent)
            .unwrap();
    });
    let out = keep.path().join("out.tar");
    save(&store, &name, SaveFormat::OciArchive, &out).unwrap();
    assert_eq!(stream, fs::read(&out).unwrap());
}

#[test]
fn a_push_keeps_digests_and_sends_what_is_missing() {
    let (_keep, store, registry, image) = pulled(&PullOptions::default());
    let name = registry.name("test/app:1");
    let other = Registry::start();
    let push = |target: &Reference| {
        let record = Record::default();
        let digest =
            store.push(&name.as_str().into(), Some(target), &PullOptions::default(), &record).unwrap();
        assert_eq!(digest, image.digest);
        assert_eq!(
            raw(&format!("docker://{target}")),
            fs::read(image.disk.with_file_name("manifest.json")).unwrap()
        );
        (record.count("started"), record.count("cached"), record.count("progress"))
    };
    let (started, cached, progress) = push(&other.reference("copy/app:2"));
    assert_eq!((started, cached, progress > 0), (2, 0, true));
    assert_eq!(push(&other.reference("copy/app:3")), (0, 2, 0), "the blobs are there");
    assert_eq!(push(&registry.reference("sibling:1")), (2, 0, 0), "mounted and not sent");
    let (_keep, second) = super::export::store();
    let again = second.pull(&other.reference("copy/app:2"), &PullOptions::default(), &Silent).unwrap();
    assert_eq!((again.digest, again.config), (image.digest.clone(), image.config.clone()));
    let pinned = other.reference("copy/app:2").with_digest(image.digest.clone());
    let error = store.push(&name.as_str().into(), Some(&pinned), &PullOptions::default(), &Silent);
    assert!(matches!(error, Err(Error::NamedByDigest { .. })));
    let error = store.push(&image.digest.short().into(), None, &PullOptions::default(), &Silent);
    assert!(matches!(error, Err(Error::NoTarget { .. })));
}

#[test]
fn a_push_that_breaks_begins_again_and_one_refused_says_so() {
    let parts = Parts::new(400_000);
    let source = FakeRegistry::with(&parts);
    let (_keep, store) = store();
    store.pull(&source.reference(), &PullOptions::default(), &Silent).unwrap();
    let name = source.reference().to_string();
    let fake = FakeRegistry::start();
    let target: Reference = format!("127.0.0.1:{}/new:1", fake.port).parse().unwrap();
    let push =
        |record: &Record| store.push(&name.as_str().into(), Some(&target), &PullOptions::default(), record);
    let session = |path: &str| Answer::status(202, "").header("location", path);
    fake.set(&blob(&parts.config).replace("app", "new"), Answer::ok(b""));
    fake.set("/v2/new/blobs/uploads/", session("/v2/new/blobs/uploads/1?state=a"));
    fake.sequence(
        "/v2/new/blobs/uploads/1",
        vec![Answer::status(502, "broken"), session("/v2/new/blobs/uploads/2?state=b")],
    );
    fake.set("/v2/new/blobs/uploads/2", Answer::status(201, ""));
    let stated = Digest::sha256(&parts.manifest).to_string();
    fake.set("/v2/new/manifests/1", Answer::status(201, "").header("docker-content-digest", &stated));
    let record = Record::default();
    push(&record).unwrap();
    assert_eq!(
        (
            fake.count("POST "),
            fake.count("PATCH "),
            fake.count("PUT /v2/new/blobs/uploads/2?state=b&digest=sha256")
        ),
        (2, 2, 1)
    );
    assert_eq!((fake.count("PUT /v2/new/manifests/1"), record.count("notice")), (1, 1));

    let lie = Digest::sha256(b"lie").to_string();
    fake.set("/v2/new/manifests/1", Answer::status(201, "").header("docker-content-digest", &lie));
    fake.set(&blob(&parts.layer).replace("app", "new"), Answer::ok(b""));
    assert!(matches!(push(&Record::default()), Err(Error::DigestMismatch { .. })));
    fake.set(
        "/v2/new/manifests/1",
        Answer::status(403, r#"{"errors":[{"code":"DENIED","message":"read only"}]}"#),
    );
    let error = push(&Record::default()).unwrap_err();
    assert!(
        error.to_string().starts_with("cannot push to 127.0.0.1:") && error.to_string().contains("read only"),
        "{error}"
    );
    fake.set(&blob(&parts.layer).replace("app", "new"), Answer::status(404, ""));
    fake.set("/v2/new/blobs/uploads/", session(""));
    assert!(push(&Record::default()).unwrap_err().to_string().contains("for an upload"));
}

#[test]
fn the_index_behind_a_name_is_kept_byte_for_byte() {
    let parts = Parts::new(1000);
    let fake = FakeRegistry::with(&parts);
    let manifest = Digest::sha256(&parts.manifest);
    let entry = serde_json::json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": manifest,
        "size": parts.manifest.len(), "platform": {"os": "linux", "architecture": Platform::host().architecture}});
    let index = format!("{{ \"schemaVersion\": 2,\n \"manifests\": [{entry}] }}").into_bytes();
    fake.set("/v2/app/manifests/1", Answer::ok(&index));
    fake.set(&format!("/v2/app/manifests/{manifest}"), Answer::ok(&parts.manifest));
    let (_keep, store) = store();
    let image = store.pull(&fake.reference(), &PullOptions::default(), &Silent).unwrap();
    let details = store.details(&image.digest.short().into(), &[]).unwrap();
    assert_eq!((&image.digest, details.index), (&manifest, Some(Digest::sha256(&index))));
    let mut kept = Vec::new();
    let mut blob = store.kept_blob(&Digest::sha256(&index)).unwrap().unwrap();
    std::io::Read::read_to_end(&mut blob, &mut kept).unwrap();
    assert_eq!(kept, index);
    drop(image);
    assert!(store.prune(&PruneOptions::default(), &[]).unwrap().images.is_empty());
    assert!(store.has_blob(&Digest::sha256(&index)), "a name leads to it");
    store.remove(&fake.reference().to_string().as_str().into(), false, &[]).unwrap();
    assert_empty(store.root());
}
