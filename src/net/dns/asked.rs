//! A question of the sandbox, and answers in the form it wants them in.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{DNSClass, Record, RecordType};

use super::{Question, Transport};

/// Largest datagram that is sent to the sandbox, whatever it says it takes.
const LARGEST_DATAGRAM: u16 = 4096;
/// Least that every receiver takes (RFC 1035 §4.2.1).
const LEAST_DATAGRAM: u16 = 512;
/// What we say we take (the DNS flag day 2020: no fragments).
pub(super) const OWN_DATAGRAM: u16 = 1232;
/// Longest text of an extended error, in bytes.
const LONGEST_WORDS: usize = 200;

/// A question, read.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    id: u16,
    /// What is asked, in the letters of whoever asks.
    pub(super) query: Query,
    /// Whether recursion, unchecked data, authenticated data are asked for.
    pub(super) recursion: bool,
    pub(super) unchecked: bool,
    pub(super) authentic: bool,
    /// Whether DNSSEC records are.
    pub(super) dnssec: bool,
    /// Whether it came with EDNS.
    edns: bool,
    /// Largest answer.
    limit: usize,
}

/// The content of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) code: ResponseCode,
    pub(super) answers: Vec<Record>,
    pub(super) authorities: Vec<Record>,
    /// Whether a server vouches for it (the AD bit).
    pub(super) authentic: bool,
    /// What is different from what one would expect, and why.
    pub(super) extended: Option<Extended>,
}

/// An extended error: RFC 8914.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Extended {
    code: u16,
    words: String,
}

impl Extended {
    /// The name is refused by policy.
    pub(super) fn blocked(words: impl ToString) -> Self {
        Self { code: 15, words: words.to_string() }
    }

    /// Addresses were taken out by policy.
    pub(super) fn filtered(words: impl ToString) -> Self {
        Self { code: 17, words: words.to_string() }
    }

    /// No server answered.
    pub(super) fn unreachable(words: impl ToString) -> Self {
        Self { code: 22, words: words.to_string() }
    }

    /// What the policy has to say, if it is the policy that says it.
    pub(super) fn policy_words(&self) -> Option<&str> {
        matches!(self.code, 15 | 17).then_some(&*self.words)
    }

    fn option(&self) -> EdnsOption {
        let mut words = self.words.as_str();
        while words.len() > LONGEST_WORDS {
            words = words.char_indices().next_back().map_or("", |(last, _)| &words[..last]);
        }
        let payload = [&self.code.to_be_bytes(), words.as_bytes()].concat();
        EdnsOption::Unknown(EdnsCode::Unknown(15).into(), payload)
    }
}

impl Content {
    /// Nothing but a code.
    pub(super) fn of_code(code: ResponseCode) -> Self {
        Self { code, ..Self::default() }
    }

    /// A name that there is not, for whoever asks.
    pub(super) fn refused(extended: Extended) -> Self {
        Self { code: ResponseCode::NXDomain, extended: Some(extended), ..Self::default() }
    }
}

/// What became of a message that should be a question.
pub(super) enum Reading {
    /// A question.
    Asked(Asked),
    /// None, and this is to be said.
    Wrong(Vec<u8>),
    /// None, and there is nobody to tell.
    Nothing,
}

impl Asked {
    /// Reads a question; `Wrong` has the answer to what cannot be answered otherwise.
    pub(super) fn read(question: Question<'_>) -> Reading {
        let bytes = question.message;
        // A response is never answered, or two servers could talk for ever.
        if bytes.len() < 12 || bytes[2] & 0x80 != 0 {
            return Reading::Nothing;
        }
        let id = u16::from_be_bytes([bytes[0], bytes[1]]);
        let Ok(message) = Message::from_vec(bytes) else {
            let opcode = OpCode::from_u8((bytes[2] >> 3) & 0xf);
            return wrong(Message::error_msg(id, opcode, ResponseCode::FormErr));
        };
        let refuse = |code| wrong(Message::error_msg(id, message.metadata.op_code, code));
        if message.metadata.op_code != OpCode::Query {
            return refuse(ResponseCode::NotImp);
        }
        let [query] = message.queries.as_slice() else { return refuse(ResponseCode::FormErr) };
        let edns = message.edns.as_ref();
        let taken =
            edns.map_or(LEAST_DATAGRAM, |edns| edns.max_payload().clamp(LEAST_DATAGRAM, LARGEST_DATAGRAM));
        let asked = Self {
            id,
            query: query.clone(),
            recursion: message.metadata.recursion_desired,
            unchecked: message.metadata.checking_disabled,
            authentic: message.metadata.authentic_data,
            dnssec: edns.is_some_and(|edns| edns.flags().dnssec_ok),
            edns: edns.is_some(),
            limit: match question.transport {
                Transport::Udp => usize::from(taken),
                Transport::Tcp => usize::from(u16::MAX),
            },
        };
        let code = if edns.is_some_and(|edns| edns.version() > 0) {
            ResponseCode::BADVERS
        } else if query.query_class != DNSClass::IN
            || matches!(query.query_type, RecordType::AXFR | RecordType::IXFR | RecordType::OPT)
            || query.name.is_root()
        {
            ResponseCode::Refused
        } else {
            return Reading::Asked(asked);
        };
        Reading::Wrong(asked.answer(Content::of_code(code)))
    }

    /// The message that answers it, cut to what it takes.
    pub(super) fn answer(&self, content: Content) -> Vec<u8> {
        let mut message = Message::response(self.id, OpCode::Query);
        message.metadata.recursion_desired = self.recursion;
        message.metadata.recursion_available = true;
        message.metadata.checking_disabled = self.unchecked;
        message.metadata.authentic_data = content.authentic && (self.authentic || self.dnssec);
        message.metadata.response_code = content.code;
        message.add_query(self.query.clone());
        if self.edns {
            let mut edns = Edns::new();
            edns.set_max_payload(OWN_DATAGRAM).set_version(0);
            edns.set_dnssec_ok(self.dnssec);
            if let Some(extended) = &content.extended {
                edns.options_mut().insert(extended.option());
            }
            message.set_edns(edns);
        }
        message.answers = content.answers;
        message.authorities = content.authorities;
        match message.to_vec() {
            Ok(bytes) if bytes.len() <= self.limit => bytes,
            Ok(_) => message.truncate().to_vec().unwrap_or_default(),
            Err(_) => failure(self.id, self.query.clone()),
        }
    }
}

/// SERVFAIL, for what cannot be written.
fn failure(id: u16, query: Query) -> Vec<u8> {
    let mut message = Message::new(id, MessageType::Response, OpCode::Query);
    message.metadata.response_code = ResponseCode::ServFail;
    message.add_query(query);
    message.to_vec().unwrap_or_default()
}

fn wrong(message: Message) -> Reading {
    message.to_vec().map_or(Reading::Nothing, Reading::Wrong)
}
