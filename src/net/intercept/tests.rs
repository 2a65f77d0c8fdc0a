//! The interception between real clients and real servers.

#![allow(clippy::unwrap_used)]

mod ends;

use std::time::Duration;

use bytes::Bytes;
use futures_body::Pieces;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::net::secret::Place;
use ends::{Ends, HOST, SECRET, VALUE, futures_body};

const BOTH: [&str; 2] = ["http/1.1", "h2"];

fn request(uri: &str, headers: &[(&str, &str)], content: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method("POST").uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(content.into())).unwrap()
}

/// A request with the secret's placeholder in the usual header.
fn authorized(ends: &Ends) -> Request<Full<Bytes>> {
    request(
        &format!("https://{HOST}/a?b=c"),
        &[("authorization", &format!("Bearer {}", ends.placeholder(0)))],
        "hello",
    )
}

#[tokio::test]
async fn a_header_gets_the_value_in_both_protocols() {
    for protocol in BOTH {
        let ends = Ends::new(&[SECRET], &[protocol]).await;
        let mut client = ends.client(HOST, &BOTH).await.unwrap();
        assert_eq!(client.protocol(), protocol);
        for _ in 0..3 {
            let (status, headers, text) = client.ask(authorized(&ends)).await.unwrap();
            assert_eq!((status, text.as_str()), (StatusCode::OK, "5 bytes"));
            // The server repeats what it got, which does not reach the sandbox.
            let harmless = format!("Bearer {}", ends.placeholder(0));
            assert_eq!(headers["x-repeated"], harmless);
            assert!(!headers.contains_key("x-reason"), "{headers:?}");
            if protocol == "h2" {
                assert_eq!(headers["x-repeated-last"], harmless);
            }
        }
        let seen = ends.seen();
        assert_eq!(seen.len(), 3);
        assert_eq!(
            (seen[0].target.as_str(), seen[0].authorization.as_str()),
            ("/a?b=c", &*format!("Bearer {VALUE}"))
        );
        assert_eq!(seen[0].content, "hello");
        assert!(ends.refusals().is_empty());
    }
}

#[tokio::test]
async fn streams_go_side_by_side_with_much_content() {
    let ends = Ends::new(&[SECRET], &["h2"]).await;
    let client = ends.client(HOST, &["h2"]).await.unwrap();
    let content = Bytes::from(vec![b'm'; 1 << 20]);
    let all: Vec<_> = (0..20)
        .map(|_| {
            let mut client = client.another();
            let request = request(&format!("https://{HOST}/"), &[], content.clone());
            tokio::spawn(async move { client.ask(request).await.unwrap() })
        })
        .collect();
    for one in all {
        assert_eq!(one.await.unwrap().2, format!("{} bytes", 1 << 20));
    }
}

#[tokio::test]
async fn a_large_cookie_passes_and_a_larger_head_does_not() {
    for (protocol, too_large) in [("http/1.1", 128 << 10), ("h2", 40 << 10)] {
        let ends = Ends::new(&[SECRET], &[protocol]).await;
        for (length, wanted) in
            [(16 << 10, StatusCode::OK), (too_large, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)]
        {
            let cookie = "c".repeat(length);
            let mut answer = None;
            // Who still writes when it is refused may see the end of the connection before the answer.
            for _ in 0..20 {
                let mut client = ends.client(HOST, &BOTH).await.unwrap();
                let request = request(&format!("https://{HOST}/"), &[("cookie", &cookie)], "");
                answer = client.ask(request).await.ok();
                if answer.is_some() || wanted == StatusCode::OK {
                    break;
                }
            }
            assert_eq!(answer.unwrap().0, wanted, "{protocol} {length}");
        }
    }
}

#[test]
fn heads_beyond_their_room_are_not_taken() {
    let rules = Rules::new(Secrets::default());
    let most = 64 << 20;
    let all = rules.head_room(most);
    assert!(all.is_some() && rules.head_room(1).is_none());
    drop(all);
    assert!(rules.head_room(1).is_some());
}

