//! libkrun's virtio-fs device at the other end of a vhost-user connection.
//!
//! The protocol's messages tell where guest memory and the two queues are and which descriptors signal them:
//! <https://qemu-project.gitlab.io/qemu/interop/vhost-user.html>. The device itself is the one that machines on libkrun have.

use std::fs::File;
use std::io;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::AtomicI32;
use std::sync::{Arc, Mutex, PoisonError};

use krun_devices::legacy::{IrqChip, IrqChipDevice, IrqChipT};
use krun_devices::virtio::fs::Fs;
use krun_devices::virtio::fs::passthrough::PermissionSemantics;
use krun_devices::virtio::{DeviceQueue, InterruptTransport, Queue, VirtioDevice};
use msb_guest::message::SHARES_TAG;
use vhost::vhost_user::message::{
    VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags, VhostUserInflight,
    VhostUserLog, VhostUserMemoryRegion, VhostUserProtocolFeatures, VhostUserShMemConfig, VhostUserSharedMsg,
    VhostUserSingleMemoryRegion, VhostUserVirtioFeatures, VhostUserVringAddrFlags, VhostUserVringState,
};
use vhost::vhost_user::{BackendReqHandler, Error, GpuBackend, Result, VhostUserBackendReqHandlerMut};
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap, GuestRegionMmap, MmapRegion};
use vmm_sys_util::eventfd::EventFd;

/// Queues of the device: the one for what must not wait, and the one for requests.
const QUEUES: usize = 2;
/// The largest queue, as libkrun has it.
const QUEUE_SIZE: u16 = 1024;
/// Feature bits of every virtio device.
const VIRTIO_F_RING_EVENT_IDX: u64 = 1 << 29;
const VIRTIO_F_VERSION_1: u64 = 1 << 32;

/// Serves the folder at `path` until the other end hangs up.
pub(super) fn serve(socket: UnixStream, path: String) -> io::Result<()> {
    let backend = Arc::new(Mutex::new(Backend::new(path)));
    let mut handler = BackendReqHandler::from_stream(socket, backend);
    loop {
        match handler.handle_request() {
            Ok(()) | Err(Error::SocketRetry(_)) => {}
            Err(Error::Disconnected | Error::SocketBroken(_)) => return Ok(()),
            Err(error) => return Err(io::Error::other(error)),
        }
    }
}

/// One queue as far as it has been described.
#[derive(Default)]
struct Ring {
    size: u16,
    base: u32,
    /// Descriptors, available and used ring: addresses in the other process.
    addresses: Option<[u64; 3]>,
    kick: Option<File>,
    enabled: bool,
}

/// The descriptors by which the guest learns that a queue has answers.
type Calls = Arc<Mutex<[Option<EventFd>; QUEUES]>>;

struct Backend {
    path: String,
    features: u64,
    regions: Vec<VhostUserMemoryRegion>,
    memory: Option<GuestMemoryMmap>,
    rings: [Ring; QUEUES],
    calls: Calls,
    device: Option<Fs>,
}

impl Backend {
    fn new(path: String) -> Self {
        Self {
            path,
            features: 0,
            regions: Vec::new(),
            memory: None,
            rings: Default::default(),
            calls: Calls::default(),
            device: None,
        }
    }

    fn ring(&mut self, index: u32) -> Result<&mut Ring> {
        self.rings.get_mut(index as usize).ok_or(Error::InvalidParam)
    }

    /// Where an address of the other process is in the guest's memory.
    fn guest_address(&self, address: u64) -> Result<GuestAddress> {
        let inside = |region: &&VhostUserMemoryRegion| {
            address.checked_sub(region.user_addr).is_some_and(|offset| offset < region.memory_size)
        };
        let region = self.regions.iter().find(inside).ok_or(Error::InvalidParam)?;
        Ok(GuestAddress(region.guest_phys_addr + (address - region.user_addr)))
    }

    fn queue(&self, ring: &Ring) -> Result<Queue> {
        let [descriptors, available, used] = ring.addresses.ok_or(Error::InvalidParam)?;
        let mut queue = Queue::new(QUEUE_SIZE);
        queue.size = ring.size;
        queue.ready = true;
        queue.desc_table = self.guest_address(descriptors)?;
        queue.avail_ring = self.guest_address(available)?;
        queue.used_ring = self.guest_address(used)?;
        queue.set_event_idx(self.features & VIRTIO_F_RING_EVENT_IDX != 0);
        Ok(queue)
    }

