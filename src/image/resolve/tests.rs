#![allow(clippy::unwrap_used)]

use std::collections::HashMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::image::manifest::{OCI_CONFIG, OCI_INDEX, OCI_LAYER_TAR, OCI_MANIFEST};

#[derive(Default)]
struct Memory(HashMap<Digest, Vec<u8>>);

impl Memory {
    fn put(&mut self, media_type: &str, value: &Value, platform: Option<&str>) -> Value {
        let text = serde_json::to_vec(value).unwrap();
        let digest = Digest::sha256(&text);
        let mut descriptor = json!({"mediaType": media_type, "digest": digest, "size": text.len()});
        if let Some((os, architecture)) = platform.and_then(|platform| platform.split_once('/')) {
            descriptor["platform"] = json!({"os": os, "architecture": architecture});
        }
        self.0.insert(digest, text);
        descriptor
    }

    fn image(&mut self, platform: &str, layers: usize, diff_ids: usize) -> Value {
        let (os, architecture) = platform.split_once('/').unwrap();
        let ids = vec![Digest::sha256(b"layer"); diff_ids];
        let config = json!({"os": os, "architecture": architecture, "rootfs": {"diff_ids": ids}});
        let config = self.put(OCI_CONFIG, &config, None);
        let layer = json!({"mediaType": OCI_LAYER_TAR, "digest": Digest::sha256(b"layer"), "size": 5});
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": vec![layer; layers]});
        self.put(OCI_MANIFEST, &manifest, Some(platform))
    }

    fn index(&mut self, manifests: &[Value]) -> Value {
        self.put(OCI_INDEX, &json!({"schemaVersion": 2, "manifests": manifests}), None)
    }

    fn resolve(&self, start: &Value, platform: &str) -> Result<Resolved, Error> {
        let digest: Digest = start["digest"].as_str().unwrap().parse().unwrap();
        let platform = platform.parse().unwrap();
        let resolver = Resolver { image: "test", platform: &platform, content: self };
        resolver.document(self.0[&digest].clone(), digest)
    }
}

impl Content for Memory {
    fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        Ok(self.0[&descriptor.digest].clone())
    }

    fn config(&self, _manifest: &Digest, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        self.manifest(descriptor)
    }
}

#[test]
fn finds_the_platform_however_deep() {
    let mut memory = Memory::default();
    let (amd64, arm64) = (memory.image("linux/amd64", 2, 2), memory.image("linux/arm64", 1, 1));
    let inner = memory.index(&[amd64.clone(), arm64.clone()]);
    let outer = memory.index(std::slice::from_ref(&inner));
    for start in [&amd64, &inner, &outer] {
        let found = memory.resolve(start, "linux/amd64").unwrap();
        assert_eq!(
            (found.digest.to_string().as_str(), found.layers.len()),
            (amd64["digest"].as_str().unwrap(), 2)
        );
    }
    let error = memory.resolve(&outer, "linux/s390x").unwrap_err();
    assert_eq!(error.to_string(), "test has no image for linux/s390x; it offers linux/amd64, linux/arm64");
    let error = memory.resolve(&arm64, "linux/amd64").unwrap_err();
    assert_eq!(error.to_string(), "test has no image for linux/amd64; it offers linux/arm64");
    let empty = memory.index(&[]);
    assert!(memory.resolve(&empty, "linux/amd64").unwrap_err().to_string().ends_with("it offers none"));
}

#[test]
fn refuses_lies_and_loops() {
    let mut memory = Memory::default();
    let uneven = memory.image("linux/amd64", 2, 1);
    assert!(matches!(
        memory.resolve(&uneven, "linux/amd64"),
        Err(Error::LayerCount { manifest: 2, config: 1, .. })
    ));

    let mut image = memory.image("linux/amd64", 1, 1);
    let digest: Digest = image["digest"].as_str().unwrap().parse().unwrap();
    image["size"] = json!(7);
    let index = memory.index(&[image.clone()]);
    assert!(matches!(memory.resolve(&index, "linux/amd64"), Err(Error::SizeMismatch { expected: 7, .. })));
    image["size"] = json!(5 << 20);
    let index = memory.index(&[image]);
    assert!(matches!(memory.resolve(&index, "linux/amd64"), Err(Error::TooLarge { .. })));
    memory.0.insert(digest, b"{}".to_vec());
    let image = memory.image("linux/arm64", 1, 1);
    let forged: Digest = image["digest"].as_str().unwrap().parse().unwrap();
    let index = memory.index(&[image]);
    memory.0.insert(forged, b"{}".to_vec());
    assert!(matches!(memory.resolve(&index, "linux/arm64"), Err(Error::DigestMismatch { .. })));

    let mut deep = memory.image("linux/amd64", 1, 1);
    for _ in 0..8 {
        deep = memory.index(&[deep]);
    }
    assert!(matches!(memory.resolve(&deep, "linux/amd64"), Err(Error::IndexLoop { .. })));
    let empty = memory.index(&[]);
    let wide = memory.index(&vec![empty; 100]);
    assert!(matches!(memory.resolve(&wide, "linux/amd64"), Err(Error::IndexLoop { .. })));
}

proptest! {
    #[test]
    fn arbitrary_texts_never_panic(text: Vec<u8>) {
        let memory = Memory::default();
        let platform = Platform::host();
        let resolver = Resolver { image: "test", platform: &platform, content: &memory };
        let digest = Digest::sha256(&text);
        let _ = resolver.document(text, digest);
    }
}
