//! docs/how-to/another-dhcp-server.md: dnsmasq as the page sets it up, a client that asks as firmware and iPXE do, and what it
//! is told to fetch.

use std::collections::BTreeMap;

use crate::page::all_blocks;
use crate::world::{World, in_a_world};

const PAGE: &str = "another-dhcp-server.md";
const NODE1: &str = "52:54:00:77:00:0b";
const SCRIPT: &str = "http://10.77.0.1:7080/ipxe/script/${netX/mac}/auto.ipxe";
const LOADER: &str = "http://10.77.0.1:7080/ipxe/binary/snponly.efi";

/// How firmware and iPXE ask (options 60, 93, 77, 175), and what the page says that they have to be told.
const ASK: [(&str, &str); 5] = [
    (
        "-V PXEClient:Arch:00000:UNDI:002001 -x 0x5d:0000",
        "undionly.kpxe",
    ),
    ("-V PXEClient:Arch:00007:UNDI:003016 -x 0x5d:0007", "snponly.efi"),
    ("-V PXEClient:Arch:00009:UNDI:003016 -x 0x5d:0009", "snponly.efi"),
    ("-V HTTPClient:Arch:00016:UNDI:003001 -x 0x5d:0010", LOADER),
    (
        "-V PXEClient:Arch:00007:UNDI:003010 -x 0x5d:0007 -x 0x4d:69505845 -x 0xaf:130101",
        SCRIPT,
    ),
];

