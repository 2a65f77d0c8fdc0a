//! Replies that are not from whom they seem to be.

use super::*;

/// Changes a true reply into one that must not count.
type Forge = fn(&mut Message);

#[test]
fn a_reply_must_be_to_what_was_asked() {
    let forgeries: [(&str, Forge); 6] = [
        ("number", |m| m.metadata.id = m.metadata.id.wrapping_add(1)),
        ("name", |m| m.queries[0].name = wire("other.example")),
        ("type", |m| m.queries[0].query_type = RecordType::AAAA),
        ("question left out", |m| m.queries.clear()),
        ("second question", |m| m.queries.push(Query::query(wire("b.example"), RecordType::A))),
        ("no response", |m| m.metadata.message_type = MessageType::Query),
    ];
    for (what, forge) in forgeries {
        let mut bench = Bench::new(Scope::Public, &[]);
        let sent = forward(bench.ask("a.example", RecordType::A));
        let good = reply(&sent, ResponseCode::NoError, &[address("a.example", 60, "1.2.3.4")], &[]);
        let mut forged = Message::from_vec(&good).unwrap();
        forge(&mut forged);
        assert_eq!(bench.answered(sent.id, &forged.to_vec().unwrap()), Step::Wait, "{what}");
        assert_eq!(bench.answered(sent.id, b"\0"), Step::Wait);
        // The true one still counts.
        assert_eq!(addresses(&answer(bench.answered(sent.id, &good))), [ip("1.2.3.4")]);
        assert_eq!(bench.answered(sent.id, &good), Step::Drop, "once");
    }
}

#[test]
fn wrong_letters_lead_to_a_stream() {
    let mut bench = Bench::new(Scope::Public, &[]);
    // So many letters that all of them stay as they are once in 2^60.
    let long = "abcdefghijklmnopqrst.abcdefghijklmnopqrst.abcdefghijklmnopqrst";
    let sent = forward(bench.ask(long, RecordType::A));
    let mut lower =
        Message::from_vec(&reply(&sent, ResponseCode::NoError, &[address(long, 60, "6.6.6.6")], &[]))
            .unwrap();
    lower.queries[0].name = wire(long);
    let again = forward(bench.answered(sent.id, &lower.to_vec().unwrap()));
    assert_eq!((again.transport, again.id, again.server), (Transport::Tcp, sent.id, sent.server));
    assert!(bench.names("6.6.6.6").is_empty());
}

#[test]
fn numbers_and_letters_are_not_repeated() {
    let mut bench = Bench::new(Scope::Public, &[]);
    let long = "abcdefghijklmnopqrst.abcdefghijklmnopqrst.abcdefghijklmnopqrst";
    let sent: Vec<Message> = (0..8)
        .map(|_| Message::from_vec(&forward(bench.ask(long, RecordType::A)).message).unwrap())
        .collect();
    let mut numbers: Vec<u16> = sent.iter().map(|message| message.metadata.id).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert!(numbers.len() > 4, "{numbers:?}");
    assert!(sent.windows(2).all(|two| !two[0].queries[0].name.eq_case(&two[1].queries[0].name)));
}

#[test]
fn questions_at_once_are_limited() {
    let mut bench = Bench::new(Scope::Public, &[]);
    let sent: Vec<Forward> =
        (0..256).map(|n| forward(bench.ask(&format!("n{n}.example"), RecordType::A))).collect();
    assert_eq!(
        answer(bench.ask("more.example", RecordType::A)).metadata.response_code,
        ResponseCode::ServFail
    );
    bench.resolver.abandon(sent[0].id);
    forward(bench.ask("more.example", RecordType::A));
}