    /// Starts the device once both queues are described and enabled.
    fn start_when_ready(&mut self) -> Result<()> {
        let complete = |ring: &Ring| ring.enabled && ring.kick.is_some() && ring.addresses.is_some();
        if self.device.is_some() || !self.rings.iter().all(complete) {
            return Ok(());
        }
        if self.rings.iter().any(|ring| ring.base != 0) {
            return Err(Error::InvalidOperation("the device starts from the beginning of its queues only"));
        }
        let memory = self.memory.clone().ok_or(Error::InvalidOperation("there is no guest memory"))?;
        let mut queues = Vec::with_capacity(QUEUES);
        for ring in &self.rings {
            let queue = self.queue(ring)?;
            if !queue.is_valid(&memory) {
                return Err(Error::InvalidParam);
            }
            let kick = ring.kick.as_ref().ok_or(Error::InvalidParam)?.try_clone();
            let event = event(kick.map_err(Error::ReqHandlerError)?);
            queues.push(DeviceQueue::new(queue, Arc::new(event)));
        }
        let failed = || Error::InvalidOperation("the device cannot be started");
        let chip: IrqChip = Arc::new(Mutex::new(IrqChipDevice::new(Box::new(Caller(self.calls.clone())))));
        let interrupt = InterruptTransport::new(chip, String::new()).map_err(|_| failed())?;
        let mut device = device(self.path.clone()).map_err(|_| failed())?;
        device.activate(memory, interrupt, queues).map_err(|_| failed())?;
        self.device = Some(device);
        Ok(())
    }

    fn stop(&mut self) {
        if let Some(mut device) = self.device.take() {
            device.reset();
        }
    }
}

fn device(path: String) -> std::result::Result<Fs, krun_devices::virtio::FsError> {
    // As on libkrun: sizes and times are asked for whenever they are needed.
    let semantics = PermissionSemantics::LinuxSimplified;
    Fs::new(SHARES_TAG.into(), semantics, Some(path), Arc::new(AtomicI32::new(0)), false, Vec::new())
}

fn event(file: File) -> EventFd {
    // SAFETY: the descriptor is an eventfd, as the protocol has it, and nothing else owns it from here on.
    unsafe { EventFd::from_raw_fd(file.into_raw_fd()) }
}

/// Stands where libkrun has its interrupt controller. Which queue an interrupt is for it is not told: both are signalled.
struct Caller(Calls);

impl krun_devices::BusDevice for Caller {}

impl IrqChipT for Caller {
    fn get_mmio_addr(&self) -> u64 {
        0
    }

    fn get_mmio_size(&self) -> u64 {
        0
    }

    fn set_irq(
        &self,
        _line: Option<u32>,
        _event: Option<&EventFd>,
    ) -> std::result::Result<(), krun_devices::Error> {
        let calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        calls
            .iter()
            .flatten()
            .try_for_each(|call| call.write(1))
            .map_err(krun_devices::Error::FailedSignalingUsedQueue)
    }
}

/// On arm64 an interrupt controller also describes itself, which nobody asks here.
#[cfg(target_arch = "aarch64")]
impl krun_devices::legacy::gic::GICDevice for Caller {
    fn device_properties(&self) -> Vec<u64> {
        Vec::new()
    }

    fn vcpu_count(&self) -> u64 {
        0
    }

    fn fdt_compatibility(&self) -> String {
        String::new()
    }

    fn fdt_maint_irq(&self) -> u32 {
        0
    }

    fn version(&self) -> u32 {
        0
    }
}

fn unsupported<T>() -> Result<T> {
    Err(Error::InvalidOperation("not offered"))
}

impl VhostUserBackendReqHandlerMut for Backend {
    fn set_owner(&mut self) -> Result<()> {
        Ok(())
    }

    fn reset_owner(&mut self) -> Result<()> {
        self.reset_device()
    }

    fn reset_device(&mut self) -> Result<()> {
        self.stop();
        self.rings = Default::default();
        Ok(())
    }

    fn get_features(&mut self) -> Result<u64> {
        let protocol = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
        Ok(VIRTIO_F_VERSION_1 | VIRTIO_F_RING_EVENT_IDX | protocol)
    }

    fn set_features(&mut self, features: u64) -> Result<()> {
        self.features = features;
        Ok(())
    }

    fn get_protocol_features(&mut self) -> Result<VhostUserProtocolFeatures> {
        Ok(VhostUserProtocolFeatures::REPLY_ACK)
    }

    fn set_protocol_features(&mut self, _features: u64) -> Result<()> {
        Ok(())
    }

    fn get_queue_num(&mut self) -> Result<u64> {
        Ok(QUEUES as u64)
    }

