//! The lab's wire: one bridge that the server sits on, and a tap for every network card.

use std::net::Ipv4Addr;

use anyhow::Context;

use crate::lab::process::output;

/// The bridge `br0` in this network namespace.
#[derive(Clone, Debug)]
pub struct Network(());

impl Network {
    /// The interface that `farrier serve` listens on.
    pub const BRIDGE: &'static str = "br0";
    /// The server's address.
    pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

    /// Brings up the loopback, and the bridge with the server's address.
    ///
    /// Multicast snooping is off: a bridge that snoops drops router solicitations until it has seen a
    /// listener report. Duplicate address detection is off, so that IPv6 link-local works at once.
    ///
    /// # Errors
    /// When `ip` is missing or the kernel refuses.
    pub fn create() -> anyhow::Result<Network> {
        let ip = |args: &str| {
            output("ip", &args.split(' ').collect::<Vec<_>>()).context("making the lab's network")
        };
        ip("link set lo up")?;
        ip("link add br0 type bridge mcast_snooping 0 stp_state 0 forward_delay 0")?;
        // Containers may mount /proc/sys read-only or lack IPv6; then duplicate detection costs a second.
        let _ = std::fs::write("/proc/sys/net/ipv6/conf/br0/accept_dad", "0");
        ip("addr add 10.77.0.1/24 dev br0")?;
        ip("link set br0 up")?;
        Ok(Network(()))
    }

    /// Makes a tap on the bridge and gives its name.
    ///
    /// # Errors
    /// When /dev/net/tun is missing or not ours to open, or the name is taken.
    pub fn tap(&self, name: &str) -> anyhow::Result<()> {
        let ip = |args: &[&str]| output("ip", args);
        ip(&["tuntap", "add", "dev", name, "mode", "tap"]).with_context(|| {
            format!(
                "making tap {name} (needs /dev/net/tun: `sudo modprobe tun`, and it must be readable for you)"
            )
        })?;
        ip(&["link", "set", name, "master", Self::BRIDGE])?;
        ip(&["link", "set", name, "up"])?;
        Ok(())
    }

    /// The address of the lab's machine number `number`, from 1: 10.77.0.11, .12, …
    pub fn machine_address(number: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, 10 + number)
    }

    /// The MAC of the lab's machine number `number`, from 1: 52:54:00:77:00:0b, :0c, …
    pub fn machine_mac(number: u8) -> String {
        format!("52:54:00:77:00:{:02x}", 10 + number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::namespace::in_lab;

    #[test]
    fn a_bridge_and_a_tap_come_up_in_the_labs_namespace() {
        in_lab(|| {
            let network = Network::create().unwrap();
            network.tap("tap1").unwrap();
            let links = output("ip", &["-o", "addr", "show"]).unwrap();
            assert!(links.contains("10.77.0.1/24"), "{links}");
            assert!(
                output("ip", &["-o", "link", "show", "tap1"])
                    .unwrap()
                    .contains("master br0")
            );
        });
    }
}
