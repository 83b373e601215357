//! The same kernel without a network: QEMU loads it, and its init says how much memory there is, one line more, and exits.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use image::cpio::{Node, Tree};

use crate::lab::machine::{Blueprint, Machine};
use crate::lab::run_dir::RunDir;

/// A machine that boots the kernel of this boot image directory directly.
pub(super) fn machine(boot_dir: &Path, run_dir: &RunDir, memory_mib: u32) -> anyhow::Result<Machine> {
    let mut tree = Tree::default();
    tree.add(
        "dev/console",
        Node::CharacterDevice {
            permissions: 0o600,
            major: 5,
            minor: 1,
        },
    )?;
    tree.add("m", Node::Directory { permissions: 0o755 })?;
    tree.add(
        "init",
        Node::File {
            permissions: 0o755,
            content: init(),
        },
    )?;
    let initramfs = run_dir.path().join("plain-initramfs.img");
    let file = fs::File::create(&initramfs).with_context(|| format!("making {}", initramfs.display()))?;
    tree.write_to(file)?;
    Blueprint::new("plain")
        .memory_mib(memory_mib)
        .kernel(
            &boot_dir.join("vmlinuz"),
            &initramfs,
            "console=ttyS0,115200 panic=-1",
        )
        .build(run_dir, None)
}

/// What was seen of a boot of the kernel alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Floor {
    /// Power on to the line that init says.
    pub(super) took: Duration,
    /// What the kernel itself has of the memory.
    pub(super) used_kib: u64,
}

/// Boots it; the machine is off again afterwards.
pub(super) fn boot(machine: &mut Machine) -> anyhow::Result<Floor> {
    machine.power_on()?;
    machine.wait_for_serial(SAYS.trim_end(), Duration::from_secs(120))?;
    let took = machine
        .on_since()
        .context("the machine has just been switched on")?
        .elapsed();
    let said = machine.said();
    let used_kib = used_kib(&said).with_context(|| format!("the kernel's memory in {said:?}"))?;
    // The kernel panics when init exits, and QEMU ends.
    machine.wait_until_off(Duration::from_secs(60))?;
    machine.power_cut();
    Ok(Floor { took, used_kib })
}

/// `MemTotal` less `MemAvailable`, of what init prints of /proc/meminfo.
fn used_kib(said: &str) -> Option<u64> {
    let kib = |name: &str| -> Option<u64> {
        let (_, rest) = said.split_once(name)?;
        rest.split_whitespace().next()?.parse().ok()
    };
    kib("MemTotal:")?.checked_sub(kib("MemAvailable:")?)
}

const SAYS: &str = "the plain init has started\n";
/// proc(5) is mounted there: no other system has a folder of this name, so that init can be tried on one.
const PROC: &str = "/m\0";
const MEMINFO: &str = "/m/meminfo\0";
const KIND: &str = "proc\0";
/// The first three lines of /proc/meminfo, of 28 characters each: MemTotal, MemFree, MemAvailable.
const MEMINFO_BYTES: u8 = 84;

