//! The connection to one guest.

use super::error::Error;
use super::process::{Control, Process};
use super::relay;
use super::shared::Shared;
use msb_guest::message::{BootDocument, Clock, ExecSpec, Ready, VERSIONS};
use msb_guest::wire::{Decoder, Kind, MACHINE, Side, put_json};
use std::net::Shutdown;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::JoinHandle;

/// Bytes read from the socket at a time.
const READ_CHUNK: usize = 256 * 1024;

/// The connection to one guest. Dropping it closes the socket, upon which the guest powers off.
#[derive(Debug)]
pub struct Connection {
    shared: Arc<Shared>,
    main: Mutex<Option<Process>>,
    /// The same socket again, to end it without the help of the runtime.
    socket: StdUnixStream,
    tasks: [JoinHandle<()>; 2],
}

impl Connection {
    /// Takes over `socket`, whose other end the virtual machine has or will have, and sends `boot`. Must be called inside a
    /// tokio runtime; the virtual machine may be started before or after.
    ///
    /// # Errors
    /// [`Error::TooLarge`] when the boot document does not fit its frame, [`Error::Socket`] when the runtime does not
    /// take the socket.
    pub fn start(socket: StdUnixStream, boot: &BootDocument) -> Result<Connection, Error> {
        socket.set_nonblocking(true)?;
        let (reader, writer) = UnixStream::from_std(socket.try_clone()?)?.into_split();
        let shared = Arc::new(Shared::new(boot.versions, boot.power_off_with_exec));
        let main = shared.change(|state| {
            put_json(&mut state.out, Kind::Boot, MACHINE, boot)?;
            // Stream 1 belongs to the boot document, whether it names a process or not.
            state.open().map(|id| boot.exec.is_some().then_some(id))
        })?;
        let main = main.map(|id| Process::new(&shared, id));
        let tasks = [
            tokio::spawn(read_frames(Arc::clone(&shared), reader)),
            tokio::spawn(write_frames(Arc::clone(&shared), writer)),
        ];
        Ok(Connection { shared, main: Mutex::new(main), socket, tasks })
    }

    /// Joins a guest that somebody else supervises and that said `ready` to them, over the `socket` they lend (see
    /// [`lend`](Connection::lend)). With `attached` the guest's main process is [`main_exec`](Connection::main_exec).
    ///
    /// # Errors
    /// [`Error::Socket`] when the runtime does not take the socket.
    pub fn join(socket: StdUnixStream, ready: Ready, attached: bool) -> Result<Connection, Error> {
        socket.set_nonblocking(true)?;
        let (reader, writer) = UnixStream::from_std(socket.try_clone()?)?.into_split();
        let shared = Arc::new(Shared::new(VERSIONS, false));
        let main = shared.change(|state| {
            state.ready = Some(ready);
            state.open().map(|id| attached.then_some(id))
        })?;
        let main = main.map(|id| Process::new(&shared, id));
        let tasks = [
            tokio::spawn(read_frames(Arc::clone(&shared), reader)),
            tokio::spawn(write_frames(Arc::clone(&shared), writer)),
        ];
        Ok(Connection { shared, main: Mutex::new(main), socket, tasks })
    }

    /// Lets the client at the other end of `socket`, who [joins](Connection::join), start processes of its own. They are
    /// killed when it goes. Returns when it has gone or this connection has ended.
    ///
    /// # Errors
    /// What the client did wrong.
    pub async fn lend(&self, socket: StdUnixStream) -> Result<(), Error> {
        relay::serve(Arc::clone(&self.shared), socket).await
    }

    /// Asks the guest to stop its processes, giving them `grace` between their stop signal and SIGKILL, and to power
    /// off. Does not wait.
    ///
    /// # Errors
    /// Why the connection ended.
    pub fn ask_to_stop(&self, grace: Duration) -> Result<(), Error> {
        let grace_ms = u32::try_from(grace.as_millis()).unwrap_or(u32::MAX);
        self.shared.change(|state| state.put_shutdown(grace_ms))
    }

    /// Whether somebody has asked the guest to stop, by way of this connection or of one that shares it.
    #[must_use]
    pub fn was_asked_to_stop(&self) -> bool {
        self.shared.change(|state| state.is_stopping)
    }

