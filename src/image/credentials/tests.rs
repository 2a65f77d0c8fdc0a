#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn password(user: &str, password: &str) -> Credential {
    Credential::Password { user: user.into(), password: password.into() }
}

/// A folder with a file of credentials.
fn folder(text: &str) -> (tempfile::TempDir, CredentialFiles) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    std::fs::write(&path, text).unwrap();
    (folder, CredentialFiles::only(&path))
}

fn found(files: &CredentialFiles, host: &str, repository: &str) -> Option<Credential> {
    files.find(host, repository).unwrap().map(|found| found.credential)
}

/// A helper program.
fn helper(folder: &Path, script: &str) -> String {
    let path = folder.join("docker-credential-test");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

fn run_helper(script: &str, limit: Duration) -> Result<Option<Credential>, CredentialsError> {
    let folder = tempfile::tempdir().unwrap();
    Helper::at(helper(folder.path(), script), limit).get("registry.example")
}

#[test]
fn docker_and_podman_entries_are_understood() {
    // `auth` is `user:pa:ss` with and without padding.
    let (_keep, files) = folder(
        r#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "dXNlcjpwYTpzcw=="},
            "Quay.io": {"auth": "dXNlcjpwYTpzcw"},
            "quay.io/team": {"username": "team", "password": "x"},
            "https://old.example/v1/": {"username": "old", "password": "x"},
            "ghcr.io": {"identitytoken": "refresh"},
            "acr.example": {"auth": "PHRva2VuPjpyZWZyZXNo"},
            "token.example": {"registrytoken": "bearer"},
            "kept.example": {}
        }}"#,
    );
    assert_eq!(found(&files, "docker.io", "library/python"), Some(password("user", "pa:ss")));
    assert_eq!(found(&files, "quay.io", "other/app"), Some(password("user", "pa:ss")));
    assert_eq!(found(&files, "quay.io", "team/app"), Some(password("team", "x")));
    assert_eq!(found(&files, "quay.io", "teams/app"), Some(password("user", "pa:ss")));
    assert_eq!(found(&files, "old.example", "a"), Some(password("old", "x")));
    assert_eq!(found(&files, "ghcr.io", "a"), Some(Credential::IdentityToken("refresh".into())));
    assert_eq!(found(&files, "acr.example", "a"), Some(Credential::IdentityToken("refresh".into())));
    assert_eq!(found(&files, "token.example", "a"), Some(Credential::RegistryToken("bearer".into())));
    assert_eq!(found(&files, "kept.example", "a"), None);
    assert_eq!(found(&files, "quay.io:443", "a"), None);
}

#[test]
fn files_are_looked_for_where_docker_and_podman_have_them() {
    let files = |set: &[(&str, &str)]| {
        let set: Vec<(String, PathBuf)> = set.iter().map(|(k, v)| ((*k).into(), v.into())).collect();
        let files = CredentialFiles::from_variables(|name| {
            set.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
        });
        let paths = files.own.iter().chain(&files.others).map(|path| path.display().to_string());
        paths.collect::<Vec<_>>()
    };
    assert_eq!(files(&[("HOME", "/h")]), ["/h/.docker/config.json", "/h/.config/containers/auth.json"]);
    let all = [
        ("HOME", "/h"),
        ("DOCKER_CONFIG", "/d"),
        ("XDG_CONFIG_HOME", "/c"),
        ("XDG_RUNTIME_DIR", "/r"),
        ("REGISTRY_AUTH_FILE", "/a.json"),
    ];
    assert_eq!(
        files(&all),
        ["/a.json", "/d/config.json", "/r/containers/auth.json", "/c/containers/auth.json"]
    );
    assert!(files(&[]).is_empty());
}

#[test]
fn a_login_keeps_the_rest_of_the_file_and_is_private() {
    let (keep, files) = folder(
        r#"{"zeta": [1, {"x": null}], "auths": {"a.example": {"auth": "eDp5"}, "docker.io": {"auth": "eDp5"}}, "HttpHeaders": {"k": "v"}}"#,
    );
    let path = keep.path().join("config.json");
    let keeper = files.store("docker.io", &password("me", "se:cret")).unwrap();
    assert_eq!(keeper, path.display().to_string());
    assert_eq!(found(&files, "docker.io", "a/b"), Some(password("me", "se:cret")));
    assert_eq!(found(&files, "a.example", "a"), Some(password("x", "y")));
    let text = std::fs::read_to_string(&path).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&value["zeta"][1]["x"], &value["HttpHeaders"]["k"]), (&serde_json::Value::Null, &"v".into()));
    assert!(text.find("zeta") < text.find("HttpHeaders"), "{text}");
    assert!(value["auths"]["https://index.docker.io/v1/"].is_object());
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(keep.path()).unwrap().count(), 1);

    assert_eq!(files.erase("docker.io").unwrap(), [path.display().to_string()]);
    assert_eq!(files.erase("docker.io").unwrap(), Vec::<String>::new());
    assert_eq!(found(&files, "docker.io", "a/b"), None);
    assert_eq!(found(&files, "a.example", "a"), Some(password("x", "y")));
}

