//! How-to pages whose commands are typed into a shell, in order, on a host of their own. Most have [a root](world) in which
//! everything is where the page says; the oldest two a folder for `/var/lib/farrier` and `/backup`.
#![allow(clippy::unwrap_used, reason = "tests")]

mod another_dhcp_server;
mod host;
mod install;
mod no_answer;
mod page;
mod roll_out;
#[path = "../servers/mod.rs"]
mod servers;
mod switch_machines_on;
mod world;

use std::fs;
use std::process::Command;

use host::{Host, text_of};
use page::blocks;

#[test]
fn a_server_is_backed_up_and_restored_on_its_host_and_on_a_new_one() {
    let host = Host::new();
    let blocks = blocks("back-up-and-restore.md", "sh");
    let [back_up, keys, restore, new_host] = <[String; 4]>::try_from(blocks).expect("four steps");
    host.types("systemctl start farrier; farrier machine apply -f machine.yaml; echo hush | farrier secret set login");
    host.types(&back_up);
    host.types(&keys);
    assert!(host.at("backup/keys/secrets.key").exists());
    // What is done after the backup is gone with the restore, and what was there is back.
    host.types("farrier machine delete node1; echo other | farrier secret set second");
    let said = host.types(&restore);
    assert!(said.contains("node1"), "{said}");
    let secrets = host.types("farrier secret list -o name");
    assert_eq!(secrets.trim(), "login");
    // The page's `rm -rf` is what a new host is.
    let said = host.types(&new_host);
    assert!(said.contains("node1"), "{said}");
    assert_eq!(host.types("farrier secret list -o name").trim(), "login");
    assert!(host.at("var/authority.pem").exists());
}

#[test]
fn a_server_is_upgraded_and_the_way_back_is_open() {
    let host = Host::new();
    let blocks = blocks("upgrade.md", "sh");
    host.types("systemctl start farrier; farrier machine apply -f machine.yaml");
    for block in &blocks {
        host.types(block);
    }
    assert_eq!(blocks.len(), 5);
    assert!(host.types("farrier machine list").contains("node1"));
}

/// Two networks at the host, and somebody on each who tries what the page lets in and what it does not.
const TRIES: &str = r#"
mount -t tmpfs none /run
for net in eth0 eth1; do
    ip netns add $net
    ip link add $net type veth peer name far netns $net
    ip link set $net up
    ip -n $net link set far up
done
ip addr add 192.0.2.1/24 dev eth0
ip addr add 10.77.0.1/24 dev eth1
ip link set lo up
ip -n eth0 addr add 192.0.2.2/24 dev far
ip -n eth1 addr add 10.77.0.2/24 dev far
$FARRIER serve --interface eth1 --address 10.77.0.1 --api-listen 0.0.0.0:42115 --no-ra --data-dir $DATA 2> serve.log >/dev/null &
trap "kill $!" EXIT
while ! grep -q '^farrier: ready ' serve.log; do kill -0 $! || { cat serve.log >&2; exit 1; }; sleep 0.05; done
opens() { ip netns exec $1 timeout 3 bash -c "</dev/tcp/$2/$3" 2>/dev/null; }
opens eth1 10.77.0.1 42115 || { echo "without rules the API is not reached"; exit 1; }
nft -f rules
opens eth1 10.77.0.1 7080 || echo "HTTP is not let in"
opens eth1 10.77.0.1 42113 || echo "agents are not let in"
opens eth0 192.0.2.1 42115 || echo "people are not let in"
ip netns exec eth1 curl -sS --max-time 5 -o loader tftp://10.77.0.1/snponly.efi || echo "TFTP is not let in"
cmp -s loader $DATA/boot/snponly.efi || echo "TFTP gave something else"
if opens eth1 10.77.0.1 42115; then echo "machines reach the API"; fi
if opens eth0 192.0.2.1 7080; then echo "people reach HTTP"; fi
if opens eth0 10.77.0.1 42113; then echo "people reach agents' port"; fi
"#;

#[test]
fn the_firewall_lets_in_machines_and_people_each_where_they_belong() {
    let folder = tempfile::TempDir::new().expect("folder");
    let rules = blocks("firewall.md", "nft");
    fs::write(folder.path().join("rules"), &rules[0]).expect("write");
    let data = folder.path().join("data");
    fs::create_dir_all(data.join("boot")).expect("boot");
    for name in [
        "vmlinuz",
        "initramfs.img",
        "undionly.kpxe",
        "local-boot.efi",
        "snponly.efi",
    ] {
        fs::write(
            data.join("boot").join(name),
            "a loader of more than a block".repeat(100),
        )
        .expect("write");
    }
    let output = Command::new("unshare")
        .args([
            "--net",
            "--mount",
            "--fork",
            "--kill-child",
            "bash",
            "-euc",
            TRIES,
        ])
        .env("FARRIER", env!("CARGO_BIN_EXE_farrier"))
        .env("DATA", &data)
        .current_dir(folder.path())
        .output()
        .expect("unshare");
    assert_eq!(
        (text_of(&output.stdout).as_str(), output.status.code()),
        ("", Some(0)),
        "{}",
        text_of(&output.stderr)
    );
}