#[tokio::test]
async fn content_gets_the_value_where_that_is_allowed() {
    for protocol in BOTH {
        let ends = Ends::new(&["KEY@api.example.com:in=body"], &[protocol]).await;
        let mut client = ends.client(HOST, &BOTH).await.unwrap();
        let placeholder = ends.placeholder(0);
        let small = request(&format!("https://{HOST}/"), &[], format!("a{placeholder}b"));
        assert_eq!(client.ask(small).await.unwrap().0, StatusCode::OK);
        assert_eq!(ends.seen()[0].content, format!("a{VALUE}b"));
        assert_eq!(ends.seen()[0].length, Some(VALUE.len() as u64 + 2));
        // More than is rewritten at once, in pieces that end within placeholders.
        let text = format!("{}{placeholder}", "x".repeat(1000)).repeat(2000);
        let pieces = Pieces::of(text.as_bytes(), 1009);
        let request = Request::builder()
            .method("PUT")
            .uri(format!("https://{HOST}/"))
            .body(pieces.boxed_unsync())
            .unwrap();
        assert_eq!(client.ask_with(request).await.unwrap().0, StatusCode::OK);
        assert_eq!(ends.seen()[1].content, text.replace(&placeholder, VALUE));
        let packed = super::tests::request(&format!("https://{HOST}/"), &[("content-encoding", "gzip")], "x");
        let (status, _, text) = client.ask(packed).await.unwrap();
        assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{text}");
        assert_eq!(ends.seen().len(), 2);
    }
}

#[tokio::test]
async fn a_placeholder_that_heads_elsewhere_is_refused() {
    for protocol in BOTH {
        let ends = Ends::new(&[SECRET, "OTHER@other.example"], &[protocol]).await;
        let (own, other) = (ends.placeholder(0), ends.placeholder(1));
        for (target, header, content) in [
            ("/", other.clone(), String::new()),
            (&format!("/?k={own}"), String::new(), String::new()),
            (&format!("/{own}"), String::new(), String::new()),
            ("/", String::new(), format!("{}{own}", "x".repeat(2 << 20))),
            ("/", String::new(), format!("{other} ")),
        ] {
            let mut client = ends.client(HOST, &BOTH).await.unwrap();
            let request = request(&format!("https://{HOST}{target}"), &[("x-key", &header)], content);
            let (status, _, text) = client.ask(request).await.unwrap();
            assert_eq!(status, StatusCode::FORBIDDEN, "{target}");
            assert!(text.starts_with("msb: the secret `") && text.contains("\nhint: "), "{text}");
            assert!(!text.contains(VALUE));
        }
        let refusals = ends.refusals();
        assert_eq!(refusals.len(), 5);
        assert!(matches!(&refusals[0], Refusal::OtherHost { secret, .. } if secret == "OTHER"));
        assert!(matches!(&refusals[1], Refusal::Place { place: Place::Query, .. }));
        assert!(matches!(&refusals[3], Refusal::Place { place: Place::Body, .. }));
        assert!(ends.seen().iter().all(|seen| !seen.content.contains("msbsecret")), "none arrived whole");
    }
}

