//! Which address was acknowledged to which machine.
//!
//! In reservation mode the reservation is the durable lease: the address is fixed, so what is kept here may be lost.
//! After a restart, before any ACK, a machine's address is the reservation's.
//!
//! An address that its machine found in use by another host is set aside for a while (RFC 2131 section 4.3.3). There is
//! no other address to give, and the other host may be gone by then. Pure: callers pass `now`.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime};

use macaddr::MacAddr6;

use crate::inventory::BootId;

/// An acknowledged address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    pub address: Ipv4Addr,
    pub at: SystemTime,
    pub boot: Option<BootId>,
    /// Option 61 of the request that was acknowledged.
    pub client_id: Option<Vec<u8>>,
}

/// How long a declined address is not given out. As dnsmasq has it for addresses of its configuration.
pub const SET_ASIDE: Duration = Duration::from_secs(10 * 60);

/// Acknowledged addresses of known machines: bounded by the inventory.
#[derive(Debug, Default)]
pub struct Leases {
    by_mac: HashMap<MacAddr6, Acknowledged>,
    by_address: HashMap<Ipv4Addr, MacAddr6>,
    /// Which address a machine declined, and when.
    declined: HashMap<MacAddr6, (Ipv4Addr, SystemTime)>,
}

impl Leases {
    /// Takes note of an ACK. An address that another machine had is this one's now.
    pub fn acknowledge(&mut self, mac: MacAddr6, lease: Acknowledged) {
        if let Some(old) = self.by_mac.get(&mac) {
            self.by_address.remove(&old.address);
        }
        if let Some(former) = self.by_address.insert(lease.address, mac)
            && former != mac
            && self
                .of(former)
                .is_some_and(|theirs| theirs.address == lease.address)
        {
            self.by_mac.remove(&former);
        }
        self.by_mac.insert(mac, lease);
    }

    /// Takes note of whose an address is by reservation, until an ACK says otherwise.
    pub fn reserve(&mut self, mac: MacAddr6, address: Ipv4Addr) {
        self.by_address.entry(address).or_insert(mac);
    }

    /// Takes note that a machine asked for its script from the address of its record: where another server does DHCP, there is no ACK.
    /// An address that was acknowledged to another machine stays that one's.
    pub fn seen(&mut self, mac: MacAddr6, address: Ipv4Addr) {
        let has = |owner: &MacAddr6| self.of(*owner).is_some_and(|lease| lease.address == address);
        if !self.by_address.get(&address).is_some_and(has) {
            self.by_address.insert(address, mac);
        }
    }

    /// Takes note that a machine found its address in use by another host: forgets that it has it, and sets it aside.
    pub fn decline(&mut self, now: SystemTime, mac: MacAddr6, address: Ipv4Addr) {
        self.forget(mac);
        self.declined.insert(mac, (address, now));
    }

    /// How much longer this address is not given to this machine; `None`: it may have it. Another address, by a record
    /// that was changed, is not set aside.
    pub fn set_aside(&mut self, now: SystemTime, mac: MacAddr6, address: Ipv4Addr) -> Option<Duration> {
        let &(declined, at) = self.declined.get(&mac)?;
        // A clock that was set back counts as no time passed.
        let left = SET_ASIDE.checked_sub(now.duration_since(at).unwrap_or_default());
        match left {
            Some(left) if declined == address && !left.is_zero() => Some(left),
            _ => {
                self.declined.remove(&mac);
                None
            }
        }
    }

    /// Forgets a machine's address (RELEASE, DECLINE).
    pub fn forget(&mut self, mac: MacAddr6) {
        if let Some(lease) = self.by_mac.remove(&mac) {
            self.by_address.remove(&lease.address);
        }
    }

    /// The address acknowledged to a machine, if any was since the start.
    pub fn of(&self, mac: MacAddr6) -> Option<&Acknowledged> {
        self.by_mac.get(&mac)
    }

    /// Whose address this is.
    pub fn owner(&self, address: Ipv4Addr) -> Option<MacAddr6> {
        self.by_address.get(&address).copied()
    }

