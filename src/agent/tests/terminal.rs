//! Processes on a terminal.

use super::*;

fn on_terminal(script: &str) -> ExecSpec {
    ExecSpec { tty: Some(Terminal { rows: 33, cols: 77, term: None }), ..sh(script) }
}

#[test]
fn the_terminal_has_its_size_and_is_the_controlling_one() {
    run(async {
        let guest = idle();
        let script = "test -t 0 && test -t 1 && test -t 2 && stty size && echo $TERM > /dev/tty";
        let (outcome, out, err) = all_of(&guest.connection, on_terminal(script)).await;
        assert_eq!((out.as_str(), err.as_str()), ("33 77\r\nxterm\r\n", ""));
        assert_eq!(status(&outcome), Status::Code(0));
    });
}

#[test]
fn resizing_reaches_the_process() {
    run(async {
        let guest = idle();
        let script = "trap 'stty size; exit' WINCH; echo on; while :; do sleep 0.01; done";
        let mut process = guest.connection.exec(&on_terminal(script)).unwrap();
        read_until(&mut process.stdout, "on").await;
        process.control.resize(WindowSize { rows: 50, cols: 132 }).unwrap();
        read_until(&mut process.stdout, "50 132").await;
        assert_eq!(status(&process.control.wait().await.unwrap()), Status::Code(0));
    });
}

#[test]
fn keys_and_signals_go_to_the_foreground() {
    run(async {
        let guest = idle();
        let mut process =
            guest.connection.exec(&on_terminal("trap 'echo shell lives' INT; cat; echo status $?")).unwrap();
        process.stdin.write_all(b"hello\n").await.unwrap();
        // Once by the terminal's echo, once by cat.
        read_until(&mut process.stdout, "hello\r\nhello\r\n").await;
        process.stdin.write_all(&[3]).await.unwrap();
        read_until(&mut process.stdout, "status 130").await;
        assert_eq!(status(&process.control.wait().await.unwrap()), Status::Code(0));
        let mut process =
            guest.connection.exec(&on_terminal("trap : INT; echo on; sleep 1000; echo after")).unwrap();
        read_until(&mut process.stdout, "on").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        process.control.signal(libc::SIGINT).unwrap();
        read_until(&mut process.stdout, "after").await;
    });
}

#[test]
fn the_end_of_input_is_what_ctrl_d_is() {
    run(async {
        let guest = idle();
        for (input, echoed) in [("line\n", "line\r\nline\r\n"), ("no end", "no endno end"), ("", "after")] {
            let mut process = guest.connection.exec(&on_terminal("cat; echo after")).unwrap();
            process.stdin.write_all(input.as_bytes()).await.unwrap();
            process.stdin.eof();
            let out = read_until(&mut process.stdout, "after").await;
            assert!(out.contains(echoed), "{out:?}");
            assert_eq!(status(&process.control.wait().await.unwrap()), Status::Code(0));
        }
    });
}

#[test]
fn nothing_of_the_last_words_is_lost() {
    run(async {
        let guest = idle();
        for _ in 0..30 {
            let (_, out, _) =
                all_of(&guest.connection, on_terminal("head -c 50000 /dev/zero | tr '\\0' x")).await;
            assert_eq!(out.len(), 50_000);
        }
    });
}

#[test]
fn a_terminal_whose_reader_goes_away_hangs_up() {
    run(async {
        let guest = idle();
        let mut process = guest.connection.exec(&on_terminal("echo on; sleep 1000")).unwrap();
        read_until(&mut process.stdout, "on").await;
        drop(process.stdout);
        assert_eq!(status(&process.control.wait().await.unwrap()), Status::Signal(libc::SIGHUP));
    });
}

#[test]
fn a_background_process_on_the_terminal_does_not_hold_up_the_end() {
    run(async {
        let guest = idle();
        let (outcome, out, _) =
            all_of(&guest.connection, on_terminal("trap '' HUP; yes & sleep 0.1; echo done")).await;
        assert_eq!(status(&outcome), Status::Code(0));
        assert!(out.contains("y\r\n"));
    });
}