#[tokio::test]
async fn a_request_for_another_host_is_refused() {
    let ends = Ends::new(&[SECRET], &["http/1.1"]).await;
    for host in ["other.example", "api.example.com:444", "user@api.example.com", "api.example.com."] {
        let mut client = ends.client(HOST, &["http/1.1"]).await.unwrap();
        let request = request("/", &[("host", host), ("authorization", &ends.placeholder(0))], "");
        let (status, _, text) = client.ask(request).await.unwrap();
        // A dot at the end is the same name.
        let wanted = if host.ends_with('.') { StatusCode::OK } else { StatusCode::MISDIRECTED_REQUEST };
        assert_eq!(status, wanted, "{host}: {text}");
    }
    let mut client = ends.client(HOST, &["http/1.1"]).await.unwrap();
    let absolute = request("https://other.example/", &[("host", HOST)], "");
    assert_eq!(client.ask_as_is(absolute).await.unwrap().0, StatusCode::MISDIRECTED_REQUEST);
    assert_eq!(ends.seen().len(), 1);
    // Named by the target alone, the host hears of it in the field that every server knows.
    let mut client = ends.client(HOST, &["http/1.1"]).await.unwrap();
    let absolute = request(&format!("https://{HOST}/a"), &[], "");
    assert_eq!(client.ask_as_is(absolute).await.unwrap().0, StatusCode::OK);
    let seen = ends.seen();
    assert_eq!((seen[1].target.as_str(), seen[1].host.as_str()), ("/a", HOST));
}

#[tokio::test]
async fn an_address_that_dns_has_not_given_gets_nothing() {
    for protocol in BOTH {
        let ends = Ends::new(&[SECRET], &[protocol]).await.with_names(&["elsewhere.example"]);
        let mut client = ends.client(HOST, &[protocol]).await.unwrap();
        let (status, _, text) = client.ask(authorized(&ends)).await.unwrap();
        assert_eq!(status, StatusCode::MISDIRECTED_REQUEST);
        assert!(text.contains("is not an address that the sandbox was given for api.example.com"), "{text}");
        assert!(ends.seen().is_empty());
        assert!(matches!(ends.refusals().as_slice(), [Refusal::Pin { .. }]));
    }
}

#[tokio::test]
async fn a_server_that_cannot_prove_who_it_is_gets_nothing() {
    for trusted in [false, true] {
        // A server that nobody has vouched for, and one that is somebody else.
        let ends = if trusted {
            Ends::new(&["KEY@*.example.com"], &BOTH).await.with_names(&["www.example.com"])
        } else {
            Ends::unverified(&["KEY@*.example.com"]).await.with_names(&["www.example.com"])
        };
        let mut client = ends.client("www.example.com", &BOTH).await.unwrap();
        let request = request("https://www.example.com/", &[("x", &ends.placeholder(0))], "");
        let (status, _, text) = client.ask(request).await.unwrap();
        assert_eq!(status, StatusCode::MISDIRECTED_REQUEST, "{text}");
        assert!(text.contains("does not prove to be www.example.com"), "{text}");
        assert!(ends.seen().is_empty());
    }
}

#[tokio::test]
async fn everybody_elses_tls_passes_untouched() {
    let ends = Ends::new(&["KEY@other.example"], &["h2"]).await.with_names(&[HOST, "other.example"]);
    // The certificate is the server's own.
    let mut client = ends.client_of_host(HOST, &["h2"]).await.unwrap();
    let (status, _, _) = client.ask(authorized(&ends)).await.unwrap();
    assert_eq!(status, StatusCode::OK);
    assert_eq!(ends.seen()[0].authorization, format!("Bearer {}", ends.placeholder(0)));
    assert!(ends.client(HOST, &["h2"]).await.is_err());
}

#[tokio::test]
async fn protocols_other_than_http_pass_untouched() {
    let ends = Ends::new(&[SECRET], &[]).await;
    assert!(ends.client_of_host(HOST, &["imap"]).await.is_ok());
}

#[tokio::test]
async fn a_program_that_does_not_trust_the_authority_is_told_of() {
    let ends = Ends::new(&[SECRET], &["h2"]).await;
    assert!(ends.client_of_host(HOST, &["h2"]).await.is_err());
    ends.refused_at_last(|refusal| matches!(refusal, Refusal::Distrusted { .. })).await;
}

