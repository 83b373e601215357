//! iPXE scripts. Pure: values in, text out; every value that comes from outside is checked, so that none can become
//! a command ([`value`]).
//!
//! Commands used are in every iPXE of the last ten years. A script never falls through to what the firmware would boot
//! next unless it says so.

pub mod value;

use std::net::Ipv4Addr;

use mac::mac_text;
use macaddr::MacAddr6;

use crate::bootfile::UEFI_LOCAL_BOOT;
use crate::inventory::{Machine, NextBoot, Script};
use crate::overlays::Drivers;
pub use value::ScriptError;

/// What iPXE finds where it asks for `autoexec.ipxe`, before it does anything: to do at once what it would do by itself, after
/// it has waited for two seconds whether somebody wants its command line (Ctrl-B).
pub const AUTOEXEC: &str = "#!ipxe\nautoboot\n";
/// The same for the timeline.
pub const AUTOEXEC_WHY: &str = "iPXE boots at once, and does not wait for Ctrl-B";

/// What scripts say about this server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    pub address: Ipv4Addr,
    pub http_port: u16,
    pub grpc_port: u16,
    /// For machines that name no console.
    pub consoles: Vec<String>,
}

impl Server {
    /// `http://<address>:<port>`.
    pub fn http_url(&self) -> String {
        format!("http://{}:{}", self.address, self.http_port)
    }

    /// Where a machine finds its script.
    pub fn script_url(&self, mac: MacAddr6) -> String {
        format!("{}/ipxe/script/{}/auto.ipxe", self.http_url(), mac_text(mac))
    }

    /// Where a boot loader is.
    pub fn loader_url(&self, loader: &str) -> String {
        format!("{}/ipxe/binary/{loader}", self.http_url())
    }
}

/// The script that boots what the machine boots next; `None` where it boots nothing from here.
///
/// # Errors
/// [`ScriptError`] names the value that cannot stand in a script.
pub fn for_machine(
    server: &Server,
    machine: &Machine,
    token: &str,
    drivers: &Drivers,
) -> Result<Option<String>, ScriptError> {
    match &machine.next {
        NextBoot::Agent { .. } if *drivers == Drivers::AskAgain => Ok(Some(ask_again(server, machine))),
        NextBoot::Agent { reason } => agent(server, machine, reason, token, drivers).map(Some),
        NextBoot::LocalDisk { reason } => Ok(Some(local_disk(server, &machine.name, reason))),
        NextBoot::Nothing { .. } => Ok(None),
        NextBoot::Script {
            script: Script::Url(url),
        } => custom_url(&machine.name, url).map(Some),
        NextBoot::Script {
            script: Script::Contents(contents),
        } => Ok(Some(custom_contents(contents))),
    }
}

/// Boots the in-memory agent. When a file does not arrive the script is asked for again, so that a machine that waits
/// for a server finds out what it is to boot by then.
///
/// # Errors
/// [`ScriptError`] names the value that cannot stand in a script.
pub fn agent(
    server: &Server,
    machine: &Machine,
    reason: &str,
    token: &str,
    drivers: &Drivers,
) -> Result<String, ScriptError> {
    let http = server.http_url();
    let command_line = agent_command_line(server, machine, token, drivers)?;
    let archives: Vec<String> = archives(drivers)
        .map(|name| format!("initrd --name {name} {http}/boot/{name} && "))
        .collect();
    let archives = archives.concat();
    let note = drivers.note().map_or_else(String::new, |note| {
        format!("echo Farrier: {}\n", value::text(&note))
    });
    let script_url = server.script_url(machine.mac);
    let name = value::text(&machine.name);
    let reason = value::text(reason);
    Ok(format!(
        "#!ipxe\n\
         echo Farrier: {name} boots the agent: {reason}\n\
         {note}\
         :fetch\n\
         imgfree\n\
         kernel {http}/boot/vmlinuz {command_line} && {archives}boot ||\n\
         imgfree\n\
         echo Farrier: the agent could not be fetched from {http}, trying again in 3 s\n\
         sleep 3\n\
         chain --replace --autofree {script_url} || goto fetch\n"
    ))
}

