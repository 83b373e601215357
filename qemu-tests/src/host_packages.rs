//! What the lab needs of its host, as Debian packages: says what is missing and why, and installs it.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::Command;
use std::{env, fs, io};

use anyhow::{Context, bail, ensure};
use nix::unistd::Uid;

/// A program or file, the package that has it, and what for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// A program in PATH, or a file when it begins with `/`; alternatives are separated by `|`.
    pub probe: &'static str,
    /// Debian's and Ubuntu's package.
    pub package: &'static str,
    /// What it is for, in words.
    pub why: &'static str,
}

/// Whether installing may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consent {
    /// Ask on the terminal; without a terminal install without asking.
    Ask,
    /// Given by `--yes`.
    Given,
}

/// Installs what is missing of `needs`.
///
/// # Errors
/// When the person says no, on a distribution without apt-get (with the list), and when apt-get fails.
pub fn install(needs: &[Need], consent: Consent) -> anyhow::Result<()> {
    let missing: Vec<_> = needs.iter().filter(|need| !is_there(need.probe)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("The lab needs packages that are not installed:");
    for need in &missing {
        println!(
            "  {:<20} {} ({})",
            need.package,
            need.why,
            need.probe.replace('|', " or ")
        );
    }
    let mut packages: Vec<_> = missing.iter().map(|need| need.package).collect();
    packages.sort_unstable();
    packages.dedup();
    ensure!(
        is_there("apt-get")
            && has_debian_packages(&fs::read_to_string("/etc/os-release").unwrap_or_default()),
        "this is not Debian or Ubuntu: install the counterparts of {} and start again",
        packages.join(" ")
    );
    if consent == Consent::Ask && io::stdin().is_terminal() && !agreed()? {
        bail!(
            "nothing installed; the lab needs: apt-get install {}",
            packages.join(" ")
        );
    }
    apt_get(&["update", "-q"])?;
    apt_get(
        &[
            &["install", "-y", "-q", "--no-install-recommends"],
            packages.as_slice(),
        ]
        .concat(),
    )?;
    let still: Vec<_> = missing
        .iter()
        .filter(|need| !is_there(need.probe))
        .map(|need| need.probe)
        .collect();
    ensure!(
        still.is_empty(),
        "apt-get succeeded but {} is still not there",
        still.join(", ")
    );
    Ok(())
}

/// What running machines takes.
pub const MACHINES: &[Need] = &[
    need("qemu-system-x86_64", "qemu-system-x86", "runs the machines"),
    need(
        "/usr/lib/ipxe/qemu/pxe-virtio.rom|/usr/share/qemu/pxe-virtio.rom",
        "ipxe-qemu",
        "BIOS network card ROM",
    ),
    need(
        "/usr/share/OVMF/OVMF_CODE_4M.fd|/usr/share/OVMF/OVMF_CODE.fd",
        "ovmf",
        "UEFI firmware",
    ),
    need("ip", "iproute2", "makes the lab's network"),
    need("unshare", "util-linux", "makes the lab's namespaces"),
    need("ssh", "openssh-client", "logs in to the installed machine"),
];

/// What building the boot image and the Debian disk image takes.
pub const IMAGES: &[Need] = &[
    need("apt-get", "apt", "fetches the kernel and iPXE from Debian"),
    need(
        "/usr/share/keyrings/debian-archive-keyring.gpg",
        "debian-archive-keyring",
        "checks Debian's signatures",
    ),
    need("mmdebstrap", "mmdebstrap", "builds the Debian that is installed"),
    need("grub-mkimage", "grub-common", "builds boot loaders"),
    need(
        "/usr/lib/grub/i386-pc/kernel.img",
        "grub-pc-bin",
        "BIOS boot loader of the disk image",
    ),
    need(
        "/usr/lib/grub/x86_64-efi/kernel.img",
        "grub-efi-amd64-bin",
        "UEFI boot loader, local boot",
    ),
    need(
        "mke2fs",
        "e2fsprogs",
        "makes the root filesystem without mounting it",
    ),
    need("mkfs.vfat", "dosfstools", "makes the EFI system partition"),
    need(
        "mcopy",
        "mtools",
        "fills the EFI system partition without mounting it",
    ),
];

const fn need(probe: &'static str, package: &'static str, why: &'static str) -> Need {
    Need { probe, package, why }
}

/// Looks in PATH and where administrators' programs are, which is not in every PATH.
fn is_there(probe: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    probe.split('|').any(|probe| match probe.starts_with('/') {
        true => Path::new(probe).exists(),
        false => env::split_paths(&path)
            .chain(["/usr/sbin".into(), "/sbin".into()])
            .any(|directory| directory.join(probe).is_file()),
    })
}

/// Whether os-release names Debian, Ubuntu or a child of theirs.
fn has_debian_packages(os_release: &str) -> bool {
    os_release
        .lines()
        .filter_map(|line| line.split_once('='))
        .filter(|(key, _)| matches!(*key, "ID" | "ID_LIKE"))
        .flat_map(|(_, value)| value.trim_matches('"').split(' '))
        .any(|id| matches!(id, "debian" | "ubuntu"))
}

fn agreed() -> anyhow::Result<bool> {
    print!(
        "Install them with apt-get{}? [Y/n] ",
        if Uid::effective().is_root() {
            ""
        } else {
            " and sudo"
        }
    );
    io::stdout().flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "" | "y" | "yes"))
}

fn apt_get(args: &[&str]) -> anyhow::Result<()> {
    let mut command = match Uid::effective().is_root() {
        true => Command::new("apt-get"),
        false => {
            let mut sudo = Command::new("sudo");
            sudo.args(["--preserve-env=DEBIAN_FRONTEND", "apt-get"]);
            sudo
        }
    };
    let status = command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(args)
        .status()
        .with_context(|| format!("running apt-get {}", args.join(" ")))?;
    ensure!(
        status.success(),
        "apt-get {} failed ({status}), see above",
        args.join(" ")
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_debian_and_its_children() {
        assert!(has_debian_packages("PRETTY_NAME=\"Debian\"\nID=debian\n"));
        assert!(has_debian_packages("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n"));
        assert!(!has_debian_packages("ID=fedora\nVARIANT=debian\n"));
    }

    #[test]
    fn finds_programs_files_and_alternatives() {
        assert!(is_there("sh"));
        assert!(is_there("/no/such/file|/proc/version"));
        assert!(!is_there("no-such-program-at-all"));
    }
}
