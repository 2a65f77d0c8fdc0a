//! Properties of the wire format, the messages and the credit accounting.
#![allow(clippy::unwrap_used)]

use msb_guest::flow::{FlowError, INITIAL_WINDOW, MAX_WINDOW, ReceiveWindow, SendWindow};
use msb_guest::message::{
    BootDocument, ByteString, ExecSpec, Exited, Failed, FailureKind, GuestFile, GuestMount, MetricsSpec,
    MountSource, Resource, ResourceLimit, Root, Stat, TarIn, TarOut, Terminal, Tool, TrustSetup,
    VersionRange,
};
use msb_guest::wire::{
    Decoder, EncodeError, HEADER_LEN, Header, Kind, MAX_CONTROL, MAX_DATA, MAX_DOCUMENT, Side, WireError,
    put_frame, put_json,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

const CAPACITY: usize = 4096;

/// Kind, channel, stream and payload of a frame.
type Seen = (Kind, u8, u32, Vec<u8>);

/// What a decoder made of a stream fed in pieces of the given sizes.
fn decode(receiver: Side, bytes: &[u8], pieces: &[usize]) -> (Vec<Seen>, Option<WireError>, usize) {
    let mut decoder = Decoder::new(receiver, CAPACITY);
    let (mut frames, mut rest, mut most) = (Vec::new(), bytes, 0);
    let mut pieces = pieces.iter().copied().cycle();
    while !rest.is_empty() {
        let space = decoder.space();
        assert!(!space.is_empty(), "no room for the next bytes");
        let count = pieces.next().unwrap_or(1).clamp(1, space.len()).min(rest.len());
        space[..count].copy_from_slice(&rest[..count]);
        decoder.filled(count);
        rest = &rest[count..];
        most = most.max(decoder.allocated());
        loop {
            match decoder.next_frame() {
                Ok(Some(f)) => frames.push((f.kind, f.channel, f.stream, f.payload.to_vec())),
                Ok(None) => break,
                Err(error) => return (frames, Some(error), most),
            }
        }
    }
    (frames, None, most)
}

fn kind() -> impl Strategy<Value = Kind> {
    any::<u8>().prop_filter_map("unknown kind", Kind::from_byte)
}

fn sender(kind: Kind) -> Side {
    kind.sender().unwrap_or(Side::Host)
}

fn other(side: Side) -> Side {
    if side == Side::Host { Side::Guest } else { Side::Host }
}

fn bytes() -> impl Strategy<Value = ByteString> {
    prop_oneof![any::<String>().prop_map(ByteString::from), vec(any::<u8>(), 0..40).prop_map(ByteString)]
}

fn tool() -> impl Strategy<Value = Tool> {
    prop_oneof![
        (bytes(), any::<bool>(), option::of(bytes())).prop_map(|(path, follow, name)| Tool::TarOut(TarOut {
            path,
            follow,
            name
        })),
        (bytes(), option::of(any::<(u32, u32)>()), any::<bool>())
            .prop_map(|(folder, owner, replace)| Tool::TarIn(TarIn { folder, owner, replace })),
        (bytes(), any::<bool>()).prop_map(|(path, follow)| Tool::Stat(Stat { path, follow })),
        Just(Tool::Diff),
        (option::of(any::<u32>()), any::<u16>())
            .prop_map(|(interval_ms, processes)| Tool::Metrics(MetricsSpec { interval_ms, processes })),
    ]
}

#[test]
fn a_tool_of_a_newer_host_is_told_apart_from_nonsense() {
    let spec: ExecSpec = serde_json::from_str(r#"{"tool":{"tool":"telepathy","path":"/"}}"#).unwrap();
    assert_eq!(spec.tool, Some(Tool::Unknown));
    assert!(serde_json::from_str::<ExecSpec>(r#"{"tool":{"tool":"stat"}}"#).is_err());
}

prop_compose! {
    fn exec_spec()(
        argv in vec(bytes(), 0..5), env in vec((bytes(), bytes()), 0..5), cwd in option::of(bytes()),
        user in option::of(any::<String>()), tty in option::of((any::<u16>(), any::<u16>(), option::of(any::<String>()))),
        null_stdin in any::<bool>(), limits in vec((option::of(any::<u64>()), option::of(any::<u64>())), 0..3),
        stop_signal in option::of(any::<i32>()), tool in option::of(tool()),
    ) -> ExecSpec {
        ExecSpec {
            argv, env, cwd, user, null_stdin, stop_signal, tool,
            tty: tty.map(|(rows, cols, term)| Terminal { rows, cols, term }),
            rlimits: limits.into_iter().map(|(soft, hard)| ResourceLimit { resource: Resource::Nofile, soft, hard }).collect(),
        }
    }
}

fn source() -> impl Strategy<Value = MountSource> {
    prop_oneof![
        any::<u32>().prop_map(MountSource::Share),
        any::<String>().prop_map(MountSource::Disk),
        (option::of(any::<u64>()), any::<u32>()).prop_map(|(size, mode)| MountSource::Tmpfs { size, mode }),
    ]
}

prop_compose! {
    fn boot_document()(
        exec in option::of(exec_spec()), hostname in any::<String>(), env in vec((bytes(), bytes()), 0..4),
        files in vec((any::<String>(), any::<u32>(), bytes()), 0..3), flags in any::<[bool; 3]>(),
        mounts in vec((bytes(), source(), any::<bool>(), bytes()), 0..4),
        wall_clock_ns in option::of(any::<u64>()), pids_limit in option::of(any::<u32>()), min in any::<u32>(), max in any::<u32>(),
    ) -> BootDocument {
        BootDocument {
            network: None,
            trust: flags[1].then(|| TrustSetup { certificate: "pem".into(), bundle: hostname.clone(), bundles: vec![hostname.clone()] }),
            versions: VersionRange { min, max },
            hostname, env, exec, wall_clock_ns,
            root: Root { grow: flags[0], ephemeral: flags[1], ..Root::default() },
            files: files.into_iter().map(|(path, mode, contents)| GuestFile { path, mode, contents }).collect(),
            mounts: mounts.into_iter().map(|(target, source, read_only, label)| GuestMount { target, source, read_only, label }).collect(),
            power_off_with_exec: flags[2],
            pids_limit,
        }
    }
}

proptest! {
    #[test]
    fn frames_come_back_whatever_the_pieces(
        frames in vec((kind(), any::<u8>(), any::<u32>(), vec(any::<u8>(), 0..9000)), 0..12),
        pieces in vec(1usize..10_000, 1..8),
    ) {
        for side in [Side::Host, Side::Guest] {
            let mine: Vec<_> = frames.iter().filter(|f| f.0.sender().is_none_or(|s| s == side)).cloned().collect();
            let mut bytes = Vec::new();
            for (kind, channel, stream, payload) in &mine {
                put_frame(&mut bytes, *kind, (*stream, *channel), payload);
            }
            let (seen, error, _) = decode(other(side), &bytes, &pieces);
            prop_assert_eq!(error, None);
            prop_assert_eq!(seen, mine);
        }
    }

    #[test]
    fn any_bytes_are_harmless(bytes in vec(any::<u8>(), 0..20_000), pieces in vec(1usize..5000, 1..5), host in any::<bool>()) {
        let (side, limit) = if host { (Side::Host, MAX_DATA) } else { (Side::Guest, MAX_DOCUMENT) };
        let (.., most) = decode(side, &bytes, &pieces);
        prop_assert!(most <= limit + HEADER_LEN);
    }

    #[test]
    fn a_header_alone_allocates_nothing_yet(kind in kind(), len in any::<u32>(), tail in vec(any::<u8>(), 0..3000)) {
        let mut bytes = Header { kind: kind as u8, channel: 0, stream: 1, len }.to_bytes().to_vec();
        bytes.extend(tail);
        let (.., most) = decode(other(sender(kind)), &bytes, &[1]);
        prop_assert!(most <= CAPACITY, "{} bytes held", most);
    }

    #[test]
    fn lengths_beyond_the_limit_are_refused(kind in kind(), beyond in 1u32..1000) {
        let limit = kind.limit();
        let len = limit as u32 + beyond;
        let header = Header { kind: kind as u8, channel: 0, stream: 1, len }.to_bytes();
        let error = Header::parse(&header, other(sender(kind))).unwrap_err();
        prop_assert_eq!(error, WireError::Oversized { kind: kind as u8, len: len as usize, limit });
    }

    #[test]
    fn frames_from_the_wrong_side_are_refused(kind in kind()) {
        let header = Header { kind: kind as u8, channel: 0, stream: 1, len: 0 }.to_bytes();
        if let Some(sender) = kind.sender() {
            prop_assert_eq!(Header::parse(&header, sender), Err(WireError::WrongDirection { kind }));
        }
    }

    #[test]
    fn boot_documents_come_back(document in boot_document()) {
        let mut bytes = Vec::new();
        put_json(&mut bytes, Kind::Boot, 0, &document).unwrap();
        let (frames, ..) = decode(Side::Guest, &bytes, &[1000]);
        let back: BootDocument = serde_json::from_slice(&frames[0].3).unwrap();
        prop_assert_eq!(back, document);
    }

    #[test]
    fn any_bytes_are_no_panic_as_a_message(bytes in vec(any::<u8>(), 0..2000)) {
        let _ = serde_json::from_slice::<BootDocument>(&bytes);
        let _ = serde_json::from_slice::<Exited>(&bytes);
    }

    /// A sender and a receiver that obey their windows: every byte passes, credit never goes below zero and never beyond
    /// the initial window, and the sender never waits for a receiver that has nothing left to take.
    #[test]
    fn credit_balances(steps in vec((any::<bool>(), 0usize..1_600_000), 1..200)) {
        let (mut sender, mut receiver) = (SendWindow::default(), ReceiveWindow::default());
        let mut untaken = 0usize;
        for (send, amount) in steps {
            if send {
                let sent = sender.take(amount);
                receiver.received(sent).unwrap();
                untaken += sent;
            } else {
                let taken = amount.min(untaken);
                untaken -= taken;
                if let Some(credit) = receiver.consumed(taken) {
                    sender.add(credit).unwrap();
                }
            }
            prop_assert!(sender.available() + untaken <= INITIAL_WINDOW as usize);
            prop_assert!(untaken > 0 || sender.available() > INITIAL_WINDOW as usize / 4 * 3);
        }
    }

    #[test]
    fn credit_that_was_not_given_cannot_be_spent(frames in vec(0usize..1_200_000, 1..10)) {
        let mut receiver = ReceiveWindow::default();
        let mut total = 0;
        for bytes in frames {
            let fits = total + bytes <= INITIAL_WINDOW as usize;
            prop_assert_eq!(receiver.received(bytes).is_ok(), fits);
            total += if fits { bytes } else { 0 };
        }
    }

    #[test]
    fn credit_has_a_ceiling(grants in vec(any::<u32>(), 1..20)) {
        let mut sender = SendWindow::default();
        for grant in grants {
            let before = sender.available();
            let fits = before as u64 + u64::from(grant) <= u64::from(MAX_WINDOW);
            let expected = if fits { Ok(()) } else { Err(FlowError::TooMuchCredit) };
            prop_assert_eq!(sender.add(grant), expected);
            prop_assert_eq!(sender.available(), before + if fits { grant as usize } else { 0 });
        }
    }
}

#[test]
fn large_frames_are_decoded_and_their_memory_given_back() {
    let payload = vec![7; MAX_DOCUMENT];
    let mut bytes = Vec::new();
    put_frame(&mut bytes, Kind::Exec, (3, 0), &payload);
    put_frame(&mut bytes, Kind::Eof, (3, 0), &[]);
    let mut decoder = Decoder::new(Side::Guest, CAPACITY);
    let mut seen = 0;
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let space = decoder.space();
        let count = space.len().min(rest.len());
        space[..count].copy_from_slice(&rest[..count]);
        decoder.filled(count);
        rest = &rest[count..];
        while let Some(frame) = decoder.next_frame().unwrap() {
            seen += 1;
            assert_eq!(frame.stream, 3);
        }
    }
    assert_eq!(seen, 2);
    decoder.space();
    assert!(decoder.allocated() <= CAPACITY, "{}", decoder.allocated());
}

#[test]
fn unknown_kinds_and_fields_are_skipped() {
    let mut bytes = Header { kind: 0x7f, channel: 9, stream: 5, len: 3 }.to_bytes().to_vec();
    bytes.extend(b"new");
    put_frame(&mut bytes, Kind::Exited, (1, 0), br#"{"code":3,"colour":"green"}"#);
    let (frames, error, _) = decode(Side::Host, &bytes, &[2]);
    assert_eq!(error, None);
    assert_eq!(frames.len(), 1);
    let exited: Exited = serde_json::from_slice(&frames[0].3).unwrap();
    assert_eq!(exited, Exited { code: Some(3), ..Exited::default() });
    let failed: Failed = serde_json::from_str(r#"{"kind":"too_tired","message":"m"}"#).unwrap();
    assert_eq!(failed.kind, FailureKind::Other);
}

#[test]
fn unknown_kinds_have_a_limit_and_reserved_bits_none() {
    let header = Header { kind: 0x7f, channel: 0, stream: 0, len: MAX_CONTROL as u32 + 1 }.to_bytes();
    assert!(matches!(Header::parse(&header, Side::Host), Err(WireError::Oversized { .. })));
    let mut header = Header { kind: Kind::Data as u8, channel: 0, stream: 0, len: 0 }.to_bytes();
    header[7] = 1;
    assert_eq!(Header::parse(&header, Side::Host), Err(WireError::Reserved { kind: Kind::Data as u8 }));
}

#[test]
fn a_message_that_is_too_long_leaves_nothing_behind() {
    let spec = ExecSpec { argv: vec!["x".repeat(MAX_DOCUMENT).into()], ..ExecSpec::default() };
    let mut out = b"before".to_vec();
    assert!(matches!(put_json(&mut out, Kind::Exec, 1, &spec), Err(EncodeError::TooLong { .. })));
    assert_eq!(out, b"before");
}

#[test]
fn byte_strings_are_text_where_they_can_be() {
    let pair = [ByteString::from("ü\n\"$'"), ByteString(vec![0xff, 0])];
    let json = serde_json::to_string(&pair).unwrap();
    assert_eq!(json, r#"["ü\n\"$'",[255,0]]"#);
    assert_eq!(serde_json::from_str::<[ByteString; 2]>(&json).unwrap(), pair);
    assert!(serde_json::from_str::<ByteString>("[256]").is_err());
}

#[test]
fn versions_are_chosen_from_what_both_speak() {
    let range = |min, max| VersionRange { min, max };
    assert_eq!(range(1, 3).choose(range(2, 5)), Some(3));
    assert_eq!(range(1, 1).choose(range(1, 9)), Some(1));
    assert_eq!(range(1, 1).choose(range(2, 9)), None);
    assert_eq!(range(4, 2).choose(range(1, 9)), None);
}

#[test]
fn file_paths_stay_below_their_folder() {
    let file = |path: &str| GuestFile { path: path.into(), mode: 0, contents: "".into() };
    for good in ["start", "scripts/start", "a..b"] {
        assert!(file(good).checked_path().is_ok(), "{good}");
    }
    for bad in ["", "/etc/passwd", "../x", "a/../b", ".", "a\0b"] {
        assert!(file(bad).checked_path().is_err(), "{bad}");
    }
}
