//! docs/how-to/log-in.md: both templates of the page, on a disk with a system that has the programs which they run.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::page::all_blocks;
use crate::world::World;
use crate::{LoopDisk, begin, boots, system};

const PAGE: &str = "log-in.md";
const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKey ann@example.com";

pub(crate) fn somebody_can_log_in_with_cloud_init_and_without(world: &World) {
    begin(world);
    let tree = world.at("tree");
    let programs = [
        "/bin/sh",
        "/usr/bin/chown",
        "/usr/bin/id",
        "/usr/bin/install",
        "/usr/sbin/chpasswd",
        "/usr/sbin/useradd",
    ];
    system::install(world, &tree, &programs);
    // Passwords are PAM's.
    let security = world.types("dirname $(find /usr/lib -name pam_unix.so)");
    world.types(&format!(
        "mkdir -p tree{0}; cp {0}/pam_*.so tree{0}; cp -r /etc/pam.d /etc/login.defs tree/etc/; ln -s bash tree/usr/bin/true
         echo root:x:0:0::/root:/bin/sh > tree/etc/passwd; echo root:x:0: > tree/etc/group
         echo 'root:*:1::::::' > tree/etc/shadow; chmod 600 tree/etc/shadow",
        security.trim()
    ));
    system::copy(world, &tree, &Path::new(security.trim()).join("pam_unix.so"));
    world.types("truncate -s 96M disk; mke2fs -q -F -t ext4 -d tree disk");
    let disk = LoopDisk::of(world, &world.at("disk"));

    let [cloud_init] = all_blocks(PAGE, "yaml template");
    let [plain] = all_blocks(PAGE, "yaml plain");
    let [seed, configure] = all_blocks(PAGE, "sh");
    world.writes("login.yaml", &cloud_init);
    world.writes("plain.yaml", &plain);
    world.writes("password", "correct horse\n");
    boots(world);
    for block in [&seed, &configure] {
        world.types(&block.replace("ROOT", &disk.device));
    }

    world.types(&format!("mkdir root; mount -o ro {} root", disk.device));
    let root = world.at("root");
    let read =
        |path: &str| fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    // With cloud-init.
    let id = world.types("farrier workflow list --template login -o name");
    let seeds = "var/lib/cloud/seed/nocloud";
    assert_eq!(
        read(&format!("{seeds}/meta-data")),
        format!("instance-id: {}\nlocal-hostname: node1\n", id.trim())
    );
    let user_data = read(&format!("{seeds}/user-data"));
    assert_eq!(user_data.lines().next(), Some("#cloud-config"));
    let user_data: serde_json::Value = serde_saphyr::from_str(&user_data).unwrap();
    let user = &user_data["users"][0];
    assert_eq!(
        (&user["name"], &user["ssh_authorized_keys"][0]),
        (&"ann".into(), &KEY.into())
    );
    let network: serde_json::Value =
        serde_saphyr::from_str(&read(&format!("{seeds}/network-config"))).unwrap();
    assert_eq!(
        network,
        serde_json::json!({"version": 2, "ethernets": {"lan0": {
            "match": {"macaddress": "52:54:00:77:00:0b"},
            "set-name": "lan0",
            "addresses": ["10.77.0.11/24"],
            "routes": [{"to": "0.0.0.0/0", "via": "10.77.0.1"}],
            "nameservers": {"addresses": ["10.77.0.1", "9.9.9.9"]},
        }}})
    );
    // Without.
    assert_eq!(read("etc/hostname"), "node1\n");
    assert_eq!(
        read("etc/systemd/network/10-boot.network"),
        "[Match]\nMACAddress=52:54:00:77:00:0b\n\n[Network]\nAddress=10.77.0.11/24\nGateway=10.77.0.1\n"
    );
    let passwd = read("etc/passwd");
    assert!(
        passwd.lines().any(|line| line.starts_with("ann:x:1000:")),
        "{passwd}"
    );
    let shadow = read("etc/shadow");
    let hash = shadow.lines().find_map(|line| line.strip_prefix("ann:")).unwrap();
    assert!(hash.starts_with('$') && !shadow.contains("horse"), "{shadow}");
    assert_eq!(read("home/ann/.ssh/authorized_keys"), format!("{KEY}\n"));
    let keys = fs::metadata(root.join("home/ann/.ssh")).unwrap();
    assert_eq!((keys.uid(), keys.mode() & 0o777), (1000, 0o700));
    world.types("umount root");
}
