//! Several clients on one guest.

use super::*;
use msb_guest::wire::{put_frame, put_json};
use std::io::{Read, Write};
use std::sync::Arc;

/// A guest that is lent to clients.
struct Lent {
    guest: Arc<Guest>,
}

impl Lent {
    fn new() -> Self {
        Self { guest: Arc::new(idle()) }
    }

    /// A client's socket, and what becomes of its conversation.
    fn socket(&self) -> (UnixStream, tokio::task::JoinHandle<Result<(), Error>>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let guest = Arc::clone(&self.guest);
        (ours, tokio::spawn(async move { guest.connection.lend(theirs).await }))
    }

    async fn client(&self) -> Connection {
        let ready = self.guest.connection.ready().await.unwrap();
        Connection::join(self.socket().0, ready, false).unwrap()
    }
}

#[test]
fn clients_do_not_see_each_other() {
    run(async {
        let lent = Lent::new();
        let (one, two) = (lent.client().await, lent.client().await);
        let script = |word| sh(&format!("read x; echo {word} $x; echo {word} >&2; exit 3"));
        let mut processes = [(&one, "a"), (&two, "b"), (&one, "c")].map(|(client, word)| {
            let process = client.exec(&script(word)).unwrap();
            (process, word)
        });
        for (process, word) in &mut processes {
            process.stdin.write_all(format!("in {word}\n").as_bytes()).await.unwrap();
        }
        for (process, word) in &mut processes {
            assert_eq!(text(process.stdout.read_to_end().await.unwrap()), format!("{word} in {word}\n"));
            assert_eq!(text(process.stderr.read_to_end().await.unwrap()), format!("{word}\n"));
            assert_eq!(status(&process.control.wait().await.unwrap()), Status::Code(3));
        }
    });
}

#[test]
fn more_than_a_window_passes_both_ways() {
    run(async {
        let lent = Lent::new();
        let client = lent.client().await;
        let bytes: Vec<u8> = (0..5_000_000_u32).map(|n| (n % 251) as u8).collect();
        let mut process = client.exec(&argv(&["cat"])).unwrap();
        let writer = async {
            process.stdin.write_all(&bytes).await.unwrap();
            process.stdin.eof();
        };
        let (back, ()) = tokio::join!(process.stdout.read_to_end(), writer);
        assert!(back.unwrap() == bytes);
    });
}

#[test]
fn a_client_that_reads_nothing_holds_up_no_other() {
    run(async {
        let lent = Lent::new();
        let (idle, busy) = (lent.client().await, lent.client().await);
        let _unread = idle.exec(&argv(&["yes"])).unwrap();
        let (outcome, out, _) = all_of(&busy, sh("echo here")).await;
        assert_eq!((status(&outcome), out.as_str()), (Status::Code(0), "here\n"));
    });
}

#[test]
fn processes_go_with_their_client() {
    run(async {
        let lent = Lent::new();
        let (leaving, staying) = (lent.client().await, lent.client().await);
        let gone = leaving.exec(&sh("exec sleep 1000")).unwrap();
        let pid = gone.control.started().await.unwrap().unwrap().pid;
        let kept = staying.exec(&argv(&["cat"])).unwrap();
        kept.control.started().await.unwrap().unwrap();
        drop((gone, leaving));
        let wait = format!("while kill -0 {pid} 2>/dev/null; do sleep 0.01; done; echo gone");
        assert_eq!(all_of(&staying, sh(&wait)).await.1, "gone\n");
        let Process { mut stdin, mut stdout, .. } = kept;
        stdin.write_all(b"still here").await.unwrap();
        stdin.eof();
        assert_eq!(stdout.read_to_end().await.unwrap(), b"still here");
    });
}

/// What a client does wrong ends the client, not the guest.
#[test]
fn a_client_that_breaks_the_protocol_is_alone_in_it() {
    run(async {
        let lent = Lent::new();
        let other = lent.client().await;
        let exec = |stream: u32| {
            let mut bytes = Vec::new();
            put_json(&mut bytes, Kind::Exec, stream, &argv(&["sleep", "1000"])).unwrap();
            bytes
        };
        let frame = |kind, address, payload: &[u8]| {
            let mut bytes = Vec::new();
            put_frame(&mut bytes, kind, address, payload);
            bytes
        };
        let flood = (0..3).flat_map(|_| frame(Kind::Data, (2, 0), &vec![0; 1 << 20])).collect();
        let wrongs = [
            frame(Kind::Shutdown, (0, 0), b"{}"),
            exec(1),
            [exec(2), exec(2)].concat(),
            [exec(2), flood].concat(),
            [exec(2), frame(Kind::Data, (2, 1), b"x")].concat(),
            frame(Kind::Exited, (2, 0), b"{}"),
            vec![0xff; 64],
        ];
        for wrong in wrongs {
            let (mut socket, conversation) = lent.socket();
            let writer = std::thread::spawn(move || {
                // The other end may have hung up by then.
                let _ = socket.write_all(&wrong);
                let mut rest = Vec::new();
                let _ = socket.read_to_end(&mut rest);
            });
            conversation.await.unwrap().unwrap_err();
            writer.join().unwrap();
        }
        assert_eq!(all_of(&other, sh("echo fine")).await.1, "fine\n");
    });
}

#[test]
fn the_end_of_the_guest_is_the_end_of_its_clients() {
    run(async {
        let lent = Lent::new();
        let client = lent.client().await;
        let process = client.exec(&argv(&["sleep", "1000"])).unwrap();
        process.control.started().await.unwrap().unwrap();
        lent.guest.connection.ask_to_stop(Duration::ZERO).unwrap();
        assert_eq!(status(&process.control.wait().await.unwrap()), Status::Signal(libc::SIGKILL));
        assert!(matches!(client.closed().await, Error::Closed));
    });
}