    /// Waits until the guest is up.
    ///
    /// # Errors
    /// [`Error::BootFailed`] when it cannot come up, else why the connection ended.
    pub async fn ready(&self) -> Result<Ready, Error> {
        self.shared.until(|state| state.ready.map(Ok).or_else(|| state.fatal.clone().map(Err))).await
    }

    /// Steers the process of the boot document, as long as nobody has taken it.
    pub fn main_control(&self) -> Option<Control> {
        self.main.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|main| main.control.clone())
    }

    /// The process of the boot document, the first time it is asked for.
    pub fn main_exec(&self) -> Option<Process> {
        self.main.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Starts a process. It is not waited for: [`Control::started`](super::Control::started) tells whether it runs.
    ///
    /// # Errors
    /// [`Error::TooLarge`] when `spec` does not fit its frame, else why the connection ended.
    pub fn exec(&self, spec: &ExecSpec) -> Result<Process, Error> {
        let id = self.shared.change(|state| {
            if let Some(error) = &state.fatal {
                return Err(error.clone());
            }
            put_json(&mut state.out, Kind::Exec, state.next_stream, spec)?;
            state.open()
        })?;
        Ok(Process::new(&self.shared, id))
    }

    /// Tells the guest what time it is on the host, after the host's clock jumped or the machine stood still. The guest sets
    /// its clock when it is off by more than a second.
    ///
    /// # Errors
    /// Why the connection ended.
    pub fn set_clock(&self, now: SystemTime) -> Result<(), Error> {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let realtime_ns = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        self.shared.change(|state| match &state.fatal {
            Some(error) => Err(error.clone()),
            None => Ok(put_json(&mut state.out, Kind::Clock, MACHINE, &Clock { realtime_ns })?),
        })
    }

    /// Asks the guest to stop its processes, giving them `grace` between their stop signal and SIGKILL, and to power
    /// off. Waits until the virtual machine has closed the connection.
    ///
    /// # Errors
    /// Why the connection ended, when it was not the virtual machine's orderly end.
    pub async fn shutdown(&self, grace: Duration) -> Result<(), Error> {
        self.ask_to_stop(grace)?;
        match self.closed().await {
            Error::Closed => Ok(()),
            error => Err(error),
        }
    }

    /// Waits until the connection has ended and says why; [`Error::Closed`] is the end of the virtual machine.
    pub async fn closed(&self) -> Error {
        self.shared.until(|state| state.fatal.clone()).await
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // The tasks let go of the socket when the runtime next gets to them, which may be late. That the socket is closed
        // already is no failure.
        let _ = self.socket.shutdown(Shutdown::Both);
        self.tasks.iter().for_each(JoinHandle::abort);
        self.shared.fail(Error::Closed);
    }
}

/// Reads frames until the connection ends.
async fn read_frames(shared: Arc<Shared>, mut socket: OwnedReadHalf) {
    let mut decoder = Decoder::new(Side::Host, READ_CHUNK);
    let error = loop {
        match socket.read(decoder.space()).await {
            Ok(0) => break Error::Closed,
            Ok(count) => decoder.filled(count),
            Err(error) => break error.into(),
        }
        let taken = shared.change(|state| {
            while let Some(frame) = decoder.next_frame()? {
                state.take(frame)?;
            }
            Ok::<(), Error>(())
        });
        if let Err(error) = taken {
            break error;
        }
    };
    shared.fail(error);
}

/// Writes frames until the connection ends, and then what is left, which is the answer to a guest that could not boot.
async fn write_frames(shared: Arc<Shared>, mut socket: OwnedWriteHalf) {
    let mut buffer = Vec::new();
    loop {
        let ended = {
            let mut state = shared.lock();
            std::mem::swap(&mut buffer, &mut state.out);
            state.fatal.is_some()
        };
        if buffer.is_empty() {
            if ended {
                return;
            }
            shared.outgoing.notified().await;
            continue;
        }
        if let Err(error) = socket.write_all(&buffer).await {
            // What the guest said before it went is still to be read; its end of file ends the connection.
            if !matches!(Error::from(error), Error::Closed) {
                shared.fail(Error::Closed);
            }
            return;
        }
        buffer.clear();
        // Whoever waits for room in the outbox may go on.
        shared.change(|_| ());
    }
}
