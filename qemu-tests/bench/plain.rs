//! The same kernel without a network: QEMU loads it, and its init says one line and exits.

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

/// Power on to the line that init says.
pub(super) fn boot(machine: &mut Machine) -> anyhow::Result<Duration> {
    machine.power_on()?;
    machine.wait_for_serial(SAYS.trim_end(), Duration::from_secs(120))?;
    let took = machine
        .on_since()
        .context("the machine has just been switched on")?
        .elapsed();
    // The kernel panics when init exits, and QEMU ends.
    machine.wait_until_off(Duration::from_secs(60))?;
    machine.power_cut();
    Ok(took)
}

const SAYS: &str = "the plain init has started\n";

/// A static ELF of one segment: `write(1, SAYS, …); _exit(0)`.
fn init() -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    #[rustfmt::skip]
    let mut code = vec![
        0xb8, 1, 0, 0, 0, // mov eax, 1: write
        0xbf, 1, 0, 0, 0, // mov edi, 1
        0x48, 0x8d, 0x35, 16, 0, 0, 0, // lea rsi, [rip + 16]: the text, behind the code
        0xba, 0, 0, 0, 0, // mov edx, length
        0x0f, 0x05, // syscall
        0xb8, 60, 0, 0, 0, // mov eax, 60: exit
        0x31, 0xff, // xor edi, edi
        0x0f, 0x05, // syscall
    ];
    code.splice(18..22, u32::try_from(SAYS.len()).unwrap_or(0).to_le_bytes());
    code.extend(SAYS.as_bytes());
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
        let said = crate::lab::process::output(path.to_str().unwrap(), &[]).unwrap();
        assert_eq!(said, SAYS);
    }
}
