#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn problem(input: &str) -> Problem {
    input.parse::<Reference>().unwrap_err().problem
}

#[test]
fn fills_in_defaults() {
    let digest = format!("sha256:{}", "ab".repeat(32));
    let cases = [
        ("python", "docker.io/library/python:latest", "python:latest"),
        ("python:3.11", "docker.io/library/python:3.11", "python:3.11"),
        ("org/app", "docker.io/org/app:latest", "org/app:latest"),
        ("docker.io/python", "docker.io/library/python:latest", "python:latest"),
        ("index.docker.io/org/app:1", "docker.io/org/app:1", "org/app:1"),
        ("registry-1.docker.io/app", "docker.io/library/app:latest", "app:latest"),
        ("GHCR.io/org/app:V1", "ghcr.io/org/app:V1", "ghcr.io/org/app:V1"),
        ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
        ("localhost:5000/a/b:c", "localhost:5000/a/b:c", "localhost:5000/a/b:c"),
        ("127.0.0.1:5000/python:3.11", "127.0.0.1:5000/python:3.11", "127.0.0.1:5000/python:3.11"),
        ("[::1]:5000/app", "[::1]:5000/app:latest", "[::1]:5000/app:latest"),
        ("python:5000", "docker.io/library/python:5000", "python:5000"),
        ("a__b--c.d/e", "docker.io/a__b--c.d/e:latest", "a__b--c.d/e:latest"),
    ];
    for (input, full, short) in cases {
        if input.starts_with("a__b") {
            // A dot in the first of two components makes it a registry, and this is no host name.
            assert!(matches!(problem(input), Problem::Registry(_)), "{input}");
            continue;
        }
        let reference: Reference = input.parse().unwrap();
        assert_eq!(reference.to_string(), full);
        assert_eq!(reference.short(), short);
    }
    let pinned: Reference = format!("python@{digest}").parse().unwrap();
    assert_eq!((pinned.tag(), pinned.to_string()), (None, format!("docker.io/library/python@{digest}")));
    let both: Reference = format!("r.io:1/app:1@{digest}").parse().unwrap();
    assert_eq!((both.tag(), both.digest().unwrap().to_string()), (Some("1"), digest));
}

#[test]
fn says_what_is_wrong() {
    assert_eq!(problem(""), Problem::Empty);
    assert_eq!(problem("https://ghcr.io/a"), Problem::Scheme("https://".into()));
    assert_eq!(problem("Python:A"), Problem::UpperCase { suggestion: "python:A".into() });
    assert_eq!(problem("r.io/Org/App:A"), Problem::UpperCase { suggestion: "r.io/org/app:A".into() });
    assert_eq!(problem("a//b"), Problem::EmptyComponent);
    assert_eq!(problem("/a"), Problem::EmptyComponent);
    assert_eq!(problem("a/"), Problem::EmptyComponent);
    assert_eq!(problem("-a"), Problem::Repository { component: "-a".into() });
    assert_eq!(problem("a..b"), Problem::Repository { component: "a..b".into() });
    assert_eq!(problem("a b"), Problem::Repository { component: "a b".into() });
    assert_eq!(problem("../../etc/passwd"), Problem::Registry("..".into()));
    assert_eq!(problem("host:99999/a"), Problem::Registry("host:99999".into()));
    assert_eq!(problem("host:/a"), Problem::Registry("host:".into()));
    assert_eq!(problem("[::1/a"), Problem::Registry("[::1".into()));
    assert_eq!(problem("[::1]5000/a"), Problem::Registry("[::1]5000".into()));
    assert_eq!(problem("a:"), Problem::Tag(String::new()));
    assert_eq!(problem("a:.x"), Problem::Tag(".x".into()));
    assert!(matches!(problem(&format!("a:{}", "x".repeat(129))), Problem::TooLong { part: "tag", .. }));
    assert!(matches!(problem(&"a/".repeat(200)), Problem::TooLong { part: "repository", .. }));
    // Together with the `library/` that is put before it.
    assert!(matches!(problem(&"a".repeat(250)), Problem::TooLong { part: "repository", .. }));
    let bare = format!("sha256:{}", "ab".repeat(32));
    assert_eq!(problem(&bare), Problem::BareDigest(bare.clone()));
    assert_eq!(problem(&"ab".repeat(32)), Problem::BareDigest(bare));
    assert!(matches!(problem("a@sha256:12"), Problem::Digest(DigestError::Length { .. })));
    let message = "Python".parse::<Reference>().unwrap_err().to_string();
    assert_eq!(
        message,
        "`Python` is not an image reference: repository names are lower case (did you mean `python`?)"
    );
}

#[test]
fn knows_loopback() {
    for (input, expected) in [
        ("localhost:5000/a", true),
        ("127.1.2.3:5000/a", true),
        ("[::1]:5000/a", true),
        ("dev.localhost/a", true),
        ("a", false),
        ("10.0.0.1:5000/a", false),
        ("localhost.evil.com/a", false),
        ("127.0.0.1.evil.com/a", false),
    ] {
        assert_eq!(is_loopback(input.parse::<Reference>().unwrap().registry()), expected, "{input}");
    }
}

fn plausible() -> impl Strategy<Value = String> {
    "([a-zA-Z0-9.-]{1,12}(:[0-9]{1,5})?/)?[a-zA-Z0-9._/-]{1,24}(:[a-zA-Z0-9_.-]{0,10})?(@sha256:[0-9a-f]{64})?"
}

proptest! {
    #[test]
    fn never_panics(input in any::<String>()) {
        let _ = input.parse::<Reference>();
    }

    #[test]
    fn both_forms_parse_back(input in plausible()) {
        if let Ok(reference) = input.parse::<Reference>() {
            prop_assert_eq!(&reference.to_string().parse::<Reference>().unwrap(), &reference);
            prop_assert_eq!(&reference.short().parse::<Reference>().unwrap(), &reference);
        }
    }

    /// Whatever we accept, the common library accepts too and reads alike.
    #[test]
    fn agrees_with_oci_spec(input in plausible()) {
        if let Ok(ours) = input.parse::<Reference>() {
            let theirs: oci_spec::distribution::Reference = input.parse().unwrap();
            let registry = theirs.registry().to_ascii_lowercase();
            if registry.ends_with("docker.io") {
                return Ok(());
            }
            prop_assert_eq!(ours.registry(), registry);
            prop_assert_eq!(ours.repository(), theirs.repository());
            prop_assert_eq!(ours.tag(), theirs.tag());
            let digest = ours.digest().map(ToString::to_string);
            prop_assert_eq!(digest.as_deref(), theirs.digest());
        }
    }
}

#[test]
fn names_without_registry_come_from_the_default_one() {
    let read = |input: &str| Reference::parse_in(input, "registry.example.com:5000").unwrap();
    assert_eq!(read("python").to_string(), "registry.example.com:5000/python:latest");
    assert_eq!(read("team/app:1").to_string(), "registry.example.com:5000/team/app:1");
    assert_eq!(read("docker.io/python").to_string(), "docker.io/library/python:latest");
    assert_eq!(read("ghcr.io/a/b").registry(), "ghcr.io");
    for input in ["python", "docker.io/python", "docker.io/a/b:1", "ghcr.io/a/b"] {
        let reference = read(input);
        assert_eq!(read(&reference.short_in("registry.example.com:5000")), reference, "{input}");
    }
    assert_eq!("python".parse::<Reference>().unwrap().short_in(DEFAULT_REGISTRY), "python:latest");
}
