//! Pulls from a registry that lies, breaks off, stalls or refuses.

use std::time::Duration;

use super::fake_registry::{Answer, FakeRegistry, Parts, blob, gzip};
use super::*;

struct Pull {
    _keep: tempfile::TempDir,
    store: Store,
    record: Record,
    result: Result<Image, Error>,
}

fn pull_with(fake: &FakeRegistry, options: &PullOptions) -> Pull {
    let keep = tempfile::tempdir().unwrap();
    let store = Store::open(&keep.path().join("cache")).unwrap();
    let record = Record::default();
    let result = store.pull(&fake.reference(), options, &record);
    if result.is_err() {
        assert_empty(store.root());
        assert!(store.find(&fake.reference()).unwrap().is_none());
    }
    Pull { _keep: keep, store, record, result }
}

fn pull(fake: &FakeRegistry) -> Pull {
    pull_with(fake, &PullOptions::default())
}

fn failure(fake: &FakeRegistry) -> Error {
    pull(fake).result.unwrap_err()
}

#[test]
fn a_good_image_is_pulled_with_three_requests() {
    let parts = Parts::new(100_000);
    let fake = FakeRegistry::with(&parts);
    let pull = pull(&fake);
    assert_sound(&pull.result.unwrap());
    assert_eq!((fake.count("GET"), fake.count("authorization")), (3, 0));
}

#[test]
fn wrong_contents_are_named_with_both_digests() {
    let parts = Parts::new(100_000);
    for (what, original) in [("layer 1 of", &parts.layer), ("the configuration of", &parts.config)] {
        let fake = FakeRegistry::with(&parts);
        let mut wrong = original.clone();
        let last = wrong.len() - 9;
        wrong[last] ^= 1;
        fake.set(&blob(original), Answer::ok(&wrong));
        let error = failure(&fake);
        assert!(matches!(error, Error::DigestMismatch { .. }), "{error:?}");
        let text = error.to_string();
        for part in [what, &Digest::sha256(original).to_string(), &Digest::sha256(&wrong).to_string()] {
            assert!(text.contains(part), "{text}");
        }
    }
    // A layer that is something else entirely, of the right length.
    let fake = FakeRegistry::with(&parts);
    fake.set(&blob(&parts.layer), Answer::ok(&vec![b'x'; parts.layer.len()]));
    assert!(matches!(failure(&fake), Error::DigestMismatch { .. }));
    let fake = FakeRegistry::with(&parts);
    let lie = Digest::sha256(b"lie").to_string();
    fake.set("/v2/app/manifests/1", Answer::ok(&parts.manifest).header("docker-content-digest", &lie));
    assert!(failure(&fake).to_string().starts_with("the manifest of"));
}

#[test]
fn a_wrong_diff_id_is_named() {
    let parts = Parts::new(1000);
    let other = Parts::new(2000);
    let fake = FakeRegistry::with(&parts);
    let manifest = Parts::manifest(&parts.config, &Digest::sha256(&other.layer), other.layer.len() as u64);
    fake.set("/v2/app/manifests/1", Answer::ok(&manifest));
    fake.set(&blob(&other.layer), Answer::ok(&other.layer));
    let error = failure(&fake).to_string();
    assert!(error.starts_with("the unpacked layer 1 of"), "{error}");
    assert!(
        error.contains(&Digest::sha256(&parts.tar).to_string())
            && error.contains(&Digest::sha256(&other.tar).to_string())
    );
}

#[test]
fn short_and_long_blobs_are_refused() {
    let parts = Parts::new(100_000);
    let fake = FakeRegistry::with(&parts);
    fake.set(&blob(&parts.layer), Answer::ok(&parts.layer[..parts.layer.len() - 1]));
    assert!(matches!(failure(&fake), Error::SizeMismatch { .. }));
    let fake = FakeRegistry::with(&parts);
    fake.set(&blob(&parts.layer), Answer::ok(&[&parts.layer[..], b"x"].concat()));
    assert!(matches!(failure(&fake), Error::SizeMismatch { .. }));
    let fake = FakeRegistry::with(&parts);
    fake.set(&blob(&parts.layer), Answer { endless: true, ..Answer::ok(b"") });
    assert!(matches!(failure(&fake), Error::SizeMismatch { .. }));
}

