//! Booting a planned run: the VMM process, and the document that tells the guest what it is.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::fcntl::OFlag;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::pipe2;

use msb_guest::message::NetworkSetup;
use msb_guest::session::Database;

use super::Error;
use super::command::ScriptFile;
use super::diagnosis::Watch;
use super::network;
use super::plan::{Disk, Plan};
use super::running::{Facts, Running};
use super::timings::Timings;
use super::trust;
use crate::agent::{BootDocument, Connection, ExecSpec, GuestFile, Root, Terminal, VERSIONS, WindowSize};
use crate::image::Image;
use crate::vm;

/// The guest's first program, made by `build.rs`.
static INITRAMFS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/initramfs.cpio"));

/// How long a guest may take to get ready. Software emulation on a busy machine needs many seconds; a guest that fails
/// says so, or its VMM ends, long before.
const BOOT_LIMIT: Duration = Duration::from_secs(90);

/// What the standard streams of a main process are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Streams {
    /// A terminal of this size; pipes otherwise.
    pub terminal: Option<WindowSize>,
    /// Standard input comes from the host; otherwise it is `/dev/null`.
    pub stdin: bool,
}

/// Starts the virtual machine of `plan` with its command and waits until the guest has everything mounted. Must be called inside a tokio runtime, on the process's main thread.
///
/// # Errors
/// What kept the machine from starting, in the words of whoever noticed: the VMM, the guest's kernel or its PID 1.
pub async fn boot(plan: Plan, streams: Streams, timings: &mut Timings) -> Result<Running, Error> {
    let (host, guest) = UnixStream::pair().map_err(system("make the agent's socket"))?;
    let (console, console_end) = pipe()?;
    let (diagnostics, diagnostics_end) = pipe()?;
    let throw_away = matches!(plan.disk, Disk::ThrowAway(_));
    let attached = network::attach(&plan)?;
    let ports = attached.as_ref().map(network::Attached::published).unwrap_or_default();
    let places = attached.as_ref().map(network::Attached::places).unwrap_or_default();
    let network = attached.as_ref().map(|attached| attached.setup());
    let mut document = document(&plan, streams, throw_away, network);
    if let Some(authority) = attached.as_ref().and_then(network::Attached::authority) {
        trust::add(&mut document, authority);
    }
    let (gateway, interface) = attached.map(network::Attached::into_parts).unzip();
    let written = plan.volumes.are_written();
    let (shares, volumes) = plan.volumes.into_devices(owner(&plan.image, plan.user.as_deref()));
    let selection = plan.machine.selection;
    let exports = plan.exports;
    let facts = Facts {
        throw_away: throw_away && !written,
        kind: selection.kind,
        memory_mib: plan.memory_mib,
        cpus: plan.cpus,
        stop_signal: plan.stop_signal.unwrap_or(libc::SIGTERM),
        user: plan.user,
        workdir: plan.workdir,
        shell: plan.shell,
        ports,
        places,
    };
    let disk = match plan.disk {
        Disk::ThrowAway(file) => file,
        Disk::Kept(kept) => kept.file,
    };
    let mut disks = vec![
        vm::Disk::vmdk(plan.image.disk.clone(), plan.image.extents.clone()),
        // The same open file, so that the VMM shares its lock.
        vm::Disk::file(disk.try_clone().map_err(system("share the disk"))?.into()),
    ];
    disks.extend(volumes);
    let machine = vm::Machine {
        name: plan.name,
        cpus: plan.cpus,
        memory_mib: facts.memory_mib,
        kernel: plan.machine.kernel,
        initramfs: initramfs().map_err(system("make the initramfs"))?,
        disks,
        shares,
        interface,
        agent: guest.into(),
        console: console_end,
        diagnostics: diagnostics_end,
    };
    let vmm = selection.hypervisor.spawn(machine)?;
    let watch = Watch::start(console, diagnostics).map_err(system("watch the console"))?;
    let connection = Connection::start(host, &document)?;
    let held = (plan.image, disk, gateway);
    let mut running = Running::new(connection, vmm, watch, held, (facts, exports));
    running.ready(BOOT_LIMIT, timings).await?;
    Ok(running)
}

fn document(plan: &Plan, streams: Streams, throw_away: bool, network: Option<NetworkSetup>) -> BootDocument {
    let pairs = plan.env.iter().map(|(key, value)| (key.as_str().into(), value.as_str().into()));
    let tty = streams.terminal.map(|size| Terminal {
        rows: size.rows,
        cols: size.cols,
        term: std::env::var("TERM").ok(),
    });
    BootDocument {
        versions: VERSIONS,
        hostname: plan.name.clone(),
        root: Root { grow: true, ephemeral: throw_away, ..Root::default() },
        env: pairs.collect(),
        files: plan.script.iter().map(script).collect(),
        mounts: plan.volumes.mounts().to_vec(),
        trust: None,
        network,
        exec: (!plan.argv.is_empty()).then(|| ExecSpec {
            argv: plan.argv.iter().cloned().map(Into::into).collect(),
            cwd: Some(plan.workdir.as_str().into()),
            user: plan.user.clone(),
            tty,
            null_stdin: !streams.stdin,
            stop_signal: plan.stop_signal,
            ..ExecSpec::default()
        }),
        // What is exported is read when the command has ended.
        power_off_with_exec: !plan.argv.is_empty() && plan.exports.is_empty(),
        pids_limit: plan.pids_limit,
        wall_clock_ns: wall_clock_ns(),
    }
}

/// As whom the guest sees the caller's files: the user its command runs as, by the image's own list of users, else root.
fn owner(image: &Image, user: Option<&str>) -> (u32, u32) {
    if user.is_none() {
        return (0, 0);
    }
    let list = |name: &str| image.small_file(Path::new(name)).unwrap_or_default();
    let accounts = Database::from_contents(&list("/etc/passwd"), &list("/etc/group"));
    accounts.resolve(user).map_or((0, 0), |account| (account.uid, account.gid))
}

fn script(file: &ScriptFile) -> GuestFile {
    GuestFile { path: file.path.clone(), mode: 0o755, contents: file.contents.as_str().into() }
}

fn wall_clock_ns() -> Option<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(now.as_nanos()).ok()
}

fn initramfs() -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create(c"msb-initramfs", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(INITRAMFS)?;
    Ok(file.into())
}

fn pipe() -> Result<(OwnedFd, OwnedFd), Error> {
    pipe2(OFlag::O_CLOEXEC).map_err(io::Error::from).map_err(system("make a pipe"))
}

fn system(action: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::System { action, source }
}