#[tokio::test]
async fn nothing_goes_without_encryption() {
    use base64::Engine as _;
    let ends = Ends::new(&[SECRET], &[]).await;
    let placeholder = ends.placeholder(0);
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("me:{placeholder}"));
    for line in [format!("Authorization: Bearer {placeholder}"), format!("Authorization: Basic {basic}")] {
        let (mut client, mut server) = ends.plain().await;
        let head = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n{line}\r\n\r\n");
        for piece in head.as_bytes().chunks(11) {
            client.write_all(piece).await.unwrap();
        }
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 403 Forbidden\r\n") && answer.contains("without encryption"),
            "{answer}"
        );
        let mut arrived = Vec::new();
        let _ = server.read_to_end(&mut arrived).await;
        assert!(!String::from_utf8_lossy(&arrived).contains(&placeholder));
    }
    assert!(matches!(ends.refusals().as_slice(), [Refusal::Plain { .. }, Refusal::Plain { .. }]));
}

#[tokio::test]
async fn what_has_no_placeholder_passes_both_ways_and_ends_as_it_would() {
    let ends = Ends::new(&[SECRET], &[]).await;
    let (mut client, mut server) = ends.plain().await;
    // A server that speaks first.
    server.write_all(b"220 ready\r\n").await.unwrap();
    let mut banner = [0; 11];
    client.read_exact(&mut banner).await.unwrap();
    client.write_all(b"EHLO x\r\n").await.unwrap();
    client.shutdown().await.unwrap();
    let mut heard = String::new();
    server.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "EHLO x\r\n");
    server.write_all(b"250 ok\r\n").await.unwrap();
    drop(server);
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "250 ok\r\n");
}

/// The server neither ends nor says anything: only the sandbox's side tells that it is over.
#[tokio::test]
async fn what_the_sandbox_breaks_off_is_let_go_of() {
    let ends = Ends::new(&[SECRET], &[]).await;
    for begun in ["", "GET / HTTP/1.1\r\n"] {
        let (mut client, mut server) = ends.plain().await;
        client.write_all(begun.as_bytes()).await.unwrap();
        let mut heard = vec![0; begun.len()];
        server.read_exact(&mut heard).await.unwrap();
        drop(client);
        let is_reset = server.ready(tokio::io::Interest::ERROR);
        tokio::time::timeout(Duration::from_secs(60), is_reset).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn another_protocol_is_agreed_on_by_a_head_with_the_value() {
    let ends = Ends::new(&[SECRET], &["http/1.1"]).await;
    let mut client = ends.client(HOST, &["http/1.1"]).await.unwrap();
    let authorization = format!("Bearer {}", ends.placeholder(0));
    let headers =
        [("authorization", authorization.as_str()), ("connection", "Upgrade"), ("upgrade", "websocket")];
    let mut stream = client.upgrade(request(&format!("https://{HOST}/upgrade"), &headers, "")).await;
    assert_eq!(ends.seen()[0].authorization, format!("Bearer {VALUE}"));
    stream.write_all(b"frames").await.unwrap();
    let mut echoed = [0; 6];
    stream.read_exact(&mut echoed).await.unwrap();
    assert_eq!(&echoed, b"frames");
}

#[tokio::test]
async fn an_early_answer_comes_through_while_content_is_still_sent() {
    for protocol in BOTH {
        let ends = Ends::new(&[SECRET], &[protocol]).await;
        let mut client = ends.client(HOST, &BOTH).await.unwrap();
        let request = Request::builder().method("POST").uri(format!("https://{HOST}/early"));
        let endless = request.body(Pieces::endless().boxed_unsync()).unwrap();
        let (status, _, text) = client.ask_with(endless).await.unwrap();
        assert_eq!((status, text.as_str()), (StatusCode::PAYLOAD_TOO_LARGE, "enough"));
    }
}

#[tokio::test]
async fn it_ends_with_its_connections() {
    let ends = Ends::new(&[SECRET], &["h2"]).await;
    let mut client = ends.client(HOST, &["h2"]).await.unwrap();
    client.ask(authorized(&ends)).await.unwrap();
    let request = authorized(&ends);
    ends.end();
    assert!(tokio::time::timeout(Duration::from_secs(60), client.ask(request)).await.unwrap().is_err());
}
