//! Who this machine is and what it is made of, for the Hello.

use std::time::{Duration, SystemTime};

use disk::probe::System;
use mac::mac_text;
use macaddr::MacAddr6;
use proto::v1;

use super::core::Greeting;
use crate::console;
use crate::inventory;
use crate::screen;

/// What stays the same as long as the machine runs.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Lower case with colons.
    pub mac: String,
    pub smbios_uuid: String,
    /// Of the kernel's, for what is kept on this machine.
    pub kernel_boot_id: String,
    /// What the server knows this boot by.
    pub boot_id: String,
    pub token: String,
}

impl Identity {
    /// Reads the rest beside MAC and token from the kernel; what the platform lacks is empty.
    pub fn of_this_machine(mac: MacAddr6, token: String) -> Identity {
        let kernel_boot_id = first_line("/proc/sys/kernel/random/boot_id");
        Identity {
            mac: mac_text(mac),
            smbios_uuid: dmi("product_uuid").to_lowercase(),
            boot_id: kernel_boot_id.clone(),
            kernel_boot_id,
            token,
        }
    }

    /// What a person tells the machine by, on its screen.
    pub(crate) fn show_machine(state: &mut screen::State) {
        let words = [dmi("sys_vendor"), dmi("product_name")];
        state.product = console::printable(words.join(" ").trim());
        state.serial = console::printable(&dmi("product_serial"));
    }

    /// With a boot id that nothing but the agent knows.
    pub fn with_boot_id(self, boot_id: String) -> Identity {
        Identity { boot_id, ..self }
    }

    /// The Hello of a new stream.
    pub(super) fn hello(&self, greeting: Greeting) -> v1::Hello {
        let uptime = Duration::try_from_secs_f64(crate::console::uptime_s()).unwrap_or_default();
        v1::Hello {
            mac: self.mac.clone(),
            smbios_uuid: self.smbios_uuid.clone(),
            boot_id: self.boot_id.clone(),
            boot_token: self.token.clone(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            running_attempt: greeting.running,
            unacknowledged: greeting.unacknowledged,
            inventory: Some(Box::new(inventory::brief(&System::default()))),
            booted_at: SystemTime::now().checked_sub(uptime).map(Into::into),
            journal: greeting.journal,
            last_epoch: greeting.last_epoch,
            last_death: String::new(),
            notices: Vec::new(),
            runtimes: Vec::new(),
        }
    }
}

fn dmi(name: &str) -> String {
    first_line(&format!("/sys/class/dmi/id/{name}"))
}

fn first_line(path: &str) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().next().unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_says_who_and_when() {
        let identity = Identity::of_this_machine(MacAddr6::new(0x52, 0x54, 0, 0x77, 0, 0xB), "t".to_owned());
        let hello = identity.hello(Greeting::default());
        assert_eq!(
            (hello.mac.as_str(), hello.boot_id.len()),
            ("52:54:00:77:00:0b", 36)
        );
        assert!(hello.inventory.expect("inventory").cpus > 0);
    }
}
