//! What of an answer reaches the sandbox, and what is remembered of it.

use hickory_proto::rr::rdata::A;
use hickory_proto::rr::rdata::svcb::{IpHint, SVCB, SvcParamKey, SvcParamValue};

use super::*;

#[test]
fn an_address_counts_for_its_name_until_its_time_is_over() {
    let mut bench = Bench::new(Scope::Public, &[]);
    let got = bench.resolve("www.example.com", RecordType::A, &[address("www.example.com", 60, "1.2.3.4")]);
    assert_eq!((got.metadata.response_code, addresses(&got)), (ResponseCode::NoError, vec![ip("1.2.3.4")]));
    assert!(
        got.metadata.recursion_available && got.metadata.recursion_desired && !got.metadata.authoritative
    );
    assert_eq!(bench.names("1.2.3.4"), ["www.example.com"]);
    assert_eq!(bench.names("::ffff:1.2.3.4"), ["www.example.com"]);
    bench.later(59);
    assert_eq!(bench.names("1.2.3.4"), ["www.example.com"]);
    bench.later(1);
    assert!(bench.names("1.2.3.4").is_empty());
}

#[test]
fn an_answer_without_time_is_good_for_the_connection_that_follows() {
    let mut bench = Bench::new(Scope::Public, &[]);
    bench.resolve("a.example", RecordType::A, &[address("a.example", 0, "1.2.3.4")]);
    assert_eq!(bench.names("1.2.3.4"), ["a.example"]);
    bench.later(10);
    assert!(bench.names("1.2.3.4").is_empty());
}

#[test]
fn every_alias_on_the_way_counts() {
    let mut bench = Bench::new(Scope::None, &["allow www.example.com"]);
    let answers = [
        alias("www.example.com", "edge.cdn.net"),
        alias("edge.cdn.net", "n1.cdn.net"),
        address("n1.cdn.net", 60, "1.2.3.4"),
        address("n1.cdn.net", 60, "1.2.3.5"),
    ];
    let got = bench.resolve("www.example.com", RecordType::A, &answers);
    assert_eq!(got.answers.len(), 4);
    assert_eq!(bench.names("1.2.3.5"), ["www.example.com", "edge.cdn.net", "n1.cdn.net"]);
}

#[test]
fn what_does_not_belong_to_the_question_is_left_out() {
    let mut bench = Bench::new(Scope::Public, &[]);
    let answers = [
        address("www.example.com", 60, "1.2.3.4"),
        address("bank.example", 60, "6.6.6.6"),
        alias("other.example", "bank.example"),
    ];
    let got = bench.resolve("www.example.com", RecordType::A, &answers);
    assert_eq!((got.answers.len(), addresses(&got)), (1, vec![ip("1.2.3.4")]));
    assert!(bench.names("6.6.6.6").is_empty());
}

#[test]
fn aliases_in_a_circle_end() {
    let mut bench = Bench::new(Scope::Public, &[]);
    let got = bench.resolve(
        "a.example",
        RecordType::A,
        &[alias("a.example", "b.example"), alias("b.example", "a.example")],
    );
    assert_eq!((got.metadata.response_code, got.answers.len()), (ResponseCode::NoError, 2));
}

#[test]
fn private_addresses_are_taken_out_under_public() {
    let private = [
        "10.0.0.1",
        "127.0.0.1",
        "0.0.0.0",
        "169.254.169.254",
        "192.168.1.1",
        "203.0.113.9",
        "172.31.0.1",
        "100.64.0.1",
    ];
    for to in private {
        let mut bench = Bench::new(Scope::Public, &[]);
        let got = bench.resolve("rebind.example", RecordType::A, &[address("rebind.example", 60, to)]);
        assert_eq!((got.metadata.response_code, addresses(&got)), (ResponseCode::NoError, vec![]), "{to}");
        assert!(words(&got).contains(to), "{}", words(&got));
        assert!(!bench.names(to).contains(&"rebind.example".to_owned()));
    }
    for to in ["::1", "::", "fd00::1", "fe80::1", "::ffff:10.0.0.1", "64:ff9b::10.0.0.1", "2002:a00:1::1"] {
        let mut bench = Bench::new(Scope::Public, &[]);
        let record = Record::from_rdata(wire("rebind.example"), 60, RData::from(ip(to)));
        let got = bench.resolve("rebind.example", RecordType::AAAA, &[record]);
        assert_eq!(got.answers, [], "{to}");
    }
    // The others stay, and a rule opens what it is about.
    let both = [address("x.example", 60, "10.0.0.1"), address("x.example", 60, "1.1.1.1")];
    let got = Bench::new(Scope::Public, &[]).resolve("x.example", RecordType::A, &both);
    assert_eq!(addresses(&got), [ip("1.1.1.1")]);
    let got = Bench::new(Scope::Public, &["allow tcp://10.0.0.0/24:5432"]).resolve(
        "x.example",
        RecordType::A,
        &both,
    );
    assert_eq!(addresses(&got).len(), 2);
    let got = Bench::new(Scope::Any, &[]).resolve("x.example", RecordType::A, &both);
    assert_eq!(addresses(&got).len(), 2);
}

