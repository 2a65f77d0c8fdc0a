//! What is answered from memory.

use proptest::prelude::*;

use super::*;

#[test]
fn answers_are_kept_for_their_time_and_age() {
    let mut bench = Bench::new(Scope::Public, &[]);
    bench.resolve("a.example", RecordType::A, &[address("a.example", 60, "1.2.3.4")]);
    bench.later(50);
    let got = answer(bench.ask("A.example", RecordType::A));
    assert_eq!((addresses(&got), got.answers[0].ttl), (vec![ip("1.2.3.4")], 10));
    // Given out anew, it counts anew.
    bench.later(9);
    assert_eq!(bench.names("1.2.3.4"), ["a.example"]);
    bench.later(1);
    forward(bench.ask("a.example", RecordType::A));
    // Another type is another question.
    forward(bench.ask("a.example", RecordType::AAAA));
}

#[test]
fn the_absence_of_answers_is_kept_as_its_soa_says() {
    for (code, authorities, kept) in [
        (ResponseCode::NXDomain, vec![soa("example", 300, 30)], 30),
        (ResponseCode::NXDomain, vec![soa("example", 20, 300)], 20),
        (ResponseCode::NoError, vec![soa("example", 300, 30)], 30),
        (ResponseCode::NXDomain, vec![soa("example", 86_400, 86_400)], 900),
        (ResponseCode::NXDomain, vec![], 0),
        (ResponseCode::NoError, vec![], 0),
    ] {
        let mut bench = Bench::new(Scope::Public, &[]);
        let sent = forward(bench.ask("none.example", RecordType::A));
        let message = reply(&sent, code, &[], &authorities);
        assert_eq!(answer(bench.answered(sent.id, &message)).metadata.response_code, code);
        if kept > 0 {
            bench.later(kept - 1);
            let got = answer(bench.ask("none.example", RecordType::A));
            assert_eq!((got.metadata.response_code, got.authorities.len()), (code, 1));
            bench.later(1);
        }
        forward(bench.ask("none.example", RecordType::A));
    }
}

#[test]
fn failures_and_answers_without_time_are_not_kept() {
    let mut bench = Bench::new(Scope::Public, &[]);
    bench.resolve("a.example", RecordType::A, &[address("a.example", 0, "1.2.3.4")]);
    forward(bench.ask("a.example", RecordType::A));
}

#[test]
fn memory_obeys_a_policy_that_has_changed() {
    let mut bench = Bench::new(Scope::Any, &[]);
    bench.resolve("a.example", RecordType::A, &[address("a.example", 60, "10.0.0.1")]);
    bench.policy = policy(Scope::Public, &[]);
    assert_eq!(addresses(&answer(bench.ask("a.example", RecordType::A))), Vec::<IpAddr>::new());
    bench.policy = policy(Scope::Public, &["deny a.example"]);
    assert_eq!(answer(bench.ask("a.example", RecordType::A)).metadata.response_code, ResponseCode::NXDomain);
    bench.policy = policy(Scope::Any, &[]);
    assert_eq!(addresses(&answer(bench.ask("a.example", RecordType::A))), [ip("10.0.0.1")]);
    bench.resolver.set_upstreams(upstreams(), true);
    forward(bench.ask("a.example", RecordType::A));
}

#[test]
fn memory_is_bounded() {
    let mut bench = Bench::new(Scope::Public, &[]);
    for n in 0..5000u32 {
        let owner = format!("n{n}.example");
        let to = IpAddr::from((0x0101_0000 + n).to_be_bytes()).to_string();
        bench.resolve(&owner, RecordType::A, &[address(&owner, 60, &to)]);
    }
    let ((entries, bytes), pins, pending) = bench.resolver.sizes();
    assert!(
        entries <= 1024 && bytes <= 1 << 20 && pins <= 4096 && pending == 0,
        "{entries} {bytes} {pins} {pending}"
    );
    // The newest are there.
    assert_eq!(bench.names("1.1.19.135"), ["n4999.example"]);
    for n in 0..100 {
        let owner = format!("m{n}.example");
        bench.resolve(&owner, RecordType::A, &[address(&owner, 60, "9.9.9.9")]);
    }
    assert!(bench.names("9.9.9.9").len() <= 32);
    assert!(bench.names("9.9.9.9").contains(&"m99.example".to_owned()));
    // A few large ones instead of many small ones.
    for n in 0..200 {
        let owner = format!("b{n}.example");
        let records: Vec<Record> = (0..250).map(|m| address(&owner, 60, &format!("1.2.{n}.{m}"))).collect();
        bench.resolve(&owner, RecordType::A, &records);
    }
    let ((_, bytes), pins, _) = bench.resolver.sizes();
    assert!(bytes <= 1 << 20 && pins <= 4096, "{bytes} {pins}");
}

proptest! {
    /// Bytes of the sandbox and of servers, whatever they are.
    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..600), at in 0usize..40, with in any::<u8>()) {
        let mut bench = Bench::new(Scope::Public, &[]);
        let _ = bench.ask_bytes(&bytes, Transport::Udp);
        let mut question = query("a.example", RecordType::A, Some(1232));
        let place = at % question.len();
        question[place] = with;
        let _ = bench.ask_bytes(&question, Transport::Tcp);
        let sent = forward(bench.ask("b.example", RecordType::A));
        let _ = bench.answered(sent.id, &bytes);
        let sent = forward(bench.ask("c.example", RecordType::A));
        let mut message = reply(&sent, ResponseCode::NoError, &[alias("c.example", "d.example"), address("d.example", 9, "1.1.1.1")], &[]);
        let place = 12 + at % (message.len() - 12);
        message[place] = with;
        let _ = bench.answered(sent.id, &message);
    }

    /// No answer carries an address that the policy does not let through.
    #[test]
    fn answers_carry_only_what_can_be_reached(all in prop::collection::vec(any::<IpAddr>(), 1..20)) {
        let mut bench = Bench::new(Scope::Public, &[]);
        let kind = if all[0].is_ipv4() { RecordType::A } else { RecordType::AAAA };
        let records: Vec<Record> = all.iter().map(|to| address("x.example", 60, &to.to_string())).collect();
        let got = bench.resolve("x.example", kind, &records);
        for to in all {
            let through = bench.policy.could_reach(to, &[]);
            prop_assert_eq!(addresses(&got).contains(&to), through);
            prop_assert_eq!(bench.names(&to.to_string()).is_empty(), !through);
        }
    }
}
