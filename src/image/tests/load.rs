//! Archives and layouts of real tools, and archives no tool would write.

use std::fs;
use std::io::{Cursor, Write};
use std::path::PathBuf;

use serde_json::json;

use super::archive::{Bundle, Spool};
use super::fake_registry::{Parts, gzip};
use super::fixture::{Registry, layout, skopeo};
use super::*;

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("cache")).unwrap();
    (folder, store)
}

fn load(store: &Store, path: &Path) -> Result<Vec<Image>, Error> {
    store.load(&LoadSource::Path(path.to_path_buf()), &LoadOptions::default(), &Silent)
}

fn named(name: &str) -> LoadOptions {
    LoadOptions { name: Some(name.parse().unwrap()), ..LoadOptions::default() }
}

/// The fixture image as docker archive, OCI archive and layout folder.
fn archives(folder: &Path) -> Vec<PathBuf> {
    let source = format!("oci:{}:1", layout().display());
    let (docker, oci) = (folder.join("docker.tar"), folder.join("oci.tar"));
    skopeo(&["copy", "-q", &source, &format!("docker-archive:{}:test/app:1", docker.display())]);
    skopeo(&["copy", "-q", &source, &format!("oci-archive:{}:test/app:1", oci.display())]);
    vec![docker, oci]
}

#[test]
fn archives_give_the_layers_a_pull_gives() {
    let registry = Registry::with_app();
    let (folder, pulled) = store();
    let pulled = pulled.pull(&registry.reference("test/app:1"), &PullOptions::default(), &Silent).unwrap();
    for path in archives(folder.path()) {
        let squeezed = path.with_extension("tar.gz");
        fs::write(&squeezed, gzip(&fs::read(&path).unwrap())).unwrap();
        let mut digests = Vec::new();
        for path in [&path, &squeezed] {
            let (_keep, store) = store();
            let images = load(&store, path).unwrap();
            let [image] = &images[..] else { panic!("one image") };
            assert_sound(image);
            assert_eq!(image.reference.short(), "test/app:1");
            assert_eq!(store.find(&image.reference).unwrap().unwrap().digest, image.digest);
            assert_eq!(image.config, pulled.config);
            for (ours, theirs) in image.extents.iter().zip(&pulled.extents) {
                assert_eq!(fs::read(ours).unwrap(), fs::read(theirs).unwrap(), "{}", path.display());
            }
            assert!(files(&store.root().join("tmp")).is_empty());
            digests.push(image.digest.clone());
        }
        assert_eq!(digests[0], digests[1]);
        // An OCI archive keeps the manifest; a docker archive has none to keep.
        assert_eq!(digests[0] == pulled.digest, path.ends_with("oci.tar"));
    }
}

#[test]
fn folders_and_streams_load_too() {
    let (folder, store) = store();
    let error = load(&store, layout()).unwrap_err();
    assert!(error.hint().unwrap().contains("--tag"), "umoci writes tags only: {error}");
    let source = LoadSource::Path(layout().to_path_buf());
    let image = store.load(&source, &named("mine:2"), &Silent).unwrap().remove(0);
    assert_sound(&image);
    assert_eq!(image.reference.short(), "mine:2");
    let archive = fs::read(&archives(folder.path())[1]).unwrap();
    for bytes in [archive.clone(), zstd::stream::encode_all(&archive[..], 1).unwrap()] {
        let spool = Spool { folder: store.root(), limit: 1 << 30 };
        let bundle = Bundle::from_stream("standard input", &mut Cursor::new(bytes), &spool).unwrap();
        let record = Record::default();
        let images = store.load_bundle(&bundle, &LoadOptions::default(), &record).unwrap();
        assert_eq!((images[0].digest.clone(), record.count("cached")), (image.digest.clone(), 2));
    }
    let tight = Spool { folder: store.root(), limit: 1000 };
    let error = Bundle::from_stream("standard input", &mut Cursor::new(archive), &tight).err().unwrap();
    assert!(matches!(error, Error::TooLarge { limit: 1000, .. }));
}

pub(super) type File<'a> = (&'a str, Vec<u8>);

pub(super) fn tar_of(files: &[File<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, data) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, &data[..]).unwrap();
    }
    builder.into_inner().unwrap()
}

