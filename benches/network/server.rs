//! Servers on the host's loopback.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

const CHUNK: usize = 1 << 20;

/// Their ports. Each measurement has its own, so that nobody waits for the remains of earlier connections (RFC 9293, TIME-WAIT).
pub(crate) struct Servers {
    /// Reads.
    pub(crate) sink: u16,
    /// Writes.
    pub(crate) source: u16,
    /// Writes what it reads.
    pub(crate) echo: u16,
    /// Writes a byte, and closes.
    pub(crate) greeter: u16,
    /// Keeps connections open.
    pub(crate) keeper: u16,
    kept: Arc<Mutex<Vec<TcpStream>>>,
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.kept.lock().expect("two threads that do not panic").clear();
    }
}

impl Servers {
    pub(crate) fn start() -> Self {
        let kept = Arc::<Mutex<Vec<_>>>::default();
        let keep = Arc::clone(&kept);
        Self {
            sink: serve(|mut stream| drop(std::thread::spawn(move || sink(&mut stream)))),
            source: serve(|mut stream| drop(std::thread::spawn(move || source(&mut stream)))),
            echo: serve(|mut stream| drop(std::thread::spawn(move || echo(&mut stream)))),
            greeter: serve(|mut stream| drop(stream.write_all(&[1]))),
            keeper: serve(move |stream| keep.lock().expect("two threads that do not panic").push(stream)),
            kept,
        }
    }
}

fn serve(mut answer: impl FnMut(TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || listener.incoming().flatten().for_each(&mut answer));
    port
}

fn sink(stream: &mut TcpStream) {
    let mut bytes = vec![0; CHUNK];
    while stream.read(&mut bytes).is_ok_and(|length| length > 0) {}
}

fn source(stream: &mut TcpStream) {
    let bytes = vec![0; CHUNK];
    while stream.write_all(&bytes).is_ok() {}
}

fn echo(stream: &mut TcpStream) {
    stream.set_nodelay(true).expect("a TCP socket");
    let mut bytes = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut bytes) {
        if stream.write_all(&bytes[..length]).is_err() {
            return;
        }
    }
}
