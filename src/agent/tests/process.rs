//! Starting, feeding, signalling and ending processes over pipes.

use super::*;
use msb_guest::session::End;
use std::time::Instant;

#[test]
fn the_main_process_runs_and_the_session_ends_with_it() {
    run(async {
        let guest = start(&document(Some(sh("echo out; echo err >&2; echo $BASE; exit 7"))));
        assert_eq!(guest.connection.ready().await.unwrap().version, 1);
        let mut process = guest.connection.main_exec().unwrap();
        assert!(guest.connection.main_exec().is_none());
        assert!(process.control.started().await.unwrap().unwrap().pid > 0);
        let outcome = process.control.wait().await.unwrap();
        assert_eq!((status(&outcome), outcome.exit_code()), (Status::Code(7), 7));
        assert_eq!(process.stdout.read_to_end().await.unwrap(), b"out\nbase\n");
        assert_eq!(process.stderr.read_to_end().await.unwrap(), b"err\n");
        assert!(matches!(guest.connection.closed().await, Error::Closed));
        assert_eq!(guest.session.join().unwrap().unwrap(), End::MainEnded);
    });
}

#[test]
fn arguments_environment_and_bytes_arrive_unchanged() {
    run(async {
        let guest = idle();
        let long = "x".repeat(100 * 1024);
        let odd = ["", " ", "a\nb", "'\"$HOME`id`\\", "ü\u{1F980}", "\t*?[a]", long.as_str()];
        let mut spec =
            argv(&["/bin/sh", "-c", r#"for a; do printf '%s\0' "$a"; done; printf '%s\0' "$V""#, "sh"]);
        spec.argv.extend(odd.map(ByteString::from));
        spec.argv.push(ByteString(vec![0xff, 0xfe, b'x']));
        spec.env = vec![("V".into(), "q\"'\n$\u{fc}".into())];
        let mut process = guest.connection.exec(&spec).unwrap();
        let out = process.stdout.read_to_end().await.unwrap();
        let mut expected: Vec<u8> = odd.iter().flat_map(|a| [a.as_bytes(), b"\0"].concat()).collect();
        expected.extend(b"\xff\xfex\0q\"'\n$\xc3\xbc\0");
        assert!(out == expected, "{} bytes", out.len());
    });
}

#[test]
fn the_environment_is_that_of_the_process_over_the_base_over_the_defaults() {
    run(async {
        let guest = idle();
        let spec = ExecSpec {
            env: vec![("BASE".into(), "mine".into()), ("X".into(), "1=2".into())],
            ..argv(&["env"])
        };
        let (_, out, _) = all_of(&guest.connection, spec).await;
        let mut lines: Vec<&str> = out.lines().filter(|l| !l.starts_with("HOME=")).collect();
        lines.sort_unstable();
        assert_eq!(lines, ["BASE=mine", &format!("PATH={}", msb_guest::message::DEFAULT_PATH), "X=1=2"]);
    });
}

#[test]
fn failures_have_the_kind_and_code_a_shell_gives() {
    run(async {
        let guest = idle();
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, contents: &[u8], mode: u32| {
            use std::os::unix::fs::PermissionsExt;
            let path = folder.path().join(name);
            std::fs::write(&path, contents).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let arm = [b"\x7fELF\x02\x01\x01".as_slice(), &[0; 11], &[0xb7, 0, 1, 0], &[0; 60]].concat();
        let in_folder = |folder: &str| ExecSpec { cwd: Some(folder.into()), ..argv(&["true"]) };
        let as_user = |user: &str| ExecSpec { user: Some(user.into()), ..argv(&["true"]) };
        let cases = [
            (argv(&["no-such-program"]), FailureKind::NotFound, 127, "command not found"),
            (argv(&["/no/such/program"]), FailureKind::NotFound, 127, "no such file"),
            (
                argv(&[&file("lost", b"#!/no/interpreter\n", 0o755)]),
                FailureKind::NotFound,
                127,
                "interpreter",
            ),
            (argv(&[&file("plain", b"text", 0o644)]), FailureKind::NotExecutable, 126, "Permission denied"),
            (argv(&["/"]), FailureKind::NotExecutable, 126, "Permission denied"),
            (argv(&[&file("arm", &arm, 0o755)]), FailureKind::NotExecutable, 126, "is for aarch64"),
            (argv(&[&file("zeros", &[0; 64], 0o755)]), FailureKind::NotExecutable, 126, "neither a program"),
            (in_folder("/no/such/folder"), FailureKind::BadWorkdir, 125, "/no/such/folder"),
            (as_user("no-such-user"), FailureKind::BadUser, 125, "no-such-user"),
            (argv(&[]), FailureKind::Other, 125, "no program"),
            (argv(&["a\0b"]), FailureKind::Other, 125, "NUL"),
        ];
        for (spec, kind, code, message) in cases {
            let (outcome, ..) = all_of(&guest.connection, spec.clone()).await;
            let Outcome::Failed(failed) = &outcome else { panic!("{spec:?}: {outcome:?}") };
            assert_eq!((failed.kind, outcome.exit_code()), (kind, code), "{spec:?}: {failed:?}");
            assert!(failed.message.contains(message), "{spec:?}: {failed:?}");
        }
        let script = file("script", b"echo no hash-bang: $1", 0o755);
        assert_eq!(all_of(&guest.connection, argv(&[&script, "a b"])).await.1, "no hash-bang: a b\n");
    });
}

#[test]
fn signals_reach_the_process_and_its_end_is_told() {
    run(async {
        let guest = idle();
        for signal in [libc::SIGTERM, libc::SIGKILL, libc::SIGINT, 40] {
            let process = guest.connection.exec(&argv(&["sleep", "1000"])).unwrap();
            process.control.started().await.unwrap().unwrap();
            process.control.signal(signal).unwrap();
            let outcome = process.control.wait().await.unwrap();
            assert_eq!(status(&outcome), Status::Signal(signal));
            assert_eq!(i32::from(outcome.exit_code()), 128 + signal);
        }
        let mut trap = guest
            .connection
            .exec(&sh("trap 'echo caught; exit 3' USR1; echo on; while :; do sleep 0.01; done"))
            .unwrap();
        read_until(&mut trap.stdout, "on").await;
        trap.control.signal(libc::SIGUSR1).unwrap();
        read_until(&mut trap.stdout, "caught").await;
        assert_eq!(status(&trap.control.wait().await.unwrap()), Status::Code(3));
    });
}

#[test]
fn a_group_signal_ends_children_too() {
    run(async {
        let guest = idle();
        // The child says that it runs, so that the signal does not come while the shell is busy making it.
        let mut process =
            guest.connection.exec(&sh("sh -c 'echo on; exec sleep 1000'; echo not reached")).unwrap();
        read_until(&mut process.stdout, "on").await;
        process.control.signal_group(libc::SIGINT).unwrap();
        assert_eq!(status(&process.control.wait().await.unwrap()), Status::Signal(libc::SIGINT));
        assert_eq!(process.stdout.read_to_end().await.unwrap(), b"");
    });
}

#[test]
fn a_background_process_does_not_hold_up_the_end() {
    run(async {
        let guest = idle();
        let begin = Instant::now();
        let (outcome, out, _) = all_of(&guest.connection, sh("(sleep 30; echo late) & echo now")).await;
        assert_eq!((status(&outcome), out.as_str()), (Status::Code(0), "now\n"));
        let (outcome, out, _) =
            all_of(&guest.connection, sh("yes & head -c 100000 /dev/zero; kill -9 $$")).await;
        assert_eq!(status(&outcome), Status::Signal(libc::SIGKILL));
        assert!(out.len() >= 100_000);
        assert!(begin.elapsed() < Duration::from_secs(20));
    });
}

#[test]
fn output_is_complete_before_the_end_is_told() {
    run(async {
        let guest = idle();
        for _ in 0..30 {
            let (_, out, err) =
                all_of(&guest.connection, sh("head -c 60000 /dev/zero; head -c 50000 /dev/zero >&2")).await;
            assert_eq!((out.len(), err.len()), (60_000, 50_000));
        }
    });
}

#[test]
fn standard_input_ends_and_a_closed_one_is_told() {
    run(async {
        let guest = idle();
        let mut process = guest.connection.exec(&argv(&["wc", "-c"])).unwrap();
        process.stdin.write_all(&[b'x'; 1000]).await.unwrap();
        process.stdin.eof();
        assert_eq!(process.stdout.read_to_end().await.unwrap(), b"1000\n");
        let mut process = guest.connection.exec(&sh("exec <&-; sleep 1000")).unwrap();
        process.stdin.closed().await;
        assert!(matches!(process.stdin.write_all(b"more").await, Err(Error::InputClosed)));
        process.control.signal(libc::SIGKILL).unwrap();
        let (_, out, _) =
            all_of(&guest.connection, ExecSpec { null_stdin: true, ..sh("readlink /proc/self/fd/0") }).await;
        assert_eq!(out, "/dev/null\n");
    });
}

#[test]
fn a_reader_that_goes_away_is_a_broken_pipe() {
    run(async {
        let guest = idle();
        let mut process = guest.connection.exec(&sh("yes; echo status $? >&2")).unwrap();
        assert!(process.stdout.read().await.unwrap().is_some());
        drop(process.stdout);
        // 141 = 128 + SIGPIPE, unless the shell reports the write error of `yes` instead.
        assert_eq!(text(process.stderr.read_to_end().await.unwrap()), "status 141\n");
    });
}

#[test]
fn a_dropped_process_is_killed() {
    run(async {
        let guest = idle();
        let mut process = guest.connection.exec(&sh("sleep 1000 & echo $$; wait")).unwrap();
        let pid = read_until(&mut process.stdout, "\n").await;
        drop(process);
        let gone = format!("/proc/{}", pid.trim());
        while std::path::Path::new(&gone).exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn limits_folder_and_session_are_set() {
    run(async {
        let guest = idle();
        let limit = ResourceLimit { resource: Resource::Nofile, soft: Some(100), hard: Some(200) };
        let spec = ExecSpec {
            rlimits: vec![limit],
            cwd: Some("/usr".into()),
            ..sh("ulimit -Sn; ulimit -Hn; pwd; umask")
        };
        assert_eq!(all_of(&guest.connection, spec).await.1, "100\n200\n/usr\n0022\n");
        // A session of its own.
        let (_, out, _) =
            all_of(&guest.connection, sh("[ $$ = $(cut -d' ' -f6 /proc/$$/stat) ] && echo leader")).await;
        assert_eq!(out, "leader\n");
    });
}

#[test]
fn another_user_owns_its_streams() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    run(async {
        let guest = idle();
        let spec = ExecSpec {
            user: Some("65534:65534".into()),
            ..sh("id -u; id -g; id -G; echo again > /dev/stdout")
        };
        let (outcome, out, err) = all_of(&guest.connection, spec).await;
        assert_eq!(
            (status(&outcome), out.as_str(), err.as_str()),
            (Status::Code(0), "65534\n65534\n65534\nagain\n", "")
        );
    });
}

#[test]
fn shutting_down_asks_first_and_kills_afterwards() {
    run(async {
        let guest = idle();
        let polite = sh("trap 'echo bye; exit 0' QUIT; echo on; while :; do sleep 0.01; done");
        let mut polite =
            guest.connection.exec(&ExecSpec { stop_signal: Some(libc::SIGQUIT), ..polite }).unwrap();
        let mut stubborn =
            guest.connection.exec(&sh("trap '' TERM; echo on; while :; do sleep 0.01; done")).unwrap();
        read_until(&mut polite.stdout, "on").await;
        read_until(&mut stubborn.stdout, "on").await;
        guest.connection.shutdown(Duration::from_millis(300)).await.unwrap();
        assert_eq!(status(&polite.control.wait().await.unwrap()), Status::Code(0));
        assert_eq!(status(&stubborn.control.wait().await.unwrap()), Status::Signal(libc::SIGKILL));
        read_until(&mut polite.stdout, "bye").await;
        assert_eq!(guest.session.join().unwrap().unwrap(), End::Shutdown);
    });
}

#[test]
fn a_lost_host_ends_the_session() {
    run(async {
        let guest = idle();
        guest.connection.ready().await.unwrap();
        drop(guest.connection);
        assert_eq!(guest.session.join().unwrap().unwrap(), End::HostGone);
    });
}