/// A static ELF of one segment. In C: `mount("proc", "/m", "proc", 0, 0); write(1, buffer, read(open("/m/meminfo", 0), buffer, 84));
/// write(1, SAYS, …); _exit(0)`.
fn init() -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let mut program = Program::default();
    program.address_of(KIND, &[0x48, 0x8d, 0x3d]); // lea rdi, [rip + KIND]
    program.address_of(PROC, &[0x48, 0x8d, 0x35]); // lea rsi, [rip + PROC]
    #[rustfmt::skip]
    program.code(&[
        0x48, 0x89, 0xfa, // mov rdx, rdi
        0x45, 0x31, 0xd2, // xor r10d, r10d
        0x45, 0x31, 0xc0, // xor r8d, r8d
        0xb8, 165, 0, 0, 0, // mov eax, 165: mount
        0x0f, 0x05, // syscall
    ]);
    program.address_of(MEMINFO, &[0x48, 0x8d, 0x3d]); // lea rdi, [rip + MEMINFO]
    #[rustfmt::skip]
    program.code(&[
        0x31, 0xf6, // xor esi, esi
        0xb8, 2, 0, 0, 0, // mov eax, 2: open
        0x0f, 0x05, // syscall
        0x89, 0xc7, // mov edi, eax
        0x48, 0x83, 0xec, 0x60, // sub rsp, 96
        0x48, 0x89, 0xe6, // mov rsi, rsp
        0xba, MEMINFO_BYTES, 0, 0, 0, // mov edx, 84
        0x31, 0xc0, // xor eax, eax: read
        0x0f, 0x05, // syscall
        0x48, 0x89, 0xc2, // mov rdx, rax
        0xbf, 1, 0, 0, 0, // mov edi, 1
        0xb8, 1, 0, 0, 0, // mov eax, 1: write
        0x0f, 0x05, // syscall
        0xb8, 1, 0, 0, 0, // mov eax, 1: write
        0xbf, 1, 0, 0, 0, // mov edi, 1
        0xba, SAYS.len() as u8, 0, 0, 0, // mov edx, length
    ]);
    program.address_of(SAYS, &[0x48, 0x8d, 0x35]); // lea rsi, [rip + SAYS]
    #[rustfmt::skip]
    program.code(&[
        0x0f, 0x05, // syscall
        0xb8, 60, 0, 0, 0, // mov eax, 60: exit
        0x31, 0xff, // xor edi, edi
        0x0f, 0x05, // syscall
    ]);
    let code = program.assembled();
    let length = HEADERS + code.len() as u64;
    let mut elf = Vec::new();
    elf.extend([0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    // ET_EXEC, EM_X86_64, version.
    elf.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    // Entry, program headers, section headers.
    for word in [BASE + HEADERS, 64, 0] {
        elf.extend(word.to_le_bytes());
    }
    // Flags; sizes and counts of headers.
    elf.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 64, 0, 0, 0, 0, 0]);
    // PT_LOAD, readable and executable.
    elf.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    for word in [0, BASE, BASE, length, length, 0x1000] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend(code);
    elf
}

/// Machine code, and the texts behind it that it names.
#[derive(Default)]
struct Program {
    code: Vec<u8>,
    /// Where the distance to a text is to be put.
    named: Vec<(usize, &'static str)>,
}

impl Program {
    fn code(&mut self, bytes: &[u8]) {
        self.code.extend(bytes);
    }

    /// An instruction that ends with the distance to a text.
    fn address_of(&mut self, text: &'static str, instruction: &[u8]) {
        self.code.extend(instruction);
        self.named.push((self.code.len(), text));
        self.code.extend([0; 4]);
    }

    fn assembled(mut self) -> Vec<u8> {
        for (at, text) in self.named {
            let distance = u32::try_from(self.code.len() - (at + 4)).unwrap_or_default();
            self.code.splice(at..at + 4, distance.to_le_bytes());
            self.code.extend(text.as_bytes());
        }
        self.code
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_init_is_a_program_that_runs() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("init");
        fs::write(&path, init()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        // Nothing is mounted here, as there is no folder for it.
        let said = crate::lab::process::output(path.to_str().unwrap(), &[]).unwrap();
        assert_eq!(said, SAYS);
    }

    #[test]
    fn the_kernels_own_memory_is_what_is_not_available() {
        let said = "[    1.9] x\r\nMemTotal:         992864 kB\r\nMemFree:          904512 kB\r\nMemAvailable:     889924 kB\r\n";
        assert_eq!(used_kib(said), Some(992_864 - 889_924));
        assert_eq!(used_kib("MemTotal: 7 kB\nMemAvailable: 8 kB\n"), None);
        assert_eq!(used_kib(SAYS), None);
    }
}
