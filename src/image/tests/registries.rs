//! Pulls as `config.toml` wants them: mirrors, their order, what falls back to what.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::fake_registry::{Answer, FakeRegistry, Parts, blob};
use super::*;

/// Options that `[registry]` of `config.toml` gives.
pub(super) fn options(hosts: &str) -> PullOptions {
    let hosts: BTreeMap<Host, HostSettings> = toml::from_str(hosts).unwrap();
    let registries = Registries::new(None, hosts, Path::new("/"));
    PullOptions { registries: Arc::new(registries), ..PullOptions::default() }
}

fn mirrored(fake: &FakeRegistry, mirrors: &[String]) -> PullOptions {
    options(&format!("[\"127.0.0.1:{}\"]\nmirrors = {mirrors:?}\n", fake.port))
}

fn pull(fake: &FakeRegistry, options: &PullOptions) -> (Result<Image, Error>, Record) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("cache")).unwrap();
    let record = Record::default();
    let result = store.pull(&fake.reference(), options, &record);
    if let Ok(image) = &result {
        assert_sound(image);
    }
    (result, record)
}

fn address(fake: &FakeRegistry) -> String {
    format!("127.0.0.1:{}", fake.port)
}

#[test]
fn a_mirror_that_has_the_image_is_enough() {
    let parts = Parts::new(1000);
    let (origin, mirror) = (FakeRegistry::start(), FakeRegistry::with(&parts));
    let (result, record) = pull(&origin, &mirrored(&origin, &[address(&mirror)]));
    // The image has the name it was asked for by.
    assert_eq!(result.unwrap().reference, origin.reference());
    assert_eq!((origin.count("GET"), mirror.count("GET"), record.count("notice")), (0, 3, 0));
}

#[test]
fn a_mirror_may_keep_its_copies_below_a_path() {
    let parts = Parts::new(1000);
    let (origin, mirror) = (FakeRegistry::start(), FakeRegistry::start());
    for (path, content) in [
        ("/v2/hub/copies/app/manifests/1".to_owned(), &parts.manifest),
        (blob(&parts.config).replace("/app/", "/hub/copies/app/"), &parts.config),
        (blob(&parts.layer).replace("/app/", "/hub/copies/app/"), &parts.layer),
    ] {
        mirror.set(&path, Answer::ok(content));
    }
    let mirrors = [format!("{}/hub/copies", address(&mirror))];
    assert!(pull(&origin, &mirrored(&origin, &mirrors)).0.is_ok());
    assert_eq!(origin.count("GET"), 0);
}

#[test]
fn the_registry_itself_is_asked_for_what_no_mirror_gives() {
    let parts = Parts::new(1000);
    let origin = FakeRegistry::with(&parts);
    let (empty, busy) = (FakeRegistry::start(), FakeRegistry::start());
    busy.set("/v2/app/manifests/1", Answer::status(503, "").header("retry-after", "20"));
    let gone = "127.0.0.1:1".to_owned();
    let (result, record) = pull(&origin, &mirrored(&origin, &[address(&empty), gone, address(&busy)]));
    assert!(result.is_ok());
    assert_eq!(record.count("notice"), 3, "one for each mirror that did not help");
    // Who failed is not asked again.
    assert_eq!((busy.count("GET"), empty.count("manifests"), origin.count("GET")), (1, 1, 3));
}

#[test]
fn a_mirror_that_has_it_wrong_is_passed_over() {
    let parts = Parts::new(1000);
    let (origin, mirror) = (FakeRegistry::with(&parts), FakeRegistry::with(&parts));
    let lie = Answer::ok(&Parts::new(2000).manifest);
    let digest = Digest::sha256(&parts.manifest).to_string();
    mirror.set("/v2/app/manifests/1", lie.header("docker-content-digest", &digest));
    let (result, record) = pull(&origin, &mirrored(&origin, &[address(&mirror)]));
    assert_eq!(result.unwrap().digest.to_string(), digest);
    assert_eq!((record.count("notice"), origin.count("GET")), (1, 3));
    // The same with a configuration.
    let (origin, mirror) = (FakeRegistry::with(&parts), FakeRegistry::with(&parts));
    mirror.set(&blob(&parts.config), Answer::ok(b"{}"));
    assert!(pull(&origin, &mirrored(&origin, &[address(&mirror)])).0.is_ok());
    assert_eq!(origin.count("GET"), 2);
}

