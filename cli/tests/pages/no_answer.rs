//! docs/how-to/no-answer.md: what the page says that is seen, is seen. Each trouble is made, and the timeline looked at.

use std::path::Path;

use crate::another_dhcp_server::{asks, dnsmasq};
use crate::page::all_blocks;
use crate::world::{World, in_a_world};

const PAGE: &str = "no-answer.md";
const NODE1: &str = "52:54:00:77:00:0b";
const BIOS: &str = "-V PXEClient:Arch:00000:UNDI:002001 -x 0x5d:0000";

/// The words of the page in backquotes that begin so.
fn said_on_the_page(begin: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs/how-to")
        .join(PAGE);
    let page = std::fs::read_to_string(page).unwrap();
    let mut quoted = page.split('`').skip(1).step_by(2);
    let found = quoted.find(|words| words.starts_with(begin));
    found
        .unwrap_or_else(|| panic!("{PAGE} says nothing that begins with {begin:?}"))
        .to_owned()
}

/// Whether a line has these words, in their order; what stands for `…` may be anything.
fn has(said: &str, words: &str) -> bool {
    said.lines().any(|line| {
        let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut rest = line.as_str();
        words
            .split('…')
            .map(str::trim)
            .all(|part| match rest.split_once(part) {
                Some((_, behind)) => {
                    rest = behind;
                    true
                }
                None => false,
            })
    })
}

fn apply(world: &World, record: &str) {
    world.writes("node1.yaml", &format!("machine: node1\nmac: {NODE1}\n{record}"));
    world.types("farrier machine apply -f node1.yaml");
}

#[test]
fn what_the_page_says_is_what_is_seen() {
    in_a_world(|world| {
        world.network(&[("other", "52:54:00:77:00:02"), ("node1", NODE1)]);
        world.server("");
        let [watch, strangers, mend, look, disk, modules, kernel, serve] = all_blocks(PAGE, "sh");
        // What is followed goes on until somebody ends it.
        let followed = |block: &str| format!("timeout 0.4 {} || true", block.trim());
        let seen = |block: &str, begin: &str| {
            let words = said_on_the_page(begin);
            world.until(&followed(block), |said| has(said, &words))
        };

        assert_eq!(asks(world, "node1", BIOS), None);
        let said = seen(&strangers, "a stranger, firmware asks");
        // The first machine's page shows the line.
        let [shown, ..] = all_blocks::<3>("first-machine.md", "text");
        let (_, line) = shown.trim().split_once(' ').unwrap();
        let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(has(&said, &line), "{line:?} is on the page and not in\n{said}");
        apply(world, "");
        world.types(&mend);
        assert_eq!(asks(world, "node1", BIOS), None);
        seen(&watch, "dhcp failed");
        let local = "address: 10.77.0.11/24\n";
        apply(world, local);
        let next = world.types(&look);
        assert!(
            next.contains(&said_on_the_page("no workflow has written to its disk")),
            "{next}"
        );
        asks(world, "node1", BIOS).expect("an address");
        seen(&watch, "dhcp answered … boots undionly.kpxe");
        asks(world, "node1", "-V PXEClient:Arch:00011:UNDI:003016 -x 0x5d:000b").expect("an address");
        seen(&watch, "dhcp answered … nothing to boot: there is no boot loader");
        apply(world, &format!("{local}netboot: ignore\n"));
        asks(world, "node1", BIOS).expect("an address");
        seen(&watch, "dhcp answered … nothing to boot: is to be left alone");
        apply(world, &format!("{local}netboot: never\n"));
        let next = world.types(&look);
        assert!(
            next.contains(&said_on_the_page("its record says that it never netboots")),
            "{next}"
        );

        let fetches = |path: &str| {
            world.tries(&format!(
                "ip netns exec node1 curl -sSf --max-time 5 http://10.77.0.1:7080{path}"
            ))
        };
        std::fs::remove_file("/var/lib/farrier/boot/vmlinuz").unwrap();
        assert!(!fetches("/boot/vmlinuz").status.success());
        seen(&watch, "http failed … 404");
        world.types("ip -n node1 addr flush dev card; ip -n node1 addr add 10.77.0.57/24 dev card");
        assert!(
            !fetches(&format!("/ipxe/script/{NODE1}/auto.ipxe"))
                .status
                .success()
        );
        seen(&watch, "http refused … 403");
        apply(world, &format!("{local}netboot: agent\n"));
        world.types(&disk);

        // Whose offer is the first, is taken.
        let pool =
            "interface=eth1\ndhcp-authoritative\ndhcp-range=10.77.0.100,10.77.0.199,255.255.255.0,12h\n";
        dnsmasq(world, pool);
        let chosen = said_on_the_page("dhcp ignored … another DHCP server was chosen");
        let (chosen, _) = chosen.rsplit_once(' ').unwrap();
        let was_chosen = (0..30).any(|_| {
            asks(world, "node1", BIOS);
            has(&world.types("farrier machine boot-log node1"), chosen)
        });
        assert!(was_chosen);

        // These want an image or an hour; that they are used rightly is seen by cli/tests/docs.rs.
        assert!(modules.starts_with("farrier image modules "), "{modules}");
        assert!(kernel.starts_with("farrier image build "), "{kernel}");
        assert_eq!(serve.trim(), "farrier serve --interface eth1");
    });
}