#[test]
fn broken_transfers_go_on_where_they_stopped() {
    let parts = Parts::new(2_000_000);
    for no_ranges in [false, true] {
        let fake = FakeRegistry::with(&parts);
        let cut = Answer { cut: Some(700_000), cuts: 2, no_ranges, ..Answer::ok(&parts.layer) };
        fake.set(&blob(&parts.layer), cut);
        let pull = pull(&fake);
        assert_sound(&pull.result.unwrap());
        assert!(pull.record.count("retrying") >= 1);
        assert!(fake.count("range: bytes=") >= 1);
    }
}

#[test]
fn a_transfer_that_stalls_is_begun_anew_where_it_stopped() {
    let parts = Parts::new(2_000_000);
    let fake = FakeRegistry::with(&parts);
    let stall = Answer { cut: Some(700_000), stalls: true, ..Answer::ok(&parts.layer) };
    fake.sequence(&blob(&parts.layer), vec![stall, Answer::ok(&parts.layer)]);
    let options = PullOptions { read_timeout: Duration::from_secs(3), ..PullOptions::default() };
    let pull = pull_with(&fake, &options);
    assert_sound(&pull.result.unwrap());
    assert_eq!((pull.record.count("retrying 700000"), fake.count("range: bytes=700000-")), (1, 1));
}