/// The first archive has what every machine needs.
fn archives(drivers: &Drivers) -> impl Iterator<Item = String> {
    let overlays = drivers.overlays().iter().map(|name| drivers::archive_of(name));
    ["initramfs.img".to_owned()].into_iter().chain(overlays)
}

/// Asks for the script again and says on which card: only iPXE knows. `netX` is the one that it booted from.
fn ask_again(server: &Server, machine: &Machine) -> String {
    let script_url = server.script_url(machine.mac);
    format!(
        "#!ipxe\n\
         :ask\n\
         chain --replace --autofree {script_url}?{CARD}=${{netX/busid}} ||\n\
         echo Farrier: the script could not be fetched from {}, trying again in 3 s\n\
         sleep 3\n\
         goto ask\n",
        server.http_url()
    )
}

/// The agent's kernel command line.
///
/// # Errors
/// [`ScriptError`] names the word that cannot stand in a script.
pub fn agent_command_line(
    server: &Server,
    machine: &Machine,
    token: &str,
    drivers: &Drivers,
) -> Result<String, ScriptError> {
    let consoles = if machine.consoles.is_empty() {
        &server.consoles
    } else {
        &machine.consoles
    };
    let mac = mac_text(machine.mac);
    // For UEFI, which hands over by name.
    let mut words: Vec<String> = archives(drivers).map(|name| format!("initrd={name}")).collect();
    for console in consoles {
        words.extend(value::words("console", console)?);
    }
    words.push("panic=10".to_owned());
    words.push(format!("hw_addr={mac}"));
    words.push(format!("worker_id={mac}"));
    words.push(format!("grpc_authority={}:{}", server.address, server.grpc_port));
    words.push(format!("farrier.http={}", server.http_url()));
    words.push(format!("farrier.token={}", value::word("boot token", token)?));
    if let Some(vlan_id) = machine.vlan_id {
        words.push(format!("vlan_id={vlan_id}"));
    }
    for parameter in &machine.kernel_params {
        words.extend(value::words("kernel parameter", parameter)?);
    }
    Ok(words.join(" "))
}

/// Boots the machine's own disk, with either firmware: iPXE knows which one it runs on.
pub fn local_disk(server: &Server, name: &str, reason: &str) -> String {
    format!(
        "#!ipxe\n\
         echo Farrier: {} boots its own disk: {}\n\
         iseq ${{platform}} efi && goto uefi ||\n\
         {}\
         :uefi\n\
         {}",
        value::text(name),
        value::text(reason),
        local_disk_bios(),
        local_disk_uefi(server),
    )
}

/// The first disk of a BIOS; should it not boot, the firmware goes on with its boot order.
pub fn local_disk_bios() -> &'static str {
    "sanboot --no-describe --drive 0x80 || exit 1\n"
}

/// GRUB, which finds `/EFI/BOOT/BOOTX64.EFI`: iPXE's own `sanboot` and `exit` do not reach the disk on UEFI.
pub fn local_disk_uefi(server: &Server) -> String {
    format!(
        "chain --autofree {} || exit 1\n",
        server.loader_url(UEFI_LOCAL_BOOT)
    )
}

/// Goes on with the operator's script at `url`.
///
/// # Errors
/// [`ScriptError`] where the URL is none, or cannot stand in a script.
pub fn custom_url(name: &str, url: &str) -> Result<String, ScriptError> {
    let url = value::url("script url", url)?;
    Ok(format!(
        "#!ipxe\necho Farrier: {} boots its own script\nchain --autofree {url}\n",
        value::text(name)
    ))
}

/// The operator's script as it is: it is meant to hold commands. The first line is added where it is missing.
pub fn custom_contents(contents: &str) -> String {
    if contents.starts_with("#!ipxe") {
        contents.to_owned()
    } else {
        format!("#!ipxe\n{contents}")
    }
}

