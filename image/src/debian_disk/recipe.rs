//! What the Debian disk image is made of: packages, files, and what is taken out again.

use crate::apt::Suite;
use crate::checksum::sha256_of_bytes;
use crate::profile::Profile;

/// Packages beyond `Essential: yes`, apt and the kernel, without what they recommend. `login` and `passwd` were essential up to
/// Debian 12.
const PACKAGES: &[&str] = &[
    "e2fsprogs",
    "initramfs-tools",
    "iproute2",
    "kmod",
    "login",
    "openssh-server",
    "passwd",
    "systemd-sysv",
    "udev",
    "zstd",
];

/// What is installed: the packages, and the kernel that drives the machines of the profile.
pub(super) fn packages(profile: Profile) -> Vec<&'static str> {
    [PACKAGES, &[profile.kernel_package()]].concat()
}

/// Without these nobody gets into the system: what for, and which file, as Debian 12 and Debian 13 have it. A machine would
/// boot for a minute and stand there.
const NEEDED: &[(&str, &[&str])] = &[
    ("a kernel", &["boot/vmlinuz-*"]),
    ("an initramfs", &["boot/initrd.img-*"]),
    ("an init", &["sbin/init", "usr/sbin/init"]),
    ("a getty for the console", &["sbin/agetty", "usr/sbin/agetty"]),
    ("login, which the getty starts", &["bin/login", "usr/bin/login"]),
    ("PAM's rules for login", &["etc/pam.d/login"]),
    ("passwd", &["usr/bin/passwd"]),
    ("an SSH server", &["usr/sbin/sshd"]),
    ("ssh-keygen", &["usr/bin/ssh-keygen"]),
];

/// What a system does not have that somebody is to log in to. `files` are its paths, relative to its root.
pub(super) fn lacking<'a>(files: impl IntoIterator<Item = &'a str>) -> Vec<&'static str> {
    let mut lacking: Vec<_> = NEEDED.iter().collect();
    for file in files {
        lacking.retain(|(_, any)| !any.iter().any(|needed| is_meant(needed, file)));
    }
    lacking.into_iter().map(|(what, _)| *what).collect()
}

fn is_meant(needed: &str, file: &str) -> bool {
    match needed.strip_suffix('*') {
        Some(start) => file.starts_with(start),
        None => file == needed,
    }
}

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
/// added, and the generic kernel has ext4 as a module. What the cloud kernel does not have is passed over.
pub(super) const FIRST_FILES: &[(&str, &str)] = &[
    (
        "etc/initramfs-tools/conf.d/farrier",
        "MODULES=list\nCOMPRESS=zstd\nRESUME=none\n",
    ),
    (
        "usr/share/initramfs-tools/modules.d/farrier",
        "ext4\ncrc32c_generic\nvirtio_pci\nvirtio_mmio\nvirtio_blk\nvirtio_scsi\nsd_mod\nahci\nnvme\nmegaraid_sas\nmptsas\nsym53c8xx\nvmw_pvscsi\nam53c974\nxhci_pci\nusb_storage\nuas\nsdhci_pci\nmmc_block\n",
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
        ("etc/systemd/system.conf.d/farrier.conf", text(SYSTEMD)),
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
pub(super) fn digest(suite: &Suite, profile: Profile) -> String {
    let files: Vec<_> = FIRST_FILES
        .iter()
        .map(|(path, text)| (*path, (*text).to_string()))
        .collect();
    let all = (
        VERSION,
        suite.release(),
        packages(profile),
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
/// The console's getty waits for udev to see its serial line. On an emulated machine whose host is busy that was seen to take more than the
/// 90 s of systemd's default, and then nobody can log in there.
const SYSTEMD: &str = "[Manager]\nDefaultDeviceTimeoutSec=10min\n";
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

    /// Debian 13's disk was once built without `login`: nobody could log in, and only a test that waited for it saw that.
    #[test]
    fn a_system_that_nobody_can_log_in_to_is_told() {
        let debian_13 = [
            "boot/initrd.img-6.12.94+deb13-cloud-amd64",
            "boot/vmlinuz-6.12.94+deb13-cloud-amd64",
            "etc/pam.d/login",
            "usr/bin/login",
            "usr/bin/passwd",
            "usr/bin/ssh-keygen",
            "usr/sbin/agetty",
            "usr/sbin/init",
            "usr/sbin/sshd",
        ];
        assert_eq!(lacking(debian_13), [""; 0]);
        let without_login = debian_13.iter().filter(|file| !file.ends_with("/login"));
        assert_eq!(
            lacking(without_login.copied()),
            ["login, which the getty starts", "PAM's rules for login"]
        );
        let debian_12 = debian_13.map(|file| match file {
            "usr/bin/login" | "usr/sbin/agetty" | "usr/sbin/init" => file.trim_start_matches("usr/"),
            file => file,
        });
        assert_eq!(lacking(debian_12), [""; 0]);
        assert_eq!(lacking([]).len(), NEEDED.len());
    }

    #[test]
    fn the_kernel_is_that_of_the_profile_and_another_one_another_image() {
        let suite = Suite::default();
        assert!(packages(Profile::Lab).contains(&"linux-image-cloud-amd64"));
        assert!(packages(Profile::Server).contains(&"linux-image-amd64"));
        assert_ne!(digest(&suite, Profile::Lab), digest(&suite, Profile::Server));
        assert_ne!(
            digest(&suite, Profile::Lab),
            digest(&"bookworm".parse().unwrap(), Profile::Lab)
        );
    }
}
