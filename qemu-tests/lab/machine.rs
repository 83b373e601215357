//! A machine: QEMU with one firmware, network cards that come first in the boot order, and disks.

mod command_line;

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::os::fd::RawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::json;

use crate::lab::accelerator::Accelerator;
use crate::lab::devices::{DiskController, Nic};
use crate::lab::firmware::{Firmware, Ovmf};
use crate::lab::network::Network;
use crate::lab::process::Guarded;
use crate::lab::qmp::Qmp;
use crate::lab::run_dir::RunDir;
use crate::lab::scratch_disk::{self, ScratchDisk};
use crate::lab::serial::{Mark, SerialLog};
use crate::lab::wait::{Look, WaitError, wait_until};

/// What a machine is made of.
#[derive(Clone, Debug)]
pub struct Blueprint {
    name: String,
    firmware: Firmware,
    memory_mib: u32,
    cpus: u32,
    nic: Nic,
    cards: Vec<String>,
    /// Which of them comes first in the boot order.
    boot_card: usize,
    /// Cards that are not on the bridge, and the ends of their cables.
    cables: BTreeMap<usize, Cable>,
    controller: DiskController,
    disks: Vec<Disk>,
    sector_bytes: u32,
    records_writes: bool,
    uuid: uuid::Uuid,
    address: Ipv4Addr,
    kernel: Option<Kernel>,
    /// More of QEMU's own words.
    more: Vec<String>,
}

/// A cable straight to another machine's card: UDP ports of the lab's loopback, this end's and the other's.
#[derive(Clone, Copy, Debug)]
struct Cable {
    here: u16,
    there: u16,
}

/// A disk of a blueprint.
#[derive(Clone, Debug)]
struct Disk {
    size_bytes: u64,
    /// `None`: that of all disks of which nothing is said.
    controller: Option<DiskController>,
    /// `None`: as all disks of which nothing is said.
    sector_bytes: Option<u32>,
}

/// A kernel that QEMU loads itself, without firmware and network.
#[derive(Clone, Debug)]
struct Kernel {
    image: PathBuf,
    initramfs: PathBuf,
    command_line: String,
}

impl Blueprint {
    /// A BIOS machine with 1 GiB of memory, one processor, no network card and no disk.
    pub fn new(name: &str) -> Blueprint {
        Blueprint {
            name: name.to_owned(),
            firmware: Firmware::Bios,
            memory_mib: 1024,
            cpus: 1,
            nic: Nic::Virtio,
            cards: Vec::new(),
            boot_card: 0,
            cables: BTreeMap::new(),
            controller: DiskController::Virtio,
            disks: Vec::new(),
            sector_bytes: 512,
            records_writes: false,
            uuid: uuid::Uuid::new_v4(),
            address: Network::machine_address(1),
            kernel: None,
            more: Vec::new(),
        }
    }

    /// The lab's machine number `number`, from 1: `m1` with the first MAC and the first address.
    pub fn numbered(number: u8) -> Blueprint {
        let mut blueprint = Blueprint::new(&format!("m{number}")).nic(&Network::machine_mac(number));
        blueprint.address = Network::machine_address(number);
        blueprint
    }

    /// Chooses the firmware.
    pub fn firmware(mut self, firmware: Firmware) -> Blueprint {
        self.firmware = firmware;
        self
    }

    /// Memory in MiB.
    pub fn memory_mib(mut self, memory_mib: u32) -> Blueprint {
        self.memory_mib = memory_mib;
        self
    }

    /// Processors.
    pub fn cpus(mut self, cpus: u32) -> Blueprint {
        self.cpus = cpus;
        self
    }

    /// What its network cards are: virtio if nothing is said.
    pub fn nics_are(mut self, nic: Nic) -> Blueprint {
        self.nic = nic;
        self
    }

    /// What its disks hang on: virtio if nothing is said.
    pub fn disks_are_on(mut self, controller: DiskController) -> Blueprint {
        self.controller = controller;
        self
    }

    /// Adds a network card on the lab's bridge; the first one comes first in the boot order, unless another is chosen.
    pub fn nic(mut self, mac: &str) -> Blueprint {
        self.cards.push(mac.to_owned());
        self
    }

    /// Adds a network card whose cable leads straight to another machine's: everything gets through it, LACP too, which no bridge
    /// of Linux forwards. `here` and `there` are the ends, numbers above 1023 that no other cable has.
    pub fn cabled_nic(mut self, mac: &str, here: u16, there: u16) -> Blueprint {
        self.cables.insert(self.cards.len(), Cable { here, there });
        self.nic(mac)
    }

