//! Looking up a name by ordinary sockets, for those who can wait.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Instant;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name as WireName, RecordType};

use super::{Forward, Question, Resolver, Step, Transport};
use crate::net::policy::{Name, Policy};

impl Resolver {
    /// The addresses of `name`, as `policy` lets them through; none if there are none. Waits for the servers.
    ///
    /// # Errors
    /// No server answered about any family of addresses.
    pub fn look_up(&mut self, name: &Name, policy: &Policy) -> io::Result<Vec<IpAddr>> {
        let (mut found, mut failed) = (Vec::new(), None);
        for kind in [RecordType::A, RecordType::AAAA] {
            let message = question(name, kind).map_err(io::Error::other)?;
            let asked = Question { transport: Transport::Tcp, message: &message };
            let mut step = self.ask(Instant::now(), asked, policy);
            while let Step::Forward(forward) = step {
                step = self.exchange(&forward, policy);
            }
            let Step::Answer(bytes) = step else { continue };
            let answer = Message::from_vec(&bytes).map_err(io::Error::other)?;
            match answer.metadata.response_code {
                ResponseCode::NoError | ResponseCode::NXDomain => {}
                code => {
                    failed = Some(io::Error::other(format!("no name server answered about {name}: {code}")));
                }
            }
            found.extend(answer.answers.iter().filter_map(|record| record.data.ip_addr()));
        }
        // As for programs in the sandbox, the addresses of one family are enough.
        failed.filter(|_| found.is_empty()).map_or(Ok(found), Err)
    }

    /// Asks one server and takes in what it says.
    fn exchange(&mut self, forward: &Forward, policy: &Policy) -> Step {
        let until = Instant::now() + forward.timeout;
        let mut receive = match connect(forward) {
            Ok(receive) => receive,
            Err(_) => return self.timed_out(forward.id),
        };
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            let Ok(bytes) = receive(left) else { break };
            match self.answered(Instant::now(), forward.id, &bytes, policy) {
                Step::Wait => {}
                step => return step,
            }
        }
        self.timed_out(forward.id)
    }
}

fn question(name: &Name, kind: RecordType) -> Result<Vec<u8>, hickory_proto::ProtoError> {
    let mut message = Message::new(0, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(WireName::from_ascii(format!("{name}."))?, kind));
    message.to_vec()
}

/// Receives one message, within a time.
type Receive = Box<dyn FnMut(std::time::Duration) -> io::Result<Vec<u8>>>;

/// Sends the message from a new socket.
fn connect(forward: &Forward) -> io::Result<Receive> {
    match forward.transport {
        Transport::Udp => {
            let any: IpAddr = match forward.server {
                SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            };
            let socket = UdpSocket::bind((any, 0))?;
            socket.connect(forward.server)?;
            socket.send(&forward.message)?;
            Ok(Box::new(move |timeout| {
                let mut bytes = vec![0; usize::from(u16::MAX)];
                socket.set_read_timeout(Some(timeout))?;
                let length = socket.recv(&mut bytes)?;
                bytes.truncate(length);
                Ok(bytes)
            }))
        }
        Transport::Tcp => {
            let mut stream = TcpStream::connect_timeout(&forward.server, forward.timeout)?;
            let length = u16::try_from(forward.message.len()).map_err(io::Error::other)?;
            stream.set_write_timeout(Some(forward.timeout))?;
            stream.write_all(&[&length.to_be_bytes()[..], &forward.message].concat())?;
            Ok(Box::new(move |timeout| {
                let mut length = [0; 2];
                stream.set_read_timeout(Some(timeout))?;
                stream.read_exact(&mut length)?;
                let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
                stream.read_exact(&mut bytes)?;
                Ok(bytes)
            }))
        }
    }
}
