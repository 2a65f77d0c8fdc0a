//! The other sandboxes of a sandbox's groups: where they are, and calling them.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use super::flow::Pair;
use super::hail::Hail;
use crate::net::group::{Kind, Roster, Seat};
use crate::net::policy::{Name, Protocol};

/// A sandbox's places in its groups.
#[derive(Debug, Default)]
pub struct Members {
    seats: Vec<Seat>,
    roster: Option<Roster>,
}

impl Members {
    /// Of these groups.
    #[must_use]
    pub fn new(seats: Vec<Seat>, roster: Roster) -> Self {
        Self { seats, roster: Some(roster) }
    }

    /// The places.
    #[must_use]
    pub fn seats(&self) -> &[Seat] {
        &self.seats
    }

    /// Whether `address` is one of the sandbox's own.
    #[must_use]
    pub(super) fn is_own(&self, address: IpAddr) -> bool {
        self.seats.iter().any(|seat| seat.address == address)
    }

    /// The group in whose network `address` is.
    #[must_use]
    pub(super) fn seat_of(&self, address: IpAddr) -> Option<&Seat> {
        self.seats.iter().find(|seat| seat.subnet.contains(&address))
    }

    /// Whether the guest takes `address` for a neighbour, whom the gateway answers for.
    #[must_use]
    pub(super) fn is_neighbor(&self, address: IpAddr) -> bool {
        self.seat_of(address).is_some_and(|seat| seat.address != address)
    }

    /// Every name of the groups with its address, if that may have changed.
    pub(super) fn changed_names(&mut self) -> Option<Vec<(Name, IpAddr)>> {
        self.roster.as_mut()?.changed()
    }

    /// Calls the member that the sandbox calls `pair.remote`: the connection, and what is to be said on it first.
    ///
    /// # Errors
    /// `EHOSTUNREACH` where nobody is there, `EAGAIN` where too many call at once.
    pub(super) fn call(&self, protocol: Protocol, pair: &Pair) -> nix::Result<(OwnedFd, Hail)> {
        let seat = self.seat_of(pair.remote.ip()).ok_or(nix::Error::EHOSTUNREACH)?;
        let kind = if protocol == Protocol::Tcp { Kind::Stream } else { Kind::Messages };
        let socket = seat.door.connect(pair.remote.ip(), kind).map_err(|errno| match errno {
            nix::Error::ENOENT | nix::Error::ECONNREFUSED => nix::Error::EHOSTUNREACH,
            errno => errno,
        })?;
        let caller = SocketAddr::new(seat.address, pair.guest.port());
        Ok((socket, Hail { protocol, caller, called: pair.remote }))
    }
}
