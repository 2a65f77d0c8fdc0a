//! Archives made to do harm, given to `load`: each is refused by name, leaves nothing, and touches nothing outside.

use std::fs;

use serde_json::json;

use super::fake_registry::{Parts, gzip};
use super::load::{File, tar_of};
use super::*;

/// Loads an archive within `max_size`; a failure leaves nothing in the store and the success one image.
fn load(archive: &[u8], max_size: u64) -> Result<Image, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar");
    fs::write(&path, archive).unwrap();
    let store = Store::open(&folder.path().join("cache")).unwrap();
    let options = LoadOptions { max_size, ..LoadOptions::default() };
    let loaded = store.load(&LoadSource::Path(path), &options, &Silent).map(|mut images| images.remove(0));
    if loaded.is_err() {
        assert_empty(store.root());
    }
    let mut there: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    there.sort();
    assert_eq!(there, ["a.tar", "cache"]);
    loaded
}

fn refused(archive: &[u8]) -> String {
    load(archive, 1 << 30).unwrap_err().to_string()
}

/// A docker archive with one layer under the given name.
fn docker<'a>(parts: &Parts, layer: &'a str, content: &[u8]) -> Vec<File<'a>> {
    let list = json!([{"Config": "config", "RepoTags": ["a:1"], "Layers": [layer]}]);
    vec![
        ("manifest.json", serde_json::to_vec(&list).unwrap()),
        ("config", parts.config.clone()),
        (layer, content.to_vec()),
    ]
}

/// One header, as is.
fn header(kind: tar::EntryType, name: &str, link: &str, size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_path(name).unwrap();
    if !link.is_empty() {
        header.set_link_name(link).unwrap();
    }
    header.set_mode(0o644);
    header.set_size(size);
    header.set_cksum();
    header.as_bytes().to_vec()
}

#[test]
fn bombs_are_refused_with_the_limit_that_can_be_raised() {
    let zeros = vec![0; 40 << 20];
    let bomb = Parts::from_tar(zeros.clone(), gzip);
    let in_archive = tar_of(&docker(&bomb, "layer", &bomb.layer));
    let whole = gzip(&tar_of(&docker(&bomb, "layer", &zeros)));
    for archive in [in_archive, whole, zstd::stream::encode_all(&zeros[..], 1).unwrap()] {
        assert!(archive.len() < 1 << 20);
        let error = load(&archive, 16 << 20).unwrap_err();
        assert!(matches!(error, Error::TooLarge { limit, .. } if limit == 16 << 20), "{error}");
        assert!(error.hint().unwrap().contains("max-size"));
    }
    // Bombs of headers: one that is said to be huge, lists that are, entries without end.
    let huge = header(tar::EntryType::XHeader, "x", "", 8 << 30);
    assert!(refused(&huge).contains("ends in the middle"));
    let long = [header(tar::EntryType::XHeader, "x", "", 1 << 20), vec![b'x'; 2 << 20]].concat();
    assert!(refused(&long).contains("an extended header is too long"));
    let many = header(tar::EntryType::Regular, "x", "", 0).repeat(50_001);
    assert!(refused(&many).contains("more than 50000 entries"));
    let list = json!([{"Config": "config", "RepoTags": ["a:1"], "Layers": vec!["layer"; 5000]}]);
    let mut files = docker(&bomb, "layer", b"");
    files[0].1 = serde_json::to_vec(&list).unwrap();
    assert!(refused(&tar_of(&files)).contains("has 5000 layers, its configuration 1"));
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(
        refused(&tar_of(&[("manifest.json", deep.into_bytes())]))
            .contains("`manifest.json` in it is not valid")
    );
}

#[test]
fn links_in_circles_and_out_of_the_archive_lead_nowhere() {
    let parts = Parts::new(1000);
    let link = |kind, name: &str, to: &str| header(kind, name, to, 0);
    for kind in [tar::EntryType::Symlink, tar::EntryType::Link] {
        let own = [link(kind, "manifest.json", "manifest.json"), vec![0; 1024]].concat();
        assert!(refused(&own).contains("neither a docker archive"));
        for (name, to) in [("layer", "other"), ("layer", "layer"), ("layer", "../../../../../../etc/passwd")]
        {
            let mut archive = tar_of(&docker(&parts, "layer", b"")[..2]);
            archive.truncate(archive.len() - 1024);
            archive.extend([link(kind, name, to), link(kind, "other", "layer"), vec![0; 1024]].concat());
            assert!(refused(&archive).contains("`layer` is missing from it"), "{to}");
        }
    }
}

#[test]
fn names_that_lead_out_stay_inside() {
    let parts = Parts::new(1000);
    let mut builder = tar::Builder::new(Vec::new());
    let outside = "../../outside";
    for (name, content) in docker(&parts, outside, &parts.tar) {
        let mut header = tar::Header::new_gnu();
        // The builder refuses such a path, so it is put there by hand.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, &content[..]).unwrap();
    }
    assert_sound_config(&load(&builder.into_inner().unwrap(), 1 << 30).unwrap());
}

fn assert_sound_config(image: &Image) {
    assert_eq!((image.reference.short(), image.config.diff_ids.len()), ("a:1".to_owned(), 1));
}

#[test]
fn the_last_file_of_a_name_counts_and_garbage_behind_the_end_does_not() {
    let parts = Parts::new(1000);
    let mut files = vec![("layer", b"first".to_vec()), ("config", b"{}".to_vec())];
    files.extend(docker(&parts, "layer", &parts.tar));
    let mut archive = tar_of(&files);
    assert_sound_config(&load(&archive, 1 << 30).unwrap());
    archive.extend(vec![7; 100_000]);
    assert_sound_config(&load(&archive, 1 << 30).unwrap());
    let lying = [header(tar::EntryType::Regular, "manifest.json", "", 1 << 40), vec![0; 5000]].concat();
    assert!(refused(&lying).contains("ends in the middle of a file"));
    let whole = tar_of(&docker(&parts, "layer", &parts.tar));
    for cut in [whole.len() - 2000, 700, 511, 1] {
        refused(&whole[..cut]);
    }
}

#[test]
fn an_index_that_points_at_itself_ends() {
    let digest = Digest::sha256(b"any");
    let entry = json!({"mediaType": "application/vnd.oci.image.index.v1+json", "digest": digest, "size": 2});
    let index = serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": [entry]})).unwrap();
    // No index can hold its own digest, so the nearest thing is one that lies about it.
    let name = format!("blobs/sha256/{}", digest.hex());
    let archive = tar_of(&[("index.json", index.clone()), (name.as_str(), index)]);
    assert!(refused(&archive).contains("is not what it should be"));
}