    fn set_mem_table(&mut self, regions: &[VhostUserMemoryRegion], files: Vec<File>) -> Result<()> {
        let map = |(region, file): (&VhostUserMemoryRegion, File)| {
            let size = usize::try_from(region.memory_size).ok()?;
            let mapped = MmapRegion::from_file(FileOffset::new(file, region.mmap_offset), size).ok()?;
            GuestRegionMmap::new(mapped, GuestAddress(region.guest_phys_addr))
        };
        let mapped: Option<Vec<_>> = regions.iter().zip(files).map(map).collect();
        let memory = mapped.and_then(|mapped| GuestMemoryMmap::from_regions(mapped).ok());
        self.memory = Some(memory.ok_or(Error::InvalidParam)?);
        self.regions = regions.to_vec();
        Ok(())
    }

    fn set_vring_num(&mut self, index: u32, num: u32) -> Result<()> {
        let size = u16::try_from(num).ok().filter(|size| *size <= QUEUE_SIZE).ok_or(Error::InvalidParam)?;
        self.ring(index)?.size = size;
        Ok(())
    }

    fn set_vring_addr(
        &mut self,
        index: u32,
        _flags: VhostUserVringAddrFlags,
        descriptor: u64,
        used: u64,
        available: u64,
        _log: u64,
    ) -> Result<()> {
        self.ring(index)?.addresses = Some([descriptor, available, used]);
        Ok(())
    }

    fn set_vring_base(&mut self, index: u32, base: u32) -> Result<()> {
        self.ring(index)?.base = base;
        Ok(())
    }

    fn get_vring_base(&mut self, index: u32) -> Result<VhostUserVringState> {
        // The queues stop together, and what is still in them is not taken up again.
        self.stop();
        let ring = self.ring(index)?;
        ring.enabled = false;
        ring.kick = None;
        Ok(VhostUserVringState::new(index, 0))
    }

    fn set_vring_kick(&mut self, index: u8, fd: Option<File>) -> Result<()> {
        self.ring(index.into())?.kick = fd;
        self.start_when_ready()
    }

    fn set_vring_call(&mut self, index: u8, fd: Option<File>) -> Result<()> {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let call = calls.get_mut(usize::from(index)).ok_or(Error::InvalidParam)?;
        *call = fd.map(event);
        // An answer may have come between the old descriptor and this one.
        if let Some(call) = call {
            call.write(1).map_err(Error::ReqHandlerError)?;
        }
        Ok(())
    }

    fn set_vring_err(&mut self, _index: u8, _fd: Option<File>) -> Result<()> {
        Ok(())
    }

    fn set_vring_enable(&mut self, index: u32, enable: bool) -> Result<()> {
        self.ring(index)?.enabled = enable;
        if !enable {
            self.stop();
        }
        self.start_when_ready()
    }

    fn get_config(&mut self, _offset: u32, _size: u32, _flags: VhostUserConfigFlags) -> Result<Vec<u8>> {
        unsupported()
    }

    fn set_config(&mut self, _offset: u32, _buf: &[u8], _flags: VhostUserConfigFlags) -> Result<()> {
        unsupported()
    }

    fn set_gpu_socket(&mut self, _backend: GpuBackend) -> Result<()> {
        unsupported()
    }

    fn get_shared_object(&mut self, _uuid: VhostUserSharedMsg) -> Result<File> {
        unsupported()
    }

    fn get_inflight_fd(&mut self, _inflight: &VhostUserInflight) -> Result<(VhostUserInflight, File)> {
        unsupported()
    }

    fn set_inflight_fd(&mut self, _inflight: &VhostUserInflight, _file: File) -> Result<()> {
        unsupported()
    }

    fn get_max_mem_slots(&mut self) -> Result<u64> {
        unsupported()
    }

    fn add_mem_region(&mut self, _region: &VhostUserSingleMemoryRegion, _fd: File) -> Result<()> {
        unsupported()
    }

    fn remove_mem_region(&mut self, _region: &VhostUserSingleMemoryRegion) -> Result<()> {
        unsupported()
    }

    fn set_device_state_fd(
        &mut self,
        _direction: VhostTransferStateDirection,
        _phase: VhostTransferStatePhase,
        _fd: File,
    ) -> Result<Option<File>> {
        unsupported()
    }

    fn check_device_state(&mut self) -> Result<()> {
        unsupported()
    }

    fn get_shmem_config(&mut self) -> Result<VhostUserShMemConfig> {
        unsupported()
    }

    fn set_log_base(&mut self, _log: &VhostUserLog, _file: File) -> Result<()> {
        unsupported()
    }
}