    /// Chooses the card that comes first in the boot order, from 0 in the order of the bus.
    pub fn boots_from(mut self, card: usize) -> Blueprint {
        self.boot_card = card;
        self
    }

    /// Adds an empty disk; it comes after the network cards in the boot order.
    pub fn disk(mut self, size_bytes: u64) -> Blueprint {
        self.disks.push(Disk {
            size_bytes,
            controller: None,
            sector_bytes: None,
        });
        self
    }

    /// As [`Blueprint::disk`], on a controller of its kind and with sectors of its size, whatever the other disks have.
    pub fn disk_on(mut self, controller: DiskController, sector_bytes: u32, size_bytes: u64) -> Blueprint {
        self.disks.push(Disk {
            size_bytes,
            controller: Some(controller),
            sector_bytes: Some(sector_bytes),
        });
        self
    }

    /// Adds words of QEMU's command line: devices and settings that only one test wants.
    pub fn qemu(mut self, words: &[&str]) -> Blueprint {
        self.more.extend(words.iter().map(|word| (*word).to_owned()));
        self
    }

    /// The size of the disks' logical sectors: 512 if nothing is said.
    pub fn sector_bytes(mut self, sector_bytes: u32) -> Blueprint {
        self.sector_bytes = sector_bytes;
        self
    }

    /// Records what is written to the first disk, and flushed, in [`Machine::write_log`].
    pub fn records_writes(mut self) -> Blueprint {
        self.records_writes = true;
        self
    }

    /// Boots this kernel directly, and ends QEMU when the machine resets.
    pub fn kernel(mut self, image: &Path, initramfs: &Path, command_line: &str) -> Blueprint {
        self.kernel = Some(Kernel {
            image: image.to_owned(),
            initramfs: initramfs.to_owned(),
            command_line: command_line.to_owned(),
        });
        self
    }

    /// Makes the disks, the network taps and the files of the machine; it is off.
    ///
    /// # Errors
    /// When the host refuses any of them; names it.
    pub fn build(self, run_dir: &RunDir, network: Option<&Network>) -> anyhow::Result<Machine> {
        let directory = run_dir.sub(&self.name)?;
        let disks = self
            .disks
            .iter()
            .map(|disk| ScratchDisk::create(&scratch_disk::directory(), disk.size_bytes))
            .collect::<anyhow::Result<Vec<_>>>()?;
        for index in (0..self.cards.len()).filter(|index| !self.cables.contains_key(index)) {
            let network = network.context("a machine with a network card needs a network")?;
            network.tap(&command_line::tap_name(&self.name, index))?;
        }
        let ovmf = match (self.firmware, &self.kernel) {
            (Firmware::Uefi, None) => Some(private_variables(&Ovmf::find()?, &directory)?),
            _ => None,
        };
        Ok(Machine {
            serial: SerialLog::new(directory.join("serial.log")),
            accelerator: Accelerator::probe(),
            blueprint: self,
            directory,
            disks,
            ovmf,
            running: None,
        })
    }
}

/// A machine of the lab. Switched off hard when it is dropped.
#[derive(Debug)]
pub struct Machine {
    blueprint: Blueprint,
    directory: PathBuf,
    disks: Vec<ScratchDisk>,
    ovmf: Option<Ovmf>,
    accelerator: Accelerator,
    serial: SerialLog,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    qemu: Guarded,
    qmp: Qmp,
    since: Instant,
    mark: Mark,
}

