//! TCP towards the sandbox: one smoltcp interface that answers for every address, and a set of one socket per connection, so that
//! a packet costs the same however many connections there are.

use std::time::Instant;

use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant as StackInstant;
use smoltcp::wire::{HardwareAddress, IpCidr};

use super::checksum;
use super::link::{Link, MTU};
use super::wire::Output;

/// The interface.
pub(super) struct Stack {
    interface: Interface,
    start: Instant,
    now: Instant,
}

impl std::fmt::Debug for Stack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stack").field("now", &self.now).finish_non_exhaustive()
    }
}

impl Stack {
    /// The interface of the gateway of `link`. `seed` is for sequence numbers.
    #[must_use]
    pub(super) fn new(link: &Link, seed: u64, now: Instant) -> Self {
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut output = Output::new(link);
        let mut interface =
            Interface::new(config, &mut Tap { packet: None, output: &mut output }, StackInstant::ZERO);
        interface.set_any_ip(true);
        interface.update_ip_addrs(|addresses| {
            // There is room for two.
            let _ = addresses.push(IpCidr::new(link.gateway_v4.into(), link.prefix_v4));
            let _ = addresses.push(IpCidr::new(link.gateway_v6.into(), link.prefix_v6));
        });
        // There is room for one of each family.
        let _ = interface.routes_mut().add_default_ipv4_route(link.guest_v4);
        let _ = interface.routes_mut().add_default_ipv6_route(link.guest_v6);
        Self { interface, start: now, now }
    }

    /// The time of all that follows.
    pub(super) fn set_now(&mut self, now: Instant) {
        self.now = now;
    }

    /// The time.
    #[must_use]
    pub(super) fn now(&self) -> Instant {
        self.now
    }

    fn stack_now(&self) -> StackInstant {
        let passed = self.now.saturating_duration_since(self.start);
        StackInstant::from_micros(i64::try_from(passed.as_micros()).unwrap_or(i64::MAX))
    }

    /// What connecting takes.
    pub(super) fn context(&mut self) -> &mut smoltcp::iface::Context {
        self.interface.context()
    }

    /// Gives a packet to the socket in `sockets`.
    pub(super) fn receive(&mut self, sockets: &mut SocketSet<'_>, packet: &[u8], output: &mut Output) {
        let now = self.stack_now();
        self.interface.poll_ingress_single(now, &mut Tap { packet: Some(packet), output }, sockets);
    }

    /// Sends what the socket in `sockets` has to send, as long as there is room. `true` when nothing is left.
    pub(super) fn transmit(&mut self, sockets: &mut SocketSet<'_>, output: &mut Output) -> bool {
        let now = self.stack_now();
        loop {
            if output.is_full() {
                return false;
            }
            let mut tap = Tap { packet: None, output };
            if self.interface.poll_egress(now, &mut tap, sockets) == smoltcp::iface::PollResult::None {
                return true;
            }
        }
    }

    /// When the socket in `sockets` wants to be looked at again.
    pub(super) fn deadline(&mut self, sockets: &SocketSet<'_>) -> Option<Instant> {
        let now = self.stack_now();
        let at = self.interface.poll_at(now, sockets)?;
        let micros = u64::try_from(at.total_micros()).unwrap_or(0);
        Some(self.start + std::time::Duration::from_micros(micros))
    }
}

/// One packet in, any number out.
struct Tap<'a> {
    packet: Option<&'a [u8]>,
    output: &'a mut Output,
}

struct Received<'a>(&'a [u8]);
struct Room<'a>(&'a mut Output);

impl Device for Tap<'_> {
    type RxToken<'a>
        = Received<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = Room<'a>
    where
        Self: 'a;

    fn receive(&mut self, _: StackInstant) -> Option<(Received<'_>, Room<'_>)> {
        let packet = self.packet.take()?;
        Some((Received(packet), Room(self.output)))
    }

    fn transmit(&mut self, _: StackInstant) -> Option<Room<'_>> {
        Some(Room(self.output))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = MTU;
        // See `packet`: with checksum offload there is nothing to verify. What is sent gets its checksum in [`Room`].
        capabilities.checksum.tcp = Checksum::None;
        capabilities
    }
}

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0)
    }
}

impl TxToken for Room<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        self.0.packet(length, |bytes| {
            let result = write(bytes);
            checksum::fill_tcp(bytes);
            result
        })
    }
}