#[test]
fn refused_names_do_not_exist_and_nobody_is_asked() {
    let mut bench = Bench::new(Scope::None, &["allow *.example.com"]);
    let got = answer(bench.ask("secret-data.evil.net", RecordType::TXT));
    assert_eq!(
        (got.metadata.response_code, got.answers.len(), got.authorities.len()),
        (ResponseCode::NXDomain, 0, 0)
    );
    assert!(words(&got).contains("scope `none`"), "{}", words(&got));
    let mut bench = Bench::new(Scope::Public, &["deny *.tracker.net"]);
    let got = answer(bench.ask("x.TRACKER.net", RecordType::A));
    assert_eq!(words(&got), "rule 1, `deny *.tracker.net`");
    // A dot inside of a label is none between labels.
    let mut bench = Bench::new(Scope::None, &["allow *.example.com"]);
    let mut question = Message::new(77, MessageType::Query, OpCode::Query);
    let odd = WireName::from_labels([&b"x.example"[..], b"com"]).unwrap();
    question.add_query(Query::query(odd, RecordType::A));
    let got = answer(bench.ask_bytes(&question.to_vec().unwrap(), Transport::Udp));
    assert_eq!(got.metadata.response_code, ResponseCode::NXDomain);
}

#[test]
fn an_alias_of_a_denied_name_is_denied() {
    let mut bench = Bench::new(Scope::Public, &["deny *.tracker.net"]);
    let answers = [alias("cdn.site.com", "x.tracker.net"), address("x.tracker.net", 60, "1.2.3.4")];
    let got = bench.resolve("cdn.site.com", RecordType::A, &answers);
    assert_eq!((got.metadata.response_code, got.answers.len()), (ResponseCode::NXDomain, 0));
    assert!(bench.names("1.2.3.4").is_empty());
}

#[test]
fn a_host_without_ipv6_gives_no_ipv6_addresses() {
    let mut bench = Bench::new(Scope::Public, &[]);
    bench.resolver.set_upstreams(upstreams(), false);
    let record = Record::from_rdata(wire("x.example"), 60, RData::from(ip("2606:4700::1")));
    let got = bench.resolve("x.example", RecordType::AAAA, &[record]);
    assert_eq!(
        (got.metadata.response_code, got.answers.len(), words(&got)),
        (ResponseCode::NoError, 0, String::new())
    );
    // A name that there is not stays one.
    let sent = forward(bench.ask("none.example", RecordType::AAAA));
    let message = reply(&sent, ResponseCode::NXDomain, &[], &[soa("example", 60, 60)]);
    assert_eq!(answer(bench.answered(sent.id, &message)).metadata.response_code, ResponseCode::NXDomain);
}

#[test]
fn hints_of_services_count_as_addresses() {
    let mut bench = Bench::new(Scope::None, &["allow x.example"]);
    let hint = IpHint(vec![A::new(1, 2, 3, 4), A::new(10, 0, 0, 1)]);
    let service =
        SVCB::new(1, wire("x.example"), vec![(SvcParamKey::Ipv4Hint, SvcParamValue::Ipv4Hint(hint))]);
    let record =
        Record::from_rdata(wire("x.example"), 60, RData::HTTPS(hickory_proto::rr::rdata::HTTPS(service)));
    let got = bench.resolve("x.example", RecordType::HTTPS, &[record]);
    assert_eq!(got.answers.len(), 1);
    assert_eq!(bench.names("1.2.3.4"), ["x.example"]);
    assert!(bench.names("10.0.0.1").is_empty());
}

