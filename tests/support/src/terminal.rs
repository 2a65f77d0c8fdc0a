//! A command on a pseudo-terminal, driven as a person would.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::termios::{LocalFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use crate::command::Msb;
use crate::process::{die_with_parent, wait_until};
use crate::running::{Running, readable};

nix::ioctl_write_int_bad!(set_controlling_terminal, libc::TIOCSCTTY);
nix::ioctl_write_ptr_bad!(set_window_size, libc::TIOCSWINSZ, Winsize);

/// A command that is the leader of a session with its own terminal.
#[derive(Debug)]
pub struct Terminal {
    running: Running,
    keyboard: File,
    // Kept open so that the terminal outlives the command and can be asked for its modes afterwards.
    device: OwnedFd,
    before: Termios,
    seen: Vec<u8>,
    read_up_to: usize,
    limit: Duration,
}

impl Terminal {
    pub(crate) fn start(msb: Msb, rows: u16, columns: u16) -> Self {
        let (shown, limit) = (msb.shown(), msb.limit);
        let OpenptyResult { master, slave } = openpty(&size(rows, columns), None).unwrap();
        let mut command: Command = msb.command;
        let stream = || Stdio::from(slave.try_clone().unwrap());
        command.stdin(stream()).stdout(stream()).stderr(stream());
        // SAFETY: the closures make async-signal-safe system calls only.
        unsafe {
            command.pre_exec(die_with_parent);
            command.pre_exec(|| {
                nix::unistd::setsid()?;
                set_controlling_terminal(0, 0)?;
                Ok(())
            });
        }
        let before = tcgetattr(slave.as_fd()).unwrap();
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start `{shown}`: {error}"));
        let running = Running::new(child, shown, limit);
        Self {
            running,
            keyboard: File::from(master),
            device: slave,
            before,
            seen: Vec::new(),
            read_up_to: 0,
            limit,
        }
    }

    /// The command, for its processes.
    #[must_use]
    pub fn running(&self) -> &Running {
        &self.running
    }

    /// Types these bytes: `\r` is the Return key, `\x03` Ctrl-C.
    #[track_caller]
    pub fn send(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until the terminal shows `text` after what earlier calls have waited for; returns what it showed up to the end of `text`.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> String {
        let deadline = Instant::now() + self.limit;
        loop {
            let new = &self.seen[self.read_up_to..];
            if let Some(at) = new.windows(text.len()).position(|window| window == text.as_bytes()) {
                let end = at + text.len();
                let shown = String::from_utf8_lossy(&new[..end]).into_owned();
                self.read_up_to += end;
                return shown;
            }
            let more = readable(&self.keyboard, deadline) && self.read_some();
            assert!(more, "the terminal did not go on to show {text:?}; all of it:\n{}", self.shown());
        }
    }

    /// Changes the size of the window, as a window manager would.
    pub fn resize(&self, rows: u16, columns: u16) {
        // SAFETY: the descriptor is an open terminal and the structure lives through the call.
        unsafe { set_window_size(self.keyboard.as_raw_fd(), &size(rows, columns)) }.unwrap();
    }

    /// Waits for the command's end and returns its status.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        self.wait_within(self.limit)
    }

    /// The same, with a limit of its own.
    #[track_caller]
    pub fn wait_within(&mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.running.child.try_wait().unwrap() {
                while readable(&self.keyboard, Instant::now()) && self.read_some() {}
                return status;
            }
            assert!(Instant::now() < deadline, "still running; the terminal shows:\n{}", self.shown());
            // Output must be taken off the terminal, or a writer would wait for ever.
            if readable(&self.keyboard, Instant::now() + Duration::from_millis(10)) {
                self.read_some();
            }
        }
    }

    /// Waits for the command's end; it must exit with `code` and leave the terminal as it found it.
    #[track_caller]
    pub fn ends_with(&mut self, code: i32) {
        let status = self.wait();
        let signal = status.signal();
        assert!(
            status.code() == Some(code),
            "wanted exit code {code}: {status} {signal:?}\n{}",
            self.shown()
        );
        self.assert_restored();
    }

    /// The terminal's modes are what they were before the command started.
    #[track_caller]
    pub fn assert_restored(&self) {
        let restored = || tcgetattr(self.device.as_fd()).unwrap() == self.before;
        wait_until(
            Duration::from_secs(2),
            &format!("the terminal's modes are restored; it shows:\n{}", self.shown()),
            restored,
        );
    }

    /// Waits until the command has put the terminal into raw mode.
    #[track_caller]
    pub fn expect_raw(&self) {
        let raw = || {
            let flags = tcgetattr(self.device.as_fd()).unwrap().local_flags;
            !flags.intersects(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG)
        };
        wait_until(self.limit, "the terminal is in raw mode", raw);
    }

    /// Puts the terminal into raw mode on our own side, so that output is seen unchanged.
    pub fn make_raw(&mut self) {
        let mut modes = self.before.clone();
        cfmakeraw(&mut modes);
        tcsetattr(self.device.as_fd(), SetArg::TCSANOW, &modes).unwrap();
    }

    /// All the terminal has shown.
    #[must_use]
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }

    fn read_some(&mut self) -> bool {
        let mut chunk = [0; 4096];
        // EIO is how Linux reports that no process has the terminal open.
        let count = self.keyboard.read(&mut chunk).unwrap_or(0);
        self.seen.extend_from_slice(&chunk[..count]);
        count > 0
    }
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_terminal(script: &str) -> Terminal {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        Msb::new(command, Duration::from_secs(10)).terminal(24, 80)
    }

    #[test]
    fn a_program_has_a_terminal_of_the_given_size_and_hears_of_changes() {
        let mut terminal =
            on_terminal("trap 'stty size; exit 3' WINCH; stty size; while :; do sleep 0.05; done");
        terminal.expect("24 80\r\n");
        terminal.resize(30, 100);
        terminal.expect("30 100\r\n");
        terminal.ends_with(3);
    }

    #[test]
    fn keys_are_read_and_ctrl_c_interrupts() {
        let mut terminal = on_terminal("read line; echo got $line; exec sleep 100");
        terminal.send("hello\r");
        terminal.expect("got hello\r\n");
        terminal.send("\x03");
        assert_eq!(terminal.wait().signal(), Some(libc::SIGINT));
    }

    #[test]
    fn modes_left_behind_are_noticed() {
        let mut terminal = on_terminal("stty raw -echo; echo done");
        terminal.expect("done");
        terminal.wait();
        terminal.expect_raw();
        assert!(
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| terminal.assert_restored())).is_err()
        );
    }
}
