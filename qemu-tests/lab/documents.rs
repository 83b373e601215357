//! What the lab tells the server: machines as Tinkerbell's Hardware, and the template that installs Debian.

use std::net::Ipv4Addr;

use crate::lab::network::Network;
use crate::lab::server::Server;

/// A machine that may netboot and run workflows (Tinkerbell Hardware v1alpha1).
pub fn hardware(name: &str, mac: &str, address: Ipv4Addr, disk: &str) -> String {
    format!(
        "\
apiVersion: tinkerbell.org/v1alpha1
kind: Hardware
metadata:
  name: {name}
spec:
  disks:
    - device: {disk}
  interfaces:
    - dhcp:
        arch: x86_64
        hostname: {name}
        mac: {mac}
        lease_time: 86400
        ip:
          address: {address}
          netmask: 255.255.255.0
          gateway: {gateway}
      netboot:
        allowPXE: true
        allowWorkflow: true
",
        gateway = Network::SERVER,
    )
}

/// A disk image that the server serves.
#[derive(Clone, Debug)]
pub struct ServedImage<'a> {
    /// Its file name below the images directory.
    pub file: &'a str,
    /// Of the file as it is downloaded.
    pub sha256: &'a str,
}

impl ServedImage<'_> {
    /// Where machines fetch it.
    pub fn url(&self) -> String {
        format!("http://{}/images/{}", Server::HTTP, self.file)
    }
}

/// The lab's template: Debian on one machine's `disk`, with its name, its network and the key of who may log in.
pub fn install_debian(
    template: &str,
    hostname: &str,
    mac: &str,
    address: Ipv4Addr,
    disk: &str,
    image: &ServedImage<'_>,
    public_key: &str,
) -> String {
    let root = root_of(disk);
    format!(
        "\
version: \"0.1\"
name: {template}
global_timeout: 3600
tasks:
  - name: install
    worker: \"{{{{.device_1}}}}\"
    actions:
      - name: write-image
        image: quay.io/tinkerbell/actions/image2disk:latest
        timeout: 1800
        environment:
          IMG_URL: {url}
          DEST_DISK: {disk}
          COMPRESSED: \"true\"
          SHA256: {sha256}
          GROW_ROOT: \"true\"
      - name: write-hostname
        image: quay.io/tinkerbell/actions/writefile:latest
        timeout: 120
        environment:
          DEST_DISK: {root}
          FS_TYPE: ext4
          DEST_PATH: /etc/hostname
          CONTENTS: |
            {hostname}
          UID: \"0\"
          GID: \"0\"
          MODE: \"0644\"
          DIRMODE: \"0755\"
      - name: write-network
        image: quay.io/tinkerbell/actions/writefile:latest
        timeout: 120
        environment:
          DEST_DISK: {root}
          FS_TYPE: ext4
          DEST_PATH: /etc/systemd/network/10-boot.network
          CONTENTS: |
            [Match]
            MACAddress={mac}

            [Network]
            Address={address}/24
            Gateway={gateway}
          UID: \"0\"
          GID: \"0\"
          MODE: \"0644\"
          DIRMODE: \"0755\"
      - name: write-ssh-key
        image: quay.io/tinkerbell/actions/writefile:latest
        timeout: 120
        environment:
          DEST_DISK: {root}
          FS_TYPE: ext4
          DEST_PATH: /root/.ssh/authorized_keys
          CONTENTS: |
            {public_key}
          UID: \"0\"
          GID: \"0\"
          MODE: \"0600\"
          DIRMODE: \"0700\"
      - name: check-hostname
        image: quay.io/tinkerbell/actions/cexec:latest
        timeout: 120
        environment:
          BLOCK_DEVICE: {root}
          FS_TYPE: ext4
          CHROOT: \"y\"
          DEFAULT_INTERPRETER: \"/bin/sh -c\"
          CMD_LINE: grep -x {hostname} /etc/hostname
      - name: reboot
        image: reboot
        timeout: 120
",
        url = image.url(),
        sha256 = image.sha256,
        gateway = Network::SERVER,
    )
}

/// The disk of a machine that is like most: a virtio one.
pub const DISK: &str = "/dev/vda";

/// The root filesystem of the lab's Debian image on a disk. Linux puts a `p` between two numbers.
fn root_of(disk: &str) -> String {
    let between = if disk.ends_with(|last: char| last.is_ascii_digit()) {
        "p"
    } else {
        ""
    };
    format!("{disk}{between}3")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_has_the_machine_as_its_variable_and_all_that_a_login_needs() {
        let image = ServedImage {
            file: "debian-13.raw.zst",
            sha256: "ab",
        };
        let address = Network::machine_address(1);
        let text = install_debian(
            "debian-m1",
            "m1",
            "52:54:00:77:00:0b",
            address,
            "/dev/nvme0n1",
            &image,
            "ssh-ed25519 AAAA lab",
        );
        for wanted in [
            "worker: \"{{.device_1}}\"",
            "IMG_URL: http://10.77.0.1:7080/images/debian-13.raw.zst",
            "DEST_DISK: /dev/nvme0n1\n",
            "BLOCK_DEVICE: /dev/nvme0n1p3\n",
            "            Address=10.77.0.11/24\n",
            "            ssh-ed25519 AAAA lab\n",
        ] {
            assert!(text.contains(wanted), "{wanted} is missing in\n{text}");
        }
    }

    #[test]
    fn hardware_names_mac_and_address() {
        let yaml = hardware("m1", "52:54:00:77:00:0b", Network::machine_address(1), "/dev/sda");
        for wanted in [
            "mac: 52:54:00:77:00:0b",
            "address: 10.77.0.11",
            "device: /dev/sda\n",
        ] {
            assert!(yaml.contains(wanted), "{wanted} is missing in\n{yaml}");
        }
    }
}
