#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn descriptor(media_type: &str) -> Value {
    json!({"mediaType": media_type, "digest": Digest::sha256(b"x").to_string(), "size": 1})
}

fn parse(value: &Value) -> Result<Document, ManifestError> {
    Document::parse(&serde_json::to_vec(value).unwrap())
}

fn image(layer: &str) -> Value {
    json!({"schemaVersion": 2, "config": descriptor(OCI_CONFIG), "layers": [descriptor(layer)]})
}

#[test]
fn accepts_both_families() {
    for layer in [
        OCI_LAYER_TAR,
        "application/vnd.oci.image.layer.v1.tar+gzip",
        "application/vnd.oci.image.layer.v1.tar+zstd",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    ] {
        assert!(matches!(parse(&image(layer)).unwrap(), Document::Image(_)), "{layer}");
    }
    let docker = json!({"schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "config": descriptor(DOCKER_CONFIG),
        "layers": [], "annotations": null, "unknown": {"a": [1]}});
    assert!(matches!(parse(&docker).unwrap(), Document::Image(_)));
    let list =
        json!({"schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": [descriptor(DOCKER_MANIFEST)]});
    assert!(matches!(parse(&list).unwrap(), Document::Index(_)));
}

#[test]
fn names_what_it_refuses() {
    let refused = |value: Value| parse(&value).unwrap_err();
    assert!(matches!(refused(json!({"schemaVersion": 1, "fsLayers": []})), ManifestError::Schema1));
    assert!(matches!(refused(json!({"schemaVersion": 3})), ManifestError::SchemaVersion(3)));
    assert!(matches!(refused(json!({"schemaVersion": 2})), ManifestError::Ambiguous));
    let mut both = image(OCI_LAYER_TAR);
    both["manifests"] = json!([]);
    assert!(matches!(refused(both), ManifestError::Ambiguous));
    let mut disguised = image(OCI_LAYER_TAR);
    disguised["mediaType"] = json!(OCI_INDEX);
    assert!(matches!(refused(disguised), ManifestError::Ambiguous));
    let chart = json!({"schemaVersion": 2, "config": descriptor("application/vnd.cncf.helm.config.v1+json"), "layers": []});
    assert!(refused(chart).to_string().contains("helm"));
    assert!(matches!(refused(image("application/wasm")), ManifestError::Artifact(_)));
    assert!(matches!(
        refused(image("application/vnd.oci.image.layer.v1.tar+gzip+encrypted")),
        ManifestError::Layer { .. }
    ));
    let mut many = image(OCI_LAYER_TAR);
    many["layers"] = Value::Array(vec![descriptor(OCI_LAYER_TAR); MAX_LAYERS + 1]);
    assert!(matches!(refused(many), ManifestError::TooManyLayers(1025)));
    let mut negative = image(OCI_LAYER_TAR);
    negative["layers"][0]["size"] = json!(-1);
    assert!(matches!(refused(negative), ManifestError::Json(_)));
    assert!(matches!(Document::parse(&vec![b' '; 5 << 20]), Err(ManifestError::TooLarge)));
    assert!(matches!(Document::parse("[".repeat(100_000).as_bytes()), Err(ManifestError::Json(_))));
}

#[test]
fn chooses_by_platform() {
    let entry = |os: &str, architecture: &str, variant: Option<&str>, size: u64| {
        let mut value = descriptor(OCI_MANIFEST);
        value["size"] = json!(size);
        value["platform"] = json!({"os": os, "architecture": architecture, "variant": variant});
        value
    };
    let index = json!({"schemaVersion": 2, "manifests": [
        entry("linux", "amd64", Some("v3"), 1), entry("linux", "arm64", Some("v8"), 2),
        entry("linux", "amd64", None, 3), entry("unknown", "unknown", None, 4)]});
    let Document::Index(index) = parse(&index).unwrap() else { panic!("an index") };
    let size = |platform: &str| match index.choose(&platform.parse().unwrap()) {
        Choice::Found(entry) => Some(entry.size),
        Choice::Nested(_) => None,
    };
    assert_eq!(
        (size("linux/amd64"), size("linux/amd64/v3"), size("linux/arm64")),
        (Some(3), Some(1), Some(2))
    );
    assert_eq!(size("linux/s390x"), None);
    let names: Vec<String> = index.platforms().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["linux/amd64", "linux/amd64/v3", "linux/arm64"]);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = Document::parse(&bytes);
    }

    #[test]
    fn arbitrary_documents_never_panic(version in any::<i64>(), kind in any::<String>(), size in any::<i64>(),
                                       digest in "(sha256:)?[0-9a-fA-F]{0,70}", count in 0usize..4) {
        let layer = json!({"mediaType": kind, "digest": digest, "size": size});
        let value = json!({"schemaVersion": version, "mediaType": kind, "config": layer,
            "layers": vec![layer.clone(); count], "manifests": Value::Null});
        let _ = parse(&value);
    }
}
