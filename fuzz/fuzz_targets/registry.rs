//! What a registry answers: statuses, challenges, tokens, errors, documents. Every request gets the next answer of the input.
#![no_main]
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use libfuzzer_sys::{arbitrary, fuzz_target};
use msb::image::{PullOptions, Silent, Store};

#[derive(Debug, Clone, arbitrary::Arbitrary)]
struct Answer {
    status: u8,
    challenge: String,
    digest: String,
    media_type: String,
    body: Vec<u8>,
}

static ANSWERS: Mutex<Vec<Answer>> = Mutex::new(Vec::new());

/// The port of a server that lives as long as the process.
fn port() -> u16 {
    static PORT: OnceLock<u16> = OnceLock::new();
    *PORT.get_or_init(|| {
        // A challenge may name any server; none but this one is to be reached.
        for name in ["http_proxy", "https_proxy"] {
            // SAFETY: no other thread runs yet.
            unsafe { std::env::set_var(name, "http://127.0.0.1:1") };
        }
        let listener = TcpListener::bind("127.0.0.1:0").expect("port");
        let port = listener.local_addr().expect("address").port();
        std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| drop(answer(stream))));
        port
    })
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut request = Vec::new();
    let mut piece = [0; 4096];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut piece)? {
            0 => return Ok(()),
            n => request.extend_from_slice(&piece[..n]),
        }
    }
    let next = ANSWERS.lock().expect("answers").pop();
    let Some(next) = next else { return stream.write_all(b"HTTP/1.1 404 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n") };
    // Neither redirects nor anything that makes a client wait.
    let status = [200, 200, 401, 401, 403, 404, 206, 400][usize::from(next.status % 8)];
    let clean = |text: &str| text.replace(['\r', '\n', '\0'], " ");
    write!(
        stream,
        "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\nwww-authenticate: {}\r\ndocker-content-digest: {}\r\ncontent-type: {}\r\n\r\n",
        next.body.len(),
        clean(&next.challenge),
        clean(&next.digest),
        clean(&next.media_type)
    )?;
    stream.write_all(&next.body)
}

fuzz_target!(|answers: Vec<Answer>| {
    let port = port();
    *ANSWERS.lock().expect("answers") = answers;
    let dir = tempfile::tempdir().expect("temporary folder");
    let store = Store::open(dir.path()).expect("opened");
    let options = PullOptions { max_size: 16 << 20, ..PullOptions::default() };
    let reference = format!("127.0.0.1:{port}/fuzzed:1").parse().expect("reference");
    let _ = store.pull(&reference, &options, &Silent);
});
