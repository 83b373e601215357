//! What testing takes, as Debian packages. What the lab itself needs is known by `farrier lab`; a linker was there,
//! or this program would not run.

// The lab's own file: this program has no dependencies, and that file has none either.
#[allow(unreachable_pub, reason = "public in the lab's library")]
#[path = "../../qemu-tests/lab/host_packages/apt.rs"]
mod apt;

use std::io;

use apt::{Consent, Host};
pub(crate) use apt::{Need, need};

use crate::Outcome;

/// What building takes beside the linker.
pub(crate) const BUILD: &[Need] = &[MAKE];

const MAKE: Need = need("make", "make", "builds the memory allocator");

/// What unit and integration tests use: independent peers and tools to check against.
pub(crate) const TEST: &[Need] = &[
    MAKE,
    need("ip", "iproute2", "makes networks"),
    need("unshare", "util-linux", "makes namespaces"),
    need("nft", "nftables", "lists what filters and translates packets"),
    need("losetup", "mount", "makes loop devices"),
    need(
        "/usr/share/doc/busybox-static",
        "busybox-static",
        "the programs of test images",
    ),
    need("mke2fs", "e2fsprogs", "makes filesystems"),
    need("mkfs.vfat", "dosfstools", "makes filesystems"),
    need("mkfs.xfs", "xfsprogs", "makes filesystems"),
    need("mkfs.btrfs", "btrfs-progs", "makes filesystems"),
    need("cryptsetup", "cryptsetup-bin", "makes LUKS headers"),
    need("lvm", "lvm2", "makes volume groups"),
    need("mdadm", "mdadm", "makes superblocks of arrays"),
    need("dnsmasq", "dnsmasq-base", "a DHCP server to compare with"),
    need("xorriso", "xorriso", "reads ISO 9660"),
    need("sgdisk", "gdisk", "checks partition tables"),
    need("sfdisk", "fdisk", "checks partition tables"),
    need("curl", "curl", "an HTTP and TFTP client to compare with"),
    need("cpio", "cpio", "unpacks the boot image"),
    need("jq", "jq", "reads what commands print, in scripts of pages"),
    need("zstd", "zstd", "packs and unpacks images"),
    need("xz", "xz-utils", "packs images"),
    need("bzip2", "bzip2", "packs images"),
    need("lz4", "lz4", "packs images"),
    need(
        "docker-registry",
        "docker-registry",
        "a registry to pull images from",
    ),
    need("qemu-img", "qemu-utils", "makes qcow2 images"),
    need("containerd", "containerd", "runs actions that are images"),
    need("runc", "runc", "runs containerd's containers"),
    need(
        "skopeo",
        "skopeo",
        "a client that pulls from the server's registry",
    ),
    need("ipmi_sim", "openipmi", "a machine's management controller"),
    need("c++", "g++", "builds libFuzzer"),
    need("systemd-analyze", "systemd", "checks the unit of the server"),
    need("zsh", "zsh", "asks for completions"),
    need("fish", "fish", "asks for completions"),
    need("faketime", "faketime", "sets a server's clock"),
];

/// Installs what is missing of `needs` with apt-get; asks first on a terminal unless `assume_yes`.
pub(crate) fn install(needs: &[Need], assume_yes: bool) -> Outcome<()> {
    let consent = if assume_yes { Consent::Given } else { Consent::Ask };
    apt::install(needs, consent, "this", &Host::here(), &mut io::stdin().lock())
}
