//! Who a registry is told we are, and who else is not told.

use std::path::PathBuf;

use super::fake_registry::{Answer, FakeRegistry, Parts, blob};
use super::*;

/// A store, and a file with the credentials `user:pass` for some registries.
struct Place {
    folder: tempfile::TempDir,
    record: Record,
}

impl Place {
    fn new(auths: &str) -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap(), record: Record::default() };
        std::fs::write(place.file(), auths).unwrap();
        place
    }

    /// Credentials for `fake`.
    fn logged_in(fake: &FakeRegistry) -> Self {
        Self::new(&format!(r#"{{"auths":{{"127.0.0.1:{}":{{"auth":"dXNlcjpwYXNz"}}}}}}"#, fake.port))
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("config.json")
    }

    fn pull(&self, fake: &FakeRegistry) -> Result<Image, Error> {
        let store = Store::open(&self.folder.path().join("cache")).unwrap();
        let options =
            PullOptions { credentials: CredentialFiles::only(&self.file()), ..PullOptions::default() };
        store.pull(&fake.reference(), &options, &self.record)
    }
}

fn basic() -> Answer {
    Answer::status(401, "").header("www-authenticate", "Basic realm=\"x\"")
}

const MANIFEST: &str = "/v2/app/manifests/1";
const BASIC: &str = "authorization: Basic dXNlcjpwYXNz";

#[test]
fn a_password_is_shown_to_the_token_server_alone() {
    let parts = Parts::new(1000);
    let fake = FakeRegistry::with(&parts);
    let offer = fake.challenge().header("www-authenticate", "Basic realm=\"x\"");
    fake.sequence(MANIFEST, vec![offer, Answer::ok(&parts.manifest)]);
    fake.set("/token", Answer::ok(br#"{"token":"abc","expires_in":300}"#));
    assert_sound(&Place::logged_in(&fake).pull(&fake).unwrap());
    assert_eq!((fake.count(BASIC), fake.count("authorization: Bearer abc")), (1, 3));
    assert_eq!(fake.count("/token?service=s&scope=repository%3Aapp%3Apull HTTP"), 1);
}

#[test]
fn every_scope_asked_for_is_asked_of_the_token_server() {
    let parts = Parts::new(10);
    let fake = FakeRegistry::with(&parts);
    let realm = format!(
        "Bearer realm=\"http://127.0.0.1:{}/token?k=v\",scope=\"repository:app:pull repository:base:pull\"",
        fake.port
    );
    let challenge = Answer::status(401, "").header("www-authenticate", &realm);
    fake.sequence(MANIFEST, vec![challenge, Answer::ok(&parts.manifest)]);
    fake.set("/token", Answer::ok(br#"{"access_token":"abc"}"#));
    assert!(Place::new("{}").pull(&fake).is_ok());
    assert_eq!(fake.count("/token?k=v&scope=repository%3Aapp%3Apull&scope=repository%3Abase%3Apull HTTP"), 1);
}

#[test]
fn a_refresh_token_is_sent_as_a_form() {
    let parts = Parts::new(1000);
    let fake = FakeRegistry::with(&parts);
    fake.sequence(MANIFEST, vec![fake.challenge(), Answer::ok(&parts.manifest)]);
    fake.set("/token", Answer::ok(br#"{"access_token":"abc"}"#));
    let auths = format!(r#"{{"auths":{{"127.0.0.1:{}":{{"identitytoken":"re fresh"}}}}}}"#, fake.port);
    assert!(Place::new(&auths).pull(&fake).is_ok());
    assert_eq!((fake.count("POST /token HTTP"), fake.count("authorization: Bearer abc")), (1, 3));
    assert_eq!(fake.count("grant_type=refresh_token&client_id=msb&refresh_token=re+fresh"), 1);
    // It does not follow a redirect to who knows where.
    let (fake, other) = (FakeRegistry::with(&parts), FakeRegistry::start());
    fake.set(MANIFEST, fake.challenge());
    let elsewhere = format!("http://127.0.0.1:{}/token", other.port);
    fake.set("/token", Answer::status(307, "").header("location", &elsewhere));
    let auths = format!(r#"{{"auths":{{"127.0.0.1:{}":{{"identitytoken":"secret"}}}}}}"#, fake.port);
    assert!(Place::new(&auths).pull(&fake).is_err());
    assert_eq!(other.count("HTTP"), 0);
}

#[test]
fn a_token_that_ends_in_the_middle_of_a_layer_is_replaced_once() {
    let parts = Parts::new(2_000_000);
    let fake = FakeRegistry::with(&parts);
    fake.sequence(MANIFEST, vec![fake.challenge(), Answer::ok(&parts.manifest)]);
    let token = |name: &str| Answer::ok(format!(r#"{{"token":"{name}"}}"#).as_bytes());
    fake.sequence("/token", vec![token("first"), token("second")]);
    let cut = Answer { cut: Some(700_000), ..Answer::ok(&parts.layer) };
    fake.sequence(&blob(&parts.layer), vec![cut, fake.challenge(), Answer::ok(&parts.layer)]);
    let place = Place::new("{}");
    assert_sound(&place.pull(&fake).unwrap());
    assert_eq!((fake.count("/token"), fake.count("authorization: Bearer second")), (2, 1));
    assert_eq!(place.record.count("retrying 700000"), 1);
    // A registry that never has enough is not asked for ever.
    let fake = FakeRegistry::with(&parts);
    fake.set(MANIFEST, fake.challenge());
    fake.set("/token", token("t"));
    assert!(Place::new("{}").pull(&fake).is_err());
    assert_eq!((fake.count("/token"), fake.count(MANIFEST)), (1, 2));
}

#[test]
fn refusals_say_who_was_refused_and_where_the_credentials_are() {
    let parts = Parts::new(10);
    let fake = FakeRegistry::with(&parts);
    fake.set(MANIFEST, basic());
    let place = Place::logged_in(&fake);
    let error = place.pull(&fake).unwrap_err();
    assert!(error.to_string().ends_with("does not accept the stored credentials for user `user`"), "{error}");
    let hint = error.hint().unwrap();
    assert!(
        hint.contains(&place.file().display().to_string()) && hint.contains("msb login 127.0.0.1:"),
        "{hint}"
    );
    let error = Place::new("{}").pull(&fake).unwrap_err();
    assert!(error.to_string().ends_with("does not exist or needs a login"), "{error}");
    // The token server has a say too.
    let denied = Answer::status(403, r#"{"errors":[{"code":"DENIED","message":"not yours"}]}"#);
    for path in [MANIFEST, "/token"] {
        let fake = FakeRegistry::with(&parts);
        fake.set(MANIFEST, fake.challenge());
        fake.set("/token", Answer::ok(br#"{"token":"abc"}"#));
        fake.set(path, denied.clone());
        let place = Place::logged_in(&fake);
        let error = place.pull(&fake).unwrap_err().to_string();
        assert!(error.contains("refuses access to `app`") && error.ends_with(": not yours"), "{error}");
    }
}

#[test]
fn helpers_that_fail_do_not_stop_what_needs_none() {
    let parts = Parts::new(10);
    let fake = FakeRegistry::with(&parts);
    fake.sequence(MANIFEST, vec![fake.challenge(), Answer::ok(&parts.manifest)]);
    fake.set("/token", Answer::ok(br#"{"token":"abc"}"#));
    let place = Place::new(r#"{"credsStore": "of-nobody"}"#);
    assert!(place.pull(&fake).is_ok());
    assert_eq!(place.record.count("notice the credential helper `docker-credential-of-nobody`"), 1);
    let fake = FakeRegistry::with(&parts);
    fake.set(MANIFEST, basic());
    let hint = Place::new(r#"{"credsStore": "of-nobody"}"#).pull(&fake).unwrap_err().hint().unwrap();
    assert!(hint.contains("install docker-credential-of-nobody"), "{hint}");
}

#[test]
fn where_a_registry_redirects_to_is_not_told_who_we_are() {
    let parts = Parts::new(1000);
    let (fake, other) = (FakeRegistry::with(&parts), FakeRegistry::start());
    fake.sequence(MANIFEST, vec![basic(), Answer::ok(&parts.manifest)]);
    let elsewhere = format!("http://127.0.0.1:{}/layer?X-Amz-Signature=secret", other.port);
    fake.set(&blob(&parts.layer), Answer::status(307, "").header("location", &elsewhere));
    other.set("/layer", Answer::ok(&parts.layer));
    assert_sound(&Place::logged_in(&fake).pull(&fake).unwrap());
    assert_eq!((fake.count(BASIC), other.count("GET"), other.count("authorization")), (3, 1, 0));
    // Not even when it asks. And the address with its signature is in no error.
    other.set("/layer", basic().header("retry-after", "0"));
    let place = Place::logged_in(&fake);
    let error = place.pull(&fake).unwrap_err();
    assert_eq!(other.count("authorization"), 0);
    assert!(
        error.to_string().contains(&format!("sent us to http://127.0.0.1:{}/layer, which", other.port)),
        "{error}"
    );
    assert!(!format!("{error:?}{:?}", place.record.0).contains("secret"));
}

#[test]
fn a_signed_address_that_ended_is_asked_for_anew() {
    let parts = Parts::new(1000);
    let (fake, other) = (FakeRegistry::with(&parts), FakeRegistry::start());
    let elsewhere = format!("http://127.0.0.1:{}/layer", other.port);
    fake.set(&blob(&parts.layer), Answer::status(307, "").header("location", &elsewhere));
    let ended = Answer::status(403, "Request has expired").header("retry-after", "0");
    other.sequence("/layer", vec![ended, Answer::ok(&parts.layer)]);
    assert_sound(&Place::new("{}").pull(&fake).unwrap());
    assert_eq!(fake.count(&blob(&parts.layer)), 2);
}

#[test]
fn a_login_is_checked_before_it_is_kept() {
    let fake = FakeRegistry::start();
    let place = Place::new("{}");
    let files = CredentialFiles::only(&place.file());
    let login = |password: &str| {
        let host = format!("127.0.0.1:{}", fake.port).parse().unwrap();
        Login { host, user: "user".into(), password: password.into() }.run(&Default::default(), &files)
    };
    fake.set("/v2/", basic());
    let error = login("wrong").unwrap_err();
    assert!(error.to_string().contains("does not accept this user name and password"), "{error}");
    assert_eq!(std::fs::read_to_string(place.file()).unwrap(), "{}");
    fake.sequence("/v2/", vec![basic(), Answer::ok(b"{}")]);
    assert!(login("pass").unwrap().checked);
    assert_eq!(fake.count(BASIC), 1);
    // By way of a token, without a scope.
    fake.sequence("/v2/", vec![fake.challenge(), Answer::ok(b"{}")]);
    fake.set("/token", Answer::ok(br#"{"token":"abc"}"#));
    assert!(login("pass").unwrap().checked);
    assert_eq!((fake.count("/token?service=s HTTP"), fake.count("Bearer abc")), (1, 1));
    fake.set("/v2/", fake.challenge());
    fake.set("/token", Answer::status(401, ""));
    assert!(login("wrong").unwrap_err().to_string().contains("does not accept"));
    // Who asks for nothing.
    fake.set("/v2/", Answer::ok(b"{}"));
    assert!(!login("pass").unwrap().checked);
    let host = format!("127.0.0.1:{}", fake.port).parse().unwrap();
    assert_eq!(files.log_out(&host).unwrap(), [place.file().display().to_string()]);
    assert_eq!(files.log_out(&host).unwrap(), Vec::<String>::new());
    let secret = Login { host, user: "user".into(), password: "hunter2".into() };
    assert!(!format!("{secret:?}").contains("hunter2"));
}
