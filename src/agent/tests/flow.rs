//! Much data, and readers that do not keep up.

use super::*;
use msb_guest::flow::INITIAL_WINDOW;

#[test]
fn a_gigabyte_comes_back_identical() {
    run(async {
        let guest = idle();
        let Process { mut stdin, mut stdout, stderr: _stderr, control } =
            guest.connection.exec(&argv(&["cat"])).unwrap();
        // A prime length, so that equal blocks never fall together with frames.
        let block: Vec<u8> = (0..1_000_003u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let blocks = 1024;
        let expected = block.clone();
        let writer = tokio::spawn(async move {
            for _ in 0..blocks {
                stdin.write_all(&block).await.unwrap();
            }
        });
        let mut at = 0usize;
        while let Some(bytes) = stdout.read().await.unwrap() {
            let mut bytes: &[u8] = &bytes;
            while !bytes.is_empty() {
                let here = &expected[at % expected.len()..];
                let count = here.len().min(bytes.len());
                assert!(here[..count] == bytes[..count], "differs after byte {at}");
                bytes = &bytes[count..];
                at += count;
            }
        }
        writer.await.unwrap();
        assert_eq!(at, blocks * expected.len());
        assert_eq!(status(&control.wait().await.unwrap()), Status::Code(0));
    });
}

#[test]
fn a_reader_that_stops_stalls_nothing_else() {
    run(async {
        let guest = idle();
        let mut stalled = guest.connection.exec(&sh("exec yes stalled")).unwrap();
        assert!(stalled.stdout.read().await.unwrap().is_some());
        let mut unread = guest.connection.exec(&argv(&["sleep", "1000"])).unwrap().stdin;
        let flood = tokio::spawn(async move { unread.write_all(&vec![0; 8 << 20]).await });
        // Several windows' worth, and many small processes, pass beside the two that stand still.
        let (_, out, _) = all_of(&guest.connection, sh("head -c 3000000 /dev/zero | tr '\\0' z")).await;
        assert_eq!(out.len(), 3_000_000);
        for number in 0..20 {
            assert_eq!(
                all_of(&guest.connection, sh(&format!("echo {number}"))).await.1,
                format!("{number}\n")
            );
        }
        assert!(!flood.is_finished());
        stalled.control.signal(libc::SIGTERM).unwrap();
        let (outcome, rest) = tokio::join!(stalled.control.wait(), stalled.stdout.read_to_end());
        assert_eq!(status(&outcome.unwrap()), Status::Signal(libc::SIGTERM));
        // At least what was on its way: a window less the one frame that was taken, and the pipe.
        assert!(rest.unwrap().len() > 100_000);
    });
}

#[test]
fn the_two_outputs_of_a_process_do_not_wait_for_each_other() {
    run(async {
        let guest = idle();
        let script = "(exec >&-; head -c 2000000 /dev/zero >&2) & exec 2>&-; head -c 2000000 /dev/zero; wait";
        let mut process = guest.connection.exec(&sh(script)).unwrap();
        assert_eq!(process.stderr.read_to_end().await.unwrap().len(), 2_000_000);
        assert_eq!(process.stdout.read_to_end().await.unwrap().len(), 2_000_000);
    });
}

#[test]
fn unread_output_is_bounded_by_the_window() {
    run(async {
        let guest = idle();
        let mut process = guest.connection.exec(&argv(&["yes"])).unwrap();
        let pid = process.control.started().await.unwrap().unwrap().pid;
        tokio::time::sleep(Duration::from_millis(300)).await;
        process.control.signal(libc::SIGKILL).unwrap();
        while std::path::Path::new(&format!("/proc/{pid}")).exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut total = 0;
        while let Some(bytes) = process.stdout.read().await.unwrap() {
            total += bytes.len();
        }
        // The window and what the pipe in the guest held.
        assert!(total <= INITIAL_WINDOW as usize + 256 * 1024, "{total}");
    });
}

#[test]
fn two_hundred_processes_at_once() {
    run(async {
        let guest = idle();
        let processes: Vec<Process> =
            (0..200).map(|n| guest.connection.exec(&sh(&format!("read x; echo {n} $x"))).unwrap()).collect();
        for (number, mut process) in processes.into_iter().enumerate().rev() {
            process.stdin.write_all(b"go\n").await.unwrap();
            assert_eq!(text(process.stdout.read_to_end().await.unwrap()), format!("{number} go\n"));
            assert_eq!(status(&process.control.wait().await.unwrap()), Status::Code(0));
        }
    });
}
