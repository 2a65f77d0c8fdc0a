//! One question to servers: what is sent, which replies count, whom to ask next.

use std::net::SocketAddr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};

use super::asked::{Asked, Content, OWN_DATAGRAM};
use super::{Forward, Transport, Upstreams};

/// A question under way.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) asked: Asked,
    /// The servers still to be asked; the first is being asked.
    servers: Vec<SocketAddr>,
    /// What was sent last.
    sent: Option<Sent>,
    /// The best that was said so far, for when nobody says more.
    failure: ResponseCode,
}

/// What was sent last.
#[derive(Debug)]
struct Sent {
    id: u16,
    query: Query,
    transport: Transport,
    edns: bool,
}

/// What a reply means.
#[derive(Debug)]
pub(super) enum Reply {
    /// It is not one to what was sent.
    Foreign,
    /// Ask again, as said.
    Again(Transport, bool),
    /// Ask the next server.
    Next,
    /// The answer.
    Content(Content),
}

impl Exchange {
    pub(super) fn new(asked: Asked, upstreams: &Upstreams, first: usize) -> Self {
        let round = upstreams.servers.iter().cycle().skip(first).take(upstreams.servers.len());
        let servers = round.cycle().take(upstreams.servers.len() * upstreams.attempts).copied().collect();
        Self { asked, servers, sent: None, failure: ResponseCode::ServFail }
    }

    /// The server that is being asked.
    pub(super) fn server(&self) -> Option<SocketAddr> {
        self.servers.first().copied()
    }

    /// Goes on to the next server.
    pub(super) fn give_up_server(&mut self) {
        if !self.servers.is_empty() {
            self.servers.remove(0);
        }
    }

    /// The code when no server is left.
    pub(super) fn failure(&self) -> ResponseCode {
        self.failure
    }

    /// The next message, if there is somebody to ask: with a new number, and the letters of the name in random case, which a server
    /// repeats and a forger does not know (draft-vixie-dnsext-dns0x20).
    pub(super) fn send(
        &mut self,
        id: u64,
        upstreams: &Upstreams,
        transport: Transport,
        edns: bool,
    ) -> Option<Forward> {
        let server = self.server()?;
        let mut message = Message::query();
        message.metadata.recursion_desired = true;
        message.metadata.checking_disabled = self.asked.unchecked;
        message.metadata.authentic_data = self.asked.authentic;
        let mut query = self.asked.query.clone();
        query.name.randomize_label_case();
        message.add_query(query.clone());
        if edns {
            let mut own = Edns::new();
            own.set_max_payload(OWN_DATAGRAM).set_version(0);
            own.set_dnssec_ok(self.asked.dnssec);
            message.set_edns(own);
        }
        let bytes = message.to_vec().ok()?;
        self.sent = Some(Sent { id: message.metadata.id, query, transport, edns });
        Some(Forward { id, server, transport, message: bytes, timeout: upstreams.timeout })
    }

    /// What `bytes`, received from the server, mean.
    pub(super) fn reply(&mut self, bytes: &[u8]) -> Reply {
        let Some(sent) = &self.sent else { return Reply::Foreign };
        let broken = match sent.transport {
            Transport::Udp => Reply::Foreign,
            Transport::Tcp => Reply::Next,
        };
        let Ok(message) = Message::from_vec(bytes) else { return broken };
        let header = &message.metadata;
        if header.id != sent.id
            || header.message_type != MessageType::Response
            || header.op_code != OpCode::Query
        {
            return broken;
        }
        let code = header.response_code;
        let retry_plain = matches!(code, ResponseCode::FormErr | ResponseCode::NotImp) && sent.edns;
        match message.queries.as_slice() {
            [query] if *query != sent.query => return broken,
            // A server that does not repeat the letters: it is asked in a way that cannot be forged blindly.
            [query] if !query.name.eq_case(&sent.query.name) => {
                return if sent.transport == Transport::Udp {
                    Reply::Again(Transport::Tcp, sent.edns)
                } else {
                    broken
                };
            }
            [_] => {}
            // Servers without EDNS may send nothing but a header.
            [] if retry_plain => {}
            _ => return broken,
        }
        if header.truncation && sent.transport == Transport::Udp {
            return Reply::Again(Transport::Tcp, sent.edns);
        }
        match code {
            ResponseCode::NoError | ResponseCode::NXDomain => Reply::Content(Content {
                code,
                authentic: header.authentic_data,
                answers: message.answers,
                authorities: message.authorities,
                extended: None,
            }),
            _ if retry_plain => Reply::Again(sent.transport, false),
            _ => {
                self.failure = code;
                Reply::Next
            }
        }
    }
}
