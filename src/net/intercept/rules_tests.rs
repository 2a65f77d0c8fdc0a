#![allow(clippy::unwrap_used)]
use hyper::Request;

use super::*;
use crate::net::secret::Secret;

fn rules(written: &[&str], values: &[&str]) -> Rules {
    let secrets: Vec<Secret> = written.iter().map(|text| text.parse().unwrap()).collect();
    let pairs: Vec<(&Secret, &str)> = secrets.iter().zip(values.iter().copied()).collect();
    Rules::new(Secrets::of(&pairs))
}

fn placeholder(rules: &Rules, index: usize) -> String {
    rules.secrets.get(index).unwrap().placeholder.clone()
}

/// The request as it goes on: its target, and a header.
fn sent(rules: &Rules, host: &str, target: &str, header: (&str, &str)) -> Result<(String, String), Refusal> {
    let request = Request::builder().uri(target).header(header.0, header.1).body(()).unwrap();
    let mut parts = request.into_parts().0;
    rules.rewrite_head(&mut parts, &host.parse().unwrap())?;
    let value = parts.headers[header.0].to_str().unwrap().to_owned();
    Ok((parts.uri.to_string(), value))
}

#[test]
fn headers_and_basic_authentication_get_the_value() {
    let rules = rules(&["KEY@api.example.com"], &["s3cret: with space"]);
    let key = placeholder(&rules, 0);
    let (_, bearer) =
        sent(&rules, "api.example.com", "/", ("Authorization", &format!("Bearer {key}"))).unwrap();
    assert_eq!(bearer, "Bearer s3cret: with space");
    let (_, own) = sent(&rules, "api.example.com", "/", ("X-Api-Key", &format!("{key},{key}"))).unwrap();
    assert_eq!(own, "s3cret: with space,s3cret: with space");
    let basic = format!("basic {}", STANDARD.encode(format!("user:{key}")));
    let (_, basic) = sent(&rules, "api.example.com", "/", ("Authorization", &basic)).unwrap();
    assert_eq!(basic, format!("basic {}", STANDARD.encode("user:s3cret: with space")));
    let (target, same) = sent(&rules, "api.example.com", "/a?b=c", ("X", "plain")).unwrap();
    assert_eq!((target.as_str(), same.as_str()), ("/a?b=c", "plain"));
}

#[test]
fn urls_get_the_value_where_that_is_allowed_and_never_break() {
    let rules = rules(&["KEY@api.example.com:in=query,path"], &["a&b=c/ü #"]);
    let key = placeholder(&rules, 0);
    let (target, _) =
        sent(&rules, "api.example.com", &format!("/bot{key}/x?k={key}&l=1"), ("X", "")).unwrap();
    assert_eq!(target, "/bota%26b%3Dc%2F%C3%BC%20%23/x?k=a%26b%3Dc%2F%C3%BC%20%23&l=1");
    let refused = sent(&rules, "api.example.com", "/", ("X", &key)).unwrap_err();
    assert!(matches!(refused, Refusal::Place { place: Place::Header, .. }), "{refused}");
}

#[test]
fn a_placeholder_elsewhere_is_refused() {
    let rules = rules(&["ONE@one.example", "TWO@*.two.example"], &["111111111", "222222222"]);
    let (one, two) = (placeholder(&rules, 0), placeholder(&rules, 1));
    for (host, target, header, place) in [
        ("a.two.example", "/".to_owned(), one.clone(), None),
        ("one.example", "/".to_owned(), format!("{one} {two}"), None),
        ("one.example", format!("/?k={one}"), String::new(), Some(Place::Query)),
        ("one.example", format!("/{one}"), String::new(), Some(Place::Path)),
    ] {
        let refusal = sent(&rules, host, &target, ("X", &header)).unwrap_err();
        match (&refusal, place) {
            (Refusal::OtherHost { .. }, None) => {}
            (Refusal::Place { place, .. }, Some(wanted)) => assert_eq!(*place, wanted),
            _ => panic!("{refusal}"),
        }
        assert!(refusal.status().is_client_error());
        let text = refusal.text();
        assert!(!text.contains("1111") && !text.contains("2222") && text.contains("hint: "), "{text}");
    }
    assert_eq!(sent(&rules, "a.two.example", "/", ("X", &two)).unwrap().1, "222222222");
}

#[test]
fn content_holds_values_as_its_type_wants_them() {
    let headers = |kind: &str| HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_str(kind).unwrap())]);
    for (kind, wanted) in [
        ("application/json; charset=utf-8", r#"a\"b\\c&\n"#),
        ("application/vnd.api+json", r#"a\"b\\c&\n"#),
        ("application/x-www-form-urlencoded", "a%22b%5Cc%26%0A"),
        ("text/plain", "a\"b\\c&\n"),
    ] {
        assert_eq!(**Encoding::of(&headers(kind)).write(b"a\"b\\c&\n"), *wanted.as_bytes(), "{kind}");
    }
}

#[test]
fn answers_do_not_repeat_values_in_their_header() {
    let rules = rules(&["KEY@api.example.com"], &["s3cret & more"]);
    let value = HeaderValue::from_static("x=s3cret & more; s3cret%20%26%20more; s3cret & more");
    let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, value)]);
    rules.conceal(&mut headers, &"api.example.com".parse().unwrap());
    let key = placeholder(&rules, 0);
    assert_eq!(headers[CONTENT_TYPE], format!("x={key}; {key}; {key}"));
}

#[test]
fn a_repeated_value_becomes_the_placeholder_once() {
    // All placeholders begin with this one.
    let rules = rules(&["KEY@api.example.com"], &["msbsecret"]);
    let key = placeholder(&rules, 0);
    let mut headers = HeaderMap::new();
    headers.insert("x", "a msbsecret, msbsecretmsbsecre".parse().unwrap());
    rules.conceal(&mut headers, &"api.example.com".parse().unwrap());
    assert_eq!(headers["x"], format!("a {key}, {key}msbsecre"));
}
