//! Pulls from a real registry.

use super::fixture::{Registry, layout, run, skopeo};
use super::*;

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("cache")).unwrap();
    (folder, store)
}

fn pull(store: &Store, reference: &Reference) -> (Image, Record) {
    let record = Record::default();
    let image = store.pull(reference, &PullOptions::default(), &record).unwrap();
    (image, record)
}

#[test]
fn pulls_by_tag_and_digest_and_finds_again() {
    let registry = Registry::with_app();
    let (_keep, store) = store();
    let reference = registry.reference("test/app:1");
    assert!(store.find(&reference).unwrap().is_none());
    let (image, record) = pull(&store, &reference);
    assert_sound(&image);
    assert_eq!((record.count("started"), record.count("done-layer"), record.count("assembling")), (2, 2, 1));
    assert!(record.count("progress") >= 5, "progress within a layer");
    assert_eq!(record.last(), format!("done {}", image.digest));

    let config = &image.config;
    assert_eq!(
        (config.entrypoint.as_slice(), config.cmd.as_slice()),
        (&["/bin/busybox".to_owned()][..], &["sh".to_owned()][..])
    );
    assert!(config.env.contains(&("A".into(), "b=c".into())));
    assert_eq!((config.user.as_deref(), config.working_dir.as_deref()), (Some("app"), Some("/data")));
    assert_eq!(
        (config.stop_signal.as_deref(), config.exposed_ports.as_slice()),
        (Some("SIGINT"), &["80/tcp".to_owned()][..])
    );
    assert_eq!(config.labels["org.example"], "yes");

    // The digest is the one other tools see, and the kept manifest is the registry's, byte for byte.
    let inspected = run(std::process::Command::new("skopeo")
        .args(["inspect", "--tls-verify=false", "--format", "{{.Digest}}"])
        .arg(format!("docker://{}", registry.name("test/app:1"))));
    assert_eq!(image.digest.to_string(), inspected.trim());
    let kept = std::fs::read(image.disk.with_file_name("manifest.json")).unwrap();
    assert_eq!(Digest::sha256(&kept), image.digest);

    let found = store.find(&reference).unwrap().unwrap();
    assert_eq!(
        (found.digest.clone(), found.extents.clone(), found.size),
        (image.digest.clone(), image.extents.clone(), image.size)
    );
    let pinned = reference.with_digest(image.digest.clone());
    assert_eq!(store.find(&pinned).unwrap().unwrap().digest, image.digest);
    let (again, record) = pull(&store, &reference);
    assert_eq!(
        (again.digest, record.count("cached"), record.count("started"), record.count("assembling")),
        (image.digest.clone(), 2, 0, 0)
    );

    drop(registry);
    // Known by digest: the registry is not needed any more.
    let (offline, _) = pull(&store, &pinned);
    assert_eq!(offline.digest, image.digest);
    assert_eq!(
        store.list().unwrap().iter().map(|image| image.reference.clone()).collect::<Vec<_>>(),
        [reference]
    );
    assert_eq!(std::fs::read_dir(store.root().join("tmp")).unwrap().count(), 0);
}

#[test]
fn every_format_gives_the_same_layers() {
    let registry = Registry::with_app();
    let source = format!("oci:{}:1", layout().display());
    registry.push(&source, "test/docker:1", &["--format", "v2s2"]);
    // Only what is plain gets compressed anew, and a push puts blobs the registry knows in the place of others.
    let folder = tempfile::tempdir().unwrap();
    let [plain, zstd] = ["plain", "zstd"].map(|name| format!("dir:{}", folder.path().join(name).display()));
    skopeo(&["copy", "-q", "--dest-decompress", &source, &plain]);
    skopeo(&["copy", "-q", "--dest-compress", "--dest-compress-format", "zstd", &plain, &zstd]);
    registry.push(&zstd, "test/zstd:1", &["--preserve-digests"]);
    let (_keep, reference_store) = store();
    let (expected, _) = pull(&reference_store, &registry.reference("test/app:1"));
    for name in ["test/docker:1", "test/zstd:1"] {
        let (_keep, store) = store();
        let (image, _) = pull(&store, &registry.reference(name));
        assert_sound(&image);
        assert_eq!(image.config.diff_ids, expected.config.diff_ids, "{name}");
        for (ours, theirs) in image.extents.iter().zip(&expected.extents) {
            assert_eq!(
                std::fs::read(ours).unwrap(),
                std::fs::read(theirs).unwrap(),
                "{name} {}",
                ours.display()
            );
        }
        // In one store they share the layers.
        let (_, record) = pull(&reference_store, &registry.reference(name));
        assert_eq!((record.count("cached"), record.count("started")), (2, 0), "{name}");
    }
    let kept = std::fs::read_to_string(
        reference_store
            .find(&registry.reference("test/zstd:1"))
            .unwrap()
            .unwrap()
            .disk
            .with_file_name("manifest.json"),
    );
    assert!(kept.unwrap().contains("zstd"), "the zstd image really has zstd layers");
}