    /// Where a machine's requests must come from: its acknowledged address, else the reserved one, if it has one.
    pub fn expected(&self, mac: MacAddr6, reserved: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
        self.of(mac).map(|lease| lease.address).or(reserved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: MacAddr6 = MacAddr6::new(2, 0, 0, 0, 0, 1);
    const B: MacAddr6 = MacAddr6::new(2, 0, 0, 0, 0, 2);

    fn lease(last: u8) -> Acknowledged {
        Acknowledged {
            address: Ipv4Addr::new(10, 0, 0, last),
            at: SystemTime::UNIX_EPOCH,
            boot: None,
            client_id: None,
        }
    }

    #[test]
    fn a_machine_has_one_address_and_an_address_one_machine() {
        let mut leases = Leases::default();
        leases.acknowledge(A, lease(1));
        leases.acknowledge(A, lease(2));
        assert_eq!(leases.owner(Ipv4Addr::new(10, 0, 0, 1)), None);
        leases.acknowledge(B, lease(2));
        assert_eq!(leases.of(A), None);
        assert_eq!(leases.owner(Ipv4Addr::new(10, 0, 0, 2)), Some(B));
        leases.forget(B);
        assert_eq!(leases.owner(Ipv4Addr::new(10, 0, 0, 2)), None);
    }

    #[test]
    fn an_address_is_its_reservations_until_somebody_is_told_that_it_has_it() {
        let mut leases = Leases::default();
        leases.reserve(A, Ipv4Addr::new(10, 0, 0, 1));
        assert_eq!(leases.owner(Ipv4Addr::new(10, 0, 0, 1)), Some(A));
        leases.acknowledge(A, lease(2));
        leases.acknowledge(B, lease(1));
        assert_eq!(leases.owner(Ipv4Addr::new(10, 0, 0, 1)), Some(B));
        assert_eq!(leases.owner(Ipv4Addr::new(10, 0, 0, 2)), Some(A));
        assert!(leases.of(A).is_some(), "another's address took this machine's");
    }

    #[test]
    fn without_an_ack_an_address_is_that_machines_which_asked_from_it() {
        let mut leases = Leases::default();
        let (first, second) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        leases.reserve(A, first);
        // Its record was another machine's when the server started.
        leases.seen(B, first);
        assert_eq!(leases.owner(first), Some(B));
        assert_eq!(leases.of(B), None, "nobody told it that it has the address");
        leases.acknowledge(A, lease(2));
        leases.seen(B, second);
        assert_eq!(leases.owner(second), Some(A));
    }

    #[test]
    fn the_reservation_stands_in_after_a_restart() {
        let mut leases = Leases::default();
        let reserved = Some(Ipv4Addr::new(10, 0, 0, 9));
        assert_eq!(leases.expected(A, reserved), reserved);
        leases.acknowledge(A, lease(1));
        assert_eq!(leases.expected(A, reserved), Some(Ipv4Addr::new(10, 0, 0, 1)));
        assert_eq!(leases.expected(B, None), None);
    }

    #[test]
    fn a_declined_address_is_set_aside_for_ten_minutes_or_until_the_record_names_another() {
        let mut leases = Leases::default();
        let (start, declined) = (SystemTime::UNIX_EPOCH, Ipv4Addr::new(10, 0, 0, 1));
        leases.acknowledge(A, lease(1));
        assert_eq!(leases.set_aside(start, A, declined), None);
        leases.decline(start, A, declined);
        assert_eq!(leases.of(A), None);
        assert_eq!(leases.set_aside(start, A, declined), Some(SET_ASIDE));
        assert_eq!(
            leases.set_aside(start, B, declined),
            None,
            "its own machine's only"
        );
        let almost = start + SET_ASIDE - Duration::from_secs(1);
        assert_eq!(
            leases.set_aside(almost, A, declined),
            Some(Duration::from_secs(1))
        );
        assert_eq!(leases.set_aside(start + SET_ASIDE, A, declined), None);

        leases.decline(start, A, declined);
        assert_eq!(leases.set_aside(start, A, Ipv4Addr::new(10, 0, 0, 2)), None);
    }
}
