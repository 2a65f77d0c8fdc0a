//! A registry in this process that does what it is told, wrong things above all.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;

use crate::image::{Digest, Reference};

/// One answer.
#[derive(Clone, Default)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// Send only this many bytes of the body and close, though the headers promise all.
    pub(super) cut: Option<usize>,
    /// Cut only that often, then behave.
    pub(super) cuts: usize,
    /// Keep the connection open after the cut instead.
    pub(super) stalls: bool,
    /// Promise so many bytes more than there are.
    pub(super) promised: usize,
    /// Never answer.
    pub(super) silent: bool,
    /// Send the body for ever.
    pub(super) endless: bool,
    /// Ignore `Range` headers.
    pub(super) no_ranges: bool,
}

impl Answer {
    pub(super) fn ok(body: &[u8]) -> Self {
        Self { status: 200, body: body.to_vec(), ..Self::default() }
    }

    pub(super) fn status(status: u16, body: &str) -> Self {
        Self { status, body: body.as_bytes().to_vec(), ..Self::default() }
    }

    pub(super) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

type Routes = Arc<Mutex<HashMap<String, Vec<Answer>>>>;

/// Answers by path. Of several answers to a path the first is given once, the last for ever.
pub(super) struct FakeRegistry {
    pub(super) port: u16,
    routes: Routes,
    pub(super) requests: Arc<Mutex<Vec<String>>>,
}

/// The parts of a small image.
pub(super) struct Parts {
    pub(super) layer: Vec<u8>,
    pub(super) tar: Vec<u8>,
    pub(super) config: Vec<u8>,
    pub(super) manifest: Vec<u8>,
}

pub(super) fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

impl Parts {
    /// One layer with one file of `size` bytes that hardly compress.
    pub(super) fn new(size: usize) -> Self {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(size as u64);
        header.set_mode(0o644);
        let data: Vec<u8> = super::fixture::noise().take(size).collect();
        builder.append_data(&mut header, "file", &data[..]).unwrap();
        Self::from_tar(builder.into_inner().unwrap(), gzip)
    }

    pub(super) fn from_tar(tar: Vec<u8>, compress: impl Fn(&[u8]) -> Vec<u8>) -> Self {
        let layer = compress(&tar);
        let architecture = crate::image::Platform::host().architecture;
        let config = json!({"os": "linux", "architecture": architecture,
            "config": {"Cmd": ["sh"]}, "rootfs": {"type": "layers", "diff_ids": [Digest::sha256(&tar)]}});
        let config = serde_json::to_vec(&config).unwrap();
        let manifest = Self::manifest(&config, &Digest::sha256(&layer), layer.len() as u64);
        Self { layer, tar, config, manifest }
    }

    pub(super) fn manifest(config: &[u8], layer: &Digest, size: u64) -> Vec<u8> {
        let value = json!({"schemaVersion": 2,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": Digest::sha256(config), "size": config.len()},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": layer, "size": size}]});
        serde_json::to_vec(&value).unwrap()
    }
}

impl FakeRegistry {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (routes, requests) = (Routes::default(), Arc::new(Mutex::new(Vec::new())));
        let (served, seen) = (routes.clone(), requests.clone());
        // The threads live as long as the test process; each holds one small socket.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (served, seen) = (served.clone(), seen.clone());
                std::thread::spawn(move || while serve(&stream, &served, &seen).is_some() {});
            }
        });
        Self { port, routes, requests }
    }

    /// A registry with `parts` as `app:1`.
    pub(super) fn with(parts: &Parts) -> Self {
        let fake = Self::start();
        fake.set("/v2/app/manifests/1", Answer::ok(&parts.manifest));
        fake.set(&blob(&parts.config), Answer::ok(&parts.config));
        fake.set(&blob(&parts.layer), Answer::ok(&parts.layer));
        fake
    }

    pub(super) fn set(&self, path: &str, answer: Answer) {
        self.routes.lock().unwrap().insert(path.to_owned(), vec![answer]);
    }

    pub(super) fn sequence(&self, path: &str, answers: Vec<Answer>) {
        self.routes.lock().unwrap().insert(path.to_owned(), answers);
    }

    pub(super) fn reference(&self) -> Reference {
        format!("127.0.0.1:{}/app:1", self.port).parse().unwrap()
    }

    /// What is asked for with a 401 by default: a token of this registry's own.
    pub(super) fn challenge(&self) -> Answer {
        let realm = format!("Bearer realm=\"http://127.0.0.1:{}/token\",service=\"s\"", self.port);
        Answer::status(401, "").header("www-authenticate", &realm)
    }

    pub(super) fn count(&self, part: &str) -> usize {
        self.requests.lock().unwrap().iter().filter(|request| request.contains(part)).count()
    }
}

pub(super) fn blob(content: &[u8]) -> String {
    format!("/v2/app/blobs/{}", Digest::sha256(content))
}

fn serve(mut stream: &TcpStream, routes: &Routes, seen: &Mutex<Vec<String>>) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let mut head = String::from_utf8_lossy(&head).into_owned();
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).ok()?;
    head.push_str(&String::from_utf8_lossy(&body));
    let target = head.split(' ').nth(1)?.to_owned();
    seen.lock().unwrap().push(head.clone());
    let path = target.split('?').next()?;
    let answer = {
        let mut routes = routes.lock().unwrap();
        match routes.get_mut(path) {
            Some(answers) if answers.len() > 1 => answers.remove(0),
            Some(answers) => {
                let answer = answers[0].clone();
                if answers[0].cuts > 0 {
                    answers[0].cuts -= 1;
                    if answers[0].cuts == 0 {
                        answers[0].cut = None;
                    }
                }
                answer
            }
            None => Answer::status(404, r#"{"errors":[{"code":"NOT_FOUND","message":"not here"}]}"#),
        }
    };
    send(stream, &head, &answer)
}

fn send(mut stream: &TcpStream, head: &str, answer: &Answer) -> Option<()> {
    if answer.silent {
        std::thread::sleep(Duration::from_secs(30));
        return None;
    }
    let range = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
    let start: Option<usize> = range.and_then(|range| range.trim_end_matches('-').parse().ok());
    let (status, body, extra) = match start {
        Some(start) if !answer.no_ranges && answer.status == 200 => {
            let end = answer.body.len();
            let range = format!("content-range: bytes {start}-{}/{end}\r\n", end - 1);
            (206, &answer.body[start.min(end)..], range)
        }
        _ => (answer.status, &answer.body[..], String::new()),
    };
    let mut text = format!("HTTP/1.1 {status} X\r\n{extra}");
    for (name, value) in &answer.headers {
        text += &format!("{name}: {value}\r\n");
    }
    if answer.endless {
        stream.write_all(format!("{text}transfer-encoding: chunked\r\n\r\n").as_bytes()).ok()?;
        let chunk = [b"10000\r\n".to_vec(), vec![b' '; 0x10000], b"\r\n".to_vec()].concat();
        loop {
            stream.write_all(&chunk).ok()?;
        }
    }
    text += &format!("content-length: {}\r\n\r\n", body.len() + answer.promised);
    stream.write_all(text.as_bytes()).ok()?;
    if head.starts_with("HEAD ") {
        return Some(());
    }
    let sent = answer.cut.unwrap_or(body.len()).min(body.len());
    stream.write_all(&body[..sent]).ok()?;
    if answer.stalls && sent < body.len() {
        std::thread::sleep(Duration::from_secs(60));
    }
    (sent == body.len() + answer.promised).then_some(())
}