#[test]
fn says_what_is_missing() {
    let registry = Registry::with_app();
    let (_keep, store) = store();
    let fail =
        |name: &str| store.pull(&registry.reference(name), &PullOptions::default(), &Silent).unwrap_err();
    let tag = fail("test/app:2");
    assert_eq!(
        tag.to_string(),
        format!(
            "cannot pull {}: `test/app` on 127.0.0.1:{} has no image `2`",
            registry.name("test/app:2"),
            registry.port
        )
    );
    assert_eq!(tag.hint().unwrap(), "tags it has: 1");
    let repository = fail("test/none:1");
    assert!(repository.to_string().ends_with("has no repository `test/none`"), "{repository}");
    let digest = fail(&format!("test/app@sha256:{}", "0".repeat(64)));
    assert!(digest.to_string().contains("has no image `sha256:000"), "{digest}");
    let platform = PullOptions { platform: "linux/s390x".parse().unwrap(), ..PullOptions::default() };
    let error = store.pull(&registry.reference("test/app:1"), &platform, &Silent).unwrap_err();
    assert!(error.to_string().contains("has no image for linux/s390x; it offers linux/amd64"), "{error}");

    let down = registry.reference("test/app:1");
    let address = format!("127.0.0.1:{}", registry.port);
    drop(registry);
    let error = store.pull(&down, &PullOptions::default(), &Silent).unwrap_err();
    assert!(
        error.to_string().contains(&format!("cannot connect to {address}: Connection refused")),
        "{error}"
    );
    assert!(error.hint().unwrap().contains(&address));
    assert_empty(store.root());
}

#[test]
fn an_index_is_resolved_by_platform() {
    use std::io::{Read, Write};
    let registry = Registry::with_app();
    let (_keep, store) = store();
    let (image, _) = pull(&store, &registry.reference("test/app:1"));
    let manifest = std::fs::read(image.disk.with_file_name("manifest.json")).unwrap();
    let platform = Platform::host();
    let entry = |architecture: &str| {
        serde_json::json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": image.digest, "size": manifest.len(),
        "platform": {"os": "linux", "architecture": architecture}})
    };
    let index =
        serde_json::json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [entry("s390x"), entry(&platform.architecture)]})
        .to_string();
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", registry.port)).unwrap();
    write!(stream, "PUT /v2/test/app/manifests/multi HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/vnd.oci.image.index.v1+json\r\ncontent-length: {}\r\n\r\n{index}", index.len()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");

    let multi = registry.reference("test/app:multi");
    assert_eq!(pull(&store, &multi).0.digest, image.digest);
    // The index's own digest is a name for the image too, also offline.
    let by_index = multi.with_digest(Digest::sha256(index.as_bytes()));
    assert_eq!(pull(&store, &by_index).0.digest, image.digest);
    drop(registry);
    assert_eq!(store.find(&by_index).unwrap().unwrap().digest, image.digest);
}

#[test]
fn a_damaged_blob_in_the_registry_is_refused() {
    let registry = Registry::with_app();
    let (_keep, store) = store();
    let blobs: Vec<_> = walkdir::WalkDir::new(registry.storage())
        .into_iter()
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name() == "data" && entry.metadata().unwrap().len() > 1 << 20)
        .collect();
    let path = blobs[0].path();
    let mut data = std::fs::read(path).unwrap();
    let middle = data.len() / 2;
    data[middle] ^= 1;
    std::fs::write(path, data).unwrap();
    let error = store.pull(&registry.reference("test/app:1"), &PullOptions::default(), &Silent).unwrap_err();
    let expected = path.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
    assert!(matches!(&error, Error::DigestMismatch { expected: e, .. } if e.hex() == expected), "{error}");
    assert!(error.to_string().starts_with("layer 1 of 127.0.0.1:"), "{error}");
    let left = files(store.root());
    assert!(left.iter().all(|file| file.starts_with("layers/")) && left.len() <= 1, "{left:?}");
}
