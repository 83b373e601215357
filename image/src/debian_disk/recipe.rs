//! What the Debian disk image is made of: packages, files, and what is taken out again.

use crate::apt::Suite;
use crate::checksum::sha256_of_bytes;

/// Packages beyond `Essential: yes` and apt, without what they recommend.
pub(super) const PACKAGES: &[&str] = &[
    "e2fsprogs",
    "initramfs-tools",
    "iproute2",
    "kmod",
    "login",
    "linux-image-amd64",
    "openssh-server",
    "passwd",
    "systemd-sysv",
    "udev",
    "zstd",
];

/// dpkg leaves these out of every package; licences stay. Of the kernel's drivers those that no emulator has a use for:
/// they would be a half of the image.
pub(super) const PATH_RULES: &[&str] = &[
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/lintian/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/*lib/modules/*/kernel/drivers/bluetooth/*",
    "path-exclude=/*lib/modules/*/kernel/drivers/gpu/*",
    "path-exclude=/*lib/modules/*/kernel/drivers/iio/*",
    "path-exclude=/*lib/modules/*/kernel/drivers/infiniband/*",
    "path-exclude=/*lib/modules/*/kernel/drivers/media/*",
    "path-exclude=/*lib/modules/*/kernel/drivers/net/ethernet/mellanox/*",
    "path-exclude=/*lib/modules/*/kernel/drivers/net/wireless/*",
    "path-exclude=/*lib/modules/*/kernel/drivers/staging/*",
    "path-exclude=/*lib/modules/*/kernel/sound/*",
];

/// Files that must be there before any package is, because a package reads them while it is installed.
///
/// The initramfs takes only the drivers for disks that emulators offer: it is a tenth of the size. With a list, nothing else is
/// added, and the generic kernel has ext4 as a module.
pub(super) const FIRST_FILES: &[(&str, &str)] = &[
    (
        "etc/initramfs-tools/conf.d/farrier",
        "MODULES=list\nCOMPRESS=zstd\nRESUME=none\n",
    ),
    (
        "usr/share/initramfs-tools/modules.d/farrier",
        "ext4\ncrc32c_generic\nvirtio_pci\nvirtio_mmio\nvirtio_blk\nvirtio_scsi\nsd_mod\nahci\nnvme\nmegaraid_sas\nmptsas\nsym53c8xx\nvmw_pvscsi\n",
    ),
];

/// Files that are written when all packages are installed.
pub(super) fn last_files(suite: &Suite) -> Vec<(&'static str, String)> {
    let text = |text: &str| text.to_string();
    vec![
        (
            "etc/apt/sources.list.d/debian.sources",
            apt_sources(suite.release()),
        ),
        ("etc/default/locale", text("LANG=C.UTF-8\n")),
        ("etc/fstab", fstab()),
        ("etc/hostname", text("debian\n")),
        (
            "etc/hosts",
            text("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"),
        ),
        (
            "etc/resolv.conf",
            text("# Written by whoever configures the network.\n"),
        ),
        ("etc/systemd/system/ssh-host-keys.service", text(HOST_KEYS_UNIT)),
        ("boot/grub/grub.cfg", grub_cfg()),
    ]
}

/// Shell commands that run when all packages are installed, with the root of the new system as `$1`.
pub(super) const LAST_COMMANDS: &str = r#"
rm -f "$1"/etc/ssh/ssh_host_* "$1"/etc/apt/sources.list "$1"/etc/apt/apt.conf.d/99mmdebstrap
rm -f "$1"/etc/dpkg/dpkg.cfg.d/99mmdebstrap "$1"/var/lib/systemd/random-seed "$1"/var/lib/dbus/machine-id
rm -f "$1"/vmlinuz.old "$1"/initrd.img.old
rm -rf "$1"/var/log/* "$1"/var/cache/debconf/*-old "$1"/var/lib/dpkg/*-old
: > "$1"/etc/machine-id
chmod 0444 "$1"/etc/machine-id
mkdir -p -m 0700 "$1"/root/.ssh
mkdir -p "$1"/boot/efi
chroot "$1" passwd --quiet --lock root
chroot "$1" systemctl --quiet enable systemd-networkd.service ssh.service ssh-host-keys.service
chroot "$1" systemctl --quiet disable systemd-networkd-wait-online.service apt-daily.timer apt-daily-upgrade.timer \
    e2scrub_reap.service
# Without dbus it would open five more consoles that nobody asked for.
chroot "$1" systemctl --quiet mask getty-static.service
# Everything that systemd would bring up to date at the first start already is.
touch "$1"/etc/.updated "$1"/var/.updated
"#;

/// Returns a digest that changes whenever an image built by this recipe would be another.
pub(super) fn digest(suite: &Suite) -> String {
    let files: Vec<_> = FIRST_FILES
        .iter()
        .map(|(path, text)| (*path, (*text).to_string()))
        .collect();
    let all = (
        VERSION,
        suite.release(),
        PACKAGES,
        PATH_RULES,
        files,
        last_files(suite),
        LAST_COMMANDS,
        GRUB_MODULES_BIOS,
    );
    sha256_of_bytes(format!("{all:?} {GRUB_MODULES_UEFI:?}").as_bytes())
}

fn fstab() -> String {
    format!(
        "UUID={ROOT_UUID} / ext4 errors=remount-ro,x-systemd.growfs 0 1\n\
         LABEL={ESP_LABEL} /boot/efi vfat umask=0077,noauto 0 0\n"
    )
}

fn apt_sources(release: &str) -> String {
    let stanza = |url: &str, suites: &str| {
        format!(
            "Types: deb\nURIs: {url}\nSuites: {suites}\nComponents: main\n\
             Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
        )
    };
    let archive = stanza(
        "http://ftp.debian.org/debian",
        &format!("{release} {release}-updates"),
    );
    let security = stanza(
        "http://security.debian.org/debian-security",
        &format!("{release}-security"),
    );
    format!("{archive}\n{security}")
}

/// The links `/vmlinuz` and `/initrd.img` are kept by Debian's kernel packages, so an upgrade needs no new file.
fn grub_cfg() -> String {
    let arguments = format!("root=UUID={ROOT_UUID} ro console=tty0 console=ttyS0,115200 loglevel=4");
    let entry = |title: &str, suffix: &str| {
        format!(
            "menuentry \"{title}\" {{\n  linux /vmlinuz{suffix} {arguments}\n  initrd /initrd.img{suffix}\n}}\n"
        )
    };
    let head = "set default=0\nset timeout=0\nset timeout_style=hidden\n";
    format!(
        "{head}{}{}",
        entry("Debian", ""),
        entry("Debian, the kernel before", ".old")
    )
}

/// Of the root filesystem.
pub const ROOT_UUID: &str = "5b0c6f0e-4f0a-4d6f-9a5c-2f7d3c1be812";
pub(super) const ROOT_LABEL: &str = "debian-root";
pub(super) const ESP_LABEL: &str = "ESP";
/// Times in the image are not later than this, so that two builds of the same packages differ little.
pub(super) const EPOCH_S: u64 = 1_760_000_000;

/// GRUB finds its configuration on the third partition of the disk that it was itself started from.
pub(super) const GRUB_PREFIX: &str = "(,gpt3)/boot/grub";
pub(super) const GRUB_MODULES_BIOS: &[&str] = &[
    "biosdisk", "boot", "echo", "ext2", "linux", "minicmd", "normal", "part_gpt",
];
pub(super) const GRUB_MODULES_UEFI: &[&str] = &[
    "all_video",
    "boot",
    "echo",
    "ext2",
    "fat",
    "linux",
    "minicmd",
    "normal",
    "part_gpt",
];

/// Raised when the way the image is put together changes.
const VERSION: u32 = 2;
/// Not `ssh-keygen -A`: its RSA key takes ten seconds on an emulated processor, and sshd waits for it.
const HOST_KEYS_UNIT: &str = "[Unit]\nDescription=Make the SSH host keys of this machine\nBefore=ssh.service\n\
    ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key\n\n[Service]\nType=oneshot\n\
    ExecStart=/usr/bin/ssh-keygen -q -t ecdsa -N '' -f /etc/ssh/ssh_host_ecdsa_key\n\
    ExecStart=/usr/bin/ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key\n\n\
    [Install]\nWantedBy=multi-user.target\n";

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn commands_are_a_shell_script() {
        let output = Command::new("sh")
            .args(["-n", "-c", LAST_COMMANDS])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    #[test]
    fn boot_loader_kernel_and_fstab_agree_on_the_root() {
        let files = last_files(&Suite::default());
        let text = |path| &files.iter().find(|(at, _)| *at == path).unwrap().1;
        let root = format!("UUID={ROOT_UUID} ");
        assert!(text("etc/fstab").starts_with(&root));
        assert_eq!(
            text("boot/grub/grub.cfg")
                .matches(&format!("root={root}"))
                .count(),
            2
        );
    }
}