#[test]
fn missing_and_refused_things_are_told_apart() {
    let parts = Parts::new(1000);
    let fake = FakeRegistry::with(&parts);
    fake.set(&blob(&parts.layer), Answer::status(404, ""));
    assert!(failure(&fake).to_string().contains("does not have the blob sha256:"));
    let fake = FakeRegistry::with(&parts);
    fake.set(
        "/v2/app/manifests/1",
        Answer::status(403, r#"{"errors":[{"code":"DENIED","message":"go away"}]}"#),
    );
    let error = failure(&fake);
    assert!(error.to_string().ends_with("refuses access to `app`: go away"), "{error}");
    assert!(error.hint().unwrap().contains("msb login 127.0.0.1:"));
    let fake = FakeRegistry::with(&parts);
    fake.set("/v2/app/manifests/1", Answer::status(429, "").header("retry-after", "3600"));
    assert!(failure(&fake).hint().unwrap().contains("3600 seconds"));
    let fake = FakeRegistry::with(&parts);
    let (busy, good) = (Answer::status(503, "busy").header("retry-after", "0"), Answer::ok(&parts.manifest));
    fake.sequence("/v2/app/manifests/1", vec![busy.clone(), busy, good]);
    assert!(pull(&fake).result.is_ok(), "a registry that recovers is forgiven");
    let fake = FakeRegistry::with(&parts);
    fake.set("/v2/app/manifests/1", Answer::status(418, "teapot"));
    assert!(failure(&fake).to_string().contains("answered 418 to http://127.0.0.1:"));
    let fake = FakeRegistry::with(&parts);
    fake.set("/v2/app/manifests/1", Answer::ok(br#"{"schemaVersion":1,"fsLayers":[]}"#));
    assert!(failure(&fake).to_string().contains("schema 1"));
}

#[test]
fn waiting_for_a_busy_registry_is_told() {
    let parts = Parts::new(1000);
    let fake = FakeRegistry::with(&parts);
    // A date that has passed means now.
    let busy = Answer::status(429, "").header("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT");
    fake.sequence("/v2/app/manifests/1", vec![busy.clone(), Answer::ok(&parts.manifest)]);
    fake.sequence(&blob(&parts.layer), vec![busy.clone(), busy, Answer::ok(&parts.layer)]);
    let pull = pull(&fake);
    assert_sound(&pull.result.unwrap());
    assert_eq!(pull.record.count("notice"), 3);
    assert!(pull.record.0.lock().unwrap().iter().any(|event| event.ends_with("; trying again in 0.0 s")));
}

#[test]
fn a_length_that_promises_too_much_is_forgiven_when_all_is_there() {
    let parts = Parts::new(100_000);
    let fake = FakeRegistry::with(&parts);
    let promised = Answer { promised: 10, ..Answer::ok(&parts.layer) };
    fake.sequence(&blob(&parts.layer), vec![promised, Answer::status(416, "")]);
    assert_sound(&pull(&fake).result.unwrap());
}

#[test]
fn layers_that_registries_may_not_give_away_come_from_their_own_place() {
    let parts = Parts::new(1000);
    let other = FakeRegistry::start();
    other.set("/layer", Answer::ok(&parts.layer));
    let mut manifest: serde_json::Value = serde_json::from_slice(&parts.manifest).unwrap();
    let urls =
        [format!("http://127.0.0.1:{}/none", other.port), format!("http://127.0.0.1:{}/layer", other.port)];
    manifest["layers"][0]["urls"] = serde_json::json!(urls);
    let with = |media_type: &str| {
        let fake = FakeRegistry::with(&parts);
        let mut manifest = manifest.clone();
        manifest["layers"][0]["mediaType"] = media_type.into();
        fake.set("/v2/app/manifests/1", Answer::ok(&serde_json::to_vec(&manifest).unwrap()));
        fake.set(&blob(&parts.layer), Answer::status(404, ""));
        fake
    };
    for media_type in [
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    ] {
        assert_sound(&pull(&with(media_type)).result.unwrap());
    }
    assert_eq!(other.count("GET"), 4);
    // Any other layer is not looked for where a manifest says.
    assert!(
        failure(&with("application/vnd.oci.image.layer.v1.tar+gzip"))
            .to_string()
            .contains("does not have the blob")
    );
    assert_eq!(other.count("GET"), 4);
}

#[test]
fn artifacts_are_called_by_their_names() {
    let parts = Parts::new(10);
    let change = |edit: &dyn Fn(&mut serde_json::Value)| {
        let fake = FakeRegistry::with(&parts);
        let mut manifest: serde_json::Value = serde_json::from_slice(&parts.manifest).unwrap();
        edit(&mut manifest);
        fake.set("/v2/app/manifests/1", Answer::ok(&serde_json::to_vec(&manifest).unwrap()));
        failure(&fake).to_string()
    };
    let chart = "application/vnd.cncf.helm.config.v1+json";
    let text = change(&|manifest| manifest["config"]["mediaType"] = chart.into());
    assert!(text.contains("a Helm chart") && text.contains(chart), "{text}");
    let text =
        change(&|manifest| manifest["config"]["mediaType"] = "application/vnd.wasm.config.v0+json".into());
    assert!(text.contains("a WebAssembly module"), "{text}");
    let signature = "application/vnd.dev.cosign.simplesigning.v1+json";
    let text = change(&|manifest| manifest["layers"][0]["mediaType"] = signature.into());
    assert!(text.contains("a cosign signature"), "{text}");
    let text = change(&|manifest| {
        manifest["config"]["mediaType"] = "application/vnd.oci.empty.v1+json".into();
        manifest["artifactType"] = "application/x.y".into();
    });
    assert!(text.contains("an artifact of type `application/x.y`"), "{text}");
}

#[test]
fn endless_silent_and_insecure_answers_end() {
    let parts = Parts::new(1000);
    let endless = || Answer { endless: true, ..Answer::ok(b"") };
    for path in ["/v2/app/manifests/1".to_owned(), blob(&parts.config)] {
        let fake = FakeRegistry::with(&parts);
        fake.set(&path, endless());
        assert!(failure(&fake).to_string().contains("sent more than"));
    }
    let fake = FakeRegistry::with(&parts);
    fake.set("/v2/app/manifests/1", Answer { silent: true, ..Answer::ok(b"") });
    let options = PullOptions { read_timeout: Duration::from_millis(100), ..PullOptions::default() };
    let error = pull_with(&fake, &options).result.unwrap_err();
    assert!(error.to_string().contains("did not answer in time"), "{error}");
    let fake = FakeRegistry::with(&parts);
    fake.set("/v2/app/manifests/1", Answer::status(307, "").header("location", "/v2/app/manifests/1"));
    assert!(failure(&fake).to_string().contains("redirects without end"));
}

#[test]
fn tokens_are_fetched_once_and_used() {
    let parts = Parts::new(1000);
    let fake = FakeRegistry::with(&parts);
    let realm = format!(
        "Bearer realm=\"http://127.0.0.1:{}/token\",service=\"s\",scope=\"repository:app:pull\"",
        fake.port
    );
    let challenge = Answer::status(401, "").header("www-authenticate", &realm);
    fake.sequence("/v2/app/manifests/1", vec![challenge.clone(), Answer::ok(&parts.manifest)]);
    fake.set("/token", Answer::ok(br#"{"token":"abc","expires_in":300}"#));
    assert_sound(&pull(&fake).result.unwrap());
    assert_eq!(
        (
            fake.count("/token?service=s&scope=repository%3Aapp%3Apull"),
            fake.count("authorization: Bearer abc")
        ),
        (1, 3)
    );
    // Refused in spite of the token.
    let fake = FakeRegistry::with(&parts);
    fake.set("/v2/app/manifests/1", Answer::status(401, "").header("www-authenticate", "Basic realm=\"x\""));
    let error = failure(&fake);
    assert!(error.hint().unwrap().contains("if the repository is private, log in"), "{error}");
}

#[test]
fn bombs_and_damaged_archives_are_refused() {
    let bomb = Parts::from_tar(vec![0; 64 << 20], gzip);
    let fake = FakeRegistry::with(&bomb);
    let options = PullOptions { max_size: 16 << 20, ..PullOptions::default() };
    let error = pull_with(&fake, &options).result.unwrap_err();
    // An archive of zeros ends at its first block; the rest is padding that must still be read for the digest.
    assert!(matches!(error, Error::TooLarge { limit, .. } if limit == 16 << 20), "{error}");
    let no_tar = Parts::from_tar(b"this is not a tar archive at all".repeat(100), gzip);
    assert!(matches!(failure(&FakeRegistry::with(&no_tar)), Error::Layer { .. }));
    let cut = Parts::from_tar(Parts::new(50_000).tar[..30_000].to_vec(), gzip);
    assert!(matches!(failure(&FakeRegistry::with(&cut)), Error::Layer { .. }));
    let half_gzip = Parts::from_tar(Parts::new(50_000).tar, |tar| gzip(tar)[..20_000].to_vec());
    let error = failure(&FakeRegistry::with(&half_gzip));
    assert!(matches!(error, Error::Decompress { .. }), "{error:?}");
}

#[test]
fn images_of_nothing_and_of_one_layer_twice_are_images() {
    for tar in [vec![], vec![0; 1024]] {
        let pull = pull(&FakeRegistry::with(&Parts::from_tar(tar, gzip)));
        assert_sound(&pull.result.unwrap());
    }
    let parts = Parts::new(1000);
    let mut manifest: serde_json::Value = serde_json::from_slice(&parts.manifest).unwrap();
    let mut config: serde_json::Value = serde_json::from_slice(&parts.config).unwrap();
    for count in [0, 2, 3] {
        manifest["layers"] = vec![manifest["layers"][0].clone(); count].into();
        config["rootfs"]["diff_ids"] = vec![Digest::sha256(&parts.tar).to_string(); count].into();
        let config = serde_json::to_vec(&config).unwrap();
        manifest["config"]["digest"] = Digest::sha256(&config).to_string().into();
        manifest["config"]["size"] = config.len().into();
        let fake = FakeRegistry::with(&parts);
        fake.set(&blob(&config), Answer::ok(&config));
        fake.set("/v2/app/manifests/1", Answer::ok(&serde_json::to_vec(&manifest).unwrap()));
        let pull = pull(&fake);
        assert_sound(&pull.result.unwrap());
        assert_eq!(
            (pull.record.count("done-layer"), fake.count("/blobs/")),
            (count.min(1), 1 + count.min(1))
        );
        manifest["layers"] =
            serde_json::from_slice::<serde_json::Value>(&parts.manifest).unwrap()["layers"].clone();
    }
}

#[test]
fn an_anonymous_token_is_no_identity() {
    let parts = Parts::new(10);
    let fake = FakeRegistry::with(&parts);
    let realm = format!("Bearer realm=\"http://127.0.0.1:{}/token\"", fake.port);
    fake.set("/v2/app/manifests/1", Answer::status(401, "").header("www-authenticate", &realm));
    fake.set("/token", Answer::ok(br#"{"access_token":"abc"}"#));
    let error = failure(&fake);
    assert!(error.hint().unwrap().contains("if the repository is private, log in"), "{error}");
    fake.set("/token", Answer { endless: true, ..Answer::ok(b"") });
    assert!(failure(&fake).to_string().contains("for a token"));
    fake.set("/token", Answer::ok(b"no json"));
    assert!(failure(&fake).to_string().contains("its token cannot be read"));
}

#[test]
fn every_packing_of_one_tar_is_one_layer() {
    let tar = Parts::new(50_000).tar;
    let half = tar.len() / 2;
    let two_members = |tar: &[u8]| [gzip(&tar[..half]), gzip(&tar[half..])].concat();
    let zstd = |tar: &[u8]| zstd::stream::encode_all(tar, 3).unwrap();
    let packed = [gzip(&tar), two_members(&tar), zstd(&tar), tar.clone()];
    let mut blobs = Vec::new();
    for packed in packed {
        let pull = pull(&FakeRegistry::with(&Parts::from_tar(tar.clone(), |_| packed.clone())));
        let image = pull.result.unwrap();
        assert!(image.extents[1].starts_with(pull.store.root()));
        blobs.push(std::fs::read(&image.extents[1]).unwrap());
    }
    assert!(blobs.windows(2).all(|pair| pair[0] == pair[1]));
}
