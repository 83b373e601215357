//! What the lab needs of its host, as Debian packages: says what is missing and why, and installs it.

pub mod apt;

use std::io;

pub use apt::{Consent, Need};
use apt::{Host, need};

/// Installs what is missing of `needs`.
///
/// # Errors
/// When the person says no, on a distribution without apt-get (with the list), and when apt-get fails.
pub fn install(needs: &[Need], consent: Consent) -> anyhow::Result<()> {
    apt::install(needs, consent, "the lab", &Host::here(), &mut io::stdin().lock())
        .map_err(anyhow::Error::msg)
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
    need("gpgv", "gpgv", "checks Debian's signatures"),
    need("tar", "tar", "reads the Debian that is installed"),
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

/// What building the Debian disk image takes besides, for who is not root.
pub const IMAGES_WITHOUT_ROOT: &[Need] = &[need(
    "newuidmap",
    "uidmap",
    "gives mmdebstrap a range of user ids",
)];

#[cfg(test)]
mod tests {
    use image::packages::{BOOT_IMAGE, DEBIAN_DISK, DEBIAN_DISK_WITHOUT_ROOT};

    use super::*;

    #[test]
    fn what_the_image_builder_runs_is_installed() {
        let lists = [
            (BOOT_IMAGE, IMAGES),
            (DEBIAN_DISK, IMAGES),
            (DEBIAN_DISK_WITHOUT_ROOT, IMAGES_WITHOUT_ROOT),
        ];
        for (runs, installed) in lists {
            for host in runs {
                assert!(
                    installed.iter().any(|need| need.package == host.package),
                    "{} is not installed",
                    host.package
                );
            }
        }
    }
}