#[test]
fn a_transfer_that_breaks_for_good_goes_on_elsewhere_where_it_stopped() {
    let parts = Parts::new(2_000_000);
    let (origin, mirror) = (FakeRegistry::with(&parts), FakeRegistry::with(&parts));
    let cut = Answer { cut: Some(700_000), ..Answer::ok(&parts.layer) };
    mirror.sequence(&blob(&parts.layer), vec![cut, Answer::status(404, "")]);
    let (result, record) = pull(&origin, &mirrored(&origin, &[address(&mirror)]));
    assert!(result.is_ok());
    assert_eq!((record.count("retrying 700000"), record.count("notice")), (1, 1));
    assert_eq!((origin.count("range: bytes=700000-"), origin.count("GET")), (1, 1));
}

/// Other bytes than the manifest promises, too few of them, too many, or none that can be inflated.
#[test]
fn a_layer_that_a_mirror_has_wrong_comes_from_elsewhere() {
    let (parts, other) = (Parts::new(300_000), Parts::new(300_001));
    let long = [&parts.layer[..], b"more"].concat();
    for wrong in [&other.layer[..], &parts.layer[..100_000], &long, b"no layer at all"] {
        let (origin, mirror) = (FakeRegistry::with(&parts), FakeRegistry::with(&parts));
        mirror.set(&blob(&parts.layer), Answer::ok(wrong));
        let options = PullOptions { keep_blobs: true, ..mirrored(&origin, &[address(&mirror)]) };
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let record = Record::default();
        assert_sound(&store.pull(&origin.reference(), &options, &record).unwrap());
        let kept = folder.path().join("blobs").join(Digest::sha256(&parts.layer).hex());
        assert!(std::fs::read(kept).unwrap() == parts.layer);
        assert_eq!((mirror.count("blobs"), origin.count("GET")), (2, 1));
        let said = format!("notice {} does not have it right", address(&mirror));
        assert_eq!((record.count("notice"), record.count(&said)), (1, 1));
    }
}

/// A source that was fallen back from is not the last word: the registry's own mistake is an error as ever.
#[test]
fn a_layer_that_nobody_has_right_is_refused() {
    let (parts, other) = (Parts::new(300_000), Parts::new(300_001));
    let (origin, mirror) = (FakeRegistry::with(&parts), FakeRegistry::with(&parts));
    for fake in [&origin, &mirror] {
        fake.set(&blob(&parts.layer), Answer::ok(&other.layer));
    }
    let (result, record) = pull(&origin, &mirrored(&origin, &[address(&mirror)]));
    assert!(matches!(result, Err(Error::DigestMismatch { .. } | Error::SizeMismatch { .. })));
    assert_eq!((record.count("notice"), origin.count("blobs")), (1, 1));
}

#[test]
fn the_error_is_that_of_the_registry_itself() {
    let (origin, mirror) = (FakeRegistry::start(), FakeRegistry::start());
    let (result, _) = pull(&origin, &mirrored(&origin, &[address(&mirror)]));
    let error = result.unwrap_err().to_string();
    assert!(error.contains(&format!("{} has no repository `app`", address(&origin))), "{error}");
}

#[test]
fn certificates_that_cannot_be_read_are_named() {
    let fake = FakeRegistry::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("own.pem");
    let options = options(&format!("[\"{}\"]\nca = {file:?}\n", address(&fake)));
    for text in [None, Some("no certificate")] {
        if let Some(text) = text {
            std::fs::write(&file, text).unwrap();
        }
        let error = pull(&fake, &options).0.unwrap_err();
        assert!(error.to_string().contains(&file.display().to_string()), "{error}");
        assert!(error.hint().unwrap().contains("PEM"));
    }
}

#[test]
fn plain_http_and_tls_are_told_apart() {
    // A server without TLS that is meant to have it; it answers what it does not understand as web servers do.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("127.0.0.1:{}", listener.local_addr().unwrap().port());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = std::io::Write::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let options = options(&format!("[\"{address}\"]\nplain-http = false\n"));
    let error = store.pull(&format!("{address}/app:1").parse().unwrap(), &options, &Silent).unwrap_err();
    assert!(error.to_string().contains("no secure connection"), "{error}");
    assert!(error.hint().unwrap().contains("plain-http = true"), "{:?}", error.hint());
}
