//! docs/how-to/install.md: the files into place, the service as its unit says, and a second server beside it.

use std::fs;

use crate::another_dhcp_server::asks;
use crate::page::all_blocks;
use crate::world::{World, in_a_world};

const PAGE: &str = "install.md";

/// What somebody has built: the programs and the repository.
fn built(world: &World) {
    let repository = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    world.types(&format!(
        "mkdir -p target/release target/x86_64-unknown-linux-gnu/agent
         ln -s {} target/release/farrier
         echo '#!/bin/sh' > target/x86_64-unknown-linux-gnu/agent/farrier-agent
         ln -s {repository}/packaging packaging",
        env!("CARGO_BIN_EXE_farrier")
    ));
}

#[test]
fn a_server_is_installed_and_a_second_one_for_another_network() {
    in_a_world(|world| {
        built(world);
        world.network(&[("node1", "52:54:00:77:00:0b")]);
        let [binaries, service, well, second] = all_blocks(PAGE, "sh");
        let [here, there] = all_blocks(PAGE, "toml serve");
        world.types(&binaries);
        assert!(fs::metadata("/usr/lib/farrier/farrier-agent").is_ok());
        // What `farrier image build` would leave, as root's.
        world.boot_files();
        world.types(&service);
        let user = world.types("ps -o user= -p \"$(cat /run/farrier.pid)\"");
        assert_eq!(user.trim(), "farrier");
        let said = world.types(&well);
        for words in ["Server:     farrier ", "Machines:   none", "Workflows:  none"] {
            assert!(said.contains(words), "{said}");
        }
        assert!(
            said.lines().any(|line| line.starts_with("farrier1-")),
            "a token: {said}"
        );
        let ready = fs::read_to_string("/var/log/farrier").unwrap();
        assert!(ready.contains(" dhcp=0.0.0.0:67 tftp=0.0.0.0:69"), "{ready}");

        // Another network, with a machine that the other server knows.
        world.types(
            "ip link add eth2 type bridge forward_delay 0; ip link set eth2 up; ip addr add 10.78.0.1/24 dev eth2
             ip netns add db1; ip link add card address 52:54:00:78:00:0b netns db1 type veth peer name db1
             ip link set db1 master eth2 up; ip -n db1 link set card up",
        );
        fs::write("/etc/farrier.toml", here).unwrap();
        fs::write("/etc/farrier-eth2.toml", there).unwrap();
        world.types(&second);
        world.writes(
            "node1.yaml",
            "machine: node1\nmac: 52:54:00:77:00:0b\naddress: 10.77.0.11/24\n",
        );
        world.writes(
            "db1.yaml",
            "machine: db1\nmac: 52:54:00:78:00:0b\naddress: 10.78.0.11/24\n",
        );
        let other = second
            .lines()
            .last()
            .unwrap()
            .replace("machine list", "machine apply -f db1.yaml");
        world.types(&format!("farrier machine apply -f node1.yaml; {other}"));
        assert!(!world.types("farrier machine list").contains("db1"));
        assert!(world.types(second.lines().last().unwrap()).contains("db1"));
        // Each answers on its own network.
        for (host, address, server) in [
            ("node1", "10.77.0.11", "10.77.0.1"),
            ("db1", "10.78.0.11", "10.78.0.1"),
        ] {
            let told = asks(world, host, "").unwrap_or_else(|| panic!("{host} has no answer"));
            assert_eq!(
                (told["ip"].as_str(), told["serverid"].as_str()),
                (address, server),
                "{told:?}"
            );
        }
    });
}