#[test]
fn answers_fit_what_the_sandbox_takes() {
    let records: Vec<Record> = (0..90).map(|n| address("big.example", 60, &format!("1.2.3.{n}"))).collect();
    for (edns, transport, whole) in [
        (None, Transport::Udp, false),
        (Some(1232), Transport::Udp, false),
        (Some(4096), Transport::Udp, true),
        (Some(65535), Transport::Udp, true),
        (None, Transport::Tcp, true),
    ] {
        let mut bench = Bench::new(Scope::Public, &[]);
        let sent = forward(bench.ask_bytes(&query("big.example", RecordType::A, edns), transport));
        let message = reply(&sent, ResponseCode::NoError, &records, &[]);
        let step = bench.answered(sent.id, &message);
        let Step::Answer(bytes) = &step else { panic!("{step:?}") };
        let limit = match transport {
            Transport::Udp => usize::from(edns.unwrap_or(512).min(4096)),
            Transport::Tcp => 65535,
        };
        assert!(bytes.len() <= limit);
        let got = answer(step);
        assert_eq!(
            (got.metadata.truncation, got.answers.len() == 90),
            (!whole, whole),
            "{edns:?} {transport:?}"
        );
        assert_eq!(got.edns.is_some(), edns.is_some());
    }
}

#[test]
fn what_is_no_question_is_answered_as_such() {
    let mut bench = Bench::new(Scope::Public, &[]);
    let mut update = Message::new(77, MessageType::Query, OpCode::Update);
    update.add_query(Query::query(wire("x.example"), RecordType::SOA));
    let mut two = Message::new(77, MessageType::Query, OpCode::Query);
    two.add_query(Query::query(wire("a.example"), RecordType::A));
    two.add_query(Query::query(wire("b.example"), RecordType::A));
    let mut chaos = Message::new(77, MessageType::Query, OpCode::Query);
    chaos.add_query(Query::query(wire("version.bind"), RecordType::TXT)).queries[0].query_class =
        hickory_proto::rr::DNSClass::CH;
    let mut future = Message::new(77, MessageType::Query, OpCode::Query);
    future.add_query(Query::query(wire("a.example"), RecordType::A));
    let mut edns = Edns::new();
    edns.set_version(1);
    future.set_edns(edns);
    for (message, code) in [
        (update.to_vec().unwrap(), ResponseCode::NotImp),
        (two.to_vec().unwrap(), ResponseCode::FormErr),
        (chaos.to_vec().unwrap(), ResponseCode::Refused),
        (future.to_vec().unwrap(), ResponseCode::BADVERS),
        (query("x.example", RecordType::AXFR, None), ResponseCode::Refused),
        (query("x.example", RecordType::A, None)[..14].to_vec(), ResponseCode::FormErr),
    ] {
        let got = answer(bench.ask_bytes(&message, Transport::Udp)).metadata.response_code;
        assert_eq!(u16::from(got), u16::from(code));
    }
    let mut response = query("x.example", RecordType::A, None);
    response[2] |= 0x80;
    assert_eq!(bench.ask_bytes(&response, Transport::Udp), Step::Drop);
    assert_eq!(bench.ask_bytes(b"short", Transport::Udp), Step::Drop);
}

#[test]
fn the_sandbox_gets_its_own_letters_back() {
    let mut bench = Bench::new(Scope::Public, &[]);
    let sent = forward(bench.ask("WwW.ExAmPlE.cOm", RecordType::A));
    let owner = Message::from_vec(&sent.message).unwrap().queries[0].name.clone();
    let record = Record::from_rdata(owner, 60, RData::from(ip("1.2.3.4")));
    let message = reply(&sent, ResponseCode::NoError, &[record], &[]);
    let got = answer(bench.answered(sent.id, &message));
    assert!(got.queries[0].name.eq_case(&wire("WwW.ExAmPlE.cOm")));
    assert!(got.answers[0].name.eq_case(&wire("WwW.ExAmPlE.cOm")));
}

#[test]
fn what_was_asked_for_unchecked_counts_for_no_rule() {
    let mut bench = Bench::new(Scope::Any, &[]);
    let mut message = query("a.example", RecordType::A, Some(1232));
    // The CD bit.
    message[3] |= 0x10;
    let sent = forward(bench.ask_bytes(&message, Transport::Udp));
    let replied = reply(&sent, ResponseCode::NoError, &[address("a.example", 60, "1.1.1.1")], &[]);
    assert_eq!(addresses(&answer(bench.answered(sent.id, &replied))), [ip("1.1.1.1")]);
    assert!(bench.names("1.1.1.1").is_empty());
    // Nor when it is known already; asked for as usual, it does.
    let known = answer(bench.ask_bytes(&message, Transport::Udp));
    assert_eq!(addresses(&known), [ip("1.1.1.1")]);
    assert!(bench.names("1.1.1.1").is_empty());
    bench.resolve("a.example", RecordType::A, &[address("a.example", 60, "1.1.1.1")]);
    assert_eq!(bench.names("1.1.1.1"), ["a.example"]);
}