/// Prints what it is told, and takes the address.
const TOLD: &str = "\
#!/bin/sh
if [ \"$1\" = bound ]; then
    env
    ip address replace \"$ip/24\" dev \"$interface\"
fi
";

/// What a machine is told that asks so; `None` where nobody answers.
pub(crate) fn asks(world: &World, host: &str, how: &str) -> Option<BTreeMap<String, String>> {
    if !world.tries("command -v told").status.success() {
        world.program("told", TOLD);
    }
    let asked = world.tries(&format!(
        "ip netns exec {host} busybox udhcpc -i card -f -n -q -t 2 -T 1 -s /usr/local/bin/told -O bootfile -O tftp {how}"
    ));
    let said = String::from_utf8(asked.stdout).unwrap();
    let pairs = said.lines().filter_map(|line| line.split_once('='));
    let told: BTreeMap<String, String> = pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    told.contains_key("ip").then_some(told)
}

/// The boot file, wherever in the answer it stands.
fn file(told: &BTreeMap<String, String>) -> Option<&str> {
    let file = told.get("bootfile").or_else(|| told.get("boot_file"));
    file.map(String::as_str).filter(|file| !file.is_empty())
}

pub(crate) fn dnsmasq(world: &World, conf: &str) {
    // Its name of the interface is the page's, in its own network.
    world.types("ip -n other link set card down; ip -n other link set card name eth1 up; ip -n other addr add 10.77.0.2/24 dev eth1");
    world.writes("farrier.conf", conf);
    world.types(
        "ip netns exec other dnsmasq --conf-file=farrier.conf --port=0 --user=root --leasefile-ro --no-ping --pid-file=/run/dnsmasq.pid",
    );
}

#[test]
fn dnsmasq_gives_addresses_and_names_the_files_that_farrier_serves() {
    in_a_world(|world| {
        world.network(&[("other", "52:54:00:77:00:02"), ("node1", NODE1)]);
        world.server("");
        let [off, apply, log] = all_blocks(PAGE, "sh");
        let [record] = all_blocks(PAGE, "yaml machine");
        let [conf] = all_blocks(PAGE, "text dnsmasq");
        world.types(&off);
        world.writes("node1.yaml", &record);
        world.types(&apply);
        dnsmasq(world, &conf);
        for (how, named) in ASK {
            let told = asks(world, "node1", how).unwrap_or_else(|| panic!("no answer to {how}"));
            assert_eq!(
                (file(&told), told["ip"].as_str()),
                (Some(named), "10.77.0.11"),
                "{how}: {told:?}"
            );
            // The file is there, and is the one.
            let url = match named {
                SCRIPT => SCRIPT.replace("${netX/mac}", NODE1),
                url if url.contains("://") => url.to_owned(),
                file => format!("tftp://{}/{file}", told["siaddr"]),
            };
            let got = world.types(&format!("ip netns exec node1 curl -sSf --max-time 5 {url}"));
            match named {
                SCRIPT => assert!(got.contains("node1 boots the agent"), "{got}"),
                _ => {
                    let name = url.rsplit('/').next().unwrap();
                    assert_eq!(
                        got,
                        std::fs::read_to_string(format!("/var/lib/farrier/boot/{name}")).unwrap()
                    );
                }
            }
            if named == LOADER {
                // Else UEFI's HTTP boot takes no notice of the answer (UEFI specification, 24.7.3.1).
                assert_eq!(
                    told.get("vendor").map(String::as_str),
                    Some("HTTPClient"),
                    "{told:?}"
                );
            }
        }
        // Who does not boot from the network is told no file.
        let told = asks(world, "node1", "").expect("an address");
        assert_eq!(
            (file(&told), told["serverid"].as_str()),
            (None, "10.77.0.2"),
            "{told:?}"
        );
        // What it fetches after its script is on its timeline, though Farrier never gave it an address.
        world.types(
            "ip netns exec node1 curl -sSf --max-time 5 -o vmlinuz http://10.77.0.1:7080/boot/vmlinuz",
        );
        let said = world.until(&log, |said| said.contains("GET /boot/vmlinuz"));
        assert!(
            said.contains("200: boots the agent") && !said.contains("dhcp"),
            "{said}"
        );
        // From another address than the record's the page's first line of troubles is what is seen.
        world.types("ip -n node1 addr flush dev card; ip -n node1 addr add 10.77.0.57/24 dev card");
        let refused = world.tries(&format!(
            "ip netns exec node1 curl -sSf --max-time 5 {}",
            SCRIPT.replace("${netX/mac}", NODE1)
        ));
        assert!(!refused.status.success());
        world.until(&log, |said| {
            said.contains("403: asked for node1's script from 10.77.0.57, whose address is 10.77.0.11")
        });
    });
}

#[test]
fn dnsmasq_is_silent_where_the_page_says_so_and_farrier_answers() {
    in_a_world(|world| {
        world.network(&[
            ("other", "52:54:00:77:00:02"),
            ("node1", NODE1),
            ("printer", "52:54:00:77:00:0c"),
        ]);
        world.server("");
        let [record] = all_blocks(PAGE, "yaml machine");
        world.writes("node1.yaml", &record);
        world.types("farrier machine apply -f node1.yaml");
        // Of the table, the line of dnsmasq.
        let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../docs/how-to")
            .join(PAGE);
        let page = std::fs::read_to_string(page).unwrap();
        let line = page
            .lines()
            .find(|line| line.starts_with("| dnsmasq | `"))
            .unwrap();
        let ignored = line.split('`').nth(1).unwrap();
        let pool =
            "interface=eth1\ndhcp-authoritative\ndhcp-range=10.77.0.100,10.77.0.199,255.255.255.0,12h\n";
        dnsmasq(world, &format!("{pool}{ignored}\n"));
        for (how, _) in ASK {
            let told = asks(world, "node1", how).unwrap_or_else(|| panic!("no answer to {how}"));
            assert_eq!(
                (told["ip"].as_str(), told["serverid"].as_str()),
                ("10.77.0.11", "10.77.0.1"),
                "{how}: {told:?}"
            );
        }
        let told = asks(world, "printer", "").expect("everybody else has an address");
        assert_eq!(told["serverid"], "10.77.0.2", "{told:?}");
    });
}

/// What Kea and ISC dhcpd are to send: both were tried by hand, and say the same as what dnsmasq is tested with.
#[test]
fn kea_and_dhcpd_are_told_the_same() {
    let [kea] = all_blocks(PAGE, "json kea");
    let kea: serde_json::Value = serde_json::from_str(&kea).unwrap();
    let classes = kea["Dhcp4"]["client-classes"].as_array().unwrap();
    let mut files: Vec<(&str, Option<&str>)> = classes
        .iter()
        .map(|class| {
            (
                class["boot-file-name"].as_str().unwrap(),
                class["next-server"].as_str(),
            )
        })
        .collect();
    files.sort_unstable();
    let server = Some("10.77.0.1");
    let mut wanted = [
        (SCRIPT, None),
        ("undionly.kpxe", server),
        ("snponly.efi", server),
        (LOADER, None),
    ];
    wanted.sort_unstable();
    assert_eq!(files, wanted);
    for class in classes {
        let (name, test) = (class["name"].as_str().unwrap(), class["test"].as_str().unwrap());
        assert!(
            name == "ipxe" || test.ends_with(" and not member('ipxe')"),
            "{name}: {test}"
        );
    }
    let [dhcpd] = all_blocks(PAGE, "text dhcpd");
    let mut server = None;
    let mut files = Vec::new();
    for line in dhcpd.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("next-server ") {
            server = Some(address.trim_end_matches(';'));
        }
        if let Some(file) = line.strip_prefix("filename ") {
            files.push((file.trim_matches(['"', ';']), server.take()));
        }
    }
    files.sort_unstable();
    assert_eq!(files, wanted);
    let [record] = all_blocks(PAGE, "yaml machine");
    for text in [record, dhcpd, kea.to_string()] {
        assert!(text.contains(NODE1) && text.contains("10.77.0.11"), "{text}");
    }
}