/// What a script says in its URL of the card that it boots from: iPXE's `busid`.
pub(crate) const CARD: &str = "card";

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    fn server() -> Server {
        Server {
            address: Ipv4Addr::new(10, 77, 0, 1),
            http_port: 7080,
            grpc_port: 42113,
            consoles: vec!["console=tty0".into(), "console=ttyS0,115200".into()],
        }
    }

    fn machine(next: NextBoot) -> Machine {
        Machine {
            name: "node1".into(),
            mac: MacAddr6::new(0x52, 0x54, 0, 0x77, 0, 0x0b),
            lease: None,
            next,
            kernel_params: vec![],
            vlan_id: None,
            consoles: vec![],
        }
    }

    #[track_caller]
    fn script(machine: &Machine) -> String {
        for_machine(&server(), machine, "0123456789abcdef", &Drivers::InBase)
            .unwrap()
            .unwrap()
    }

    #[test]
    fn boots_the_agent() {
        assert_snapshot!(script(&machine(NextBoot::Agent { reason: "workflow 0192 is PENDING".into() })), @r"
        #!ipxe
        echo Farrier: node1 boots the agent: workflow 0192 is PENDING
        :fetch
        imgfree
        kernel http://10.77.0.1:7080/boot/vmlinuz initrd=initramfs.img console=tty0 console=ttyS0,115200 panic=10 hw_addr=52:54:00:77:00:0b worker_id=52:54:00:77:00:0b grpc_authority=10.77.0.1:42113 farrier.http=http://10.77.0.1:7080 farrier.token=0123456789abcdef && initrd --name initramfs.img http://10.77.0.1:7080/boot/initramfs.img && boot ||
        imgfree
        echo Farrier: the agent could not be fetched from http://10.77.0.1:7080, trying again in 3 s
        sleep 3
        chain --replace --autofree http://10.77.0.1:7080/ipxe/script/52:54:00:77:00:0b/auto.ipxe || goto fetch
        ");
    }

    #[test]
    fn asks_on_which_card_and_fetches_what_drives_it() {
        let machine = machine(NextBoot::Agent {
            reason: "workflow 0192 is PENDING".into(),
        });
        let script = |drivers: &Drivers| for_machine(&server(), &machine, "t", drivers).unwrap().unwrap();
        assert_snapshot!(script(&Drivers::AskAgain), @r"
        #!ipxe
        :ask
        chain --replace --autofree http://10.77.0.1:7080/ipxe/script/52:54:00:77:00:0b/auto.ipxe?card=${netX/busid} ||
        echo Farrier: the script could not be fetched from http://10.77.0.1:7080, trying again in 3 s
        sleep 3
        goto ask
        ");
        let sent = Drivers::Sent {
            overlays: vec!["hypervisors".into(), "intel-1g".into()],
            card: "8086:10d3".into(),
        };
        assert_snapshot!(script(&sent), @r"
        #!ipxe
        echo Farrier: node1 boots the agent: workflow 0192 is PENDING
        :fetch
        imgfree
        kernel http://10.77.0.1:7080/boot/vmlinuz initrd=initramfs.img initrd=drivers-hypervisors.img initrd=drivers-intel-1g.img console=tty0 console=ttyS0,115200 panic=10 hw_addr=52:54:00:77:00:0b worker_id=52:54:00:77:00:0b grpc_authority=10.77.0.1:42113 farrier.http=http://10.77.0.1:7080 farrier.token=t && initrd --name initramfs.img http://10.77.0.1:7080/boot/initramfs.img && initrd --name drivers-hypervisors.img http://10.77.0.1:7080/boot/drivers-hypervisors.img && initrd --name drivers-intel-1g.img http://10.77.0.1:7080/boot/drivers-intel-1g.img && boot ||
        imgfree
        echo Farrier: the agent could not be fetched from http://10.77.0.1:7080, trying again in 3 s
        sleep 3
        chain --replace --autofree http://10.77.0.1:7080/ipxe/script/52:54:00:77:00:0b/auto.ipxe || goto fetch
        ");
        let unknown = script(&Drivers::Unknown {
            card: "1234:5678".into(),
        });
        assert_eq!(unknown.lines().count(), 10);
        assert!(
            unknown.contains("\necho Farrier: no driver of the boot image names the network card 1234:5678"),
            "{unknown}"
        );
        // What iPXE says is shown, and never becomes a command.
        let evil = script(&Drivers::All {
            overlays: vec![],
            said: "${net0/mac}\nshell".into(),
        });
        assert!(evil.lines().count() == 10 && !evil.contains("${"), "{evil}");
    }

    #[test]
    fn the_machines_own_words_come_last() {
        let mut machine = machine(NextBoot::Agent {
            reason: String::new(),
        });
        machine.consoles = vec!["console=ttyS1,9600".into()];
        machine.vlan_id = Some(77);
        machine.kernel_params = vec!["quiet".into(), "intel_iommu=on iommu=pt".into()];
        assert_snapshot!(agent_command_line(&server(), &machine, "t", &Drivers::InBase).unwrap(), @"initrd=initramfs.img console=ttyS1,9600 panic=10 hw_addr=52:54:00:77:00:0b worker_id=52:54:00:77:00:0b grpc_authority=10.77.0.1:42113 farrier.http=http://10.77.0.1:7080 farrier.token=t vlan_id=77 quiet intel_iommu=on iommu=pt");
    }

    #[test]
    fn boots_the_disk() {
        assert_snapshot!(script(&machine(NextBoot::LocalDisk { reason: "its last workflow succeeded".into() })), @r"
        #!ipxe
        echo Farrier: node1 boots its own disk: its last workflow succeeded
        iseq ${platform} efi && goto uefi ||
        sanboot --no-describe --drive 0x80 || exit 1
        :uefi
        chain --autofree http://10.77.0.1:7080/ipxe/binary/local-boot.efi || exit 1
        ");
    }

    #[test]
    fn boots_the_operators_script() {
        let url = Script::Url("https://boot.netboot.xyz/menu.ipxe".into());
        assert_snapshot!(script(&machine(NextBoot::Script { script: url })), @r"
        #!ipxe
        echo Farrier: node1 boots its own script
        chain --autofree https://boot.netboot.xyz/menu.ipxe
        ");
        let contents = Script::Contents("shell\n".into());
        assert_snapshot!(script(&machine(NextBoot::Script { script: contents })), @r"
        #!ipxe
        shell
        ");
    }

    #[test]
    fn no_value_becomes_a_command() {
        for evil in [
            "a\nshell",
            "x\r",
            "${net0/mac}",
            "&&",
            "a || shell",
            "#",
            "tab\u{1b}",
            "end\\",
            "é",
        ] {
            let mut machine = machine(NextBoot::Agent { reason: evil.into() });
            let lines = script(&machine).lines().count();
            assert_eq!(lines, 9, "a reason is only words: {evil:?}");
            assert!(!script(&machine).contains("${"), "{evil:?}");
            machine.kernel_params = vec![evil.into()];
            let error = for_machine(&server(), &machine, "t", &Drivers::InBase)
                .unwrap_err()
                .to_string();
            assert!(error.starts_with("kernel parameter"), "{error}");
            machine.kernel_params.clear();
            machine.consoles = vec![evil.into()];
            assert!(
                for_machine(&server(), &machine, "t", &Drivers::InBase).is_err(),
                "{evil:?}"
            );
            machine.consoles.clear();
            assert!(
                for_machine(&server(), &machine, evil, &Drivers::InBase).is_err(),
                "{evil:?}"
            );
        }
        for evil in [
            "http://host/\nshell",
            "http://host/${net0/mac}",
            "http://host/ || shell",
            "file:///etc",
            "menu",
        ] {
            assert!(custom_url("n", evil).is_err(), "{evil:?}");
        }
    }
}
