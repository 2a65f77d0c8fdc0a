//! Which server is asked, and how.

use super::*;

#[test]
fn silent_servers_are_followed_by_the_next() {
    let mut bench = Bench::new(Scope::Public, &[]);
    let first = forward(bench.ask("a.example", RecordType::A));
    assert_eq!((first.server.to_string().as_str(), first.transport), ("192.0.2.1:53", Transport::Udp));
    let mut asked = vec![first.server.ip()];
    let mut step = bench.resolver.timed_out(first.id);
    while let Step::Forward(next) = &step {
        assert_eq!(next.id, first.id);
        asked.push(next.server.ip());
        step = bench.resolver.timed_out(first.id);
    }
    assert_eq!(asked, ["192.0.2.1", "192.0.2.2", "192.0.2.1", "192.0.2.2"].map(ip));
    let got = answer(step);
    assert_eq!(got.metadata.response_code, ResponseCode::ServFail);
    assert_eq!(words(&got), "no name server of this machine answered");
    assert_eq!(bench.resolver.timed_out(first.id), Step::Drop);
}

#[test]
fn the_server_that_answered_is_asked_first() {
    let mut bench = Bench::new(Scope::Public, &[]);
    let sent = forward(bench.ask("a.example", RecordType::A));
    let second = forward(bench.resolver.timed_out(sent.id));
    let message = reply(&second, ResponseCode::NoError, &[address("a.example", 60, "1.2.3.4")], &[]);
    answer(bench.answered(sent.id, &message));
    assert_eq!(forward(bench.ask("b.example", RecordType::A)).server.ip(), ip("192.0.2.2"));
}

#[test]
fn failing_servers_are_followed_by_the_next() {
    for code in [ResponseCode::ServFail, ResponseCode::Refused, ResponseCode::NotAuth] {
        let mut bench = Bench::new(Scope::Public, &[]);
        let mut sent = forward(bench.ask("a.example", RecordType::A));
        for _ in 0..3 {
            let failed = reply(&sent, code, &[], &[]);
            sent = forward(bench.answered(sent.id, &failed));
        }
        let failed = reply(&sent, code, &[], &[]);
        assert_eq!(answer(bench.answered(sent.id, &failed)).metadata.response_code, code);
    }
}

#[test]
fn truncated_replies_are_asked_for_again_in_a_stream() {
    let mut bench = Bench::new(Scope::Public, &[]);
    let sent = forward(bench.ask("big.example", RecordType::A));
    let mut cut = Message::from_vec(&reply(&sent, ResponseCode::NoError, &[], &[])).unwrap();
    cut.metadata.truncation = true;
    let again = forward(bench.answered(sent.id, &cut.to_vec().unwrap()));
    assert_eq!((again.transport, again.server), (Transport::Tcp, sent.server));
    let records: Vec<Record> = (0..200).map(|n| address("big.example", 60, &format!("1.2.3.{n}"))).collect();
    let got = answer(bench.answered(sent.id, &reply(&again, ResponseCode::NoError, &records, &[])));
    assert!(got.metadata.truncation, "it is more than the sandbox takes in a datagram");
    // Asked in a stream, it comes whole, and from memory.
    let whole = bench.ask_bytes(&query("big.example", RecordType::A, None), Transport::Tcp);
    assert_eq!(answer(whole).answers.len(), 200);
}

#[test]
fn a_stream_that_ends_in_nonsense_is_followed_by_the_next_server() {
    let mut bench = Bench::new(Scope::Public, &[]);
    bench.resolver.set_upstreams(Upstreams { transport: Transport::Tcp, ..upstreams() }, true);
    let sent = forward(bench.ask("a.example", RecordType::A));
    assert_eq!(sent.transport, Transport::Tcp);
    assert_eq!(forward(bench.answered(sent.id, b"nonsense")).server.ip(), ip("192.0.2.2"));
}

#[test]
fn servers_that_do_not_know_edns_are_asked_without() {
    for header_alone in [false, true] {
        let mut bench = Bench::new(Scope::Public, &[]);
        let sent = forward(bench.ask("a.example", RecordType::A));
        assert!(Message::from_vec(&sent.message).unwrap().edns.is_some());
        let mut refused = Message::from_vec(&reply(&sent, ResponseCode::FormErr, &[], &[])).unwrap();
        if header_alone {
            refused.queries.clear();
        }
        let plain = forward(bench.answered(sent.id, &refused.to_vec().unwrap()));
        assert!(Message::from_vec(&plain.message).unwrap().edns.is_none());
        let message = reply(&plain, ResponseCode::NoError, &[address("a.example", 60, "1.2.3.4")], &[]);
        assert_eq!(addresses(&answer(bench.answered(sent.id, &message))), [ip("1.2.3.4")]);
    }
}

#[test]
fn a_machine_without_servers_says_so() {
    let mut bench = Bench::new(Scope::Public, &[]);
    bench.resolver.set_upstreams(Upstreams::default(), true);
    let got = answer(bench.ask("a.example", RecordType::A));
    assert_eq!(
        (got.metadata.response_code, words(&got).as_str()),
        (ResponseCode::ServFail, "this machine has no name server")
    );
}

#[test]
fn what_is_asked_for_is_passed_on() {
    let mut bench = Bench::new(Scope::Public, &[]);
    let mut question = Message::from_vec(&query("a.example", RecordType::A, Some(1232))).unwrap();
    question.metadata.checking_disabled = true;
    question.edns.as_mut().unwrap().set_dnssec_ok(true);
    let sent = forward(bench.ask_bytes(&question.to_vec().unwrap(), Transport::Udp));
    let passed = Message::from_vec(&sent.message).unwrap();
    assert!(passed.metadata.checking_disabled && passed.metadata.recursion_desired);
    assert!(passed.edns.as_ref().unwrap().flags().dnssec_ok);
    assert_eq!(passed.edns.as_ref().unwrap().max_payload(), 1232);
}