impl Machine {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.blueprint.name
    }

    /// The MAC of the network card that it boots from, or nothing.
    pub fn mac(&self) -> &str {
        self.blueprint
            .cards
            .get(self.blueprint.boot_card)
            .map_or("", String::as_str)
    }

    /// The address that the lab gives it.
    pub fn address(&self) -> Ipv4Addr {
        self.blueprint.address
    }

    /// Its firmware.
    pub fn firmware(&self) -> Firmware {
        self.blueprint.firmware
    }

    /// What Linux calls its first disk.
    pub fn disk_device(&self) -> String {
        self.blueprint.controller.linux_disk(0)
    }

    /// What it says on its serial line.
    pub fn serial(&self) -> &SerialLog {
        &self.serial
    }

    /// The socket of its serial line: what is written to it is typed on the machine.
    pub fn serial_socket(&self) -> PathBuf {
        self.directory.join("serial.sock")
    }

    /// Serial log, QEMU's own output and the pcap of every wire are here.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Disk `index`, from 0, in the order in which they were added.
    ///
    /// # Panics
    /// When the machine has fewer.
    pub fn disk(&mut self, index: usize) -> &mut ScratchDisk {
        let name = &self.blueprint.name;
        self.disks
            .get_mut(index)
            .unwrap_or_else(|| panic!("machine {name} has no disk {index}"))
    }

    /// What was written to its first disk since it was switched on, in the format of Linux's dm-log-writes.
    pub fn write_log(&self) -> PathBuf {
        command_line::write_log(&self.directory)
    }

    /// Switches it on. Its disks are as they were left.
    ///
    /// # Errors
    /// When it is on, or QEMU ends at once: with what QEMU said.
    pub fn power_on(&mut self) -> anyhow::Result<()> {
        if self.is_on() {
            bail!("machine {} is already on", self.blueprint.name);
        }
        let mark = self.serial.mark();
        let fds: Vec<RawFd> = self.disks.iter().map(ScratchDisk::fd).collect();
        let said = self.directory.join("qemu.log");
        let said_file = fs::File::create(&said).with_context(|| format!("making {}", said.display()))?;
        if self.blueprint.records_writes {
            fs::File::create(self.write_log()).context("making the log of writes")?;
        }
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args(command_line::arguments(
                &self.blueprint,
                &self.directory,
                self.ovmf.as_ref(),
                self.accelerator,
                &fds,
            ))
            .stdin(Stdio::null())
            .stdout(said_file.try_clone()?)
            .stderr(said_file);
        let inherited = fds.clone();
        // SAFETY: between fork and exec only fcntl is called, which is async-signal-safe; the descriptors are
        // owned by `self.disks`, which outlives the spawn.
        unsafe {
            command.pre_exec(move || {
                for &fd in &inherited {
                    if libc::fcntl(fd, libc::F_SETFD, 0) < 0 {
                        return Err(std::io::Error::last_os_error());
                    }
                }
                Ok(())
            });
        }
        // A stale socket would be connected to before QEMU has replaced it.
        let socket = command_line::qmp_socket(&self.directory);
        let _ = fs::remove_file(&socket);
        let since = Instant::now();
        let mut qemu = Guarded::start(&mut command).context("the Debian package is qemu-system-x86")?;
        let qmp = match Qmp::connect(&socket, &mut qemu) {
            Ok(qmp) => qmp,
            Err(error) => {
                let words = fs::read_to_string(&said).unwrap_or_default();
                let ended = qemu
                    .ended()
                    .map_or("still runs".to_owned(), |status| status.to_string());
                return Err(error.context(format!(
                    "QEMU for machine {} ({ended}) said: {}",
                    self.blueprint.name,
                    words.trim()
                )));
            }
        };
        self.running = Some(Running {
            qemu,
            qmp,
            since,
            mark,
        });
        Ok(())
    }

    /// Whether QEMU runs.
    pub fn is_on(&mut self) -> bool {
        self.running
            .as_mut()
            .is_some_and(|running| running.qemu.ended().is_none())
    }

    /// When it was last switched on.
    pub fn on_since(&self) -> Option<Instant> {
        self.running.as_ref().map(|running| running.since)
    }

    /// What it said since it was last switched on.
    pub fn said(&self) -> String {
        self.serial.since(self.mark())
    }

    /// The place in the serial log at which it was last switched on.
    pub fn mark(&self) -> Mark {
        self.running
            .as_ref()
            .map(|running| running.mark)
            .unwrap_or_default()
    }

    /// Cuts the power: QEMU is killed. What the machine had written is on its disks.
    pub fn power_cut(&mut self) {
        self.running = None;
    }

    /// Presses the reset button.
    ///
    /// # Errors
    /// When it is off.
    pub fn reset(&mut self) -> anyhow::Result<()> {
        self.qmp()?.execute("system_reset", json!({})).map(drop)
    }

    /// Pulls the cable of network card `index` out, or puts it in again.
    ///
    /// # Errors
    /// When it is off, or has no such card.
    pub fn set_link(&mut self, index: usize, up: bool) -> anyhow::Result<()> {
        let arguments = json!({"name": format!("net{index}"), "up": up});
        self.qmp()?.execute("set_link", arguments).map(drop)
    }

    /// Stops its processors until [`Machine::resume`].
    ///
    /// # Errors
    /// When it is off.
    pub fn pause(&mut self) -> anyhow::Result<()> {
        self.qmp()?.execute("stop", json!({})).map(drop)
    }

    /// Goes on after [`Machine::pause`].
    ///
    /// # Errors
    /// When it is off.
    pub fn resume(&mut self) -> anyhow::Result<()> {
        self.qmp()?.execute("cont", json!({})).map(drop)
    }

    /// QEMU's control channel.
    ///
    /// # Errors
    /// When it is off.
    pub fn qmp(&mut self) -> anyhow::Result<&mut Qmp> {
        match &mut self.running {
            Some(running) => Ok(&mut running.qmp),
            None => bail!("machine {} is off", self.blueprint.name),
        }
    }

    /// Waits until it says `wanted` on its serial line, counted from when it was last switched on.
    ///
    /// # Errors
    /// After `deadline`, with the last line.
    pub fn wait_for_serial(&self, wanted: &str, deadline: Duration) -> Result<String, WaitError> {
        self.serial.wait_for(wanted, self.mark(), deadline)
    }

    /// Waits until it switches itself off (or resets, where a kernel was given).
    ///
    /// # Errors
    /// After `deadline`, with the last line of the serial log.
    pub fn wait_until_off(&mut self, deadline: Duration) -> Result<(), WaitError> {
        wait_until(
            &format!("machine {} to switch itself off", self.blueprint.name),
            deadline,
            || match self.is_on() {
                false => Look::Done(()),
                true => Look::not_yet(self.serial.last_lines(1).join("")),
            },
        )
    }
}