#[test]
fn a_first_login_makes_the_file_and_a_link_stays_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/folder/config.json");
    let files = CredentialFiles::only(&path);
    assert_eq!(found(&files, "a.example", "a"), None);
    files.store("a.example", &password("u", "p")).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    let link = folder.path().join("link.json");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    CredentialFiles::only(&link).store("b.example", &password("u", "p")).unwrap();
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(found(&files, "b.example", "a"), Some(password("u", "p")));
}

#[test]
fn a_damaged_file_is_named_and_left_alone_and_its_secrets_stay_in_it() {
    for text in
        [r#"{"auths": {"a": "hunter2"#, r#"["hunter2"]"#, r#"{"auths":{"a.example":{"auth":"hunter2"}}}"#]
    {
        let (keep, files) = folder(text);
        let error = files.find("a.example", "a").unwrap_err();
        assert!(error.to_string().contains("config.json"), "{error}");
        assert!(!format!("{error} {error:?} {:?}", error.hint()).contains("hunter2"), "{error:?}");
        if !text.contains("a.example") {
            assert!(files.store("a.example", &password("u", "p")).is_err());
            assert_eq!(std::fs::read_to_string(keep.path().join("config.json")).unwrap(), text);
        }
    }
    assert!(!format!("{:?}", password("user", "hunter2")).contains("hunter2"));
}

#[test]
fn helpers_get_store_and_erase() {
    let keep = tempfile::tempdir().unwrap();
    let kept = keep.path().join("kept");
    let script = format!(
        "case $1 in get) read key; test -e {0} || {{ echo credentials not found in native keychain; exit 1; }}; cat {0};; \
         store) cat > {0};; erase) read key; rm {0};; esac",
        kept.display()
    );
    let helper = Helper::at(helper(keep.path(), &script), HELPER_LIMIT);
    assert_eq!(helper.get("a.example").unwrap(), None);
    helper.store("a.example", &password("u", "p\"w")).unwrap();
    assert!(std::fs::read_to_string(&kept).unwrap().contains(r#""ServerURL":"a.example""#));
    assert_eq!(helper.get("a.example").unwrap(), Some(password("u", "p\"w")));
    helper.store("a.example", &Credential::IdentityToken("t".into())).unwrap();
    assert_eq!(helper.get("a.example").unwrap(), Some(Credential::IdentityToken("t".into())));
    helper.erase("a.example").unwrap();
    assert_eq!(helper.get("a.example").unwrap(), None);
}

#[test]
fn helpers_that_misbehave_are_named() {
    let nonsense = run_helper("echo hunter2", HELPER_LIMIT).unwrap_err();
    assert!(matches!(nonsense, CredentialsError::HelperNonsense { .. }), "{nonsense}");
    assert!(!nonsense.to_string().contains("hunter2"));
    let failed = run_helper("echo; echo 'the key chain is locked'; exit 3", HELPER_LIMIT).unwrap_err();
    assert!(
        failed.to_string().ends_with("docker-credential-test` failed: the key chain is locked"),
        "{failed}"
    );
    // It neither reads nor writes nor ends, and nor does what it started.
    for script in
        ["sleep 1000 & sleep 1000", "exec >&-; sleep 1000", "trap '' TERM; while :; do sleep 1; done"]
    {
        let silent = run_helper(script, Duration::from_millis(200)).unwrap_err();
        assert!(matches!(silent, CredentialsError::HelperSilent { .. }), "{silent}");
    }
    let endless = run_helper("exec yes", HELPER_LIMIT).unwrap_err();
    assert!(!matches!(endless, CredentialsError::HelperSilent { .. }), "{endless}");
    let missing = Helper::new("no-such-helper", HELPER_LIMIT).get("a").unwrap_err();
    assert!(missing.to_string().contains("docker-credential-no-such-helper"), "{missing}");
    assert!(missing.hint().unwrap().contains("install docker-credential-no-such-helper"));
}

#[test]
fn the_helper_of_a_registry_goes_before_the_common_one() {
    let read = |text: &str| {
        let (keep, _) = folder(text);
        AuthFile::read(&keep.path().join("config.json")).unwrap().unwrap()
    };
    let file = read(r#"{"credsStore": "pass", "credHelpers": {"a.example": "own", "b.example": ""}}"#);
    assert_eq!((file.helper("a.example"), file.helper("b.example")), (Some("own"), Some("pass")));
    assert_eq!(read(r#"{"credsStore": ""}"#).helper("a.example"), None);
    assert_eq!(read("").helper("a.example"), None);
}
