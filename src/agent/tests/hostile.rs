//! A guest that does not keep to the protocol.

use super::*;
use msb_guest::flow::INITIAL_WINDOW;
use msb_guest::wire::{Decoder, HEADER_LEN, Header, STDOUT, Side, put_frame};
use proptest::prelude::*;
use std::io::{Read, Write};

const MAIN: (u32, u8) = (MAIN_STREAM, 0);

/// A connection to a guest that says exactly `bytes` and leaves.
fn told(bytes: &[u8]) -> Connection {
    let (host, mut guest) = UnixStream::pair().unwrap();
    let connection = Connection::start(host, &document(Some(argv(&["true"])))).unwrap();
    let bytes = bytes.to_vec();
    std::thread::spawn(move || {
        let mut boot = [0; 12];
        guest.read_exact(&mut boot).unwrap();
        guest.write_all(&bytes)
    });
    connection
}

fn frame(kind: Kind, address: (u32, u8), payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_frame(&mut bytes, kind, address, payload);
    bytes
}

#[test]
fn broken_frames_end_the_connection_with_the_reason() {
    let oversized =
        Header { kind: Kind::Exited as u8, channel: 0, stream: 1, len: 1 << 20 }.to_bytes().to_vec();
    let window = frame(Kind::Data, (1, STDOUT), &vec![0; INITIAL_WINDOW as usize]);
    let overrun = [window, frame(Kind::Data, (1, STDOUT), b"x")].concat();
    let cases = [
        (oversized, "more than the 65536 allowed"),
        (frame(Kind::Exec, (9, 0), b"{}"), "wrong side"),
        (frame(Kind::Exited, MAIN, b"nonsense"), "unreadable Exited message"),
        (frame(Kind::Exited, MAIN, b"{}"), "neither code nor signal"),
        (frame(Kind::Ready, (0, 0), br#"{"version":9}"#), "version 9"),
        (overrun, "1 bytes sent with a credit of 0"),
        (frame(Kind::Credit, MAIN, &u32::MAX.to_le_bytes()), "credit grows beyond"),
        (frame(Kind::Credit, MAIN, b"x"), "credit grows beyond"),
    ];
    run(async {
        for (bytes, reason) in cases {
            let connection = told(&bytes);
            let process = connection.main_exec().unwrap();
            let error = process.control.wait().await.unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
            assert_eq!(connection.closed().await.to_string(), error);
        }
    });
}

#[test]
fn a_failed_boot_is_told_without_control_characters() {
    run(async {
        let message = br#"{"stage":"upper","message":"mount \u001b[31m/dev/vdb: no\nsuch thing"}"#;
        let connection = told(&frame(Kind::BootFailed, (0, 0), message));
        let error = connection.ready().await.unwrap_err();
        assert!(matches!(error, Error::BootFailed { .. }));
        let expected = "the guest could not start (upper): mount \u{fffd}[31m/dev/vdb: no\u{fffd}such thing";
        assert_eq!(error.to_string(), expected);
    });
}

#[test]
fn a_guest_that_goes_away_is_noticed_by_everyone() {
    run(async {
        let connection = told(&frame(Kind::Data, (1, STDOUT), b"last words"));
        let mut process = connection.main_exec().unwrap();
        assert!(matches!(connection.ready().await, Err(Error::Closed)));
        assert!(matches!(process.control.wait().await, Err(Error::Closed)));
        assert_eq!(process.stdout.read().await.unwrap().unwrap(), "last words");
        assert!(matches!(process.stdout.read().await, Err(Error::Closed)));
        assert!(matches!(process.stdin.write_all(b"x").await, Err(Error::Closed)));
        assert!(matches!(connection.exec(&argv(&["true"])), Err(Error::Closed)));
    });
}

#[test]
fn frames_for_streams_that_do_not_exist_are_ignored() {
    run(async {
        let mut bytes = frame(Kind::Data, (77, STDOUT), b"x");
        bytes.extend(frame(Kind::Exited, (77, 0), b"nonsense that nobody reads"));
        bytes.extend(frame(Kind::Exited, MAIN, br#"{"code":5}"#));
        let process_end = told(&bytes).main_exec();
        assert!(process_end.is_some());
        let connection = told(&bytes);
        let outcome = connection.main_exec().unwrap().control.wait().await.unwrap();
        assert_eq!(status(&outcome), Status::Code(5));
    });
}

#[test]
fn what_does_not_fit_a_frame_is_refused_before_it_is_sent() {
    run(async {
        let guest = idle();
        let huge = argv(&["echo", &"x".repeat(9 << 20)]);
        assert!(matches!(guest.connection.exec(&huge), Err(Error::TooLarge(_))));
        assert_eq!(all_of(&guest.connection, argv(&["echo", "fine"])).await.1, "fine\n");
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_of_a_guest_are_harmless(bytes in proptest::collection::vec(any::<u8>(), 0..4000)) {
        run(async {
            let connection = told(&bytes);
            connection.closed().await;
        });
    }

    #[test]
    fn any_frames_of_a_guest_are_harmless(
        frames in proptest::collection::vec((any::<u8>(), 0u8..4, 0u32..3, "[ -~]{0,60}"), 0..40),
    ) {
        let mut bytes = Vec::new();
        for (kind, channel, stream, payload) in frames {
            let header = Header { kind, channel, stream, len: payload.len() as u32 };
            bytes.extend(header.to_bytes());
            bytes.extend(payload.as_bytes());
        }
        run(async {
            let connection = told(&bytes);
            connection.closed().await;
        });
    }
}

/// The guest's end refuses a host that overruns its credit.
#[test]
fn the_guest_ends_the_session_on_an_overrun() {
    let (mut host, guest) = UnixStream::pair().unwrap();
    let session = std::thread::spawn(move || serve(guest, None));
    let mut bytes = Vec::new();
    msb_guest::wire::put_json(&mut bytes, Kind::Boot, 0, &document(Some(argv(&["sleep", "1000"])))).unwrap();
    bytes.extend(frame(Kind::Data, MAIN, &vec![0; INITIAL_WINDOW as usize]));
    // More than the pipe can have taken, for which there was credit again.
    bytes.extend(frame(Kind::Data, MAIN, &vec![0; INITIAL_WINDOW as usize]));
    host.write_all(&bytes).unwrap();
    let error = session.join().unwrap().unwrap_err();
    assert!(matches!(error, SessionError::Flow(_)), "{error}");
    let mut decoder = Decoder::new(Side::Host, HEADER_LEN);
    assert!(decoder.next_frame().unwrap().is_none());
}