/// The same firmware code, with variables of this machine's own.
fn private_variables(ovmf: &Ovmf, directory: &Path) -> anyhow::Result<Ovmf> {
    let variables = directory.join("variables.fd");
    fs::copy(&ovmf.variables, &variables)
        .with_context(|| format!("copying {} to {}", ovmf.variables.display(), variables.display()))?;
    Ok(Ovmf {
        code: ovmf.code.clone(),
        variables,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::namespace::in_lab;

    #[test]
    fn a_machine_with_nothing_to_boot_says_so_and_obeys_its_control_channel() {
        in_lab(|| {
            let run_dir = RunDir::mount().unwrap();
            let mut machine = Blueprint::new("empty")
                .memory_mib(64)
                .disk(1 << 30)
                .build(&run_dir, None)
                .unwrap();
            assert!(!machine.is_on());
            machine.power_on().unwrap();
            machine
                .wait_for_serial("SeaBIOS", Duration::from_secs(60))
                .unwrap();
            machine
                .wait_for_serial("No bootable device", Duration::from_secs(60))
                .unwrap();
            assert_eq!(machine.qmp().unwrap().status().unwrap(), "running");
            machine.pause().unwrap();
            assert_eq!(machine.qmp().unwrap().status().unwrap(), "paused");
            machine.power_cut();
            assert!(!machine.is_on());
            assert!(
                machine
                    .reset()
                    .unwrap_err()
                    .to_string()
                    .contains("machine empty is off")
            );
            machine.power_on().unwrap();
            machine
                .wait_for_serial("SeaBIOS", Duration::from_secs(60))
                .unwrap();
        });
    }

    #[test]
    fn a_network_card_comes_before_a_bootable_disk() {
        in_lab(|| {
            let run_dir = RunDir::mount().unwrap();
            let network = Network::create().unwrap();
            let blueprint = Blueprint::numbered(1).memory_mib(64).disk(1 << 20);
            let mut machine = blueprint.build(&run_dir, Some(&network)).unwrap();
            // A boot sector that only stops: were the disk first, iPXE would never speak.
            let mut sector = [0; 512];
            sector[..3].copy_from_slice(&[0xfa, 0xf4, 0xf4]);
            sector[510..].copy_from_slice(&[0x55, 0xaa]);
            machine.disk(0).fill(&mut sector.as_slice()).unwrap();
            machine.power_on().unwrap();
            machine.wait_for_serial("iPXE", Duration::from_secs(60)).unwrap();
            machine.wait_for_serial("net0", Duration::from_secs(60)).unwrap();
            let captured = fs::metadata(machine.directory().join("net0.pcap")).unwrap();
            assert!(captured.len() >= 24, "the pcap has a header at least");
        });
    }
}