fn load_tar(files: &[File<'_>]) -> (Result<Vec<Image>, Error>, Vec<String>) {
    let (folder, store) = store();
    let path = folder.path().join("a.tar");
    fs::File::create(&path).unwrap().write_all(&tar_of(files)).unwrap();
    let result = load(&store, &path);
    let left = super::files(store.root());
    (result, left)
}

fn docker_list(config: &str, tags: &[&str], layers: &[&str]) -> Vec<u8> {
    serde_json::to_vec(&json!([{"Config": config, "RepoTags": tags, "Layers": layers}])).unwrap()
}

#[test]
fn old_docker_archives_load_and_packing_does_not_matter() {
    let parts = Parts::new(10_000);
    let config = format!("{}.json", Digest::sha256(&parts.config).hex());
    let list = docker_list(&config, &["a:1", "b/c:2"], &["x/layer.tar"]);
    let mut digests = Vec::new();
    for layer in [parts.tar.clone(), parts.layer.clone()] {
        let archive = [
            ("x/layer.tar", layer),
            (config.as_str(), parts.config.clone()),
            ("manifest.json", list.clone()),
        ];
        let images = load_tar(&archive).0.unwrap();
        let names: Vec<String> = images.iter().map(|image| image.reference.short()).collect();
        assert_eq!(names, ["a:1", "b/c:2"]);
        assert_eq!(images[0].digest, images[1].digest);
        digests.push(images[0].digest.clone());
    }
    assert_eq!(digests[0], digests[1]);
}

#[test]
fn bad_archives_are_refused_by_name() {
    let parts = Parts::new(1000);
    let good = format!("{}.json", Digest::sha256(&parts.config).hex());
    let list = |config: &str, layers: &[&str]| ("manifest.json", docker_list(config, &["a:1"], layers));
    let config = || (good.as_str(), parts.config.clone());
    let layer = || ("l", parts.tar.clone());
    let text = |files: &[File<'_>]| {
        let (result, left) = load_tar(files);
        assert!(left.is_empty(), "{left:?}");
        result.unwrap_err().to_string()
    };
    assert!(text(&[("x", vec![])]).contains("neither a docker archive"));
    assert!(text(&[("manifest.json", b"[]".to_vec())]).contains("holds no image"));
    assert!(text(&[("manifest.json", b"{".to_vec())]).contains("`manifest.json` in it is not valid"));
    assert!(text(&[list(&good, &["l"]), layer()]).contains("is missing from it"));
    assert!(text(&[list(&good, &["l"]), config()]).contains("`l` is missing from it"));
    assert!(
        text(&[list(&good, &["l", "l"]), config(), layer()]).contains("has 2 layers, its configuration 1")
    );
    assert!(
        text(&[list(&good, &["l"]), config(), ("l", Parts::new(1001).tar)])
            .contains("the unpacked layer 1 of a:1 is not")
    );
    let forged = (good.as_str(), [parts.config.clone(), b" ".to_vec()].concat());
    assert!(
        text(&[list(&good, &["l"]), forged, layer()])
            .contains("the configuration of a:1 is not what it should be")
    );
    let unnamed = ("manifest.json", docker_list(&good, &["<none>:<none>"], &["l"]));
    assert!(text(&[unnamed, config(), layer()]).contains("has no name"));
    let upper = ("manifest.json", docker_list(&good, &["A:1"], &["l"]));
    assert!(text(&[upper, config(), layer()]).contains("lower case"));
    assert!(
        text(&[("index.json", br#"{"schemaVersion":2,"manifests":[]}"#.to_vec())]).contains("holds no image")
    );
    let big = ("manifest.json", vec![b' '; 9 << 20]);
    assert!(text(&[big]).contains("larger than allowed"));

    let (folder, store) = store();
    let nothing = folder.path().join("nothing");
    assert!(load(&store, &nothing).unwrap_err().to_string().contains("nothing"));
    fs::write(&nothing, "no archive, but longer than one block".repeat(40)).unwrap();
    assert!(load(&store, &nothing).unwrap_err().to_string().contains("not a readable tar archive"));
}

#[test]
fn current_docker_archives_have_their_names_in_the_older_list() {
    let parts = Parts::new(10_000);
    let path = |content: &[u8]| format!("blobs/sha256/{}", Digest::sha256(content).hex());
    let (config, layer, manifest) = (path(&parts.config), path(&parts.layer), path(&parts.manifest));
    let entry = json!({"mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": Digest::sha256(&parts.manifest), "size": parts.manifest.len()});
    let index = serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": [entry]})).unwrap();
    let list = docker_list(&config, &["a:1", "a:2"], &[&layer]);
    let files = [
        ("index.json", index),
        ("manifest.json", list),
        (config.as_str(), parts.config.clone()),
        (layer.as_str(), parts.layer.clone()),
        (manifest.as_str(), parts.manifest.clone()),
    ];
    let images = load_tar(&files).0.unwrap();
    let names: Vec<String> = images.iter().map(|image| image.reference.short()).collect();
    assert_eq!(
        (names, &images[0].digest),
        (vec!["a:1".into(), "a:2".into()], &Digest::sha256(&parts.manifest))
    );
}

#[test]
fn one_name_is_for_one_image() {
    let (one, two) = (Parts::new(10), Parts::new(20));
    let name = |parts: &Parts| format!("{}.json", Digest::sha256(&parts.config).hex());
    let entry = |parts: &Parts, tag: &str, layer: &str| json!({"Config": name(parts), "RepoTags": [tag], "Layers": [layer]});
    let list = serde_json::to_vec(&json!([entry(&one, "a", "1"), entry(&two, "b", "2")])).unwrap();
    let (first, second) = (name(&one), name(&two));
    let files = [
        ("manifest.json", list),
        ("1", one.tar.clone()),
        ("2", two.tar.clone()),
        (first.as_str(), one.config.clone()),
        (second.as_str(), two.config.clone()),
    ];
    let (folder, store) = store();
    let path = folder.path().join("a.tar");
    fs::write(&path, tar_of(&files)).unwrap();
    let error = store.load(&LoadSource::Path(path.clone()), &named("x"), &Silent).unwrap_err();
    assert!(error.to_string().contains("holds 2 images"));
    assert_eq!(load(&store, &path).unwrap().len(), 2);
    assert_eq!(store.list().unwrap().len(), 2);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]
    #[test]
    fn mutated_lists_never_panic(edits in proptest::collection::vec((0usize..2000, proptest::prelude::any::<u8>()), 1..8)) {
        let parts = Parts::new(10);
        let config = format!("{}.json", Digest::sha256(&parts.config).hex());
        let mut list = docker_list(&config, &["a:1"], &["l"]);
        let mut text = parts.config.clone();
        for (at, value) in edits {
            let target = if at % 2 == 0 { &mut list } else { &mut text };
            let at = at % target.len();
            target[at] = value;
        }
        let _ = load_tar(&[("manifest.json", list), (config.as_str(), text), ("l", parts.tar.clone())]);
    }
}
